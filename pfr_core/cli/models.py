"""``pfr weights``, ``pfr import-gpen``, ``pfr export``, ``pfr info``: the files that hold networks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, WeightsError
from ..faces import points, retinaface
from ..models.checkpoint import (
    PARTS,
    discriminator_file,
    model_file,
    read_checkpoint,
    read_part,
    save_discriminator,
    save_model,
)
from ..models.disk import cache_folder, on_disk
from ..models.download import obtain
from ..models.gpen import discriminator_from_gpen, generator_from_gpen, initialise_from_gpen
from ..models.load import read_face_model
from ..models.registry import GPEN_LICENCE, REGISTRY, Weights, dtypes_of, published
from ..models.tensors import read_state_dict, read_tensors
from ..network.discriminator import Discriminator
from ..network.pfr import PFR
from ..options import RestoreOptions, changed
from ..support.arguments import chosen, flag, program
from ..support.device import check_borne
from ..support.files import overwritten, same_file
from .common import fetch, fetch_all


def list_weights(_: argparse.Namespace) -> int:
    """Print the registry."""
    for weights in REGISTRY.values():
        try:
            path = on_disk(weights.name)
            place = str(path) if path else f"not on disk. {_how_to_get(weights)}"
            if weights.embedded:
                place = f"embedded: {path or 'missing from the installation'}"
        except WeightsError as error:
            place = f"unusable: {error}"
        print(f"{weights.name}: {describe_weights(weights)}\n  by: {weights.source}\n  licence: {weights.licence}\n  {place}")
    print(f"cache: {cache_folder()}")
    return 0


def describe_weights(weights: Weights) -> str:
    """Return in a few words what the weights are for, how large they are and what can be chosen."""
    facts = [weights.purpose, *([f"{weights.size} px"] if weights.size else ())]
    if weights.bytes:
        facts.append(f"{weights.bytes / 1e6:.1f} MB")
    return ", ".join([*facts, *map(flag, weights.options)])


def show_path(arguments: argparse.Namespace) -> int:
    """Print where a file is.

    Raises:
        WeightsError: it is not on this machine.
    """
    path = on_disk(arguments.name)
    if path is None:
        raise WeightsError(f"{arguments.name} is not on disk. {_how_to_get(REGISTRY[arguments.name])}.")
    print(path)
    return 0


def _how_to_get(weights: Weights) -> str:
    if weights.urls:
        return f"Get it with: {program('pfr', 'pfr_core')} weights download {weights.name}"
    return f"PFR does not download it: put your own {weights.file} into {cache_folder()}"


def download_weights(arguments: argparse.Namespace) -> int:
    """Download a file with a progress bar."""
    print(fetch(arguments.name))
    return 0


def import_gpen(arguments: argparse.Namespace) -> int:
    """Convert GPEN's files.

    Raises:
        CheckpointError: no GPEN files, or the result would replace one of them.
    """
    beside = discriminator_file(arguments.output)
    for source in (arguments.generator, arguments.discriminator):
        if source is not None and (same_file(source, arguments.output) or same_file(source, beside)):
            raise CheckpointError(overwritten(source))
    state = read_state_dict(arguments.generator)
    provenance = {"imported_from": arguments.generator.name}
    if arguments.discriminator is None:
        with _naming(arguments.generator):
            config, weights = generator_from_gpen(state)
        with torch.device("meta"):
            net = PFR(config)
        net.load_state_dict(weights, assign=True)
        save_model(net, arguments.output, provenance=provenance, licence=GPEN_LICENCE)
    else:
        with _naming(arguments.generator):
            net = initialise_from_gpen(state)
        discriminator = Discriminator(net.config)
        state = read_state_dict(arguments.discriminator)
        with _naming(arguments.discriminator):
            discriminator.load_state_dict(discriminator_from_gpen(state, net.config))
        provenance["discriminator"] = arguments.discriminator.name
        save_model(net, arguments.output, provenance=provenance, licence=GPEN_LICENCE)
        save_discriminator(discriminator, net.config, beside, provenance=provenance, licence=GPEN_LICENCE)
        print(beside)
    print(arguments.output)
    print(f"Note: {GPEN_LICENCE}", file=sys.stderr)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write a model as ONNX.

    Raises:
        InputError: it is a preset, which has no weights, or does not bear the precision; or the result has another suffix.
        CheckpointError: a package is missing, or the network cannot be exported.
    """
    from ..models.export import check_export, export_onnx

    check_export(arguments.output)  # before the model is downloaded
    check_borne(arguments.dtype, dtypes_of(arguments.model))
    fetch_all([arguments.model])
    path = model_file(arguments.model)
    net = read_face_model(path)
    options = changed(RestoreOptions(), chosen(arguments, RestoreOptions), net.options)
    difference = export_onnx(
        net,
        arguments.output,
        dtype=arguments.dtype,
        options={name: getattr(options, name) for name in net.options},
        facts={"model": path.name},
        report=lambda text: print(text, file=sys.stderr),
    )
    print(f"{arguments.output}: differs from torch by at most {difference:.1g} of a pixel's range")
    return 0


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in errors about tensors, which do not know where these came from."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def show_info(arguments: argparse.Namespace) -> int:
    """Print the metadata of a file that PFR wrote, or a model's, as JSON; of other published weights what is known of them.

    Raises:
        InputError: it is a preset, which has no file.
    """
    if (said := _own_words(arguments.file)) is not None:
        print(json.dumps(said, indent=2))
        return 0
    weights = REGISTRY.get(arguments.file)
    if weights is not None and not weights.embedded:
        path = on_disk(weights.name)
        if not weights.size or (weights.urls and path is None):  # no restoration network; to tell of one costs no download
            known = {"file": path and str(path), "size": weights.size, "options": weights.options, "bytes": weights.bytes}
            print(json.dumps(known | {"licence": weights.licence} | _origin(weights), indent=2))
            return 0
    path = model_file(arguments.file)
    net = read_face_model(path)
    tensors = net.state_dict()
    content = {
        "file": str(path),
        "layout": net.kind,
        "size": net.size,
        "options": net.options,
        **(_amounts(tensors) if tensors else {}),  # those of an ONNX file are onnxruntime's
        "licence": net.licence,
    }
    if isinstance(net, PFR):
        checkpoint = read_checkpoint(path)
        content |= {"layout": checkpoint.layout, "config": net.config.to_dict(), "provenance": checkpoint.provenance}
    elif (weights := published(path.name)) is not None:
        content |= _origin(weights)
    print(json.dumps(content, indent=2))
    return 0


