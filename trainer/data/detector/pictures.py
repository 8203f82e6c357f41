"""Training pictures: composites with exact labels, and pieces of real photographs for the published RetinaFace to label.

A composite is a background with aligned faces pasted in, some cut by the border, turned, mirrored, half hidden; beside them
pieces without a face, pasted in the same way, so that an edge does not give a face away. All numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from pfr_core.faces.face import MIRRORED
from pfr_core.faces.geometry import rescaling, transform

from ..dataset import RGB8
from .photographs import Material, Picture
from .spoil import spoil

SMALLEST_FACE = 16

SHIFT = 4
"""Binary digits behind the point with which OpenCV draws."""

ONE_FACE, ANY_FACE = 0.3, 0.9
"""Shares of the composites with a single face, and with any; those in between have two to nine."""

TILTED, ANY_TURN = 0.2, 0.23
"""Shares of the pasted faces turned by up to 45 degrees, and those or by any angle; the others are nearly upright."""

MASKED, HIDDEN = 0.15, 0.35
"""Shares of the pasted faces that wear a mask, and of those that do or are half hidden."""

COMMON, COMMON_LARGEST, LARGEST = 0.85, 0.5, 0.85
"""Share of the pictures whose faces are at most as wide as the second share of the side, mostly looked for at full size; in
the others they are at most as wide as the third."""

VISIBLE = 0.55
"""A face of which less is left in the picture, or uncovered, is no longer one that must be found, nor one that must not."""


@dataclass
class LabelledPicture:
    """A training picture.

    Attributes:
        image: [S,S,3] RGB uint8.
        exact: the labels below are all there is; else the published RetinaFace has to look at ``image``.
        boxes: [N,4] float32 px.
        points: [N,5,2] float32 px.
        ignored: [M,4] boxes of faces too hidden to count either way.
    """

    image: RGB8
    exact: bool
    boxes: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))
    points: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 5, 2), np.float32))
    ignored: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))


def composite(material: Material, size: int, rng: np.random.Generator) -> LabelledPicture:
    """Return a composite of ``size`` px."""
    canvas = _background(material, size, rng)
    boxes: list[npt.NDArray[np.float32]] = []
    points: list[npt.NDArray[np.float32]] = []
    hidden: list[npt.NDArray[np.float32]] = []

    def cover(region: npt.NDArray[np.float32]) -> None:
        for number in reversed(range(len(boxes))):
            if _share(boxes[number], region) > 1 - VISIBLE:
                hidden.append(boxes.pop(number))
                points.pop(number)

    kind, count = rng.random(), 0
    if kind < ONE_FACE:
        count = 1
    elif kind < ANY_FACE:
        count = int(rng.integers(2, 10))
    common = _width(size * (_largest(rng) if count == 1 else 0.35), rng)
    for _ in range(count):
        width = float(np.clip(common * np.exp(rng.normal(0, 0.35)), SMALLEST_FACE, 1.2 * size))
        if rng.random() < 0.25 and material.negatives:  # not a face, but pasted like one
            cover(_paste(canvas, _choose(material.negatives, rng), width * 1.8, rng)[0])
            continue
        box, five = _paste(canvas, _choose(material.faces, rng), width, rng)
        cover(box)
        if _share(box, np.array([0, 0, size, size], np.float32)) < VISIBLE:
            hidden.append(box)
            continue
        draw = rng.random()
        if draw < MASKED:
            paint_mask(canvas, five, rng)
        elif draw < HIDDEN:
            _occlude(canvas, box, material, rng)
        boxes.append(box)
        points.append(five)
    return LabelledPicture(
        spoil(canvas, rng),
        exact=True,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        points=np.array(points, np.float32).reshape(-1, 5, 2),
        ignored=np.array(hidden, np.float32).reshape(-1, 4),
    )


def piece(photo: Picture, size: int, rng: np.random.Generator) -> LabelledPicture:
    """Return a piece of a photograph at a random scale, mostly around one of its faces."""
    height, width = photo.levels[0].shape[:2]
    angle = rng.normal(0, 12) if rng.random() < 0.4 else 0.0
    if len(photo.boxes) and rng.random() < 0.75:
        box = photo.boxes[rng.integers(len(photo.boxes))]
        scale = float(np.clip(_width(size * _largest(rng), rng) / (box[2] - box[0]), 0.03, 2.5))
        centre = (box[:2] + box[2:]) / 2
        shift = rng.uniform(0.1, 0.9, 2) * size
    else:
        scale = float(np.exp(rng.uniform(np.log(min(1.0, size / max(height, width))), np.log(1.5))))
        centre, shift = rng.uniform(0, 1, 2) * (width, height), np.array([size / 2, size / 2])
    if rng.random() < 0.7:  # keep the picture filled where the photograph is large enough
        room = size - np.array([width, height]) * scale
        shift = np.clip(shift - centre * scale, np.minimum(room, 0), np.maximum(room, 0)) + centre * scale
    source, rest = photo.nearest(scale)
    matrix = _transform(source, photo, centre, scale, angle, rng.random() < 0.5, shift)
    mode = cv2.BORDER_REFLECT if rng.random() < 0.7 else cv2.BORDER_CONSTANT  # mirrored faces are faces
    shade = tuple(float(v) for v in rng.integers(0, 256, 3))
    interpolation = cv2.INTER_LINEAR if rest < 1.5 else cv2.INTER_CUBIC
    image = cv2.warpAffine(source, matrix, (size, size), flags=interpolation, borderMode=mode, borderValue=shade)
    return LabelledPicture(spoil(image, rng), exact=False)


def _largest(rng: np.random.Generator) -> float:
    """Return the width of the largest face as a share of the picture's side."""
    return COMMON_LARGEST if rng.random() < COMMON else LARGEST


