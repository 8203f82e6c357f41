"""The ``pfr`` command: what goes in comes out, bad input is named, nothing half-done stays behind."""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import http.server
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from safetensors.torch import save_file

import pfr_core
from pfr_core import PFR, Degradation, PFRConfig, PhotoSession, RestoreOptions, load_model, save_model
from pfr_core.cli import build_parser, main
from pfr_core.cli.common import tell
from pfr_core.cli.inputs import plan_outputs
from pfr_core.degradation import bicubic_downsample
from pfr_core.models.disk import on_disk
from pfr_core.models.registry import REGISTRY
from pfr_core.network.face_model import FaceModel
from pfr_core.photo.photo import Photo
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo
from pfr_core.support.notice import Notice

ROOT = Path(__file__).resolve().parents[2]
SIZE = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network with random weights: it changes every photo."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=SIZE, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={"test": True}, licence="none")
    return path


@pytest.fixture
def restore(model: Path) -> Callable[..., int]:
    """``pfr restore`` of aligned faces, which needs no detector."""
    return functools.partial(pfr, "restore", "--aligned", "--device", "cpu", "--model", model)


def pfr(*arguments: object) -> int:
    """Run the command in this process; the exit status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def start(*arguments: object, before: str = "") -> subprocess.Popen[str]:
    """``python -m pfr_core`` in a process of its own, without standard input; ``before`` runs first in it."""
    code = f"{before}; import runpy; runpy.run_module('pfr_core', run_name='__main__', alter_sys=True)"
    command = [sys.executable, *(("-c", code) if before else ("-m", "pfr_core")), *map(str, arguments)]
    shell = ["sh", "-c", 'exec "$@" <&-', "sh"]
    return subprocess.Popen(
        [*shell, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit that it is ignored
    )  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], status: int, *words: object) -> None:
    """Check that the command ended properly and said one thing: one error, with these words in it."""
    error = capsys.readouterr().err
    assert status in (1, 2)
    assert error.count("error:") == 1 and "Traceback" not in error
    for word in words:
        assert str(word) in error


def photo(path: Path, width: int = 40, height: int = 40, seed: int = 0, mode: str = "RGB", **save: Any) -> Path:
    """Return a smooth picture; square ones pass for aligned faces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path, **save)
    return path


