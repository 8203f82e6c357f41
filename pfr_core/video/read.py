"""Clips are read picture by picture: nothing is held but the one at hand. Reading is PyAV's (FFmpeg's libraries)."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import Interpolation
from PIL import Image

from ..errors import ImageError, InputError
from ..photo.decode import strict_pillow
from ..support.notice import Notice
from . import is_sequence, numbers_of, pattern_of, pictures_of

Frame = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""[H,W,3] RGB, upright; 16 bits where the clip has more than 8."""

# Without these a playlist that calls itself clip.mp4 could make FFmpeg open other files or addresses.
INPUT_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf",
}
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
"""How YUV becomes RGB and back; FFmpeg's default would darken every picture by 1 of 255."""
DEINTERLACE = "mode=send_frame:parity=auto:deint=interlaced"
"""Of FFmpeg's bwdif: one picture for one, those that are not interlaced as they are."""
LEADS = (0, 1, 10, 100)
"""Seconds by which to aim before a start, until what can be decoded from there begins no later than it: where there is no index,
as in a transport stream, a seek lands at any packet, and the next picture that stands alone may be seconds later."""
SHORT = 2.0
"""Seconds that a clip's pictures may end before the clip does, whose sound may go on."""
MOST_BACK = 1.0
"""Seconds by which a clip's clock may stumble back."""
OWN_SHORT = 0.5
"""Seconds that pictures may end before their track does."""
WIDE = 1.2
"""Times by which a clip's pixels may be wider than high, or higher, without its faces looking squeezed to a network."""
LONGEST_STEP = 3600
"""Seconds between two ticks of a clip's clock from which on it is taken for broken."""
LARGEST = 35_651_584
"""Pixels of the largest frame of H.264 and H.265, at level 6.2."""


TRANSPARENT = "RGBA"
"""Pillow's mode of what is transparent, in whatever way."""


@dataclass(frozen=True)
class ClipInfo:
    """What a clip holds: ``frames`` to decode, length in ``seconds``, frame size in px as it is seen, turned upright."""

    frames: int
    seconds: float
    width: int
    height: int
    audio: bool


@dataclass(frozen=True)
class Headers:
    """What numbered pictures are, which need not be alike.

    Attributes:
        modes: Pillow's, :data:`TRANSPARENT` for all that are transparent.
        profiles: ICC profiles, empty for pictures without one.
    """

    modes: frozenset[str]
    profiles: frozenset[bytes]


