"""``pfr degrade``: the same in every process, whole or stage by stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pfr_core import Degradation
from pfr_core.degradation import bicubic_downsample
from pfr_core.photo.write import write_photo

from .command import files, pfr, photo, pixels, refused, start


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
