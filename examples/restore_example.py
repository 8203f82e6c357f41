"""Degrades the example photograph by the paper's model, restores it, and makes a before | after | original picture.

    python examples/restore_example.py [--out FOLDER]

The photograph is NASA's portrait of the astronaut Eileen Collins, in the public domain (see README.md beside it).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from pfr_core import FaceRestorer
from pfr_core.degradation import DegradationParameters, degrade
from pfr_core.errors import PFRError
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo

HERE = Path(__file__).resolve().parent
PHOTO = HERE / "astronaut.jpg"
DEGRADATION = DegradationParameters(
    blur="isotropic", sigma=(1.5, 1.5), angle=0.0, scale=2.0, noise=6.0, noise_seed=7, quality=40
)  # by hand: the face is small in the photograph, the paper's ranges are meant for a face of 512 px


def main() -> int:
    """Run the example; returns the exit status."""
    parser = argparse.ArgumentParser(description="Restore the example photograph.")
    parser.add_argument("--out", type=Path, default=HERE.parent / "output", help="folder for the results")
    out: Path = parser.parse_args().out
    original = read_photo(PHOTO)
    degraded = degrade(original.pixels, DEGRADATION)
    try:
        restored = FaceRestorer().restore(degraded)
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_photo(out / "degraded.png", degraded)
    write_photo(out / "restored.png", restored.image)
    write_photo(out / "before_after.png", np.concatenate([degraded, restored.image, original.pixels], axis=1))
    print(f"{len(restored.faces)} face restored. Look at (before | after | original):\n  {out / 'before_after.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
