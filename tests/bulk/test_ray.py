"""Archives on a real Ray of this machine and a real object store on loopback: workers die, the store fails, the job is done."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfr_core import PFR, PFRConfig, RestoreOptions, save_model
from pfr_core.bulk import places
from pfr_core.bulk.manifest import Manifest
from pfr_core.cli import main
from pfr_core.options import Setup
from pfr_core.photo.write import write_photo

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")]
PHOTOS, KILLED = 24, 1


@pytest.fixture(scope="module")
def _ray(store: str) -> Iterator[None]:
    """Start Ray with two processors; `pfr bulk` uses the Ray that its process is connected to.

    After the store: workers inherit the environment, and with it the store's address and credentials.
    """
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        ray.init("local", num_cpus=2, num_gpus=1, object_store_memory=80 << 20, **quiet)  # a GPU that Ray believes in
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network with random weights: it changes every face."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={}, licence="none")
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of small aligned faces, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        write_photo(folder / f"{number % 3}" / f"{number}.jpg", rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def expected(photos: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the hashes of what `pfr restore` makes, by name."""
    out = tmp_path_factory.mktemp("expected")
    assert main(["restore", str(photos), "-o", str(out), "--aligned", "--model", str(model), "--device", "cpu"]) == 1
    return digests(str(out))


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Yield the address of a bucket in an S3 server on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        import s3fs

        s3fs.S3FileSystem().mkdir("archive")
        yield "s3://archive"
    server.stop()


def digests(place: str) -> dict[str, str]:
    """Return the hashes of the results by name."""
    found = {name: places.read(file) for name, file in places.files_in(place) if not name.startswith("pfr-manifest")}
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


def bulk(model: Path, *arguments: object) -> int:
    """Run the command in this process; the exit status."""
    return main(["bulk", *map(str, arguments), "--aligned", "--device", "cpu", "--dtype", "fp32", "--model", str(model)])


def started_here(process: int) -> bool:
    """Judge whether a process descends from this one: another's Ray on this machine is not ours to kill."""
    while process > 1 and process != os.getpid():
        status = Path(f"/proc/{process}/status").read_text()
        process = int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])
    return process == os.getpid()


def kill_workers(place: str, stop: threading.Event, killed: list[int]) -> None:
    """Kill workers that restore, one after the other, once there are results in ``place``."""
    while not stop.wait(0.05) and len(killed) < KILLED:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # gone meanwhile
                worker = int(process.parent.name)
                if b"AllStages" in process.read_bytes() and worker not in killed and started_here(worker) and digests(place):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
                    break


def test_all_is_done_once_though_workers_die_and_a_second_run_does_the_rest(
    _ray: None, photos: Path, model: Path, expected: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_workers, args=(str(tmp_path), stop, killed))
    killer.start()
    try:
        assert bulk(model, photos, tmp_path) == 1, "one photo is broken"
    finally:
        stop.set()
        killer.join()
    assert killed
    assert digests(str(tmp_path)) == expected
    rows = Manifest(str(tmp_path / "pfr-manifest")).rows().to_pylist()
    assert len(rows) == PHOTOS + 1
    assert {row["output"]: row["sha256"] for row in rows if row["status"] == "done"} == {
        str(tmp_path / name): digest for name, digest in expected.items()
    }
    (tmp_path / "1" / "1.jpg").unlink()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in expected if name != "1/1.jpg"}
    capsys.readouterr()
    assert bulk(model, photos, tmp_path) == 1
    assert f"{PHOTOS - 1} of {PHOTOS + 1} were done before" in capsys.readouterr().out
    assert digests(str(tmp_path)) == expected
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before
    assert bulk(model, photos, tmp_path, "--strength", "0.5") == 2
    assert "other choices (strength)" in capsys.readouterr().err


def test_an_object_store_is_read_and_written_in_legs(
    _ray: None, store: str, photos: Path, model: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfr_core.bulk.run.LEG", 2)
    for path in sorted(photos.rglob("*.jpg"))[:6]:
        places.write(f"{store}/in/{path.relative_to(photos).as_posix()}", path.read_bytes())
    names = {name for name, _ in places.files_in(f"{store}/in")}
    bulk(model, f"{store}/in", f"{store}/out")
    assert digests(f"{store}/out") == {name: digest for name, digest in expected.items() if name in names} != {}
    assert len(Manifest(f"{store}/out/pfr-manifest").rows()) == 6


def test_the_stages_of_gpus_give_the_same_files(
    _ray: None, photos: Path, model: Path, expected: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bulk(model, photos, tmp_path, "--gpus", "0.5", "--actors", "1") == 1, "one photo is broken"
    assert digests(str(tmp_path)) == expected
    capsys.readouterr()
    assert bulk(model, photos, tmp_path / "more", "--gpus", "4") == 2
    assert "--gpus is 4, but Ray has 1" in capsys.readouterr().err


def test_a_photograph_that_workers_die_of_is_given_up_and_no_other(_ray: None) -> None:
    from pfr_core.bulk import run
    from pfr_core.bulk.plan import Task
    from pfr_core.bulk.stages import Job

    actor: Any = run.Deaths
    deaths = actor.options(num_cpus=0).remote()
    bad, good = ([Job.of(Task(name, f"out/{name}"))] for name in ("bad.jpg", "good.jpg"))
    for _ in range(run.DEATHS):
        assert not run._InHand(deaths, bad).__enter__()[0].failed  # never given back: the worker died
        with run._InHand(deaths, good):
            pass
    (given_up,) = run._InHand(deaths, bad).__enter__()
    assert given_up.failed and given_up.row.error.startswith(f"bad.jpg: {run.DEATHS} workers died")
    with run._InHand(deaths, good) as (job,):
        assert not job.failed


def test_a_photograph_that_reading_dies_of_is_given_up(_ray: None, model: Path, photos: Path) -> None:
    from pfr_core.bulk import run
    from pfr_core.bulk.plan import Task
    from pfr_core.bulk.stages import Job, Recipe

    actor: Any = run.Deaths
    deaths, job = actor.options(num_cpus=0).remote(), Job.of(Task(str(photos / "0" / "0.jpg"), "out/0.jpg"))
    recipe = Recipe(Setup(model=str(model), device="cpu"), RestoreOptions(), aligned=True)
    for stage in ("read", "write"):
        for _ in range(run.DEATHS):
            run._InHand(deaths, [job]).__enter__()  # never given back: the task's process died
        packed = run._packed([job])
        made = run._read(packed, recipe, deaths) if stage == "read" else run._write(packed, recipe, recipe.choices(), deaths)
        (given_up,) = run._unpacked(made)
        assert getattr(given_up, "row", given_up).error.startswith(f"{job.task.input}: {run.DEATHS} workers died")