def files(folder: Path) -> list[str]:
    """Everything in a folder, temporary files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    return read_photo(path).pixels


# --- restore: where results go, and what they keep --------------------------------------------------------------------


@pytest.mark.slow
def test_file_to_file_in_a_process_without_stdin(tmp_path: Path, model: Path) -> None:
    source, target = photo(tmp_path / "a.png"), tmp_path / "new" / "b.png"
    process = start("restore", "--aligned", source, "-o", target, "--model", model, "--device", "cpu")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert error == ""
    assert pixels(target).shape == (40, 40, 3)
    assert not np.array_equal(pixels(target), pixels(source))
    assert files(tmp_path) == ["a.png", "new/b.png"]


class Standard:
    """Stands for a standard stream of bytes."""

    def __init__(self, data: bytes = b"", terminal: bool = False) -> None:
        self.buffer, self.isatty = io.BytesIO(data), lambda: terminal

    def flush(self) -> None: ...


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".png", "PNG"), (".gif", "PNG"), (".tif", "TIFF")])
def test_a_pipe_gives_what_a_file_gives(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, suffix: str, kind: str
) -> None:
    source = photo(tmp_path / f"a{suffix}")
    assert restore(source, "-o", tmp_path / "out") == 0
    expected = (tmp_path / "out" / f"a{'.png' if suffix == '.gif' else suffix}").read_bytes()
    out = Standard()
    monkeypatch.setattr(sys, "stdin", Standard(source.read_bytes()))
    monkeypatch.setattr(sys, "stdout", out)
    assert restore("-", "-o", "-") == 0
    assert out.buffer.getvalue() == expected
    with Image.open(io.BytesIO(expected)) as image:
        assert image.format == kind


def test_what_a_pipe_cannot_do_is_said(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    refused(capsys, restore(one, two, "-o", "-"), "-o -", "name a folder")
    refused(capsys, pfr("detect", "-"), "-: only 'pfr restore' reads standard input")
    for stream, word in ((Standard(), "nothing came"), (Standard(b"no picture"), "not a picture"), (None, "no standard input")):
        monkeypatch.setattr(sys, "stdin", stream)
        refused(capsys, restore("-", "-o", tmp_path / "c.png"), word)
    shown = Standard(terminal=True)
    monkeypatch.setattr(sys, "stdout", shown)
    assert restore(one, "-o", "-") == 2
    assert not shown.buffer.getvalue()


def test_a_pattern_goes_to_a_pipe_if_it_matches_one_photograph(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    refused(capsys, restore(tmp_path / "*.png", "-o", "-"), "-o -", "name a folder")
    out = Standard()
    monkeypatch.setattr(sys, "stdout", out)
    assert restore(tmp_path / "a*.png", "-o", "-") == 0 and out.buffer.getvalue().startswith(b"\x89PNG")
    photo(tmp_path / "nest" / "deep" / "c.png")
    out.buffer = io.BytesIO()
    assert restore(tmp_path / "nest", "-o", "-") == 0 and out.buffer.getvalue().startswith(b"\x89PNG")


def test_a_pattern_leaves_out_what_the_last_run_made(tmp_path: Path, restore: Callable[..., int]) -> None:
    photo(tmp_path / "album" / "deep" / "a.png")
    for _ in range(2):
        assert restore(tmp_path / "album" / "**" / "*.png", "-o", tmp_path / "album" / "restored") == 0
    assert files(tmp_path) == ["album/deep/a.png", "album/restored/a.png"]
    assert restore(tmp_path / "album" / "deep" / "*.png", "-o", tmp_path) == 0, "above what the pattern looks at"
    assert pfr("detect", tmp_path / "*.png", "--annotate", tmp_path) == 0, "where it looks"


def test_a_missing_picture_before_and_after_is_told(
    tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "in" / "a.png")
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 0
    command = (tmp_path / "in", "-o", tmp_path / "out", "--compare", tmp_path / "pairs")
    assert restore(*command) == 0
    assert "1 of them without their picture before | after; --overwrite makes both" in capsys.readouterr().out
    assert restore(*command, "--overwrite") == 0 and (tmp_path / "pairs" / "a.png_before_after.png").is_file()
    capsys.readouterr()
    assert restore(*command) == 0 and "without their picture" not in capsys.readouterr().out


def test_a_format_for_the_results_in_a_folder(
    tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A BMP with transparency has no other way; what exists in another ending is no result."""
    photo(tmp_path / "in" / "a.jpg")
    rgba = photo(tmp_path / "in" / "b.png", mode="RGBA")
    transparent = Image.open(rgba)
    transparent.putpixel((0, 0), (1, 2, 3, 4))
    transparent.save(tmp_path / "in" / "b.webp", lossless=True)
    (tmp_path / "in" / "b.webp").rename(tmp_path / "in" / "c.jpg")
    rgba.unlink()
    out = tmp_path / "out"
    assert restore(tmp_path / "in", "-o", out) == 1
    assert "c.jpg: a .jpg file cannot hold its transparency; --format png can." in capsys.readouterr().err
    assert files(out) == ["a.jpg"]
    assert restore(tmp_path / "in", "-o", tmp_path / "same", "--strength", 0) == 0, "a copy holds it"
    assert (tmp_path / "same" / "c.jpg").read_bytes() == (tmp_path / "in" / "c.jpg").read_bytes()
    assert restore(tmp_path / "in", "-o", tmp_path / "bmp", "--strength", 0, "--format", "bmp") == 1
    assert "c.jpg: a .bmp file cannot hold its transparency; --format png can." in capsys.readouterr().err
    assert restore(tmp_path / "in", "-o", out, "--format", "png") == 0
    assert files(out) == ["a.jpg", "a.png", "c.png"]
    assert pixels(out / "c.png")[0, 0, 3] == 4
    refused(capsys, restore(tmp_path / "in" / "a.jpg", "-o", tmp_path / "b.png", "--format", "png"), "--format has no effect")
    tif = photo(tmp_path / "more" / "a.tif")
    refused(capsys, restore(tmp_path / "in" / "a.jpg", tif, "-o", out, "--format", "png"), "would both be written to")
    photo(tmp_path / "in" / "a.png", seed=1)
    both = tmp_path / "both"
    assert restore(tmp_path / "in", "-o", both, "--format", "png") == 0
    assert files(both) == ["a.jpg.png", "a.png", "c.png"], "what another has by its own name is its"
    assert np.array_equal(pixels(both / "a.jpg.png"), pixels(out / "a.png"))
    (both / "a.jpg.png").replace(both / "a.png")  # as it was before there was an a.png
    assert restore(tmp_path / "in", "-o", both, "--format", "png") == 0
    assert np.array_equal(pixels(both / "a.jpg.png"), pixels(out / "a.png"))
    assert not np.array_equal(pixels(both / "a.png"), pixels(both / "a.jpg.png"))


