"""``pfr detect``: it lists what ``pfr restore`` can be told, and replaces nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pfr_core.photo.photo import Photo
from pfr_core.photo.read import read_photo

from .command import files, pfr, photo, pixels, refused


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
