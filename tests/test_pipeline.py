"""``FaceRestorer``: the invariants of the photo pipeline, with networks whose effect is known exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pfr_core import PFR, Face, FaceRestorer, PFRConfig, RestoreOptions
from pfr_core.compose import Canvas, cut_face, paste_faces, stacked
from pfr_core.errors import Cancelled, CheckpointError, InputError, NotFiniteError, WeightsError
from pfr_core.faces.align import TEMPLATE, alignment_matrix, template
from pfr_core.faces.annotate import annotate
from pfr_core.faces.geometry import invert
from pfr_core.faces.mask import PARSE_SIZE, FaceParser, make_mask
from pfr_core.session import Restored
from pfr_core.support.choices import ColorMatch, MaskKind
from pfr_core.support.device import faces_at_once, resolve_device, resolve_dtype
from pfr_core.support.memory import is_out_of_memory

SIZE = 64
CONFIG = PFRConfig(size=SIZE, narrow=0.125, style_dim=8, n_mlp=1)
Array = npt.NDArray[Any]


class Stub(PFR):
    """A network that does what it is told: ``change`` maps [B,3,S,S] in [-1,1] to the same."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor], size: int = SIZE) -> None:
        super().__init__(PFRConfig(size=size, narrow=1 / 32, style_dim=8, n_mlp=1))
        self.change = change
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        return self.change(x)


def restorer_of(change: Callable[[torch.Tensor], torch.Tensor], size: int = SIZE, **arguments: Any) -> FaceRestorer:
    """Broad colours are left as the stub makes them, unless ``options`` say otherwise: most tests measure them."""
    return FaceRestorer(Stub(change, size), device="cpu", **{"options": RestoreOptions(color_match="none"), **arguments})


@functools.cache
def identity() -> FaceRestorer:
    return restorer_of(lambda x: x)


@functools.cache
def brighter() -> FaceRestorer:
    """Return a restorer that adds 0.1 (in [0,1]) to every pixel."""
    return restorer_of(lambda x: x + 0.2)


@functools.cache
def wild() -> FaceRestorer:
    """Paints over the crop with something that has nothing to do with it."""
    pattern = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return restorer_of(lambda x: pattern.expand_as(x))


@functools.cache
def real() -> FaceRestorer:
    torch.manual_seed(0)
    return FaceRestorer(PFR(CONFIG), device="cpu", options=RestoreOptions(color_match="none"), batch_size=8)


def face_for(x: float, y: float, side: float, degrees: float = 0, score: float = 0.9) -> Face:
    """Return a face whose crop has its middle at (x, y) and is ``side`` pixels of the photograph wide."""
    unit = ((TEMPLATE + 0.5) / 512 - 0.5) @ (1, 1j)
    points = unit * np.exp(1j * np.radians(degrees)) * side + complex(x, y)
    half = 0.3 * side
    box = (x - half, y - half, x + half, y + half)
    return Face(box, score, tuple((p.real, p.imag) for p in points))  # type: ignore[arg-type]


def photo(height: int = 90, width: int = 120, channels: int = 3, seed: int = 0) -> npt.NDArray[np.float32]:
    """Smooth, in [0.15, 0.75], so that adding 0.1 clips nothing."""
    noise = np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5).reshape(height, width, channels)
    return ((blurred - blurred.min()) / max(blurred.max() - blurred.min(), 1e-6) * 0.6 + 0.15).astype(np.float32)


KINDS = [
    "uint8",
    "uint16",
    "float32",
    "float64",
    "rgba8",
    "rgba16",
    "pil",
    "pil-rgba",
    "chw",
    "chw-rgba",
    "bchw",
    "chw-fp16",
    "chw-fp64",
]


def as_kind(kind: str, image: npt.NDArray[np.float32]) -> Any:
    """``image`` [H,W,3] float as one of the types that go in; with an alpha channel that must survive."""
    alpha = np.random.default_rng(1).random((*image.shape[:2], 1), dtype=np.float32)
    if "rgba" in kind:
        image = np.concatenate([image, alpha], axis=2)
    if kind in ("uint8", "rgba8") or kind.startswith("pil"):
        array = np.rint(image * 255).astype(np.uint8)
        return Image.fromarray(array) if kind.startswith("pil") else array
    if kind in ("uint16", "rgba16"):
        return np.rint(image * 65535).astype(np.uint16)
    if kind in ("float32", "float64"):
        return image.astype(kind)
    tensor = torch.from_numpy(image.astype(np.float64) if "64" in kind else image).permute(2, 0, 1)
    return {"bchw": tensor[None], "chw-fp16": tensor.half()}.get(kind, tensor)


def values(image: Any) -> Array:
    """Any image -> float64 [H,W,C] in [0,1] for comparison, exactly."""
    if isinstance(image, torch.Tensor):
        return (image[0] if image.ndim == 4 else image).permute(1, 2, 0).double().numpy()
    array = np.asarray(image)
    return array / np.iinfo(array.dtype).max if np.issubdtype(array.dtype, np.integer) else array.astype(np.float64)


def same_type(a: Any, b: Any) -> bool:
    if isinstance(a, Image.Image):
        return type(b) is Image.Image and a.mode == b.mode and a.size == b.size
    return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape


def mask_of(result: Restored[Any, Any, Any]) -> Array:
    mask = result.mask.numpy() if isinstance(result.mask, torch.Tensor) else result.mask
    return mask[0] if mask.ndim == 3 else mask


def detecting(restorer: FaceRestorer, monkeypatch: pytest.MonkeyPatch, find: Callable[[Array], list[Face]]) -> list[Any]:
    """Let ``find`` stand for the detector; the calls' arguments are returned."""
    calls: list[Any] = []

    def detect(image: Array, **arguments: Any) -> list[Face]:
        assert image.dtype == np.uint8 and image.shape[2] == 3
        calls.append(arguments)
        return find(image)

    monkeypatch.setattr(restorer.detector, "detect", detect)
    return calls


