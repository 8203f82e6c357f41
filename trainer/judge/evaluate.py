"""How good models are on held-out faces, at 512 px unless told otherwise, whatever size they were trained at.

Degradation is drawn uniformly from the full ranges of Eq. 17 with fixed seeds. The crop goes through the product's own
path: shrunk to the network's size, restored, and the resized difference added to it. A network trained at a smaller size leaves
most of such a crop as it is; to see what it makes itself, faces can be judged at its own size.

The baseline is OpenCV's non-local means, a classical denoiser: what can be gained without knowing faces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from pfr_core import PFR, Degradation, FaceModel, FaceRestorer, RestoreOptions, load_face_model, load_model
from pfr_core.cli.common import fetch_model
from pfr_core.errors import InputError
from pfr_core.faces.geometry import rescale
from pfr_core.models.checkpoint import model_file, read_checkpoint
from pfr_core.network.config import PRESETS
from pfr_core.photo.write import write_photo
from pfr_core.support.device import resolve_device

from ..data.dataset import FULL_SIZE, RGB8, FaceFile, list_faces, read_face, resize_square
from ..run.config import IdentityName, PerceptualName
from .metrics import Judge, Points, optimised_for, psnr, sharpness, table

SEED, DRAWS = 2023, 3
"""Face number i is degraded with the seeds (SEED, i, 0), (SEED, i, 1), ...: one draw a face would leave the mean severity to
chance, it spreads over 2 dB."""

SMALLEST_SIZE = 64
"""Of faces to judge: SqueezeNet and the detector's body need something to look at (ours)."""

UNSEEN = 60.0
"""PSNR in dB of a quarter of an 8-bit level; what differs less counts as this, for a mean of infinities tells nothing (ours)."""

UNBLURRED = {
    "noise": Degradation(blur=None, scale=None, noise=(15.0, 15.0), quality=None),
    "JPEG": Degradation(blur=None, scale=None, noise=None, quality=(15, 15)),
    "shrunk": Degradation(blur=None, scale=(3.0, 3.0), noise=None, quality=None),
}
"""Faults one by one, each of a strength that anybody sees (ours): Eq. 17 blurs every face, most photographs are not blurred."""

Method = Callable[[RGB8], RGB8]


@dataclass(frozen=True)
class Pair:
    """A degraded held-out face, its truth (both [S,S,3] uint8, S is 512 unless told otherwise) and its landmarks [5,2] in px."""

    degraded: RGB8
    truth: RGB8
    points: Points


def evaluate_command(
    models: Sequence[str],
    data: str,
    *,
    grid: Path | None = None,
    grid_rows: int = 8,
    limit: int = 0,
    size: int = FULL_SIZE,
    fidelities: Sequence[float] = (),
    ablate: bool = False,
    denoiser: bool = True,
    perceptual: PerceptualName = "squeezenet",
    identity: IdentityName = "mobilefacenet",
    device: str = "cpu",
) -> str:
    """Return a Markdown table for ``python -m trainer evaluate``; with ``grid`` also a picture, degraded | models | truth.

    Raises:
        InputError: ``size`` is out of range, there are no held-out faces, ``ablate`` for a network that is no PFR, or
            ``fidelities`` for one that has no such option.
    """
    if not SMALLEST_SIZE <= size <= FULL_SIZE:
        raise InputError(f"--size {size}: faces can be judged at {SMALLEST_SIZE} to {FULL_SIZE} px.")
    place = resolve_device(device)
    pairs = degraded_pairs(list_faces(data, "val")[: limit or None], DRAWS, size)
    for model in models:
        fetch_model(model)  # its licence is told first
    methods: dict[str, Method] = {"degraded input": lambda image: image}
    if denoiser:
        methods["non-local means"] = denoise
    labelled, names = set(), []
    for model in models:
        net, name = load_face_model(model), model if len(models) > 1 else "model"
        ways = {f"{name}, fidelity {value:g}": restore_with(net, place, RestoreOptions(fidelity=value)) for value in fidelities}
        methods |= ways or {name: restore_with(net, place)}
        names += [*ways] or [name]
        if ablate:
            if not isinstance(net, PFR):
                raise InputError(f"--ablate: {model} is {net.kind}, which has none of the paper's parts. Evaluate it without.")
            ablated = ablations(model).items()
            methods |= {what if len(models) == 1 else f"{name}, {what}": restore_with(net, place) for what, net in ablated}
        training: dict[str, Any] = {}
        if isinstance(net, PFR) and model not in PRESETS:
            training = read_checkpoint(model_file(model)).provenance.get("config") or {}
        labelled |= optimised_for(training, perceptual, identity)
    outputs = {name: [method(pair.degraded) for pair in tqdm(pairs, desc=name)] for name, method in methods.items()}
    truths, points = [pair.truth for pair in pairs], [pair.points for pair in pairs]
    judge = Judge(perceptual, identity, place)
    scores = {name: judge(images, truths, points) for name, images in outputs.items()}
    if alone := judge.unpaired(truths, truths):
        scores["truth"] = alone
    if grid is not None:
        rows = [
            np.concatenate([pairs[i].degraded, *(outputs[name][i] for name in names), pairs[i].truth], axis=1)
            for i in range(0, len(pairs), DRAWS)[:grid_rows]
        ]
        write_photo(grid, np.concatenate(rows))
    caption = f"{len(pairs) // DRAWS} faces, {DRAWS} degradations each, {size} px"
    networks = {
        "perceptual": f"perceptual distance: {perceptual}",
        "identity": f"identity: {identity}",
        "kid": "KID: pooled features of RetinaFace's MobileNet body",
    }
    used = "; ".join(text for name, text in networks.items() if name in scores["degraded input"])
    harmed = harm({name: (methods[name], outputs[name]) for name in names}, pairs)
    return f"{table(scores, caption, labelled)}\n\n{used}".rstrip() + f"\n\n{harmed}"


