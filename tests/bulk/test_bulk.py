"""Archives: what is to be done, what was done, files wherever they are, and the stages, without Ray."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
from collections import Counter
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from pfr_core import PFR, PFRConfig, RestoreOptions, save_model
from pfr_core.bulk import places
from pfr_core.bulk.manifest import Choices, Manifest, Row, look_back, storable
from pfr_core.bulk.plan import Task, list_inputs, plan, refuse_moved, refuse_nested, refuse_replaced
from pfr_core.bulk.report import page, report
from pfr_core.bulk.stages import Job, Recipe, Restorer, Weights, _guarded, _own_folder, read, write
from pfr_core.cli import build_parser, main
from pfr_core.cli.common import for_each
from pfr_core.cli.inputs import plan_outputs
from pfr_core.errors import CheckpointError, ImageError, InputError, NotFiniteError, PFRError, WeightsError
from pfr_core.network.face_model import FaceModel
from pfr_core.options import Setup
from pfr_core.photo.photo import images_below, writable_name
from pfr_core.photo.read import read_bytes
from pfr_core.photo.write import write_photo
from pfr_core.resume import UNNAMED
from pfr_core.support.blame import LOST_DEVICE
from pfr_core.support.schema import specs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network with random weights: it changes every face."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={}, licence="none")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with aligned faces of several formats, one picture that is none and one file that is no photo."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "1931/a.jpg", "c.tif"):
        write_photo(folder / name, rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no photo")
    return folder


def recipe(model: Path, **options: Any) -> Recipe:
    return Recipe(Setup(model=str(model), device="cpu"), RestoreOptions(**options), aligned=True)


def restored(tasks: list[Task], recipe: Recipe, together: bool = False) -> list[Row]:
    """Take photographs through the stages; all at once, or one by one."""
    restore, choices = Restorer(recipe, Weights.gather(recipe)), recipe.choices()
    jobs = [read(Job.of(task), recipe) for task in tasks]
    done = restore(jobs) if together else [each for job in jobs for each in restore([job])]
    return [write(job, recipe, choices) for job in done]


def files(folder: Path) -> dict[str, str]:
    """Return the hashes of a folder's photos by name."""
    found = {name: Path(place) for name, place in places.files_in(str(folder)) if not name.startswith("pfr-manifest")}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}


def test_files_are_those_of_restore(model: Path, photos: Path, tmp_path: Path) -> None:
    tasks = plan(list_inputs(str(photos)), str(tmp_path / "bulk"))
    rows = restored(tasks, recipe(model))
    arguments = ["restore", str(photos), "-o", str(tmp_path / "restore"), "--aligned", "--model", str(model), "--device", "cpu"]
    assert main(arguments) == 1, "one photo is broken"
    assert files(tmp_path / "bulk") == files(tmp_path / "restore") != {}
    good = {
        PurePosixPath(row.output).relative_to(tmp_path / "bulk").as_posix(): row.sha256 for row in rows if row.status == "done"
    }
    assert good == files(tmp_path / "bulk")
    (bad,) = [row for row in rows if row.status == "failed"]
    assert bad.input == str(photos / "broken.jpg") and bad.error.startswith(f"{bad.input}: not a picture")


def test_what_is_not_changed_is_a_copy(model: Path, photos: Path, tmp_path: Path) -> None:
    (row,) = restored([Task(str(photos / "a.jpg"), str(tmp_path / "a.jpg"))], recipe(model, strength=0.0))
    assert (tmp_path / "a.jpg").read_bytes() == (photos / "a.jpg").read_bytes()
    assert not row.changed and row.status == "done"


def test_a_transparent_photo_in_which_nothing_changes_is_a_copy_whatever_it_is_called(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 4), dtype=np.uint8)
    write_photo(tmp_path / "a.png", pixels)
    (tmp_path / "a.png").rename(tmp_path / "in.jpg")
    (row,) = restored([Task(str(tmp_path / "in.jpg"), str(tmp_path / "out.jpg"))], recipe(model, strength=0.0))
    assert row.status == "done" and (tmp_path / "out.jpg").read_bytes() == (tmp_path / "in.jpg").read_bytes()
    (row,) = restored([Task(str(tmp_path / "in.jpg"), str(tmp_path / "changed.jpg"))], recipe(model))
    assert row.status == "failed" and "transparency" in row.error
    (row,) = restored([Task(str(tmp_path / "in.jpg"), str(tmp_path / "out.bmp"))], recipe(model, strength=0.0))
    assert row.status == "failed" and "transparency" in row.error, "it would not be a copy"


@pytest.mark.skipif(os.name == "nt", reason="the folder for temporary files is each user's own there")
def test_what_another_has_put_where_weights_go_is_not_used(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    weights = Weights.gather(recipe(model))
    file = Path(weights.unpack().model)
    folder = file.parent
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    file.write_bytes(bytes(model.stat().st_size))  # of the same size
    assert Path(weights.unpack().model).read_bytes() == model.read_bytes()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WeightsError, match=rf"{folder.name}: no folder of this user's own.*TMPDIR"):
        weights.unpack()
    users = iter([os.geteuid(), os.geteuid() + 1])  # in its name, then as the one who asks
    monkeypatch.setattr("os.geteuid", lambda: next(users))
    with pytest.raises(WeightsError, match="-mine: no folder of this user's own"):
        _own_folder("mine")


