"""The training loop of every stage: steps, what is watched of them, validation, checkpoints, and going on after a stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from pfr_core.errors import Cancelled, InputError, PFRError
from pfr_core.support.files import write_text
from pfr_core.support.memory import is_out_of_memory

from .. import is_first
from ..data.loader import first_batch
from ..judge.validate import Validation, is_due, open_validation
from .clock import Clock
from .config import RunConfig
from .engine import any_process
from .run_state import alone, checkpoints, save_state, state_to_resume
from .steps import Run
from .watch import Watch, stop_on_signal

log = logging.getLogger(__name__)

CONFIG, BEST = "config.json", "best.safetensors"
MAKING_UP = ".validating"
"""Names in a run's folder the step whose validation is being made up."""
SAMPLES_IN_GRID = 8


def train(config: RunConfig, *, resume: bool = False, after_step: Callable[[Run], None] | None = None) -> Path:
    """Begin a training run or go on with one; return the exported file's path.

    Args:
        config: the run; with ``resume`` that of the folder.
        resume: go on from the newest checkpoint, or begin if there is none yet.
        after_step: called after each step, before its checkpoint.

    Raises:
        InputError: the folder of the run is taken, another process trains there, or the data are unusable.
        CheckpointError: a checkpoint cannot be written or read.
        WeightsError: a network that is needed cannot be had.
        Cancelled: it was stopped by a signal, after a checkpoint.
        PFRError: a loss or a weight is no longer finite; the last checkpoint is kept.
    """
    if not config.out:
        raise InputError("Say with --out where the run's files go.")
    folder = Path(config.out)
    if not resume and (checkpoints(folder) or any(folder.glob("*.safetensors"))):  # not one that ended before it had anything
        raise InputError(f"{folder}: holds a run already. Continue it with --resume, or choose another --out.")
    with ExitStack() as held:
        if resume and is_first():  # before anything there is read, which another process may change
            held.enter_context(alone(folder))
        return _train(config, folder, resume, held, after_step)


def _train(config: RunConfig, folder: Path, resume: bool, held: ExitStack, after_step: Callable[[Run], None] | None) -> Path:
    """See :func:`train`; what ``held`` holds is let go when it returns."""
    run = Run(config, state_to_resume(folder) if resume else None)
    if any_process(run.fabric, run.step != run.fabric.broadcast(run.step)):
        raise InputError(f"{folder}: holds other checkpoints on another machine. --out must be the same folder on all machines.")
    first = run.fabric.is_global_zero
    validation = open_validation(config, run.stage, run.data) if first else None
    # Only now that everything was found and fits: a run that cannot start must not occupy its folder.
    if first and not resume:
        held.enter_context(alone(folder))
    run.fabric.barrier()
    watch = None
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        config.save(folder / CONFIG)
        watch = Watch(folder, run.step, config.log_every)
        if run.step == config.iterations:
            run.export(folder / config.EXPORTED)  # it was killed between its last checkpoint and this
    try:
        with stop_on_signal(told=first) as stopped:
            finished = _loop(run, folder, watch, validation, stopped, after_step)
        if not finished:
            raise Cancelled(f"stopped at step {run.step}; continue with --resume")
    finally:
        if watch is not None:
            watch.close()
    return folder / config.EXPORTED


def _loop(
    run: Run,
    folder: Path,
    watch: Watch | None,
    validation: Validation | None,
    stopped: Callable[[], bool],
    after_step: Callable[[Run], None] | None,
) -> bool:
    """Step until the end (return True) or until asked to stop (False); checkpoints on the way and at the end."""
    config = run.config
    if is_due(config, run.step) and run.step != run.validated:  # a signal or a kill came after its checkpoint
        _make_up(run, folder, watch, validation)
    with tqdm(initial=run.step, total=config.iterations, unit="it", dynamic_ncols=True, disable=watch is None) as bar:
        while run.step < config.iterations:
            clock, started = Clock(run.device, exact=False), time.perf_counter()
            try:
                values = run.take_step(clock)
            except InputError:  # of the data, which are drawn first: a disk or a server that has gone away for the first process
                if run.fabric.is_global_zero and run.step:
                    save_state(folder, run.state(), config.keep)
                raise
            seconds = time.perf_counter() - started
            bar.update()
            if watch is not None:
                pace = {"step": seconds, "data_share": clock.seconds["data"] / seconds, "faces": run.samples_per_step / seconds}
                watch.add(run.step, {**values, **{f"time/{name}": value for name, value in pace.items()}})
                if run.step % 10 == 0:
                    bar.set_postfix({name: f"{value:.3f}" for name, value in list(values.items())[:3]}, refresh=False)
            if after_step is not None:
                after_step(run)
            stop = any_process(run.fabric, stopped())
            due = stop or run.step % config.checkpoint_every == 0 or run.step == config.iterations
            if due and run.fabric.is_global_zero:  # before what takes long or may fail
                save_state(folder, run.state(), config.keep)
                run.export(folder / config.EXPORTED)
            if stop:
                run.fabric.barrier()  # torchrun kills the others 30 s after the first has left
                return run.step == config.iterations
            if watch is not None and config.image_every and (run.step % config.image_every == 0 or run.step == 1):
                _show(run, watch)
            if is_due(config, run.step):
                _validate(run, folder, watch, validation, saved=due)
    return True


def _show(run: Run, watch: Watch) -> None:
    """Draw the grid of samples; if its faces are not to be had, the run goes on without."""
    try:
        batch = first_batch(run.data.to_look_at(), SAMPLES_IN_GRID)
    except InputError as error:
        log.error("no pictures of step %d: %s", run.step, error)
        return
    watch.pictures(run.step, run.stage.look({name: value.to(run.device) for name, value in batch.items()}))


def _make_up(run: Run, folder: Path, watch: Watch | None, validation: Validation | None) -> None:
    """Validate the step of the checkpoint, but only once: a process that dies of it must not do so whenever it goes on."""
    mark, step = folder / MAKING_UP, str(run.step)
    if validation is not None:  # in the first process, for which the others wait whether or not it judges
        if mark.is_file() and mark.read_text(encoding="utf-8") == step:
            log.error("step %d was not validated: the process ended in it. The run goes on without.", run.step)
            validation = None
        else:
            write_text(mark, step)
    _validate(run, folder, watch, validation, saved=True)
    if validation is not None:
        mark.unlink(missing_ok=True)


def _validate(run: Run, folder: Path, watch: Watch | None, validation: Validation | None, *, saved: bool) -> None:
    """Let the first process judge the average while the others wait; a checkpoint that was ``saved`` is written once more."""
    if validation is not None and watch is not None and _judged(run, folder, watch, validation) and saved:
        save_state(folder, run.state(), run.config.keep)  # which holds the best score, and that this step has been judged
    run.fabric.barrier()


def _judged(run: Run, folder: Path, watch: Watch, validation: Validation) -> bool:
    """Return whether the average could be judged, and keep it if it is the best so far; what cannot be does not end a run."""
    try:
        scores = validation(run.stage)
    except (PFRError, OSError, RuntimeError, MemoryError) as error:
        if not isinstance(error, (PFRError, OSError)) and not is_out_of_memory(error):
            raise
        log.error("step %d could not be validated: %s", run.step, error)
        return False
    watch.write(run.step, {f"validation/{name}": value for name, value in scores.items()})
    run.validated = run.step
    score = validation.rank(scores)
    if run.best is None or score > run.best:
        run.best = score
        run.export(folder / BEST, best_by=validation.config.best_by, scores=scores)
    return True
