"""Builds the API reference from the docstrings with pdoc: a page for each module, and a search.

python docs/tools/reference.py FOLDER
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pdoc

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pfr_core", "trainer", "web")


def modules() -> list[str]:
    """Return what to name to pdoc: it goes into a package by itself, unless that says with ``__all__`` what it exports."""
    names = list(PACKAGES)
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            parent = sys.modules[module.name.rpartition(".")[0]]
            if hasattr(parent, "__all__") and not module.name.endswith("__main__"):
                names.append(module.name)
    return names


def main() -> None:
    """Write the pages into the folder that the command line names."""
    sys.path.insert(0, str(ROOT))
    pdoc.render.configure(docformat="google", footer_text="PFR")
    pdoc.pdoc(*modules(), output_directory=Path(sys.argv[1]))


if __name__ == "__main__":
    main()
