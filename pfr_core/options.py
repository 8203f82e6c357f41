"""Every choice a user has for one restoration, and which of them make others useless; told here only.

Command line, nodes and demo are derived from it (``support/schema.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from .errors import InputError
from .support.choices import (
    CLOSEST_DETECTION,
    DETECTION_SIZE,
    DETECTION_THRESHOLD,
    HALFWAY,
    LARGEST_DETECTION,
    ClipCodec,
    ColorMatch,
    DetectorName,
    DTypeName,
    MaskKind,
    Order,
    Select,
)
from .support.schema import check_fields, names, option, specs

FIND, CHOOSE, NETWORK, PASTE = "find", "choose", "network", "paste"
"""Groups of options: how faces are found, which of them are restored, by what choice of the network, how they are put back."""
DETECTION = ("threshold", "detection_size", "sideways")
"""Options that the detector itself works by; the others of :data:`FIND` choose among what it found."""


@dataclass(frozen=True)
class Setup:
    """Which networks are used, where and how precisely they run: what :class:`pfr_core.FaceRestorer` is made with.

    Raises:
        InputError: a value has the wrong type or is none of the choices.
    """

    model: str = option("default", "model file, or a name of `pfr weights list`, downloaded when it is first used")
    detector: DetectorName = option("auto", "face detector; auto and builtin download nothing")
    device: str = option("auto", "auto, cpu, cuda, cuda:N, mps or xpu")
    dtype: DTypeName = option("auto", "precision; auto: bf16 where it is faster and the model bears it, else fp32")
    batch_size: int | None = option(None, "faces at once; without it 8, or 1 on a CPU", 1, 4096)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RestoreOptions:
    """How to find, choose, restore and paste the faces of a photograph.

    Raises:
        InputError: a value has the wrong type or is out of range, or an option would have no effect.

    Example:
        >>> RestoreOptions(select="largest", strength=0.7).mask
        'box'
    """

    threshold: float = option(
        DETECTION_THRESHOLD,
        "lowest detection score that counts as a face",
        0.0,
        1.0,
        group=FIND,
        label="Detection threshold",
        step=0.01,
    )
    detection_size: int = option(
        DETECTION_SIZE,
        f"longer side in px at which faces are looked for, up to {CLOSEST_DETECTION} where many seem small; "
        "photos are never enlarged",
        64,
        LARGEST_DETECTION,
        group=FIND,
        step=64,
    )
    sideways: bool = option(False, "look for faces turned by 90, 180 and 270 degrees too", group=FIND, label="Sideways faces")
    min_face_size: int = option(0, "leave faces smaller than this alone (longer side of the box in px)", 0, 100000, group=FIND)
    max_face_size: int | None = option(
        None, "leave faces larger than this alone (longer side of the box in px)", 1, 100000, group=FIND
    )
    select: Select = option("all", "which faces", group=CHOOSE)
    order: Order = option("left-to-right", "order in which faces are listed, counted and numbered", group=CHOOSE)
    indices: tuple[int, ...] = option((), "with select=index: positions in that order, from 0", group=CHOOSE)
    count: int | None = option(None, "with select=all: at most so many faces", 1, 100000, group=CHOOSE)
    only_bad_faces: bool = option(
        True, "leave faces that are sharp already as they are, unless they were chosen by their indices", group=CHOOSE
    )
    fidelity: float = option(
        HALFWAY,
        "of models that have it (codeformer, default): 0 gives the most detail, 1 keeps the most of the input",
        0.0,
        1.0,
        group=NETWORK,
        step=0.05,
    )
    strength: float = option(1.0, "0 leaves the photo as it is, 1 is the full restoration", 0.0, 1.0, group=PASTE, step=0.05)
    mask: MaskKind = option("box", "shape of what is pasted; parse (head and hair) needs weights of its own", group=PASTE)
    feather: float = option(
        0.1, "width of the mask's soft edge as a share of the crop", 0.0, 0.5, group=PASTE, label="Soft edge", step=0.01
    )
    color_match: ColorMatch = option(
        "wavelet", "match the face's colours to the photo's; wavelet keeps the broad ones", group=PASTE, label="Colour match"
    )
    keep_gray: bool = option(True, "a gray photo stays gray, a sepia or tinted one keeps its tone", group=PASTE)
    scale: float = option(
        1.0,
        "enlarge the photo by this factor (Lanczos for everything but the faces)",
        1.0,
        4.0,
        group=PASTE,
        label="Enlarge",
        step=0.25,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_face_size is not None and self.max_face_size < self.min_face_size:
            raise InputError(
                f"the largest face (max_face_size), {self.max_face_size} px, is below the smallest (min_face_size), "
                f"{self.min_face_size} px."
            )
        if bool(self.indices) != (self.select == "index"):
            raise InputError("indices and select='index' go together: give both or neither.")
        if any(index < 0 for index in self.indices):
            raise InputError(f"indices are {self.indices}; they count from 0.")
        if self.count is not None and self.select != "all":
            raise InputError(f"count needs select='all'; select={self.select!r} says itself how many.")


@dataclass(frozen=True)
class ClipOptions:
    """What there is to choose for a clip beside :class:`RestoreOptions`.

    Raises:
        InputError: a value has the wrong type or is out of range, or an option would have no effect.
    """

    steady: float = option(
        0.75,
        "how much of a face's last frame stays in the next where the two agree; 0: each frame by itself",
        0.0,
        0.95,
        step=0.05,
    )
    detect_every: int = option(5, "faces are looked for in every so many frames, and followed between", 1, 1000)
    restore_every: int = option(
        3, "a face that has not changed is restored in every so many frames; with steady 0 in each", 1, 100
    )
    codec: ClipCodec = option("auto", "auto is h264, or h265 where the clip has more than 8 bits; ffv1, in MKV, loses nothing")
    crf: int | None = option(None, "quality of the pictures, less is better; without it hardly to be told from the clip", 0, 51)
    start: str | None = option(None, "begin there, in seconds or h:mm:ss; the result is that part of the clip")
    end: str | None = option(None, "end there, in seconds or h:mm:ss")
    fps: float = option(25.0, "of numbered pictures: how many a second", 0.01, 1000)

    def __post_init__(self) -> None:
        check_fields(self)
        moved = [name for name, spec in specs(ClipOptions).items() if getattr(self, name) != spec.default]
        if idle := without_effect(moved, steady=self.steady):
            raise InputError(f"{idle[0]} has no effect with steady 0, which restores each frame by itself; leave it out.")


class Changes(TypedDict, total=False):
    """The fields of :class:`RestoreOptions` as keywords, for type checkers; a test holds the two together."""

    threshold: float
    detection_size: int
    sideways: bool
    min_face_size: int
    max_face_size: int | None
    select: Select
    order: Order
    indices: tuple[int, ...]
    count: int | None
    only_bad_faces: bool
    fidelity: float
    strength: float
    mask: MaskKind
    feather: float
    color_match: ColorMatch
    keep_gray: bool
    scale: float


def without_effect(
    given: Iterable[str], *, aligned: bool = False, faces: bool = False, clip: bool = False, steady: float | None = None
) -> list[str]:
    """Return those of the options ``given`` that do nothing, sorted; for what a network lacks see :func:`lacking`.

    Args:
        given: names of options, ``"detector"`` among them.
        aligned: the image is itself one aligned face: nothing is looked for, and all of it is restored.
        faces: the faces are given.
        clip: faces are followed through a clip.
        steady: how steady they are held there.
    """
    given, useless = set(given), set[str]()
    if aligned or faces:
        useless |= {"detector", *names(RestoreOptions, FIND, CHOOSE)}
    if aligned:
        useless |= {"mask", "feather"}
    if clip:
        useless.add("only_bad_faces")
        if "indices" in given:  # these number the faces that were followed, of whatever size
            useless |= {"order", "min_face_size", "max_face_size"}
    if steady == 0:
        useless.add("restore_every")
    return sorted(useless & given)


def clip_options(values: Mapping[str, Any]) -> tuple[ClipOptions, list[str]]:
    """Return what sliders say, which keep values that they once had, and the names of those that have no effect.

    Args:
        values: of fields of :class:`ClipOptions`, by name; others are passed over.

    Raises:
        InputError: a value is refused.
    """
    known = specs(ClipOptions)
    own = {name: value for name, value in values.items() if name in known}
    moved = [name for name, value in own.items() if value != known[name].default]
    idle = without_effect(moved, steady=own.get("steady"))
    return ClipOptions(**{name: value for name, value in own.items() if name not in idle}), idle


def lacking(given: Iterable[str], options: RestoreOptions, has: Collection[str]) -> list[str]:
    """Return the options that a network lacks and that were asked for: ``given``, or with another value than the default.

    Args:
        given: names of options, whatever their values.
        options: all of them.
        has: options of the network.
    """
    asked = {name for name in names(RestoreOptions, NETWORK) if getattr(options, name) != specs(RestoreOptions)[name].default}
    return sorted((asked | set(given)) & set(names(RestoreOptions, NETWORK)) - set(has))


def changed(
    options: RestoreOptions, changes: Mapping[str, Any], has: Collection[str], *, aligned: bool = False, faces: bool = False
) -> RestoreOptions:
    """Return ``options`` with some fields changed.

    Args:
        options: what is changed.
        changes: new values by name.
        has: options of the network.
        aligned: as for :func:`without_effect`.
        faces: as for :func:`without_effect`.

    Raises:
        InputError: a name that is unknown or without effect, or a value that is refused.
    """
    if not isinstance(options, RestoreOptions):
        raise InputError(f"options is a {type(options).__name__}; pass RestoreOptions(...), or the options by name.")
    known = RestoreOptions.__dataclass_fields__
    unknown = set(changes) - set(known)
    if unknown:
        raise InputError(f"Unknown options {sorted(unknown)}; there are {sorted(known)}.")
    useless = without_effect(changes, aligned=aligned, faces=faces)
    if useless:
        raise InputError(f"{useless} have no effect when {'the image is aligned' if aligned else 'faces are given'}.")
    options = replace(options, **changes)
    if missing := lacking(changes, options, has):
        raise InputError(f"{', '.join(missing)}: this model has no such option; leave it out, or choose a model that has it.")
    return options
