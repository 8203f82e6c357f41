"""Photographs in processes at once: the same files as one after the other, one failure is one failure, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core.cli import main
from pfr_core.cli.common import for_each
from pfr_core.cli.processes import Work, choose_jobs, outcomes
from pfr_core.errors import ImageError, InputError, PFRError

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


RECORD = """
import errno, logging, os, signal, time
import torch
from pfr_core.cli.common import tell
from pfr_core.errors import ImageError
from pfr_core.support.notice import Notice

def record(source, target):
    if source.name == "bad":
        raise ImageError(f"{source}: bad")
    if source.name == "full":
        raise ImageError(f"{target}: cannot be written") from OSError(errno.ENOSPC, "No space left on device")
    if source.name.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    if source.name.startswith("advised"):
        tell([Notice("better_detector", "take another detector")], source)
        time.sleep(0.5)  # so that each process has some
    logging.warning("%s was looked at", source)
    target.write_text(f"{os.getpid()} {torch.get_num_threads()}")
    return f"{target} written"
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Return what stands for the work on a photograph: it writes the number of its process, in which it can be imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "recording.py").write_text(RECORD)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    work: Work = import_module("recording").record
    return work


def plan(folder: Path, *names: str) -> list[tuple[Path, Path]]:
    """Return pairs of a source, of which only the name counts, and a target."""
    return [(Path(name), folder / f"{name}.txt") for name in names]


def told_and_failed(folder: Path, names: list[str], work: Work) -> tuple[list[str | None], list[str]]:
    """Let two processes do the work; return what it told, and the errors of those that failed."""
    told, failed = list[str | None](), list[str]()
    with closing(outcomes(plan(folder, *names), work, 2)) as results:
        for result in results:
            try:
                told.append(result())
            except ImageError as error:
                failed.append(str(error))
    return told, failed


@pytest.mark.parametrize(
    ("asked", "files", "device", "jobs"),
    [(None, 1, CPU, 1), (None, 400, torch.device("cuda"), 1), (3, 10, torch.device("cuda"), 3), (5, 2, CPU, 2), (5, 0, CPU, 1)],
)
def test_how_many_at_once(asked: int | None, files: int, device: torch.device, jobs: int) -> None:
    assert choose_jobs(asked, files, device) == jobs