def test_photographs_together_are_as_one_by_one_and_a_bad_one_harms_no_other(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = plan(list_inputs(str(photos)), str(tmp_path / "one"))
    alone = restored(tasks, recipe(model))
    together = restored(plan(list_inputs(str(photos)), str(tmp_path / "all")), recipe(model), together=True)
    assert [row.status for row in together] == [row.status for row in alone]
    opened = Restorer._done

    def fails_once(self: Restorer, job: Job, result: Any) -> Job:
        if job.task.input.endswith("b.png"):
            raise ZeroDivisionError("a bug")
        return opened(self, job, result)

    monkeypatch.setattr(Restorer, "_done", fails_once)
    rows = restored(plan(list_inputs(str(photos)), str(tmp_path / "bug")), recipe(model), together=True)
    assert {Path(row.input).name: row.status for row in rows if row.status == "failed"} == {
        "b.png": "failed",
        "broken.jpg": "failed",
    }
    assert "ZeroDivisionError" in next(row.error for row in rows if row.input.endswith("b.png"))


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        *((kind("a: bad"), False) for kind in (ImageError, InputError, NotFiniteError, MemoryError, KeyError, OSError)),
        *((kind("bad"), True) for kind in (CheckpointError, WeightsError, PFRError, BrokenPipeError, BrokenExecutor)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_ends_a_command_ends_an_archive_s_job(error: Exception, ends: bool) -> None:
    def fail(*_: object) -> Any:
        raise error

    def ending() -> AbstractContextManager[object]:
        return pytest.raises(type(error)) if ends else nullcontext()

    with ending():
        assert for_each([(Path("a"), Path("b"))], fail, "done") == 1
    with ending():
        assert _guarded(Job.of(Task("a", "b")), fail).failed


@pytest.mark.skipif(not LOST_DEVICE, reason="older PyTorch has no name for it")
def test_a_lost_gpu_ends_an_archive_s_job_with_its_own_words() -> None:
    def fail() -> Any:
        raise LOST_DEVICE[0]("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")

    with pytest.raises(PFRError, match=r"^a: the GPU is lost \(CUDA error: unspecified launch failure\); run"):
        _guarded(Job.of(Task("a", "b")), fail)


def test_a_photograph_that_the_model_gives_no_numbers_for_becomes_a_row(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(photos / "white.png", np.full((24, 24, 3), 255, np.uint8))
    real = FaceModel.restore

    def restore(self: FaceModel, crops: torch.Tensor) -> torch.Tensor:
        return real(self, crops).masked_fill(crops.amin(dim=(1, 2, 3), keepdim=True) > 0.99, torch.nan)

    monkeypatch.setattr(FaceModel, "restore", restore)
    for together in (False, True):
        tasks = plan(list_inputs(str(photos)), str(tmp_path / str(together)))
        failed = [row for row in restored(tasks, recipe(model), together) if row.status == "failed" and "broken" not in row.input]
        assert [(row.input, row.error.partition("NaN")[0]) for row in failed] == [
            (str(photos / "white.png"), f"{photos / 'white.png'}: The model gives ")
        ]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_a_list_names_each_once_and_misses_become_rows(kind: str, model: Path, photos: Path, tmp_path: Path) -> None:
    paths = [str(photos / name) for name in ("a.jpg", "1931/a.jpg", "a.jpg", "missing.jpg")]
    file = tmp_path / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"path": paths, "year": [1, 2, 3, 4]}), file)
    else:
        file.write_text("\n".join(paths if kind == "txt" else ["year,path", *(f"1931,{path}" for path in paths)]))
    inputs = list_inputs(str(file))
    assert [name for _, name in inputs] == ["a.jpg", "1931/a.jpg", "missing.jpg"]
    rows = restored(plan(inputs, str(tmp_path / "out")), recipe(model))
    assert [row.status for row in rows] == ["done", "done", "failed"] and "no such file" in rows[2].error


def parquet(**columns: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"name\nb.jpg\n", "no column 'path'"),
        ("a.csv", "path\nMüller.jpg\n".encode("latin-1"), "not in UTF-8"),
        ("a.txt", b"\n", "no path"),
        ("a.txt", "a.jpg".encode("utf-16"), "not in UTF-8"),
        ("a.csv", b"path\nb.jpg\rc.jpg\n", "no CSV file"),
        ("a.parquet", b"no", "no Parquet file"),
        ("a.parquet", parquet(name=["b.jpg"]), "no column 'path'; there are name"),
    ],
)
def test_a_list_that_is_none_is_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InputError, ImageError), match=words):
        list_inputs(str(tmp_path / name))


def test_names_that_meet_are_named(tmp_path: Path) -> None:
    tasks = plan([("/x/a.jpg", "a.jpg"), ("/x/a.tif", "a.tif")], str(tmp_path), "png")
    assert tasks[0].error == "" and "would both be written" in tasks[1].error
    (clip,) = plan([("/x/a.mp4", "a.mp4")], str(tmp_path))
    assert "no format that can be written" in clip.error
    (same,) = plan([(str(tmp_path / "a.jpg"), "a.jpg")], str(tmp_path))
    assert "same file" in same.error
    names = {PurePosixPath("a.gif"), PurePosixPath("a.png")}
    assert {str(writable_name(name, names)) for name in names} == {"a.gif.png", "a.png"}


