"""Entry point for ComfyUI, which imports this folder under its absolute path as the module name.

Under any other name (a test runner looking for packages, say) nothing happens: the installable package is ``pfr_core``.
"""

import os

if os.path.isabs(__name__):
    # This version has no nodes yet; ComfyUI wants the two names even so, or it reports a broken pack.
    NODE_CLASS_MAPPINGS: dict[str, type] = {}
    NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
