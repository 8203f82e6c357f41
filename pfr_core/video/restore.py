"""A clip in, the same clip with its faces restored out: find and follow the faces, then restore them frame by frame."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av

from .. import __version__
from ..errors import Cancelled, ImageError, InputError, ShouldStop, check_stop
from ..faces.detect import Detector
from ..find import missing_face, refuse_none_chosen
from ..options import ClipOptions, RestoreOptions
from ..photo.metadata import Metadata, png_chunks, with_png_chunks
from ..photo.photo import Provenance
from ..restorer import FaceRestorer
from ..resume import deciding
from ..support.files import overwritten, replacing, same_file, unwritable
from ..support.notice import Notice, Tally
from ..support.progress import TimedProgress
from ..support.text import plural
from . import RESULT_SUFFIXES, SEQUENCE, is_sequence, pictures_of
from .mux import assemble
from .read import TRANSPARENT, Clip, is_transparent, seconds, video_of
from .track import Track, Tracks, find_tracks
from .tracked import TrackRestorer
from .unfinished import Job, Unfinished
from .write import PICTURES, Piece, codec_for, format_for

IN_THE_CLIP = {errno.EINVAL, errno.ERANGE, errno.EDOM, errno.ENOSYS}
"""Errors that lie in the clip, as FFmpeg's own do, whose numbers are above the system's; after others another try may succeed."""
PIECE = 125
"""Frames of a clip that are encoded together: what an interrupted run loses at most."""
PNG_COLOUR_TYPE, ICC_COLOURS = 25, slice(16, 20)
"""Where in these files the kind of colours stands."""


@dataclass(frozen=True)
class RestoredClip:
    """A restored clip.

    Attributes:
        path: where it is.
        frames: number of frames.
        tracks: the faces that were restored.
        changed: whether any pixel became another.
        notices: what a person should know: the first of each kind, with the number of its frame.
    """

    path: Path
    frames: int
    tracks: list[Track]
    changed: bool
    notices: Tally


def restore_clip(
    restorer: FaceRestorer,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    options: RestoreOptions | None = None,
    clip: ClipOptions | None = None,
    found: Tracks | None = None,
    strengths: Mapping[int, float] | None = None,
    provenance: bool = True,
    resume: bool = False,
    progress: TimedProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> RestoredClip:
    """Restore the faces of a clip, frame by frame in constant memory; sound, times and all else stay as they are.

    The pictures are encoded in pieces beside the target. A run that ends before the last, other than by ``should_stop``, leaves
    the followed faces and the finished pieces, and ``resume`` goes on after them: the result is that of an undisturbed run.

    Args:
        restorer: the models.
        source: a video file; or numbered pictures, with ``%04d`` and the like for the number.
        target: the file to write, MP4, MOV or MKV, or numbered pictures; it appears whole or not at all.
        options: in place of the restorer's own; ``select`` and its like choose among the faces of the whole clip.
        clip: what there is to choose for a clip.
        found: the faces, if :func:`follow` has found them.
        strengths: strength of single faces, by their numbers, in place of the options'.
        provenance: whether to say in the file that detail is synthesised, and by which model.
        resume: go on where an earlier run with the same arguments was interrupted.
        progress: called after each frame with (stage, frames done, frames in all, seconds left); the stages are ``find`` and
            ``restore``.
        should_stop: asked between frames.

    Raises:
        InputError: source and target are the same file, an option that does not go with the target, numbers none of which a face
            has, or another run works on it.
        ImageError: the clip cannot be read, or the file not be written.
        Cancelled: ``should_stop`` asked for it.
    """
    options, clip = options or restorer.options, clip or ClipOptions()
    target = Path(target)
    footage, suffix = checked(source, target, clip), target.suffix.lower()
    with closing(footage.shots()) as shots:
        first = next(shots)
        codec, modes = codec_for(clip.codec, clip.crf, suffix, first.depth), footage.headers.modes
        form = format_for(codec, first, modes)
    unfinished, tally = Unfinished(target), Tally()
    job = _job(restorer, footage, codec, options, clip, strengths)
    earlier = unfinished.take_up(job) if resume else None
    with unfinished.held(), _tidied(unfinished, target):
        if earlier is None:
            unfinished.begin(job)
            found = found or follow(restorer.detector, footage, options, clip, progress=progress, should_stop=should_stop)
            unfinished.keep_tracks(found)
        else:
            found = earlier
        chosen, notices = found.chosen(options)
        refuse_none_chosen(chosen, notices)
        tally.add(notices)
        if lost := sorted(set(strengths or ()) - {track.number for track in found.tracks}):
            tally.add([missing_face(lost, len(found.tracks), "its strength has no effect")])
        work = TrackRestorer(restorer, chosen, options, clip, strengths, found.scenes)
        kind = clip.codec, clip.crf, suffix
        same = footage.whole and options.scale == 1 and kind == ("auto", None, footage.path.suffix.lower())
        idle = all((strengths or {}).get(track.number, options.strength) == 0 for track in chosen)
        if same and idle and not is_sequence(footage.path):
            with replacing(target, ImageError) as part:
                shutil.copyfile(footage.path, part)
            changed, count = False, found.frames
        else:
            if (first.transparent or TRANSPARENT in modes) and not is_transparent(av.VideoFormat(form)):
                text = f"{target}: what is transparent becomes opaque; numbered .png pictures, and .mkv with codec ffv1, keep it."
                tally.add([Notice("opaque", text)])
            count, changed = _restore(work, footage, found.frames, unfinished, (codec, form), clip, tally, progress, should_stop)
            mark = restorer.provenance if provenance and changed else None
            tally.add(_finish(footage, unfinished, target, codec, mark, should_stop))
            tally.add(footage.notices)  # what was left out, and the like, of the last time that it was read
    return RestoredClip(target, count, chosen, changed, tally)


@contextmanager
def _tidied(unfinished: Unfinished, target: Path) -> Iterator[None]:
    """Leave of the work what another run can go on from, if it fails; else nothing."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, av.FFmpegError) and (error.errno in IN_THE_CLIP or error.errno not in errno.errorcode):
            unfinished.remove()
            what = f"{target}: cannot be written, for FFmpeg refuses the clip's times, sizes or tracks ({error.strerror})"
            raise ImageError(f"{what}; export the clip again, with a usual frame rate.") from error
        if isinstance(error, (Cancelled, InputError)) or not unfinished.followed():
            unfinished.remove()
        if isinstance(error, (av.FFmpegError, OSError)) and not isinstance(error, ImageError):
            reason = error if isinstance(error, OSError) else OSError(error.errno, error.strerror)
            raise ImageError(unwritable(target, reason)) from error
        raise
    unfinished.remove()