@pytest.mark.parametrize("format", [None, "png"])
def test_results_are_called_as_by_restore(format: str | None, tmp_path: Path) -> None:
    names = ("a.jpg", "a.png", "b.gif", "b.png", "c.gif", "sub/a.jpg", "d.TIF")
    inputs = [(tmp_path / "in" / name, Path(name)) for name in names]
    by_restore = [str(target) for _, target in plan_outputs(inputs, tmp_path / "out", format=format)]
    tasks = plan([(str(source), name.as_posix()) for source, name in inputs], str(tmp_path / "out"), format)
    assert by_restore == [task.output for task in tasks] and not any(task.error for task in tasks)


@pytest.mark.parametrize("ignores", [True, False])
def test_names_that_differ_in_case_meet_on_some_disks(ignores: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.support.files.ignores_case", lambda folder: ignores)
    names = [("/x/a.jpg", "a.jpg"), ("/x/A.JPG", "A.JPG"), ("/x/b.jpg", "b.jpg")]
    meet = ["would both be written" in task.error for task in plan(names, str(tmp_path))]
    assert meet == [False, ignores, False] and not any(task.error for task in plan(names, "s3://b/out"))


@pytest.mark.parametrize(
    ("source", "target"),
    [("in", "in/out"), ("in", "in"), ("s3://b/in", "s3://b/in/out"), ("file:///in", "/in/out"), ("/in", "local:///in/out")],
)
def test_an_output_inside_the_input_is_refused(source: str, target: str) -> None:
    with pytest.raises(InputError, match="inside"):
        refuse_nested(source, target)
    refuse_nested(source, f"{source}-restored")


def test_a_place_lies_in_a_folder_by_whole_names_on_windows_too() -> None:
    folder = r"C:\scans"
    for inside in (folder, r"C:\scans\out", r"c:\Scans\out"):
        assert places.lies_in(inside, folder, PureWindowsPath)
    for outside in (r"C:\scans-restored", r"D:\scans\out", "s3://scans/out"):
        assert not places.lies_in(outside, folder, PureWindowsPath)


def test_no_result_goes_out_of_the_output(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("s3://b/in/a.jpg\ns3://b/in/../../b.jpg\ns3://b/in/c..jpg\n")
    tasks = plan(list_inputs(str(listed)), "s3://b/out")
    assert ["'..'" in task.error for task in tasks] == [False, True, False]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_no_result_replaces_an_original_by_another_name(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(photos)
    listed, real = tmp_path / "list.txt", photos / "1931" / "a.jpg"
    listed.write_text(f"{tmp_path}/linked/1931/a.jpg\n{tmp_path}/linked/b.png\n")
    tasks = plan(list_inputs(str(listed)), str(photos))
    assert ["same file" in task.error for task in tasks] == [True, True]
    (tmp_path / "other.jpg").hardlink_to(real)  # as a.jpg and A.JPG are on some disks
    before = real.read_bytes()
    (row,) = restored([Task(str(real), str(tmp_path / "other.jpg"))], recipe(model))
    assert row.status == "failed" and "same file" in row.error and (tmp_path / "other.jpg").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there")
def test_a_list_names_files_whose_names_are_no_utf8(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(os.fsencode(photos) + b"/M\xfcller.jpg\n")
    assert list_inputs(str(tmp_path / "list.txt")) == [
        (os.fsdecode(os.fsencode(photos) + b"/M\xfcller.jpg"), os.fsdecode(b"M\xfcller.jpg"))
    ]


@pytest.mark.parametrize(("number", "tries"), [(errno.ESTALE, 3), (errno.EACCES, 1)])
def test_a_disk_of_the_network_is_asked_again(number: int, tries: int, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures, pauses, opened = [OSError(number, os.strerror(number))] * 2, list[float](), read_bytes

    def fails(path: Path) -> bytes:
        if failures:
            raise ImageError(f"{path}: cannot be read") from failures.pop()
        return opened(path)

    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr(places, "read_bytes", fails)
    if tries > 1:
        assert places.read(str(photos / "a.jpg")) == (photos / "a.jpg").read_bytes()
    else:
        with pytest.raises(ImageError):
            places.read(str(photos / "a.jpg"))
    assert len(pauses) == tries - 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_folder_holds_what_restore_finds_there(photos: Path) -> None:
    for link, target in (("loop", ".."), ("linked.jpg", "a.jpg"), ("broken.png", "nowhere"), ("itself.jpg", "itself.jpg")):
        (photos / "1931" / link).symlink_to(target)
    found = [Path(place) for place, _ in list_inputs(str(photos))]
    assert found == images_below(photos) and photos / "1931" / "linked.jpg" in found and len(found) == 6


def test_a_folder_that_cannot_be_looked_through_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuses(folder: Path) -> Any:
        if Path(folder).name == "1931":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuses)  # root may read all
    for looks in (list_inputs, lambda place: images_below(Path(place))):
        with pytest.raises(ImageError, match=r"1931: cannot be looked through \(Permission denied\); change"):
            looks(str(photos))


def choices(**options: Any) -> Choices:
    return Choices("tiny", "1" * 64, hashlib.sha256(repr(options).encode()).hexdigest(), options)


def already_done(manifest: Manifest, now: Choices, again: bool) -> object:
    return look_back(manifest, now, again).done


def ran(place: Path, now: Choices, *results: tuple[str, str], again: tuple[str, ...] = (), status: Any = "done") -> None:
    """Write a run with some photographs."""
    manifest = Manifest(str(place))
    manifest.begin(now, again)
    for source, target in results:
        manifest.add(Row(source, target, status, model_sha256=now.model_sha256, options_sha256=now.options_sha256))
    manifest.flush()


def test_no_result_takes_the_place_of_another_photographs(tmp_path: Path) -> None:
    now, place = choices(), tmp_path / "manifest"
    one, other, new = (Task(f"/{name}/a.jpg", str(tmp_path / "out" / "a.jpg")) for name in ("1931", "1932", "1933"))
    there = {one.output}
    with pytest.raises(InputError, match=r"a\.jpg: there already, and not by pfr bulk; --overwrite"):
        refuse_replaced([one], look_back(Manifest(str(place)), now, False), there)
    ran(place, now, (one.input, "elsewhere"))
    refuse_replaced([one], look_back(Manifest(str(place)), now, False), there)  # of a run that was killed before its row
    ran(place, now, (one.input, one.output))
    ran(place, now, (one.input, one.output), again=(one.input,), status="failed")
    for again in (False, True):
        earlier = look_back(Manifest(str(place)), now, again)
        refuse_replaced([one], earlier, there)
        refuse_replaced([other], earlier, set())
        refuse_replaced([replace(other, error="both would be written there")], earlier, there)
        with pytest.raises(InputError, match=r"a\.jpg: there already, and the result of /1931/a\.jpg, .*--overwrite"):
            refuse_replaced([other], earlier, there)
    ran(place, now, (one.input, one.output))
    ran(place, now, (other.input, other.output))  # with --overwrite
    earlier = look_back(Manifest(str(place)), now, False)
    assert earlier.done == {(other.input, other.output)}, "the first one's result is not there any more"
    for task in (one, new):
        with pytest.raises(InputError, match="the result of /1932"):
            refuse_replaced([task], earlier, there)
    refuse_replaced([one, replace(other, output="another name")], earlier, there)  # which is made anew there


def test_the_command_loses_no_result_to_a_second_archive(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    for name in ("1931", "1932", "restored"):
        write_photo(tmp_path / name / "a.jpg", np.zeros((24, 24, 3), np.uint8))
    result = str(tmp_path / "restored" / "a.jpg")

    def bulk(name: str, *more: str) -> int:
        options = ["--aligned", "--device", "cpu", "--model", str(model), *more]
        return main(["bulk", str(tmp_path / name), str(tmp_path / "restored"), *options])

    ran(tmp_path / "restored" / "pfr-manifest", recipe(model).choices(), (str(tmp_path / "1931" / "a.jpg"), result))
    assert bulk("1931") == 0 and "1 of 1 were done before" in capsys.readouterr().out
    for more in ("", "--again"):
        assert bulk("1932", *more.split()) == 2
        assert f"{result}: there already, and the result of {tmp_path / '1931' / 'a.jpg'}" in capsys.readouterr().err


def test_results_stay_in_their_folders_though_the_paths_of_a_list_part_elsewhere(tmp_path: Path) -> None:
    now, out, file = choices(), tmp_path / "out", tmp_path / "list.txt"

    def refuse(*paths: str, again: bool = False) -> None:
        file.write_text("\n".join(paths))
        refuse_moved(plan(list_inputs(str(file)), str(out)), look_back(Manifest(str(tmp_path / "m")), now, again), str(out))

    def done(name: str, target: str, **how: Any) -> None:
        ran(tmp_path / "m", now, (name, str(out / target)), **how)

    done("/scans/1931/a.jpg", "a.jpg")
    done("/scans/1931/x/b.jpg", "x/b.jpg", status="failed")
    refuse("/scans/1931/a.jpg", "/scans/1931/x/b.jpg", "/scans/1931/x/c.jpg")
    with pytest.raises(InputError, match=r"/scans/1931/a\.jpg: an earlier run named its result .*out/a\.jpg, .*out/1931/a\.jpg"):
        refuse("/scans/1931/a.jpg", "/scans/1932/a.jpg")
    with pytest.raises(InputError, match=r"x/b\.jpg: an earlier run"):
        refuse("/scans/1931/x/b.jpg")  # the failed one alone
    refuse("/scans/1932/a.jpg")
    refuse("/scans/1931/x/b.jpg", again=True)
    done("/scans/1931/a.jpg", "1931/a.jpg", again=("/scans/1931/a.jpg", "/scans/1931/x/b.jpg"))
    refuse("/scans/1931/a.jpg", "/scans/1931/x/b.jpg", "/scans/1932/a.jpg")  # goes on with what was interrupted
    out = tmp_path / "another"
    refuse("/scans/1931/a.jpg")


def test_a_run_counts_as_the_last_though_the_clock_went_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = choices(strength=1.0)
    for hour, status in ((9, "done"), (8, "failed"), (7, "done")):
        monkeypatch.setattr("time.time", partial(float, 1.7e9 + 3600 * hour))
        ran(tmp_path, now, ("a", "out/a"), again=("a",), status=status)
        assert Manifest(str(tmp_path)).rows()["status"].to_pylist() == [status]
    assert already_done(Manifest(str(tmp_path)), now, False) == {("a", "out/a")}
    ran(tmp_path, choices(strength=0.5))
    assert Manifest(str(tmp_path)).runs()[-1].options == {"strength": 0.5}


def test_a_manifest_holds_each_photograph_once_and_tells_what_is_done(tmp_path: Path) -> None:
    first, now = Manifest(str(tmp_path)), choices(strength=1.0)
    first.begin(now)
    first.add(Row("a", "out/a", "done", faces=2, notices=["x"], model_sha256=now.model_sha256, options_sha256=now.options_sha256))
    first.add(Row("b", "out/b", "failed", error="b: bad"))
    first.flush()
    assert already_done(Manifest(str(tmp_path)), now, False) == {("a", "out/a")}
    second = Manifest(str(tmp_path))
    second.begin(now)
    second.add(Row("b", "out/b", "done", model_sha256=now.model_sha256, options_sha256=now.options_sha256))
    second.flush()
    table = Manifest(str(tmp_path)).rows()
    assert sorted(table["input"].to_pylist()) == ["a", "b"] and set(table["status"].to_pylist()) == {"done"}
    other = choices(strength=0.5)
    with pytest.raises(InputError, match=r"other choices \(strength\).*--again"):
        already_done(Manifest(str(tmp_path)), other, False)
    assert already_done(Manifest(str(tmp_path)), other, True) == already_done(Manifest(str(tmp_path)), now, True) == set()


@pytest.mark.parametrize("memory", [False, True])
def test_a_long_run_leaves_few_parts(memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.bulk.manifest.ROWS", 1)
    monkeypatch.setattr("pfr_core.bulk.manifest.TOGETHER", 3)
    manifest = Manifest("memory://few-parts" if memory else str(tmp_path))
    for name in "abacdef":
        manifest.add(Row(name, f"out/{name}", "done"))
    assert [name[-14:] for name, _ in sorted(places.files_in(manifest.place))] == [
        f"{number:06d}.parquet" for number in (3, 7, 8)
    ]
    assert Manifest(manifest.place).rows()["input"].to_pylist() == [*"bacdef"]


def test_a_report_is_made_while_parts_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.bulk.manifest.ROWS", 1)
    monkeypatch.setattr("pfr_core.bulk.manifest.TOGETHER", 2)
    writing, reads = Manifest(str(tmp_path)), places.read
    writing.add(Row("a", "out/a", "done"))

    def meanwhile(place: str) -> bytes:
        if writing._part == 1:
            writing.add(Row("b", "out/b", "done"))
        return reads(place)

    monkeypatch.setattr(places, "read", meanwhile)
    assert Manifest(str(tmp_path)).rows()["input"].to_pylist() == ["a", "b"]


def test_a_run_that_does_all_again_and_was_interrupted_goes_on(tmp_path: Path) -> None:
    now = choices()
    for names, again in (("abcd", ""), ("a", "abc")):
        run = Manifest(str(tmp_path))
        run.begin(now, [*again])
        for name in names:
            run.add(Row(name, f"out/{name}", "done", model_sha256=now.model_sha256, options_sha256=now.options_sha256))
        run.flush()
    assert already_done(Manifest(str(tmp_path)), now, False) == {("a", "out/a"), ("d", "out/d")}
    assert Manifest(str(tmp_path)).rows().num_rows == 4, "the report has them all"


def test_what_auto_means_is_settled_when_a_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(Setup(), RestoreOptions())
    monkeypatch.setattr("pfr_core.faces.detect.on_disk", lambda name: None)
    before = recipe.choices()
    assert before.options["detector"] == "builtin"
    monkeypatch.setattr("pfr_core.faces.detect.on_disk", lambda name: Path("there"))
    assert recipe.choices().options_sha256 != before.options_sha256


def older(now: Choices, *lacks: str) -> Choices:
    """Return choices as a version noted them that had no such names, nor its own."""
    options = {name: value for name, value in now.options.items() if name not in lacks}
    return Choices(now.model, now.model_sha256, hashlib.sha256(repr(options).encode()).hexdigest(), options)


def begun(manifest: Manifest, now: Choices) -> None:
    """Write a run with one photograph."""
    manifest.begin(now)
    manifest.add(Row("a", "out/a", "done", model_sha256=now.model_sha256, options_sha256=now.options_sha256))
    manifest.flush()


def test_an_archive_of_an_earlier_version_is_gone_on_with_where_the_choices_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = dict(UNNAMED)
    monkeypatch.setattr("pfr_core.resume.sha256_of", lambda path: shipped[f"{path.stem.split('-')[1]}_file"])
    now = Recipe(Setup(detector="builtin"), RestoreOptions()).choices()
    begun(Manifest(str(tmp_path)), older(now, "detector_file", "points_file", "sideways"))
    assert already_done(Manifest(str(tmp_path)), now, False) == {("a", "out/a")}
    other = Recipe(Setup(detector="builtin"), RestoreOptions(sideways=True)).choices()
    with pytest.raises(InputError, match=r"other choices \(sideways\)"):
        already_done(Manifest(str(tmp_path)), other, False)
    for name in UNNAMED:
        shipped |= {**UNNAMED, name: "0" * 64}
        updated = Recipe(Setup(detector="builtin"), RestoreOptions()).choices()
        with pytest.raises(InputError, match=rf"other choices \({name}\)"):
            already_done(Manifest(str(tmp_path)), updated, False)


def test_of_aligned_faces_an_earlier_version_named_a_detector(model: Path, tmp_path: Path) -> None:
    now = recipe(model).choices()
    assert not {"detector", *UNNAMED} & now.options.keys(), "nothing is looked for"
    then = Choices(now.model, now.model_sha256, "2" * 64, {**now.options, "detector": "auto"})
    begun(Manifest(str(tmp_path)), then)
    assert already_done(Manifest(str(tmp_path)), now, False) == {("a", "out/a")}


def test_another_version_is_told_and_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"strength": 1.0}
    first, second = (Choices("tiny", "1" * 64, "3" * 64, options, version) for version in ("0.1.0", "0.2.0"))
    begun(Manifest(str(tmp_path)), first)
    assert already_done(Manifest(str(tmp_path)), second, False) == {("a", "out/a")}
    assert "the last run was of PFR 0.1.0, this is 0.2.0; --again" in caplog.text
    caplog.clear()
    Manifest(str(tmp_path)).begin(second)
    assert already_done(Manifest(str(tmp_path)), second, False) and not caplog.text, "once"


def test_whatever_decides_about_pixels_counts(model: Path) -> None:
    setup = Setup(model=str(model), detector="builtin")
    others: dict[str, Any] = {"model": "default", "detector": "yunet", "dtype": "fp32", "device": "cpu", "batch_size": 4}
    assert others.keys() == specs(Setup).keys()
    now = Recipe(setup, RestoreOptions()).choices()
    counts = {name for name, value in others.items() if _other(now, Recipe(replace(setup, **{name: value}), RestoreOptions()))}
    assert counts == {"model", "detector", "dtype"}
    assert all(name in now.options for name in specs(RestoreOptions))
    changes: list[dict[str, Any]] = [{"aligned": True}, {"quality": 80}, {"provenance": False}]
    assert all(_other(now, Recipe(setup, RestoreOptions(), **change)) for change in changes)


def _other(now: Choices, recipe: Recipe) -> bool:
    return recipe.choices().options_sha256 != now.options_sha256


def test_a_name_that_is_no_utf8_is_done_once(tmp_path: Path) -> None:
    name, now = os.fsdecode(b"M\xfcller.jpg"), choices()
    manifest = Manifest(str(tmp_path))
    manifest.begin(now)
    manifest.add(Row(name, f"out/{name}", "done", notices=[name], model_sha256="1" * 64, options_sha256=now.options_sha256))
    manifest.flush()
    assert Manifest(str(tmp_path)).rows()["input"].to_pylist() == [r"M\udcfcller.jpg"]
    assert already_done(Manifest(str(tmp_path)), now, False) == {(storable(name), storable(f"out/{name}"))}


def test_a_parquet_file_of_other_types_is_no_manifest(tmp_path: Path) -> None:
    rows = {
        "input": ["a"],
        "output": ["b"],
        "status": ["done"],
        "faces": ["two"],
        "changed": ["?"],
        "seconds": ["1"],
        "error": [""],
        "notices": [[""]],
    }
    for table in (pa.table(rows), pa.table({**rows, "faces": [1], "changed": [True], "input": [None]}), pa.table({"input": [1]})):
        pq.write_table(table, tmp_path / "part.parquet")
        with pytest.raises(ImageError, match=r"part\.parquet: no part of a manifest"):
            report(Manifest(str(tmp_path)))


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.begin(choices())
    manifest.add(Row("a", "out/a", "done"))
    manifest.flush()
    (part,) = tmp_path.glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ImageError, match=f"{part.name}: no part of a manifest"):
        Manifest(str(tmp_path)).rows()
    (run,) = tmp_path.glob("*.json")
    run.write_text("{")
    with pytest.raises(ImageError, match=f"{run.name}: not written by pfr bulk"):
        already_done(Manifest(str(tmp_path)), choices(), False)


class Sometimes(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that answers 503 some times, then does its work."""

    protocol, cachable = "s3", False

    def __init__(self, failures: list[Exception]) -> None:
        super().__init__()
        self.failures, self.kept = failures, dict[str, bytes]()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.kept[path] = value


def test_a_store_is_asked_again_but_not_for_what_it_will_never_give(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    store = Sometimes([OSError(16, "Please reduce your request rate"), ConnectionError("reset")])
    monkeypatch.setattr(places, "_store", lambda place: (store, place.removeprefix("s3://")))
    places.write("s3://b/a.jpg", b"picture")
    assert store.kept == {"b/a.jpg": b"picture"} and len(pauses) == 2
    store.failures, refused = (
        [type("Busy", (OSError,), {"status": 429})("Too Many Requests")],
        type("No", (OSError,), {"status": 410}),
    )
    places.write("s3://b/b.jpg", b"picture")
    assert len(pauses) == 3 and pauses.pop()
    store.failures = [refused("Gone")]
    with pytest.raises(ImageError, match="Gone"):
        places.write("s3://b/a.jpg", b"picture")
    store.failures = [PermissionError("Access Denied")]
    with pytest.raises(ImageError, match="Access Denied"):
        places.write("s3://b/a.jpg", b"picture")
    store.failures = [OSError(16, "Slow down")] * 100
    with pytest.raises(ImageError, match="Slow down"):
        places.write("s3://b/a.jpg", b"picture")
    assert len(pauses) == 2 + places.TRIES - 1
    store.failures = [type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")]
    with pytest.raises(ImageError, match="no credentials"):
        places.write("s3://b/a.jpg", b"picture")


@pytest.mark.parametrize("one_put", [True, False])
def test_a_store_gives_back_what_it_was_given_and_holds_nothing_else(one_put: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ONE_PUT", places.ONE_PUT if one_put else frozenset[str]())
    folder = f"memory://archive-{one_put}"
    places.write(f"{folder}/1931/a.jpg", b"picture")
    places.write(f"{folder}/1931/a.jpg", b"another")
    assert list(places.files_in(folder)) == [("1931/a.jpg", f"{folder}/1931/a.jpg")]
    assert places.read(f"{folder}/1931/a.jpg") == b"another"
    assert places.exists(f"{folder}/1931/a.jpg") and not places.exists(f"{folder}/1931")
    with pytest.raises(ImageError, match=r"b\.jpg: there is no such file"):
        places.read(f"{folder}/b.jpg")
    places.write(f"{folder}/a::s3://b.jpg", b"a name like others")
    assert places.read(f"{folder}/a::s3://b.jpg") == b"a name like others"


class OfSMB(OSError):
    """What SMB says, of a name that is taken and of a file that is not there: no error of Python's own."""


class NoReplacing(MemoryFileSystem):  # type: ignore[misc]
    """A store that renames over no file: it refuses, as SMB does, or says nothing, as WebHDFS does."""

    cachable = False

    def __init__(self, refuses: bool) -> None:
        super().__init__()
        self.store, self.pseudo_dirs = dict[str, Any](), [""]
        self.protocol = "smb" if refuses else "webhdfs"
        self.refuses, self.renames, self.broken = refuses, True, False

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        if self.renames and path2 not in self.store:
            self.store[path2] = self.store.pop(path1)
        elif self.refuses:
            raise OfSMB(errno.EEXIST, "there already")

    def info(self, path: str, **_: Any) -> Any:
        if self.broken:
            raise ConnectionError("reset")
        try:
            return super().info(path)
        except FileNotFoundError as error:
            raise (OfSMB(errno.ENOENT, path) if self.refuses else error) from None


@pytest.mark.parametrize("refuses", [True, False])
def test_a_store_that_does_not_rename_over_a_file_gets_the_new_one(refuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    store = NoReplacing(refuses)
    monkeypatch.setattr(places, "_store", lambda place: (store, place.removeprefix("smb://host")))
    for data in (b"picture", b"another"):  # of the same size
        places.write("smb://host/share/a.jpg", data)
        assert places.read("smb://host/share/a.jpg") == data and store.find("/share") == ["/share/a.jpg"]
    assert not pauses and places.exists("smb://host/share/a.jpg") and not places.exists("smb://host/share/b.jpg")
    store.renames = False
    with pytest.raises(ImageError, match=r"b\.jpg: cannot be written"):
        places.write("smb://host/share/b.jpg", b"picture")
    assert store.find("/share") == ["/share/a.jpg"] and len(pauses) == places.TRIES - 1


def test_a_store_that_cannot_be_asked_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    store = NoReplacing(True)
    store.broken = True
    monkeypatch.setattr(places, "_store", lambda place: (store, place.removeprefix("smb://host")))
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be asked for \(reset\)"):
        places.exists("smb://host/share/a.jpg")
    assert len(pauses) == places.TRIES - 1


def test_parts_that_cannot_become_one_end_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.bulk.manifest.ROWS", 1)
    monkeypatch.setattr("pfr_core.bulk.manifest.TOGETHER", 2)
    written = places.write

    def fails(place: str, data: bytes) -> None:
        if place.endswith("000002.parquet"):
            raise ImageError(f"{place}: cannot be written")
        written(place, data)

    manifest = Manifest(str(tmp_path))
    manifest.add(Row("a", "out/a", "done"))
    monkeypatch.setattr(places, "write", fails)
    manifest.add(Row("b", "out/b", "done"))
    assert Manifest(str(tmp_path)).rows()["input"].to_pylist() == ["a", "b"]
    monkeypatch.setattr(places, "write", written)
    manifest.add(Row("c", "out/c", "done"))
    assert Manifest(str(tmp_path)).rows()["input"].to_pylist() == ["a", "b", "c"]


def test_one_photograph_is_an_input_too(photos: Path) -> None:
    assert list_inputs(str(photos / "a.jpg")) == [(str(photos / "a.jpg"), "a.jpg")]


@pytest.mark.parametrize("words", ["--strength 0.5", "--manifest s3://b/m", "--aligned", "--provenance", "--actors 2"])
def test_a_report_refuses_what_it_has_no_use_for(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bulk", "report", str(tmp_path), *words.split()])
    assert f"there is no option {words.split()[0]}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["bulk", str(tmp_path), str(tmp_path / "out"), "--html", "a.html"])
    assert "there is no option --html" in capsys.readouterr().err


def test_only_the_first_word_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    parse = build_parser().parse_args
    assert parse(["bulk", "./report", "out"]).input == "./report" and parse(["bulk", "in", "report"]).output == "report"
    assert parse(["bulk", "report", "m"]).manifest == "m"
    with pytest.raises(SystemExit, match="0"):
        parse(["bulk", "report", "--help"])
    assert "MANIFEST" in (told := capsys.readouterr().out) and "--html" in told and "--strength" not in told


def test_unknown_places_are_named() -> None:
    with pytest.raises(InputError, match="nowhere://a"):
        list_inputs("nowhere://a")
    with pytest.raises(InputError, match="no such folder"):
        list_inputs("/no/such/folder")


def test_a_report_counts_and_shows(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest(str(tmp_path / "manifest"))
    for row in restored(plan(list_inputs(str(photos)), str(tmp_path / "out")), recipe(model)):
        manifest.add(row)
    manifest.flush()
    figures = report(Manifest(manifest.place))
    assert figures.counts == {"done": 4, "failed": 1} and len(figures.slowest) == 5
    ((kind, count),) = figures.errors
    assert count == 1 and kind.startswith("not a picture")
    assert page(figures).count("data:image/jpeg") == 2 * 4
    assert main(["bulk", "report", manifest.place, "--html", str(tmp_path / "page.html")]) == 0
    assert "4 done" in capsys.readouterr().out and (tmp_path / "page.html").is_file()
    assert main(["bulk", "report", str(tmp_path / "nothing")]) == 2


def test_a_report_counts_photographs_with_a_notice_by_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pytest.importorskip("pfr_core.bulk.run")
    manifest, summary = Manifest(str(tmp_path)), run.Summary(Counter(), 0, 2.0)
    for place, name in (("/in/a.jpg", "/in/a.jpg"), ("s3://in/b.jpg", "b.jpg")):  # as it is called in reading
        out = place.replace("in", "out")
        magnified = [f"face {number} is much larger than the model ({number}.5 times)" for number in range(2)]
        kept = f"{Path(out)}: not kept in this JPEG file: XMP."
        converted = f"{name}: CMYK is converted to sRGB; the output will be RGB."
        row = Row(place, out, "done", 2, notices=[converted, *magnified, kept])
        manifest.add(row)
        summary.add(row)
    for row in (Row("/in/c.jpg", "/out/c.jpg", "done"), Row("/in/d.jpg", "/out/d.jpg", "failed", error="/in/d.jpg: bad")):
        manifest.add(row)
        summary.add(row)
    manifest.flush()
    figures = report(Manifest(manifest.place))
    assert dict(figures.notices) == {
        "CMYK is converted to sRGB; the output will be RGB.": 2,
        "face N is much larger than the model": 2,
        "not kept in this JPEG file: XMP.": 2,
    }
    assert main(["bulk", "report", manifest.place]) == 0
    for told in (capsys.readouterr().out, page(figures)):
        assert "1 x bad" in told and "2 x notice: CMYK is converted" in told
    assert summary.result(4).startswith("3 of 4 done, 1 failed, 4 faces, 2 with notices (pfr bulk report), 2 s, 2.00 ")


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_does_not_answer_is_named_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pytest.importorskip("pfr_core.bulk.run")
    monkeypatch.setattr(run.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(run.ray, "init", lambda **_: pytest.fail("Ray would wait for minutes"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        cluster = run.Cluster(address.format(taken.getsockname()[1]))
        with pytest.raises(InputError, match=r"--address .*127.*: no Ray cluster to work on \(.*refused"):
            run.connect(cluster, on_cpu=True)


def test_a_line_tells_how_far_the_job_is() -> None:
    run = pytest.importorskip("pfr_core.bulk.run")
    summary = run.Summary(Counter(done=29, failed=1), 40, 60.0)
    assert summary.progress(1830) == "30 of 1830, 0.50 a second, 1:00:00 left, 40 faces, 1 failed"


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import pfr_core.bulk

    monkeypatch.setattr(pfr_core.bulk, "find_spec", lambda name: None if name == "ray" else object())
    assert main(["bulk", "in", "out"]) == 2
    assert 'pip install "ray[data]" fsspec pyarrow' in capsys.readouterr().err


def test_a_photograph_that_cannot_be_written_counts_no_faces() -> None:
    failed = Job(Task("a.png", "b.png"), Row("a.png", "b.png", "done", faces=2, changed=True)).failure(OSError("no room")).row
    assert (failed.status, failed.faces, failed.changed) == ("failed", 0, False) and "no room" in failed.error
