"""The job on Ray Data: photographs flow through the stages, on as many machines and networks as there are.

Without GPUs a worker does all stages of a photograph: carrying pixels from process to process would only cost. With GPUs,
reading and writing are tasks of their own on the CPUs, so that a GPU has photographs waiting. Ray Data holds them back while
the next stage is behind (constant memory), starts dead workers again and repeats what they had in hand; writing again what is
written already gives the same file.
"""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from ..errors import InputError, PFRError
from .manifest import Choices, Manifest, Row, storable
from .plan import Task
from .stages import Job, Recipe, Restorer, Weights, read, write

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)

LEG = 5_000
"""Blocks of photographs that Ray Data is given at once: its bookkeeping, 25 to 50 kB for each, stays small, and loading the
networks anew takes about a hundredth of the time."""
ON_CPU, ON_GPU = 2, 8
"""Photographs in hand at once. On a GPU the network runs over the faces of all of them; on a CPU this would gain nothing, and
one by one they come out as from ``pfr restore`` to the last bit. What is in hand is done again if the worker dies."""
DEATHS = 3
"""A photograph in hand when so many workers died is given up: it may be what they die of."""
KNOCK = 5.0
"""Seconds in which a cluster's address must answer; Ray itself waits for minutes."""
TOLD_EVERY = 60.0
"""Seconds between lines that tell how far the job is, where no terminal shows it."""


@dataclass(frozen=True)
class Cluster:
    """Where the job runs.

    Attributes:
        address: of a Ray cluster; None starts Ray on this machine, or takes the one this process is connected to.
        actors: how many networks at most; None: as many as there is room for.
        gpus: GPUs for each, or a part of one; None: one if there are any.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float | None = None


@dataclass
class Summary:
    """What a run did: photographs by status, faces, time, photographs with notices."""

    counts: Counter[str]
    faces: int
    seconds: float
    noticed: int = 0

    def add(self, row: Row) -> None:
        """Count a photograph."""
        self.counts[row.status] += 1
        self.faces += row.faces
        self.noticed += bool(row.notices)

    def progress(self, total: int) -> str:
        """Return how far the job is, as a line.

        Args:
            total: photographs of the job.
        """
        done = self.counts.total()
        rate = done / self.seconds
        left = tqdm.format_interval((total - done) / rate)
        return f"{done} of {total}, {rate:.2f} a second, {left} left, {self.faces} faces, {self.counts['failed']} failed"

    def result(self, total: int) -> str:
        """Return what was done, as a line; arguments as for :meth:`progress`."""
        rate = total / self.seconds
        return (
            f"{self.counts['done']} of {total} done, {self.counts['failed']} failed, {self.faces} faces, "
            f"{self.noticed} with notices (pfr bulk report), {self.seconds:.0f} s, {rate:.2f} photographs a second"
        )


def connect(cluster: Cluster, *, on_cpu: bool) -> tuple[float, int]:
    """Connect to the cluster, or start Ray here; returns GPUs for each network, and how many networks.

    Args:
        cluster: where.
        on_cpu: GPUs are not wanted.

    Raises:
        InputError: it is not there, has another version of Ray or Python, or less than was asked for.
    """
    if not ray.is_initialized():
        package = str(Path(__file__).resolve().parents[1])
        environment: dict[str, Any] = {} if cluster.address is None else {"py_modules": [package], "excludes": ["__pycache__"]}
        try:
            _knock(cluster.address or "local")
            ray.init(
                address=cluster.address or "local",
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray raises what it happens to: RuntimeError for other versions, ConnectionError, Exception
            reason = " ".join(str(error).split())
            raise InputError(f"--address {cluster.address or 'local'}: no Ray cluster to work on ({reason}).") from error
    there = ray.cluster_resources()
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1.0 if there.get("GPU") and not on_cpu else 0.0
    if gpus > there.get("GPU", 0):
        raise InputError(f"--gpus is {gpus:g}, but Ray has {there.get('GPU', 0):g}; start it with more, or use --gpus 0.")
    room = int(there["GPU"] / gpus) if gpus else int(there.get("CPU", 1))
    return gpus, max(1, min(room, cluster.actors or room))


def _knock(address: str) -> None:
    """Look whether something answers at an address with a port.

    Raises:
        OSError: nothing does.
        ValueError: the port is none.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), KNOCK).close()


def dashboard() -> str:
    """Return the address of Ray's dashboard; empty if there is none (``pip install "ray[default]"``)."""
    url: str | None = ray._private.worker.get_dashboard_url()
    return f"http://{url}" if url else ""