# --- nothing to do: bit-identical ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_face_is_bit_identical(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detecting(wild(), monkeypatch, lambda image: [])
    image = as_kind(kind, photo())
    for result in (wild().restore(image), wild().restore(image, faces=[])):
        assert same_type(result.image, image) and np.array_equal(values(result.image), values(image))
        assert not mask_of(result).any()


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_bit_identical(kind: str, aligned: bool) -> None:
    image = as_kind(kind, photo(90, 90))
    where: Any = {"aligned": True} if aligned else {"faces": [face_for(40, 40, 50, 10)]}
    result = wild().restore(image, strength=0, **where)
    assert same_type(result.image, image) and np.array_equal(values(result.image), values(image))
    assert not mask_of(result).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (10, 10), (3, 200)])
def test_tiny_images(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 2: no small frame is enlarged and shrunk again."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    detecting(wild(), monkeypatch, lambda image: [])
    assert np.array_equal(wild().restore(image).image, image)
    assert wild().restore(image, faces=[face_for(0, 0, 20)]).image.shape == image.shape


def test_the_caller_s_image_is_not_written_to() -> None:
    for kind in KINDS:
        image = as_kind(kind, photo())
        before = values(image).copy()
        wild().restore(image, faces=[face_for(40, 40, 50)])
        assert np.array_equal(values(image), before), kind


# --- only the faces change -------------------------------------------------------------------------------------------------

FACES = st.lists(
    st.builds(face_for, st.floats(-5, 125), st.floats(-5, 95), st.floats(10, 200), st.floats(-180, 180)), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), faces=FACES, mask=st.sampled_from(["box", "oval"]), feather=st.floats(0, 0.5))
def test_outside_the_mask_every_pixel_is_the_same(kind: str, faces: list[Face], mask: MaskKind, feather: float) -> None:
    image = as_kind(kind, photo())
    result = wild().restore(image, faces=faces, mask=mask, feather=feather)
    assert same_type(result.image, image)
    assert result.faces == ([faces] if kind == "bchw" else faces)
    weight, old, new = mask_of(result), values(image), values(result.image)
    assert weight.shape == old.shape[:2] and weight.min() >= 0 and weight.max() <= 1
    assert np.array_equal(new[weight == 0], old[weight == 0])
    assert np.array_equal(new[..., 3:], old[..., 3:]), "alpha is kept"
    assert new.min() >= 0 and new.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_inside_the_mask_something_changes(kind: str) -> None:
    image = as_kind(kind, photo())
    result = wild().restore(image, faces=[face_for(60, 45, 60)])
    changed = np.any(values(result.image) != values(image), axis=2)
    assert changed[mask_of(result) > 0.5].mean() > 0.95


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), faces=FACES, mask=st.sampled_from(["box", "oval"]))
def test_an_unchanged_crop_changes_nothing(kind: str, faces: list[Face], mask: MaskKind) -> None:
    """Whatever the size of the face: what is pasted is a difference."""
    image = as_kind(kind, photo())
    result = identity().restore(image, faces=faces, mask=mask)
    error = np.abs(values(result.image) - values(image))
    assert error.mean() < (0.01 / 255) and error.max() < 1e-3


def test_cost_does_not_grow_with_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 7: whole frames warped and blurred once per face."""
    touched: list[int] = []
    for name in ("warpAffine", "GaussianBlur", "resize"):
        original = getattr(cv2, name)

        def watched(image: Array, *arguments: Any, original: Any = original, **options: Any) -> Array:
            result = original(image, *arguments, **options)
            touched.append(max(*image.shape[:2], *result.shape[:2]))
            return result

        monkeypatch.setattr(cv2, name, watched)
    wild().restore(np.zeros((1500, 2000, 3), np.uint8), faces=[face_for(x, 700, 60, 30) for x in range(100, 1900, 200)])
    whole = [side for side in touched if side >= 130]
    assert len(touched) > 9 and len(whole) <= 1, "it is looked at once, for its tone"


# --- where the change lands ------------------------------------------------------------------------------------------------


def blob(size: int, point: int) -> torch.Tensor:
    """Return a soft dot at one of the five points of the crop."""
    x, y = template(size)[point]
    yy, xx = np.mgrid[:size, :size]
    return torch.from_numpy(np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * (size / 20) ** 2)).astype(np.float32))


def centroid(change: Array) -> tuple[float, float]:
    yy, xx = np.mgrid[: change.shape[0], : change.shape[1]]
    return float((xx * change).sum() / change.sum()), float((yy * change).sum() / change.sum())


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3])
@pytest.mark.parametrize("degrees", [0, 33, -90, 180])
@pytest.mark.parametrize("side", [27, 64, 90, 200])
def test_what_the_network_draws_lands_on_the_face(side: float, degrees: float, scale: float) -> None:
    """No shift at any size, rotation and scale (defects 1 and 10): drawn on a point of the crop, found on the face's."""
    image = np.full((260, 330, 3), 0.4, np.float32)
    face = face_for(160.3, 120.7, side, degrees)
    for point in (0, 2, 4):
        draw = restorer_of(functools.partial(torch.add, blob(SIZE, point)))
        result = draw.restore(image, faces=[face], scale=scale, feather=0)
        assert result.image.shape == (round(260 * scale), round(330 * scale), 3)
        expected = (np.array(face.points[point]) + 0.5) * scale - 0.5
        assert centroid(result.image[..., 0] - 0.4) == pytest.approx(tuple(expected), abs=0.1)


def test_a_small_face_is_restored_at_its_own_size() -> None:
    face = face_for(40, 40, 16 / 0.6)
    assert face.size == pytest.approx(16)
    image = photo()
    result = brighter().restore(image, faces=[face])
    inside = result.mask > 0.999
    assert inside.sum() > 100
    assert (result.image - image)[inside] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("amplitude", [0.05, 0.15])
def test_a_large_face_keeps_its_own_detail(amplitude: float) -> None:
    """Five times larger than the crop: checker noise that the crop cannot hold is still there, to the last bit of it."""
    side = 5 * SIZE
    checker = np.where(np.indices((360, 360)).sum(axis=0) % 2, amplitude, -amplitude)[..., None]
    image = (0.35 + checker * np.ones(3)).astype(np.float32)
    result = brighter().restore(image, faces=[face_for(180, 180, side)])
    inside = result.mask > 0.999
    assert inside.sum() > 50_000
    assert (result.image - image)[inside] == pytest.approx(0.1, abs=2e-3)


