"""Time of a folder of small photographs: `pfr restore` with one process against several, and whether the files are the same.

python benchmarks/folder.py [--photos N] [--jobs N ...] [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument(
        "--jobs", type=int, nargs="+", default=[1, 2], help="to compare; the first is what the others are held against"
    )
    parser.add_argument("--rounds", type=int, default=1, help="each is run as often, in turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos", arguments.photos)
        seconds: dict[int, list[float]] = {jobs: [] for jobs in arguments.jobs}
        for number in range(arguments.rounds):
            for jobs in arguments.jobs:
                started = time.perf_counter()
                restore(folder / "photos", folder / f"{jobs}-{number}", jobs)
                seconds[jobs].append(time.perf_counter() - started)
        first = arguments.jobs[0]
        head = f"{arguments.photos} photographs of 640 x 480 px, one face each"
        print(f"| {head} | seconds | throughput | other files |")
        print("| --- | --- | --- | --- |")
        for jobs in arguments.jobs:
            ratio = statistics.median(seconds[first]) / statistics.median(seconds[jobs])
            differ = sum(
                path.read_bytes() != (folder / f"{jobs}-0" / path.name).read_bytes() for path in (folder / f"{first}-0").iterdir()
            )
            print(f"| --jobs {jobs} | {statistics.median(seconds[jobs]):.1f} | {ratio:.2f} | {differ} |")


def make_photos(folder: Path, count: int) -> None:
    """Write the example's face at another place of each picture, so that no two are the same."""
    folder.mkdir()
    face = cv2.resize(cv2.imread(str(ROOT / "examples" / "degraded.jpg")), (400, 400), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = np.full((480, 640, 3), 128, np.uint8)
        y, x = rng.integers(0, 80), rng.integers(0, 240)
        photo[y : y + 400, x : x + 400] = face
        cv2.imwrite(str(folder / f"{number:04}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 90])


def restore(photos: Path, out: Path, jobs: int) -> None:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "pfr_core", "restore", str(photos), "-o", str(out), "--jobs", str(jobs), "--device", "cpu"]
    compiling = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as pip does
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=compiling)


if __name__ == "__main__":
    main()