def run(
    tasks: Sequence[Task],
    recipe: Recipe,
    choices: Choices,
    manifest: Manifest,
    gpus: float,
    actors: int,
    again: Sequence[str] = (),
) -> Summary:
    """Do all tasks; returns when each has its row in the manifest.

    Args:
        tasks: what is to be done.
        recipe: how.
        choices: of the recipe, for the rows.
        manifest: where rows go.
        gpus: for each network, or 0.
        actors: networks at most.
        again: inputs that are done whatever an earlier run did.

    Raises:
        PFRError: something that concerns all photographs: the model, the manifest's place, the cluster.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    weights, summary, started = ray.put(Weights.gather(recipe)), Summary(Counter(), 0, 0.0), time.monotonic()
    here = NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )  # no other machine may take it along
    deaths = Deaths.options(num_cpus=0, scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    manifest.begin(choices, again)
    bar = tqdm(total=len(tasks), unit="photo", smoothing=0.05, disable=not sys.stderr.isatty())
    told = started
    try:
        leg = LEG * (ON_GPU if gpus else ON_CPU)
        for first in range(0, len(tasks), leg):
            stages = _stages(tasks[first : first + leg], recipe, choices, weights, deaths, gpus, actors)
            for row in _rows(stages):
                manifest.add(row)
                summary.add(row)
                summary.seconds = time.monotonic() - started
                bar.set_postfix(faces=summary.faces, failed=summary.counts["failed"], refresh=False)
                bar.update()
                if bar.disable and time.monotonic() - told > TOLD_EVERY:
                    told = time.monotonic()
                    tqdm.write(summary.progress(len(tasks)), file=sys.stderr)
                if row.error:
                    tqdm.write(f"error: {row.error}", file=sys.stderr)
    except RayError as error:
        raise _cause(error) from error
    finally:
        bar.close()
        manifest.flush()
    summary.seconds = time.monotonic() - started
    return summary


def _stages(
    tasks: Sequence[Task], recipe: Recipe, choices: Choices, weights: ObjectRef, deaths: ActorHandle, gpus: float, actors: int
) -> Dataset:
    """Return the pipeline for some tasks."""
    at_once = ON_GPU if gpus else ON_CPU
    blocks = [pa.table(_packed([Job.of(task) for task in tasks[n : n + at_once]])) for n in range(0, len(tasks), at_once)]
    data = ray.data.from_arrow(blocks)
    pool = {"compute": ray.data.ActorPoolStrategy(min_size=1, max_size=actors), "batch_size": at_once, "num_cpus": 1}
    if not gpus:
        return data.map_batches(AllStages, fn_constructor_args=(recipe, weights, deaths, choices), **pool)
    data = data.map_batches(_read, fn_args=(recipe, deaths), batch_size=1)
    data = data.map_batches(RestoreStage, fn_constructor_args=(recipe, weights, deaths), num_gpus=gpus, **pool)
    return data.map_batches(_write, fn_args=(recipe, choices, deaths), batch_size=1)


def _read(batch: Mapping[str, Any], recipe: Recipe, deaths: ActorHandle) -> dict[str, list[bytes]]:
    with _InHand(deaths, _unpacked(batch)) as jobs:
        return _packed([read(job, recipe) for job in jobs])


def _write(batch: Mapping[str, Any], recipe: Recipe, choices: Choices, deaths: ActorHandle) -> dict[str, list[bytes]]:
    with _InHand(deaths, _unpacked(batch)) as jobs:
        return _packed([write(job, recipe, choices) for job in jobs])


class RestoreStage:
    """A worker's networks."""

    def __init__(self, recipe: Recipe, weights: ObjectRef, deaths: ActorHandle) -> None:
        self.restore, self.deaths = Restorer(recipe, ray.get(weights)), deaths

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        jobs = _unpacked(batch)
        with _InHand(self.deaths, jobs) as jobs:
            return _packed(self.restore(jobs))


class AllStages:
    """A worker that does all stages, one photograph after the other."""

    def __init__(self, recipe: Recipe, weights: ObjectRef, deaths: ActorHandle, choices: Choices) -> None:
        self.recipe, self.choices, self.deaths = recipe, choices, deaths
        self.restore = Restorer(recipe, ray.get(weights))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        return _packed([self._all(job) for job in _unpacked(batch)])

    def _all(self, job: Job) -> Row:
        with _InHand(self.deaths, [job]) as jobs:
            (restored,) = self.restore([read(each, self.recipe) for each in jobs])
            return write(restored, self.recipe, self.choices)


@ray.remote
class Deaths:
    """Counts, for each photograph, the workers that took it in hand and did not give it back."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, names: list[str]) -> list[int]:
        """Note that photographs are taken in hand; returns how often each was before."""
        before = [self._taken[name] for name in names]
        self._taken.update(names)
        return before

    def give_back(self, names: list[str]) -> None:
        """Note that photographs were given back."""
        for name in names:
            del self._taken[name]


class _InHand:
    """Photographs that a worker has in hand; those that too many workers died with are failed."""

    def __init__(self, deaths: ActorHandle, jobs: list[Job]) -> None:
        self._deaths, self._jobs = deaths, jobs
        self._names = [storable(job.task.input) for job in jobs]  # Ray's messages are UTF-8, too

    def __enter__(self) -> list[Job]:
        before = ray.get(self._deaths.take.remote(self._names))
        return [_given_up(job, count) if count >= DEATHS else job for job, count in zip(self._jobs, before, strict=True)]

    def __exit__(self, *_: object) -> None:
        self._deaths.give_back.remote(self._names)


def _given_up(job: Job, count: int) -> Job:
    text = f"{job.task.input}: {count} workers died with this photograph in hand (out of memory, say); do it by itself."
    return Job(job.task, replace(job.row, status="failed", error=text))


def _packed(values: Sequence[Job | Row]) -> dict[str, list[bytes]]:
    return {"job": [pickle.dumps(value, protocol=5) for value in values]}


def _unpacked(batch: Mapping[str, Any]) -> list[Any]:
    return [pickle.loads(value) for value in batch["job"]]


def _rows(data: Dataset) -> Iterator[Row]:
    """Yield the rows as they come."""
    for batch in data.iter_batches(batch_size=None, prefetch_batches=0):
        yield from _unpacked(batch)


def _cause(error: BaseException) -> PFRError:
    """Return what went wrong on a worker as an error of ours, if it was one."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, PFRError):
            return cause
        cause = inner if isinstance(inner, BaseException) else None
    lines = [line for line in str(error).splitlines() if line.strip()]
    return PFRError(f"the job ended ({lines[-1] if lines else type(error).__name__}); run the same command again to go on.")
