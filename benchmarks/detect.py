"""Photographs a second: the embedded detector against the published RetinaFace through facexlib's own ``detect_faces``.

    python benchmarks/detect.py PHOTOS [--size 1280] [--rounds 4]

Both run on the CPU on the same photographs, shrunk to the same size beforehand, in turn within each round, each round beginning
with another; the sum of the fastest round of each photograph counts. Nothing is said here of what is found (``python -m trainer
evaluate-detector``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from facexlib.detection.retinaface import RetinaFace as FacexlibRetinaFace

from pfr_core.errors import PFRError
from pfr_core.faces.detect import NMS_IOU, Detector
from pfr_core.models.download import obtain
from pfr_core.models.tensors import read_state_dict
from pfr_core.photo.arrays import to_uint8
from pfr_core.photo.photo import images_below
from pfr_core.photo.read import read_photo


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=1280, help="longer side in px")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    paths = images_below(options.photos)
    if not paths:
        print(f"error: {options.photos}: no photographs there", file=sys.stderr)
        return 1
    try:
        photos = [shrink(np.ascontiguousarray(to_uint8(read_photo(path).pixels)[..., :3]), options.size) for path in paths]
        # As facexlib runs it, not as ours does.
        published = FacexlibRetinaFace("mobile0.25", device=torch.device("cpu"))
        state = read_state_dict(obtain("retinaface_mobile0.25"))
        published.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ours, bare = Detector("builtin"), Detector("builtin", second_look=False)

    def facexlib(image: Any) -> None:
        with torch.inference_mode():
            published.detect_faces(np.ascontiguousarray(image[:, :, ::-1]), conf_threshold=0.8, nms_threshold=NMS_IOU)

    methods: dict[str, Callable[[Any], Any]] = {
        "RetinaFace mobile0.25, facexlib's detect_faces": facexlib,
        "embedded detector, its own points": lambda image: bare.detect(image, size=options.size),
        "embedded detector": lambda image: ours.detect(image, size=options.size),
        "embedded detector, faces that lie seen to": lambda image: ours.detect(image, size=options.size, right_way_up=True),
    }
    best = {name: np.full(len(photos), np.inf) for name in methods}
    for method in methods.values():
        method(photos[0])  # loads, warms up
    order = [*methods.items()]
    for _ in range(options.rounds):
        order.append(order.pop(0))  # what ran before leaves memory and caches in another state
        for number, photo in enumerate(photos):
            for name, method in order:
                start = time.process_time()
                method(photo)
                best[name][number] = min(best[name][number], time.process_time() - start)
    print(f"{len(photos)} photographs of at most {options.size} px, {torch.get_num_threads()} thread(s), CPU time:")
    for name, seconds in best.items():
        print(f"  {name}: {len(photos) / seconds.sum():.1f} a second")
    faces = sum(len(bare.detect(photo, size=options.size)) for photo in photos)
    again = best["embedded detector"].sum() - best["embedded detector, its own points"].sum()
    print(f"  second look at points: {1000 * again / faces:.1f} ms for each of {faces} faces")
    return 0


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """At most ``size`` px on the longer side."""
    scale = min(1.0, size / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image


if __name__ == "__main__":
    sys.exit(main())
