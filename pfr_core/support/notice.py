"""What was noticed about a photograph on the way through the pipeline. Nothing is logged there: every door shows the notices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

NoticeKind = Literal[
    "no_face",  # found at all; with numbers in a picture so large that small ones may have been missed
    "better_detector",  # that can be downloaded, where none was found
    "missing_face",  # an index that no face has
    "sharp_faces",  # left as they are
    "not_finite",  # a frame with NaN or infinity, passed on
    "magnified",  # a face much larger than the network's crop
    "wide_colours",  # of an AVIF or HEIC, that the result does not state
    "cmyk",  # converted to RGB in reading
    "further_pictures",  # in the file, beside the first
    "mended",  # small damage, read over
    "damaged_exif",  # left out, wholly or in part
    "sixteen_bits",  # reduced to the 8 that the format has
    "not_kept",  # blocks that the format cannot hold
    "long_exif",  # left out of a JPEG
    "baseline",  # a JPEG that could not be progressive
    "damaged_xmp",  # replaced by the record of restoration
    "deinterlaced",  # a clip
    "opaque",  # a clip whose transparency the result does not hold
    "wrong_rotation",  # of a clip, ignored
    "squeezed",  # of a clip, whose pixels are no squares
    "lost_frames",  # of a damaged clip, left out
    "lost_tracks",  # of sound, subtitles or data, that the result's container cannot hold
    "other_pictures",  # numbered like those of a result, left there by an earlier one
]


@dataclass(frozen=True)
class Notice:
    """One thing that a person should know of a result. It is no error: the work was done.

    Attributes:
        kind: what it is about, for programs.
        text: a sentence for people.
        face: position among the faces of the result, from 0, if it is about one of them.
        frame: position in the batch, from 0, if there was a batch.
        numbers: the figures in the text, by name.

    Example:
        >>> Notice("magnified", "a face is large", face=1, numbers={"times": 3.5}).to_dict()["face"]
        1
    """

    kind: NoticeKind
    text: str
    face: int | None = None
    frame: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def with_notices(text: str, notices: Iterable[Notice]) -> str:
    """Return the text of an error, that there is no face, with what else was noticed, which no result will show: a line each.

    Example:
        >>> print(with_notices("no face.", [Notice("no_face", "no face found"), Notice("better_detector", "take another")]))
        no face.
        take another
    """
    return "\n".join([text, *(notice.text for notice in beside_no_face(notices))])


def beside_no_face(notices: Iterable[Notice]) -> list[Notice]:
    """Return what is left to tell where it is told already that no face was found: not that again, unless it has figures.

    Example:
        >>> beside_no_face([Notice("no_face", "no face found")])
        []
    """
    return [notice for notice in notices if notice.kind != "no_face" or notice.numbers]


class Tally:
    """Notices of any number of frames in constant memory: the first of each kind, and how many more there were."""

    def __init__(self) -> None:
        self._first: dict[NoticeKind, Notice] = {}
        self._more: dict[NoticeKind, int] = {}

    def add(self, notices: Iterable[Notice]) -> list[Notice]:
        """Take notices; returns those that are the first of their kind.

        Example:
            >>> tally = Tally()
            >>> [len(tally.add([Notice("magnified", f"face {n}", frame=n)])) for n in range(3)]
            [1, 0, 0]
            >>> [(notice.text, more) for notice, more in tally]
            [('face 0', 2)]
        """
        new = []
        for notice in notices:
            if notice.kind in self._first:
                self._more[notice.kind] += 1
            else:
                self._first[notice.kind], self._more[notice.kind] = notice, 0
                new.append(notice)
        return new

    def update(self, counted: Iterable[tuple[Notice, int]]) -> None:
        """Take what another counted: notices, and how many more like each there were.

        Example:
            >>> tally = Tally()
            >>> for _ in range(2):
            ...     tally.update([(Notice("magnified", "face 0"), 4)])
            >>> [more for _, more in tally]
            [9]
        """
        for notice, more in counted:
            self.add([notice])
            self._more[notice.kind] += more

    def __iter__(self) -> Iterator[tuple[Notice, int]]:
        """Yield the first notice of each kind, in the order in which they came, and how many more like it there were."""
        return ((first, self._more[kind]) for kind, first in self._first.items())
