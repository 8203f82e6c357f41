"""``pfr detect``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from ..alignment import to_uint8
from ..annotate import annotate
from ..arguments import add_options, chosen
from ..detection import Detector
from ..device import resolve_device
from ..errors import ImageError
from ..image_io import IMAGE_SUFFIXES, read_photo, write_photo
from ..options import FINDING, RestoreOptions
from ..restorer import find_faces
from .common import add_detector_options, for_each
from .inputs import list_inputs


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``detect``."""
    parser = commands.add_parser("detect", help="list the faces of photographs, as JSON and as a picture")
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list there instead of to the terminal")
    parser.add_argument("--annotate", type=Path, metavar="FILE", help="picture with the faces drawn; a folder for several inputs")
    add_detector_options(parser)
    add_options(parser.add_argument_group("which faces"), RestoreOptions, only=FINDING)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Detect in every input; returns the exit status."""
    inputs = list_inputs(arguments.input)
    options = RestoreOptions(**chosen(arguments, RestoreOptions))
    detector = Detector(arguments.detector, resolve_device(arguments.device))
    picture: Path | None = arguments.annotate
    single = picture is not None and len(inputs) == 1 and picture.suffix.lower() in IMAGE_SUFFIXES
    listed: list[dict[str, Any]] = []

    def work(source: Path, name: Path) -> None:
        pixels = read_photo(source).pixels
        faces = find_faces(detector, pixels, options)
        rows = [{"index": index, **face.to_dict()} for index, face in enumerate(faces)]
        listed.append({"file": str(source), "width": pixels.shape[1], "height": pixels.shape[0], "faces": rows})
        if picture is not None:
            target = picture if single else (picture / name).with_suffix(".png")
            write_photo(target, annotate(to_uint8(pixels[..., :3]), faces))

    status = for_each(inputs, work, "looked at")
    text = json.dumps(listed, indent=2) + "\n"
    if arguments.json is None:
        print(text, end="")
    else:
        _write_text(arguments.json, text)
    return status


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error}). Check the folder's permissions and free space.") from error
    finally:
        temporary.unlink(missing_ok=True)
