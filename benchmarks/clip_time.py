"""What restoring a clip costs, in seconds of CPU: faces followed and steadied against each frame by itself, as a page does it.

The clip is a photograph of two faces under a moving camera with noise drawn anew in each frame. All ways decode and encode alike;
shares are of functions in :data:`SHARES`, by the profiler, whose own cost is in the sums. Other work on the same core disturbs
them, so the ways take turns and the least of ``--times`` is printed. Run it as ``python benchmarks/clip_time.py``.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from pfr_core import FaceRestorer, RestoreOptions
from pfr_core.options import ClipOptions
from pfr_core.photo.read import read_photo
from pfr_core.video.read import Clip, video_of
from pfr_core.video.restore import restore_clip
from pfr_core.video.write import Piece

WIDTH, HEIGHT, FACE = 960, 540, 1.35
"""Size of the clip in px, and by how much the photograph is enlarged in it: a face is 150 px."""
SHARES = {
    "detector": [("find.py", "find_candidates")],
    "following": [("track.py", "_flow"), ("track.py", "_is_cut"), ("track.py", "_smoothed")],
    "cutting out": [("work.py", "_cut")],
    "network": [("restorer.py", "restore_crops")],
    "steadying": [("steady.py", "__call__"), ("steady.py", "unchanged")],
    "pasting": [("work.py", "paste")],
    "encoding": [("write.py", "write"), ("write.py", "close")],
}
"""What is asked of the profiler: functions by the ends of their files' names."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default=str(Path(__file__).resolve().parents[1] / "examples" / "two_faces.jpg"))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--times", type=int, default=3, help="runs of each way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    restorer, options = FaceRestorer(device="cpu"), RestoreOptions(only_bad_faces=False)
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "clip.mp4", Path(name) / "restored.mp4"
        film(source, arguments.photo, arguments.frames)

        def each() -> None:
            clip = Clip(source)
            with clip.open() as file:
                piece = Piece(target.with_suffix(".nut"), "h264", None, video_of(file), "yuv420p")
                for shot in clip.shots():
                    piece.write(shot, restorer.restore(shot.pixels, options=options).image)
                piece.close()

        def followed(clip: ClipOptions) -> None:
            restore_clip(restorer, source, target, options=options, clip=clip)

        usual = ClipOptions()
        ways = {
            "each frame by itself": each,
            "followed, steady 0": lambda: followed(ClipOptions(steady=0.0)),
            f"followed, steady {usual.steady:g}, each frame restored": lambda: followed(ClipOptions(restore_every=1)),
            f"followed, steady {usual.steady:g}": lambda: followed(usual),
        }
        each()  # loads the models
        best = dict[str, dict[str, float]]()
        for _ in range(arguments.times):
            for way, work in ways.items():
                taken = costs(work)
                if way not in best or taken["all"] < best[way]["all"]:
                    best[way] = taken
    print("| ms of CPU a frame |", " | ".join([*SHARES, "other", "all", "ratio"]), "|")
    print("| --- |", " | ".join(["---"] * (len(SHARES) + 3)), "|")
    first = next(iter(best.values()))["all"]
    for way, taken in best.items():
        each_frame = [f"{1000 * taken[share] / arguments.frames:.0f}" for share in [*SHARES, "other", "all"]]
        print(f"| {way} |", " | ".join([*each_frame, f"{taken['all'] / first:.2f}"]), "|")


def film(path: Path, photo: str, frames: int) -> None:
    """Write the clip."""
    rng, pixels = np.random.default_rng(0), read_photo(photo).pixels[..., :3]
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25, options={"crf": "17"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            angle, scale = math.radians(3 * math.sin(number / 9)), FACE * (1 + 0.05 * math.sin(number / 13))
            turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            height, width = pixels.shape[:2]
            middle = width / 2 + 20 * math.sin(number / 7), 0.37 * height + 15 * math.cos(number / 11)
            motion = np.hstack([turn, (np.array([WIDTH / 2, HEIGHT / 2]) - turn @ middle)[:, None]])
            sharp = cv2.warpAffine(pixels, motion, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
            noisy = cv2.GaussianBlur(sharp, (0, 0), 1.0) + rng.normal(0, 4, sharp.shape)
            file.mux(video.encode(av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")))
        file.mux(video.encode())


def costs(work: Callable[[], None]) -> dict[str, float]:
    """Return the seconds of CPU that each share of the work takes."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    stats: Any = pstats.Stats(profile)

    def spent(file: str, function: str) -> float:
        return sum(row[3] for (path, _, name), row in stats.stats.items() if path.endswith(file) and name == function)

    taken = {share: sum(spent(*each) for each in functions) for share, functions in SHARES.items()}
    return {**taken, "other": stats.total_tt - sum(taken.values()), "all": stats.total_tt}


if __name__ == "__main__":
    main()
