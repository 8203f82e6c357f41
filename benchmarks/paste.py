"""What pasting faces back costs: ours against facexlib's ``FaceRestoreHelper.paste_faces_to_input_image``.

Both paste the same restored crops of 512 px by the same affine matrices with a feathered square mask (facexlib: eroded and
blurred, ``use_parse=False``; ours: ``box``) into the same 8-bit photograph. facexlib runs its own code; only its detection
and parsing networks, which the method does not use, are left out. One photograph with many faces is what the cost matters
for: facexlib warps, erodes and blurs the whole photograph for each face, we work in the face's own box.

    python benchmarks/paste.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from facexlib.utils.face_restoration_helper import FaceRestoreHelper

from pfr_core import Face, RestoreOptions
from pfr_core.compose import Canvas, Layer, Pasted, cut_face, paste_faces
from pfr_core.faces.align import alignment_matrix, template
from pfr_core.faces.mask import FaceParser

CROP = 512
SMALLEST, LARGEST = 120, 700  # width of a face in px of the photograph
FACE_SHARE = 0.5  # of the crop's width, as RetinaFace draws its boxes
FACES, MEASURED = 30, 3  # facexlib takes seconds a face, so it gets so many of them

Image = npt.NDArray[np.uint8]
Crops = npt.NDArray[np.float32]


def make_photo(megapixels: float, rng: np.random.Generator) -> Image:
    """Yield a 3:2 photograph of smooth noise, [H,W,3] uint8."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    small = rng.integers(0, 256, (height // 50, height * 3 // 100, 3), dtype=np.uint8)
    return cv2.resize(small, (height * 3 // 2, height), interpolation=cv2.INTER_LINEAR)


def make_faces(count: int, photo: Image, rng: np.random.Generator) -> list[Face]:
    """Faces from the smallest to the largest, each turned by up to 20 degrees and wholly inside the photograph."""
    faces = []
    for width in np.linspace(SMALLEST, LARGEST, count):
        side = width / FACE_SHARE
        angle, room = rng.uniform(-0.35, 0.35), 0.65 * side
        center = [rng.uniform(min(room, length / 2), max(length - room, length / 2)) for length in photo.shape[1::-1]]
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = template(1) @ turn * side + center
        x, y = center
        box = (x - width / 2, y - width / 2, x + width / 2, y + width / 2)
        faces.append(Face(box, 1.0, tuple((float(px), float(py)) for px, py in points)))  # type: ignore[arg-type]
    return faces


def facexlib_helper(photo: Image, faces: list[Face], restored: Crops) -> FaceRestoreHelper:
    """facexlib's helper with just what the method reads."""
    helper = FaceRestoreHelper.__new__(FaceRestoreHelper)
    helper.upscale_factor, helper.face_size, helper.use_parse = 1, (CROP, CROP), False
    helper.input_img = photo[:, :, ::-1].copy()
    helper.restored_faces = [np.rint(crop[:, :, ::-1] * 255).astype(np.uint8) for crop in restored]
    helper.inverse_affine_matrices = [cv2.invertAffineTransform(alignment_matrix(face, CROP)) for face in faces]
    return helper


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Return the fastest of so many runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def ours(photo: Image, faces: list[Face], restored: Crops) -> tuple[float, float]:
    """Return seconds for the photograph (its copies and mask, measured with a face outside of it), and for each face beside."""
    layers = [cut_face(photo, face, CROP) for face in faces]
    for layer, crop in zip(layers, restored, strict=True):
        layer.restored = crop
    away = np.array([[1.0, 0, 900], [0, 1, 900]])
    outside = Layer(layers[0].face, away, layers[0].crop, layers[0].restored)

    def paste(chosen: list[Layer]) -> Pasted:
        return paste_faces(Canvas(photo), chosen, options=RestoreOptions(), parser=FaceParser())

    alone, together = seconds(lambda: paste([outside]), repeats=3), seconds(lambda: paste(layers), repeats=3)
    return alone, (together - alone) / len(faces)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=FACES, metavar="N", help="faces pasted (default: %(default)s)")
    count = max(MEASURED, parser.parse_args().faces)
    rng = np.random.default_rng(0)
    small = rng.random((count, 16, 16, 3), dtype=np.float32)
    restored = np.stack([np.clip(cv2.resize(crop, (CROP, CROP), interpolation=cv2.INTER_CUBIC), 0, 1) for crop in small])

    photo = make_photo(24, rng)
    faces = make_faces(count, photo, rng)
    fixed = seconds(facexlib_helper(photo, [], restored[:0]).paste_faces_to_input_image, repeats=3)
    some = np.linspace(0, count - 1, MEASURED).round().astype(int)
    helper = facexlib_helper(photo, [faces[i] for i in some], restored[some])
    their_face = (seconds(helper.paste_faces_to_input_image) - fixed) / MEASURED
    our_photo, our_face = ours(photo, faces, restored)
    our_share = our_photo / count + our_face

    height, width = photo.shape[:2]
    print(f"\n{count} faces of {SMALLEST} to {LARGEST} px in {width} x {height} px; OpenCV {cv2.__version__},")
    print(f"{cv2.getNumThreads()} threads; facexlib: mean of {MEASURED} faces, the smallest, the middle and the largest\n")
    print("| | seconds a face | once for the photo | a face, with its share of the photo |")
    print("| --- | --- | --- | --- |")
    print(f"| facexlib | {their_face:.3f} | {fixed:.3f} | {their_face + fixed / count:.3f} |")
    print(f"| ours | {our_face:.4f} | {our_photo:.3f} | {our_share:.4f} |")
    print(f"| ratio | {their_face / our_face:.0f} x | | {(their_face + fixed / count) / our_share:.0f} x |")

    print("\n| canvas | seconds a face | once for the photo (copies, mask) |")
    print("| --- | --- | --- |")
    for megapixels in (6, 24, 96):
        photo = make_photo(megapixels, rng)
        faces = make_faces(count, photo, np.random.default_rng(1))
        our_photo, our_face = ours(photo, faces, restored)
        print(f"| {photo.shape[1]} x {photo.shape[0]} | {our_face:.4f} | {our_photo:.3f} |")


if __name__ == "__main__":
    main()
