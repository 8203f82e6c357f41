"""Photos to try, each shown with what becomes of its largest face: made once after the start, by the first model on offer."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from pfr_core.errors import PFRError

from . import pictures
from .engine import Engine

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent / "examples"
NAMES = {"astronaut_degraded.jpg": "example_blurred", "old_print.jpg": "example_old", "two_faces.jpg": "example_two"}
"""Files, and the words for them."""


@dataclass(frozen=True)
class Example:
    """A photo that the page may serve, the picture of its result, which may not be there yet, and the name of its label."""

    photo: Path
    result: Path
    label: str


def examples(folder: Path) -> list[Example]:
    """Return the examples, copied to where the page may serve them."""
    folder.mkdir(exist_ok=True)
    photos = {label: Path(shutil.copy(FOLDER / name, folder / name)) for name, label in NAMES.items()}
    return [Example(photo, photo.with_name(f"{photo.stem}_result.jpg"), label) for label, photo in photos.items()]


def make_results(engine: Engine, shown: list[Example]) -> None:
    """Write the results. Without a model that can be used the examples stay without."""
    model = next(iter(engine.models))
    try:
        if engine.facts(model).bytes:
            return  # still to be downloaded, and nobody has asked for it
        for example in shown:
            with engine.use(model) as restorer:
                result = restorer.open(example.photo).restore(select="largest", only_bad_faces=False)
            if not result.faces:
                continue
            pair = pictures.side_by_side(result.crops_before[0], result.crops_after[0])
            made = Path(pictures.save_shown(example.result.with_name(f"{example.result.stem}_new"), pair))
            made.replace(example.result)  # never seen in part
    except PFRError as error:
        log.warning("the examples have no results: %s", error)