def test_a_magnified_face_gets_a_notice() -> None:
    image, small, large = photo(300, 300), face_for(150, 150, 100), face_for(150, 150, 200)
    assert brighter().restore(image, faces=[small]).notices == ()
    (notice,) = brighter().restore(image, faces=[small], scale=2).notices
    assert notice.kind == "magnified" and "max_face_size" in notice.text
    (notice,) = brighter().restore(image, faces=[small, large]).notices
    assert "3.1 times larger" in notice.text and notice.face == 1 and notice.frame is None
    assert notice.numbers["times"] == pytest.approx(200 / SIZE) and notice.numbers["crop_px"] == SIZE


def test_the_photo_s_edge_has_no_dark_rim() -> None:
    image = np.full((80, 80, 3), 0.5, np.float32)
    result = brighter().restore(image, faces=[face_for(0, 40, 60), face_for(75, 5, 60, 45)], feather=0.05)
    change = (result.image - image)[..., 0]
    assert change == pytest.approx(0.1 * result.mask, abs=0.02)
    assert (change > 0.09).sum() > 500


# --- depth -----------------------------------------------------------------------------------------------------------------


def test_16_bit_stays_16_bit() -> None:
    """Defect 3: through 8 bit."""
    image = as_kind("uint16", photo(200, 200))
    result = brighter().restore(image, faces=[face_for(100, 100, 150)])
    assert result.image.dtype == np.uint16
    assert len(np.unique(result.image[result.mask > 0.99])) > 2000
    assert np.abs(values(result.image) - values(image) - 0.1 * result.mask[..., None]).max() < 1e-4


def test_rounded_not_truncated() -> None:
    """Defect 3: nine tenths of a step up is one step up; truncated it would be none."""
    nearly = restorer_of(lambda x: x + 2 * 0.9 / 255)
    image = as_kind("uint8", photo())
    result = nearly.restore(image, faces=[face_for(60, 45, 64)])
    inside = result.mask > 0.999
    assert np.array_equal(result.image[inside], image[inside] + 1)


def test_white_stays_white() -> None:
    """Defect 9: overflow past the largest value."""
    for kind in ("uint8", "uint16", "float32", "chw"):
        image = as_kind(kind, np.full((80, 80, 3), 0.98, np.float32))
        assert values(brighter().restore(image, faces=[face_for(40, 40, 60)]).image).min() > 0.975


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "rgba8", "pil", "bchw"])
def test_gray_stays_gray_if_asked(kind: str, scale: float) -> None:
    gray = np.repeat(photo()[..., :1], 3, axis=2)
    image, faces = as_kind(kind, gray), [face_for(60, 45, 60, 20), face_for(90, 45, 60, 20)]
    for method in ("none", "adain", "wavelet"):
        kept = values(wild().restore(image, faces=faces, keep_gray=True, scale=scale, color_match=method).image)
        assert np.abs(kept[..., :1] - kept[..., 1:3]).max() < 1e-6
        assert kept.std() != values(image).std()
    coloured = values(wild().restore(image, faces=faces, keep_gray=False, scale=scale).image)
    assert np.abs(coloured[..., :1] - coloured[..., 1:3]).max() > 0.1


def test_a_scanner_s_noise_in_a_gray_photo_is_no_change() -> None:
    noise = np.random.default_rng(0).normal(0, 0.005, (90, 120, 3)).astype(np.float32)
    image = as_kind("uint8", np.clip(np.repeat(photo()[..., :1], 3, axis=2) + noise, 0, 1))
    faces = [face_for(60, 45, 60)]
    assert Canvas(image).tone is not None and not identity().restore(image, faces=faces, color_match="none").changed
    free, kept = (wild().restore(image, faces=faces, color_match="none", keep_gray=keep).image for keep in (False, True))
    assert np.ptp(values(kept), axis=2).max() < 0.15 < 0.3 < np.ptp(values(free), axis=2).max()


def test_half_floats_have_a_tone_too() -> None:
    image = np.repeat(photo(300, 400)[..., :1], 3, axis=2).astype(np.float16)
    kept = wild().restore(image, faces=[face_for(200, 150, 60)]).image
    assert kept.dtype == np.float16 and np.array_equal(kept[..., 0], kept[..., 1]) and not np.array_equal(kept, image)