def harm(restored: Mapping[str, tuple[Method, list[RGB8]]], pairs: Sequence[Pair]) -> str:
    """Return a Markdown table of what models do to good faces and to :data:`UNBLURRED`, and which faces they make worse.

    Args:
        restored: for each model its method and what it made of ``pairs``.
        pairs: ``DRAWS`` of each face in a row; a face counts by its mean over them.
    """
    whole = [pair.truth for pair in pairs[::DRAWS]]
    alone = {what: [degrade(face, (SEED, i))[0] for i, face in enumerate(whole)] for what, degrade in UNBLURRED.items()}
    head = [
        f"{len(whole)} faces",
        "undegraded: PSNR ↑",
        "undegraded: sharpness → 1",
        "worse than its input ↓",
        "largest loss (dB) ↓",
        *(f"{what} alone: PSNR gain (dB) ↑" for what in alone),
    ]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, (method, outputs) in restored.items():
        again = [method(face) for face in whole]
        kept = np.mean([min(psnr(a, b), UNSEEN) for a, b in zip(whole, again, strict=True)])
        sharp = np.mean([sharpness(b) / sharpness(a) for a, b in zip(whole, again, strict=True)])
        gain = _gains([pair.truth for pair in pairs], [pair.degraded for pair in pairs], outputs).reshape(-1, DRAWS).mean(axis=1)
        gains = [f"{_gains(whole, faces, [method(face) for face in faces]).mean():+.2f}" for faces in alone.values()]
        cells = [name, f"{kept:.2f}", f"{sharp:.2f}", str((gain < 0).sum()), f"{max(0.0, -gain.min()):.2f}", *gains]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gains(truths: Sequence[RGB8], before: Sequence[RGB8], after: Sequence[RGB8]) -> npt.NDArray[np.float64]:
    """Return by how many dB of PSNR each face came nearer to its truth."""
    return np.array([psnr(t, b) - psnr(t, a) for t, a, b in zip(truths, before, after, strict=True)])


def degraded_pairs(faces: Sequence[FaceFile], draws: int, size: int = FULL_SIZE) -> list[Pair]:
    """Return each of ``faces`` degraded ``draws`` times at 512 px, then shrunk to ``size``."""
    found = []
    for i, face in enumerate(faces):
        truth = read_face(face.stored)
        points = rescale(face.points, size / face.size)
        degraded = [Degradation()(truth, (SEED, i, k))[0] for k in range(draws)]
        found += [Pair(resize_square(image, size), resize_square(truth, size), points) for image in degraded]
    return found


def denoise(image: RGB8) -> RGB8:
    """Return the baseline: non-local means with OpenCV's customary strengths."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(image, None, 10, 10, 7, 21), np.uint8)


def restore_with(net: FaceModel, device: torch.device, options: RestoreOptions | None = None) -> Method:
    """Return the product's own way from an aligned crop to a restored one."""
    restorer = FaceRestorer(net, device=device, dtype="fp32", options=options)
    return lambda image: restorer.restore(image, aligned=True).image


def ablations(model: str) -> dict[str, PFR]:
    """Return the model with a part switched off, to show that the part works.

    Every MMRB is the identity; or no encoder feature is added in the decoder.
    """
    no_mmrb, no_skips = load_model(model), load_model(model)
    for block in no_mmrb.encoder.mmrb.values():
        torch.nn.init.zeros_(block.conv1.weight)  # type: ignore[union-attr, arg-type]  # an MMRB's parameters
        torch.nn.init.zeros_(block.conv1.bias)  # type: ignore[union-attr, arg-type]
    found = {"MMRB zeroed": no_mmrb}
    if no_skips.decoder is not None:
        decoder = no_skips.decoder
        decoder.register_forward_pre_hook(
            lambda _, inputs: ({r: e if r == min(inputs[0]) else torch.zeros_like(e) for r, e in inputs[0].items()},)
        )
        found["decoder's skips zeroed"] = no_skips
    return found
