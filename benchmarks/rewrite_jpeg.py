"""What a changed JPEG costs where nothing was restored: the photo's pixels against those of the file that is written.

    python benchmarks/rewrite_jpeg.py PHOTO

The photo is compressed at several qualities, with and without chroma subsampling, read, and written as a changed one is. What
lies outside the faces differs by what the finer tables round, and by colours that are no longer subsampled.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from pfr_core.errors import PFRError
from pfr_core.photo.arrays import to_uint8
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path)
    options = parser.parse_args()
    try:
        pixels = to_uint8(read_photo(options.photo).pixels[..., :3])
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("| quality | chroma | mean difference | largest | pixels that are the same | file |")
    print("| --- | --- | --- | --- | --- | --- |")
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "a.jpg"), Path(folder, "b.jpg")
        for subsampling, chroma in ((2, "4:2:0"), (0, "4:4:4")):
            for quality in (10, 30, 50, 75, 90, 98):
                Image.fromarray(pixels).save(source, quality=quality, subsampling=subsampling)
                photo = read_photo(source)
                write_photo(target, photo.pixels, photo)
                difference = np.abs(read_photo(target).pixels.astype(int) - photo.pixels)
                same, growth = (difference.max(axis=2) == 0).mean(), target.stat().st_size / source.stat().st_size
                print(
                    f"| {quality} | {chroma} | {difference.mean():.2f} | {difference.max()} | {same:.0%} | {growth:.1f} times |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
