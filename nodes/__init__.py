"""ComfyUI's side of PFR: every node is a few lines around ``pfr_core``.

A file for each family: ``model``, ``detect``, ``crops``, ``restore``, ``clip``, ``compare``, ``degrade``. ``inputs`` turns
``RestoreOptions`` into widgets, ``images`` converts pictures, ``runtime`` talks to ComfyUI. The face picker and the
before | after preview are in ``web/js``, texts in other languages in ``locales``.
"""

from .clip import PFRRestoreClip, PFRRestoreVideo
from .compare import PFRCompareModels
from .crops import PFRCropFaces, PFRPasteFaces, PFRRestoreCrops
from .degrade import PFRDegrade
from .detect import PFRDetectFaces
from .model import PFRLoadModel
from .restore import PFRRestoreFaces

_TITLES: dict[type, str] = {
    PFRLoadModel: "Load Face Restoration Model (PFR)",
    PFRRestoreFaces: "Restore Faces (PFR)",
    PFRRestoreClip: "Restore Faces in Frames (PFR)",
    PFRRestoreVideo: "Restore Faces in a Video (PFR)",
    PFRDetectFaces: "Detect Faces (PFR)",
    PFRCropFaces: "Crop Faces (PFR)",
    PFRRestoreCrops: "Restore Face Crops (PFR)",
    PFRPasteFaces: "Paste Faces Back (PFR)",
    PFRCompareModels: "Compare Face Restoration Models (PFR)",
    PFRDegrade: "Degrade Photo (PFR)",
}

NODE_CLASS_MAPPINGS: dict[str, type] = {node.__name__: node for node in _TITLES}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {node.__name__: title for node, title in _TITLES.items()}
