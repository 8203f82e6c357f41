"""Model files: safetensors with the whole configuration in the metadata, and GPEN's files, which users already have.

A file alone is enough to build its network.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..network.blended import BlendedPFR
from ..network.config import PRESETS, PFRConfig
from ..network.discriminator import Discriminator
from ..network.pfr import PFR
from ..network.prior import StyleGAN2Prior
from ..support.choices import HALFWAY
from . import gpen
from .disk import verify
from .download import obtain
from .registry import GPEN_LICENCE, check_package, obtainable, published, restorers
from .tensors import assigned, read_tensors, write_described

log = logging.getLogger(__name__)

DEFAULT = "default"
"""The name of the model that comes with the package."""

FORMAT = "pfr"
DISCRIMINATOR_FORMAT = "pfr-discriminator"
PRIOR_FORMAT = "pfr-prior"
TRAINING_FORMAT = "pfr-training"
DISCRIMINATORS = "discriminators"
"""What the names of the discriminators' tensors begin with in a file of that layout."""

PARTS = {
    DISCRIMINATOR_FORMAT: "a discriminator, for the trainer's --discriminator",
    PRIOR_FORMAT: "a prior without an encoder, for the trainer's --init-from",
    TRAINING_FORMAT: "a run to be gone on from, for the trainer's --init-from",
}
FORMAT_VERSION = 1
TO_BE_HAD = f"Models to be had by their names: {', '.join(obtainable())}."


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds, besides the network.

    Attributes:
        config: the network's configuration.
        state: parameters by name, as stored.
        provenance: how the weights came to be (data, recipe, iterations), free-form.
        licence: the licence of the weights, apart from the code's.
        layout: of the file: ``"pfr"``, ``"gpen"``, or that of a part for training, ``"pfr-prior"`` and the like.
    """

    config: PFRConfig
    state: dict[str, Tensor] = field(repr=False)
    provenance: dict[str, Any]
    licence: str
    layout: str


def save_model(
    net: PFR,
    path: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any],
    licence: str,
    dtype: torch.dtype | None = None,
) -> None:
    """Write ``net`` to a safetensors file from which :func:`load_model` builds it again. Atomic: never half a file.

    Args:
        net: the network.
        path: target, ends in ``.safetensors``.
        provenance: training data, recipe and the like; anything JSON can hold.
        licence: licence of the weights.
        dtype: stored precision; None keeps the parameters' own.

    Raises:
        CheckpointError: the suffix is another, or the file cannot be written.
    """
    _write(net, net.config, Path(path), FORMAT, provenance, licence, dtype)


def save_discriminator(
    net: Discriminator, config: PFRConfig, path: str | os.PathLike[str], *, provenance: Mapping[str, Any], licence: str
) -> None:
    """Write a global discriminator, for training to start from; ``config`` is its generator's.

    Raises:
        CheckpointError: as :func:`save_model`.
    """
    _write(net, config, Path(path), DISCRIMINATOR_FORMAT, provenance, licence, None)


def save_prior(
    net: StyleGAN2Prior,
    config: PFRConfig,
    path: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any],
    licence: str,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a prior without a codec, for training to start from; its tensors are named as in a whole PFR, ``prior.*``.

    Raises:
        CheckpointError: as :func:`save_model`.
    """
    _write(torch.nn.ModuleDict({"prior": net}), config, Path(path), PRIOR_FORMAT, provenance, licence, dtype)


def save_training(
    net: PFR,
    discriminators: Mapping[str, torch.nn.Module],
    path: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any],
    licence: str,
) -> None:
    """Write what a run of training is gone on from on another machine, in float16: the average and all discriminators, one file.

    Raises:
        CheckpointError: as :func:`save_model`.
    """
    parts = {**dict(net.named_children()), DISCRIMINATORS: torch.nn.ModuleDict(dict(discriminators))}
    _write(torch.nn.ModuleDict(parts), net.config, Path(path), TRAINING_FORMAT, provenance, licence, torch.float16)


def read_part(path: str | os.PathLike[str], *parts: Literal["prior", "discriminator", "training"]) -> Checkpoint:
    """Return the content of a file that :func:`save_prior`, :func:`save_discriminator` or :func:`save_training` wrote.

    Raises:
        CheckpointError: missing, damaged, or not a file of one of these kinds.
    """
    path = Path(path)
    state, metadata = read_tensors(path)
    formats = {"prior": PRIOR_FORMAT, "discriminator": DISCRIMINATOR_FORMAT, "training": TRAINING_FORMAT}
    if metadata.get("format") not in [formats[part] for part in parts]:
        what = f"{metadata.get('format', 'another file')}. Pass the right file"
        if gpen.is_gpen_discriminator(state):
            what = gpen.DISCRIMINATOR
        raise CheckpointError(f"{path}: no {' or '.join(parts)} of PFR, but {what}.")
    return _described(path, state, metadata)


def read_start(path: str | os.PathLike[str]) -> Checkpoint:
    """Return what training can start from: the content of a prior's, a run's or a model's file.

    Raises:
        CheckpointError: missing, damaged, or none of these.
    """
    path = Path(path)
    state, metadata = read_tensors(path)
    if metadata.get("format") in (PRIOR_FORMAT, TRAINING_FORMAT):
        return _described(path, state, metadata)
    return parse_checkpoint(path, state, metadata)


def refuse_preset(name: str | os.PathLike[str]) -> None:
    """Refuse the name of a preset where a model is to restore faces.

    Raises:
        InputError: it is one.
    """
    if str(name) in PRESETS:
        raise InputError(f"{name} is a preset, a network without weights; name a model.")


