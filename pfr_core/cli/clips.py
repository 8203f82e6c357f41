"""What the commands do with clips; imported only where there is one, for it needs PyAV."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from ..faces.detect import Detector
from ..options import ClipOptions, Setup
from ..restorer import FaceRestorer
from ..support.arguments import chosen
from ..support.device import resolve_device
from ..support.notice import by_kind
from ..video.measure import flicker
from ..video.restore import restore_clip

log = logging.getLogger(__name__)


def restore_one_clip(restorer: FaceRestorer, source: Path, target: Path, options: ClipOptions) -> None:
    """Restore a clip with a progress bar of frames."""
    with tqdm(unit="frame", leave=False, disable=not sys.stderr.isatty()) as bar:

        def report(stage: str, done: int, total: int, left: float) -> None:
            if done == 1:
                bar.reset(total)
                bar.set_description_str(f"{source.name}: {stage}")
            bar.update()

        clip = restore_clip(restorer, source, target, clip=options, progress=report)
    for first, *others in by_kind(clip.notices).values():
        log.warning("%s: %s (first in frame %s, %d times)", source, first.text, first.frame, 1 + len(others))
    people = "; ".join(f"face {track.number} in frames {track.first} to {track.last}" for track in clip.tracks)
    tqdm.write(f"{target}: {clip.frames} frames, {len(clip.tracks)} faces followed" + (f" ({people})" if people else ""))


def show_flicker(arguments: argparse.Namespace) -> int:
    """Print how much the faces of clips flicker, as JSON; returns the exit status."""
    setup = Setup(**chosen(arguments, Setup))
    detector = Detector(setup.detector, resolve_device(setup.device))
    measured = flicker(arguments.source, arguments.clips, detector)
    print(json.dumps({str(clip): figures.to_dict() for clip, figures in measured.items()}, indent=2))
    return 0
