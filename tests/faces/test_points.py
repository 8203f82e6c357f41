"""The second look at found faces: where it looks, when it is believed, and that crops stand still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pfr_core import Face
from pfr_core.errors import WeightsError
from pfr_core.faces.align import alignment_matrix
from pfr_core.faces.detect import Detector
from pfr_core.faces.geometry import scale_of, similarity, transform
from pfr_core.faces.points import CLEAR, EYES, FRAME, SIDE, UNSURE, PointsNetwork, SecondLook, crop, describe, save, to_input
from pfr_core.models.download import obtain
from trainer.judge.crops import CHANGES, CROP, movement, movements

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Array = npt.NDArray[Any]


def face(points: Array, score: float = 0.9) -> Face:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return Face((left, top, right, bottom), score, tuple(map(tuple, points.tolist())))  # type: ignore[arg-type]


class Says(nn.Module):
    """Stands for the network: says the same of every crop."""

    def __init__(self, points: Array, error: float = 0.01, logit: float = 5.0) -> None:
        super().__init__()
        self.said = torch.tensor(points, dtype=torch.float32), torch.full((5,), np.log(error)), torch.tensor(logit)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        assert x.shape[1:] == (1, SIDE, SIDE)
        return tuple(part.expand(len(x), *part.shape) for part in self.said)


def second_look(network: nn.Module) -> SecondLook:
    look = SecondLook(obtain("points"), torch.device("cpu"))
    look.network = network  # type: ignore[assignment]
    return look


@pytest.mark.parametrize("size", [15.0, 60.0, 700.0])
@pytest.mark.parametrize("angle", [0, 70, 180])
def test_the_crop_shows_the_face_upright_at_one_size(size: float, angle: int) -> None:
    """A bright dot at one of the points lies where the frame says."""
    matrix = cv2.getRotationMatrix2D((0, 0), angle, size / EYES)
    matrix[:, 2] = 1000
    for number in (0, 3):
        points = transform(FRAME - FRAME.mean(axis=0), matrix)
        image = np.zeros((2000, 2000, 3), np.uint8)
        cv2.circle(image, tuple(points[number].round().astype(int).tolist()), max(1, round(size / 8)), (255, 255, 255), -1)
        seen = crop(image, similarity(points, FRAME)).astype(float)
        yy, xx = np.mgrid[:SIDE, :SIDE]
        at = np.array([(xx * seen).sum(), (yy * seen).sum()]) / seen.sum()
        assert seen.shape == (SIDE, SIDE) and np.abs(at - FRAME[number]).max() < 1.0


def test_points_come_back_to_the_photograph() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    given = face(transform(FRAME, np.array([[1.5, 0.2, 80], [-0.2, 1.5, 40]])))
    (placed,) = second_look(Says(FRAME))(image, [given])
    assert np.array(placed.points) == pytest.approx(np.array(given.points), abs=1e-3)
    assert (placed.box, placed.score) == (given.box, given.score)
    # Each look goes on from what the one before said, so that a shift in the crop is made once for each.
    moved = second_look(Says(FRAME + np.array([2, -1])))(image, [given])[0]
    back = transform(moved.points, similarity(given.points, FRAME))
    assert back == pytest.approx(FRAME + 2 * np.array([2, -1]), abs=1e-3)


@pytest.mark.parametrize(("error", "logit"), [(UNSURE * 1.1, 5.0), (UNSURE * 0.9, -0.1)])
def test_a_face_that_it_is_not_sure_of_keeps_its_points(error: float, logit: float) -> None:
    given = face(FRAME + 30)
    image = np.zeros((200, 300, 3), np.uint8)
    assert second_look(Says(FRAME + 5, error, logit))(image, [given]) == [given]
    assert second_look(Says(FRAME + 5, UNSURE * 0.9, 0.1))(image, [given]) != [given]


@pytest.mark.parametrize(("error", "logit", "clear"), [(0.9, 5.0, True), (1.1, 5.0, False), (0.9, -0.1, False)])
def test_only_what_is_seen_with_little_doubt_stands_clearly(error: float, logit: float, clear: bool) -> None:
    given, tiny = face(FRAME + 30), face(np.full((5, 2), 20.0))
    look = second_look(Says(FRAME, error * CLEAR, logit))
    assert look.judge(np.zeros((200, 300, 3), np.uint8), [tiny, given])[1] == [False, clear]


def test_faces_without_a_crop_keep_their_points() -> None:
    """Points that coincide or lie beyond the border; among others, in more than one batch."""
    image = np.zeros((60, 80, 3), np.uint8)
    tiny, usual = face(np.full((5, 2), 20.0)), face(FRAME)
    placed = second_look(Says(FRAME + 5))(image, [tiny, usual] * 40)
    assert placed[::2] == [tiny] * 40 and all(each.points != usual.points for each in placed[1::2])
    for away in ((500, 0), (-500, 0), (0, 900), (0, -900)):
        assert crop(image, similarity(FRAME + np.array(away), FRAME)).shape == (SIDE, SIDE)
    assert second_look(Says(FRAME))(image, []) == []


def test_light_and_contrast_do_not_matter() -> None:
    gray = torch.randint(40, 120, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()
    assert to_input(gray * 2) == pytest.approx(to_input(gray), abs=0.3)
    assert to_input(gray + 50) == pytest.approx(to_input(gray), abs=1e-4)
    assert not to_input(torch.full((1, SIDE, SIDE), 7, dtype=torch.uint8)).any()


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    network, path = PointsNetwork().eval(), tmp_path / "points.safetensors"
    save(network, path, provenance={"iterations": 3}, licence="mine", dtype=torch.float32)
    about = describe(path)
    assert about["licence"] == "mine" and about["provenance"] == {"iterations": 3}
    image = torch.rand(2, 1, SIDE, SIDE)
    with torch.inference_mode():
        for expected, found in zip(network(image), SecondLook(path, torch.device("cpu")).network(image), strict=True):
            assert found == pytest.approx(expected, abs=1e-4)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match=r"points\.safetensors"):
        SecondLook(path, torch.device("cpu"))


# --- the one that ships ----------------------------------------------------------------------------------------------------


def load(name: str) -> npt.NDArray[np.uint8]:
    return np.array(Image.open(EXAMPLES / name).convert("RGB"))


def test_what_ships_is_small_and_says_where_it_comes_from() -> None:
    path = obtain("points")
    about = describe(path)
    assert path.stat().st_size < 1_000_000 and "on-commercial" in about["licence"]
    assert about["provenance"]["iterations"] > 0 and "no published weights" in about["provenance"]["initialisation"]


def test_a_detector_s_errors_are_taken_away() -> None:
    """Wherever a detector puts the points, within its errors, the second look puts them to the same place."""
    image, look, rng = load("astronaut.jpg"), SecondLook.load(torch.device("cpu")), np.random.default_rng(0)
    (found,) = Detector("builtin").detect(image)
    points = np.array(found.points)
    eyes = np.linalg.norm(points[0] - points[1])
    wrong = [face(points + rng.normal(0, 0.08, (5, 2)) * eyes) for _ in range(16)]
    before, after = (np.array([each.points for each in some]) for some in (wrong, look(image, wrong)))
    spread = [np.linalg.norm(some.std(axis=0), axis=1).mean() / eyes for some in (before, after)]
    assert spread[1] < 0.3 * spread[0]


def test_what_is_no_upright_face_keeps_its_points() -> None:
    image, look = load("astronaut.jpg"), SecondLook.load(torch.device("cpu"))
    (found,) = Detector("builtin").detect(image)
    elsewhere = [found.moved(1, (shift, 200.0)) for shift in (-150.0, 150.0)]
    assert look(image, elsewhere) == elsewhere
    turned = np.ascontiguousarray(image[::-1, ::-1])
    points = np.array(image.shape[1::-1]) - 1 - np.array(found.points)
    assert look(turned, [face(points)])[0].points != face(points).points, "by points that know which way is up it is seen"
    upright = face(points[[1, 0, 2, 4, 3]] * (1, -1) + (0, 2 * points[2, 1]))  # as a detector that takes it for an upright one
    assert look(turned, [upright]) == [upright]


@pytest.mark.parametrize(("name", "faces"), [("astronaut.jpg", 1), ("two_faces.jpg", 2)])
def test_crops_stand_still(name: str, faces: int) -> None:
    """No crop moves by more than 1 % of its width when its photograph is shifted by a pixel, scaled, or saved as JPEG."""
    for change, moved in movements(Detector("builtin"), [load(name)], threshold=0.8, size=1280).items():
        assert len(moved) == faces and max(moved) <= 0.01, (change, moved)


def test_movement_by_hand() -> None:
    given = face(FRAME + 30)
    image = np.zeros((200, 300, 3), np.uint8)
    for change in CHANGES.values():
        _, where = change(image)
        same = face(transform(given.points, where))
        assert movement(given, same, where) == pytest.approx(0, abs=1e-9)
    width = CROP / scale_of(alignment_matrix(given, CROP))  # of the crop, in pixels of the photograph
    moved = movement(given, face(FRAME + np.array([33, 34])), np.array([[1.0, 0, 0], [0, 1, 0]]))
    assert moved == pytest.approx(5 / width)
