"""``pfr compare``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ..compare import compare, refuse_lacking
from ..errors import ImageError
from ..faces.detect import Detector
from ..models.registry import REGISTRY
from ..options import RestoreOptions, Setup
from ..photo.read import read_photo
from ..photo.write import writable_format, write_photo
from ..restorer import FaceRestorer
from ..support.arguments import chosen
from ..support.files import overwritten, same_file
from ..support.text import plural
from .common import fetch_models, tell


def run(arguments: argparse.Namespace) -> int:
    """Restore the faces of a photograph with every model and write the sheet; returns the exit status.

    Raises:
        ImageError: the sheet would replace the photograph, or a file cannot be read or written.
        InputError: an option that none of the models has, or a precision that one does not bear.
    """
    if same_file(arguments.photo, arguments.output):
        raise ImageError(overwritten(arguments.photo))
    writable_format(arguments.output)
    options, setup = RestoreOptions(**chosen(arguments, RestoreOptions)), Setup(**chosen(arguments, Setup))
    photo = read_photo(arguments.photo)
    if all(model in REGISTRY for model in arguments.models):  # before any is downloaded
        refuse_lacking(options, {name for model in arguments.models for name in REGISTRY[model].options})
    device = fetch_models(arguments.models, setup, options)
    detector = Detector(setup.detector, device)
    load = partial(FaceRestorer, detector=detector, device=setup.device, dtype=setup.dtype, batch_size=setup.batch_size)
    models = [(_short(model), partial(load, model)) for model in arguments.models]
    found = compare(photo.pixels, models, options)
    tell((*photo.notices, *found.notices), arguments.photo)
    tell(write_photo(arguments.output, found.sheet, photo.colours()), arguments.output)
    print(f"{arguments.output}: {plural(len(found.faces), 'face')}, {plural(len(models), 'model')}")
    return 0


def _short(model: str) -> str:
    """Return what stands over the column: a file without its folder."""
    path = Path(model)
    return path.name if path.suffix else model
