"""Video files, frame by frame: nothing is held but the frame at hand. Reading and writing are PyAV's (FFmpeg's libraries)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

from ..errors import ImageError, check_stop
from ..support.files import unwritable

Frame = npt.NDArray[np.uint8]
Progress = Callable[[int, int, float], None]
"""Called with (frames done, frames in all, seconds left)."""

# Without these a playlist that calls itself clip.mp4 could make FFmpeg open other files or addresses.
INPUT_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf",
}
MP4_AUDIO = {"aac", "mp3", "opus", "ac3", "eac3", "alac"}
"""Audio that goes into the result as it is; other audio is encoded as AAC."""
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
"""How YUV becomes RGB and back; FFmpeg's default would darken every picture by 1 of 255."""
KEPT = {"title", "artist", "author", "comment", "description", "copyright", "date", "creation_time", "location", "album", "genre"}
"""What is said about a clip and goes with it."""
QUALITY = {"crf": "17", "preset": "medium"}
"""x264's settings: hardly distinguishable from the source (ours)."""


@dataclass(frozen=True)
class ClipInfo:
    """What a clip holds: ``frames`` to decode, length in ``seconds``, frame size in px as it is seen, turned upright."""

    frames: int
    seconds: float
    width: int
    height: int
    audio: bool


def probe(path: Path, most: int | None = None) -> ClipInfo:
    """Look through a clip, of which the first picture is decoded; what its header says about the length is not relied on.

    Args:
        path: the file.
        most: stop looking after so many frames; the clip then seems to have one more.

    Raises:
        ImageError: no video that can be read, or one without a single frame.
    """
    with _open(path) as source:
        stream = source.streams.video[0]
        frames, first, last = 0, None, 0.0
        try:
            for packet in source.demux(stream):
                if packet.pts is None or packet.size == 0:
                    continue
                frames += 1
                start = float(packet.pts * packet.time_base)
                first = start if first is None else min(first, start)
                last = max(last, start + float((packet.duration or 0) * packet.time_base))
                if most is not None and frames > most:
                    break
        except av.FFmpegError as error:
            raise _damaged(path, error) from error
        if first is None:
            raise ImageError(f"{path}: this clip has no pictures in it; record or export it again.")
        sideways, audio, size = False, bool(source.streams.audio), (stream.width, stream.height)
    with _open(path) as source, suppress(av.FFmpegError):  # what cannot be decoded is said in converting
        picture = next(source.decode(video=0), None)
        sideways = picture is not None and abs(_turn(picture)[0, 1]) == 1
    width, height = size[::-1] if sideways else size
    return ClipInfo(frames, last - first, width, height, audio)


def frames(path: Path) -> Iterator[Frame]:
    """Yield the pictures of a clip, [H,W,3] RGB, upright.

    Raises:
        ImageError: the clip cannot be read.
    """
    with _open(path) as source:
        source.streams.video[0].thread_type = "AUTO"
        try:
            for frame in source.decode(video=0):
                yield _upright(frame)
        except av.FFmpegError as error:
            raise _damaged(path, error) from error


