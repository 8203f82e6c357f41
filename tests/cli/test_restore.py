"""``pfr restore``: what goes in comes out, where it was asked for, and keeps what it had."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pfr_core.cli.inputs import list_inputs, plan_outputs
from pfr_core.errors import ImageError
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo

from .command import ROOT, files, pfr, photo, pixels, refused, start


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


def test_numbered_pictures_below_a_folder_whose_name_is_a_pattern(tmp_path: Path) -> None:
    """``scans [1931]`` is the name of a folder; as a pattern it matches nothing."""
    photo(tmp_path / "scans [1931]" / "f0001.png")
    named = tmp_path / "scans [1931]" / "f%04d.png"
    assert list_inputs([str(named)]) == [(named, Path(named.name))]
    with pytest.raises(ImageError, match="no file matches"):
        list_inputs([str(tmp_path / "scans [1932]" / "f%04d.png")])


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
