"""Watching a run: TensorBoard, a log in JSON lines, picture grids, and signals that ask it to stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
from einops import rearrange
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pfr_core.photo.write import write_photo
from pfr_core.support.files import write_text

from ..data.dataset import RGB8, to_bytes

LOG = "log.jsonl"
COUNTED = "data/"
"""What begins with this is counted from the run's beginning on: the newest number is told, not the mean."""
MINIMUM_TILE = 64
"""Small patches are enlarged to this many px, so that they can be looked at."""


class Watch:
    """Scalars and pictures of a run, in its folder. A resumed run takes back what was logged after its checkpoint.

    Args:
        folder: the run's.
        step: where the run starts or goes on.
        every: steps over which scalars are averaged.
    """

    def __init__(self, folder: Path, step: int, every: int) -> None:
        self.folder, self.every = folder, every
        self.sums: dict[str, tuple[float, int]] = {}
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)  # the first that is written anew
        path = folder / LOG
        text = path.read_text() if step and path.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]  # a kill can leave half a line
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        write_text(path, "".join(kept))
        self.file = path.open("a")

    def close(self) -> None:
        """Write what is still buffered."""
        self.file.close()
        self.board.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Collect scalars; every few steps their means (of counts the newest) are written. The very first step is by itself."""
        for name, value in values.items():
            total, count = (0.0, 0) if name.startswith(COUNTED) else self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1
        if step % self.every == 0 or step == 1:
            self.write(step, {name: total / count for name, (total, count) in self.sums.items()})
            self.sums = {}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars now."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        self.file.write(json.dumps({"step": step, **{name: float(f"{value:.6g}") for name, value in values.items()}}) + "\n")
        self.file.flush()

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Write grids: each tensor [rows, columns, 3, H, W] in [-1,1] becomes ``grids/<step>-<name>.png``."""
        for name, tiles in pictures.items():
            image = grid(tiles)
            write_photo(self.folder / "grids" / f"{step:09d}-{name}.png", image)
            self.board.add_image(name, image, step, dataformats="HWC")


def grid(tiles: Tensor) -> RGB8:
    """Lay [rows, columns, 3, H, W] in [-1,1] out as one picture [rows*H, columns*W, 3] uint8."""
    image = np.ascontiguousarray(rearrange(to_bytes(tiles).cpu(), "r c d h w -> (r h) (c w) d").numpy())
    factor = -(-MINIMUM_TILE // tiles.shape[-1])
    return image if factor <= 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


@contextmanager
def stop_on_signal(*, told: bool = True) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM and SIGINT set a flag within the block (returned as a callable) instead of killing the run.

    Args:
        told: say so at once, for a step may take a minute. A second signal changes nothing: ``torchrun`` passes on the one that
            the terminal has sent to all already.
    """
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if told and len(received) == 1:
            with suppress(OSError):  # the terminal may be gone
                os.write(2, b"\nstopping after this step, with a checkpoint\n")  # print may be what was interrupted

    previous = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
