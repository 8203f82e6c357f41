"""How near PFR comes to its own convolutions alone, and what one shared weight and Winograd's minimal filtering gain.

    python benchmarks/network.py [--network pfr-512] [--dtype fp32] [--rounds 5] [--batch 1]

Random weights; processor time. All in one process, in turn within each round; the ratio of the medians counts. The networks run
as the pipeline runs them. The convolutions alone are those of a forward pass as torch computes them, with the same shapes, on
inputs that are there already. Weights for each sample with a grouped convolution are how StyleGAN2's and GPEN's networks are
published; GPEN is PFR without MMRBs and decoder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pfr_core.network.config import PRESETS  # noqa: E402
from pfr_core.network.layers import blur  # noqa: E402
from pfr_core.network.pfr import PFR  # noqa: E402
from pfr_core.network.prior import ModulatedConv  # noqa: E402
from pfr_core.network.winograd import Winograd  # noqa: E402
from pfr_core.support.device import DTYPES, keep_memory, memory_format, resolve_device  # noqa: E402


def recorded(net: PFR, x: Tensor) -> list[Callable[[], Tensor]]:
    """Return the convolutions of a forward pass, to be done again."""
    calls: list[Callable[[], Tensor]] = []

    def recording(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def record(*args: Any, **kwargs: Any) -> Tensor:
            calls.append(lambda: function(*args, **kwargs))
            return function(*args, **kwargs)

        return record

    with (
        patch.object(F, "conv2d", recording(F.conv2d)),
        patch.object(F, "conv_transpose2d", recording(F.conv_transpose2d)),
    ):
        net(x)
    return calls


def weight_for_each_sample(self: ModulatedConv, x: Tensor, w: Tensor, *, gain: float = 1.0, bias: Tensor | None = None) -> Tensor:
    """Do what a modulated convolution does, the customary way."""
    batch, channels, height, width = x.shape
    style = self.modulation(w)
    weight = self.weight * self.scale * style[:, None, :, None, None]  # [B,out,in,k,k]
    if self.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8) * gain
    x, weight = x.reshape(1, batch * channels, height, width), weight.to(x.dtype)
    if self.up:
        weight = weight.transpose(1, 2).reshape(batch * channels, -1, *weight.shape[3:])
        x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
        x = blur(x.view(batch, -1, *x.shape[2:]), 1, gain=4.0)
    else:
        x = F.conv2d(x, weight.flatten(0, 1), padding=self.padding, groups=batch)
        x = x.view(batch, -1, *x.shape[2:])
    return x if bias is None else x + bias[None, :, None, None]


@torch.inference_mode()
def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(PRESETS), default="pfr-512")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    keep_memory()  # as the commands do
    layout = memory_format(resolve_device("cpu"))
    config = PRESETS[arguments.network]
    dtype = DTYPES[arguments.dtype]
    net = PFR(config).eval().to(dtype).to(memory_format=layout)
    gpen = PFR(replace(config, mmrb=False, decoder=False)).eval().to(dtype).to(memory_format=layout)
    x = torch.rand(arguments.batch, 3, config.size, config.size).to(memory_format=layout) * 2 - 1
    convolutions = recorded(net, x)

    def run(network: PFR) -> Tensor:
        with Winograd():
            return network(x)

    def grouped() -> Tensor:
        with patch.object(ModulatedConv, "forward", weight_for_each_sample):
            return gpen(x)

    difference = (grouped() - run(gpen)).abs().max() / gpen(x).std()
    works: dict[str, Callable[[], object]] = {
        f"{arguments.network}": lambda: run(net),
        "the same with torch's convolutions": lambda: net(x),
        "its convolutions alone": lambda: [convolution() for convolution in convolutions],
        "GPEN of the same size": lambda: run(gpen),
        "the same, a weight for each sample": grouped,
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(arguments.rounds):
        for name, work in works.items():
            started = time.process_time()
            work()
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, median in medians.items():
        print(f"{median:8.2f} s  {name}")
    whole, without, alone, ours, customary = medians.values()
    print(f"with torch's convolutions / with minimal filtering: {without / whole:.2f}")
    print(f"network / its {len(convolutions)} convolutions: {whole / alone:.2f}")
    print(f"a weight for each sample and torch's convolutions / GPEN here: {customary / ours:.2f}")
    print(f"(they differ by {difference:.0e} of their spread)")


if __name__ == "__main__":
    main()
