"""How good a model is: PSNR and SSIM on held-out faces at 512 px, whatever size it was trained at.

Degradation is drawn uniformly from the full ranges of Eq. 17 with fixed seeds. The crop goes through the product's own
path: shrunk to the network's size, restored, and the resized difference added to it.

The baseline is OpenCV's non-local means, a classical denoiser: what can be gained without knowing faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from pfr_core import PFR, Degradation, FaceRestorer, load_model
from pfr_core.image_io import write_photo

from .data import FULL_SIZE, RGB8, list_faces, read_face

SEED, DRAWS = 2023, 3
"""Face number i is degraded with the seeds (SEED, i, 0), (SEED, i, 1), ...: one draw a face would leave the mean severity to
chance, it spreads over 2 dB."""

GRID_ROWS = 8


@dataclass(frozen=True)
class Score:
    """Means over the pairs: PSNR in dB and SSIM, both on 8-bit RGB at 512 px by scikit-image."""

    name: str
    psnr: float
    ssim: float


def evaluate_command(model: str, data: str, grid: Path | None, limit: int, ablate: bool) -> str:
    """A Markdown table for ``python -m trainer evaluate``; with ``grid`` also a picture."""
    net = load_model(model)
    pairs = degraded_pairs(data, limit)
    methods: dict[str, Callable[[RGB8], RGB8]] = {
        "degraded input": lambda image: image,
        "non-local means": denoise,
        "model": restore_with(net),
    }
    if ablate:
        methods |= {name: restore_with(network) for name, network in ablations(model).items()}
    outputs = {name: [method(degraded) for degraded, _ in tqdm(pairs, desc=name)] for name, method in methods.items()}
    scores = [score(name, images, [truth for _, truth in pairs]) for name, images in outputs.items()]
    if grid is not None:
        rows = [
            np.concatenate([degraded, restored, truth], axis=1)
            for (degraded, truth), restored in zip(pairs[::DRAWS][:GRID_ROWS], outputs["model"][::DRAWS][:GRID_ROWS], strict=True)
        ]
        write_photo(grid, np.concatenate(rows))
    lines = [
        f"| {len(pairs) // DRAWS} faces, {DRAWS} degradations each, {FULL_SIZE} px | PSNR (dB) | SSIM |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {item.name} | {item.psnr:.2f} | {item.ssim:.4f} |" for item in scores)])


def degraded_pairs(data: str | Path, limit: int = 0) -> list[tuple[RGB8, RGB8]]:
    """(degraded, truth), [512,512,3] uint8 each, DRAWS of each validation face; of the first ``limit`` faces, 0 for all."""
    faces = list_faces(data, "val")[: limit or None]
    truths = [read_face(face.path) for face in faces]
    return [(Degradation()(truth, (SEED, i, k))[0], truth) for i, truth in enumerate(truths) for k in range(DRAWS)]


def score(name: str, images: list[RGB8], truths: list[RGB8]) -> Score:
    """Compare images with their truths."""
    psnr = [peak_signal_noise_ratio(t, i, data_range=255) for i, t in zip(images, truths, strict=True)]
    ssim = [structural_similarity(t, i, channel_axis=2, data_range=255) for i, t in zip(images, truths, strict=True)]
    return Score(name, float(np.mean(psnr)), float(np.mean(ssim)))


def denoise(image: RGB8) -> RGB8:
    """The baseline: non-local means with OpenCV's customary strengths."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(image, None, 10, 10, 7, 21), np.uint8)


def restore_with(net: PFR) -> Callable[[RGB8], RGB8]:
    """The product's own way from an aligned crop to a restored one."""
    restorer = FaceRestorer(net, device="cpu", dtype="fp32")
    return lambda image: restorer.restore(image, aligned=True).image


def ablations(model: str) -> dict[str, PFR]:
    """The model with a part switched off, to show that the part works: every MMRB the identity; no encoder feature added in
    the decoder."""
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
