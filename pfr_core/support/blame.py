"""Whose fault an error is where many photographs are worked on: of one, after which the next is done, or of none of them."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Literal

import torch

from ..errors import ImageError, InputError, NotFiniteError, PFRError
from .memory import is_out_of_memory

Blame = Literal["photo", "memory", "all", "defect"]
"""``photo``: something is wrong with one, as the error's own text says. ``memory``: one is too large for this machine. ``all``:
it would come with every photograph, as where weights cannot be had. ``defect``: nobody has foreseen it; the next may well go."""

OF_ONE = (ImageError, InputError, NotFiniteError)
LOST_DEVICE: tuple[type[Exception], ...] = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
"""What a GPU raises that is of no use any more; older PyTorch has no name for it."""
OF_ALL: tuple[type[Exception], ...] = (PFRError, BrokenPipeError, BrokenExecutor, *LOST_DEVICE)
"""The errors of PFR that are not :data:`OF_ONE`'s, nobody who reads the results, workers or a GPU that are gone."""


def blame(error: Exception) -> Blame:
    """Return whose fault an error is that came while one photograph of many was worked on.

    Example:
        >>> blame(ImageError("a.jpg: the file is empty")), blame(PFRError("no model")), blame(KeyError("a"))
        ('photo', 'all', 'defect')
    """
    if isinstance(error, OF_ONE):
        return "photo"
    if is_out_of_memory(error):
        return "memory"
    return "all" if isinstance(error, OF_ALL) else "defect"
