"""Entry point for ComfyUI, which imports this folder under its absolute path as the module name.

Under any other name (a test runner looking for packages, say) nothing happens: the installable package is ``pfr_core``.
"""

import os
import sys
from importlib.util import find_spec

if os.path.isabs(__name__):
    if missing := [name for name in ("cv2", "einops", "safetensors") if find_spec(name) is None]:
        install = os.path.join(os.path.dirname(__file__), "install.py")
        raise ImportError(f'PFR needs {", ".join(missing)}. Run this and start ComfyUI again: "{sys.executable}" "{install}"')

    from .nodes import NODE_CLASS_MAPPINGS as NODE_CLASS_MAPPINGS
    from .nodes import NODE_DISPLAY_NAME_MAPPINGS as NODE_DISPLAY_NAME_MAPPINGS
    from .nodes.runtime import register_folders, web_directory

    register_folders()
    WEB_DIRECTORY = web_directory(os.path.dirname(__file__))