def test_an_index_that_no_face_has_is_an_error_of_detect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png")
    refused(
        capsys, pfr("detect", source, "--device", "cpu", "--select", "index", "--indices", 9), source, "no face 9 ", "the 0 found"
    )


def test_restore_names_a_photo_that_has_other_faces_than_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A photo without any face passes through, as ever; one with faces, none of which is restored, would look as if it were."""
    faceless, out = photo(tmp_path / "a.png"), tmp_path / "out"
    with_face = ROOT / "examples" / "degraded.jpg"
    arguments = ("--device", "cpu", "--detector", "builtin", "--select", "index", "--indices", 9)
    refused(capsys, pfr("restore", with_face, "-o", out, *arguments), "degraded.jpg", "no face 9 ", "the 1 found")
    assert not out.exists()
    assert pfr("restore", faceless, "-o", out, *arguments) == 0
    assert (out / "a.png").read_bytes() == faceless.read_bytes() and "no face 9 " in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    command = [sys.executable, "-m", "pfr_core", "weights", "list"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as `head` does
    assert (process.stderr.read(), process.wait()) == ("", 141)


def test_file_to_folder_keeps_the_format(tmp_path: Path, restore: Callable[..., int]) -> None:
    names = ["a.png", "b.jpg", "c.webp", "d.tif", "e.bmp"]
    sources = [photo(tmp_path / name) for name in names]
    assert restore(*sources, "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == names
    assert [Image.open(tmp_path / "out" / name).format for name in names] == ["PNG", "JPEG", "WEBP", "TIFF", "BMP"]


def test_a_folder_keeps_its_tree_and_other_files_are_left_out(tmp_path: Path, restore: Callable[..., int]) -> None:
    for name in ("in/a.png", "in/deep/er/a.png"):
        photo(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("not a photo")
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["a.png", "deep/er/a.png"]


def test_a_gif_becomes_a_png_and_what_is_made_beside_it_keeps_its_name(tmp_path: Path) -> None:
    inputs = [(tmp_path / name, Path(name)) for name in ("a.gif", "b.gif", "b.png")]
    out = tmp_path / "out"
    assert [target.name for _, target in plan_outputs(inputs, out)] == ["a.png", "b.gif.png", "b.png"]
    pictures = [target.name for _, target in plan_outputs(inputs, out, "_faces.png")]
    assert pictures == ["a.gif_faces.png", "b.gif_faces.png", "b.png_faces.png"]


def test_a_photograph_may_be_named_as_numbered_pictures_are(tmp_path: Path, restore: Callable[..., int]) -> None:
    for name in ("in/IMG%04d.png", "in/a.png"):
        photo(tmp_path / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["IMG%04d.png", "a.png"]


def test_globs(tmp_path: Path, restore: Callable[..., int]) -> None:
    for name in ("a1.png", "a2.png", "b.png", "[a].png"):
        photo(tmp_path / name)
    assert restore(tmp_path / "a?.png", "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["a1.png", "a2.png"]
    assert restore(tmp_path / "[a].png", "-o", tmp_path / "out") == 0, "a file of that very name is no pattern"
    assert "[a].png" in files(tmp_path / "out")


def test_results_inside_the_input_folder_are_not_taken_for_photos(tmp_path: Path, restore: Callable[..., int]) -> None:
    photo(tmp_path / "a.png")
    for _ in range(2):
        assert restore(tmp_path, "-o", tmp_path / "out", "--compare", tmp_path / "pairs") == 0
    assert files(tmp_path) == ["a.png", "out/a.png", "pairs/a.png_before_after.png"]


def test_depth_alpha_exif_and_profile_survive(tmp_path: Path, restore: Callable[..., int]) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (40, 40, 4), dtype=np.uint16)
    write_photo(tmp_path / "deep.png", deep)
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo(tmp_path / "me.jpg", exif=exif, icc_profile=profile)
    assert restore(tmp_path / "deep.png", tmp_path / "me.jpg", "-o", tmp_path / "out") == 0
    result = pixels(tmp_path / "out" / "deep.png")
    assert result.dtype == np.uint16 and np.array_equal(result[..., 3], deep[..., 3])
    assert not np.array_equal(result, deep)
    image = Image.open(tmp_path / "out" / "me.jpg")
    assert image.getexif()[0x010F] == "Camera" and image.info["icc_profile"] == profile


@pytest.mark.parametrize(("source", "target"), [("a.jpg", "b.jpg"), ("a.jpeg", "b.JPG"), ("a.tif", "b.tiff")])
def test_an_unchanged_photo_is_copied_byte_for_byte(
    tmp_path: Path, restore: Callable[..., int], source: str, target: str
) -> None:
    photo(tmp_path / source)
    assert restore(tmp_path / source, "-o", tmp_path / target, "--strength", 0) == 0
    assert (tmp_path / target).read_bytes() == (tmp_path / source).read_bytes()


@pytest.mark.shared
def test_a_photo_without_a_face_is_copied_byte_for_byte(
    tmp_path: Path, model: Path, shared_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(shared_dir / "weights"))
    white = shared_dir / "data" / "wild" / "whole" / "faceapi__images__white.png"
    others = [photo(tmp_path / "dot.png", 1, 1), photo(tmp_path / "wide.jpg", 20000, 300)]
    assert pfr("restore", white, *others, "-o", tmp_path / "out", "--model", model, "--verbose") == 0
    for source in (white, *others):
        assert (tmp_path / "out" / source.name).read_bytes() == source.read_bytes()
    lines = capsys.readouterr().out
    assert all(re.search(rf"{stage} \d+\.\d\d s", lines) for stage in ("detect", "align", "restore", "paste")), "the times"


def test_a_second_run_skips_and_overwrite_does_it_again(
    tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [photo(tmp_path / "a.png"), photo(tmp_path / "b.png")]
    out = tmp_path / "out"
    assert restore(sources[0], "-o", out) == 0
    (out / "a.png").write_bytes(b"done before")
    assert restore(*sources, "-o", out) == 0
    assert "1 of 2 skipped" in capsys.readouterr().out
    assert (out / "a.png").read_bytes() == b"done before" and (out / "b.png").exists()
    assert restore(*sources, "-o", out, "--overwrite") == 0
    assert pixels(out / "a.png").shape == (40, 40, 3)


def test_compare_shows_before_and_after(tmp_path: Path, restore: Callable[..., int]) -> None:
    for name in ("a.png", "a.jpg", "deep/a.png"):  # names that must not collide
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--scale", 2, "--compare", tmp_path / "pairs") == 0
    assert len(files(tmp_path / "pairs")) == 3
    pair = pixels(tmp_path / "pairs" / "deep" / "a.png_before_after.png")
    assert pair.shape == (80, 160, 3)
    assert np.array_equal(pair[:, 80:], pixels(tmp_path / "out" / "deep" / "a.png"))
    before = np.asarray(Image.fromarray(pair[:, :80]).resize((40, 40), Image.Resampling.BOX)).astype(int)
    assert np.abs(before - pixels(tmp_path / "in" / "deep" / "a.png")).mean() < 2
    assert restore(tmp_path / "in" / "a.jpg", "-o", tmp_path / "b.jpg", "--compare", tmp_path / "pair.jpg") == 0
    assert pixels(tmp_path / "pair.jpg").shape == (40, 80, 3)


def test_a_picture_beside_the_results_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, restore: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, picture = photo(tmp_path / "a.jpg"), tmp_path / "pair.gif"
    refused(capsys, restore(source, "-o", tmp_path / "b.jpg", "--compare", picture), picture, "use .avif")
    monkeypatch.setattr("pfr_core.cli.detect.Detector", None)
    refused(capsys, pfr("detect", source, "--annotate", picture), picture, "use .avif")
    assert files(tmp_path) == ["a.jpg"]


def test_a_background_is_what_the_faces_are_pasted_into(tmp_path: Path, restore: Callable[..., int]) -> None:
    source, large = photo(tmp_path / "a.png"), photo(tmp_path / "large.png", 80, 80, seed=1)
    assert restore(source, "-o", tmp_path / "b.png", "--background", large, "--strength", 0) == 0
    assert np.array_equal(pixels(tmp_path / "b.png"), pixels(large))


def test_provenance_is_recorded_where_detail_was_synthesised(tmp_path: Path, model: Path, restore: Callable[..., int]) -> None:
    source = photo(tmp_path / "a.png")
    for name, *extra in (("yes",), ("no", "--no-provenance"), ("unchanged", "--strength", 0, "--scale", 2)):
        assert restore(source, "-o", tmp_path / f"{name}.png", *extra) == 0
    xmp = read_photo(tmp_path / "yes.png").xmp or b""
    assert b"compositeWithTrainedAlgorithmicMedia" in xmp and b"tiny.safetensors" in xmp
    assert hashlib.sha256(model.read_bytes()).hexdigest().encode() in xmp
    assert read_photo(tmp_path / "no.png").xmp is None
    assert read_photo(tmp_path / "unchanged.png").xmp is None


def test_cmyk_palette_and_a_single_pixel(tmp_path: Path, restore: Callable[..., int]) -> None:
    sources = [
        photo(tmp_path / "cmyk.jpg", mode="CMYK"),
        photo(tmp_path / "palette.png", mode="P"),
        photo(tmp_path / "dot.png", 1, 1),
    ]
    assert restore(*sources, "-o", tmp_path / "out") == 0
    assert pixels(tmp_path / "out" / "dot.png").shape == (1, 1, 3)
    assert Image.open(tmp_path / "out" / "cmyk.jpg").mode == Image.open(tmp_path / "out" / "palette.png").mode == "RGB"


def test_a_name_that_cannot_be_printed(tmp_path: Path, restore: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png")
    try:
        source = source.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")))
    except OSError:
        pytest.skip("this file system takes only names in Unicode")
    assert restore(source, "-o", tmp_path / "out") == 0
    assert "caf" in capsys.readouterr().out and len(files(tmp_path / "out")) == 1


# --- restore: bad input -----------------------------------------------------------------------------------------------


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


class Code:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


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


# --- detect -----------------------------------------------------------------------------------------------------------


def inside(box: list[float], shape: tuple[int, ...], grow: float) -> np.ndarray:
    """Return the pixels of a box enlarged by ``grow`` times its size on each side."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    left, top, right, bottom = box
    margin = grow * (bottom - top)
    return (x >= left - margin) & (x <= right + margin) & (y >= top - margin) & (y <= bottom + margin)


