"""One photograph restored by several models, face by face in one picture: what people look at before they choose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError, ShouldStop
from .faces.align import align, alignment_matrix
from .faces.face import Face
from .find import find_faces, refuse_missing
from .options import RestoreOptions, lacking
from .photo.arrays import Array, to_uint8
from .restorer import FaceRestorer
from .support.notice import Notice, with_notices
from .support.progress import NamedProgress
from .support.schema import specs

CELL, HEADER = 320, 36
"""Side of a face in the sheet, and height of the line of names, in px."""
INPUT = "input"


@dataclass(frozen=True)
class Comparison:
    """What several models make of the faces of one photograph.

    Attributes:
        sheet: [H,W,3] uint8: rows are faces, columns the input and the models, under their names; where names are equal or not in
            ASCII, which alone can be drawn, their numbers stand before them, from 1 on.
        faces: the faces, in the order of the rows.
        notices: what a person should know of it; what several models give rise to is there once.
    """

    sheet: npt.NDArray[np.uint8]
    faces: list[Face]
    notices: tuple[Notice, ...]


def compare(
    image: Array,
    models: Sequence[tuple[str, Callable[[], FaceRestorer]]],
    options: RestoreOptions | None = None,
    *,
    progress: NamedProgress | None = None,
    should_stop: ShouldStop | None = None,
    check_faces: Callable[[int], None] | None = None,
) -> Comparison:
    """Restore the faces of a photograph with several models, one after the other, each with the memory of the last one freed.

    Args:
        image: [H,W,3+].
        models: name and, when its turn comes, restorer of each. The first one's detector finds the faces.
        options: for all of them; what a model lacks is left out for it. Faces that are sharp already are compared too; ``scale``
            counts as 1, for faces are shown in one size.
        progress: called with (name of the model, models done, models in all).
        should_stop: asked before each run of a network and between faces; true ends the work with :class:`Cancelled`.
        check_faces: called with their number before any is restored; may refuse it.

    Raises:
        InputError: no model, no face, or an option that none of the models has.
        CheckpointError, NotFiniteError, WeightsError, Cancelled: as for :meth:`FaceRestorer.restore`.
    """
    if not models:
        raise InputError("There is no model to compare; name at least one.")
    options = options or RestoreOptions()
    _refuse_useless(models, options)
    faces: list[Face] | None = None
    notices: tuple[Notice, ...] = ()
    columns = list[list[npt.NDArray[np.uint8]]]()
    for number, (name, load) in enumerate(models):
        if progress is not None:
            progress(name, number, len(models))
        restorer = load()
        if faces is None:
            found = find_faces(restorer.detector, image, replace(options, only_bad_faces=False), should_stop)
            faces, notices = found.faces, found.notices
            refuse_missing(found)
            if not faces:
                text = (
                    "No face was found to compare the models on. Lower the detection threshold, widen the face sizes, or choose "
                    "another photo."
                )
                raise InputError(with_notices(text, notices))
            if check_faces is not None:
                check_faces(len(faces))
            columns.append(_cells(image, faces))
        missing = lacking((), options, restorer.model_options)
        own = replace(options, **{each: specs(RestoreOptions)[each].default for each in missing})
        restored = restorer.restore(image, faces=faces, options=replace(own, scale=1.0), should_stop=should_stop)
        columns.append(_cells(restored.image, faces))
        notices = tuple(dict.fromkeys((*notices, *restored.notices)))
        restorer.release()
    header = [_named(name) for name in (INPUT, *_headings([name for name, _ in models]))]
    rows = [np.concatenate(header, axis=1), *(np.concatenate(cells, axis=1) for cells in zip(*columns, strict=True))]
    return Comparison(np.concatenate(rows), faces or [], notices)


def _refuse_useless(models: Sequence[tuple[str, Callable[[], FaceRestorer]]], options: RestoreOptions) -> None:
    """Raise InputError for an option that none of the models has; they are loaded for that only if there may be one."""
    has: set[str] = set()
    for _, load in models if lacking((), options, ()) else ():
        restorer = load()
        has |= set(restorer.model_options)
        restorer.release()
        if not lacking((), options, has):
            return
    refuse_lacking(options, has)


def refuse_lacking(options: RestoreOptions, has: Collection[str]) -> None:
    """Check that there is a model for each option that was asked for.

    Args:
        options: for all models.
        has: the options of all of them together.

    Raises:
        InputError: there is none.
    """
    if missing := lacking((), options, has):
        raise InputError(f"{', '.join(missing)}: none of these models has such an option; leave it out.")


def _cells(image: Array, faces: Sequence[Face]) -> list[npt.NDArray[np.uint8]]:
    """Return the faces of [H,W,3+] upright, [CELL,CELL,3] each."""
    return [to_uint8(align(image, alignment_matrix(face, CELL), CELL)) for face in faces]


def _headings(names: Sequence[str]) -> list[str]:
    """Return what is written above the columns of models of these names."""
    plain = [name.encode("ascii", "replace").decode() for name in names]
    return [
        f"{number}: {shown}" if shown != name or plain.count(shown) > 1 else name
        for number, (name, shown) in enumerate(zip(names, plain, strict=True), 1)
    ]


def _named(name: str) -> npt.NDArray[np.uint8]:
    """Return the head of a column, [HEADER,CELL,3]: the name, smaller where it is long."""
    head = np.full((HEADER, CELL, 3), 255, np.uint8)
    (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 1)
    size = 0.7 * min(1.0, (CELL - 16) / max(width, 1))
    cv2.putText(head, name, (8, (HEADER + height) // 2), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return head