def convert(
    path: Path,
    target: Path,
    change: Callable[[Frame], Frame],
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int:
    """Write ``target`` (MP4, H.264, 8 bit): every frame of ``path`` as ``change`` makes it, at its own time, with the audio.

    ``change`` gets and gives [H,W,3] RGB, upright; all its results have one size. Returns the number of frames. The file
    appears whole or not at all.

    Raises:
        ImageError: the clip cannot be read, or the file not be written.
        Cancelled: ``should_stop`` asked for it.
    """
    info = probe(path)
    part = target.with_suffix(".part")
    done, started = 0, time.monotonic()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open(path) as source, av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as result:
            video = source.streams.video[0]
            result.metadata.update({name: text for name, text in source.metadata.items() if name.lower() in KEPT})
            video.thread_type = "AUTO"
            sounds = {track.index: _Sound(result, track) for track in source.streams.audio if track.codec_context is not None}
            picture: Any = None
            early: list[Any] = []  # sound before the first picture: nothing can be written until all streams are known
            for packet in source.demux([video, *(track for track in source.streams.audio if track.index in sounds)]):
                if packet.stream is not video:
                    early.append(packet)
                else:
                    for frame in packet.decode():
                        check_stop(should_stop, f"{path}: stopped after {done} of {info.frames} frames; nothing was kept.")
                        changed = _even(change(_upright(frame)))
                        if picture is None:
                            picture = _picture_stream(result, video, changed)
                        result.mux(picture.encode(_like(frame, changed)))
                        done += 1
                        if progress is not None:
                            left = (time.monotonic() - started) / done * max(0, info.frames - done)
                            progress(done, max(info.frames, done), left)
                if picture is not None:
                    for heard in early:
                        sounds[heard.stream.index].take(heard)
                    early.clear()
            if picture is None:
                raise ImageError(f"{path}: none of its pictures can be decoded; export it as MP4 with H.264.")
            result.mux(picture.encode())
            for sound in sounds.values():
                sound.finish()
        part.replace(target)
    except av.FFmpegError as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise ImageError(unwritable(target, error)) from error
    finally:
        part.unlink(missing_ok=True)
    return done


class _Sound:
    """A sound track on its way into the result: copied, or encoded anew where MP4 cannot hold it."""

    def __init__(self, result: Any, audio: Any) -> None:
        self._result = result
        self._rate = Fraction(1, audio.rate)
        self._length = audio.codec_context.frame_size  # samples of a packet; 0 if they differ
        self._next: int | None = None
        # A decoder may be called otherwise than what it decodes: PyAV's for MP3 is mp3float.
        self._copied = audio.codec_context.codec.canonical_name in MP4_AUDIO
        if self._copied:
            self._stream = result.add_stream_from_template(audio)
        else:
            layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(audio.channels, "stereo")
            self._stream = result.add_stream("aac", rate=audio.rate, layout=layout)
        if language := audio.metadata.get("language"):
            self._stream.metadata["language"] = language

    def take(self, packet: Any) -> None:
        if self._copied:
            if packet.dts is not None:  # the empty one at the end has none
                self._space(packet)
                packet.stream = self._stream
                self._result.mux(packet)
        else:
            for frame in packet.decode():
                self._result.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if not self._copied:
            self._result.mux(self._stream.encode())

    def _space(self, packet: Any) -> None:
        """Give a packet the time that follows from the one before, where the file counts too coarsely for it, as AVI does."""
        if not self._length or packet.time_base <= self._rate:
            return
        start, tick = round(packet.dts * packet.time_base / self._rate), packet.time_base / self._rate
        if self._next is not None and abs(start - self._next) <= 2 * tick + self._length:
            start = self._next
        self._next = start + self._length
        packet.time_base, packet.dts, packet.pts, packet.duration = self._rate, start, start, self._length


def _open(path: Path) -> Any:
    try:
        source = av.open(str(path), options=INPUT_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise _damaged(path, error) from error
    if not source.streams.video:
        source.close()
        raise ImageError(f"{path}: there is sound in this file, but no video.")
    return source


def _damaged(path: Path, error: Exception) -> ImageError:
    reason = getattr(error, "strerror", None) or error
    empty = path.is_file() and path.stat().st_size == 0
    return ImageError(
        f"{path}: {'the file is empty' if empty else f'not a video that can be read ({reason})'}. "
        "Export the clip again, as MP4, MOV, WebM, MKV or AVI."
    )


def _picture_stream(result: Any, video: Any, frame: Frame) -> Any:
    # The nominal rate only serves the encoder's rate control; every frame keeps its own time.
    stream = result.add_stream("libx264", rate=video.average_rate or Fraction(25), options=QUALITY)
    stream.height, stream.width = frame.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = video.time_base
    if video.sample_aspect_ratio:
        stream.sample_aspect_ratio = video.sample_aspect_ratio
    for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
        setattr(stream.codec_context, name, getattr(video.codec_context, name))
    return stream


def _upright(frame: Any) -> Frame:
    """Return [H,W,3] RGB, turned and mirrored as the file says."""
    rgb = frame.reformat(
        format="rgb24", interpolation=EXACT, src_colorspace=frame.colorspace, src_color_range=frame.color_range
    ).to_ndarray()
    turn = _turn(frame)
    if turn[0, 1]:
        rgb, turn = rgb.transpose(1, 0, 2), turn[::-1]
    return np.ascontiguousarray(rgb[:: turn[1, 1], :: turn[0, 0]])


def _turn(frame: Any) -> npt.NDArray[np.int64]:
    """Return the display matrix of a frame, [2,2] of -1, 0 and 1: (x, y) times it is where a stored pixel is seen."""
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = np.eye(2) if data is None else np.frombuffer(bytes(data), "<i4").reshape(3, 3)[:2, :2] / 65536
    turn = np.rint(matrix).astype(np.int64)
    # Anything but quarter turns and mirrors is shown as it is stored.
    return turn if np.array_equal(abs(turn @ turn.T), np.eye(2)) else np.eye(2, dtype=np.int64)


def _like(frame: Any, rgb: Frame) -> Any:
    """Turn RGB into the YUV frame that stands at the place of ``frame``, by the same matrix and range."""
    new = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format="yuv420p", interpolation=EXACT, dst_colorspace=frame.colorspace, dst_color_range=frame.color_range
    )
    new.pts, new.time_base = frame.pts, frame.time_base
    return new


def _even(frame: Frame) -> Frame:
    """Make sides even, as H.264 with 4:2:0 colour needs them: an odd one gets its last line twice."""
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return frame