def test_what_detect_found_is_written_when_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.png")
    looked = list[Path]()

    def reading(path: Path) -> Photo:
        looked.append(path)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return read_photo(path)

    monkeypatch.setattr("pfr_core.cli.detect.read_photo", reading)
    listing = tmp_path / "faces.json"
    listing.write_text("[]")
    assert pfr("detect", tmp_path / "in", "--json", listing, "--detector", "builtin", "--device", "cpu") == 130
    part = tmp_path / "faces.part.json"
    assert [entry["file"] for entry in json.loads(part.read_text())] == [str(tmp_path / "in" / f"{name}.png") for name in "ab"]
    assert listing.read_text() == "[]", "a complete list of an earlier run stays"
    part.unlink()
    listing.unlink()
    looked[:] = [tmp_path] * 2
    assert pfr("detect", tmp_path / "in", "--json", listing, "--detector", "builtin", "--device", "cpu") == 130
    assert not listing.exists() and not part.exists(), "nothing was looked at"


@pytest.mark.slow
@pytest.mark.shared
def test_detect_lists_what_restore_can_be_told(
    tmp_path: Path, model: Path, shared_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(shared_dir / "weights"))
    source = shared_dir / "data" / "wild" / "whole" / "faceapi__images__faces.jpg"
    listing, picture = tmp_path / "new" / "faces.json", tmp_path / "drawn.png"
    assert pfr("detect", source, "--json", listing, "--annotate", picture) == 0
    assert capsys.readouterr().out == ""
    (entry,) = json.loads(listing.read_text())
    faces = entry["faces"]
    assert (entry["file"], entry["width"], entry["height"]) == (str(source), 710, 473)
    assert [face["index"] for face in faces] == list(range(6))
    assert [face["box"][0] + face["box"][2] for face in faces] == sorted(face["box"][0] + face["box"][2] for face in faces)

    drawn = (pixels(picture) != pixels(source)).any(axis=2)
    assert all(drawn[inside(face["box"], drawn.shape, 0)].any() for face in faces)
    assert not drawn[~np.any([inside(face["box"], drawn.shape, 0.3) for face in faces], axis=0)].any()

    # Whatever is chosen, a face keeps its number, and `restore --indices` understands it.
    for one in (["largest"], ["center"], ["index", "--indices", 3]):
        assert pfr("detect", source, "--select", *one) == 0
        (face,) = json.loads(capsys.readouterr().out)[0]["faces"]
        assert face == faces[face["index"]]
    assert face == faces[3]
    result = tmp_path / "one.png"
    assert pfr("restore", source, "-o", result, "--model", model, "--device", "cpu", "--select", *one) == 0
    changed = (pixels(result) != pixels(source)).any(axis=2)
    assert changed[inside(face["box"], changed.shape, 0)].mean() > 0.5
    assert not changed[~inside(face["box"], changed.shape, 1.0)].any()