@pytest.mark.parametrize("aligned", [False, True])
def test_a_face_whose_pixels_stay_as_they_are_is_no_change(tmp_path: Path, aligned: bool) -> None:
    """What the network took for a good face is no synthesised detail: the file is copied, and not marked as such."""
    image = as_kind("uint8", photo(SIZE, SIZE) if aligned else photo())
    faces = None if aligned else [face_for(60, 45, 60), face_for(80, 50, 50, 20)]
    assert not identity().restore(image, aligned=aligned, faces=faces).changed
    assert brighter().restore(image, aligned=aligned, faces=faces).changed
    if aligned:
        Image.fromarray(image).save(tmp_path / "a.png")
        file = identity().restore_file(tmp_path / "a.png", tmp_path / "b.png", aligned=True)
        assert file.copied and not file.changed and (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_a_colour_photo_is_not_turned_gray() -> None:
    image, faces = as_kind("uint8", photo()), [face_for(60, 45, 60)]
    kept, free = (wild().restore(image, faces=faces, keep_gray=keep).image for keep in (True, False))
    assert np.array_equal(kept, free)


def test_a_gray_photo_on_a_coloured_background_takes_the_network_s_colours() -> None:
    """The caller has colourised it: a gray face would stand out."""
    gray = np.repeat(photo()[..., :1], 3, axis=2)
    colourised = gray * np.linspace((1, 0.8, 0.6), (0.6, 0.8, 1), gray.shape[1], dtype=np.float32)
    result = wild().restore(gray, faces=[face_for(60, 45, 60)], background=colourised)
    assert np.ptp(result.image[result.mask > 0.99], axis=1).mean() > 0.2


@pytest.mark.parametrize("kind", ["uint8", "uint16", "bchw"])
def test_a_tinted_photo_keeps_its_tone_if_asked(kind: str) -> None:
    """A brown print gets no blue eyes: at every brightness it has the colour that it had."""
    gray = np.repeat(photo()[..., :1], 3, axis=2)
    image, faces = as_kind(kind, gray * np.array([1, 0.8, 0.6], np.float32)), [face_for(60, 45, 60)]
    blue = restorer_of(lambda x: x[:, [2, 0, 1]])
    for method in ("none", "wavelet"):
        kept = values(blue.restore(image, faces=faces, color_match=method).image)
        assert np.abs(kept * (0.6, 0.75, 1) - kept[..., 2:]).max() < 0.02
        assert kept.std() != values(image).std()
    free = values(blue.restore(image, faces=faces, keep_gray=False, color_match="none").image)
    assert np.abs(free * (0.6, 0.75, 1) - free[..., 2:]).max() > 0.1


# --- strength, overlap, colour ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(strength=st.floats(0.01, 1), kind=st.sampled_from(["float32", "uint16", "uint8"]), faces=FACES)
def test_strength_is_linear(strength: float, kind: str, faces: list[Face]) -> None:
    image = as_kind(kind, photo() * 0.5 + 0.2)
    full, part = (values(brighter().restore(image, faces=faces, strength=s).image) for s in (1, strength))
    tolerance = {"float32": 1e-5, "uint16": 5 / 65535, "uint8": 5 / 255}[kind]  # a rounding for each of up to four faces
    assert part - values(image) == pytest.approx(strength * (full - values(image)), abs=tolerance)


def test_half_strength_is_halfway_with_a_real_network() -> None:
    image, faces = photo(), [face_for(60, 45, 60, 15)]
    result = [real().restore(image, faces=faces, strength=s) for s in (0.5, 1)]
    clipped = (result[1].image <= 0) | (result[1].image >= 1)
    assert (result[0].image - image)[~clipped] == pytest.approx(0.5 * (result[1].image - image)[~clipped], abs=1e-5)
    assert np.abs(result[1].image - image).max() > 0.05


def test_overlapping_faces_do_not_add_up() -> None:
    image = photo()
    faces = [face_for(50, 45, 60), face_for(65, 45, 60, 30), face_for(50, 45, 60)]
    result = brighter().restore(image, faces=faces)
    change = result.image - image
    assert change.max() < 0.1 + 1e-4 and change.min() > -1e-6
    assert (change[..., 0] > 0.0999).sum() > 2000


def test_where_faces_overlap_the_later_one_lies_on_top() -> None:
    image, options = photo(), RestoreOptions(color_match="none")
    layers = [cut_face(image, face_for(x, 45, 60), SIZE) for x in (50, 65)]
    for layer, change in zip(layers, (0.1, -0.1), strict=True):
        layer.restored = layer.crop + np.float32(change)

    def pasted(some: list[Any]) -> Any:
        return paste_faces(Canvas(image), some, options=options, parser=FaceParser())

    both = np.logical_and(*(pasted([each]).mask > 0.999 for each in layers))
    assert both.sum() > 300
    assert (pasted(layers).image - image)[both] == pytest.approx(-0.1, abs=2e-3)
    assert (pasted(layers[::-1]).image - image)[both] == pytest.approx(0.1, abs=2e-3)


def test_a_face_just_beside_the_photo_changes_nothing() -> None:
    result = brighter().restore(image := photo(), faces=[face_for(-35, 45, 60)])  # its crop ends 5 px before the edge
    assert not result.changed and np.array_equal(result.image, image) and not result.mask.any()


@pytest.mark.parametrize("method", ["adain", "wavelet"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "chw"])
def test_color_match_takes_a_cast_away(kind: str, method: ColorMatch) -> None:
    cast = torch.tensor([0.2, -0.2, 0.1]).view(1, 3, 1, 1)
    image, faces = as_kind(kind, photo()), [face_for(60, 45, 64, 10)]
    restorer = restorer_of(lambda x: x + cast)
    off, on = (values(restorer.restore(image, faces=faces, color_match=m).image) for m in ("none", method))
    assert np.abs(off - values(image)).max() > 0.09
    assert np.abs(on - values(image)).max() < 2 / 255


# --- masks -----------------------------------------------------------------------------------------------------------------


def test_the_result_s_mask_is_the_one_asked_for() -> None:
    """A face as large as its crop, on whole pixels: the mask is ``make_mask``, placed."""
    face = face_for(60 - 0.5, 45 - 0.5, SIZE)
    for kind in ("box", "oval"):
        for feather in (0.05, 0.3):
            result = brighter().restore(photo(), faces=[face], mask=kind, feather=feather)
            expected = make_mask(kind, SIZE, feather)
            assert result.mask[13 : 13 + SIZE, 28 : 28 + SIZE] == pytest.approx(expected, abs=2e-3)
            assert result.image - photo() == pytest.approx(0.1 * result.mask[..., None].repeat(3, 2), abs=1e-3)


def parsenet(path: Path, favourite: int) -> Path:
    """Return a ParseNet file with random weights, ``favourite`` being the class it always sees."""
    module = pytest.importorskip("facexlib.parsing.parsenet")
    torch.manual_seed(0)
    state = module.ParseNet(in_size=PARSE_SIZE, out_size=PARSE_SIZE, parsing_ch=19).state_dict()
    state["out_mask_conv.conv2d.bias"][favourite] = 1e6
    torch.save(state, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("favourite", "head"), [(1, True), (16, False)])
def test_parse_mask_with_facexlib_s_network(favourite: int, head: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parsenet(tmp_path / "parsenet.pth", favourite)
    monkeypatch.setattr("pfr_core.faces.mask.obtain", lambda name, **how: {"parsenet": path}[name])
    restorer = restorer_of(lambda x: x + 0.2)
    image, face = photo(), face_for(60, 45, 60)
    result = restorer.restore(image, faces=[face], mask="parse")
    assert np.array_equal(result.image[result.mask == 0], image[result.mask == 0])
    if head:
        assert result.mask == pytest.approx(restorer.restore(image, faces=[face], mask="box").mask, abs=1e-3)
    else:
        assert np.array_equal(result.image, image), "background and clothes are not the head"


def test_parse_mask_follows_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skin in the left half, background in the right one: soft at the border between, nothing beyond it."""
    logits = torch.zeros(1, 19, PARSE_SIZE, PARSE_SIZE)
    logits[:, 1, :, : PARSE_SIZE // 2] = 1
    logits[:, 0, :, PARSE_SIZE // 2 :] = 1
    seen: list[torch.Tensor] = []
    parser = FaceParser()

    def network(x: torch.Tensor) -> tuple[torch.Tensor]:
        seen.append(x)
        return (logits,)

    monkeypatch.setattr(parser, "_network", network)
    crop = np.zeros((128, 128, 3), np.float32)
    crop[..., 0] = 1
    mask = parser.mask(crop, 0.1)
    assert mask.shape == (128, 128) and mask[:, 66:].max() == 0 and mask[64, 32] == 1
    assert 0 < mask[64, 60] < 1 and mask[0].max() < 0.02
    assert seen[0].shape == (1, 3, 512, 512), "[-1,1], red first"
    assert seen[0][0, :, 5, 5].tolist() == [1, -1, -1]


def test_parse_mask_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("facexlib")
    wrong = tmp_path / "parsing_parsenet.pth"
    torch.save({"weight": torch.zeros(3)}, wrong)
    monkeypatch.setattr("pfr_core.faces.mask.obtain", lambda name, **how: wrong)
    with pytest.raises(WeightsError, match=r"parsing_parsenet\.pth"):
        restorer_of(lambda x: x).restore(photo(), faces=[face_for(60, 45, 60)], mask="parse")


def test_a_stop_is_heard_while_the_parser_is_downloaded(publish: Callable[[str, Path], Any], tmp_path: Path) -> None:
    pytest.importorskip("facexlib")
    path = tmp_path / "parsenet.pth"
    path.write_bytes(bytes(1000))
    server, restorer = publish("parsenet", path), restorer_of(lambda x: x)
    session = restorer.open(photo(), faces=[face_for(60, 45, 60)])
    session.restore()
    faces_left = iter([False])  # before the face; from then on the stop is wanted
    with pytest.raises(Cancelled, match=r"download of parsenet\.pth cancelled"):
        session.compose(mask="parse", should_stop=lambda: next(faces_left, True))
    server.shutdown()
    assert not (tmp_path / "cache" / path.name).exists()


# --- scale and background --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [2, 3, 1.25])
def test_scale_enlarges_by_lanczos_without_a_shift(kind: str, scale: float) -> None:
    image = as_kind(kind, photo())
    plain, face = (identity().restore(image, faces=faces, scale=scale) for faces in ([], [face_for(60, 45, 50, 10)]))
    old, new = values(plain.image), values(face.image)
    assert new.shape == old.shape == (round(90 * scale), round(120 * scale), values(image).shape[2])
    assert np.array_equal(new[mask_of(face) == 0], old[mask_of(face) == 0])
    assert np.abs(new - old)[mask_of(face) > 0][:, :3].mean() < 0.5 / 255
    assert centroid(old[..., 0])[0] == pytest.approx((centroid(values(image)[..., 0])[0] + 0.5) * scale - 0.5, abs=0.2)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "pil-rgba", "chw"])
def test_a_background_is_what_the_faces_are_pasted_into(kind: str) -> None:
    image, faces = as_kind(kind, photo()), [face_for(60, 45, 50, 10)]
    background = as_kind(kind, cv2.resize(photo(seed=5), (240, 180)))
    result = brighter().restore(image, faces=faces, background=background)
    outside = mask_of(result) == 0
    assert same_type(result.image, background) and 0.2 < outside.mean() < 0.95
    assert np.array_equal(values(result.image)[outside], values(background)[outside])
    inside = mask_of(result) > 0.999
    expected = values(cv2.resize(photo(), (240, 180), interpolation=cv2.INTER_LANCZOS4))[inside] + 0.1
    assert np.abs(values(result.image)[inside][:, :3] - expected).mean() < 2 / 255, "the face is the restored one"


def test_a_background_as_lanczos_would_make_it_changes_nothing() -> None:
    image, faces = as_kind("uint8", photo()), [face_for(60, 45, 50, 10)]
    background = identity().restore(image, faces=[], scale=2).image
    result = wild().restore(image, faces=faces, background=background)
    assert np.array_equal(result.image, wild().restore(image, faces=faces, scale=2).image)


@pytest.mark.parametrize(
    ("background", "options", "words"),
    [
        (np.zeros((180, 200, 3), np.uint8), {}, "200x180"),
        (np.zeros((240, 180, 3), np.uint8), {}, "180x240"),
        (np.zeros((180, 240, 3), np.uint16), {}, "picture is uint16, the image uint8"),
        (np.zeros((180, 240, 3), np.float32), {}, "same depth"),
        (np.zeros((180, 240), np.uint8), {}, r"\[180, 240\]"),
        (np.zeros((180, 240, 3), np.uint8), {"scale": 2}, "scale"),
        (torch.zeros(2, 3, 180, 240), {}, "2 backgrounds"),
    ],
)
def test_a_background_that_does_not_fit_is_refused(background: Any, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        brighter().restore(as_kind("uint8", photo()), faces=[face_for(60, 45, 50)], background=background, **options)


@pytest.mark.parametrize(("own", "other"), [(4, 3), (3, 4)])
def test_alpha_comes_from_the_background_or_else_from_the_photo(own: int, other: int) -> None:
    image, faces = as_kind("uint8", photo()), [face_for(60, 45, 50)]
    image = np.dstack([image[..., :3], np.full(image.shape[:2], 90, np.uint8)])
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    result = brighter().restore(image[..., :own], faces=faces, background=large[..., :other])
    assert result.image.shape == large.shape and np.array_equal(result.image[..., 3], large[..., 3])
    assert np.array_equal(result.image[result.mask == 0][:, :3], large[result.mask == 0][:, :3])


# --- aligned ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_aligned_crop_is_restored_as_a_whole(kind: str) -> None:
    image = as_kind(kind, photo(SIZE, SIZE))
    result = real().restore(image, aligned=True)
    x = torch.from_numpy(values(image)[..., :3].astype(np.float32)).permute(2, 0, 1)[None] * 2 - 1
    with torch.inference_mode():
        y = ((real().net(x).clamp(-1, 1) + 1) / 2)[0].permute(1, 2, 0).numpy()
    assert same_type(result.image, image)
    assert np.abs(values(result.image)[..., :3] - y).max() < 1 / 255
    assert np.array_equal(values(result.image)[..., 3:], values(image)[..., 3:])
    assert (mask_of(result) == 1).all()


@pytest.mark.parametrize("side", [1, 20, 100, 200])
def test_aligned_squares_of_other_sizes(side: int) -> None:
    image = photo(side, side)
    result = brighter().restore(image, aligned=True)
    assert result.image.shape == image.shape and result.image - image == pytest.approx(0.1, abs=2e-3)
    assert identity().restore(image, aligned=True).image == pytest.approx(image, abs=1e-5)


def test_aligned_with_scale_strength_and_batch() -> None:
    image = photo(SIZE, SIZE)
    large = brighter().restore(image, aligned=True, scale=2).image
    assert large.shape == (2 * SIZE, 2 * SIZE, 3)
    assert np.abs(large - identity().restore(image, aligned=True, scale=2).image - 0.1).max() < 0.01
    half = brighter().restore(image, aligned=True, strength=0.5).image
    assert half - image == pytest.approx(0.05, abs=1e-4)
    batch = torch.stack([torch.from_numpy(photo(SIZE, SIZE, seed=seed)).permute(2, 0, 1) for seed in range(3)])
    result = brighter().restore(batch, aligned=True)
    assert (result.image - batch).numpy() == pytest.approx(0.1, abs=1e-4) and result.mask.shape == (3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.5}, "threshold"),
        ({"select": "largest"}, "select"),
        ({"mask": "oval"}, "mask"),
        ({"feather": 0.2}, "feather"),
        ({"min_face_size": 3}, "min_face_size"),
        ({"faces": []}, "faces"),
        ({"faces": [face_for(20, 20, 30)]}, "faces"),
    ],
)
def test_options_without_effect_on_aligned_crops_are_refused(options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        identity().restore(photo(SIZE, SIZE), aligned=True, **options)


def test_aligned_must_be_square() -> None:
    with pytest.raises(InputError, match="120x90"):
        identity().restore(photo(), aligned=True)


# --- batches ---------------------------------------------------------------------------------------------------------------


def test_a_batch_in_is_the_same_batch_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame n has n % 3 faces and a brightness that tells the frames apart."""
    frames = [photo(60, 80, seed=n) * 0.01 + n / 10 for n in range(8)]
    faces = [[face_for(30 + 10 * k, 30, 30) for k in range(n % 3)] for n in range(8)]
    detecting(brighter(), monkeypatch, lambda image: faces[round(float(image.mean()) / 25.5 - 0.04)])
    batch = torch.stack([torch.from_numpy(frame).permute(2, 0, 1) for frame in frames])
    result = brighter().restore(batch)
    assert result.image.shape == batch.shape and result.mask.shape == (8, 60, 80) and result.faces == faces
    for n in range(8):
        assert torch.equal(result.image[n][:, result.mask[n] == 0], batch[n][:, result.mask[n] == 0])
        assert bool(result.mask[n].any()) == bool(faces[n])
        alone = brighter().restore(batch[n])
        assert torch.allclose(alone.image, result.image[n], atol=1e-6) and torch.equal(alone.mask, result.mask[n])


@pytest.mark.parametrize("options", [{}, {"aligned": True}, {"strength": 0.0}])
def test_an_empty_batch(options: Any) -> None:
    result = identity().restore(torch.zeros(0, 3, 64, 64), **options)
    assert result.image.shape == (0, 3, 64, 64) and result.mask.shape == (0, 64, 64) and result.faces == []


@pytest.mark.slow
def test_a_face_alone_is_the_same_face_among_eight() -> None:
    image = photo(200, 400)
    faces = [face_for(40 + 45 * n, 60 + 10 * n, 40 + 3 * n, 12 * n) for n in range(8)]
    together = stacked([cut_face(image, face, SIZE).crop for face in faces], SIZE)
    batches: list[int] = []
    counting = real().net.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    restored = real().restore_crops(together)
    for n in range(8):
        assert real().restore_crops(together[n : n + 1])[0] == pytest.approx(restored[n], abs=1e-4)
    counting.remove()
    assert batches == [8, *[1] * 8]


def test_the_batch_size_is_kept_to() -> None:
    assert FaceRestorer(identity().net, device="cpu").batch_size == 1, "a CPU gains nothing by more"
    assert faces_at_once(torch.device("cuda")) == 8
    restorer = restorer_of(lambda x: x, batch_size=3)
    image = photo()
    restorer.restore(image, faces=[face_for(40 + x, 40, 50) for x in range(8)])
    assert restorer.net.batches == [3, 3, 2]


# --- memory, errors, stopping, progress ------------------------------------------------------------------------------------


def out_of_memory_above(limit: int, error: type[BaseException] = torch.OutOfMemoryError) -> FaceRestorer:
    def change(x: torch.Tensor) -> torch.Tensor:
        if len(x) > limit:
            raise error("out of memory")
        return x + 0.2

    return restorer_of(change, batch_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
@pytest.mark.parametrize(("limit", "batches"), [(3, [8, 4, 2, 2, 2, 2, 2]), (5, [8, 4, 4, 2]), (1, [8, 4, 2] + [1] * 10)])
def test_out_of_memory_halves_the_batch(limit: int, batches: list[int], error: type[BaseException]) -> None:
    restorer = out_of_memory_above(limit, error)
    crops = np.random.default_rng(0).random((10, SIZE, SIZE, 3), dtype=np.float32) * 0.8
    assert restorer.restore_crops(crops) == pytest.approx(crops + 0.1, abs=1e-5)
    assert restorer.net.batches == batches
    assert restorer.batch_size == 8, "the next photograph may fit"


def test_out_of_memory_with_one_face_is_raised() -> None:
    restorer = out_of_memory_above(0)
    with pytest.raises(torch.OutOfMemoryError):
        restorer.restore_crops(np.zeros((5, SIZE, SIZE, 3), np.float32))
    assert restorer.net.batches == [5, 2, 1]


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"))
    assert not is_out_of_memory(RuntimeError("boom")) and not is_out_of_memory(ValueError("out of memory"))


def test_errors_are_not_swallowed() -> None:
    """Defect 5: printed, and the unrestored crop pasted."""

    def boom(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("boom")

    restorer = restorer_of(boom, batch_size=8)
    with pytest.raises(RuntimeError, match="boom"):
        restorer.restore(photo(), faces=[face_for(60 + x, 45, 50) for x in range(3)])
    assert restorer.net.batches == [3], "tried once"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_gives_no_numbers_is_named(value: float) -> None:
    """fp16 can overflow; the face must not become a black hole."""
    with pytest.raises(NotFiniteError, match=r"NaN or infinity in torch\.float32\. Use another model file"):
        restorer_of(lambda x: x + value, dtype="fp32").restore(photo(), faces=[face_for(60, 45, 50)])
    with pytest.raises(NotFiniteError, match=r"NaN or infinity in torch\.bfloat16\. Use dtype fp32, or another model file"):
        restorer_of(lambda x: x + value, dtype="bf16").restore(photo(), faces=[face_for(60, 45, 50)])


def test_should_stop() -> None:
    """Asked before each frame, each cut, batch of faces, paste and face of it; whenever it says so, the work ends."""
    restorer = restorer_of(lambda x: x, batch_size=1)
    faces = [face_for(60 + x, 45, 50) for x in range(5)]
    asked: list[bool] = []

    def run(stop_at: int | None) -> bool:
        """Restore, and stop at a question, counted from 1; return whether the work came to its end."""
        asked.clear()

        def should_stop() -> bool:
            asked.append(len(asked) + 1 == stop_at)
            return asked[-1]

        try:
            return bool(restorer.restore(photo(), faces=faces, should_stop=should_stop).mask.any())
        except Cancelled:
            return False

    assert run(None)
    questions = len(asked)
    assert questions >= 1 + 5 + 5 + 1 + 5, "one frame, five faces to cut and to restore, one paste of five faces"
    for number in range(1, questions + 1):
        assert not run(number) and len(asked) == number


def test_progress_never_goes_back_and_ends_at_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = restorer_of(lambda x: x, batch_size=2)
    detecting(restorer, monkeypatch, lambda image: [face_for(40, 40, 40), face_for(70, 40, 40)])
    calls: list[tuple[str, int, int]] = []
    batch = torch.rand(3, 3, 90, 120)
    result = restorer.restore(batch, progress=lambda *call: calls.append(call))
    for stage, total in (("detect", 3), ("restore", 6), ("paste", 3)):
        done = [call[1] for call in calls if call[0] == stage]
        assert done == sorted(set(done)) and done[-1] == total and {c[2] for c in calls if c[0] == stage} == {total}
    assert {call[0] for call in calls} <= set(result.seconds)
    assert [call[0] for call in calls] == sorted((c[0] for c in calls), key=["detect", "restore", "paste"].index)


# --- options and names -----------------------------------------------------------------------------------------------------


def test_finding_options_reach_the_detector_and_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [face_for(80, 30, 30, score=0.95), face_for(30, 60, 50, score=0.85), face_for(60, 45, 20, score=0.99)]
    restorer = restorer_of(lambda x: x, options=RestoreOptions(threshold=0.3))
    calls = detecting(restorer, monkeypatch, lambda image: faces)
    image = photo()
    assert restorer.restore(image).faces == [faces[1], faces[2], faces[0]]
    assert restorer.restore(image, select="largest", detection_size=640, sideways=True).faces == [faces[1]]
    assert restorer.restore(image, select="index", indices=(0, 2), order="score").faces == [faces[2], faces[1]]
    assert restorer.restore(image, min_face_size=15, max_face_size=20, threshold=0.7).faces == [faces[0]]
    assert restorer.restore(image, count=1, order="size").faces == [faces[1]]
    always = {"threshold": 0.3, "right_way_up": True, "should_stop": None}
    assert calls[0] == {**always, "size": 1280, "sideways": False}
    assert calls[1] == {**always, "size": 640, "sideways": True}
    assert calls[3]["threshold"] == 0.7


def test_the_options_of_the_object_stay_as_they_are() -> None:
    options = RestoreOptions(strength=0.5, color_match="none")
    restorer = restorer_of(lambda x: x + 0.2, options=options)
    image, faces = photo(), [face_for(60, 45, 60)]
    assert np.abs(restorer.restore(image, faces=faces, strength=1).image - image).max() == pytest.approx(0.1, abs=1e-3)
    assert np.abs(restorer.restore(image, faces=faces).image - image).max() == pytest.approx(0.05, abs=1e-3)
    assert restorer.options is options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strenght": 0.5}, "strenght"),
        ({"strength": 1.5}, "strength"),
        ({"mask": "circle"}, "circle"),
        ({"color_match": "lab"}, "lab"),
        ({"scale": 0.5}, "scale"),
        ({"faces": [], "threshold": 0.5}, "threshold"),
        ({"faces": [], "select": "all"}, "select"),
        ({"indices": (0,)}, "indices"),
        ({"select": "index"}, "indices"),
        ({"select": "index", "indices": (-1,)}, "indices"),
        ({"select": "largest", "count": 2}, "count"),
        ({"min_face_size": 9, "max_face_size": 5}, "max_face_size"),
    ],
)
def test_options_are_refused_by_name(arguments: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detecting(identity(), monkeypatch, lambda image: [face_for(60, 45, 50)])
    with pytest.raises(InputError, match=words):
        identity().restore(photo(), **arguments)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((9, 9, 3), np.int32), "int32"),
        (np.full((9, 9, 3), 200.0), "200"),
        (np.full((9, 9, 3), np.nan), "NaN"),
        (np.full((9, 9, 3), -np.inf), "NaN or inf"),
        (np.zeros((9, 9), np.uint8), r"\[9, 9\]"),
        (np.zeros((3, 19, 29), np.uint8), r"\[3, 19, 29\]"),
        (np.zeros((9, 9, 5), np.uint8), r"\[9, 9, 5\]"),
        (torch.full((3, 9, 9), float("nan")), "NaN"),
        (torch.zeros(1, 9, 9, 3), r"\[1, 9, 9, 3\]"),
        (Image.new("CMYK", (9, 9)), "CMYK"),
        (42, "int"),
    ],
)
def test_images_are_refused_by_name(image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        identity().restore(image, faces=[])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "gfpgan"}, "gfpgan"),
        ({"model": 3}, "int"),
        ({"model": torch.nn.Identity()}, "Identity"),
        ({"detector": "yolo"}, "yolo"),
        ({"device": "tpu"}, "tpu"),
        ({"device": "cuda:"}, "cuda:"),
        ({"device": "cuda:x"}, "cuda:x"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "cpu:1"}, "cpu:1"),
        ({"dtype": "int8"}, "int8"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "8"}, "batch_size"),
        ({"batch_size": 4097}, "batch_size is 4097; it must be a whole number from 1 to 4096"),
    ],
)
def test_unknown_names_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises((InputError, CheckpointError), match=words):
        FaceRestorer(**{"model": identity().net, "device": "cpu", **arguments})


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="options is a dict"):
        identity().restore(np.zeros((9, 9, 3), np.uint8), faces=[], options={"strength": 1.0})  # type: ignore[call-overload]


