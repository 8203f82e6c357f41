"""PFR: restores faces in photographs.

One pipeline, used by the command line, the ComfyUI nodes, the demo and by ``import pfr_core``.
"""

from .degradation import Degradation
from .faces.face import Face
from .models.checkpoint import load_model, save_model
from .network import MMRB, PFR, PFRConfig
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
    "FaceRestorer",
    "Notice",
    "PFRConfig",
    "PhotoSession",
    "RestoreOptions",
    "Restored",
    "RestoredFile",
    "__version__",
    "load_model",
    "save_model",
]
