"""Random numbers that belong to a sample, not to a process.

Every draw is a pure function of (run seed, purpose, sample counter). Neither an interruption, nor the number of workers, nor
how a batch is spread over processes changes what a sample gets, and a checkpoint needs to hold no generator's state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

PURPOSES = ("Gmain", "Greg", "Dmain", "Dreg", "look", "face", "degradation", "clean", "crop", "picture")


def sample_seed(seed: int, purpose: str, counter: int) -> tuple[int, int, int]:
    """Return the seed of what sample ``counter`` draws for ``purpose``, one of ``PURPOSES``: no two share a stream."""
    return seed, PURPOSES.index(purpose), counter


class SampleRandom:
    """One generator per sample of a batch.

    Args:
        seed: the run's.
        purpose: one of ``PURPOSES``; each has its own stream.
        counters: the samples' numbers.
        device: where the numbers are drawn and stay.
    """

    def __init__(self, seed: int, purpose: str, counters: Iterable[int], device: torch.device) -> None:
        self.device = device
        self.generators = []
        for counter in counters:
            key = np.random.SeedSequence(sample_seed(seed, purpose, int(counter))).generate_state(1, np.uint64)[0]
            self.generators.append(torch.Generator(device).manual_seed(int(key >> np.uint64(1))))

    def normal(self, *shape: int) -> Tensor:
        """Draw [B,*shape] from N(0,1)."""
        return torch.stack([torch.randn(shape, generator=each, device=self.device) for each in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Draw [B,*shape] from [0,1)."""
        return torch.stack([torch.rand(shape, generator=each, device=self.device) for each in self.generators])


def counters_of(step: int, micro: int, batch: int, accumulate: int, rank: int, world: int) -> Sequence[int]:
    """Return numbers of the samples that process ``rank`` sees in forward pass ``micro`` of ``step``.

    Processes take turns sample by sample. With the mini-batch standard deviation's groups, which are strided too, ``world``
    processes then compute what one process with the whole batch does.
    """
    first = (step * accumulate + micro) * batch * world
    return range(first + rank, first + batch * world, world)
