"""A finished clip: encoded pictures, with the sound, subtitles, chapters and words of the clip that they come from."""

from __future__ import annotations

import heapq
import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ..errors import ImageError, ShouldStop, check_stop
from ..photo.photo import Provenance
from ..support.notice import Notice
from . import is_sequence, pattern_of
from .read import Clip, video_of
from .write import CODECS, PICTURES

SAID = {"title", "artist", "author", "comment", "description", "copyright", "date", "creation_time", "location", "album", "genre"}
SAID |= {"make", "model"}
"""What is said about a clip and goes with it."""
APPLE = "com.apple.quicktime."
"""What the names begin with by which iPhones say it."""
APPLES = {"location.iso6709": "location", "creationdate": "date"}
"""Those of their names that are others; the date is that of the place, with its time zone."""


@dataclass(frozen=True)
class Container:
    """A kind of file.

    Attributes:
        format: FFmpeg's name for it.
        sound: codecs that go into it as they are; None for all that FFmpeg puts there.
        other_sound: what other sound is encoded as.
        subtitles: codecs of subtitles that go into it as they are.
        text: what other subtitles are made into, if they are text.
    """

    format: str
    sound: frozenset[str] | None
    other_sound: str
    subtitles: frozenset[str]
    text: str


_IN_MP4 = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
_IN_MOV = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"})
_IN_MKV = frozenset({"subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"})
CONTAINERS = {
    ".mp4": Container("mp4", _IN_MP4, "aac", frozenset({"mov_text"}), "mov_text"),
    ".mov": Container("mov", _IN_MOV, "aac", frozenset({"mov_text"}), "mov_text"),
    ".mkv": Container("matroska", None, "flac", _IN_MKV, "subrip"),
}
"""Files that clips are written to, by their ending."""

LOWEST_MP3 = 16_000
"""Samples a second; MP3 of fewer (MPEG-2.5, in old AVI and FLV) goes into no MP4 and no MOV."""

_STYLE = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, \
ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""How text that has no looks of its own is shown."""


def assemble(
    clip: Clip,
    pieces: Sequence[Path],
    target: Path,
    suffix: str,
    codec: str,
    *,
    provenance: Provenance | None = None,
    should_stop: ShouldStop | None = None,
) -> list[Notice]:
    """Write ``target`` from the pieces, one after the other, and from what else is in the clip.

    Args:
        clip: where the pictures come from.
        pieces: files of :class:`Piece`.
        target: the file.
        suffix: the ending that it will have, for its kind.
        codec: of the pieces, a name of ``CODECS``.
        provenance: the model that synthesised detail, to be said in the comment.
        should_stop: asked now and then.

    Returns:
        What was noticed: tracks that are left out.

    Raises:
        Cancelled: ``should_stop`` asked for it.
        av.FFmpegError: it cannot be written.
    """
    if suffix in PICTURES:
        number = 1
        if is_sequence(clip.path):  # the first picture's own
            number = clip.first_number() + math.ceil(clip.start * clip.fps - 1e-6)
        options = {"start_number": str(number)}
        with av.open(pattern_of(target), "w", format="image2", options=options) as result, av.open(str(pieces[0])) as first:
            pictures = result.add_stream_from_template(first.streams.video[0])
            for packet, _ in _video(pieces, pictures, clip.ends):
                check_stop(should_stop)
                result.mux(packet)
        return []
    kind = CONTAINERS[suffix]
    options = {} if kind.format == "matroska" else {"movflags": "+faststart"}
    with (
        clip.open() as source,
        av.open(str(target), "w", format=kind.format, options=options) as result,
        av.open(str(pieces[0])) as first,
    ):
        result.metadata.update(_said(source.metadata, provenance))
        pictures = result.add_stream_from_template(first.streams.video[0])
        if (tag := CODECS[codec].tag) and kind.format != "matroska":
            pictures.codec_context.codec_tag = tag
        video = video_of(source)
        _like(pictures, video)
        if codec == "ffv1":  # neither it nor a piece's container holds these
            for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
                setattr(pictures.codec_context, name, getattr(video.codec_context, name))
        if video.average_rate:
            pictures.codec_context.framerate = video.average_rate  # a piece of H.264 says that of its clock
        kept, notices = _tracks(clip, source, result, kind)
        offset = clip.offset(source)
        result.set_chapters(_chapters(source.chapters(), offset, clip))
        for packets, _ in heapq.merge(
            _video(pieces, pictures, clip.ends),
            _others(clip, source, kept, offset, hides=kind.format != "matroska"),
            key=lambda each: each[1],
        ):
            check_stop(should_stop)
            result.mux(packets)
        for track in kept.values():
            result.mux(track.rest())
    return notices


class _Track:
    """A track that goes into the result as it is.

    Attributes:
        stream: the result's.
    """

    def __init__(self, result: Any, source: Any) -> None:
        self.stream = result.add_stream_from_template(source)
        _like(self.stream, source)
        audio = source.type == "audio"
        self._rate = Fraction(1, source.rate) if audio and source.rate else Fraction(0)
        self._length = (source.codec_context.frame_size or 0) if audio else 0  # samples of a packet; 0 if they differ
        self._next: int | None = None

    def take(self, packet: Any, offset: Fraction) -> list[Any]:
        """Return what is written for a packet."""
        shift = round(offset / packet.time_base)
        packet.dts -= shift
        packet.pts -= shift
        self._space(packet)
        packet.stream = self.stream
        return [packet]

    def rest(self) -> list[Any]:
        """Return what is written at the end."""
        return []

    def _space(self, packet: Any) -> None:
        """Give a packet the time that follows from the one before, where the file counts too coarsely for it, as AVI does."""
        if not self._length or packet.time_base <= self._rate:
            return
        start, tick = round(packet.dts * packet.time_base / self._rate), packet.time_base / self._rate
        if self._next is not None and abs(start - self._next) <= 2 * tick + self._length:
            start = self._next
        self._next = start + self._length
        packet.time_base, packet.dts, packet.pts, packet.duration = self._rate, start, start, self._length


LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""Of sound that is encoded anew, by the number of its channels."""