class Shot:
    """One picture of a clip.

    Attributes:
        raw: as it was decoded, deinterlaced.
        pts: its time in units of ``time_base``, from the beginning of what is read.
        time_base: seconds.
        side_data: what comes along with it, by its name.
    """

    def __init__(self, raw: Any, pts: int, time_base: Fraction, *, bare: bool = False) -> None:
        self.raw, self.pts, self.time_base = raw, pts, time_base
        # The picture's own `side_data` is a circle of references: hundreds of pictures wait for the garbage collector.
        self.side_data: Mapping[str, Any] = {} if bare else SideDataContainer(raw)  # type: ignore[call-arg]  # not in PyAV's stub

    @cached_property
    def turn(self) -> npt.NDArray[np.int64]:
        """Display matrix [2,2] of -1, 0 and 1: (x, y) times it is where a stored pixel is seen."""
        turn = np.rint(self._matrix).astype(np.int64)
        return turn if self.well_turned else np.eye(2, dtype=np.int64)

    @cached_property
    def _matrix(self) -> npt.NDArray[np.float64]:
        data = self.side_data.get("DISPLAYMATRIX")
        return np.eye(2) if data is None else np.frombuffer(bytes(data), "<i4").reshape(3, 3)[:2, :2] / 65536

    @property
    def well_turned(self) -> bool:
        """Whether the display matrix is a quarter turn or a mirror; with any other the picture is shown as it is stored."""
        turn = np.rint(self._matrix)
        return bool(np.abs(turn - self._matrix).max() < 0.01 and np.array_equal(abs(turn @ turn.T), np.eye(2)))

    @property
    def sideways(self) -> bool:
        """Whether width and height are exchanged."""
        return bool(self.turn[0, 1])

    @property
    def depth(self) -> int:
        """Bits of a colour."""
        return max(component.bits for component in self.raw.format.components)

    @property
    def transparent(self) -> bool:
        """Whether its format has transparency, used or not."""
        return is_transparent(self.raw.format)

    @cached_property
    def pixels(self) -> Frame:
        """The picture as it is seen."""
        rgb = self.raw.reformat(
            format="rgb24" if self.depth <= 8 else "rgb48le",
            interpolation=EXACT,
            src_colorspace=self.raw.colorspace,
            src_color_range=self.raw.color_range,
        ).to_ndarray()
        return np.ascontiguousarray(self.turned(rgb))

    def turned(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values [H,W,...] as they are stored as they are seen."""
        turn = self.turn
        if self.sideways:
            stored, turn = stored.swapaxes(0, 1), turn[::-1]
        return stored[:: turn[1, 1], :: turn[0, 0]]


@dataclass
class Clip:
    """A clip, or a part of it.

    Attributes:
        path: the file; or numbered pictures, with ``%04d`` and the like for the number.
        start: where to begin, in seconds.
        end: where to end; None for the end of the clip.
        fps: pictures a second, of numbered pictures.
        notices: what was noticed in reading it last.
        ends: when the last picture of that reading does, in seconds from the beginning of what is read.
    """

    path: Path
    start: float = 0.0
    end: float | None = None
    fps: float = 25.0
    notices: list[Notice] = field(default_factory=list)
    ends: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise InputError(f"end is {self.end:g} s and start {self.start:g} s; the end must come later.")

    @property
    def whole(self) -> bool:
        """Whether no part is cut out of it."""
        return not self.start and self.end is None

    @property
    def _bare(self) -> bool:
        """Whether nothing beside the pixels is asked for: PyAV crashes on what comes along with a PNG, its profile."""
        return is_sequence(self.path) and self.path.suffix.lower() == ".png"

    def open(self) -> Any:
        """Open the file; its first video is what :meth:`shots` reads.

        Raises:
            ImageError: it cannot be read, or holds no video.
        """
        if os.path.exists(self.path) and not (os.path.isfile(self.path) or is_sequence(self.path)):
            raise ImageError(f"{self.path}: not a file; name a video file.")
        options, kind, name = INPUT_OPTIONS, None, os.path.abspath(self.path)
        if is_sequence(self.path):
            name = pattern_of(self.path)
            options, kind = {"framerate": f"{self.fps:g}", "start_number": str(self.first_number())}, "image2"
        try:
            # Not by a relative path, of which FFmpeg takes what stands before a colon for a protocol.
            source = av.open(name, format=kind, options=options, metadata_errors="replace")
        except FileNotFoundError as error:
            raise ImageError(f"{self.path}: there is no such file; check the path.") from error
        except (av.FFmpegError, OSError) as error:
            raise self._damaged(error) from error
        video = video_of(source)
        if video is None:
            heard = bool(source.streams.audio)
            source.close()
            what = "there is sound in this file, but no video" if heard else "there is no video in this file"
            raise ImageError(f"{self.path}: {what}; name a file with pictures.")
        if video.codec_context is None:
            source.close()
            raise ImageError(f"{self.path}: no decoder for its pictures is here; export it as MP4 with H.264.")
        if video.width * video.height > LARGEST:
            size = f"{video.width} x {video.height}"
            source.close()
            raise ImageError(f"{self.path}: frames of {size} px; video holds at most {LARGEST:,} px. Export it smaller.")
        if not video.time_base or not 0 < video.time_base < LONGEST_STEP:
            clock = "none" if video.time_base is None else f"steps of {float(video.time_base):g} s"
            source.close()
            raise ImageError(f"{self.path}: its clock is broken ({clock}); export it again, with a usual frame rate.")
        video.thread_type = "AUTO"
        return source

    def shots(self) -> Generator[Shot]:
        """Yield the pictures one after the other; what cannot be decoded is left out and noticed.

        Raises:
            ImageError: the clip cannot be read, or its pictures change their size.
        """
        self.notices.clear()
        with self.open() as source:
            video, first = video_of(source), self.offset(source)
            if self.start and (place := self._place_before(first)) is not None:
                source.seek(place, backward=True)
            count, stuck, later = 0, 0, False
            last, size, rate = None, None, video.average_rate or Fraction(self.fps).limit_denominator(1000)
            for raw in self._decoded(source, video):
                if size is not None and (raw.width, raw.height) != size:
                    raise ImageError(
                        f"{self.path}: its pictures change from {size[0]} x {size[1]} to {raw.width} x {raw.height} px. "
                        "Export it again, with one size."
                    )
                size = raw.width, raw.height
                base = video.time_base
                step = max(1, round(1 / (rate * base)))
                if raw.pts is not None:
                    pts = round(raw.pts * raw.time_base / base - first / base)
                else:
                    pts = 0 if last is None else last + step
                if self.end is not None and pts * base >= _exact(self.end) - _exact(self.start):
                    later = True
                    break
                if pts < 0:
                    if self.start:
                        continue
                    pts = 0 if last is None else pts
                count += 1
                if last is not None and (last - pts) * base > MOST_BACK:
                    back = float((last - pts) * base)
                    raise ImageError(
                        f"{self.path}: its clock goes back by {back:.1f} s after {float(last * base):.1f} s, as in files "
                        "that were joined; export it again, or restore its parts by themselves."
                    )
                if last is not None and pts <= last:  # a clock that stumbles
                    pts, stuck = last + 1, stuck + 1
                last = pts
                end = last * base + (raw.duration or 0) * raw.time_base
                shot = Shot(raw, pts, base, bare=self._bare)
                if count == 1 and not shot.well_turned:
                    text = f"{self.path}: says to be turned by what is no quarter turn; its pictures stay as they are stored"
                    self.notices.append(Notice("wrong_rotation", text))
                if count == 1 and (wide := video.sample_aspect_ratio) and not 1 / WIDE < wide < WIDE:
                    text = (
                        f"{self.path}: its pixels are {float(wide):.2f} times as wide as high, so faces are restored squeezed; "
                        "export it with square pixels first"
                    )
                    self.notices.append(Notice("squeezed", text))
                yield shot
            if last is None:
                raise ImageError(self._nothing(source, later=later))
            if count > 1 and 2 * stuck >= count:
                raise ImageError(
                    f"{self.path}: its clock is broken ({stuck} of {count} pictures come no later than the one before); "
                    "export it again, with a usual frame rate."
                )
            length, own = (source.duration or 0) / av.time_base, _own_length(video)
            short = length - end > SHORT if own is None else own - end > OWN_SHORT
            self.ends = end if self.end is None else min(end, _exact(self.end) - _exact(self.start))
            if not self.whole or any(notice.kind == "lost_frames" for notice in self.notices):
                return
            if video.frames:  # all of them were there: the last may stay for long
                self.ends = max(end, ((video.start_time or 0) + (video.duration or 0)) * base - first)
            elif short:
                text = f"{self.path}: its pictures end at {float(end):.1f} s of {own or length:.1f} s; it may be cut off"
                self.notices.append(Notice("lost_frames", text))

    @cached_property
    def headers(self) -> Headers:
        """What the headers of numbered pictures say; of a file nothing. What cannot be read is left to :meth:`shots`."""
        modes, profiles = set(), set()
        for path in pictures_of(self.path) if is_sequence(self.path) else ():
            with strict_pillow(), suppress(OSError, ValueError, SyntaxError), Image.open(path) as image:
                modes.add(TRANSPARENT if image.has_transparency_data else image.mode)
                profiles.add(bytes(image.info.get("icc_profile") or b""))
        return Headers(frozenset(modes), frozenset(profiles))

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures as they are seen; see :meth:`shots`."""
        return (shot.pixels for shot in self.shots())

    def offset(self, source: Any) -> Fraction:
        """Return the time in the opened file at which what is read begins, in seconds."""
        begins = max(0, source.start_time or 0)
        return Fraction(begins, av.time_base) + _exact(self.start)

    def _place_before(self, first: Fraction) -> int | None:
        """Return where to seek to, in microseconds, to miss no picture from ``first`` on, in seconds; see :data:`LEADS`.

        None for the beginning, where an opened file is already.
        """
        with self.open() as source:
            video, begins = video_of(source), source.start_time or 0
            for lead in LEADS:
                place = round((first - lead) * av.time_base)
                if place <= begins:
                    break
                source.seek(place, backward=True)
                found = _first_time(source, video)
                if found is not None and found <= first:
                    return place
        return None

    def expected(self) -> int:
        """Return about how many pictures there are, by the file's header; 0 if it does not say."""
        with self.open() as source:
            video = video_of(source)
            length = (source.duration or 0) / av.time_base
            rate = float(video.average_rate or 0)
            end = length if self.end is None else min(self.end, length)
            return video.frames if self.whole and video.frames else max(0, round((end - self.start) * rate))

    def probe(self, most: int | None = None) -> ClipInfo:
        """Look through the whole clip, of which one picture is decoded; what its header says about the length is not relied on.

        Args:
            most: stop looking after so many frames; the clip then seems to have one more.

        Raises:
            ImageError: no video that can be read, or one without a single frame.
        """
        with self.open() as source:
            video = video_of(source)
            frames, first, last, shown = 0, None, 0.0, None
            try:
                for packet in source.demux(video):
                    if shown is None:
                        shown = _one(packet)
                    if packet.pts is None or packet.size == 0 or packet.is_discard:  # stored, and hidden by an edit list
                        continue
                    frames += 1
                    start = float(packet.pts * packet.time_base)
                    first = start if first is None else min(first, start)
                    last = max(last, start + float((packet.duration or 0) * packet.time_base))
                    if most is not None and frames > most:
                        break
            except av.FFmpegError as error:
                raise self._damaged(error) from error
            if first is None:
                raise ImageError(self._nothing(source))
            width, height = video.width, video.height
            if shown is not None and Shot(shown, 0, video.time_base, bare=self._bare).sideways:
                width, height = height, width
            return ClipInfo(frames, last - first, width, height, bool(source.streams.audio))

    def _decoded(self, source: Any, video: Any) -> Iterator[Any]:
        """Yield what can be decoded, none of it interlaced."""
        deinterlacer: Any = None
        lost, done = 0, 0
        for packet in self._packets(source, video):
            try:
                decoded = packet.decode()
            except av.InvalidDataError as error:
                if source.format.name == "image2":
                    raise self._damaged(error) from error
                lost += 1
                continue
            except av.FFmpegError as error:
                raise self._damaged(error) from error
            for raw in decoded:
                done += 1
                if raw.interlaced_frame and deinterlacer is None:
                    deinterlacer = _deinterlacer(video)
                    self.notices.append(Notice("deinterlaced", f"{self.path}: interlaced; its pictures were deinterlaced"))
                if deinterlacer is None:
                    yield raw
                else:
                    deinterlacer.push(raw)
                    yield from _pulled(deinterlacer)
        if deinterlacer is not None:
            deinterlacer.push(None)
            yield from _pulled(deinterlacer)
        if self.whole:  # pictures before the start of an edit list are counted by the header and not shown
            lost = max(lost, video.frames - sum(entry.is_discard for entry in video.index_entries) - done)
        if lost > 0:
            text = f"{self.path}: damaged or cut off; {lost} pictures could not be decoded and are left out"
            self.notices.append(Notice("lost_frames", text, numbers={"lost": lost}))

    def _packets(self, source: Any, video: Any) -> Iterator[Any]:
        """Yield what belongs to the pictures, as far as the file can be read."""
        packets, some = source.demux(video), False
        while True:
            try:
                packet = next(packets, None)
            except av.InvalidDataError as error:
                if not some:
                    raise self._damaged(error) from error
                return  # cut off; what is missing is noticed by its number
            except av.FFmpegError as error:
                raise self._damaged(error) from error
            if packet is None:
                return
            some = True
            yield packet

    def _nothing(self, source: Any, *, later: bool = False) -> str:
        """Return why nothing can be read; ``later``: there is a picture, behind the end."""
        if later:
            return f"{self.path}: no picture begins from {self.start:g} s to {self.end:g} s; end later."
        if self.start:
            return f"{self.path}: there is nothing after {self.start:g} s; begin earlier."
        codec = video_of(source).codec_context.name
        return f"{self.path}: there are no pictures in it that can be decoded ({codec}); export it as MP4 with H.264."

    def _damaged(self, error: Exception) -> ImageError:
        reason = getattr(error, "strerror", None) or error
        empty = os.path.isfile(self.path) and os.path.getsize(self.path) == 0
        return ImageError(
            f"{self.path}: {'the file is empty' if empty else f'not a video that can be read ({reason})'}. "
            "Export the clip again, as MP4, MOV, WebM, MKV or AVI."
        )

    def first_number(self) -> int:
        """Return the lowest number of a picture.

        Raises:
            ImageError: there is none, or a gap, at which FFmpeg would end the clip.
        """
        numbers = numbers_of(self.path)
        if not numbers:
            raise ImageError(f"{self.path}: there is no such picture with any number; check folder and name.")
        first, gap = numbers[0], next((one for one, other in pairwise(numbers) if other != one + 1), None)
        if gap is not None:
            raise ImageError(f"{self.path}: picture {gap + 1} is missing, {numbers[-1]} is there; number them without a gap.")
        return first


def video_of(source: Any) -> Any:
    """Return the stream of the pictures: the first that is no picture of a cover; None if there is none."""
    cover = av.stream.Disposition.attached_pic
    return next((stream for stream in source.streams.video if not stream.disposition & cover), None)


def _first_time(source: Any, video: Any) -> Fraction | None:
    """Return the time in seconds of the first picture that can be decoded from here; None if there is none, or it has none."""
    for packet in source.demux(video):
        with suppress(av.InvalidDataError):
            for raw in packet.decode():
                return None if raw.pts is None else raw.pts * raw.time_base
    return None


def _exact(time: float) -> Fraction:
    """Return a time in seconds as it was meant: 0.2 is a fifth, and not a little more."""
    return Fraction(time).limit_denominator(1_000_000)


def _own_length(video: Any) -> float | None:
    """Return how long the track of the pictures is in seconds, where MKV says so."""
    told = video.metadata.get("DURATION", "")
    return seconds(told) if re.fullmatch(r"\d+:\d+:\d+\.\d+", told) else None


def is_transparent(form: Any) -> bool:
    """Return whether a pixel format has transparency."""
    return any(component.is_alpha for component in form.components)


def seconds(text: str) -> float:
    """Return a time as it is typed, in seconds: ``80``, ``1:20`` or ``0:01:20.5``.

    Raises:
        InputError: it is none.

    Example:
        >>> seconds("1:20.5")
        80.5
    """
    parts = text.split(":")
    if (
        not all(re.fullmatch(r"\d+", part) for part in parts[:-1])
        or not re.fullmatch(r"\d+(\.\d*)?", parts[-1])
        or len(parts) > 3
    ):
        raise InputError(f"{text!r} is no time; write seconds or h:mm:ss, say 80 or 0:01:20.")
    return sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))


def _one(packet: Any) -> Any:
    """Return a picture of the packet; None if it gives none, or none that can be decoded, which is said in restoring."""
    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None


def _deinterlacer(video: Any) -> Any:
    graph = Graph()
    source, sink = graph.add_buffer(template=video), graph.add("buffersink")
    bwdif = graph.add("bwdif", DEINTERLACE)
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, EOFError):
            return
