"""``pfr restore`` and bad input: it is named, the rest is done, nothing half-done stays behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pfr_core import PhotoSession
from pfr_core.cli import build_parser, main
from pfr_core.cli.common import tell
from pfr_core.cli.inputs import plan_outputs
from pfr_core.network.face_model import FaceModel
from pfr_core.photo.write import write_photo
from pfr_core.support.notice import Notice

from .command import ROOT, Code, files, pfr, photo, pixels, refused, start


def test_bad_files_are_named_and_the_rest_is_done(
    tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    good = [photo(tmp_path / "first.png"), photo(tmp_path / "last.png")]
    whole = photo(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "whole.jpg").unlink()
    contents = {"empty.png": b"", "cut.jpg": whole[: len(whole) // 2], "text.png": b"hello", "notes.txt": b"hello"}
    bad = {tmp_path / name: "" for name in (*contents, "missing.png", "missing")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("moving.gif", "moving.png", "moving.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        bad[tmp_path / name] = "moving picture"
    bad[photo(tmp_path / "wide.png", 20000, 300)] = "square"
    bad |= {tmp_path / "empty.png": "empty", tmp_path / "missing": "no such file", tmp_path / "notes.txt": "not a picture"}

    assert restore(good[0], *bad, good[1], "-o", tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["first.png", "last.png"]
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert len(lines) == len(bad) and "Traceback" not in error
    for line, (path, words) in zip(lines, bad.items(), strict=True):
        assert f"{path}:" in line and words in line
    assert f"2 of {len(bad) + 2} done, {len(bad)} failed" in error


def test_input_is_output(tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "in" / "a.png")
    other = photo(tmp_path / "other" / "in" / "a.png", seed=1)
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    runs: list[tuple[object, ...]] = [
        (source, "-o", source),
        (source, "-o", tmp_path / "in"),
        (tmp_path / "in", "-o", tmp_path / "in"),
        (source, "-o", tmp_path / "link.png"),
        (source, "-o", tmp_path / "out", "--compare", source),
        (tmp_path / "other", source, "-o", tmp_path),  # other/in/a.png would become in/a.png, an input too
    ]
    for run in runs:
        refused(capsys, restore(*run, "--overwrite"), source, "same file", "another output")
    assert source.read_bytes() == before and other.exists()
    assert files(tmp_path) == ["in/a.png", "link.png", "other/in/a.png"]


def test_an_output_that_is_an_input_by_another_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, same = photo(tmp_path / "IMG.JPG"), tmp_path / "img.jpg"
    same.hardlink_to(original)  # as these two names are on some disks
    before = original.read_bytes()
    assert main(["degrade", str(original), "-o", str(same)]) != 0
    assert "same file" in capsys.readouterr().err and same.read_bytes() == before


def test_outputs_that_differ_in_case_collide_on_some_disks(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [photo(tmp_path / "x" / "a.png"), photo(tmp_path / "y" / "A.png")]
    monkeypatch.setattr("pfr_core.support.files.ignores_case", lambda folder: True)
    refused(capsys, restore(*sources, "-o", tmp_path / "out"), "would both be written")


def test_outputs_that_would_collide(tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    sources = [photo(tmp_path / "x" / "a.png"), photo(tmp_path / "y" / "a.png")]
    refused(capsys, restore(*sources, "-o", tmp_path / "out"), *sources, "both be written")
    refused(capsys, restore(*sources, "-o", tmp_path / "out.png"), "out.png", "name a folder")
    refused(capsys, restore(tmp_path / "*.png", "-o", tmp_path / "out"), "*.png", "no file matches")
    (tmp_path / "none").mkdir()
    refused(capsys, restore(tmp_path / "none", "-o", tmp_path / "out"), tmp_path / "none", "no image", ".png")
    assert files(tmp_path) == ["x/a.png", "y/a.png"]


def test_places_that_cannot_be_written(tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    places = [tmp_path / "file", tmp_path / "file" / "deep"]
    if Path("/proc").is_dir():
        places.append(Path("/proc/photos"))  # not even root can make it
    for place in places:
        refused(capsys, restore(source, "-o", place), place / "a.png", "cannot be written", "check the output path")
    refused(capsys, restore(source, "-o", tmp_path / "out" / "a.gif"), "a.gif", ".png")
    assert files(tmp_path) == ["a.png", "file"]


@pytest.mark.parametrize("command", ["restore", "degrade", "detect"])
def test_what_ends_like_another_file_is_no_folder(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pfr_core.cli.restore.fetch_models", None)  # it is refused before
    source, option = photo(tmp_path / "a.png"), "--annotate" if command == "detect" else "-o"
    for name in ("q.txt", "out.zip", "faces.JSON", "a.tar.gz", "sound.mp3"):
        refused(capsys, pfr(command, source, option, tmp_path / name), tmp_path / name, ".jpg", ".png", ".mp4", "or a folder")
    assert files(tmp_path) == ["a.png"] and not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", ["scan.2024", "v1.5", "album.old", "plain", ".hidden", "there.txt"])
def test_a_folder_may_have_a_dot(name: str, tmp_path: Path) -> None:
    (tmp_path / "there.txt").mkdir()
    source = photo(tmp_path / "a.png")
    assert plan_outputs([(source, Path("a.png"))], tmp_path / name) == [(source, tmp_path / name / "a.png")]


@pytest.mark.slow
def test_full_disk(tmp_path: Path, model: Path) -> None:
    source = tmp_path / "a.png"
    write_photo(source, np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))"
    target = tmp_path / "out" / "b.png"
    process = start("restore", "--aligned", source, "-o", target, "--model", model, "--device", "cpu", before=limit)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in error and f"{target}: cannot be written" in error and "free some space" in error
    assert files(tmp_path) == ["a.png"]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_behind_a_standard_stream(tmp_path: Path, model: Path) -> None:
    """Where output goes, and where what comes in is kept."""
    source = photo(tmp_path / "a.png")
    restored = f"{sys.executable} -m pfr_core restore --aligned --device cpu --model {model}"
    for command, words in (
        (f"{restored} {source} -o - > /dev/full", "standard output cannot be written (No space left"),
        (f"{sys.executable} -m pfr_core weights list > /dev/full", "standard output cannot be written (No space left"),
        (f"ulimit -f 0; {restored} - -o {tmp_path}/b.png < {source}", "-: cannot be kept in the folder for temporary files"),
    ):
        ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 1 and ended.stderr.splitlines()[-1].startswith(f"error: {words}")
        assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    closed = subprocess.run(
        ["bash", "-c", f"{restored} {source} -o {tmp_path}/c.png >&-"], cwd=ROOT, capture_output=True, check=False
    )
    assert closed.returncode == 0 and not closed.stderr
    assert files(tmp_path) == ["a.png", "c.png"]


@pytest.mark.parametrize(("number", "errors"), [(errno.ENOSPC, 1), (errno.EROFS, 1), (errno.EACCES, 3), (errno.EFBIG, 3)])
def test_a_disk_that_takes_nothing_ends_the_run(
    number: int,
    errors: int,
    tmp_path: Path,
    restore: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is wrong with one file's size or rights does not."""
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.png")

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("error:") == error.count("cannot be written") == errors
    assert ("the rest was not begun" if errors == 1 else "0 of 3 done, 3 failed") in error
    assert not files(tmp_path / "out")