@pytest.mark.shared
def test_detect_in_several_files(
    tmp_path: Path, shared_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(shared_dir / "weights"))
    sources = [photo(tmp_path / "in" / name, 90, 70) for name in ("a.png", "a.jpg")]
    (tmp_path / "in" / "b.png").write_bytes(b"")
    assert pfr("detect", tmp_path / "in", "--annotate", tmp_path / "in" / "drawn") == 1
    captured = capsys.readouterr()
    assert [entry["file"] for entry in json.loads(captured.out)] == sorted(map(str, sources)), "stdout is JSON, nothing else"
    assert f"{tmp_path / 'in' / 'b.png'}: the file is empty" in captured.err
    assert files(tmp_path / "in" / "drawn") == ["a.jpg_faces.png", "a.png_faces.png"]


def test_detect_replaces_no_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png")
    before = source.read_bytes()
    refused(capsys, pfr("detect", source, "--annotate", source), source, "same file")
    refused(capsys, pfr("detect", source, "--json", source), "--json", source)
    refused(capsys, pfr("detect", source, "--json", tmp_path), "--json", tmp_path)
    refused(capsys, pfr("bench", source, "--json", source), "--json", source)
    assert source.read_bytes() == before and files(tmp_path) == ["a.png"]
    if hasattr(os, "mkfifo"):  # nor a device, which a file would take the place of
        os.mkfifo(tmp_path / "pipe")
        refused(capsys, pfr("detect", source, "--json", tmp_path / "pipe"), "device or a pipe")
        assert (tmp_path / "pipe").is_fifo()