def test_unasked_there_are_no_more_processes_than_threads_and_each_has_enough_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert [choose_jobs(None, files, CPU) for files in (49, 50, 400)] == [1, 2, 3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert choose_jobs(None, 400, CPU) == 4


def test_less_than_one_job_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--jobs is 0"):
        choose_jobs(0, 1, CPU)
    photo = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photo)
    assert main(["restore", str(photo), "-o", str(tmp_path / "out"), "--jobs", "-1"]) == 2
    assert "--jobs is -1" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_share_threads_report_in_order_and_fail_one_by_one(
    tmp_path: Path, record: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a", "b", "bad", "c", "d", "e"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    told, failed = told_and_failed(tmp_path, names, record)
    assert told == [f"{tmp_path / name}.txt written" for name in names if name != "bad"]
    assert failed == ["bad: bad"]
    said = [path.read_text().split() for path in tmp_path.glob("*.txt")]
    assert os.getpid() not in {int(process) for process, _ in said}
    assert {threads for _, threads in said} == {"2"}
    assert "a was looked at" in caplog.text


@pytest.mark.slow
def test_a_photograph_that_kills_its_process_is_named_and_the_others_are_done(tmp_path: Path, record: Work) -> None:
    """Those in hand beside it, and those that come later."""
    names = ["a", "deadly", "b", "bad", "c", "d", "e", "f"]
    told, errors = told_and_failed(tmp_path, names, record)
    failed = [error.split(":")[0] for error in errors]
    assert failed == ["deadly", "bad"]
    assert told == [f"{tmp_path / name}.txt written" for name in names if name not in failed]


@pytest.mark.slow
def test_what_each_process_tells_once_is_told_once(
    tmp_path: Path, record: Work, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfr_core.cli.common._once.told", set())
    with closing(outcomes(plan(tmp_path, *(f"advised{number}" for number in range(6))), record, 2)) as results:
        for result in results:
            result()
    assert caplog.text.count("take another detector") == 1


@pytest.mark.slow
def test_processes_that_die_of_any_photograph_end_the_run(tmp_path: Path, record: Work) -> None:
    failed = 0
    with (
        closing(outcomes(plan(tmp_path, *(f"deadly{number}" for number in range(9))), record, 2)) as results,
        pytest.raises(PFRError, match=r"deadly2: .* as did those before.*too little memory"),
    ):
        for result in results:
            with pytest.raises(ImageError, match=r"deadly[01]: .*ended abruptly"):
                result()
            failed += 1
    assert failed == 2


ORPHANS = """
import sys
from pathlib import Path
from pfr_core.cli.processes import outcomes
from recording import record

for result in outcomes([(Path(name), Path(sys.argv[1], f"{name}.txt")) for name in "abcd"], record, 2):
    print(result(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, record: Work) -> None:
    """However it ends: its output is at its end only when nobody holds it open any more."""
    path = os.pathsep.join([str(tmp_path / "modules"), str(ROOT)])
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, str(tmp_path)], env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None and "written" in parent.stdout.readline()
    parent.kill()
    try:
        parent.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        for said in tmp_path.glob("*.txt"):
            with suppress(ProcessLookupError):
                os.kill(int(said.read_text().split()[0]), signal.SIGKILL)
        raise


STARTED = """
import multiprocessing, os, signal
from concurrent.futures import ProcessPoolExecutor
from pfr_core.support.worker import starting_workers

def held():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    try:
        with starting_workers():
            future = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, [])
            os.kill(os.getpid(), signal.SIGINT)
            print("meanwhile")
    except KeyboardInterrupt:
        print("afterwards")
    print(signal.SIGINT in future.result(), held())
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks")
def test_a_process_that_still_imports_does_not_hear_of_ctrl_c() -> None:
    """Else it would end with a traceback, and its end be told as that of a process without memory."""
    done = subprocess.run([sys.executable, "-c", STARTED], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["meanwhile", "afterwards", "True", "False"], "")


@pytest.mark.slow
def test_a_full_disk_of_a_process_ends_the_run(tmp_path: Path, record: Work) -> None:
    """What the error was raised from does not come out of a process."""
    names = ["full", *(str(number) for number in range(40))]
    with pytest.raises(PFRError, match=r"cannot be written.*the rest was not begun"):
        for_each(plan(tmp_path, *names), record, "done", jobs=2)
    assert len(list(tmp_path.glob("*.txt"))) <= 8


@pytest.mark.slow
def test_when_it_is_stopped_what_has_begun_is_finished_and_the_rest_not_begun(tmp_path: Path, record: Work) -> None:
    names = [str(number) for number in range(40)]
    with closing(outcomes(plan(tmp_path, *names), record, 2)) as results:
        next(results)()
    done = {path.stem for path in tmp_path.glob("*.txt")}
    assert "0" in done
    assert len(done) <= 8
    time.sleep(0.3)
    assert {path.stem for path in tmp_path.glob("*.txt")} == done


@pytest.mark.slow
def test_a_folder_gives_the_same_files_by_one_process_and_by_two(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{seed}.png")
    (photos / "2b.png").write_bytes(b"broken")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for jobs in (1, 2):
            command = ["restore", str(photos), "-o", str(tmp_path / str(jobs)), "--aligned", "--model", str(tiny_model)]
            assert main([*command, "--device", "cpu", "--dtype", "fp32", "--jobs", str(jobs)]) == 1
            said = capsys.readouterr()
            assert "4 of 5 done, 1 failed" in said.err
            assert [line.split(":")[0] for line in said.out.splitlines()] == [
                f"{tmp_path / str(jobs) / str(n)}.png" for n in range(4)
            ]
    finally:
        torch.set_num_threads(threads)
    results = {path.name: path.read_bytes() for path in (tmp_path / "1").iterdir()}
    assert results == {path.name: path.read_bytes() for path in (tmp_path / "2").iterdir()}
    assert all(results[name] != (photos / name).read_bytes() for name in results)