def checked(source: str | os.PathLike[str], target: Path, clip: ClipOptions) -> Clip:
    """Return the part of a clip that the options name, once all is checked that can be before it is opened.

    Raises:
        InputError: source and target are the same file, or an option does not go with the target or with another.
    """
    footage, suffix = footage_of(source, clip), target.suffix.lower()
    if _same(footage.path, target):
        raise InputError(overwritten(footage.path))
    if suffix not in RESULT_SUFFIXES and not (suffix in PICTURES and is_sequence(target)):
        raise InputError(f"{target}: clips are written as {', '.join(RESULT_SUFFIXES)}; give the output one of these endings.")
    codec_for(clip.codec, clip.crf, suffix, depth=8)  # H.265, which more bits would take, has the same qualities
    return footage


def follow(
    detector: Detector,
    footage: Clip,
    options: RestoreOptions,
    clip: ClipOptions,
    *,
    progress: TimedProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Tracks:
    """Find and follow the faces of a clip; arguments and errors as for :func:`restore_clip`."""
    clock = _Clock("find", footage.expected() if progress is not None else 0, progress)
    return find_tracks(
        footage.frames(), detector, options, every=clip.detect_every, progress=clock.report, should_stop=should_stop
    )


def footage_of(source: str | os.PathLike[str], clip: ClipOptions) -> Clip:
    """Return the part of a clip that the options name.

    Raises:
        InputError: a time that is none, or an end before the start.
    """
    start, end = (None if text is None else seconds(text) for text in (clip.start, clip.end))
    return Clip(Path(source), start or 0.0, end, clip.fps)


def _same(source: Path, target: Path) -> bool:
    """Judge whether writing ``target`` would change ``source``."""
    if is_sequence(source) and is_sequence(target):  # whatever the digits of the numbers
        one, other = (SEQUENCE.split(each.name) for each in (source, target))
        return one == other and source.parent.resolve() == target.parent.resolve()
    return same_file(source, target)


class _Clock:
    """Reports how far a stage is, and how long it will take."""

    def __init__(self, stage: str, total: int, progress: TimedProgress | None, done: int = 0) -> None:
        self._stage, self._total, self._progress, self._began = stage, total, progress, done
        self._started = time.monotonic()

    def report(self, done: int) -> None:
        if self._progress is not None:
            pace = (time.monotonic() - self._started) / max(1, done - self._began)
            self._progress(self._stage, done, max(self._total, done), pace * max(0, self._total - done))


def _restore(
    work: TrackRestorer,
    footage: Clip,
    total: int,
    unfinished: Unfinished,
    encoding: tuple[str, str],
    clip: ClipOptions,
    tally: Tally,
    progress: TimedProgress | None,
    should_stop: ShouldStop | None,
) -> tuple[int, bool]:
    """Encode the frames that are not encoded yet, by codec and pixel format.

    Returns:
        How many there are in all, and whether any was changed.
    """
    work.steady = {track.number: work.past() for track in work.tracks}
    done, changed, noticed = unfinished.done(work.steady)
    clock, piece, begun, number = _Clock("restore", total, progress, done), None, done, 0
    with footage.open() as source, ExitStack() as unwinding:
        unwinding.callback(lambda: piece and piece.abandon())
        video = video_of(source)
        for number, shot in enumerate(footage.shots(), 1):
            if number <= done:
                continue
            check_stop(should_stop, f"{footage.path}: stopped after {number - 1} of {total} frames; nothing was kept.")
            image = None
            if work.present(number - 1) or work.options.scale != 1:
                pasted = work.restore(number - 1, shot.pixels, should_stop)
                noticed.add(replace(notice, frame=number - 1) for notice in pasted.notices)
                changed |= pasted.changed
                image = pasted.image if pasted.changed or work.options.scale != 1 else None
            piece = piece or Piece(unfinished.new_piece(), encoding[0], clip.crf, video, encoding[1])
            piece.write(shot, image)
            if number - begun == PIECE:
                piece.close()
                unfinished.keep_piece(begun, number, work.steady, changed, noticed)
                piece, begun = None, number
            clock.report(number)
        if piece is not None:
            piece.close()
            unfinished.keep_piece(begun, number, work.steady, changed, noticed)
            piece = None
    tally.update(noticed)
    return number, changed


def _finish(
    footage: Clip, unfinished: Unfinished, target: Path, codec: str, mark: Provenance | None, should_stop: ShouldStop | None
) -> list[Notice]:
    """Write the target from the pieces."""
    pieces, suffix = unfinished.pieces(), target.suffix.lower()
    if suffix not in PICTURES:
        whole = unfinished.folder / f"whole{suffix}"  # there, for a killed run leaves what it wrote
        try:
            notices = assemble(footage, pieces, whole, suffix, codec, provenance=mark, should_stop=should_stop)
            with replacing(target, ImageError) as part:
                _move(whole, part)
        except BaseException:  # a full disk, say: the space is worth more than what is made of the pieces
            with suppress(OSError):
                whole.unlink()
            raise
        return notices
    folder = unfinished.pictures()
    folder.mkdir(exist_ok=True)
    notices = assemble(footage, pieces, folder / target.name, suffix, codec, should_stop=should_stop)
    profiles = footage.headers.profiles
    if profiles - {b""}:
        only = next(iter(profiles)) if len(profiles) == 1 and suffix == ".png" else b""
        if not (only and all([_put_profile(picture, only) for picture in sorted(folder.iterdir())])):
            text = f"{target}: the colour profile of the source's pictures is not in all of these; assign it to them."
            notices.append(Notice("not_kept", text))
    target.parent.mkdir(parents=True, exist_ok=True)
    made = sorted(folder.iterdir())
    for picture in made:
        picture.replace(target.parent / picture.name)
    names = {picture.name for picture in made}
    if others := [picture.name for picture in pictures_of(target) if picture.name not in names]:
        count = plural(len(others), "picture")
        text = f"{target}: {count} beside those of this run, {others[0]} the first; remove them if they are an earlier one's."
        notices.append(Notice("other_pictures", text, numbers={"pictures": len(others)}))
    return notices


def _move(file: Path, target: Path) -> None:
    """Give a file the place of another, which may be a link's on another disk."""
    try:
        os.replace(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(file, target)


def _put_profile(picture: Path, profile: bytes) -> bool:
    """Give a PNG an ICC profile if it has none, as one with restored faces; return whether it has one then."""
    data = picture.read_bytes()
    if any(name == b"iCCP" for name, *_ in png_chunks(data)):  # encoded from the decoder's own frame
        return True
    gray = data[PNG_COLOUR_TYPE] in (0, 4)
    if gray != (profile[ICC_COLOURS] == b"GRAY"):
        return False
    picture.write_bytes(with_png_chunks(data, Metadata(icc=profile)))
    return True


def _job(
    restorer: FaceRestorer,
    footage: Clip,
    codec: str,
    options: RestoreOptions,
    clip: ClipOptions,
    strengths: Mapping[int, float] | None,
) -> Job:
    """Return all that the result depends on."""
    source = [str(footage.path.resolve())]
    if footage.path.is_file():
        state = footage.path.stat()
        source += [str(state.st_size), str(state.st_mtime_ns)]
    elif is_sequence(footage.path):
        states = [(picture.name, picture.stat()) for picture in pictures_of(footage.path)]
        source += [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    each = {str(number): value for number, value in (strengths or {}).items()}
    mine = {"source": source, "model": restorer.provenance.sha256, "version": __version__, "strengths": each}
    return {**deciding(options, restorer.detector.name, str(restorer.net.place[1])), **asdict(clip), "codec": codec, **mine}
