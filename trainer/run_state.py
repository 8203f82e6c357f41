"""Checkpoints on disk: everything an interrupted run needs to go on. Written atomically, the last few kept."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from pfr_core.errors import CheckpointError

FOLDER = "checkpoints"


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (run / FOLDER).glob("*.pt") if re.fullmatch(r"step-\d+\.pt", path.name))


def save_state(run: Path, state: dict[str, Any], keep: int) -> Path:
    """Write ``state`` (tensors and plain values, with its ``step``); then drop all but the last ``keep`` checkpoints.

    A checkpoint appears under its name only when it is whole and on the disk.

    Raises:
        CheckpointError: it cannot be written; earlier checkpoints are intact.
    """
    folder = run / FOLDER
    path = folder / f"step-{state['step']:09d}.pt"
    temporary = folder / f"{path.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.part"):  # of a run that was killed while it wrote
            left.unlink()
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: cannot be written ({error}). Earlier checkpoints are intact: make room, then continue with --resume."
        ) from error
    for old in checkpoints(run)[:-keep]:
        old.unlink()
    return path


def load_state(run: Path) -> dict[str, Any]:
    """The newest checkpoint of a run.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = checkpoints(run)
    if not found:
        raise CheckpointError(f"{run}: no checkpoint to resume from. Start the run without --resume.")
    try:
        return torch.load(found[-1], map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{found[-1]}: damaged ({error}). Delete it to resume from the one before.") from error
