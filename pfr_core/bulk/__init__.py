"""Archives: any number of photographs on any number of machines, on Ray Data (the extra ``bulk``).

What becomes of each photograph is that of ``pfr restore``; here is how photographs come to the networks and results to their
places (``stages``), where those are (``places``), which are to be done (``plan``), and what was done (``manifest``, ``report``).
"""

from importlib.util import find_spec

from ..errors import InputError

MANIFEST = "pfr-manifest"
"""Folder in the output where is written what was done."""


def check_packages() -> None:
    """Look whether the packages of the extra are there.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in ("ray", "pyarrow", "fsspec", "pandas") if find_spec(name) is None]
    if missing:
        raise InputError(
            f'pfr bulk needs {", ".join(missing)}, which is missing here; python -m pip install "ray[data]" fsspec pyarrow.'
        )