def _width(largest: float, rng: np.random.Generator) -> float:
    """Return the width of a face in px; each octave from the smallest on is as likely."""
    return float(np.exp(rng.uniform(np.log(SMALLEST_FACE), np.log(largest))))


def _choose(pictures: list[Picture], rng: np.random.Generator) -> Picture:
    return pictures[rng.integers(len(pictures))]


def _transform(
    source: RGB8,
    picture: Picture,
    centre: npt.NDArray[np.floating],
    scale: float,
    angle: float,
    mirror: bool,
    shift: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Return [2,3] from a level ``source`` of ``picture`` to the canvas; ``centre`` (px of the first level) goes to ``shift``."""
    theta = np.deg2rad(angle)
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]) * scale
    if mirror:
        turn = turn @ np.diag([-1.0, 1.0])
    matrix = np.concatenate([turn, (shift - turn @ centre)[:, None]], axis=1)
    ratio = picture.levels[0].shape[1] / source.shape[1], picture.levels[0].shape[0] / source.shape[0]
    return matrix @ np.vstack([rescaling(*ratio), [0, 0, 1]])


def _paste(
    canvas: RGB8, picture: Picture, width: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Paste a picture's face (or, without one, its middle) ``width`` px wide; returns its box and points on the canvas."""
    size, (rows, columns) = canvas.shape[0], picture.levels[0].shape[:2]
    box = picture.boxes[0] if len(picture.boxes) else np.array([0.2, 0.2, 0.8, 0.8]) * np.array([columns, rows] * 2)
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    draw, mirror = rng.random(), bool(rng.random() < 0.5)
    if draw < TILTED:
        angle = rng.uniform(-45, 45)
    elif draw < ANY_TURN:
        angle = rng.uniform(-180, 180)
    else:
        angle = rng.normal(0, 8)
    scale, shift = width / (2 * half[0]), rng.uniform(-0.02, 1.02, 2) * size
    matrix = _transform(picture.levels[0], picture, middle, scale, angle, mirror, shift)
    corners = transform([[0, 0], [columns, 0], [columns, rows], [0, rows]], matrix)
    # Only the part of the canvas that the picture can reach is computed.
    start = np.clip(np.floor(corners.min(axis=0)), 0, size - 1).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)), start + 1, size).astype(int)
    extent = (int(stop[0] - start[0]), int(stop[1] - start[1]))
    source, _ = picture.nearest(scale)
    image = cv2.warpAffine(
        source,
        _transform(source, picture, middle, scale, angle, mirror, shift - start),
        extent,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    alpha = _shape(corners - start, shift - start, half * scale, angle, extent, rng)
    _blend(canvas[start[1] : stop[1], start[0] : stop[0]], image, alpha)
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    reach = scale * np.hypot(half[0] * np.array([cosine, sine]), half[1] * np.array([sine, cosine]))
    turned = np.concatenate([shift - reach, shift + reach]).astype(np.float32)  # of the ellipse within the upright box
    points = np.zeros((5, 2), np.float32)
    if len(picture.points):
        points = transform(picture.points[0], matrix).astype(np.float32)
    return turned, points[MIRRORED] if mirror else points


def _shape(
    corners: npt.NDArray[np.float64],
    middle: npt.NDArray[np.float64],
    half: npt.NDArray[np.floating],
    angle: float,
    extent: tuple[int, int],
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Return how opaque a pasted picture is: the head, or more around it, or all of it; with a soft edge or a hard one."""
    alpha = np.zeros(extent[::-1], np.uint8)
    cv2.fillConvexPoly(alpha, corners.astype(np.int32), 255)
    if rng.random() < 0.6:
        head = np.zeros_like(alpha)
        axes = tuple(int(v) for v in half * rng.uniform(1.15, 1.9) + 1)
        cv2.ellipse(head, tuple(int(v) for v in middle), axes, angle, 0, 360, 255, -1)
        alpha = cv2.min(alpha, head)
    if rng.random() < 0.6:
        softness = 2 * int(half[0] * rng.uniform(0.04, 0.25)) + 1
        alpha = cv2.blur(alpha, (softness, softness), borderType=cv2.BORDER_REPLICATE)
    return alpha


def _blend(canvas: RGB8, image: RGB8, alpha: npt.NDArray[np.uint8]) -> None:
    """Lay ``image`` over ``canvas`` in place, as opaque as ``alpha``."""
    weight = cv2.merge([alpha] * 3)
    canvas[:] = cv2.add(cv2.multiply(image, weight, scale=1 / 255), cv2.multiply(canvas, 255 - weight, scale=1 / 255))


def _occlude(canvas: RGB8, box: npt.NDArray[np.float32], material: Material, rng: np.random.Generator) -> None:
    """Hide up to two fifths of a face behind a bar, from a side."""
    (left, top), (width, height) = box[:2], box[2:] - box[:2]
    share, side = rng.uniform(0.15, 0.4), rng.integers(4)
    x0, x1 = [(0.0, share), (1 - share, 1.0), (0.0, 1.0), (0.0, 1.0)][side]
    y0, y1 = [(0.0, 1.0), (0.0, 1.0), (0.0, share), (1 - share, 1.0)][side]
    area = np.array([left + x0 * width, top + y0 * height, left + x1 * width, top + y1 * height])
    a, b, c, d = np.clip(area, 0, canvas.shape[0]).astype(int)
    if c <= a or d <= b:
        return
    if material.negatives and rng.random() < 0.6:
        source = _choose(material.negatives, rng).levels[0]
        canvas[b:d, a:c] = cv2.resize(source, (int(c - a), int(d - b)), interpolation=cv2.INTER_AREA)
    else:
        canvas[b:d, a:c] = rng.integers(0, 256, 3)


def paint_mask(canvas: RGB8, points: npt.NDArray[np.floating], rng: np.random.Generator) -> None:
    """Paint a mask of cloth with folds over nose and mouth of a face, in place.

    Args:
        canvas: [H,W,3] RGB uint8.
        points: the face's five points [5,2] in px of ``canvas``.
        rng: draws its colours and shape.
    """
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across, down = points[1] - points[0], mouth - eyes
    bridge, cheek, jaw, chin = rng.uniform((0.25, 0.4, 0.95, 1.5), (0.5, 0.7, 1.2, 1.75))
    wide, narrow = rng.uniform((0.75, 0.3), (1.0, 0.5))
    side = [(wide, cheek), (0.9 * wide, jaw), (narrow, chin)]
    outline = [(0.0, bridge), *side, *((-x, y) for x, y in reversed(side))]
    corners = np.array([eyes + x * across + y * down for x, y in outline])
    colour = (
        rng.uniform(0, 256, 3) if rng.random() < 0.4 else rng.uniform(120, 256) - rng.uniform(0, 60) * np.array([1.0, 0.5, 0.0])
    )
    cv2.fillPoly(canvas, [_fixed(corners)], colour.tolist(), cv2.LINE_AA, SHIFT)
    for height in np.linspace(0.25, 0.75, int(rng.integers(1, 5))):  # folds
        ends = (1 - height) * corners[[1, -1]] + height * corners[[3, -3]]
        thickness = max(1, round(0.02 * float(np.hypot(*across))))
        cv2.polylines(canvas, [_fixed(ends)], False, (0.85 * colour).tolist(), thickness, cv2.LINE_AA, SHIFT)


def _fixed(points: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
    """Return points as OpenCV draws them to parts of a pixel."""
    return (np.clip(points, -(2**14), 2**14) * 2**SHIFT).round().astype(np.int32)


def _background(material: Material, size: int, rng: np.random.Generator) -> RGB8:
    """Return a piece of a face-free picture, a page of writing, or a made texture."""
    draw = rng.random()
    if material.negatives and draw < 0.75:
        picture = _choose(material.negatives, rng)
        height, width = picture.levels[0].shape[:2]
        scale = size / min(height, width) * np.exp(rng.uniform(np.log(0.5), np.log(4)))
        centre, shift = rng.uniform(0, 1, 2) * (width, height), np.array([size / 2, size / 2])
        source, _ = picture.nearest(scale)
        matrix = _transform(source, picture, centre, scale, rng.uniform(-30, 30), rng.random() < 0.5, shift)
        return cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if draw > 0.9:
        return _writing(size, rng)
    cells = int(rng.choice([1, 2, 4, 8, 16, 32, 64, size]))
    noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    if rng.random() < 0.5:
        noise[..., 1:] = noise[..., :1]
    return cv2.resize(noise, (size, size), interpolation=[cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC][rng.integers(3)])


def _writing(size: int, rng: np.random.Generator) -> RGB8:
    """Write lines of random letters, dark on light or the other way round: round letters in pairs tempt a detector."""
    paper, ink = (rng.integers(low, low + 100, 3) for low in rng.permutation([0, 156]))
    image = np.full((size, size, 3), paper, np.uint8)
    fonts = [cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX]
    font, height = int(rng.choice(fonts)), float(np.exp(rng.uniform(np.log(6), np.log(60))))
    for row in np.arange(height, size + height, height * rng.uniform(1.4, 2.5)):
        text = "".join(rng.choice(list("aeobdpqgB08@O%&$: -.WMkstunri"), 1 + int(2 * size / height)))
        start = int(rng.integers(-size // 4, size // 4)), int(row)
        cv2.putText(image, text, start, font, height / 22, ink.tolist(), max(1, int(height / rng.uniform(5, 14))), cv2.LINE_AA)
    return image


def _share(box: npt.NDArray[np.float32], region: npt.NDArray[np.float32]) -> float:
    """Return which part of ``box`` lies within ``region``."""
    sides = np.minimum(box[2:], region[2:]) - np.maximum(box[:2], region[:2])
    return float(np.prod(np.clip(sides, 0, None)) / np.prod(box[2:] - box[:2]))
