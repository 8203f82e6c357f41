"""The state of a run on disk: everything an interrupted run needs to go on. Written atomically."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from pfr_core.errors import CheckpointError

NAME = "state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain values) to ``folder``; the previous state stays until the new one is whole.

    Raises:
        CheckpointError: it cannot be written; the previous state is intact.
    """
    temporary = folder / f".{NAME}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / NAME)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{folder / NAME}: cannot be written ({error}). The previous checkpoint is intact.") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise CheckpointError(f"{folder}: no checkpoint to resume from. Start the run without --resume.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: damaged ({error}).") from error
