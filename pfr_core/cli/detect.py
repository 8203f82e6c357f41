"""``pfr detect``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..faces.annotate import annotate
from ..faces.detect import Detector
from ..find import find_faces, refuse_missing
from ..options import RestoreOptions, Setup
from ..photo.arrays import to_uint8
from ..photo.read import read_photo
from ..photo.write import writable_format, write_file, write_photo
from ..support.arguments import chosen
from ..support.device import resolve_device
from ..support.text import plural
from .common import fetch_around, for_each, tell
from .inputs import checked_json, list_inputs, plan_outputs

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Detect in every input; returns the exit status.

    Raises:
        InputError: ``--json`` names a folder or a picture.
        ImageError: ``--annotate`` names a file of no format that can be written.
    """
    inputs = list_inputs(arguments.input, [arguments.annotate])
    pictures = {} if arguments.annotate is None else dict(plan_outputs(inputs, arguments.annotate, "_faces.png"))
    for picture in pictures.values():
        writable_format(picture)
    checked_json(arguments.json, "the list, say faces.json")
    options = RestoreOptions(**chosen(arguments, RestoreOptions), only_bad_faces=False)
    setup = Setup(**chosen(arguments, Setup))
    fetch_around(setup.detector)
    detector = Detector(setup.detector, resolve_device(setup.device))
    listed: list[dict[str, Any]] = []

    def work(source: Path, _: Path) -> str:
        photo = read_photo(source)
        pixels = photo.pixels
        height, width = pixels.shape[:2]
        found = find_faces(detector, pixels, options)
        tell(photo.notices, source)
        if options.indices:
            refuse_missing(found, faceless=True)
        tell(found.notices, source)
        # The numbers are what `restore --select index --indices` calls them.
        rows = [{"index": number, **face.to_dict()} for number, face in zip(found.numbers, found.faces, strict=True)]
        if source in pictures:
            drawn = annotate(to_uint8(pixels), found.faces, found.numbers)
            tell(write_photo(pictures[source], drawn, photo.colours()), pictures[source])
        listed.append({"file": str(source), "width": width, "height": height, "faces": rows})
        return "" if arguments.json is None else f"{source}: {plural(len(rows), 'face')}"

    try:
        status = for_each(inputs, work, "looked at", stream=sys.stderr)
    except BaseException:  # interrupted, or the GPU is lost: hours may lie in what was found
        if listed:
            part = arguments.json and arguments.json.with_suffix(f".part{arguments.json.suffix}")
            with suppress(ImageError):  # what ended it is what is told
                _write(listed, part)
                log.warning("%s: what was found until then, %s.", part or "above", plural(len(listed), "photo"))
        raise
    if listed or not status:  # an empty list would say that there was nothing wrong
        _write(listed, arguments.json)
    return status


def _write(listed: list[dict[str, Any]], target: Path | None) -> None:
    """Write the list to a file, or to standard output."""
    text = json.dumps(listed, indent=2) + "\n"
    if target is None:
        print(text, end="")
    else:
        write_file(target, text.encode())
