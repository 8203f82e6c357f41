"""Pictures of a clip are encoded in pieces that stand for themselves, so that an interrupted run can go on after the last one."""

from __future__ import annotations

from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..photo.arrays import Array
from ..support.choices import ClipCodec
from .read import EXACT, TRANSPARENT, Shot, is_transparent

RGB, BT_709, BT_601 = 0, 1, 5
LIMITED, FULL = 1, 2


@dataclass(frozen=True)
class Codec:
    """An encoder.

    Attributes:
        encoder: FFmpeg's name for it.
        settings: hardly distinguishable from the source (ours), at the encoder's usual pace.
        formats: pixel formats for 8 bits and for more; the source's own where there is none.
        suffixes: endings of files that hold it.
        tag: what MP4 and MOV call it, if players want another name than FFmpeg's.
        most_crf: highest value of ``crf``; None where there is no such setting.
        transparent: pixel formats for pictures with transparency, if it holds that in others.
        piece: container of a piece; NUT keeps every time exactly.
    """

    encoder: str
    settings: Mapping[str, str]
    formats: tuple[str, str] | None
    suffixes: tuple[str, ...]
    tag: str | None = None
    most_crf: int | None = None
    transparent: tuple[str, str] | None = None
    piece: str = "nut"


CODECS: dict[str, Codec] = {
    "h264": Codec("libx264", {"crf": "17", "preset": "medium"}, ("yuv420p", "yuv420p10le"), (".mp4", ".mov", ".mkv"), None, 51),
    "h265": Codec("libx265", {"crf": "18", "preset": "medium"}, ("yuv420p", "yuv420p10le"), (".mp4", ".mov", ".mkv"), "hvc1", 51),
    "ffv1": Codec("ffv1", {"level": "3", "slices": "4", "slicecrc": "1"}, None, (".mkv",)),
    # Numbered pictures.
    "png": Codec("png", {}, ("rgb24", "rgb48be"), (".png",), transparent=("rgba", "rgba64be")),
    "jpg": Codec("mjpeg", {"qmin": "1", "qscale": "2"}, ("yuvj444p", "yuvj444p"), (".jpg", ".jpeg")),
    "tiff": Codec(
        "tiff",
        {"compression_algo": "deflate"},
        ("rgb24", "rgb48le"),
        (".tif", ".tiff"),
        transparent=("rgba", "rgba64le"),
        piece="mov",  # NUT holds none
    ),
}
PICTURES = {suffix: name for name, codec in CODECS.items() if name in ("png", "jpg", "tiff") for suffix in codec.suffixes}
"""Codec of numbered pictures, by their ending."""


def codec_for(choice: ClipCodec, crf: int | None, suffix: str, depth: int) -> str:
    """Return the name of the codec.

    Args:
        choice: what was asked for.
        crf: quality that was asked for.
        suffix: of the file to write.
        depth: bits of a colour in the source.

    Raises:
        InputError: the file cannot hold it, or it has no such quality.
    """
    name: str = choice
    if suffix in PICTURES:
        if choice != "auto":
            raise InputError(f"codec {choice} is for clips, and the output is {suffix} pictures; leave it out.")
        name = PICTURES[suffix]
    elif choice == "auto":
        name = "h264" if depth <= 8 else "h265"
    codec = CODECS[name]
    if suffix not in codec.suffixes:
        raise InputError(f"codec {name} does not go into a {suffix} file; name the output {' or '.join(codec.suffixes)}.")
    if crf is not None and (codec.most_crf is None or crf > codec.most_crf):
        most = "has no such setting" if codec.most_crf is None else f"takes at most {codec.most_crf}"
        raise InputError(f"crf is {crf}; {name} {most}.")
    return name


def format_for(codec: str, first: Shot, modes: Set[str]) -> str:
    """Return the pixel format of all pieces, which have one header.

    Args:
        codec: a name of :data:`CODECS`.
        first: the clip's first picture.
        modes: of numbered pictures (:attr:`.read.Headers.modes`), which need not be alike.
    """
    transparent, deep = first.transparent or TRANSPARENT in modes, first.depth > 8
    formats = CODECS[codec].transparent if transparent else None
    if formats := formats or CODECS[codec].formats:
        return formats[deep]
    if len(modes) > 1 or first.raw.format.name == "pal8":
        return _any_rgb(transparent, deep)
    return _own_format(first)


