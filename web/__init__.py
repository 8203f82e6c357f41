"""The web page: restores photos, batches and clips in the browser. ``python -m web`` from the clone, ``pfr-demo`` installed.

Everything that happens to a picture is ``pfr_core``'s; here are only the page, its sessions and its limits. The package is
called ``web`` in the clone and ``pfr_demo`` where it is installed, so its modules import each other relatively.
"""