def test_devices_and_dtypes() -> None:
    cpu = torch.device("cpu")
    assert resolve_device("cpu") == cpu == resolve_device(cpu)
    assert resolve_device("auto").type in ("cuda", "mps", "xpu", "cpu")
    assert [resolve_dtype(name, cpu) for name in ("fp32", "bf16")] == [torch.float32, torch.bfloat16]
    assert resolve_dtype("fp16", torch.device("cuda")) == torch.float16
    with pytest.raises(InputError, match="minutes a face"):
        resolve_dtype("fp16", cpu)


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_is_bf16_on_a_cpu_that_is_faster_in_it(
    capabilities: dict[str, object], chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    cpu = torch.device("cpu")
    assert resolve_dtype("auto", cpu) is chosen
    assert resolve_dtype("auto", cpu, ["fp32"]) is torch.float32


def test_auto_is_fp32_on_a_cpu_where_torch_is_too_old_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_dtype("auto", torch.device("cpu")) is torch.float32


def test_faces_for_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="batch of 2"):
        identity().restore(torch.zeros(2, 3, 20, 20), faces=[face_for(10, 10, 10)])


def test_a_face_outside_the_photo_is_refused() -> None:
    with pytest.raises(InputError, match="outside"):
        identity().restore(photo(), faces=[face_for(900, 40, 30)])


