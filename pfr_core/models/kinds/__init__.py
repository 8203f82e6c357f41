"""Kinds of restoration networks that others published, a file each; what a file holds is told by its tensors.

A new kind is one more file with a subclass of :class:`~pfr_core.network.face_model.FaceModel` that is a :class:`Kind`, named in
:data:`_KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

from torch import Tensor

from ...network.face_model import FaceModel
from .. import gpen

_KINDS = ("gfpgan.GFPGAN", "codeformer.CodeFormer", "restoreformer.RestoreFormer")


class Kind(Protocol):
    """A class of networks, made from the tensors of a file."""

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors are those of this kind."""

    def __call__(self, state: Mapping[str, Tensor]) -> FaceModel:
        """Return the network with these tensors, as they are stored.

        Raises:
            CheckpointError: its package is missing, or the tensors are not complete.
        """


def recognise(state: Mapping[str, Tensor]) -> Kind | None:
    """Return the kind of network that the tensors belong to."""
    for name in _KINDS:
        module, attribute = name.split(".")
        kind: Kind = getattr(import_module(f".{module}", __name__), attribute)
        if kind.recognises(state):
            return kind
    return None


def described(state: Mapping[str, Tensor]) -> str:
    """Return what tensors that restore no faces are, as far as it can be told; empty if it cannot."""
    if any(name.endswith("ClassHead.0.conv1x1.weight") for name in state):
        return "a face detector (RetinaFace)"
    if "out_mask_conv.conv2d.weight" in state:
        return "a face parser (ParseNet), for masks"
    if gpen.is_gpen_discriminator(state):
        return "a GPEN discriminator, which is for training"
    try:
        from spandrel import MAIN_REGISTRY
    except ImportError:  # it is what names them
        return ""
    found = next((each.architecture.id for each in MAIN_REGISTRY.architectures("detection") if each.detect(dict(state))), None)
    return f"{found}, which enlarges or cleans whole pictures" if found else ""
