"""Faces that are sharp already are told from ruined ones, at their own size, and left alone unless one says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pfr_core import PFR, Face, FaceRestorer, PFRConfig
from pfr_core.degradation import Degradation
from pfr_core.faces.detect import Detector
from pfr_core.faces.sharpness import is_sharp
from pfr_core.photo.arrays import Array, resize, to_uint8
from pfr_core.photo.read import read_photo

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PHOTO = read_photo(EXAMPLES / "astronaut.jpg").pixels
FACE = Face((178.0, 63.0, 272.0, 183.0), 0.99, ((203.8, 102.8), (245.0, 104.3), (224.4, 129.1), (202.6, 138.9), (244.8, 140.1)))


def jpeg(image: Array, quality: int) -> Array:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR))


def noisy(image: Array, sigma: float) -> Array:
    return np.clip(image.astype(np.float32) + np.random.default_rng(0).normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


DAMAGES: dict[str, Callable[[Array], Array]] = {
    "blur": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "noise": lambda image: noisy(image, 15),
    "JPEG": lambda image: jpeg(image, 15),
    "Eq. 17": lambda image: Degradation()(to_uint8(image), 1)[0],
    "a small picture enlarged": lambda image: resize(resize(image, 170, 170), 512, 512),
}


def test_a_good_photograph_s_face_is_sharp_however_it_is_stored() -> None:
    gray = np.repeat(cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    alpha = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    for image in (PHOTO, PHOTO.astype(np.uint16) * 257, PHOTO / np.float32(255), gray, alpha, jpeg(PHOTO, 92)):
        assert is_sharp(image, FACE)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_may_lie_on_its_side(turns: int) -> None:
    xy = np.array([FACE.box[:2], FACE.box[2:], *FACE.points])
    for _ in range(turns):
        xy = np.stack([xy[:, 1], 511 - xy[:, 0]], axis=1)  # np.rot90 of a picture of 512 px
    (left, top), (right, bottom) = xy[:2].min(axis=0), xy[:2].max(axis=0)
    turned = Face((left, top, right, bottom), 1.0, tuple(map(tuple, xy[2:])))  # type: ignore[arg-type]  # five stay five
    assert is_sharp(np.rot90(PHOTO, turns), turned)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_ruined_face_is_not_sharp(damage: str) -> None:
    assert not is_sharp(DAMAGES[damage](PHOTO), FACE)


def test_it_is_judged_at_the_size_that_it_will_have() -> None:
    assert is_sharp(PHOTO, FACE, scale=1.1) and not is_sharp(PHOTO, FACE, scale=3)
    large, face = resize(PHOTO, 1536, 1536), FACE.moved(3)  # the same face enlarged in the file: no more detail than before
    assert not is_sharp(large, face) and is_sharp(large, face, side=160)
    assert not is_sharp(resize(PHOTO, 170, 170), FACE.moved(1 / 3)), "too few pixels to be called sharp"
    assert not is_sharp(PHOTO, FACE.moved(1, (-260, 0))), "nothing of it is in the photograph"


@pytest.fixture
def restorer(monkeypatch: pytest.MonkeyPatch) -> FaceRestorer:
    detector = Detector()
    monkeypatch.setattr(detector, "detect", lambda *_, **__: [FACE])
    return FaceRestorer(PFR(PFRConfig(size=256, narrow=1 / 32, style_dim=8, n_mlp=1)), detector, device="cpu")


def test_a_sharp_face_is_left_and_that_is_said(restorer: FaceRestorer) -> None:
    result = restorer.restore(PHOTO)
    assert not result.changed and result.faces == [] and np.array_equal(result.image, PHOTO)
    (notice,) = result.notices
    assert notice.kind == "sharp_faces" and notice.numbers == {"restored": 0, "left": 1} and "1 left" in notice.text


@pytest.mark.parametrize(
    "options",
    [{"only_bad_faces": False}, {"select": "index", "indices": (0,)}, {"scale": 3}, {"faces": [FACE]}],
    ids=["off", "by number", "enlarged", "given"],
)
def test_it_is_restored_all_the_same(restorer: FaceRestorer, options: dict[str, Any]) -> None:
    result = restorer.restore(PHOTO, **options)
    assert result.changed and result.faces == [FACE] and not {notice.kind for notice in result.notices} & {"sharp_faces"}


def test_an_enlarged_photograph_of_one_s_own_counts(restorer: FaceRestorer) -> None:
    session = restorer.open(PHOTO)
    assert not session.restore().changed
    assert session.restore(background=resize(PHOTO, 1536, 1536)).changed, "the same session: found again for that size"
    assert not session.compose().changed


def test_a_ruined_face_beside_a_sharp_one_is_restored(restorer: FaceRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = np.concatenate([PHOTO, DAMAGES["blur"](PHOTO)], axis=1)
    other = FACE.moved(1, (512, 0))
    monkeypatch.setattr(restorer.detector, "detect", lambda *_, **__: [other, FACE])
    result = restorer.restore(pair)
    assert result.faces == [other] and result.notices[0].numbers == {"restored": 1, "left": 1}
    assert np.array_equal(result.image[:, :512], PHOTO) and restorer.open(pair).find().numbers == [1]
