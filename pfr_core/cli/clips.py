"""What the commands do with clips; imported only where there is one, for it needs PyAV."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..errors import ImageError, InputError
from ..faces.detect import Detector
from ..models.identity import MOBILEFACENET, IdentityNetwork, identity_here
from ..options import ClipOptions, RestoreOptions, Setup
from ..photo.photo import IMAGE_SUFFIXES
from ..photo.write import writable_format, write_photo
from ..restorer import FaceRestorer
from ..support.arguments import chosen
from ..support.device import resolve_device
from ..support.files import overwritten, same_file, write_text
from ..support.notice import with_notices
from ..support.progress import TimedProgress
from ..support.text import plural
from ..video import check_av, is_clip, is_sequence, pictures_of
from ..video.sheet import sheet
from ..video.tracked import strengths_of
from ..video.unfinished import Unfinished
from .common import fetch_around, tell
from .inputs import Pairs
from .pipe import is_standard

check_av()  # without PyAV the next line would be the end, by a traceback

from ..video.measure import flicker  # noqa: E402
from ..video.plot import plot  # noqa: E402
from ..video.restore import checked, follow, footage_of, restore_clip  # noqa: E402

log = logging.getLogger(__name__)


def check_plan(plan: Pairs, options: ClipOptions, arguments: argparse.Namespace) -> None:
    """Refuse what no clip can be restored with, before models are loaded.

    Raises:
        InputError: an option that is wrong, or has no effect.
    """
    strengths_of(arguments.strengths or ())
    _refuse_fps(arguments, [source for source, _ in plan])
    for source, target in plan:
        checked(source, target, options)


def _refuse_fps(arguments: argparse.Namespace, sources: Sequence[Path]) -> None:
    if "fps" in chosen(arguments, ClipOptions) and not any(map(is_sequence, sources)):
        raise InputError("--fps has no effect: no input is a series of numbered pictures.")


def restore_one_clip(
    restorer: FaceRestorer, source: Path, target: Path, options: ClipOptions, arguments: argparse.Namespace
) -> str:
    """Restore a clip with a progress bar of frames; returns a line that tells of it."""
    try:
        with _bar(source) as report:
            clip = restore_clip(
                restorer, source, target, clip=options, strengths=strengths_of(arguments.strengths or ()),
                provenance=arguments.provenance, resume=arguments.resume, progress=report,
            )  # fmt: skip
    except (KeyboardInterrupt, Exception) as error:  # out of memory, say: hours of work may lie there
        if isinstance(error, InputError):  # other options than those of the work that lies there, say
            raise
        if Unfinished(target).followed() and not is_standard(arguments.output):
            again = ", and makes finished ones again, for --overwrite says so" if arguments.overwrite else ""
            log.warning("%s: what is done is kept; the same command with --resume goes on from there%s.", target, again)
        raise
    for notice, more in clip.notices:
        where = "" if notice.frame is None else f" (first in frame {notice.frame}, {1 + more} times)"
        tell([replace(notice, text=notice.text + where)], source, target)
    tracks = sorted(clip.tracks, key=lambda track: track.number)
    people = "; ".join(f"face {track.number} in frames {track.first} to {track.last}" for track in tracks)
    return f"{target}: {plural(clip.frames, 'frame')}, {plural(len(clip.tracks), 'face')} followed" + (
        f" ({people})" if people else ""
    )


def show_faces(arguments: argparse.Namespace) -> int:
    """Write a picture of the faces of a clip, and print them as JSON; returns the exit status.

    Raises:
        InputError: there is no face in the clip, or an option has no effect.
        ImageError: the clip cannot be read, or the picture not be written.
        WeightsError: the detector is not to be had.
    """
    clip, output = arguments.clip, arguments.output
    if not is_clip(clip) and clip.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{clip}: a photograph, and this follows faces through clips; `pfr detect` lists a photograph's.")
    writable_format(output)
    for source in pictures_of(clip) if is_sequence(clip) else [clip]:
        if same_file(source, output):
            raise ImageError(overwritten(source))
    _refuse_fps(arguments, [clip])
    setup, options = Setup(**chosen(arguments, Setup)), ClipOptions(**chosen(arguments, ClipOptions))
    fetch_around(setup.detector)
    detector = Detector(setup.detector, resolve_device(setup.device))
    footage = footage_of(clip, options)
    with _bar(clip) as report:
        found = follow(detector, footage, RestoreOptions(**chosen(arguments, RestoreOptions)), options, progress=report)
    tell(footage.notices, clip)
    if not found.tracks:
        text = f"{clip}: no face in {found.frames} frames; lower --threshold, or raise --detection-size."
        raise InputError(with_notices(text, found.notices))
    faces = [{"index": each.number, "first": each.first, "last": each.last, **each.middle.to_dict()} for each in found.tracks]
    print(json.dumps({"frames": found.frames, "cuts": found.cuts, "faces": faces}, indent=2))
    write_photo(output, sheet(found.tracks))
    return 0


def show_flicker(arguments: argparse.Namespace) -> int:
    """Print how much the faces of clips flicker, as JSON, and draw it frame by frame; returns the exit status.

    Raises:
        InputError: the drawing has another ending than .svg.
        ImageError: a clip cannot be read, or the drawing not be written.
        WeightsError: the detector is not to be had.
    """
    if arguments.plot is not None and arguments.plot.suffix.lower() != ".svg":
        raise InputError(f"{arguments.plot}: the plot is an SVG drawing; give it the ending .svg.")
    setup, network = Setup(**chosen(arguments, Setup)), identity_here()
    device = resolve_device(setup.device)
    fetch_around(setup.detector)
    if network is None:
        log.warning(
            "identity is left out: %s is in no folder of PFR_WEIGHTS_DIR, and arcface not on this machine.", MOBILEFACENET
        )
    recognise = None if network is None else IdentityNetwork(network).to(device)
    with tqdm(unit="frame", leave=False, disable=not sys.stderr.isatty()) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        measured = flicker(arguments.source, arguments.clips, Detector(setup.detector, device), recognise, report)
    print(json.dumps({str(clip): {**each.to_dict(), "identity_by": network} for clip, each in measured.items()}, indent=2))
    if arguments.plot is not None:
        write_text(arguments.plot, plot({str(clip): each for clip, each in measured.items()}), ImageError)
    return 0


@contextmanager
def _bar(source: Path) -> Iterator[TimedProgress]:
    """Show the frames of each stage as a progress bar."""
    with tqdm(unit="frame", leave=False, disable=not sys.stderr.isatty()) as bar:
        stages = set[str]()

        def report(stage: str, done: int, total: int, left: float) -> None:
            if stage not in stages:
                stages.add(stage)
                bar.reset(total)
                bar.set_description_str(f"{source.name}: {stage}")
            bar.update(done - bar.n)

        yield report
