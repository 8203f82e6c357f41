"""Checkpoints on disk: everything an interrupted run needs to go on. Written atomically, the last few kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pfr_core.errors import CheckpointError, InputError
from pfr_core.models.tensors import load_pickled
from pfr_core.support.files import TEMPORARY, lock, replacing

FOLDER, LOCK = "checkpoints", ".lock"
HALF_WRITTEN = (TEMPORARY, f".{'[0-9a-f]' * 16}.tmp")
"""Patterns of what a killed process left in a run's folder: this version's, and that of earlier ones."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of the folder of a run, which is made if need be, within the block.

    Raises:
        InputError: one is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        if lock(file) is False:  # a disk that knows no locks keeps nobody out
            raise InputError(f"{folder}: another process trains there. Stop it or wait for its end, or choose another --out.")
        yield


def checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of the run in ``folder``, oldest first."""
    return sorted(path for path in (folder / FOLDER).glob("*.pt") if re.fullmatch(r"step-\d+\.pt", path.name))


def save_state(folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write ``state`` (tensors and plain values, with its ``step``); then drop all but the last ``keep`` checkpoints.

    A checkpoint appears under its name only when it is whole and on the disk. Call it :func:`alone`: what another process is
    writing would be taken for left behind.

    Raises:
        CheckpointError: it cannot be written; earlier checkpoints are intact.
    """
    path = folder / FOLDER / f"step-{state['step']:09d}.pt"
    for left in [file for each in (folder, path.parent) for pattern in HALF_WRITTEN for file in each.glob(pattern)]:
        left.unlink()
    try:
        # PyTorch raises RuntimeError where there is no space.
        with replacing(path, CheckpointError, disk_full=RuntimeError) as temporary, temporary.open("wb") as file:
            torch.save(state, file)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Earlier checkpoints are intact: continue with --resume then.") from error
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def state_to_resume(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`load_state` does; None if the run was stopped before its first checkpoint and has to begin again."""
    return load_state(folder) if checkpoints(folder) else None


def load_state(folder: Path) -> dict[str, Any]:
    """Return the newest checkpoint of the run in ``folder``.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder}: has no checkpoint yet. Continue the run with --resume.")
    state = load_pickled(found[-1], "Delete it to resume from the one before.")
    if not isinstance(state, dict):
        raise CheckpointError(f"{found[-1]}: no checkpoint of a run. Delete it to resume from the one before.")
    return state