# --- degrade ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_degrade_is_the_same_in_every_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png", 96, 64)
    assert pfr("degrade", source, "-o", tmp_path / "here.png", "--seed", 3) == 0
    said = json.loads(capsys.readouterr().out)
    process = start("degrade", source, "-o", tmp_path / "there.png", "--seed", 3)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert json.loads(out) == {**said, "output": str(tmp_path / "there.png")}
    assert np.array_equal(pixels(tmp_path / "here.png"), pixels(tmp_path / "there.png"))
    expected, drawn = Degradation()(pixels(source), 3)
    assert np.array_equal(pixels(tmp_path / "here.png"), expected)
    assert said["quality"] == drawn.quality and said["noise"] == drawn.noise
    assert pfr("degrade", source, "-o", tmp_path / "other.png", "--seed", 4) == 0
    assert not np.array_equal(pixels(tmp_path / "other.png"), expected)


def test_degrade_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photo(tmp_path / "a.png", 96, 64)
    rgba = np.dstack([pixels(source), np.full((64, 96), 7, np.uint8)])
    write_photo(source, rgba)
    off = ("--blur", "off", "--scale", "off", "--noise", "off", "--quality", "off")
    assert pfr("degrade", source, "-o", tmp_path / "off.png", *off) == 0
    assert np.array_equal(pixels(tmp_path / "off.png"), rgba)
    assert pfr("degrade", source, "-o", tmp_path / "bicubic.png", "--bicubic") == 0
    expected = bicubic_downsample(np.ascontiguousarray(rgba[..., :3]))
    assert np.array_equal(pixels(tmp_path / "bicubic.png"), np.dstack([expected, rgba[..., 3]]))
    capsys.readouterr()
    fixed = ("--blur", "isotropic", "--sigma", 2, "--scale", 1, 3, "--noise", 10, "--quality", 40)
    assert pfr("degrade", source, "-o", tmp_path / "fixed.png", *fixed) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["blur"], said["sigma"], said["noise"], said["quality"]) == ("isotropic", [2, 2], 10, 40)
    assert 1 <= said["scale"] <= 3


