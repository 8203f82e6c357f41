"""Models side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pfr_core import FaceRestorer, RestoreOptions
from pfr_core.cli import main
from pfr_core.compare import CELL, HEADER, compare
from pfr_core.errors import InputError
from pfr_core.faces.align import align, alignment_matrix
from pfr_core.faces.detect import Detector
from pfr_core.photo.arrays import to_uint8
from pfr_core.support.notice import Notice

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "two_faces.jpg"


def test_rows_are_faces_and_columns_models(tiny_model: Path) -> None:
    pixels = np.array(Image.open(PHOTO).convert("RGB"))
    seen = []

    def load() -> FaceRestorer:
        return FaceRestorer(tiny_model, "builtin", device="cpu")

    found = compare(pixels, [("first", load), ("second", load)], progress=lambda *step: seen.append(step))
    assert len(found.faces) == 2 and seen == [("first", 0, 2), ("second", 1, 2)]
    assert found.sheet.shape == (HEADER + 2 * CELL, 3 * CELL, 3)
    alone = load().restore(pixels, faces=found.faces)
    restored = alone.image
    assert found.notices == alone.notices and {notice.kind for notice in found.notices} == {"magnified"}, "of both models once"
    for row, face in enumerate(found.faces):
        cells = np.split(found.sheet[HEADER + row * CELL : HEADER + (row + 1) * CELL], 3, axis=1)
        matrix = alignment_matrix(face, CELL)
        assert np.array_equal(cells[0], to_uint8(align(pixels, matrix, CELL)))
        assert np.array_equal(cells[1], to_uint8(align(restored, matrix, CELL))) and np.array_equal(cells[1], cells[2])
        assert not np.array_equal(cells[0], cells[1])
    names = np.split(found.sheet[:HEADER], 3, axis=1)
    assert all((name < 100).any() for name in names) and not np.array_equal(names[1], names[2])


@pytest.mark.parametrize("names", [("人脸.pth", "模型.pth"), ("same.pth", "same.pth")])
def test_columns_are_told_apart_whatever_their_names(tiny_model: Path, names: tuple[str, str]) -> None:
    def load() -> FaceRestorer:
        return FaceRestorer(tiny_model, "builtin", device="cpu")

    sheet = compare(np.array(Image.open(PHOTO).convert("RGB")), [(name, load) for name in names]).sheet
    _, first, second = np.split(sheet[:HEADER], 3, axis=1)
    assert not np.array_equal(first, second)


def test_what_cannot_be_compared(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> FaceRestorer:
        return FaceRestorer(tiny_model, "builtin", device="cpu")

    gray = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(InputError, match="no model to compare"):
        compare(gray, [])
    monkeypatch.setattr(Detector, "advice", lambda self: Notice("better_detector", "take a better one"))
    with pytest.raises(InputError, match=r"No face was found.*\ntake a better one$"):
        compare(gray, [("tiny", load)])
    pixels = np.array(Image.open(PHOTO).convert("RGB"))
    started: list[str] = []
    with pytest.raises(InputError, match="fidelity: none of these models has such an option"):
        compare(pixels, [("tiny", load)], RestoreOptions(fidelity=0.9), progress=lambda name, done, total: started.append(name))
    assert not started, "it is refused before the work"


def test_the_command(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert (
        main(
            [
                "compare",
                str(PHOTO),
                "--models",
                "default",
                str(tiny_model),
                "-o",
                str(sheet),
                "--detector",
                "builtin",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    with Image.open(sheet) as image:
        assert image.size == (3 * CELL, HEADER + 2 * CELL)
    assert "2 faces, 2 models" in capsys.readouterr().out
    assert main(["compare", str(PHOTO), "--models", "nothing", "-o", str(sheet)]) == 1
    assert "nothing: no such model file" in capsys.readouterr().err
    assert main(["compare", str(PHOTO), "--models", "default", "-o", str(PHOTO)]) == 1


@pytest.mark.parametrize("command", ["compare", "detect"])
def test_what_shows_a_photo_has_its_colour_profile(command: str, tiny_model: Path, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(PHOTO) as image:
        image.save(tmp_path / "photo.png", icc_profile=profile)
    target = str(tmp_path / "shown.png")
    more = {"compare": ["--models", str(tiny_model), "-o", target], "detect": ["--annotate", target]}[command]
    assert main([command, str(tmp_path / "photo.png"), *more, "--detector", "builtin", "--device", "cpu"]) == 0
    with Image.open(target) as shown:
        assert shown.info["icc_profile"] == profile


def test_faces_that_are_not_compared_are_told_apart_from_none(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(PHOTO), "--models", str(tiny_model), "-o", str(tmp_path / "s.png"), "--device", "cpu"]
    assert main([*command, "--select", "index", "--indices", "7"]) == 2
    assert "there is no face 7 among the 2 found" in capsys.readouterr().err
    assert main([*command, "--max-face-size", "50"]) == 2
    assert "widen the face sizes" in capsys.readouterr().err


def test_a_limit_of_faces_is_asked_before_any_is_restored(tiny_model: Path) -> None:
    def refuse(count: int) -> None:
        raise InputError(f"{count} are too many")

    def load() -> FaceRestorer:
        restorer = FaceRestorer(tiny_model, "builtin", device="cpu")
        restorer.restore = None  # type: ignore[assignment,method-assign]
        return restorer

    with pytest.raises(InputError, match="2 are too many"):
        compare(np.array(Image.open(PHOTO).convert("RGB")), [("first", load)], check_faces=refuse)
