"""How long models take for a photograph, stage by stage, and how near their networks come to what the machine can do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .errors import InputError
from .network.face_model import FaceModel
from .photo.photo import Photo
from .photo.read import decode_photo
from .photo.write import encode_photo
from .restorer import FaceRestorer
from .session import RestoredArray
from .support.notice import with_notices
from .support.text import markdown, plural
from .work import timed

STAGES = ("read", "detect", "align", "restore", "paste", "write")
"""``restore`` is the network; reading and writing are done in memory."""

SIDE, COPIED = 2048, 1 << 28
"""Of the matrices and of the block of bytes by which the machine is judged."""


@dataclass(frozen=True)
class Machine:
    """What the device can do, as measured here.

    Attributes:
        device: what it is called.
        threads: of torch on the CPU.
        multiply: floating-point operations a second in a product of matrices, by precision.
        copy: bytes a second, read and written, in a copy.
    """

    device: str
    threads: int
    multiply: dict[str, float]
    copy: float


@dataclass(frozen=True)
class Timing:
    """What one model took.

    Attributes:
        precision: of the network.
        parameters: of the network; 0 for one that is not torch's.
        flops: floating-point operations a face, a multiply-add being two, of convolutions in the usual way; None for a network
            that is not torch's.
        traffic: bytes a face that its operations read and write, if none is fused with another and nothing stays in a cache;
            None as for ``flops``.
        faces: how many were restored.
        seconds: of each stage in each round.
        ratio: how many times as long as the first model it takes, over all stages: the median of the rounds.
        interval: where 95 % of such medians lie when rounds are drawn anew.
        peak: most bytes of memory: of the GPU, or of the process; None where it cannot be told.
    """

    precision: str
    parameters: int
    flops: float | None
    traffic: float | None
    faces: int
    seconds: dict[str, list[float]]
    ratio: float
    interval: tuple[float, float]
    peak: int | None

    @property
    def total(self) -> float:
        """Seconds of all stages together, the median of the rounds."""
        return statistics.median(map(sum, zip(*self.seconds.values(), strict=True)))

    def stage(self, name: str) -> float:
        """Return the seconds of a stage, the median of the rounds."""
        return statistics.median(self.seconds[name])


@dataclass(frozen=True)
class Bench:
    """The machine, and what each model took on it."""

    machine: Machine
    models: dict[str, Timing]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        return asdict(self)

    def table(self) -> str:
        """Return a Markdown table: medians in seconds, and what share of the machine's own rates the network reaches."""
        head = ["", "parameters", "GFLOP a face", *STAGES, "all", "× the first (95 %)", "of matmul", "of copy", "peak memory"]
        rows = []
        for name, each in self.models.items():
            spent = each.stage("restore") / each.faces
            cells = [
                f"{name}, {plural(each.faces, 'face')}, {each.precision}",
                f"{each.parameters / 1e6:.1f} M" if each.parameters else "",
                "" if each.flops is None else f"{each.flops / 1e9:.1f}",
                *(f"{each.stage(stage):.3f}" for stage in STAGES),
                f"{each.total:.3f}",
                f"{each.ratio:.2f} ({each.interval[0]:.2f} to {each.interval[1]:.2f})",
                "" if each.flops is None else f"{each.flops / spent / self.machine.multiply[each.precision]:.0%}",
                "" if each.traffic is None else f"{each.traffic / spent / self.machine.copy:.0%}",
                "" if each.peak is None else f"{each.peak / 2**30:.2f} GiB",
            ]
            rows.append(cells)
        rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in self.machine.multiply.items())
        rates += f", a copy {self.machine.copy / 1e9:.1f} GB/s"
        return f"{markdown(head, rows)}\n\n{self.machine.device}, {self.machine.threads} threads: a product of matrices {rates}."


