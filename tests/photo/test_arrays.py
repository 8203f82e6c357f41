"""Arrays, PIL images and tensors: in and out unchanged, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core.errors import InputError
from pfr_core.photo.arrays import unpack

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_numpy_round_trip(dtype: Any, channels: int) -> None:
    image = RNG.random((5, 7, channels))
    image = image.astype(dtype) if np.issubdtype(dtype, np.floating) else (image * np.iinfo(dtype).max).astype(dtype)
    frames, repack = unpack(image)
    result = repack([frame.copy() for frame in frames])
    assert len(frames) == 1 and result.dtype == image.dtype and np.array_equal(result, image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 5, 7), (1, 3, 5, 7), (3, 4, 5, 7), (0, 3, 5, 7)])
def test_tensor_round_trip(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """float64 too must not lose a bit on the way."""
    image = torch.from_numpy(RNG.random(shape)).to(dtype)
    frames, repack = unpack(image)
    assert len(frames) == (shape[0] if len(shape) == 4 else 1)
    assert all(frame.shape == (5, 7, shape[-3]) for frame in frames)
    result = repack([frame.copy() for frame in frames])
    assert result.shape == image.shape and result.dtype == dtype and torch.equal(result, image)


def test_tensor_channels_become_the_last_axis() -> None:
    image = torch.zeros(3, 5, 7)
    image[1, 2, 6] = 1
    assert unpack(image)[0][0][2, 6].tolist() == [0, 1, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pil_round_trip(mode: str) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (5, 7, len(mode)), dtype=np.uint8))
    frames, repack = unpack(image)
    result = repack(frames)
    assert result.mode == mode and result.size == (7, 5) and result.tobytes() == image.tobytes()


def test_slightly_overshooting_floats_are_taken() -> None:
    unpack(np.full((2, 2, 3), 1.0005, np.float32))
    unpack(torch.full((3, 2, 2), -0.0005))


def nan(value: float, shape: tuple[int, ...] = (4, 4, 3)) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    array.flat[5] = value
    return array


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (nan(float("nan")), "NaN"),
        (nan(float("inf")), "NaN or inf"),
        (nan(-float("inf")), "NaN or inf"),
        (torch.from_numpy(nan(float("nan"), (3, 4, 4))), "NaN"),
        (torch.from_numpy(nan(float("inf"), (2, 3, 4, 4))), "NaN or inf"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (np.zeros((4, 4, 3), np.complex64), "complex64"),
        (np.zeros((4, 4, 3), object), "object"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "int32"),
        (np.full((4, 4, 3), 255, np.float32), "Divide by 255"),
        (np.full((4, 4, 3), -1, np.float32), r"\(x \+ 1\) / 2"),
        (torch.full((3, 4, 4), 255.0), "255"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((3, 14, 24), np.uint8), r"\[3, 14, 24\]"),
        (np.zeros((4, 4, 1), np.uint8), r"\[4, 4, 1\]"),
        (np.zeros((4, 4, 5), np.uint8), r"\[4, 4, 5\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        (torch.zeros(4, 4), r"\[4, 4\]"),
        (torch.zeros(5, 4, 4), r"\[5, 4, 4\]"),
        (torch.zeros(1, 14, 24, 3), r"\[1, 14, 24, 3\]"),
        (torch.zeros(1, 1, 3, 4, 4), r"\[1, 1, 3, 4, 4\]"),
        (torch.zeros(3, 0, 4), r"\[3, 0, 4\]"),
        (torch.zeros(0, 3, 0, 4), r"\[0, 3, 0, 4\]"),
        (Image.new("L", (4, 4)), "'L'"),
        (Image.new("P", (4, 4)), "'P'"),
        (Image.new("RGB", (0, 4)), r"\[4, 0, 3\]"),
        ([[1, 2, 3]], "list"),
        (None, "NoneType"),
    ],
)
def test_refused_by_name(image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        unpack(image)
