"""PFR: restores faces in photographs.

One pipeline, used by the command line, the ComfyUI nodes, the demo and by ``import pfr_core``.
"""

from .checkpoint import load_model, save_model
from .degradation import Degradation
from .network import MMRB, PFR, PFRConfig

__version__ = "0.1.0"

__all__ = ["MMRB", "PFR", "Degradation", "PFRConfig", "__version__", "load_model", "save_model"]