def bench(
    path: Path,
    data: bytes,
    restorers: Mapping[str, FaceRestorer],
    *,
    rounds: int = 5,
    progress: Callable[[], object] | None = None,
) -> Bench:
    """Restore a photograph with each model in turn, ``rounds`` times after one round that does not count.

    Args:
        path: what the photograph is called; the format of the result.
        data: its file.
        restorers: the models by name, on one device, with their options.
        rounds: how often.
        progress: called after each restoration.

    Raises:
        InputError: ``rounds`` is less than 1, or there is no face.
        ImageError: the photograph cannot be read or its format cannot be written.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1.")
    seconds: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in STAGES} for name in restorers}
    faces, peaks = dict[str, int](), dict[str, int | None]()
    for number in range(rounds + 1):
        for name, restorer in restorers.items():
            with _Peak(restorer.device) as peak:
                restored, spent = _restore(path, data, restorer)
            faces[name] = len(restored.faces)
            if not restored.faces:
                text = f"{path}: no face was found, so there is nothing for a network to do; take another photo."
                raise InputError(with_notices(text, restored.notices))
            if number:
                for stage in STAGES:
                    seconds[name][stage].append(spent[stage])
                peaks[name] = max(filter(None, (peaks.get(name), peak.bytes)), default=None)
            if progress is not None:
                progress()
    totals = {name: np.array(list(each.values())).sum(axis=0) for name, each in seconds.items()}
    first = next(iter(totals.values()))
    timings = {}
    for name, restorer in restorers.items():
        flops, traffic = _work(restorer.net)
        ratios = totals[name] / first
        drawn = np.median(np.random.default_rng(0).choice(ratios, (1000, rounds)), axis=1)
        timings[name] = Timing(
            precision=_precision(restorer),
            parameters=sum(parameter.numel() for parameter in restorer.net.parameters()),
            flops=flops,
            traffic=traffic,
            faces=faces[name],
            seconds=seconds[name],
            ratio=float(np.median(ratios)),
            interval=(float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))),
            peak=peaks[name],
        )
    used = next(iter(restorers.values()))
    return Bench(measure(used.device, {_precision(each) for each in restorers.values()}), timings)


def _restore(path: Path, data: bytes, restorer: FaceRestorer) -> tuple[RestoredArray, dict[str, float]]:
    """Take a photograph through all stages; returns the result, and the seconds of each stage."""
    seconds = dict[str, float]()
    with timed(seconds, "read"):
        photo: Photo = decode_photo(path, data)
    restored = restorer.open(photo).restore()
    with timed(seconds, "write"):
        encode_photo(path, restored.image, photo)
    return restored, {**dict.fromkeys(STAGES, 0.0), **restored.seconds, **seconds}


def measure(device: torch.device, precisions: set[str]) -> Machine:
    """Return what the device can do, the best of five tries each."""
    multiply = {}
    for precision in sorted(precisions):
        a = torch.randn(SIDE, SIDE, device=device, dtype=getattr(torch, precision))
        multiply[precision] = 2 * SIDE**3 / _best(lambda a=a: a @ a, device)  # type: ignore[misc]
    block = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    copied = 2 * COPIED / _best(lambda: other.copy_(block), device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Machine(name, torch.get_num_threads(), multiply, copied)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Return the fewest seconds of five tries."""
    found = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()
        found.append(time.perf_counter() - started)
    return min(found)


def _precision(restorer: FaceRestorer) -> str:
    return str(restorer.net.place[1]).removeprefix("torch.")


def _work(net: FaceModel) -> tuple[float | None, float | None]:
    """Return the floating-point operations and the bytes moved of a network for a face; None for one that is not torch's."""
    crop = torch.full((1, 3, net.size, net.size), 0.5)
    # With gradients on: the counter's hooks fail without where a module is given a parameter.
    with FlopCounterMode(display=False) as counter, _Traffic() as traffic:
        net.restore(crop)
    flops = counter.get_total_flops()
    return (flops, traffic.bytes) if flops else (None, None)


class _Traffic(TorchDispatchMode):
    """Counts the bytes that operations take and give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        out: object = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor))
        return out


class _Peak:
    """Measures the most memory that is used inside: of a CUDA GPU, or on Linux of the process."""

    STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> _Peak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu" and self.RESET.exists():
            self.RESET.write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        elif self.device.type == "cpu" and self.RESET.exists():
            (line,) = (line for line in self.STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            self.bytes = int(line.split()[1]) * 1024
