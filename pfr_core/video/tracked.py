"""Restoring the faces that were followed, frame by frame; needs no PyAV."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ..compose import Pasted, stacked
from ..errors import InputError, ShouldStop
from ..options import ClipOptions, RestoreOptions
from ..photo.arrays import Array, FloatImage
from ..restorer import FaceRestorer
from ..work import Work
from .steady import Steady
from .track import Track

FADE = 4
"""Frames over which the restoration of a face comes and goes that appears or vanishes within a scene (ours): it would pop."""


class TrackRestorer:
    """Restores the faces of tracks, one frame after the other.

    Args:
        restorer: the network.
        tracks: the faces; others may take their place when more frames come.
        options: how they are put back.
        clip: how they are steadied.
        strengths: strength of single tracks, by their numbers, in place of the options'.
        scenes: :attr:`Tracks.scenes`, within which faces fade in and out; None: they do not.
    """

    def __init__(
        self,
        restorer: FaceRestorer,
        tracks: Sequence[Track],
        options: RestoreOptions,
        clip: ClipOptions,
        strengths: Mapping[int, float] | None = None,
        scenes: Collection[int] | None = None,
    ) -> None:
        self.restorer, self.tracks, self.options = restorer, tracks, options
        self.strengths = dict(strengths or {})
        self._clip, self._scenes = clip, scenes
        self.steady: dict[int, Steady] = {}

    def present(self, number: int, size: tuple[int, int] | None = None) -> list[Track]:
        """Return the faces of frame ``number`` that are to be changed; of one of that width and height those that lie in it."""
        found = [track for track in self.tracks if number in track and self._strength(track, number) > 0]
        return [track for track in found if size is None or track.face(number).overlaps(*size)]

    def restore(self, number: int, frame: Array, should_stop: ShouldStop | None = None) -> Pasted:
        """Restore the faces of frame ``number``, [H,W,3+], that lie in it; frames come in order."""
        present = self.present(number, (frame.shape[1], frame.shape[0]))
        faces = [track.face(number) for track in present]
        work = Work(self.restorer, lambda: frame)
        layers = work.cut(faces)
        if layers:
            pasts = [self.steady.setdefault(track.number, self.past()) for track in present]
            kept = [past.unchanged(number, layer.crop) for past, layer in zip(pasts, layers, strict=True)]
            crops = [layer.crop for layer, each in zip(layers, kept, strict=True) if each is None]
            restored = iter(self._restored(crops, should_stop))
            for track, layer, past, each in zip(present, layers, pasts, kept, strict=True):
                mixed = past(number, layer.crop, next(restored)) if each is None else each
                strength = self._strength(track, number)
                layer.restored = mixed if strength == 1 else layer.crop + strength * (mixed - layer.crop)
                layer.settle = past.mask
        self.steady = {number: self.steady[number] for number in (track.number for track in present)}
        return work.paste(layers, replace(self.options, strength=1.0))

    def past(self) -> Steady:
        """Return what knows nothing yet of how a face was before."""
        return Steady(self._clip.steady, self._clip.restore_every)

    def _restored(self, crops: Sequence[FloatImage], should_stop: ShouldStop | None) -> Iterable[FloatImage]:
        if not crops:
            return ()
        stack = stacked(crops, self.restorer.crop_size)
        return self.restorer.restore_crops(stack, options=self.options, should_stop=should_stop)

    def _strength(self, track: Track, frame: int) -> float:
        strength = self.strengths.get(track.number, self.options.strength)
        if self._scenes is None:
            return strength
        since = FADE if track.first in self._scenes else frame - track.first + 1
        left = FADE if track.last + 1 in self._scenes else track.last - frame + 1
        return strength * min(since, left, FADE) / FADE


def strengths_of(given: Iterable[str]) -> dict[int, float]:
    """Return the strengths of single faces, by their numbers, as they are typed: ``2=0.5``.

    Raises:
        InputError: it is not a number and a strength from 0 to 1.
    """
    strengths = {}
    for each in given:
        number, _, typed = each.partition("=")
        try:
            face, strength = int(number), float(typed)
        except ValueError:
            face, strength = -1, 0.0
        if face < 0 or not 0 <= strength <= 1:
            raise InputError(f"{each}: write the number of a face and its strength from 0 to 1, say 0=0.5.")
        strengths[face] = strength
    return strengths
