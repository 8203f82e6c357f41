"""``pfr restore``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from ..alignment import to_uint8
from ..arguments import add_options, chosen
from ..device import DTypeName
from ..errors import ImageError, InputError
from ..image_io import IMAGE_SUFFIXES, Photo, copy_file, read_photo, write_photo
from ..options import RestoreOptions
from ..restorer import FaceRestorer, Restored, resize
from .common import add_detector_options, for_each
from .inputs import plan_outputs


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``restore``."""
    parser = commands.add_parser(
        "restore",
        help="restore the faces of photographs",
        description="Restore the faces of photographs; everything else stays as it is. Format, bit depth, EXIF, ICC profile "
        "and transparency are kept. Outputs that exist are skipped.",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or patterns")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="file (for one input) or folder")
    parser.add_argument("--model", default="default", help="model file, or 'default' (the one that comes with pfr)")
    parser.add_argument("--dtype", choices=get_args(DTypeName), default="auto", help="precision (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="faces at once (default: %(default)s)")
    parser.add_argument("--aligned", action="store_true", help="the inputs are aligned square faces; restore them as a whole")
    parser.add_argument("--background", type=Path, metavar="FILE", help="one input only: the photo enlarged by other means")
    parser.add_argument("--compare", type=Path, metavar="FOLDER", help="also write before | after pictures there, as PNG")
    parser.add_argument("--quality", type=int, metavar="Q", help="JPEG or WebP quality, instead of the input's own")
    parser.add_argument("--overwrite", action="store_true", help="do outputs that exist again")
    parser.add_argument(
        "--provenance", action=argparse.BooleanOptionalAction, default=True, help="record in the file that detail is synthesised"
    )
    add_detector_options(parser)
    add_options(parser.add_argument_group("which faces, and how"), RestoreOptions)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore every input; returns the exit status."""
    plan = plan_outputs(arguments.input, arguments.output)
    if arguments.background is not None and len(plan) != 1:
        raise InputError(f"--background goes with one input, there are {len(plan)}.")
    if arguments.quality is not None and not 1 <= arguments.quality <= 100:
        raise InputError(f"--quality is {arguments.quality}; it must be from 1 to 100.")
    for _, target in plan:
        if target.suffix.lower() not in IMAGE_SUFFIXES:
            raise ImageError(f"{target}: cannot be written in this format; choose from {', '.join(sorted(IMAGE_SUFFIXES))}.")
    todo = [(source, target) for source, target in plan if arguments.overwrite or not target.exists()]
    if len(todo) < len(plan):
        print(f"{len(plan) - len(todo)} of {len(plan)} skipped, their outputs exist (--overwrite does them again)")
    if not todo:
        return 0
    changes = chosen(arguments, RestoreOptions)
    restorer = FaceRestorer(
        arguments.model,
        arguments.detector,
        device=arguments.device,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        options=RestoreOptions(**changes),
    )

    def work(source: Path, target: Path) -> None:
        photo = read_photo(source)
        extra: dict[str, Any] = {"aligned": True} if arguments.aligned else {}
        if arguments.background is not None:
            extra["background"] = read_photo(arguments.background).pixels
        result = restorer.restore(photo.pixels, **extra)
        _write(arguments, restorer, photo, result, target)
        what = "restored as a whole" if arguments.aligned else f"{len(result.faces)} faces"
        times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items())
        tqdm.write(f"{target}: {what}" + (f" ({times})" if arguments.verbose else ""))

    return for_each(todo, work, "restored")


def _write(arguments: argparse.Namespace, restorer: FaceRestorer, photo: Photo, result: Restored, target: Path) -> None:
    unchanged = result.image.shape == photo.pixels.shape and not result.mask.any()
    if arguments.compare is not None:
        before = resize(photo.pixels, result.image.shape[1], result.image.shape[0])
        pair = to_uint8(np.concatenate([before, result.image], axis=1))
        write_photo(arguments.compare / f"{target.stem}_before_after.png", pair)
    if unchanged and arguments.background is None and photo.path.suffix.lower() == target.suffix.lower():
        copy_file(photo.path, target)
    else:
        mark = restorer.provenance if arguments.provenance and result.mask.any() else None
        write_photo(target, result.image, photo, quality=arguments.quality, provenance=mark)
