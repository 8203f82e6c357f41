"""From a training set, whatever it holds, to the batches of a run."""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pfr_core.support.worker import begin_worker, starting_workers

from ..run.config import RunConfig
from ..run.randomness import counters_of


class TrainingSet(Dataset[Mapping[str, Tensor]], ABC):
    """Samples by number, without end: each a pure function of the run's seed and its number, as tensors by name.

    Among them is ``counter``, the number. Printed, a training set says what it was made of.

    Attributes:
        unit: what samples are, in the plural.
        facts: what is to be said of it in an exported file.
        compared: names of the facts by which one set is told from another: not what a teacher saw, which depends on the device.
    """

    unit: str
    facts: dict[str, Any]
    compared: tuple[str, ...] = ("listed",)

    @abstractmethod
    def __getitem__(self, counter: int) -> Mapping[str, Tensor]:
        """Return sample number ``counter``."""

    def to_look_at(self) -> TrainingSet:
        """Return the set whose first samples the picture grids show."""
        return self


class ForWorkers(Dataset[Mapping[str, Tensor]]):
    """A training set as worker processes are given it: pickled, in memory that they share.

    Through the pipe that starts a process, a set of thousands of faces would let the next one wait until this one has imported
    torch and reads it: eight workers then start one after the other.
    """

    def __init__(self, dataset: TrainingSet) -> None:
        self.pickled = torch.frombuffer(bytearray(pickle.dumps(dataset)), dtype=torch.uint8)

    def __getitem__(self, counter: int) -> Mapping[str, Tensor]:
        return self._dataset[counter]

    @cached_property
    def _dataset(self) -> TrainingSet:
        dataset: TrainingSet = pickle.loads(self.pickled.numpy().tobytes())
        return dataset


def batches(dataset: TrainingSet, config: RunConfig, step: int, rank: int, world: int) -> Iterator[Any]:
    """Return the batches of process ``rank`` from ``step`` on, ``config.accumulate`` for each step."""

    def numbers() -> Iterator[list[int]]:
        for s in range(step, config.iterations):
            for micro in range(config.accumulate):
                yield list(counters_of(s, micro, config.samples, config.accumulate, rank, world))

    loader = DataLoader(
        ForWorkers(dataset) if config.workers else dataset,
        batch_sampler=numbers(),
        num_workers=config.workers,
        worker_init_fn=_start_worker,
        # A forked worker can hang in `setNumThreads`: it waits for threads of OpenCV that only its parent has.
        multiprocessing_context="spawn" if config.workers else None,
        pin_memory=torch.cuda.is_available() and config.device != "cpu",
        prefetch_factor=4 if config.workers else None,
    )
    with starting_workers() if config.workers else nullcontext():
        return iter(loader)


def first_batch(dataset: TrainingSet, count: int) -> dict[str, Tensor]:
    """Return the first ``count`` samples as a batch."""
    samples = [dataset[i] for i in range(count)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def _start_worker(_: int) -> None:
    # `timeout` and torchrun signal the whole process group, too; the run itself decides when to stop.
    begin_worker()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