class _Sound(_Track):
    """Sound that is encoded anew; of another number of channels than those of :data:`LAYOUTS` two are made.

    A recording may change channels and rate in the middle, where an advertisement began; encoders take what they began with.
    """

    def __init__(self, result: Any, source: Any, codec: str) -> None:
        layout = LAYOUTS.get(source.channels, "stereo")
        rates = av.Codec(codec, "w").audio_rates or [source.rate]
        rate = min(rates, key=lambda each: (each < source.rate, abs(each - source.rate)))  # its own, or the next above
        self.stream = result.add_stream(codec, rate=rate, layout=layout)
        _like(self.stream, source)
        self._first: tuple[str, str, int] | None = None
        self._kind: tuple[str, str, int] | None = None
        self._resampler = av.AudioResampler()

    def take(self, packet: Any, offset: Fraction) -> list[Any]:
        made = []
        try:
            frames = packet.decode()
        except av.InvalidDataError:  # a gap in the sound of a damaged file
            frames = []
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(offset / frame.time_base)
            for alike in self._alike(frame):
                made += self.stream.encode(alike)
        return made

    def rest(self) -> list[Any]:
        return list(self.stream.encode())

    def _alike(self, frame: Any) -> list[Any]:
        """Return a frame in the form of the first one."""
        base, kind = frame.time_base, (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            self._first, self._kind = self._first or kind, kind
            self._resampler = av.AudioResampler(*self._first)
        made = self._resampler.resample(frame)
        for each in made:
            if each.pts is not None and each.time_base is not None and each.time_base != base:
                each.pts, each.time_base = round(each.pts * each.time_base / base), base
        return made


class _Text(_Track):
    """Subtitles of text in another form."""

    def __init__(self, result: Any, source: Any, codec: str) -> None:
        self.stream = result.add_stream(codec)
        _like(self.stream, source)
        context = self.stream.codec_context
        context.subtitle_header, context.time_base = _STYLE, Fraction(1, 1000)
        context.open()
        self._from, self._codec = source.codec_context.name, codec

    def take(self, packet: Any, offset: Fraction) -> list[Any]:
        text = _plain(self._from, bytes(packet)).encode()
        made = av.Packet(text if self._codec != "mov_text" else len(text).to_bytes(2, "big") + text)
        made.time_base = Fraction(1, 1000)
        made.pts = made.dts = round((packet.pts * packet.time_base - offset) * 1000)
        made.duration = round((packet.duration or 0) * packet.time_base * 1000)
        made.stream = self.stream
        return [made] if text else []


def _tracks(clip: Clip, source: Any, result: Any, kind: Container) -> tuple[dict[int, _Track], list[Notice]]:
    """Return what becomes of each track beside the pictures, by its number, and notices of what is left out or mixed."""
    kept: dict[int, _Track] = {}
    left, notices = [], list[Notice]()
    data = [stream for stream in source.streams if stream.type == "data"]
    of_chapters = data[-1:] if source.chapters() else []  # in MP4 their text is a track, which nothing tells from others
    for stream in source.streams:
        context = stream.codec_context
        codec = None if context is None else context.codec.canonical_name  # PyAV's decoder for MP3 is mp3float
        if stream is video_of(source):
            continue
        if stream.type == "audio" and codec is not None:
            copied = codec in (result.supported_codecs if kind.sound is None else kind.sound)
            copied = copied and not (codec == "mp3" and kind.sound is not None and stream.rate < LOWEST_MP3)
            kept[stream.index] = _Track(result, stream) if copied else _Sound(result, stream, kind.other_sound)
            if not copied and stream.channels not in LAYOUTS:
                text = f"{clip.path}: of the {stream.channels} channels of sound of track {stream.index} two are made"
                notices.append(Notice("not_kept", text))
        elif stream.type == "subtitle" and codec in kind.subtitles:
            kept[stream.index] = _Track(result, stream)
        elif stream.type == "subtitle" and codec in _PLAIN:
            kept[stream.index] = _Text(result, stream, kind.text)
        elif stream.type == "attachment" and kind.format == "matroska":
            result.add_attachment(stream.name, stream.mimetype, stream.data)
        elif stream not in of_chapters:
            left.append(f"{stream.index} ({stream.type}{f', {codec}' if codec else ''})")
    if left:
        text = f"{clip.path}: tracks that a {kind.format} file cannot hold are left out: {', '.join(left)}"
        notices.append(Notice("lost_tracks", text, numbers={"lost": len(left)}))
    return kept, notices


def _video(pieces: Sequence[Path], stream: Any, ends: Fraction) -> Iterator[tuple[list[Any], float]]:
    """Yield the packets of the pictures with their times, as one stream.

    Each piece counts the order of decoding from its own beginning. Put one after the other, the n-th packet is decoded when the
    n-th picture is shown, less what the reordering needs. The last one stays until ``ends``, which no piece holds.
    """
    times = [packet.pts for piece in pieces for packet in _packets(piece)]
    ordered = sorted(times)
    ranks = {pts: rank for rank, pts in enumerate(ordered)}
    delay = max(number - ranks[pts] for number, pts in enumerate(times))
    step = max(1, (ordered[min(delay, len(ordered) - 1)] - ordered[0]) // max(1, delay))
    number = 0
    for piece in pieces:
        for packet in _packets(piece):
            packet.dts = ordered[number - delay] if number >= delay else ordered[0] - step * (delay - number)
            if number == len(times) - 1:  # whichever picture this one is: a track ends with the latest end in it
                packet.duration = max(0, round(ends / packet.time_base) - packet.pts)
            packet.stream = stream
            number += 1
            yield [packet], float(packet.dts * packet.time_base)


def _packets(piece: Path) -> Iterator[Any]:
    with av.open(str(piece)) as file:
        for packet in file.demux(video=0):
            if packet.pts is not None and packet.size:
                yield packet


def _others(
    clip: Clip, source: Any, kept: Mapping[int, _Track], offset: Fraction, *, hides: bool
) -> Iterator[tuple[list[Any], float]]:
    """Yield what is written of the other tracks, with its times; ``hides``: the result has an edit list, as the source may."""
    if not kept:
        return
    if clip.start:
        source.seek(round(offset * av.time_base), backward=True)
    packets = source.demux([stream for stream in source.streams if stream.index in kept])
    open_tracks = set(kept)
    while True:
        try:
            packet = next(packets, None)
        except av.InvalidDataError:
            return  # cut off, which was noticed in reading the pictures
        except av.FFmpegError as error:
            raise ImageError(f"{clip.path}: its sound cannot be read ({error.strerror}). Export the clip again.") from error
        if packet is None or not open_tracks:
            return
        track = kept[packet.stream.index]
        if packet.dts is None or packet.pts is None:  # the empty one at the end of a track
            if packet.size == 0 and isinstance(track, _Sound):
                yield track.take(packet, offset), float("inf")
            continue
        time = float(packet.pts * packet.time_base - offset)
        if (clip.start and time < 0) or not (hides or isinstance(track, _Sound) or _heard(packet, offset)):
            continue
        if clip.end is not None and time >= clip.end - clip.start:
            open_tracks.discard(packet.stream.index)
            continue
        time = float(packet.dts * packet.time_base - offset)
        yield track.take(packet, offset), time


def _heard(packet: Any, offset: Fraction) -> bool:
    """Judge whether no edit list cuts a packet away; the last before the beginning stays, for sound is decoded with it."""
    lead = 2 * (packet.duration or 0) if packet.stream.type == "audio" else 0
    return not packet.is_discard or (packet.pts + lead) * packet.time_base > offset


def _said(metadata: Mapping[str, str], provenance: Provenance | None) -> dict[str, str]:
    """Return what is said of the result."""
    said = dict[str, str]()
    for given, text in metadata.items():
        name = given.lower().removeprefix(APPLE)
        name = APPLES.get(name, name)
        if name in SAID:
            said.setdefault(name, text)
    if provenance is not None:
        ours = (
            f"Faces restored by PFR; their detail is synthesised and no evidence of identity. Model {provenance.model}, "
            f"SHA-256 {provenance.sha256}."
        )
        said["comment"] = f"{said['comment']}\n{ours}" if said.get("comment") else ours
    return said


def _like(stream: Any, source: Any) -> None:
    """Let a track be called and chosen by players as the source's is."""
    told = {name: text for name, text in source.metadata.items() if name in ("language", "title", "handler_name")}
    stream.metadata.update(told)
    stream.disposition = source.disposition


def _chapters(chapters: Sequence[Mapping[str, Any]], offset: Fraction, clip: Clip) -> list[Any]:
    """Return the chapters of the part that is kept, counted from its beginning."""
    most = None if clip.end is None else clip.end - clip.start
    kept = list[Any]()
    for chapter in chapters:
        start, end = (float(chapter[name] * chapter["time_base"] - offset) for name in ("start", "end"))
        start, end = max(0.0, start), end if most is None else min(most, end)
        if start < end:
            times = {"start": round(start * 1000), "end": round(end * 1000), "time_base": Fraction(1, 1000)}
            kept.append({"id": len(kept) + 1, **times, "metadata": dict(chapter["metadata"])})
    return kept


_PLAIN = {"mov_text", "subrip", "ass", "webvtt", "text"}
"""Subtitles that are text."""


def _plain(codec: str, data: bytes) -> str:
    """Return what a packet of subtitles says, without its looks."""
    if codec == "mov_text":
        return data[2 : 2 + int.from_bytes(data[:2], "big")].decode("utf-8", "replace")
    text = data.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):
        text = re.sub(r"\{[^}]*\}", "", text.split(",", 8)[-1]).replace("\\N", "\n").replace("\\n", "\n")
    elif codec == "subrip":
        text = re.sub(r"</?(?:b|i|u|s|font)\b[^>]*>|\{\\[^}]*\}", "", text, flags=re.IGNORECASE)
    elif codec == "webvtt":
        text = html.unescape(re.sub(r"<[^>]*>", "", text))
    return text.strip()
