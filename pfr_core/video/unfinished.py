"""What a run leaves beside its target until it is finished, so that another can go on from there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, InputError
from ..resume import differing
from ..support.files import lock, unwritable
from ..support.notice import Notice, Tally
from .steady import Steady
from .track import Track, Tracks

Job = dict[str, Any]
"""Plain values that say what is done: another run may go on only if its own are equal."""
LOCK = "in-use"
"""A file in the folder that a run locks; the system lets go of it however the run ends."""


class Unfinished:
    """A folder with the tracks, the pieces that are encoded, and the past of the faces at the end of the last piece.

    Args:
        target: the file that it will become.
    """

    def __init__(self, target: Path) -> None:
        target = Path(os.path.abspath(target))  # FFmpeg takes what stands before a colon for a protocol
        self.target = target
        self.folder = target.with_name(f".{target.name.replace('%', '_')}.part")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder, which is made; if it is empty at the end, it goes.

        Raises:
            InputError: another run works on the target.
            ImageError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            claim = open(self.folder / LOCK, "ab")  # noqa: SIM115  # errors of the work are none of this
        except OSError as error:
            raise ImageError(unwritable(self.target, error)) from error
        if lock(claim) is False:  # a disk that knows no locks keeps nobody out
            claim.close()
            raise InputError(f"{self.target}: another run works on it; wait until that ends, or choose another output.")
        try:
            yield
        finally:
            claim.close()
            with suppress(OSError):
                (self.folder / LOCK).unlink(missing_ok=True)  # NFS forgets one that was removed while it was open
                self.folder.rmdir()

    def begin(self, job: Job) -> None:
        """Begin anew; what an earlier run left goes."""
        for left in self.folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK:
                left.unlink()
        part = self.folder / "new-job.json"
        part.write_text(json.dumps(job, indent=1))
        _settle(part)
        part.replace(self.folder / "job.json")

    def take_up(self, job: Job) -> Tracks | None:
        """Return the tracks if an earlier run has found them; None if there was none, or it did not come so far.

        One whose job cannot be read counts as none: the power failed before it was on the disk, and so before there was work.

        Raises:
            InputError: that run did something else.
        """
        file = self.folder / "job.json"
        if not os.path.isfile(file):
            return None
        try:
            earlier = json.loads(file.read_text())
        except ValueError:  # of no JSON, of no text
            return None
        if other := differing(earlier, job):
            raise InputError(f"{', '.join(other)}: not what the interrupted run had; give the same, or begin without resume.")
        if not self.followed():
            return None
        with np.load(self.folder / "tracks.npz") as data:
            tracks = [
                Track(int(number), int(first), data[f"rows_{place}"], data[f"picture_{place}"])
                for place, (number, first) in enumerate(data["tracks"].tolist())
            ]
            told = json.loads(str(data["noticed"])) if "noticed" in data else []  # earlier versions kept none
            notices = tuple(Notice(**each) for each in told)
            return Tracks(tracks, int(data["frames"]), data["cuts"].tolist(), tuple(data["size"].tolist()), notices)

    def keep_tracks(self, found: Tracks) -> None:
        """Write the tracks down."""
        arrays: dict[str, Any] = {f"rows_{place}": track.rows for place, track in enumerate(found.tracks)}
        arrays |= {f"picture_{place}": track.picture for place, track in enumerate(found.tracks)}
        heads = np.array([(track.number, track.first) for track in found.tracks], int).reshape(-1, 2)
        told = json.dumps([notice.to_dict() for notice in found.notices])
        cuts = np.array(found.cuts, int)
        self._save("tracks.npz", tracks=heads, frames=found.frames, cuts=cuts, size=found.size, noticed=told, **arrays)

    def new_piece(self) -> Path:
        """Return the file for the piece that is encoded next."""
        return self.folder / "next.nut"

    def keep_piece(self, first: int, end: int, steady: dict[int, Steady], changed: bool, noticed: Tally) -> None:
        """Take the piece of the frames from ``first`` to before ``end`` for finished, with the past that the next one needs."""
        told = json.dumps([(notice.to_dict(), more) for notice, more in noticed])
        past = {f"{number}_{place}": each for number, state in steady.items() for place, each in enumerate(state.state(end - 1))}
        self._save(f"past-{end:08d}.npz", changed=changed, noticed=told, **past)
        _settle(self.new_piece())
        self.new_piece().replace(self.folder / f"{first:08d}-{end:08d}.nut")
        (self.folder / f"past-{first:08d}.npz").unlink(missing_ok=True)  # megabytes a face; nothing begins there any more

    def pictures(self) -> Path:
        """Return the folder for numbered pictures, until all are made and moved to their places."""
        return self.folder / "pictures"

    def followed(self) -> bool:
        """Return whether the faces are followed, which is what another run needs to go on."""
        return (self.folder / "tracks.npz").is_file()

    def pieces(self) -> list[Path]:
        """Return the finished pieces, in order."""
        return sorted(self.folder.glob("*-*.nut"))

    def done(self, steady: dict[int, Steady]) -> tuple[int, bool, Tally]:
        """Return how many frames are encoded, whether any was changed, and what was noticed; give ``steady`` back its past."""
        pieces, noticed = self.pieces(), Tally()
        if not pieces:
            return 0, False, noticed
        end = int(pieces[-1].stem.split("-")[1])
        with np.load(self.folder / f"past-{end:08d}.npz") as data:
            for number, state in steady.items():
                state.take_up(end - 1, tuple(data[name] for name in sorted(data.files) if name.startswith(f"{number}_")))
            if "noticed" in data:  # earlier versions kept none
                noticed.update((Notice(**told), more) for told, more in json.loads(str(data["noticed"])))
            return end, bool(data["changed"]), noticed

    def remove(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, name: str, **arrays: npt.ArrayLike) -> None:
        part = self.folder / f"new-{name}"
        np.savez(part, **arrays)  # type: ignore[arg-type]  # its own options are none of our names
        _settle(part)
        part.replace(self.folder / name)


def _settle(file: Path) -> None:
    """Have a file on the disk before it is taken for finished: the power may fail."""
    with open(file, "rb+") as written:
        os.fsync(written.fileno())
