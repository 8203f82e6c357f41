"""A clip in, the same clip with its faces restored out: find and follow the faces, then restore them frame by frame."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..compose import Pasted, stacked
from ..errors import InputError
from ..options import ClipOptions, RestoreOptions
from ..photo.arrays import Array, to_uint8
from ..restorer import FaceRestorer
from ..support.files import overwritten
from ..support.notice import Notice
from ..work import ShouldStop, Work
from .clip import Frame, convert, frames, probe
from .steady import Steady
from .track import Track, find_tracks

Progress = Callable[[str, int, int, float], None]
"""Called with (stage, frames done, frames in all, seconds left); the stages are ``find`` and ``restore``."""


@dataclass(frozen=True)
class RestoredClip:
    """A restored clip.

    Attributes:
        path: where it is.
        frames: number of frames.
        tracks: the faces that were restored.
        changed: whether any face was put back.
        notices: what a person should know; each frame's own, with the number of the frame.
    """

    path: Path
    frames: int
    tracks: list[Track]
    changed: bool
    notices: tuple[Notice, ...]


class TrackRestorer:
    """Restores the faces of tracks, one frame after the other.

    Args:
        restorer: the network.
        tracks: the faces.
        options: how they are put back.
        steady: see :class:`Steady`.
    """

    def __init__(self, restorer: FaceRestorer, tracks: Sequence[Track], options: RestoreOptions, steady: float) -> None:
        self.restorer, self.tracks, self.options = restorer, tracks, options
        self._steady = {track.number: Steady(steady) for track in tracks}

    def restore(self, number: int, frame: Array, should_stop: ShouldStop | None = None) -> Pasted:
        """Restore the faces of frame ``number``, [H,W,3+]; frames come in order."""
        present = [track for track in self.tracks if number in track.faces]
        work = Work(self.restorer, lambda: frame, faces=[track.faces[number] for track in present])
        layers = work.cut([track.faces[number] for track in present])
        if layers and self.options.strength > 0:
            crops = stacked([layer.crop for layer in layers], self.restorer.crop_size)
            restored = self.restorer.restore_crops(crops, options=self.options, should_stop=should_stop)
            for track, layer, after in zip(present, layers, restored, strict=True):
                layer.restored = self._steady[track.number](number, layer.crop, after)
        return work.paste(layers, self.options)


def restore_clip(
    restorer: FaceRestorer,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    options: RestoreOptions | None = None,
    clip: ClipOptions | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> RestoredClip:
    """Restore the faces of a clip, frame by frame in constant memory; sound and times stay as they are.

    Args:
        restorer: the models.
        source: a video file.
        target: the MP4 file to write; it appears whole or not at all.
        options: in place of the restorer's own; ``select`` and its like choose among the faces of the whole clip.
        clip: what there is to choose for a clip.
        progress: called after each frame.
        should_stop: asked between frames.

    Raises:
        InputError: source and target are the same file, or the target is no MP4.
        ImageError: the clip cannot be read, or the file not be written.
        Cancelled: ``should_stop`` asked for it.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() != ".mp4":
        raise InputError(f"{target}: clips are written as MP4; give the output that ending.")
    if target.exists() and target.samefile(source):
        raise InputError(overwritten(source))
    options, clip = options or restorer.options, clip or ClipOptions()
    total = probe(source).frames
    started = time.monotonic()

    def report(stage: str, done: int) -> None:
        if progress is not None:
            progress(stage, done, max(total, done), (time.monotonic() - started) / done * max(0, total - done))

    found = find_tracks(
        frames(source), restorer.detector, options,
        every=clip.detect_every, progress=lambda done: report("find", done), should_stop=should_stop,
    )  # fmt: skip
    chosen = found.chosen(options)
    work = TrackRestorer(restorer, chosen, options, clip.steady)
    notices: list[Notice] = []
    started, done, changed = time.monotonic(), 0, False

    def change(frame: Frame) -> Frame:
        nonlocal done, changed
        pasted = work.restore(done, frame, should_stop)
        notices.extend(replace(notice, frame=done) for notice in pasted.notices)
        done, changed = done + 1, changed or pasted.changed
        return to_uint8(pasted.image)

    count = convert(source, target, change, progress=lambda done, *_: report("restore", done), should_stop=should_stop)
    return RestoredClip(target, count, chosen, changed, tuple(notices))