def model_file(name: str | os.PathLike[str]) -> Path:
    """Return the file that ``name`` means: of a model in the registry, downloaded if it is not on this machine, or a path.

    Raises:
        InputError: a preset, which has no file.
        CheckpointError: no such file, or weights of something else than a restoration network.
        WeightsError: the model is not to be had, or the file has the name of a published one but is another.

    Example:
        >>> model_file("default").name
        'pfr-default.safetensors'
    """
    refuse_preset(name)
    models = [weights.name for weights in restorers()]
    if str(name) in models:
        check_package(name)
        return obtain(str(name))
    path = Path(name)
    if not os.path.isfile(path):  # Path.is_file raises OSError for a name that is too long
        near = difflib.get_close_matches(str(name), [*models, *PRESETS], n=1)
        names = f"Did you mean {near[0]}?" if near else f"Known names: {', '.join(models)}."
        folder = "a folder; " if str(name) and os.path.isdir(path) else ""
        raise CheckpointError(f"{name}: {folder}no such model file, and no known name either. {names}")
    weights = published(path.name)
    if weights is not None:
        if not weights.size:
            raise CheckpointError(f"{path}: the weights {weights.name} ({weights.purpose}), no restoration network. {TO_BE_HAD}")
        verify(path, weights)
    return path


def discriminator_file(model: Path) -> Path:
    """Return where the discriminator that was trained with ``model`` lies: beside it.

    Example:
        >>> discriminator_file(Path("run/model.safetensors")).as_posix()
        'run/model.discriminator.safetensors'
    """
    return model.with_name(f"{model.stem}.discriminator.safetensors")


def load_model(
    source: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PFR:
    """Return a PFR network in eval mode, ready for ``forward(x: [B,3,S,S] in [-1,1])``.

    Args:
        source: a file (our safetensors; GPEN's ``.pth`` or safetensors), ``"default"`` for the model that comes with
            the package, or the name of a preset (random weights, with a warning). For other kinds of networks see
            :func:`~pfr_core.models.load.load_face_model`.
        device: where to put it.
        dtype: precision of the parameters.

    Raises:
        CheckpointError: unknown name, missing or damaged file, another network's file, or a pickle that holds code.
        WeightsError: the model is not to be had, or the file has the name of a published one but is another.

    Example:
        >>> net = load_model("default")
        >>> net.training
        False
    """
    if str(source) in PRESETS:
        log.warning("%s is a preset: the network has random weights and restores nothing before it is trained.", source)
        return PFR(PRESETS[str(source)]).to(device, dtype).eval()
    path = model_file(source)
    return build(path, read_checkpoint(path)).to(device, dtype).eval()


def build(path: Path, checkpoint: Checkpoint) -> PFR:
    """Return the network of what was read from ``path``, in the precision that is stored.

    Raises:
        CheckpointError: tensors and configuration do not fit.
    """
    blended = any(name.startswith("texture.") for name in checkpoint.state)
    kind = BlendedPFR if blended else PFR
    before = {"middle": torch.tensor(HALFWAY)} if blended else {}  # older files have no middle
    try:
        net = assigned(lambda: kind(checkpoint.config), before | checkpoint.state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: the tensors do not fit the configuration in the file. Download or export it again. {error}"
        ) from error
    net.licence = checkpoint.licence
    return net


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a model file of either layout without building the network.

    Raises:
        CheckpointError: as :func:`load_model`.
    """
    path = Path(path)
    return parse_checkpoint(path, *read_tensors(path))


def parse_checkpoint(path: Path, state: dict[str, Tensor], metadata: Mapping[str, str]) -> Checkpoint:
    """Return what :func:`read_checkpoint` does of the tensors and the metadata of the file at ``path``.

    Raises:
        CheckpointError: as :func:`load_model`.
    """
    if gpen.is_gpen_generator(state):
        try:
            config, state = gpen.generator_from_gpen(state)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        return Checkpoint(config, state, {"imported_from": path.name}, GPEN_LICENCE, "gpen")
    if metadata.get("format") != FORMAT:
        hint = PARTS.get(metadata.get("format", ""), "unknown; load_face_model takes other kinds, too")
        if gpen.is_gpen_discriminator(state):
            hint = gpen.DISCRIMINATOR
        raise CheckpointError(f"{path}: not a PFR or GPEN generator ({hint}).")
    return _described(path, state, metadata)


def _described(path: Path, state: dict[str, Tensor], metadata: Mapping[str, str]) -> Checkpoint:
    """Return tensors and what the metadata of a file in one of our layouts says of them."""
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(f"{path}: format version {version or 'missing'}, this PFR reads {FORMAT_VERSION}. Update pfr.")
    try:
        config, provenance = PFRConfig(**json.loads(metadata["config"])), dict(json.loads(metadata["provenance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the metadata is damaged ({error}). Download or export the file again.") from error
    return Checkpoint(config, state, provenance, metadata.get("licence", "not stated"), metadata["format"])


def _write(
    net: torch.nn.Module,
    config: PFRConfig,
    target: Path,
    layout: str,
    provenance: Mapping[str, Any],
    licence: str,
    dtype: torch.dtype | None,
) -> None:
    write_described(
        target,
        net.state_dict(),
        dtype=dtype,
        licence=licence,
        provenance=provenance,
        format=layout,
        format_version=str(FORMAT_VERSION),
        config=json.dumps(config.to_dict()),
    )