def test_degrade_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert pfr("degrade", tmp_path / "in", "-o", tmp_path / "out") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["file"] for entry in said] == [str(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    assert said[0]["noise"] != said[1]["noise"], "the same face twice is not degraded the same way"


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--seed", ["--seed", "-1"]),
        ("--noise has no effect", ["--bicubic", "--noise", "3"]),
        ("--seed has no effect", ["--bicubic", "--seed", "3"]),
        ("--sigma has no effect", ["--blur", "motion", "--sigma", "3"]),
        ("--motion-length has no effect", ["--blur", "off", "--motion-length", "30"]),
        ("--sigma cannot be off", ["--sigma", "off"]),
        ("--scale", ["--scale", "2", "much"]),
        ("--scale", ["--scale", "1", "2", "3"]),
        ("scale", ["--scale", "4", "2"]),
        ("noise", ["--noise", "nan"]),
        ("whole numbers", ["--quality", "5.5"]),
        ("smooth", ["--blur", "smooth"]),
    ],
)
def test_degrade_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, arguments: list[str]) -> None:
    status = pfr("degrade", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png", *arguments)
    assert status == 2
    refused(capsys, status, words)
    assert files(tmp_path) == ["a.png"]


# --- weights, info, import-gpen ---------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """``parsenet`` published on this machine; its content."""
    body = bytes(range(256)) * 100
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file.pth").write_bytes(body)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    address = ("127.0.0.1", 0)
    with http.server.ThreadingHTTPServer(address, functools.partial(Quiet, directory=str(tmp_path / "www"))) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_port}/file.pth"
        published: dict[str, Any] = {"urls": (url,), "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        monkeypatch.setitem(REGISTRY, "parsenet", dataclasses.replace(REGISTRY["parsenet"], **published))
        monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for name in ("PFR_WEIGHTS_DIR", "PFR_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield body
        web.shutdown()


def test_weights(tmp_path: Path, server: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, pfr("weights", "path", "parsenet"), "pfr weights download parsenet")
    assert pfr("weights", "list") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in REGISTRY) and str(tmp_path / "cache") in listed
    assert "CC BY-NC-SA 4.0" in listed and "pfr weights download parsenet" in listed
    assert f"embedded: {on_disk('builtin')}" in listed

    assert pfr("weights", "download", "parsenet") == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.read_bytes() == server and path.parent == tmp_path / "cache"
    assert pfr("weights", "path", "parsenet") == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert pfr("weights", "list") == 0
    assert str(path) in capsys.readouterr().out
    assert pfr("weights", "download", "nosuch") == 2


def test_a_broken_download_leaves_nothing(tmp_path: Path, server: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "www" / "file.pth").write_bytes(server[:-1] + b"!")
    refused(capsys, pfr("weights", "download", "parsenet"), "parsing_parsenet.pth", "SHA-256", "by hand")
    assert files(tmp_path / "cache") == []


def test_info(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pfr("info", model) == 0
    said = json.loads(capsys.readouterr().out)
    net = load_model(model)
    assert said["file"] == str(model) and said["layout"] == "pfr" and said["dtypes"] == ["float32"]
    assert said["config"]["size"] == SIZE and said["licence"] == "none" and said["provenance"] == {"test": True}
    assert said["parameters"] == sum(value.numel() for value in net.state_dict().values())


@pytest.mark.parametrize("name", ["builtin", "points"])
def test_info_of_what_finds_faces(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, and of a file like it: one that somebody trained."""
    assert pfr("info", name) == 0
    said = json.loads(capsys.readouterr().out)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(Path(said["file"]).read_bytes())
    assert pfr("info", path) == 0
    assert "licence" in said and json.loads(capsys.readouterr().out) == said | {"file": str(path)}


@pytest.mark.parametrize("part", ["prior", "discriminator"])
def test_info_of_a_part_for_training(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[1] / "fixtures" / "older" / f"{part}.safetensors"
    assert pfr("info", path) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["layout"] == f"pfr-{part}" and said["config"]["size"] == 16 and said["parameters"]
    assert "licence" in said and "provenance" in said


def test_no_progress_is_shown_where_nothing_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert pfr("weights", "download", "builtin") == 0
    assert capsys.readouterr().err == ""


def test_info_of_a_published_model_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("PFR_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("PFR_OFFLINE", "1")
    assert pfr("info", "gfpgan-1.4") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] is None and said["size"] == 512 and said["addresses"] and "NVIDIA" in said["licence"]


@pytest.fixture
def gpen(shared_dir: Path) -> tuple[Path, Path]:
    """Return a GPEN generator and its discriminator, random weights."""
    folder = shared_dir / "golden" / "gpen-64-narrow0.125"
    return folder / "gpen_g.pth", folder / "gpen_d.pth"


@pytest.mark.shared
def test_import_gpen(tmp_path: Path, gpen: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    generator, discriminator = gpen
    plain, start = tmp_path / "gpen.safetensors", tmp_path / "start.safetensors"
    assert pfr("import-gpen", generator, "-o", plain) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == [str(plain)] and "no licence" in captured.err
    assert pfr("import-gpen", generator, "--discriminator", discriminator, "-o", start) == 0
    assert set(capsys.readouterr().out.split()) == {str(start), str(tmp_path / "start.discriminator.safetensors")}
    assert files(tmp_path) == ["gpen.safetensors", "start.discriminator.safetensors", "start.safetensors"]

    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        expected = load_model(generator)(x)
        assert torch.equal(load_model(plain)(x), expected)
        assert torch.allclose(load_model(start)(x), expected, atol=1e-4)
    assert load_model(start).config.mmrb and not load_model(plain).config.mmrb
    assert pfr("info", start) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["provenance"] == {"imported_from": "gpen_g.pth", "discriminator": "gpen_d.pth"}


@pytest.mark.shared
def test_import_gpen_refuses(tmp_path: Path, model: Path, gpen: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    generator, discriminator = gpen
    mine, marker, evil = tmp_path / "mine.safetensors", tmp_path / "code-has-run", tmp_path / "evil.pth"
    mine.write_bytes(model.read_bytes())
    torch.save({"g_ema": Code(marker)}, evil)
    out = tmp_path / "new.safetensors"
    for words, *arguments in (
        (discriminator, discriminator, "-o", out),
        (generator, generator, "--discriminator", generator, "-o", out),
        (mine, mine, "-o", out),
        (evil, evil, "-o", out),
        (tmp_path / "nosuch.pth", generator, "--discriminator", tmp_path / "nosuch.pth", "-o", out),
        ("new.pth", generator, "--discriminator", discriminator, "-o", tmp_path / "new.pth"),
        ("same file", mine, "-o", mine),
    ):
        refused(capsys, pfr("import-gpen", *arguments), words)
    assert files(tmp_path) == ["evil.pth", "mine.safetensors"]
    assert mine.read_bytes() == model.read_bytes()


# --- Help -------------------------------------------------------------------------------------------------------------


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert pfr("--version") == 0
    assert capsys.readouterr().out.strip() == f"pfr {pfr_core.__version__}"
    commands = (["restore"], ["detect"], ["degrade"], ["import-gpen"], ["info"], ["weights"])
    for command in ([], *commands, *(["weights", action] for action in ("list", "path", "download"))):
        assert pfr(*command, "--help") == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "usage: pfr" in text and "None)" not in text and "SUPPRESS" not in text
        for (name,) in commands if not command else ():
            assert name in text


def test_every_restore_option_is_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert pfr("restore", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for item in dataclasses.fields(RestoreOptions):
        flag, words = f"--{item.name.replace('_', '-')}", item.metadata["help"]
        (entry,) = (entry for entry in re.findall(rf"{flag}\b.*?(?= --(?!no-)|$)", text) if words in entry)
        default = [] if item.default in (None, ()) else [f"(default: {item.default})"]
        assert re.findall(r"\(default.*?\)", entry) == default


def test_the_package_runs_as_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["pfr", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("pfr_core", run_name="__main__")
    assert capsys.readouterr().out.startswith("pfr ")
