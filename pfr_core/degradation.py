"""The degradation model of section 4.1, Eq. 17: ``x = JPEG_q((y * k) down_s + n_delta)``, resized to the input size.

Order: blur with a kernel of 41 px; resize by 1/s (s < 1 enlarges); Gaussian noise of standard deviation delta in 8-bit
units; clip and round; JPEG of quality q; resize back. Every parameter is drawn uniformly from the paper's full range.

Ours, where the paper is silent: the three kinds of kernel are equally likely; Gaussian sigma 0.1-10 px (GFPGAN's
range); motion blur of 30-41 px (shorter ones make the average input milder than the paper's); noise independent in each
channel; pixel areas are averaged when shrinking, bicubic when enlarging and bilinear when resizing back; JPEG with
4:2:0 chroma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .photo.photo import LONGEST_SIDE
from .support.choices import Blur

Range = tuple[float, float]
UInt8Image = npt.NDArray[np.uint8]

KERNEL_SIZE = 41


@dataclass(frozen=True)
class DegradationParameters:
    """What was drawn for one image; ``None`` means that the stage is off.

    Attributes:
        blur: kind of kernel.
        sigma: standard deviations in pixels along and across ``angle`` (equal if isotropic); motion: the length twice.
        angle: orientation of the kernel in radians, [0, pi).
        scale: s, the factor by which the image is shrunk (below 1: enlarged).
        noise: delta, standard deviation in 8-bit units.
        noise_seed: seed of the noise field.
        quality: q, JPEG quality.
    """

    blur: Blur | None
    sigma: Range
    angle: float
    scale: float | None
    noise: float | None
    noise_seed: int
    quality: int | None


@dataclass(frozen=True)
class Degradation:
    """Eq. 17 as a distribution over degradations, and its application.

    Each range is ``(low, high)``; a fixed value is ``(v, v)``; ``None`` turns the stage off. Defaults: the paper's.

    Args:
        blur: kinds of kernel to choose from; ``None`` or empty: no blur.
        sigma: range of the Gaussian standard deviations in pixels.
        motion_length: range of the length of motion blur in pixels, at most the kernel's 41.
        scale: range of s.
        noise: range of delta in 8-bit units.
        quality: range of the JPEG quality q.

    Raises:
        InputError: a range is empty or outside what the stage can do.

    Example:
        >>> face = np.full((64, 64, 3), 128, np.uint8)
        >>> degraded, parameters = Degradation(noise=None)(face, seed=1)
        >>> degraded.shape, parameters.noise
        ((64, 64, 3), None)
    """

    blur: tuple[Blur, ...] | None = ("isotropic", "anisotropic", "motion")
    sigma: Range = (0.1, 10.0)
    motion_length: Range = (30.0, 41.0)
    scale: Range | None = (0.4, 8.0)
    noise: Range | None = (0.0, 25.0)
    quality: Range | None = (5, 50)

    def __post_init__(self) -> None:
        for kind in self.blur or ():
            if kind not in get_args(Blur):
                raise InputError(f"blur: {kind!r} is unknown; choose from {', '.join(get_args(Blur))}.")
        limits: dict[str, tuple[Range | None, float, float]] = {
            "sigma": (self.sigma, 0.01, 100.0),
            "motion_length": (self.motion_length, 1.0, KERNEL_SIZE),
            "scale": (self.scale, 0.1, 64.0),
            "noise": (self.noise, 0.0, 255.0),
            "quality": (self.quality, 1, 100),
        }
        for name, (value, low, high) in limits.items():
            if value is not None and not low <= value[0] <= value[1] <= high:
                raise InputError(f"{name} is {value}; it must be (low, high) within {low:g} to {high:g}.")
        if self.quality is not None and any(bound != int(bound) for bound in self.quality):
            raise InputError(f"quality is {self.quality}; JPEG knows whole numbers only.")

    def draw(self, seed: int | tuple[int, ...]) -> DegradationParameters:
        """Draw one set of parameters; the same seed gives the same set in every process.

        Every number is drawn whether its stage is on or not, so fixing one stage does not change the others.

        Raises:
            InputError: a negative seed.
        """
        if min(seed if isinstance(seed, tuple) else (seed,)) < 0:
            raise InputError(f"Degradation: the seed is {seed}; it must not be negative.")
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        kind_draw, angle = rng.random(), float(rng.uniform(0.0, math.pi))
        along, across = (float(v) for v in rng.uniform(*self.sigma, size=2))
        length = float(rng.uniform(*self.motion_length))
        unit_scale, unit_noise, unit_quality = rng.random(3)
        noise_seed = int(rng.integers(2**63))

        kind = self.blur[int(kind_draw * len(self.blur))] if self.blur else None
        sigma = {"isotropic": (along, along), "motion": (length, length)}.get(str(kind), (along, across))

        def within(bounds: Range | None, unit: float) -> float | None:
            return None if bounds is None else float(bounds[0] + unit * (bounds[1] - bounds[0]))

        quality = None
        if self.quality is not None:  # whole numbers, both ends as likely as the rest
            low, high = int(self.quality[0]), int(self.quality[1])
            quality = low + int(unit_quality * (high - low + 1))
        return DegradationParameters(
            blur=kind,
            sigma=sigma,
            angle=angle,
            scale=within(self.scale, unit_scale),
            noise=within(self.noise, unit_noise),
            noise_seed=noise_seed,
            quality=quality,
        )

    def __call__(self, image: UInt8Image, seed: int | tuple[int, ...]) -> tuple[UInt8Image, DegradationParameters]:
        """Degrade ``image`` [H,W,3] RGB uint8 with parameters drawn from ``seed``; also returns the parameters."""
        parameters = self.draw(seed)
        return degrade(image, parameters), parameters


def blur_kernel(parameters: DegradationParameters) -> npt.NDArray[np.float32]:
    """Return the kernel k of Eq. 17: [41,41] float32, non-negative, sums to 1.

    Raises:
        InputError: the parameters are without blur.
    """
    if parameters.blur is None:
        raise InputError("blur_kernel: these parameters have no blur.")
    radius = KERNEL_SIZE // 2
    grid = np.arange(-radius, radius + 1, dtype=np.float64)
    x, y = np.meshgrid(grid, grid)
    cos, sin = math.cos(parameters.angle), math.sin(parameters.angle)
    along, across = x * cos + y * sin, y * cos - x * sin
    if parameters.blur == "motion":
        # A line with soft ends and edges of one pixel, so that every angle and length is smooth.
        half = parameters.sigma[0] / 2
        kernel = np.clip(half + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    else:
        kernel = np.exp(-0.5 * ((along / parameters.sigma[0]) ** 2 + (across / parameters.sigma[1]) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def degrade(image: UInt8Image, parameters: DegradationParameters, enlarging: int = cv2.INTER_LINEAR) -> UInt8Image:
    """Apply Eq. 17 with given parameters: [H,W,3] RGB uint8 -> the same shape and type, a new array.

    Args:
        image: what is degraded.
        parameters: how.
        enlarging: OpenCV's interpolation for resizing back.

    Raises:
        InputError: not an [H,W,3] uint8 array, an empty one, or one that enlarged is too large for a JPEG.
    """
    _check(image)
    height, width = image.shape[:2]
    x: npt.NDArray[Any] = image.astype(np.float32)
    if parameters.blur is not None:
        x = cv2.filter2D(x, -1, blur_kernel(parameters), borderType=cv2.BORDER_REFLECT_101)
    if parameters.scale is not None:
        size = (max(1, round(width / parameters.scale)), max(1, round(height / parameters.scale)))
        if parameters.quality is not None and max(size) > LONGEST_SIDE["JPEG"]:
            raise InputError(
                f"enlarged by {1 / parameters.scale:.2g} it is {size[0]} x {size[1]} px, and a JPEG has at most "
                f"{LONGEST_SIDE['JPEG']}; shrink it first, or degrade it with a scale of at least 1."
            )
        x = _resize(x, size, cv2.INTER_AREA if parameters.scale > 1 else cv2.INTER_CUBIC)
    if parameters.noise is not None:
        rng = np.random.Generator(np.random.PCG64(parameters.noise_seed))
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(parameters.noise)
    x = np.clip(np.rint(x), 0, 255).astype(np.uint8)
    if parameters.quality is not None:
        _, data = cv2.imencode(".jpg", x[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, parameters.quality])
        x = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]
    x = _resize(x, (width, height), enlarging if x.shape[0] < height else cv2.INTER_LINEAR)
    return np.ascontiguousarray(x)


def bicubic_downsample(image: UInt8Image, factor: int = 4) -> UInt8Image:
    """Return the input of the paper's 4x super-resolution task (Table 2): shrunk and enlarged back.

    Bicubic both ways, with a low-pass filter when shrinking. [H,W,3] RGB uint8 -> the same shape and type.

    Raises:
        InputError: not an [H,W,3] uint8 array, or smaller than ``factor``; a factor below 1.
    """
    from PIL import Image  # the only bicubic with a low-pass filter among the base packages

    _check(image)
    height, width = image.shape[:2]
    if not 1 <= factor <= min(height, width):
        raise InputError(f"bicubic_downsample: an image of {width}x{height} cannot be shrunk {factor} times.")
    small = Image.fromarray(image).resize((width // factor, height // factor), Image.Resampling.BICUBIC)
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))  # np.asarray's would be read-only


def _check(image: UInt8Image) -> None:
    good = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not good or image.size == 0:
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"Degradation takes an [H,W,3] RGB uint8 array, got {got}.")


def _resize(image: npt.NDArray[Any], size: tuple[int, int], interpolation: int) -> npt.NDArray[Any]:
    same = (image.shape[1], image.shape[0]) == size
    return image if same else cv2.resize(image, size, interpolation=interpolation)