@dataclass
class Piece:
    """Some pictures of a clip in a file of their own.

    Args:
        path: the file to write.
        codec: a name of :data:`CODECS`.
        crf: quality; None for the codec's own.
        video: the stream of the source, for its rate and colours.
        form: pixel format, from :func:`format_for`.
    """

    path: Path
    codec: str
    crf: int | None
    video: Any
    form: str
    _file: Any = field(default=None, init=False)
    _stream: Any = field(default=None, init=False)

    def write(self, shot: Shot, image: Array | None) -> None:
        """Encode a picture at its time: ``image`` [H,W,3] of the shot's depth, or the shot as it is."""
        even = CODECS[self.codec].formats is not None and "420" in self.form
        frame = _encodable(shot, image, self.form, even=even)
        if self._file is None:
            self._open(shot, frame)
        frame.pts, frame.time_base = shot.pts, shot.time_base
        frame.pict_type = av.video.frame.PictureType.NONE  # or the encoder would take the source's
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.mux(self._stream.encode())
            self._file.close()

    def abandon(self) -> None:
        """Let go of a file that cannot be finished, and of its room on the disk, which is taken as long as it is open."""
        if self._file is not None:
            with suppress(av.FFmpegError):  # why it cannot be finished is told already
                self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _open(self, shot: Shot, frame: Any) -> None:
        codec, form = CODECS[self.codec], self.form
        settings = dict(codec.settings) | ({} if self.crf is None else {"crf": str(self.crf)})
        if self.codec == "h265":
            settings["x265-params"] = ":".join(["log-level=error", *_hdr(shot)])
        # NUT keeps times as they are, but FFmpeg would shift them all so that decoding begins at 0.
        self._file = av.open(str(self.path), "w", format=codec.piece, options={"avoid_negative_ts": "disabled"})
        # The nominal rate only serves the encoder's rate control; every frame keeps its own time.
        stream = self._stream = self._file.add_stream(
            codec.encoder, rate=self.video.average_rate or Fraction(25), options=settings
        )
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, form
        context = stream.codec_context
        context.time_base = shot.time_base
        if aspect := self.video.sample_aspect_ratio:
            stream.sample_aspect_ratio = 1 / aspect if shot.sideways else aspect
        if "rgb" not in form:
            for name in ("color_primaries", "color_trc"):
                setattr(context, name, getattr(self.video.codec_context, name))
            context.colorspace, context.color_range = _matrix(shot, form)


def _matrix(shot: Shot, form: str) -> tuple[int, int]:
    """Return matrix and range, by FFmpeg's numbers, of the encoded picture.

    They are the source's, or BT.709's where RGB becomes YUV; gray and palette PNGs call themselves RGB, too.
    """
    if form.startswith("yuvj"):
        return BT_601, FULL  # JPEG knows no other, and says none
    if shot.raw.colorspace == RGB and not av.VideoFormat(form).is_rgb:
        return BT_709, LIMITED
    return shot.raw.colorspace, shot.raw.color_range


def _encodable(shot: Shot, image: Array | None, form: str, *, even: bool) -> Any:
    """Return the picture in the encoder's format, by the matrix and range of the source.

    Where ``image`` is the shot's own pixels, the source's own values are kept, which RGB and back would change by rounding.
    """
    pixels: Any = shot.pixels if image is None else image
    matrix, reach = _matrix(shot, form)
    seen, old = _as_seen(shot), None
    if seen is not None and pixels.shape[:2] == (seen.height, seen.width):
        changed = (matrix, reach) != (shot.raw.colorspace, shot.raw.color_range)
        how = {"dst_colorspace": matrix, "dst_color_range": reach} if changed else {}
        old = seen.reformat(format=form, interpolation=EXACT, **how)
    fits = not even or not (pixels.shape[0] % 2 or pixels.shape[1] % 2)
    if image is None and old is not None and fits:
        return old
    filled: Any = _even(pixels) if even else pixels
    layout = "rgb24" if filled.dtype == np.uint8 else "rgb48le"
    if seen is not None and is_transparent(av.VideoFormat(form)):
        layout = "rgba" if filled.dtype == np.uint8 else "rgba64le"
        whole = seen.reformat(width=filled.shape[1], height=filled.shape[0], format=layout).to_ndarray()
        whole[..., :3] = filled
        filled = whole
    rgb = av.VideoFrame.from_ndarray(filled, format=layout)
    new = rgb.reformat(format=form, interpolation=EXACT, dst_colorspace=matrix, dst_color_range=reach)
    if old is not None and fits and form.startswith(("yuv4", "yuva", "gray")):
        differs = pixels ^ shot.pixels
        _keep(new, old, (differs[..., 0] | differs[..., 1] | differs[..., 2]) == 0)  # NumPy is slow to reduce three channels
    return new