@pytest.mark.slow
def test_bfloat16_gives_about_the_same() -> None:
    torch.manual_seed(0)
    low = FaceRestorer(PFR(CONFIG), device="cpu", dtype="bf16", options=RestoreOptions(color_match="none"))
    image, faces = photo(), [face_for(60, 45, 60)]
    assert low.net.place[1] == torch.bfloat16
    difference = np.abs(low.restore(image, faces=faces).image - real().restore(image, faces=faces).image)
    assert difference.mean() < 0.02


# --- files, provenance, pieces -----------------------------------------------------------------------------------------------


def test_a_path_gives_an_array(tmp_path: Path) -> None:
    image = as_kind("uint8", photo())
    Image.fromarray(image).save(tmp_path / "photo.png")
    for path in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        result = brighter().restore(path, faces=[face_for(60, 45, 50)])
        assert np.array_equal(result.image, brighter().restore(image, faces=[face_for(60, 45, 50)]).image)


def test_before_and_after_are_the_crops() -> None:
    image, face = photo(), face_for(60 - 0.5, 45 - 0.5, SIZE)
    result = brighter().restore(image, faces=[face], strength=0.3, color_match="adain")
    assert result.crops_before.shape == result.crops_after.shape == (1, SIZE, SIZE, 3)
    assert result.crops_before[0] == pytest.approx(image[13 : 13 + SIZE, 28 : 28 + SIZE], abs=1e-3)
    assert result.crops_after - result.crops_before == pytest.approx(0.1, abs=1e-5), "before strength and colour match"
    assert set(result.seconds) == {"detect", "align", "restore", "paste"}


