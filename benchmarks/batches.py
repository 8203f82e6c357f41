"""What networks take for a face alone and for several at once, on any device: latency, throughput, memory, share of its rate.

    python benchmarks/batches.py [--device cuda] [--dtypes fp32 bf16] [--batches 1 8] [--rounds 20]

Random weights of the published layouts, but for the default model; everything on the device already. The networks run as the
pipeline runs them, in turn; the median of the rounds counts. Shares are of the rate of a product of matrices, measured here.
GFPGAN and CodeFormer are spandrel's, as the pipeline loads them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from spandrel.architectures.GFPGAN import GFPGAN as GFPGANNetwork
from spandrel_extra_arches.architectures.CodeFormer import CodeFormer as CodeFormerNetwork
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pfr_core import FaceModel, load_face_model  # noqa: E402
from pfr_core.bench import measure  # noqa: E402
from pfr_core.models.kinds.codeformer import CodeFormer  # noqa: E402
from pfr_core.models.kinds.gfpgan import GFPGAN  # noqa: E402
from pfr_core.network.winograd import fast_convolutions  # noqa: E402
from pfr_core.support.device import DTYPES, keep_memory, memory_format, resolve_device  # noqa: E402

NETWORKS: dict[str, Callable[[], FaceModel]] = {
    "default": lambda: load_face_model("default"),
    "pfr-512": lambda: load_face_model("pfr-512"),
    "GFPGAN": lambda: GFPGAN(GFPGANNetwork().state_dict()),
    "CodeFormer": lambda: CodeFormer(CodeFormerNetwork().state_dict()),
}


@torch.inference_mode()
def seconds(net: FaceModel, x: torch.Tensor, rounds: int) -> list[float]:
    """Return what each round takes, after three that do not count."""
    found = []
    for _ in range(rounds + 3):
        started = time.perf_counter()
        with fast_convolutions(x.device):
            net.restore(x)
        if x.device.type != "cpu":
            getattr(torch, x.device.type).synchronize()
        found.append(time.perf_counter() - started)
    return found[3:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES), default=["fp32", "bf16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    arguments = parser.parse_args()
    keep_memory()  # as the commands do
    torch.manual_seed(0)
    device = resolve_device(arguments.device)
    rates = measure(device, {str(DTYPES[name]).removeprefix("torch.") for name in arguments.dtypes})
    print("| | GFLOP a face | faces at once | ms a face | faces a second | of matmul | peak memory |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for network in arguments.networks:
        net = NETWORKS[network]().eval()
        with FlopCounterMode(display=False) as counter:
            net.restore(torch.full((1, 3, net.size, net.size), 0.5))
        flops = counter.get_total_flops()
        for dtype in (name for name in arguments.dtypes if name in net.dtypes):
            net.to(device, DTYPES[dtype]).to(memory_format=memory_format(device))
            rate = rates.multiply[str(DTYPES[dtype]).removeprefix("torch.")]
            for batch in arguments.batches:
                x = torch.rand(batch, 3, net.size, net.size, device=device)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats(device)
                face = statistics.median(seconds(net, x, arguments.rounds)) / batch
                peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB" if device.type == "cuda" else ""
                cells = (f"{network}, {dtype}", f"{flops / 1e9:.1f}", batch, f"{face * 1e3:.1f}", f"{1 / face:.1f}")
                print(f"| {' | '.join(map(str, cells))} | {flops / face / rate:.0%} | {peak} |", flush=True)
    print(f"\n{rates.device}: " + ", ".join(f"{rate / 1e12:.2f} TFLOP/s in {name}" for name, rate in rates.multiply.items()))


if __name__ == "__main__":
    main()