def _as_seen(shot: Shot) -> Any:
    """Return the picture as it is seen, of its own values; None if its colours' samples would not fit into its format then."""
    raw, form = shot.raw, shot.raw.format
    if np.array_equal(shot.turn, np.eye(2)):
        return raw
    height, width = (raw.width, raw.height) if shot.sideways else (raw.height, raw.width)
    even = not (height % 2 or width % 2)
    if (
        not form.name.startswith(("yuv4", "yuvj4", "yuva4", "gray"))
        or form.chroma_width(16) != form.chroma_height(16)
        or not even
    ):
        return None
    made = av.VideoFrame(width, height, form.name)
    for target, source in zip(made.planes, raw.planes, strict=True):
        np.copyto(_values(target, form), shot.turned(_values(source, form)))
    made.colorspace, made.color_range = raw.colorspace, raw.color_range
    return made


ALPHA = 3
"""Which plane of YUV it is."""


def _keep(new: Any, old: Any, same: npt.NDArray[np.bool_]) -> None:
    """Put the old values into ``new``, [H,W], where all pixels of a sample are the same; transparency is the old one all over."""
    whole = np.where(same, np.float32(1), np.float32(0))
    for number, (target, source) in enumerate(zip(new.planes, old.planes, strict=True)):
        if number == ALPHA:
            np.copyto(_values(target, new.format), _values(source, new.format))
            continue
        size = target.width, target.height
        kept = cv2.resize(whole, size, interpolation=cv2.INTER_AREA) > 1 - 1e-3
        np.copyto(_values(target, new.format), _values(source, new.format), where=kept)


def _values(plane: Any, form: Any) -> npt.NDArray[Any]:
    kind = np.dtype(np.uint8 if form.components[0].bits <= 8 else "<u2")
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
    return rows[: plane.height, : plane.width]


def _own_format(shot: Shot) -> str:
    """Return the format in which FFV1 loses nothing of the source's."""
    name = str(shot.raw.format.name).replace("yuvj", "yuv")
    known = {each.name for each in av.Codec("ffv1", "w").video_formats or ()}
    if name in known:
        return name
    if shot.raw.format.is_rgb:
        return _any_rgb(shot.transparent, shot.depth > 8)
    eight, more = ("yuva444p", "yuva444p16le") if shot.transparent else ("yuv444p", "yuv444p16le")
    return eight if shot.depth <= 8 else more


def _any_rgb(transparent: bool, deep: bool) -> str:
    if transparent:
        return "rgba64le" if deep else "bgra"
    return "gbrp16le" if deep else "bgr0"


def _even(frame: Array) -> Array:
    """Make sides even, as 4:2:0 colour needs them: an odd one gets its last line twice."""
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return frame


def _hdr(shot: Shot) -> list[str]:
    """Return what x265 is told of the display that an HDR clip was graded on, and of its brightest picture."""
    told = []
    if (data := shot.side_data.get("MASTERING_DISPLAY_METADATA")) is not None:
        numbers = np.frombuffer(bytes(data)[:88], "<i4")
        ratio = numbers[:20:2] / np.maximum(numbers[1:20:2], 1)  # red, green, blue and white (x, y), darkest, brightest
        if numbers[20] and numbers[21]:
            red, green, blue, white = np.rint(ratio[:8] * 50000).reshape(4, 2).astype(int).tolist()
            low, high = np.rint(ratio[8:] * 10000).astype(int).tolist()
            places = {"G": green, "B": blue, "R": red, "WP": white, "L": (high, low)}
            told.append("master-display=" + "".join(f"{name}({x},{y})" for name, (x, y) in places.items()))
    if (data := shot.side_data.get("CONTENT_LIGHT_LEVEL")) is not None:
        most, average = np.frombuffer(bytes(data)[:8], "<u4").tolist()
        told.append(f"max-cll={most},{average}")
    return ["hdr10=1", "repeat-headers=1", *told] if told else []
