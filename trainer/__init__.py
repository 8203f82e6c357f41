"""Training of PFR: ``python -m trainer`` from the clone, ``pfr-train`` when installed.

Sections 3.3, 3.4, 4.1 and 4.2 of the paper. Photographs become a training set (:mod:`~trainer.data.prepare`), on which a
StyleGAN2 prior is trained and then the restoration around it (:mod:`~trainer.stages`), by one loop
(:mod:`~trainer.run.loop`); the result is judged (:mod:`~trainer.judge.evaluate`) and exported. Nothing here is imported by
``pfr_core`` or by the ComfyUI nodes.
"""

import os

from pfr_core.support.arguments import program as _program


def program() -> str:
    """Return what the user typed to start the trainer, for usage and advice."""
    return _program("pfr-train", __name__)


def is_first() -> bool:
    """Return whether this is the first of the processes that torchrun starts; alone it is."""
    return os.environ.get("RANK", "0") == "0"
