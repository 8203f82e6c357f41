"""How long programs take to print their help, against importing NumPy and Pillow; a photograph, against torch and OpenCV.

    python benchmarks/startup.py [--rounds 10]

Each command runs in a process of its own, all in turn within each round; the least CPU time of each counts, so that other
work on the machine does not. Modules are compiled by the first, as pip compiles them where it installs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILING = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
REFERENCES: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("-c", "import numpy, PIL.Image"): (
        ("-m", "pfr_core", "--version"),
        ("-m", "pfr_core", "--help"),
        ("-m", "pfr_core", "restore", "--help"),
        ("-m", "trainer", "--help"),
        ("-m", "web", "--help"),
    ),
    ("-c", "import torch, cv2"): (
        ("-m", "pfr_core", "restore", "examples/degraded.jpg", "--overwrite", "--device", "cpu", "-o"),  # and a folder
    ),
}


def cpu_seconds(arguments: tuple[str, ...]) -> float:
    """Return the CPU time of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True, env=COMPILING)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for reference, commands in REFERENCES.items():
            least = {command: float("inf") for command in (reference, *commands)}
            for _ in range(rounds):
                for command in least:
                    ended = (*command, folder) if command[-1] == "-o" else command
                    least[command] = min(least[command], cpu_seconds(ended))
            for command, seconds in least.items():
                print(f"{seconds:6.3f} s  {seconds / least[reference]:5.2f}x  python {' '.join(command)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
