"""Which faces of a photograph are restored: found by a detector, then chosen by the options, those that are sharp left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from .errors import InputError, ShouldStop, check_stop
from .faces.align import resemblance
from .faces.detect import Detector
from .faces.face import Face
from .faces.select import filter_by_size, select_faces, sort_faces
from .faces.sharpness import JUDGED_SIDE, is_sharp
from .options import RestoreOptions
from .photo.arrays import Array, to_uint8
from .support.notice import Notice, beside_no_face

log = logging.getLogger(__name__)

MUCH_LARGER = 4
"""A photograph so many times larger than the detection size may hide faces that could be restored (ours)."""

LIKE_A_FACE = 0.25
"""Smallest resemblance of a face's points (ours): from its side one has 0.74, with left and right exchanged 0.1. The crop of one
below would be many times the face."""


@dataclass(frozen=True)
class Found:
    """The faces of one photograph.

    Attributes:
        candidates: all faces that may be chosen from, in the order that ``indices`` counts in.
        numbers: the positions of the chosen ones among them, in the same order.
        notices: what a person should know of it.
        sharp: the positions of those that were left as sharp already.
    """

    candidates: list[Face]
    numbers: list[int]
    notices: tuple[Notice, ...] = ()
    sharp: tuple[int, ...] = ()

    @classmethod
    def given(cls, faces: Sequence[Face]) -> Found:
        """Return the faces that a caller chose, in their order.

        Raises:
            InputError: it is no list of faces, or the points of one are in another order.
        """
        if not isinstance(faces, Iterable):
            raise InputError(f"faces is a {type(faces).__name__}; pass a list of Face, such as the faces of a result.")
        chosen = [*faces]
        if wrong := [type(face).__name__ for face in chosen if not isinstance(face, Face)]:
            raise InputError(f"faces holds a {wrong[0]}; pass a list of Face, such as the faces of a result.")
        for number, face in enumerate(chosen):
            if not _like_a_face(face):
                raise InputError(
                    f"the points of face {number} lie like no face's; give the eyes, the nose and the corners of the mouth, "
                    "the left one of two as seen in the picture first."
                )
        return cls(chosen, [*range(len(chosen))])

    @property
    def faces(self) -> list[Face]:
        """The chosen faces."""
        return [self.candidates[number] for number in self.numbers]


def missing_face(numbers: Collection[int], found: int, what: str = "choose another") -> Notice:
    """Return what is said of numbers that none of the faces has.

    Args:
        numbers: those that are missing.
        found: how many faces there are.
        what: follows of it.
    """
    text = f"there is no face {', '.join(map(str, numbers))} among the {found} found, numbered from 0; {what}"
    return Notice("missing_face", text, numbers={"missing": len(numbers), "found": found})


def refuse_missing(found: Found, *, faceless: bool = False) -> None:
    """Do as :func:`refuse_none_chosen`, with what was found in a photo."""
    refuse_none_chosen(found.faces, found.notices, faceless=faceless)


def refuse_none_chosen(chosen: Collection[object], notices: Iterable[Notice], *, faceless: bool = False) -> None:
    """Refuse numbers of faces if there are faces, but none has one of these numbers; where one has, a notice is enough.

    Args:
        chosen: the faces that have one.
        notices: of the choice, :func:`missing_face` among them.
        faceless: refuse numbers where there is no face at all, too.

    Raises:
        InputError: so it is.
    """
    for notice in notices:
        if notice.kind == "missing_face" and not chosen and (notice.numbers["found"] or faceless):
            raise InputError(notice.text)


def find_faces(
    detector: Detector,
    image: Array,
    options: RestoreOptions,
    should_stop: ShouldStop | None = None,
    *,
    side: int = JUDGED_SIDE,
) -> Found:
    """Find the faces of [H,W,3+] (any depth) and choose among them, see :func:`choose_in`; raises as :func:`find_candidates`."""
    candidates = find_candidates(detector, image, options, should_stop)
    found = choose_in(image, candidates, options, side=side, scale=options.scale, should_stop=should_stop)
    return advised(found, candidates, (image.shape[1], image.shape[0]), options, detector)


def find_candidates(
    detector: Detector, image: Array, options: RestoreOptions, should_stop: ShouldStop | None = None
) -> list[Face]:
    """Find every face of [H,W,3+] (any depth), best score first, the right way up, whatever is chosen afterwards.

    What the detector takes for one although its points lie like no face's is left out.

    Raises:
        WeightsError: the detector's weights are not to be had.
        Cancelled: ``should_stop``, which is asked before each run of the detector's network, returned true.
    """
    found = detector.detect(
        to_uint8(image[..., :3]),
        threshold=options.threshold,
        size=options.detection_size,
        sideways=options.sideways,
        right_way_up=True,
        should_stop=should_stop,
    )
    return [face for face in found if _like_a_face(face)]


def _like_a_face(face: Face) -> bool:
    return abs(resemblance(face.points)) >= LIKE_A_FACE


def advised(
    found: Found, candidates: Sequence[Face], image_size: tuple[int, int], options: RestoreOptions, detector: Detector
) -> Found:
    """Return what was chosen among the faces of :func:`find_candidates`; if there are none, with :func:`none_found`.

    Args:
        found: what was chosen.
        candidates: all that were found.
        image_size: width and height of the photograph.
        options: how they were looked for.
        detector: by which.
    """
    if candidates:
        return found
    said = none_found(image_size, options, detector)
    missing = any(notice.kind == "missing_face" for notice in found.notices)  # it says that none was found
    return replace(found, notices=(*found.notices, *(beside_no_face(said) if missing else said)))


def none_found(image_size: tuple[int, int], options: RestoreOptions, detector: Detector) -> list[Notice]:
    """Return what is said where no face was found: what may help, and how a better detector is had.

    Faces that were found and are left out by their size or by choice are another matter: nothing is said of them.

    Args:
        image_size: width and height of the photograph.
        options: how faces were looked for.
        detector: by which.
    """
    longer, size = max(image_size), options.detection_size
    if longer > MUCH_LARGER * size:
        text = f"no face found at detection_size {size} in a picture of {longer} px; a larger detection_size finds smaller faces"
        notice = Notice("no_face", text, numbers={"detection_size": size, "picture_px": longer})
    elif longer > size:
        notice = Notice("no_face", "no face found; a lower threshold or a larger detection_size may find one")
    else:
        notice = Notice("no_face", "no face found; a lower threshold may find one")
    advice = detector.advice()
    return [notice] if advice is None else [notice, advice]


def choose_in(
    image: Array,
    faces: Sequence[Face],
    options: RestoreOptions,
    *,
    side: int = JUDGED_SIDE,
    scale: float = 1.0,
    should_stop: ShouldStop | None = None,
) -> Found:
    """Choose among the faces of :func:`find_candidates` in [H,W,3+].

    Args:
        image: the photograph.
        faces: all that were found.
        options: which are chosen.
        side: as for :func:`is_sharp`.
        scale: as for :func:`is_sharp`.
        should_stop: asked before a face is judged.

    Raises:
        Cancelled: ``should_stop`` asked for it.
    """

    def sharp(face: Face) -> bool:
        check_stop(should_stop)
        return is_sharp(image, face, side=side, scale=scale)

    return choose_faces(faces, (image.shape[1], image.shape[0]), options, sharp=sharp)


def choose_faces(
    faces: Sequence[Face],
    image_size: tuple[int, int],
    options: RestoreOptions,
    *,
    sharp: Callable[[Face], bool] = lambda face: False,
) -> Found:
    """Choose among the faces of :func:`find_candidates`.

    Args:
        faces: all that were found.
        image_size: width and height of the photograph.
        options: limits of size, order and choice.
        sharp: whether a face is sharp already; with ``only_bad_faces`` such a one is left, unless it is chosen by its number.
    """
    candidates = sort_faces(filter_by_size(faces, options.min_face_size, options.max_face_size), options.order)
    chosen = select_faces(
        candidates,
        image_size,
        select=options.select,
        order=options.order,
        indices=options.indices,
        count=options.count,
    )
    notices, left = [], list[Face]()
    if options.only_bad_faces and options.select != "index":
        left = [face for face in chosen if sharp(face)]
        chosen = [face for face in chosen if face not in left]
    log.info("%d faces found, %d chosen", len(candidates), len(chosen))
    if left:
        text = f"faces: {len(chosen)} restored, {len(left)} left as sharp already (only_bad_faces)"
        notices.append(Notice("sharp_faces", text, numbers={"restored": len(chosen), "left": len(left)}))
    missing = [index for index in options.indices if index >= len(candidates)]
    if missing:
        notices.append(missing_face(missing, len(candidates)))
    numbers, those_left = ([candidates.index(face) for face in which] for which in (chosen, left))
    return Found(candidates, numbers, tuple(notices), tuple(those_left))
