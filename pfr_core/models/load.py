"""From a name or a file to a network that restores faces, of whatever kind; a file is recognised by its content."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError
from ..network.config import PRESETS
from ..network.face_model import FaceModel
from ..support.memory import is_out_of_memory
from . import gpen
from .checkpoint import FORMAT, PARTS, TO_BE_HAD, build, load_model, model_file, parse_checkpoint
from .kinds import described, recognise
from .kinds.onnx import OnnxModel
from .registry import published
from .tensors import SUFFIXES, read_tensors

ONNX = ".onnx"
MODEL_SUFFIXES = (*SUFFIXES, ONNX)
"""Endings of files that :func:`load_face_model` reads."""


def load_face_model(source: str | os.PathLike[str]) -> FaceModel:
    """Return a network in eval mode, on the CPU, in the precision that is stored.

    Args:
        source: the name of a model in the registry (downloaded if it is not on this machine), a file of any kind that PFR
            reads, or a preset's name.

    Raises:
        CheckpointError: unknown name, missing or damaged file, a network that restores no faces, a package that is missing,
            or a pickle that holds code.
        WeightsError: the model is not to be had, or the file has the name of a published one but is another.

    Example:
        >>> load_face_model("default").size
        512
    """
    if str(source) in PRESETS:
        return load_model(source)
    return read_face_model(model_file(source))


def read_face_model(path: Path) -> FaceModel:
    """Return the network of the file at ``path``.

    Raises:
        CheckpointError: as :func:`load_face_model`.
    """
    if path.suffix.lower() not in MODEL_SUFFIXES:
        raise CheckpointError(f"{path}: no model file; those end in {', '.join(MODEL_SUFFIXES)}.")
    if path.suffix.lower() == ONNX:
        return OnnxModel(path).eval()
    state, metadata = read_tensors(path)
    if metadata.get("format") in (FORMAT, *PARTS) or gpen.is_gpen_generator(state):
        return build(path, parse_checkpoint(path, state, metadata))
    kind = recognise(state)
    if kind is None:
        what = described(state)
        reason = f"it is {what}" if what else "its tensors are of no kind that is known here"
        raise CheckpointError(f"{path}: no face restoration network: {reason}. {TO_BE_HAD}")
    try:
        net = kind(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except ImportError as error:
        remedy = "python -m pip install --upgrade spandrel"
        raise CheckpointError(f"{path}: its network's code cannot be imported ({error}): {remedy}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Odd shapes make the networks' constructors raise ValueError, IndexError, AssertionError and more.
        raise CheckpointError(f"{path}: no network can be built of its tensors ({error!r}). Download the file again.") from error
    if published(path.name) is None:
        net.licence = f"not stated in the file; of the published {net.kind}: {net.licence}"
    return net.eval()
