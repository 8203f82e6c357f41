"""How often ``only_bad_faces`` is wrong: sharp faces that it restores, ruined ones that it leaves alone.

    python benchmarks/sharpness.py FACES [--split val] [--sizes 100 160 256 400 512]

FACES holds aligned faces of 512 px in folders named after their split, and an index.csv with the columns split, file, size, kind,
native_px, out_of_photo and le_x, le_y, re_x, ... of five points. Each real one is shrunk to several sizes and judged as it is, as
a good JPEG, damaged in one way, shrunk further and enlarged again, and ruined by Eq. 17 at its own size.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pfr_core.degradation import Degradation, UInt8Image
from pfr_core.faces.align import TEMPLATE_SIZE
from pfr_core.faces.face import Face
from pfr_core.faces.geometry import rescale
from pfr_core.faces.sharpness import is_sharp

POINTS = ("le", "re", "nose", "lm", "rm")
RUINED = 30.0
"""PSNR in dB over the middle of the face below which Eq. 17 is called to have ruined it."""


def versions(face: UInt8Image, number: int) -> Iterator[tuple[str, UInt8Image]]:
    """Yield what one face is judged as, named."""
    rng = np.random.default_rng(number)
    side = len(face)
    yield "as it is", face
    yield "JPEG 85", jpeg(face, 85)
    yield "JPEG 30", jpeg(face, 30)
    yield "JPEG 15", jpeg(face, 15)
    yield "blur 1 px", cv2.GaussianBlur(face, (0, 0), 1)
    yield "blur 2 px", cv2.GaussianBlur(face, (0, 0), 2)
    for sigma in (6, 12):
        yield f"noise {sigma}", np.clip(face + rng.normal(0, sigma, face.shape), 0, 255).astype(np.uint8)
    for times in (1.5, 2, 4):
        small = cv2.resize(face, (round(side / times),) * 2, interpolation=cv2.INTER_AREA)
        yield f"enlarged {times:g} times", cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    ruined, _ = Degradation()(face, (number, side))
    middle = np.s_[side // 4 : side * 17 // 20, side // 5 : side * 4 // 5]
    error = np.mean((ruined[middle].astype(float) - face[middle]) ** 2)
    yield "Eq. 17" if 10 * np.log10(255**2 / error) < RUINED else "Eq. 17, light", ruined


def jpeg(image: UInt8Image, quality: int) -> UInt8Image:
    """Return the image as a JPEG of this quality shows it."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]


def main() -> None:
    """Print the share of faces that are left alone, by what was done to them and by size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=1000, help="at most so many faces")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 160, 256, 400, 512], help="sides of the crops in px")
    options = parser.parse_args()
    with (options.faces / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["kind"], row["size"]) == (options.split, "real", "512")]
    rows = [row for row in rows if int(row["native_px"]) >= 512 and float(row["out_of_photo"]) < 0.02][: options.limit]
    left: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for number, row in enumerate(rows):
        with Image.open(options.faces / options.split / row["file"]) as opened:
            whole = opened.convert("RGB")
        points = np.array([[float(row[f"{name}_x"]), float(row[f"{name}_y"])] for name in POINTS])
        for side in options.sizes:
            small = np.array(whole.resize((side, side), Image.Resampling.LANCZOS))
            five = tuple((float(x), float(y)) for x, y in rescale(points, side / TEMPLATE_SIZE))
            face = Face((0, 0, side, side), 1.0, five)  # type: ignore[arg-type]
            for name, image in versions(small, number):
                left[name, side].append(is_sharp(image, face))
    print(f"{len(rows)} faces of {options.faces}, {options.split}: share left alone")
    print("| | " + " | ".join(f"{side} px" for side in options.sizes) + " | all |")
    print("| --- |" + " --- |" * (len(options.sizes) + 1))
    for name in dict.fromkeys(name for name, _ in left):
        shares = [left[name, side] for side in options.sizes]
        cells = [f"{np.mean(share):.3f}" if share else "" for share in (*shares, [each for share in shares for each in share])]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
