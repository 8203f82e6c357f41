"""Entry point for ComfyUI, which imports this folder under its absolute path as the module name.

Under any other name (a test runner looking for packages, say) nothing happens: the installable package is ``pfr_core``.
"""

import os

if os.path.isabs(__name__):
    from .nodes import NODE_CLASS_MAPPINGS as NODE_CLASS_MAPPINGS
    from .nodes import NODE_DISPLAY_NAME_MAPPINGS as NODE_DISPLAY_NAME_MAPPINGS
    from .nodes.runtime import register_folders, web_directory

    register_folders()
    WEB_DIRECTORY = web_directory(os.path.dirname(__file__))
