"""The networks of the paper: sections 3.1 (codec, prior), 3.2 (MMRB) and the discriminators of 3.4."""

from .config import PRESETS, PFRConfig, Preset
from .discriminator import Discriminator, LocalDiscriminator
from .mmrb import MMRB
from .pfr import PFR

__all__ = ["MMRB", "PFR", "PRESETS", "Discriminator", "LocalDiscriminator", "PFRConfig", "Preset"]