def _own_words(name: str) -> dict[str, Any] | None:
    """Return what a file that PFR wrote says of itself if it restores no faces; None of any other file or name.

    Such are parts for training, face detectors and their second look.

    Raises:
        CheckpointError: it is damaged.
        WeightsError: it is damaged, or missing from the installation.
    """
    weights = REGISTRY.get(name)
    if weights is not None and (weights.size or not weights.embedded):
        return None
    path = Path(name) if weights is None else obtain(name)
    if path.suffix.lower() != ".safetensors" or not os.path.isfile(path):  # Path.is_file raises OSError for too long a name
        return None
    tensors, metadata = read_tensors(path)
    if metadata.get("format") in PARTS:
        part = read_part(path, "prior", "discriminator", "training")
        content = {"file": str(path), "layout": part.layout, **_amounts(tensors), "licence": part.licence}
        return content | {"config": part.config.to_dict(), "provenance": part.provenance}
    if "largest_face" in metadata:
        return retinaface.describe(path)
    return points.describe(path) if points.recognises(tensors) else None


def _amounts(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "parameters": sum(value.numel() for value in tensors.values()),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()}),
    }


def _origin(weights: Weights) -> dict[str, Any]:
    return {"source": weights.source, "sha256": weights.sha256, "addresses": weights.urls}
