"""``need``: fits the layer of a network that says whether a face needs a change, and writes the network with it (ours)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from pfr_core import PFR, load_model
from pfr_core.errors import InputError
from pfr_core.models.checkpoint import model_file, read_checkpoint, save_model
from pfr_core.models.tensors import check_suffix
from pfr_core.network.layers import GAIN, SLOPE
from pfr_core.network.need import Need, detail_statistics

from ..data.dataset import FaceDataset, to_signed
from ..data.index import list_faces

CLEAN_SHARE, MILD_SHARE = 0.3, 0.5
"""Of the faces it is fitted on; the rest have Eq. 17's degradations, which are far easier to tell."""

CHECKED = 400
"""Faces of the validation split on which it is tried afterwards."""

STEPS, BATCH, RATE, DECAY = 3000, 128, 3e-3, 0.1
JITTER = 0.05
"""Standard deviation of noise on the standardised statistics in fitting, so that it learns no face by heart."""


def need_command(model: Path, data: str, out: Path, faces: int = 4000, seed: int = 0) -> str:
    """Fit on ``faces`` degraded and undegraded training faces, write ``out``; returns how it does on those for validation.

    Args:
        model: file or name of a network with a patch.
        data: training set with a val split.
        out: ends in ``.safetensors``.
        faces: how many to draw.
        seed: of the draw.

    Raises:
        InputError: the network has no such layer, or the data is unusable.
        CheckpointError: the model cannot be read, or ``out`` cannot be written.
    """
    check_suffix(out)
    file = model_file(model)
    net, start = load_model(file), read_checkpoint(file)
    if not isinstance(net, PFR) or net.config.patch == 1:
        raise InputError(f"{model}: only networks with a patch (--patch) have a layer that says whether a face needs a change.")
    if faces < 1:
        raise InputError(f"--faces {faces}: must be at least 1.")
    if seed < 0:
        raise InputError(f"--seed {seed}: must be at least 0.")
    shown, kept = (_faces(data, split, net.size, each) for split, each in (("train", seed), ("val", seed + 1)))
    seen = {face.stored for face in shown.faces} & {face.stored for face in kept.faces}  # a plain folder has no splits
    statistics, degraded = _draw(shown, "train", faces)
    if degraded.all() or not degraded.any():
        raise InputError(f"--faces {faces}: all that were drawn are of one kind, degraded or not. Draw more.")
    fit(net.need, statistics, degraded, seed)
    held, truth = _draw(kept, "val", CHECKED)
    with torch.no_grad():
        said = net.need.judge(held)[:, 0] > 0
    told = {**start.provenance, "need": {"faces": faces, "seed": seed}}
    save_model(net, out, provenance=told, licence=start.licence, dtype=torch.float16)
    right = {name: (said[truth == kind] == kind).float().mean() for kind, name in ((True, "degraded"), (False, "others"))}
    shares = " and ".join(f"{share:.1%} of the {name}" for name, share in right.items())
    which = "that it was fitted on as well, there being no val split" if seen else "that it was not fitted on"
    return f"{out}: says rightly of {shares}, of {len(held)} faces {which}, whether they need a change"


def fit(need: Need, statistics: Tensor, degraded: Tensor, seed: int) -> None:
    """Fit ``need`` to tell which of N faces are degraded.

    Args:
        need: is changed.
        statistics: [N,STATISTICS] of :func:`detail_statistics`.
        degraded: [N] of 0 and 1.
        seed: of weights and batches.
    """
    mean, deviation = statistics.mean(0), statistics.std(0).clamp(min=1e-3)
    standard, random = (statistics - mean) / deviation, torch.Generator().manual_seed(seed)
    # Over the standardised statistics, for their differences tell most; then folded into layers that take them as they are.
    first, last = nn.Linear(statistics.shape[1], len(need.hidden.bias)), nn.Linear(len(need.hidden.bias), 1)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.normal_(0, 1 / math.sqrt(layer.in_features), generator=random)
            layer.bias.zero_()
    optimiser = torch.optim.AdamW([*first.parameters(), *last.parameters()], RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        chosen = torch.randint(len(standard), (BATCH,), generator=random)
        x = standard[chosen] + JITTER * torch.randn(BATCH, standard.shape[1], generator=random)
        logits = last(F.leaky_relu(first(x), SLOPE) * GAIN)[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, degraded[chosen].float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        need.hidden.weight.copy_(first.weight / deviation / need.hidden.scale)
        need.hidden.bias.copy_(first.bias - first.weight @ (mean / deviation))
        need.out.weight.copy_(last.weight / need.out.scale)
        need.out.bias.copy_(last.bias)


def _faces(data: str, split: str, size: int, seed: int) -> FaceDataset:
    """Return photographed faces as a run sees them."""
    return FaceDataset(
        list_faces(data, split, min_native=size * 3 // 4, max_out_of_photo=1.0, lower=""),
        size,
        seed=seed,
        real_share=1.0,
        degrade=True,
        clean_share=CLEAN_SHARE,
        mild_share=MILD_SHARE,
    )


def _draw(faces: FaceDataset, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Return the statistics [N,STATISTICS] of ``count`` of the faces, and which of them are degraded."""
    statistics, degraded = [], []
    for counter in tqdm(range(count), f"{split} faces"):
        sample = faces[counter]
        statistics.append(detail_statistics(to_signed(sample["degraded"][None])))
        degraded.append((sample["degraded"] != sample["truth"]).any()[None])
    return torch.cat(statistics), torch.cat(degraded)