def test_crops_can_be_pasted_again_with_other_options() -> None:
    image, faces = photo(), [face_for(60, 45, 50, 10), face_for(90, 45, 30)]
    whole = wild().restore(image, faces=faces, strength=0.4, mask="oval")
    options = RestoreOptions(strength=0.4, mask="oval", color_match="none")
    layers = [cut_face(image, face, SIZE) for face in faces]
    for layer, after in zip(layers, whole.crops_after, strict=True):
        layer.restored = after
    again = paste_faces(Canvas(image), layers, options=options, parser=wild().parser)
    assert np.array_equal(again.image, whole.image) and np.array_equal(again.mask, whole.mask)


def test_provenance_tells_networks_apart() -> None:
    """Also where there is no file: a network of the caller's, a preset."""
    marks = [restorer.provenance for restorer in (real(), identity(), FaceRestorer("pfr-256-lite", device="cpu"))]
    assert len({mark.sha256 for mark in marks}) == 3 and all(len(mark.sha256) == 64 for mark in marks)
    assert [mark.model for mark in marks] == ["custom", "custom", "pfr-256-lite"]
    assert real().provenance == marks[0]


def test_annotate_draws_on_a_copy() -> None:
    for channels in (3, 4):
        image = np.zeros((90, 120, channels), np.uint8)
        faces = [face_for(60, 45, 50), face_for(-5, -5, 30), face_for(118, 88, 30)]
        drawn = annotate(image, faces)
        assert not image.any() and drawn.shape == (90, 120, 3)
        assert drawn[:, 45].any() and drawn[45].any()
        for point in faces[0].points:
            assert drawn[round(point[1]), round(point[0])].tolist() == [255, 60, 60]
    assert not annotate(np.zeros((9, 9, 3), np.uint8), []).any()


def test_crop_maps_the_points_to_the_template() -> None:
    """From a picture: five dots of the photograph lie on the template's points in the crop."""
    face = face_for(61.2, 44.7, 75, -25)
    for point, target in zip(face.points, template(SIZE), strict=True):
        yy, xx = np.mgrid[:90, :120]
        dot = np.exp(-((xx - point[0]) ** 2 + (yy - point[1]) ** 2) / 18).astype(np.float32)
        crop = cut_face(np.repeat(dot[..., None], 3, axis=2), face, SIZE).crop
        assert centroid(crop[..., 0].astype(np.float64)) == pytest.approx(tuple(target), abs=0.1)
    corner = invert(alignment_matrix(face, SIZE)) @ (SIZE / 2 - 0.5, SIZE / 2 - 0.5, 1)
    assert corner == pytest.approx((61.2, 44.7), abs=1e-6)