def test_models_that_cannot_be_used(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, marker = photo(tmp_path / "a.png"), tmp_path / "code-has-run"
    truncated, foreign, pickled = tmp_path / "cut.safetensors", tmp_path / "other.safetensors", tmp_path / "evil.pth"
    truncated.write_bytes(model.read_bytes()[:-100])
    save_file({"body.weight": torch.zeros(3, 3)}, foreign)
    torch.save({"g_ema": Code(marker)}, pickled)
    there = files(tmp_path)
    for path, words in {
        Path("no-such-model"): "default",
        truncated: "again",
        foreign: "no face restoration network",
        pickled: "safetensors",
        source: ".safetensors",
    }.items():
        refused(capsys, pfr("restore", "--aligned", source, "-o", tmp_path / "b.png", "--model", path), path, words)
        refused(capsys, pfr("info", path), path, words)
    assert not marker.exists() and files(tmp_path) == there


def test_a_preset_is_no_model_and_a_misspelt_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png")
    for model, words in (("pfr-256-lite", "a network without weights"), ("gfpgan1.4", "Did you mean gfpgan-1.4?")):
        status = pfr("restore", "--aligned", source, "-o", tmp_path / "b.png", "--model", model, "--device", "cpu")
        assert status == (2 if "lite" in model else 1)
        refused(capsys, status, words)
    assert files(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--strenght", "0.5"], "there is no option --strenght; did you mean --strength?"),
        (["--ouput=x.png"], "there is no option --ouput; did you mean --output?"),
        (["--", "--strenght"], "required"),
    ],
)
def test_a_misspelt_option_is_told_in_one_line_with_what_is_near(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["restore", "a.png", *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and told in said and "restore --help" in said and said.count("\n") == 2


def test_a_missing_photo_is_told_whosever_result_stands_there(
    tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "b.png")
    assert restore(tmp_path / "old.png", "-o", tmp_path / "b.png") == 1
    assert "old.png: there is no such file" in capsys.readouterr().err


def test_addresses_are_not_taken_for_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = pfr("restore", "https://example.org/a.jpg", "-o", tmp_path / "a.jpg")
    refused(capsys, status, "https://example.org/a.jpg: addresses are not fetched")


def test_usage_errors_exit_with_2(tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    sources = [photo(tmp_path / "a.png"), photo(tmp_path / "b.png")]
    for words, *arguments in (
        ("strength", "--strength", 1.5),
        ("strength", "--strength", "much"),
        ("mask", "--mask", "star"),
        ("count", "--select", "largest", "--count", 2),
        ("nosuch", "--nosuch"),
        ("--quality", "--quality", 0),
        ("--quality has no effect", "--quality", 80),
        ("--mask has no effect", "--mask", "oval"),
        ("--threshold has no effect", "--threshold", 0.5),
        ("--threshold has no effect", "--threshold", 0.8),  # typed, though it is the default
        ("--detector has no effect", "--detector", "retinaface_resnet50"),
        ("--detector has no effect", "--detector", "auto"),
        ("--background", "--background", sources[0]),
        ("batch_size", "--batch-size", 0),
        ("nonsense", "--device", "nonsense"),
    ):
        status = restore(*sources, "-o", tmp_path / "out", *arguments)
        assert status == 2, arguments
        refused(capsys, status, words)
    assert restore(*sources) == 2, "no output named"
    assert pfr() == 2
    assert files(tmp_path) == ["a.png", "b.png"]


def test_weights_that_cannot_be_had_end_the_run(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_OFFLINE", "1")
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("PFR_WEIGHTS_DIR", raising=False)
    sources = [photo(tmp_path / f"{name}.png") for name in "abc"]
    status = pfr("restore", *sources, "-o", tmp_path / "out", "--model", model, "--detector", "retinaface_mobile0.25")
    refused(capsys, status, "detection_mobilenet0.25_Final.pth", "PFR_WEIGHTS_DIR")  # once, not once a photo
    assert not (tmp_path / "out").exists()


def test_a_photo_too_large_for_the_memory_does_not_stop_the_rest(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = photo(tmp_path / "small.png"), photo(tmp_path / "large.png", 64, 64)
    real = PhotoSession.restore

    def out_of_memory(self: PhotoSession[Any, Any], *arguments: Any, **keywords: Any) -> Any:
        if self.pixels.shape[0] == 64:
            raise MemoryError("Unable to allocate 90 GiB")
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(PhotoSession, "restore", out_of_memory)
    refused(capsys, restore(large, small, "-o", tmp_path / "out"), large, "not enough memory", "scale the picture down")
    assert files(tmp_path / "out") == ["small.png"]


def test_a_photo_that_the_model_gives_no_numbers_for_does_not_stop_the_rest(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, white = FaceModel.restore, tmp_path / "a.png"
    Image.new("RGB", (40, 40), "white").save(white)
    monkeypatch.setattr(FaceModel, "restore", lambda self, crops: real(self, crops) + (torch.nan if crops.min() > 0.99 else 0))
    refused(capsys, restore(white, photo(tmp_path / "b.png"), "-o", tmp_path / "out"), f"{white}: ", "NaN")
    assert files(tmp_path / "out") == ["b.png"]


def test_each_notice_begins_with_its_file(tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With many photographs, in several processes perhaps, nobody could tell otherwise which one it is about."""
    for name in "ab":
        shutil.copy(ROOT / "examples" / "degraded.jpg", tmp_path / f"{name}.jpg")
    finding = ("--device", "cpu", "--detector", "builtin", "--model", model)
    assert pfr("restore", tmp_path / "a.jpg", tmp_path / "b.jpg", "-o", tmp_path / "out", *finding) == 0
    said = [text for text in caplog.messages if "is pasted" in text]
    assert [text.partition(": a face of ")[0] for text in said] == [str(tmp_path / f"{name}.jpg") for name in "ab"]


def test_a_notice_that_names_a_file_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["small", "a.png: cut", "b.bmp: not kept", "c.png: another's"]
    tell([Notice("mended", text) for text in texts], Path("a.png"), Path("b.bmp"))
    assert caplog.messages == ["a.png: small", *texts[1:3], "a.png: c.png: another's"]


def test_too_little_memory_is_said_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise MemoryError("Failed to allocate 90 GiB")

    monkeypatch.setattr("pfr_core.cli.compare.read_photo", full)
    status = main(["compare", str(tmp_path / "a.png"), "--models", "default", "-o", str(tmp_path / "b.png")])
    assert status == 1 and "error: not enough memory (Failed to allocate 90 GiB)" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_run(tmp_path: Path, model: Path) -> None:
    first = photo(tmp_path / "in" / "0000.png", 300, 300)
    for i in range(1, 600):
        os.link(first, first.with_name(f"{i:04}.png"))
    out = tmp_path / "out"
    process = start("restore", "--aligned", tmp_path / "in", "-o", out, "--model", model, "--device", "cpu")
    while len(list(out.glob("*.png"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in error and "Traceback" not in error
    done = files(out)
    assert 2 <= len(done) < 600 and done == files(tmp_path / "in")[: len(done)]
    assert all(pixels(out / name).shape == (300, 300, 3) for name in done)
