"""Makes the inputs of the ComfyUI workflows in ``example_workflows`` from the example photograph. Needs ffmpeg.

python examples/workflow_inputs.py
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from restore_example import DEGRADATION, HERE, PHOTO

from pfr_core.degradation import degrade
from pfr_core.photo.read import read_photo

SIDE, FRAMES, RATE = 256, 16, 8
PRINT = replace(DEGRADATION, sigma=(2.0, 2.0), noise=14.0)
"""What the page's example of an old photograph has gone through."""


def main() -> None:
    """Write degraded.jpg, two_faces.jpg and clip.mp4 beside this file, and the page's old_print.jpg."""
    photo = read_photo(PHOTO).pixels
    degraded = degrade(photo, DEGRADATION)
    mirrored = degrade(np.ascontiguousarray(photo[:, ::-1]), replace(DEGRADATION, noise_seed=8))
    save(HERE / "degraded.jpg", degraded)
    save(HERE / "two_faces.jpg", np.concatenate([degraded[:, 60:400], mirrored[:, 112:452]], axis=1))
    film(HERE / "clip.mp4", photo)
    old = degrade(np.repeat(photo[:360, 60:380].mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8), PRINT)
    save(HERE.parent / "web" / "examples" / "old_print.jpg", old)


def save(path: Path, image: np.ndarray) -> None:
    """Write a JPEG that adds little damage of its own."""
    Image.fromarray(image).save(path, quality=92)


def film(path: Path, photo: np.ndarray) -> None:
    """Write a clip in which the camera moves down from the face until it is out of sight; every frame has noise of its own."""
    frames = []
    for number in range(FRAMES):
        top = round(number / (FRAMES - 1) * (photo.shape[0] - SIDE))
        view = np.ascontiguousarray(photo[top : top + SIDE, 96 : 96 + SIDE])
        frames.append(degrade(view, replace(DEGRADATION, noise_seed=number)).tobytes())
    command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{SIDE}x{SIDE}"]
    command += ["-framerate", f"{RATE}", "-i", "-", "-pix_fmt", "yuv420p", "-crf", "18", str(path)]
    subprocess.run(command, input=b"".join(frames), check=True)


if __name__ == "__main__":
    main()
