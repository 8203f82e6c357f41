"""PFR: restores faces in photographs.

One pipeline, used by the command line, the ComfyUI nodes, the demo and by ``import pfr_core``. What it exports is imported
when it is first asked for (PEP 562): ``pfr --help`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .degradation import Degradation
    from .faces.face import Face
    from .models.checkpoint import load_model, save_model
    from .models.load import load_face_model
    from .network.config import PFRConfig
    from .network.face_model import FaceModel
    from .network.mmrb import MMRB
    from .network.pfr import PFR
    from .options import RestoreOptions
    from .restorer import FaceRestorer
    from .session import PhotoSession, Restored, RestoredFile
    from .support.notice import Notice

__version__ = "0.1.0"

__all__ = [
    "MMRB",
    "PFR",
    "Degradation",
    "Face",
    "FaceModel",
    "FaceRestorer",
    "Notice",
    "PFRConfig",
    "PhotoSession",
    "RestoreOptions",
    "Restored",
    "RestoredFile",
    "__version__",
    "load_face_model",
    "load_model",
    "save_model",
]

_HOMES = {
    "MMRB": "network.mmrb",
    "PFR": "network.pfr",
    "Degradation": "degradation",
    "Face": "faces.face",
    "FaceModel": "network.face_model",
    "FaceRestorer": "restorer",
    "Notice": "support.notice",
    "PFRConfig": "network.config",
    "PhotoSession": "session",
    "RestoreOptions": "options",
    "Restored": "session",
    "RestoredFile": "session",
    "load_face_model": "models.load",
    "load_model": "models.checkpoint",
    "save_model": "models.checkpoint",
}


def __getattr__(name: str) -> object:
    """Import an exported name from its module, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the exported names too, imported or not."""
    return sorted({*globals(), *__all__})
