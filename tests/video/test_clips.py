"""Files of clips: what is read, restored and written, and what is kept of the rest. The network is a stand-in that inverts."""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pfr_core import Face, RestoreOptions
from pfr_core.cli import main
from pfr_core.cli.inputs import list_inputs, plan_outputs
from pfr_core.cli.restore import _is_there
from pfr_core.errors import Cancelled, ImageError, InputError
from pfr_core.faces.align import TEMPLATE
from pfr_core.options import ClipOptions
from pfr_core.photo.photo import Provenance
from pfr_core.photo.read import read_photo
from pfr_core.support.choices import ClipCodec
from pfr_core.support.notice import Notice

av = pytest.importorskip("av")

from pfr_core.video import check_av, is_clip  # noqa: E402
from pfr_core.video.mux import _STYLE, _plain, _Sound, assemble  # noqa: E402
from pfr_core.video.read import Clip, ClipInfo, Shot, seconds, video_of  # noqa: E402
from pfr_core.video.restore import RestoredClip, follow, restore_clip  # noqa: E402
from pfr_core.video.unfinished import Unfinished  # noqa: E402
from pfr_core.video.write import Piece  # noqa: E402

from ..clip_files import RATE, SOUND_RATE, make_clip, pictures, sound  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FACE = Face((40, 24, 56, 40), 0.9, tuple((float(x), float(y)) for x, y in (TEMPLATE - 256) / 16 + (48, 32)))  # type: ignore[arg-type]
"""In the middle of what :func:`make_clip` makes."""


class Inverting(SimpleNamespace):
    """A restorer that finds these faces in every picture and turns them into their negatives."""

    def __init__(self, *faces: Face) -> None:
        self.runs = 0
        super().__init__(
            options=RestoreOptions(color_match="none"),
            detector=SimpleNamespace(name="builtin", detect=lambda image, **how: list(faces), advice=lambda: None),
            provenance=Provenance("inverting", "00" * 32), crop_size=32, model_options=(), parser=None,
            net=SimpleNamespace(place=("cpu", "float32")),
        )  # fmt: skip

    def restore_crops(self, crops: Any, **how: Any) -> Any:
        self.runs += 1
        return 1 - crops


def restore(source: Path, target: Path, *faces: Face, **options: Any) -> RestoredClip:
    return restore_clip(Inverting(*faces), source, target, clip=ClipOptions(steady=0.0, **options))  # type: ignore[arg-type]


def kinds_beside_no_face(clip: RestoredClip) -> list[str]:
    """Return what was noticed of a clip, in which there is no face and which says so."""
    return [notice.kind for notice, _ in clip.notices if notice.kind != "no_face"]


def raw(path: Path) -> list[Any]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


# --- What is kept --------------------------------------------------------------------------------------------------------


def test_a_clip_without_faces_keeps_its_times_pictures_and_sound(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mp4"), tmp_path / "b.mov"
    clip = restore(source, target)
    assert clip.frames == 16 and not clip.changed and clip.tracks == []
    (times, before), (new_times, after) = pictures(source), pictures(target)
    assert new_times == times and len(times) == 16
    assert np.abs(after - before).mean() < 0.7
    assert abs((after - before).mean()) < 0.2, "FFmpeg's default conversion would darken by 1"
    (name, heard), (new_name, new_heard) = sound(source), sound(target)
    assert name == new_name == "aac" and np.array_equal(heard, new_heard)
    restore(source, tmp_path / "c.mp4")
    assert (tmp_path / "c.mp4").read_bytes() == source.read_bytes(), "nothing to do, so a copy"


def test_one_picture_is_a_clip(tmp_path: Path) -> None:
    clip = restore(make_clip(tmp_path / "a.mp4", 1, sound=None), tmp_path / "b.mp4", FACE)
    assert clip.frames == 1 and clip.changed and pictures(clip.path)[0] == [0.0]


def test_without_loss_every_value_outside_the_faces_stays(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mp4"), tmp_path / "b.mkv"
    assert restore(source, target, FACE, codec="ffv1").changed
    for old, new in zip(raw(source), raw(target), strict=True):
        assert old.format.name == new.format.name == "yuv420p"
        one, other = old.to_ndarray(), new.to_ndarray()
        assert np.array_equal(one[:8], other[:8]) and np.array_equal(one[64:67], other[64:67]), "above the face"
        assert np.abs(one[28:36, 44:52].astype(int) - other[28:36, 44:52]).mean() > 5, "the face"


def test_sound_that_mp4_cannot_hold_is_encoded_anew_and_odd_sizes_are_filled_up(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mkv", size=(97, 65), sound="pcm_s16le", codec="ffv1"), tmp_path / "b.mp4"
    restore(source, target)
    assert Clip(target).probe() == ClipInfo(16, 2.0, 98, 66, True)
    name, heard = sound(target)
    spectrum = np.abs(np.fft.rfft(heard[4096 : 4096 + SOUND_RATE]))
    assert name == "aac" and abs(int(spectrum.argmax()) - 440) <= 1


def rich(path: Path, plain: Path) -> Path:
    """Return the clip with two sound tracks, subtitles, chapters, and words about it."""
    with av.open(str(plain)) as given, av.open(str(path), "w") as made:
        made.metadata.update(title="Birthday", creation_time="1999-05-06T07:08:09.000000Z", comment="tape 3")
        base = Fraction(1, 1000)
        made.set_chapters(
            [
                {"id": number, "start": start, "end": start + 1000, "time_base": base, "metadata": {"title": title}}
                for number, (start, title) in enumerate(((0, "cake"), (1000, "candles")), 1)
            ]
        )
        video, *sounds = [made.add_stream_from_template(given.streams[number]) for number in (0, 1, 1)]
        text = made.add_stream("mov_text" if path.suffix == ".mp4" else "subrip")
        text.codec_context.subtitle_header, text.codec_context.time_base = _STYLE, base
        text.codec_context.open()
        for track, language in zip((*sounds, text), ("deu", "jpn", "eng"), strict=True):
            track.metadata["language"] = language
        sounds[0].disposition, sounds[1].disposition, text.disposition = 0, 1, 65  # the second, and what must be shown
        for number, kept in ((0, [video]), (1, sounds)):
            for stream in kept:
                given.seek(0)
                for packet in given.demux(given.streams[number]):
                    if packet.dts is not None:
                        packet.stream = stream
                        made.mux(packet)
        said = b"hip hip"
        packet = av.Packet(len(said).to_bytes(2, "big") + said if path.suffix == ".mp4" else said)
        packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = text, base, 500, 500, 700
        made.mux(packet)
    return path


def packets(path: Path) -> tuple[list[bytes], float]:
    """Return the first sound track as it is stored, and when it begins after the pictures."""
    with av.open(str(path)) as file:
        heard = [packet for packet in file.demux(audio=0) if packet.size]
        video = file.streams.video[0]
        return [bytes(each) for each in heard], float(heard[0].pts * heard[0].time_base - video.start_time * video.time_base)


@pytest.mark.parametrize(("first", "second"), [(".mp4", ".mkv"), (".mkv", ".mp4")])
def test_all_tracks_chapters_and_what_is_said_of_a_clip_go_along(tmp_path: Path, first: str, second: str) -> None:
    source = rich(tmp_path / f"a{first}", make_clip(tmp_path / "plain.mp4"))
    assert not list(restore(source, tmp_path / f"b{second}", FACE).notices)
    with av.open(str(tmp_path / f"b{second}")) as got:
        said = {name.lower(): text for name, text in got.metadata.items()}
        assert [track.metadata["language"] for track in got.streams.audio] == ["deu", "jpn"]
        assert [int(track.disposition) for track in got.streams.audio] == [0, 1], "the second is the one that is played"
        assert second == ".mp4" or int(got.streams.subtitles[0].disposition) == 65  # MP4 has no such word for subtitles
        assert got.streams.video[0].average_rate == pytest.approx(RATE, rel=0.01)
        assert said["title"] == "Birthday" and said["creation_time"].startswith("1999-05-06T07:08:09")
        assert said["comment"].startswith("tape 3\nFaces restored by PFR") and "inverting" in said["comment"]
        assert [chapter["metadata"]["title"] for chapter in got.chapters()] == ["cake", "candles"]
        (text,) = got.streams.subtitles
        spoken = [packet for packet in got.demux(text) if b"hip hip" in bytes(packet)]
        assert text.metadata["language"] == "eng" and len(spoken) == 1
        shift = float(got.streams.video[0].start_time * got.streams.video[0].time_base)
        assert float(spoken[0].pts * spoken[0].time_base) - shift == pytest.approx(0.5, abs=0.002)
    (before, starts), (after, new_starts) = (packets(path) for path in (source, tmp_path / f"b{second}"))
    assert before == after and new_starts == pytest.approx(starts, abs=0.002), "in step with the pictures"


def test_what_an_iphone_says_of_a_clip_goes_along(tmp_path: Path) -> None:
    plain, source = make_clip(tmp_path / "plain.mp4", 4, sound=None), tmp_path / "a.mov"
    said = {"location.ISO6709": "+35.6-139.7/", "creationdate": "2024-05-06T07:08:09+0900", "make": "Apple", "model": "iPhone"}
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(plain)) as given, av.open(str(source), "w", options=options) as made:
        made.metadata.update({f"com.apple.quicktime.{name}": text for name, text in said.items()})
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    restore(source, tmp_path / "b.mov", FACE)
    with av.open(str(tmp_path / "b.mov")) as got:
        names = ("location", "date", "make", "model")
        assert [got.metadata.get(name) for name in names] == list(said.values())


@pytest.mark.parametrize(
    ("codec", "data", "text"),
    [
        ("subrip", r"{\an8}<i>Hip</i> <font color=red>hip</font> 1 < 2", "Hip hip 1 < 2"),
        ("webvtt", "<v Ann><c.loud>Hip</c> <00:01.000>hip &amp; hop", "Hip hip & hop"),
        ("ass", r"0,0,Default,,0,0,0,,{\i1}Hip\Nhip", "Hip\nhip"),
    ],
)
def test_subtitles_in_another_form_show_no_tags(codec: str, data: str, text: str) -> None:
    assert _plain(codec, data.encode()) == text


def test_a_part_begins_at_nought_with_its_sound_and_chapters(tmp_path: Path) -> None:
    source = rich(tmp_path / "a.mp4", make_clip(tmp_path / "plain.mp4"))
    clip = restore(source, tmp_path / "b.mp4", start="0:00.5", end="1.5")
    (times, before), (new_times, after) = pictures(source), pictures(clip.path)
    assert clip.frames == 8 and new_times == [time - 0.5 for time in times[4:12]]
    assert np.abs(after - before[4:12]).mean() < 1
    with av.open(str(clip.path)) as got:
        assert [(c["start"], c["end"]) for c in got.chapters()] == [(0, 500), (500, 1000)]
        packets = [packet for packet in got.demux(audio=0) if packet.dts is not None]
        begins = float(packets[0].pts * packets[0].time_base)
        assert 0 <= begins < 0.022 and float((packets[-1].pts + 1024) * packets[-1].time_base) == pytest.approx(1, abs=0.025)
    heard, whole = sound(clip.path)[1][SOUND_RATE // 4 : SOUND_RATE // 2], sound(source)[1]
    lags = range(SOUND_RATE // 2 - 1200, SOUND_RATE // 2 + 1200)
    origin = SOUND_RATE // 4 + round(begins * SOUND_RATE)
    best = min(lags, key=lambda lag: np.abs(whole[lag + origin : lag + origin + 512] - heard[:512]).sum())
    assert abs(best - SOUND_RATE / 2) % (SOUND_RATE / 440) < 3, "the tone goes on in step"
    with pytest.raises(ImageError, match="nothing after 60 s"):
        restore(source, tmp_path / "c.mp4", start="60")
    with pytest.raises(InputError, match="is no time"):
        restore(source, tmp_path / "c.mp4", start="soon")


def test_sound_that_a_file_times_too_coarsely_is_spaced_evenly(tmp_path: Path) -> None:
    """AVI counts MP3 in steps that give two packets the same time, which MP4 does not take; and PyAV's decoder is mp3float."""
    source, target = make_clip(tmp_path / "a.avi", 40, sound="libmp3lame", codec="mpeg4"), tmp_path / "b.mp4"
    restore(source, target)
    with av.open(str(target)) as file:
        times = [packet.dts for packet in file.demux(audio=0) if packet.dts is not None]
        assert file.streams.audio[0].codec_context.codec.canonical_name == "mp3"
    assert len(set(np.diff(times))) == 1
    (_, heard), (_, new_heard) = sound(source), sound(target)
    assert np.array_equal(heard, new_heard)


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((1, 0, 0, 1), lambda pixels: pixels),
        ((-1, 0, 0, 1), lambda pixels: pixels[:, ::-1]),
        ((1, 0, 0, -1), lambda pixels: pixels[::-1]),
        ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
        ((0, -1, 1, 0), lambda pixels: np.rot90(pixels)),
        ((0, 1, 1, 0), lambda pixels: pixels.transpose(1, 0, 2)),
    ],
)
def test_a_clip_that_is_shown_turned_or_mirrored_comes_out_as_it_is_seen(
    tmp_path: Path, matrix: tuple[int, ...], seen: Callable[[np.ndarray], np.ndarray]
) -> None:
    source = make_clip(tmp_path / "a.mp4", 2)
    stored = next(Clip(source).frames())
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # of the matrix in version 0 of that box
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    source.write_bytes(data)
    got = next(Clip(source).frames())
    assert np.array_equal(got, seen(stored))
    info = Clip(source).probe()
    assert (info.height, info.width) == got.shape[:2]
    restore(source, tmp_path / "b.mkv", codec="ffv1")
    assert np.abs(next(Clip(tmp_path / "b.mkv").frames()).astype(int) - got).mean() < 1.5
    (_, before), (_, after) = pictures(source), pictures(tmp_path / "b.mkv")
    assert np.array_equal(after[0], seen(before[0][..., None])[..., 0]), "its own values, not by way of RGB"


def test_a_turn_that_is_none_is_told_and_left_alone(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 2)
    stored = next(Clip(source).frames())
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    eighth = round(0.7071 * (1 << 16))
    data[place : place + 36] = struct.pack(">9i", eighth, eighth, 0, -eighth, eighth, 0, 0, 0, 1 << 30)
    source.write_bytes(data)
    clip = restore(source, tmp_path / "b.mkv", FACE)
    assert [notice.kind for notice, _ in clip.notices] == ["wrong_rotation"]
    assert next(Clip(clip.path).frames()).shape == stored.shape


def encoded(path: Path, codec: str, form: str, options: dict[str, str], film: list[np.ndarray], **tags: Any) -> Path:
    """Write pictures [H,W,3] of 8 or 16 bits."""
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=RATE, options=options)
        video.height, video.width, video.pix_fmt = *film[0].shape[:2], form
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
        for number, picture in enumerate(film):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.dtype == np.uint8 else "rgb48le")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(video.encode(frame))
        file.mux(video.encode())
    return path


def test_more_than_8_bits_and_the_tags_of_hdr_are_kept(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(20000, 22000, 128).astype(np.uint16)[None, :, None], (64, 128, 3))
    tags = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}
    hdr = {"x265-params": "log-level=error:hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
           "L(10000000,50):max-cll=1000,400"}  # fmt: skip
    source = encoded(tmp_path / "a.mp4", "libx265", "yuv420p10le", hdr, [np.ascontiguousarray(ramp)] * 3, **tags)
    clip = restore(source, tmp_path / "b.mov")
    with av.open(str(clip.path)) as file:
        context = file.streams.video[0].codec_context
        assert context.name == "hevc" and context.format.name == "yuv420p10le" and context.codec_tag == "hvc1"
        assert {name: getattr(context, name) for name in tags} == tags
    old, new = raw(source)[0], raw(clip.path)[0]
    assert len(np.unique(new.to_ndarray()[:64])) > 20, "8 bits would leave 8 steps of the ramp"
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        assert bytes(old.side_data[kind]) == bytes(new.side_data[kind])


@pytest.mark.parametrize(("shape", "kinds"), [(Fraction(64, 45), ["squeezed"]), (Fraction(16, 15), [])])
def test_pixels_that_are_no_squares_are_told(shape: Fraction, kinds: list[str], tmp_path: Path) -> None:
    film = [np.full((64, 96, 3), 90, np.uint8)] * 2
    source = encoded(tmp_path / "a.mp4", "libx264", "yuv420p", {}, film, sample_aspect_ratio=shape)
    assert [notice.kind for notice, _ in restore(source, tmp_path / "b.mp4", FACE).notices] == kinds


@pytest.mark.parametrize("result", ["b.mp4", "b.mkv", "b%02d.jpg"])
def test_rgb_becomes_yuv_by_the_matrix_that_the_file_names(tmp_path: Path, result: str) -> None:
    """As it was, GBR: a player that believes it shows green and magenta."""
    ramp = np.linspace(30, 220, 128).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[:64, None], np.uint8(60)), axis=-1)
    source = encoded(tmp_path / "a.avi", "libx264rgb", "rgb24", {"crf": "1"}, [picture] * 3)
    clip = restore(source, tmp_path / result)
    frame = raw(clip.path)[0]
    if result.endswith("jpg"):
        told = 5  # no JPEG names another
    else:
        told = frame.colorspace
        assert (told, frame.color_range) == (1, 1)
    seen = frame.to_ndarray(format="rgb24", src_colorspace=told, src_color_range=frame.color_range)
    assert np.abs(seen.astype(int) - picture).mean() < 2.5


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_gray_and_palette_pictures_become_yuv_as_rgb_does(tmp_path: Path, mode: str) -> None:
    ramp = Image.fromarray(np.broadcast_to(np.linspace(20, 230, 96).astype(np.uint8), (64, 96)).copy())
    for number in range(2):
        (ramp.convert("RGB").convert("P") if mode == "P" else ramp.convert(mode)).save(tmp_path / f"a{number}.png")
    frame = raw(restore(tmp_path / "a%d.png", tmp_path / "b.mp4").path)[0]
    assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", 1, 1)
    seen = frame.to_ndarray(format="rgb24", src_colorspace=1, src_color_range=1).astype(int)
    assert np.abs(seen - np.asarray(Image.open(tmp_path / "a0.png").convert("RGB"))).mean() < 3


def test_a_matrix_that_jpeg_does_not_know_is_not_passed_on_to_it(tmp_path: Path) -> None:
    picture = np.broadcast_to(np.array([200, 90, 40], np.uint8), (64, 96, 3)).copy()
    tags = {"color_primaries": 1, "color_trc": 1, "colorspace": 1, "color_range": 1}
    source = encoded(tmp_path / "a.mp4", "libx264", "yuv420p", {"crf": "5"}, [picture] * 2, **tags)
    restore(source, tmp_path / "b%02d.jpg")
    seen, kept = read_photo(tmp_path / "b01.jpg").pixels, next(Clip(source).frames())
    assert np.abs(seen.astype(int) - kept).max() <= 3


def test_an_interlaced_clip_is_deinterlaced_and_says_so(tmp_path: Path) -> None:
    film = []
    for number in range(6):
        picture = np.full((64, 96, 3), 40, np.uint8)
        for field in range(2):  # a bar that has moved on in the second field
            picture[field::2, 10 + 12 * number + 6 * field : 30 + 12 * number + 6 * field] = 220
        film.append(picture)
    source = encoded(tmp_path / "a.mp4", "libx264", "yuv420p", {"crf": "5", "flags": "+ildct+ilme", "x264-params": "tff=1"}, film)
    assert raw(source)[0].interlaced_frame
    clip = restore(source, tmp_path / "b.mov")
    assert kinds_beside_no_face(clip) == ["deinterlaced"]
    frames = raw(clip.path)
    assert (
        len(frames) == 6 and not any(frame.interlaced_frame for frame in frames) and pictures(clip.path)[0] == pictures(source)[0]
    )
    rows = [each.to_ndarray()[8:56, :96].astype(int) for each in (raw(source)[3], frames[3])]
    comb = [np.abs(np.diff(each, n=2, axis=0)).mean() for each in rows]
    assert comb[1] < comb[0] / 5


def test_numbered_pictures_become_a_clip_and_a_clip_numbered_pictures(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 5, sound=None)
    clip = restore(source, tmp_path / "out" / "shot%03d.png", FACE)
    assert sorted(os.listdir(tmp_path / "out")) == [f"shot00{number}.png" for number in range(1, 6)]
    back = restore(tmp_path / "out" / "shot%03d.png", tmp_path / "b.mkv", fps=10.0)
    assert back.frames == clip.frames == 5 and np.allclose(np.diff(pictures(back.path)[0]), 0.1, atol=0.001)
    shorter = restore(source, tmp_path / "out" / "shot%03d.png", FACE, end="0.3")
    (told,) = [notice for notice, _ in shorter.notices if notice.kind == "other_pictures"]
    assert told.numbers == {"pictures": 2} and "2 pictures beside those of this run, shot004.png the first" in told.text
    with pytest.raises(ImageError, match="no such picture"):
        restore(tmp_path / "out" / "other%03d.png", tmp_path / "c.mkv")
    again = restore(tmp_path / "out" / "shot%03d.png", tmp_path / "again" / "shot%03d.png")
    assert not again.changed and len(os.listdir(tmp_path / "again")) == 5, "without a face, too"
    part = restore(tmp_path / "out" / "shot%03d.png", tmp_path / "c.mkv", fps=10.0, end="0.2")
    assert part.frames == 2, "the picture at 0.2 s is the next part's, though 0.2 in binary is a little more than a fifth"
    (tmp_path / "out" / "shot003.png").rename(tmp_path / "out" / "shot3.png")
    with pytest.raises(ImageError, match="picture 3 is missing, 5 is there"):
        restore(tmp_path / "out" / "shot%03d.png", tmp_path / "c.mkv")


def test_a_percent_sign_does_not_make_a_photograph_numbered_pictures(tmp_path: Path) -> None:
    for name in ("mom%20dad.jpg", "100%done.png", "50%.png", "a%3Ad.jpg"):
        assert not is_clip(tmp_path / name), name
    for name in ("frame%04d.png", "%d.png", "shot_%d_left.tiff", "x%06dy.webp"):
        assert is_clip(tmp_path / name), name
    (tmp_path / "%d.png").touch()
    assert not is_clip(tmp_path / "%d.png"), "there is a photograph of that name"


def test_clips_that_are_read_and_not_written_become_mp4_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = make_clip(tmp_path / "in" / "a.wmv", 4, sound="libmp3lame", codec="wmv2")
    for name in ("b.asf", "c.VOB", "d.flv"):
        (tmp_path / "in" / name).touch()
    plan = plan_outputs(list_inputs([str(tmp_path / "in")], [], clips=True), tmp_path / "out")
    assert [target.name for _, target in plan] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert restore(source, plan[0][1], FACE).frames == 4


def test_numbered_pictures_that_are_there_are_no_other_clips_to_replace(tmp_path: Path, tiny_model: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 2, sound=None)
    (tmp_path / "scan0007.png").write_bytes(b"the only copy")
    command = ["restore", str(source), "-o", str(tmp_path / "scan%04d.png"), "--model", str(tiny_model), "--device", "cpu"]
    for options, names in (([], ["scan0007.png"]), (["--overwrite"], ["scan0001.png", "scan0002.png", "scan0007.png"])):
        assert main([*command, *options]) == 0 and sorted(path.name for path in tmp_path.glob("*.png")) == names


@pytest.mark.parametrize(("sound_codec", "rate", "becomes"), [("libmp3lame", 8000, 8000), ("pcm_s16le", 22254, 24000)])
def test_sound_that_the_result_cannot_hold_as_it_is_gets_a_rate_that_it_can(
    tmp_path: Path, sound_codec: str, rate: int, becomes: int
) -> None:
    source = make_clip(tmp_path / "a.avi", 16, sound=sound_codec, codec="mpeg4", sound_rate=rate)
    clip = restore(source, tmp_path / "b.mp4", FACE)
    with av.open(str(clip.path)) as file:
        assert file.streams.audio[0].rate == becomes
    (_, heard), (_, given) = sound(clip.path), sound(source)
    assert heard.std() > 0.1 and len(heard) / becomes == pytest.approx(len(given) / rate, rel=0.1)


def test_joined_clips_whose_clock_begins_anew_are_refused_at_once(tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / name, 24, sound=None).read_bytes() for name in ("a.ts", "b.ts")]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    with pytest.raises(ImageError, match=r"joined\.ts: its clock goes back by \d\.\d s after"):
        restore(tmp_path / "joined.ts", tmp_path / "c.mp4", FACE)
    assert sorted(os.listdir(tmp_path)) == ["a.ts", "b.ts", "joined.ts"]


def test_transparency_stays_where_the_codec_holds_it(tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 96 * 64).reshape(64, 96).astype(np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva420p"
        for number in range(4):
            frame = av.VideoFrame(96, 64, "yuva420p")
            for plane, value in zip(frame.planes, (100 + number, 110, 140, None), strict=True):
                plane.update(np.full((plane.height, plane.line_size), value or 0, np.uint8).tobytes())
            rows = np.frombuffer(frame.planes[3], np.uint8).reshape(64, -1)
            rows[:, :96] = alpha
            frame.pts, frame.time_base = number, Fraction(1, 8)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    clip = restore(tmp_path / "a.mkv", tmp_path / "b.mkv", FACE, codec="ffv1")
    before, after = (raw(path) for path in (tmp_path / "a.mkv", clip.path))
    for old, new in zip(before, after, strict=True):
        assert new.format.name == "yuva420p" and bytes(new.planes[0]) != bytes(old.planes[0]), "the face is restored"
        assert np.array_equal(np.frombuffer(new.planes[3], np.uint8).reshape(64, -1)[:, :96], alpha)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("target", "codec", "scale"), [("b%d.png", "auto", 1), ("b%d.tiff", "auto", 1), ("b.mkv", "ffv1", 2)])
def test_transparent_numbered_pictures_stay_so(tmp_path: Path, depth: int, target: str, codec: ClipCodec, scale: int) -> None:
    kind = np.uint8 if depth == 8 else np.uint16
    alpha = np.linspace(0, np.iinfo(kind).max, 96 * 64).reshape(64, 96).astype(kind)
    for number in range(3):
        colours = np.full((64, 96, 3), (90 + number) << (depth - 8), kind)
        cv2.imwrite(str(tmp_path / f"a{number}.png"), np.dstack([colours, alpha]))
    restorer: Any = Inverting(FACE)
    restorer.options = RestoreOptions(color_match="none", scale=scale)
    clip = restore_clip(restorer, tmp_path / "a%d.png", tmp_path / target, clip=ClipOptions(steady=0.0, codec=codec))
    assert clip.changed and not [notice for notice, _ in clip.notices if notice.kind == "opaque"]
    found = [frame.reformat(format="rgba" if depth == 8 else "rgba64le").to_ndarray() for frame in raw(clip.path)]
    for number, picture in enumerate(found):
        assert picture.dtype == kind and (picture[..., :3] != (90 + number) << (depth - 8)).any(), "the face is restored"
        seen = picture[..., 3] if scale == 1 else cv2.resize(picture[..., 3], (96, 64), interpolation=cv2.INTER_AREA)
        assert np.abs(seen.astype(int) - alpha).max() <= (0 if scale == 1 else alpha.max() // 50)


def test_transparency_that_is_lost_is_told(tmp_path: Path) -> None:
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"a{number}.png"), np.full((64, 96, 4), 128, np.uint8))
    cv2.imwrite(str(tmp_path / "a0.png"), np.full((64, 96, 3), 128, np.uint8))  # whichever of them is transparent
    clip = restore(tmp_path / "a%d.png", tmp_path / "b.mp4", FACE)
    (told,) = [notice.text for notice, _ in clip.notices if notice.kind == "opaque"]
    assert "b.mp4: what is transparent becomes opaque" in told


@pytest.mark.parametrize("kinds", [("RGB", "RGBA"), ("RGB", "L"), ("L", "RGB"), ("P", "RGB")])
@pytest.mark.parametrize("target", ["b.mkv", "b%d.png"])
def test_numbered_pictures_of_several_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: Any, target: str) -> None:
    monkeypatch.setattr("pfr_core.video.restore.PIECE", 3)  # a piece begins with the second kind
    given = np.random.default_rng(0).integers(0, 255, (6, 64, 96, 3), np.uint8)
    for number, pixels in enumerate(given):
        image = Image.fromarray(pixels if number < 3 or kinds[1] != "L" else np.repeat(pixels[..., :1], 3, axis=2))
        image = image.convert(kinds[number >= 3])
        given[number] = np.array(image.convert("RGB"))
        if image.mode == "RGBA":
            image.putalpha(77)
        image.save(tmp_path / f"a{number + 5}.png")
    clip = restore(tmp_path / "a%d.png", tmp_path / target, codec="ffv1" if target == "b.mkv" else "auto")
    found = raw(clip.path) if target == "b.mkv" else [raw(tmp_path / f"b{number + 5}.png")[0] for number in range(6)]
    for number, frame in enumerate(found):
        picture = frame.to_ndarray(format="rgba")
        assert np.array_equal(picture[..., :3], given[number])
        assert (picture[..., 3] == (77 if "RGBA" in kinds and number >= 3 else 255)).all()


def test_numbered_pictures_with_profiles(tmp_path: Path) -> None:
    for number, profile in enumerate((b"x" * 500, b"y" * 1_400_000)):
        Image.new("RGB", (96, 64), (90, number, 7)).save(tmp_path / f"a{number}.png", icc_profile=profile)
    clip = restore(tmp_path / "a%d.png", tmp_path / "b.mkv", FACE)
    assert clip.frames == 2 and clip.changed


def test_one_profile_of_all_numbered_pictures_is_kept(tmp_path: Path) -> None:
    def profile_of(name: str) -> bytes | None:
        with Image.open(tmp_path / name) as image:
            return image.info.get("icc_profile")

    profiles = [b"\0" * 16 + b"RGB " + letter * 500 for letter in (b"x", b"x", b"y")]
    for number, profile in enumerate(profiles):
        Image.new("RGB", (96, 64), (90, number, 7)).save(tmp_path / f"a{number}.png", icc_profile=profile)
    clip = restore(tmp_path / "a%d.png", tmp_path / "b%d.png", FACE)
    assert "not_kept" in [notice.kind for notice, _ in clip.notices]
    (tmp_path / "a2.png").unlink()
    clip = restore(tmp_path / "a%d.png", tmp_path / "c%d.png", FACE)
    assert clip.changed and not list(clip.notices) and profile_of("c0.png") == profile_of("c1.png") == profiles[0]
    assert "not_kept" in [notice.kind for notice, _ in restore(tmp_path / "a%d.png", tmp_path / "d%d.jpg", FACE).notices]


def test_a_title_that_is_no_utf8_and_a_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes what stands before the colon of a relative path for a protocol."""
    monkeypatch.chdir(tmp_path)
    with av.open(str(make_clip(tmp_path / "a.mp4", 4, sound=None))) as plain, av.open("b.mkv", "w") as file:
        file.metadata["title"] = "M_ller"
        stream = file.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
    Path("Talk: 1985.mkv").write_bytes(Path("b.mkv").read_bytes().replace(b"M_ller", b"M\xfcller"))
    assert restore(Path("Talk: 1985.mkv"), Path("New: 1985.mkv"), FACE).changed and Path("New: 1985.mkv").is_file()


def test_without_loss_the_tags_of_colour_stay(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 2
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((96, 96), 90, np.uint8), format="yuv420p")
            frame.pts, frame.colorspace, frame.color_range = number, 1, 2
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    clip = restore(tmp_path / "a.mp4", tmp_path / "b.mkv", FACE, codec="ffv1")
    with av.open(str(clip.path)) as file:
        context = file.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 2)


# --- Work that ends early ------------------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.video.restore.PIECE", 5)
    source, options = make_clip(tmp_path / "a.mp4"), ClipOptions(steady=0.9, codec="ffv1")  # x264 is not the same twice

    def run(target: Path, interrupt: bool = False, **more: Any) -> Inverting:
        def progress(stage: str, done: int, total: int, left: float) -> None:
            if interrupt and (stage, done) == ("restore", 12):
                raise KeyboardInterrupt

        restorer = Inverting(FACE)
        restorer.crop_size = 12  # each frame has something to tell
        clip = restore_clip(restorer, source, target, clip=options, progress=progress, **more)  # type: ignore[arg-type]
        restorer.told = list(clip.notices)
        return restorer

    whole = run(tmp_path / "whole.mkv")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b.mkv", interrupt=True)
    assert not (tmp_path / "b.mkv").exists()
    assert [path.name for path in (tmp_path / ".b.mkv.part").glob("past-*")] == ["past-00000010.npz"], "the last one is enough"
    with pytest.raises(InputError, match=r"strengths: .*the same"):
        run(tmp_path / "b.mkv", resume=True, strengths={0: 0.5})
    resumed = run(tmp_path / "b.mkv", resume=True)
    assert resumed.runs == 2, "10 of 16 frames were kept, and of the others only two are restored"
    assert resumed.told == whole.told and [(notice.kind, more) for notice, more in whole.told] == [("magnified", 15)]
    (times, one), (new_times, other) = pictures(tmp_path / "whole.mkv"), pictures(tmp_path / "b.mkv")
    assert times == new_times and np.array_equal(one, other)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mkv", "whole.mkv"]


def test_two_runs_do_not_write_one_target(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mp4", 4, sound=None), tmp_path / "b.mp4"
    with Unfinished(target).held(), pytest.raises(InputError, match=r"b\.mp4: another run works on it"):
        restore(source, target, FACE)
    assert restore(source, target, FACE).frames == 4
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


def test_a_killed_run_leaves_nothing_outside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, beside = make_clip(tmp_path / "a.mp4", 4, sound=None), list[str]()

    def watched(*given: Any, **named: Any) -> Any:
        done = assemble(*given, **named)
        beside.extend(os.listdir(tmp_path))
        return done

    monkeypatch.setattr("pfr_core.video.restore.assemble", watched)
    restore(source, tmp_path / "b.mp4", FACE)
    assert sorted(beside) == [".b.mp4.part", "a.mp4"] and sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


def test_numbered_pictures_of_a_run_that_died_in_moving_them_are_not_there(tmp_path: Path) -> None:
    target = tmp_path / "frame_%04d.png"
    (tmp_path / "frame_0001.png").touch()
    assert _is_there(Path("a.mp4"), target)
    Unfinished(target).pictures().mkdir(parents=True)
    assert not _is_there(Path("a.mp4"), target)


def test_faces_that_were_followed_are_not_followed_again_though_nothing_was_encoded_yet(tmp_path: Path) -> None:
    source, stages, options = make_clip(tmp_path / "a.mp4", sound=None), list[str](), ClipOptions(codec="ffv1")

    def run(resume: bool) -> None:
        def progress(stage: str, done: int, total: int, left: float) -> None:
            stages.append(stage)
            if (stage, done) == ("restore", 3) and not resume:
                raise KeyboardInterrupt

        target, restorer = tmp_path / "b.mkv", Inverting(FACE)
        restore_clip(restorer, source, target, clip=options, resume=resume, progress=progress)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        run(resume=False)
    stages.clear()
    run(resume=True)
    assert set(stages) == {"restore"}
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mkv"]


def test_single_faces_have_strengths_of_their_own(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 4, sound=None)
    faces = [FACE.moved(0.5, (0, 8)), FACE.moved(0.5, (48, 8))]
    clip = restore_clip(
        Inverting(*faces), source, tmp_path / "b.mkv", clip=ClipOptions(codec="ffv1", steady=0.0), strengths={0: 0.0, 7: 0.5}  # type: ignore[arg-type]
    )  # fmt: skip
    assert [notice.kind for notice, _ in clip.notices] == ["missing_face"], "there is no face 7"
    before, after = pictures(source)[1], pictures(tmp_path / "b.mkv")[1]
    assert np.array_equal(before[:, :, :44], after[:, :, :44])
    assert np.abs(before[:, 20:28, 68:76] - after[:, 20:28, 68:76]).mean() > 10


def test_without_strength_the_clip_stays_as_it_is(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 4)
    given: Any = {"clip": ClipOptions(steady=0.0)}
    restore_clip(Inverting(FACE), source, tmp_path / "b.mp4", options=RestoreOptions(strength=0.0), **given)  # type: ignore[arg-type]
    restore_clip(Inverting(FACE), source, tmp_path / "c.mp4", strengths={0: 0.0}, **given)  # type: ignore[arg-type]
    assert source.read_bytes() == (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    restore(source, tmp_path / "d.mp4", crf=40)
    assert (tmp_path / "d.mp4").stat().st_size < source.stat().st_size, "a quality was asked for"


def test_numbers_of_which_the_clip_has_no_face_are_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 4, sound=None)
    with pytest.raises(InputError, match="there is no face 7 among the 1 found"):
        restore_clip(Inverting(FACE), source, tmp_path / "b.mp4", options=RestoreOptions(select="index", indices=(7,)))  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_stopped_clip_leaves_nothing(tmp_path: Path) -> None:
    source, done = make_clip(tmp_path / "a.mp4"), list[str]()
    for stage in ("find", "restore"):
        with pytest.raises(Cancelled):
            restore_clip(
                Inverting(FACE), source, tmp_path / "b.mp4", progress=lambda *step: done.append(step[0]),  # type: ignore[arg-type]
                should_stop=lambda stage=stage: done.count(stage) > 4,  # type: ignore[misc]
            )  # fmt: skip
        assert os.listdir(tmp_path) == ["a.mp4"] and done.count(stage) == 5
        done.clear()


def test_pictures_are_held_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most = set[int](), 0
    write = Piece.write

    def watched(piece: Piece, shot: Shot, image: Any) -> None:
        nonlocal most
        for each in (shot, image):
            alive.add(id(each))
            weakref.finalize(each, alive.discard, id(each))
        most = max(most, len(alive))
        write(piece, shot, image)

    monkeypatch.setattr(Piece, "write", watched)
    restore(make_clip(tmp_path / "a.mp4", 24), tmp_path / "b.mp4", FACE)
    assert most <= 4, "frames pile up"


def test_pictures_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    def pictures_held() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    clip, most = Clip(make_clip(tmp_path / "a.mp4", 24)), 0
    gc.collect()
    gc.disable()
    try:
        before = pictures_held()
        with clip.open() as source:
            piece = Piece(tmp_path / "b.nut", "h264", None, video_of(source), "yuv420p")
            for shot in clip.shots():
                piece.write(shot, shot.pixels.copy())
                most = max(most, pictures_held() - before)
            piece.close()
    finally:
        gc.enable()
    assert most <= 8, "pictures pile up"


# --- Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not a video"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "not a video"),  # a playlist would make FFmpeg open what it names
    ],
)
def test_what_is_no_clip_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"holiday.mp4.*{words}"):
        restore(path, tmp_path / "b.mp4")
    assert os.listdir(tmp_path) == ["holiday.mp4"]


def test_a_picture_on_a_cover_is_no_video() -> None:
    cover, film = (SimpleNamespace(disposition=kind) for kind in (av.stream.Disposition.attached_pic, av.stream.Disposition(0)))
    for streams, chosen in (([cover, film], film), ([cover], None)):
        assert video_of(SimpleNamespace(streams=SimpleNamespace(video=streams))) is chosen


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as file:
        audio = file.add_stream("aac", rate=SOUND_RATE, layout="mono")
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        heard.sample_rate = SOUND_RATE
        file.mux(audio.encode(heard))
        file.mux(audio.encode())
    with pytest.raises(ImageError, match="sound in this file, but no video"):
        Clip(path).probe()


def test_subtitles_alone_are_no_clip_and_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "said.mkv"
    with av.open(str(path), "w") as file:
        text = file.add_stream("subrip")
        text.codec_context.subtitle_header, text.codec_context.time_base = _STYLE, Fraction(1, 1000)
        text.codec_context.open()
        packet = av.Packet(b"hip hip")
        packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = text, Fraction(1, 1000), 0, 0, 700
        file.mux(packet)
    with pytest.raises(ImageError, match="there is no video in this file"):
        Clip(path).probe()


def test_a_clock_that_ticks_once_in_68_years_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.avi", 4, sound=None, codec="mpeg4")
    data = bytearray(source.read_bytes())
    place = data.index(b"strh") + 8 + 20  # scale and rate: seconds of a frame
    data[place : place + 8] = struct.pack("<II", 0xFFFFFFFF, 1)
    source.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.avi: its clock is broken .*frame rate"):
        restore(source, tmp_path / "b.mp4")
    assert os.listdir(tmp_path) == ["a.avi"]


def test_a_clock_that_stands_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 6, sound=None)
    data = bytearray(source.read_bytes())
    place = data.index(b"stts") + 4 + 8  # how many pictures are shown how long: no time
    for entry in range(struct.unpack_from(">I", data, place - 4)[0]):
        struct.pack_into(">I", data, place + 8 * entry + 4, 0)
    source.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.mp4: its clock is broken \(2 of 4 pictures .*frame rate"):
        restore(source, tmp_path / "b.mp4", FACE)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_times_that_no_mp4_holds_are_told_and_leave_nothing(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 4, sound=None)
    data = bytearray(source.read_bytes())
    place = data.index(b"stts") + 4 + 12  # how long each picture is shown: 36 hours
    data[place : place + 4] = struct.pack(">I", 0x7FFFFFFF)
    source.write_bytes(data)
    with pytest.raises(ImageError, match=r"b\.mp4: cannot be written.*clip's times.*export the clip again"):
        restore(source, tmp_path / "b.mp4", FACE)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ImageError, match=r"a\.mp4: not a file"):
        restore(tmp_path / "a.mp4", tmp_path / "b.mp4")
    with pytest.raises(ImageError, match=r"c\.mp4: there is no such file"):
        restore(tmp_path / "c.mp4", tmp_path / "b.mp4")


def test_numbered_pictures_are_not_written_over_themselves(tmp_path: Path) -> None:
    restore(make_clip(tmp_path / "a.mp4", 2, sound=None), tmp_path / "shot%03d.png", FACE)
    before = (tmp_path / "shot001.png").read_bytes()
    with pytest.raises(InputError, match="same file"):
        restore(tmp_path / "shot%03d.png", tmp_path / "shot%d.png", FACE)
    assert (tmp_path / "shot001.png").read_bytes() == before and len(os.listdir(tmp_path)) == 3


def test_the_end_that_an_mkv_lacks_is_told_by_its_own_length(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mkv", 40, sound=None)
    with av.open(str(source)) as file:
        last = [packet.pos for packet in file.demux(video=0) if packet.size and packet.pts >= 4000]
    assert not kinds_beside_no_face(restore(source, tmp_path / "b.mkv"))
    source.write_bytes(source.read_bytes()[: min(last) - 8])
    assert kinds_beside_no_face(restore(source, tmp_path / "c.mp4")) == ["lost_frames"], "less than SHORT is lost"


def trimmed(path: Path, whole: Path) -> Path:
    """Return the clip without its first half second, cut without being encoded anew.

    What is cut away is stored, for what is shown needs some of it, and an edit list hides it.
    """
    with av.open(str(whole)) as file, av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in file.streams}
        for packet in file.demux():
            if packet.dts is not None:
                shift = round(0.5 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, streams[packet.stream.index]
                out.mux(packet)
    return path


def test_pictures_before_the_start_of_an_edit_list_are_not_lost(tmp_path: Path) -> None:
    source = trimmed(tmp_path / "b.mp4", make_clip(tmp_path / "a.mp4", sound=None))
    clip = restore(source, tmp_path / "c.mp4")
    with av.open(str(source)) as file:
        assert clip.frames == 12 < file.streams.video[0].frames == 16
    assert not kinds_beside_no_face(clip)
    with av.open(str(clip.path)) as file:
        assert float(file.streams.video[0].duration * file.streams.video[0].time_base) == pytest.approx(1.5, abs=0.01)


def test_what_an_edit_list_hides_is_neither_heard_nor_counted(tmp_path: Path) -> None:
    source = trimmed(tmp_path / "b.mp4", make_clip(tmp_path / "a.mp4"))
    clip, packet = restore(source, tmp_path / "c.mkv"), 1024 / SOUND_RATE
    assert pictures(clip.path)[0][0] < 2 * packet + 0.002, "but for what its first sound is decoded with, all begins at once"
    old, new = Clip(source).probe(), Clip(clip.path).probe()
    assert old.frames == new.frames == clip.frames == 12
    assert old.seconds == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])  # with and without pictures that are stored in another order
def test_the_last_picture_stays_as_long_as_it_did(codec: str, tmp_path: Path) -> None:
    plain, source = make_clip(tmp_path / "plain.mp4", 4, sound=None, codec=codec), tmp_path / "a.mp4"
    with av.open(str(plain)) as given, av.open(str(source), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.dts is not None]
        packets[-1].duration = round(5 / packets[-1].time_base)
        for packet in packets:
            packet.stream = stream
            made.mux(packet)
    clip = restore(source, tmp_path / "b.mp4", FACE)
    assert not kinds_beside_no_face(clip)
    with av.open(str(source)) as old, av.open(str(clip.path)) as new:
        before, after = (float(each.streams.video[0].duration * each.streams.video[0].time_base) for each in (old, new))
        assert after == pytest.approx(before, abs=0.01) and before > 5


def test_what_is_left_of_a_cut_file_is_restored_and_the_loss_is_told(tmp_path: Path) -> None:
    for name, words in (("a.mkv", "cut off"), ("a.mp4", None)):
        source = make_clip(tmp_path / name, 80)
        source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
        if words is None:  # the list of an MP4's pictures is at its end
            with pytest.raises(ImageError, match="not a video"):
                restore(source, tmp_path / "b.mp4")
        else:
            found = follow(Inverting().detector, Clip(source), RestoreOptions(), ClipOptions())
            for given in (None, found):
                clip = restore_clip(Inverting(), source, tmp_path / "c.mp4", found=given)  # type: ignore[arg-type]
                assert 20 < clip.frames < 80 and kinds_beside_no_face(clip) == ["lost_frames"]
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "a.mp4", "c.mp4"]


def test_pictures_that_no_encoder_takes_are_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", 2, sound=None)
    for options, words in (({"codec": "ffv1"}, r"\.mkv"), ({"codec": "h264", "crf": 60}, "crf is 60")):
        with pytest.raises(InputError, match=words):
            restore(source, tmp_path / "b.mp4", **options)
    with pytest.raises(InputError, match="no such setting"):
        restore(source, tmp_path / "b.mkv", codec="ffv1", crf=10)
    data = bytearray(source.read_bytes())
    place = data.index(b"avc1", data.index(b"stsd"))
    data[place : place + 4] = b"zzzz"
    (tmp_path / "strange.mp4").write_bytes(data)
    with pytest.raises(ImageError, match=r"strange\.mp4"):
        restore(tmp_path / "strange.mp4", tmp_path / "b.mp4")
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "strange.mp4"]


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond ``room`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", [20_000, 200_000], ids=["tracks", "pictures"])
def test_a_full_disk_is_told_and_leaves_no_half_file(room: int, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", size=(320, 240))
    with full_disk(room), pytest.raises(ImageError, match=r"b\.mkv: cannot be written.*another disk") as caught:
        restore(source, tmp_path / "b.mkv", FACE, codec="ffv1")
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    followed = [] if room < 100_000 else ["job.json", "tracks.npz"]
    assert sorted(left) == ["a.mp4", *followed], "nothing is left of a piece"
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists() or link.is_symlink()]
    assert caught.tb and not [file for file in held if str(tmp_path) in file], "an open file keeps its room on the disk"


def test_a_clip_of_very_many_frames_is_not_looked_through(tmp_path: Path) -> None:
    assert Clip(make_clip(tmp_path / "a.mp4", 24)).probe(most=10).frames == 11


def test_times_are_typed_in_the_usual_ways() -> None:
    assert [seconds(text) for text in ("80", "1:20", "0:01:20.5")] == [80, 80, 80.5]
    with pytest.raises(InputError, match="end must come later"):
        Clip(Path("a.mp4"), 5.0, 3.0)


# --- The commands --------------------------------------------------------------------------------------------------------


def test_the_faces_of_a_clip_are_shown_with_the_numbers_that_restore_takes(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [FACE.moved(1, (-24, 0)), FACE.moved(1, (24, 0))]
    monkeypatch.setattr("pfr_core.faces.detect.Detector.detect", lambda self, image, **how: two)
    source = make_clip(tmp_path / "a.mp4", 4, sound=None)
    for output, words in ((tmp_path / "sheet", "ending"), (source, "")):
        assert main(["faces", str(source), "-o", str(output)]) != 0 and words in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("pfr_core.faces.detect.Detector.detect", lambda self, image, **how: [])
        patch.setattr("pfr_core.faces.detect.Detector.advice", lambda self: Notice("better_detector", "take a better one"))
        assert main(["faces", str(source), "-o", str(tmp_path / "sheet.png")]) == 2
        assert "--detection-size.\ntake a better one\n" in capsys.readouterr().err
    assert main(["faces", str(source), "-o", str(tmp_path / "sheet.png")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["index"], each["first"], each["last"]) for each in told["faces"]] == [(0, 0, 3), (1, 0, 3)]
    assert read_photo(tmp_path / "sheet.png").pixels.shape == (128 + 24, 2 * 128, 3)
    given = ["restore", str(source), "--model", str(tiny_model), "--device", "cpu", "--color-match", "none"]
    for options, changed in ((["--select", "index", "--indices", "1"], (False, True)), (["--strengths", "1=0"], (True, False))):
        target = tmp_path / "b.mkv"
        assert main([*given, "-o", str(target), "--codec", "ffv1", "--overwrite", *options]) == 0
        difference = np.abs(pictures(target)[1] - pictures(source)[1]).max(axis=(0, 1))
        assert (difference[20:28].max() > 0, difference[68:76].max() > 0) == changed
    assert main([*given, "-o", str(tmp_path / "c.mp4"), "--strengths", "0=2"]) == 2
    assert "from 0 to 1" in capsys.readouterr().err
    for idle in (
        ["--only-bad-faces"],
        ["--quality", "80"],
        ["--steady", "0", "--restore-every", "3"],
        ["--select", "index", "--indices", "0", "--order", "size"],
    ):
        assert main([*given, "-o", str(tmp_path / "c.mp4"), *idle]) == 2
        assert "has no effect" in capsys.readouterr().err
    assert main([*given, "-o", "-", "--resume"]) == 2
    assert "--resume has no effect with -o -" in capsys.readouterr().err
    assert main([*given, "-o", str(tmp_path / "c.mp4"), "--strengths", "half"]) == 2
    assert "write the number of a face" in capsys.readouterr().err


@pytest.mark.parametrize(("output", "more"), [("b.mp4", []), ("b.mp4", ["--overwrite"]), ("-", [])])
def test_an_interrupted_command_says_how_to_go_on(
    output: str,
    more: list[str],
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, target = make_clip(tmp_path / "a.mp4", 4, sound=None), "-" if output == "-" else str(tmp_path / output)

    def interrupted(restorer: Any, source: Path, target: Path, **named: Any) -> None:
        tracks = Unfinished(target).folder / "tracks.npz"
        tracks.parent.mkdir()
        tracks.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("pfr_core.cli.clips.restore_clip", interrupted)
    assert main(["restore", str(source), "-o", target, "--model", str(tiny_model), "--device", "cpu", *more]) == 130
    assert ("--resume goes on from there" in caplog.text) == (output != "-"), "on the way to a pipe nothing is kept"
    assert ("makes finished ones again" in caplog.text) == bool(more)


def test_a_clip_without_faces_has_none_to_show_or_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_clip(tmp_path / "a.mp4", 4, sound=None)
    for command in (["faces", str(source), "-o", str(tmp_path / "sheet.png")], ["flicker", str(source)]):
        assert main([*command, "--detector", "builtin", "--device", "cpu"]) != 0
        assert "a.mp4" in (error := capsys.readouterr().err) and "face" in error
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(("installed", "words"), [(None, "which is missing"), ("12.3.0", "this is 12.3.0")])
def test_a_missing_or_old_pyav_is_told(installed: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if installed is None:
            raise PackageNotFoundError(name)
        return installed

    monkeypatch.setattr("pfr_core.video.version", version)
    with pytest.raises(InputError, match=words):
        check_av()


def test_commands_for_clips_tell_that_pyav_is_missing() -> None:
    """In a process of its own, for here the modules that need it are imported already."""
    without = """
import sys, importlib.metadata as known
there = known.version
def version(name):
    if name == "av":
        raise known.PackageNotFoundError(name)
    return there(name)
sys.modules["av"], known.version = None, version
from pfr_core.cli import main
print(main(["faces", "a.mp4", "-o", "a.png"]), main(["flicker", "a.mp4", "b.mp4"]))
"""
    done = subprocess.run([sys.executable, "-c", without], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "2 2\n" and done.stderr.count("error: clips need PyAV, which is missing") == 2, done.stderr


def test_a_damaged_numbered_picture_and_a_part_behind_the_end_are_refused(tmp_path: Path) -> None:
    restore(make_clip(tmp_path / "a.mp4", 4, sound=None), tmp_path / "frame_%04d.png", FACE)
    numbered = sorted(tmp_path.glob("frame_*.png"))
    numbered[2].write_bytes(numbered[2].read_bytes()[:60])
    with pytest.raises(ImageError, match="frame_"):
        restore(tmp_path / "frame_%04d.png", tmp_path / "b.mp4", FACE, fps=25.0)
    with pytest.raises(ImageError, match="nothing after 50 s"):
        restore(tmp_path / "a.mp4", tmp_path / "b.mp4", FACE, start="50")
    with pytest.raises(ImageError, match=r"no picture begins from 0\.15 s to 0\.2 s; end later"):
        restore(tmp_path / "a.mp4", tmp_path / "b.mp4", FACE, start="0.15", end="0.2")
    assert not (tmp_path / "b.mp4").exists()


def test_a_run_that_fails_keeps_its_pieces_for_the_same_clip_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.video.restore.PIECE", 5)
    source, target = make_clip(tmp_path / "a.mp4", sound=None), tmp_path / "b.mkv"
    how: Any = {"clip": ClipOptions(steady=0.0, codec="ffv1")}

    class Failing(Inverting):
        def restore_crops(self, crops: Any, **more: Any) -> Any:
            if self.runs == 7:
                raise RuntimeError("CUDA error: out of memory")
            return super().restore_crops(crops, **more)

    with pytest.raises(RuntimeError, match="out of memory"):
        restore_clip(Failing(FACE), source, target, **how)  # type: ignore[arg-type]
    assert not target.exists() and len(Unfinished(target).pieces()) == 1
    before = source.stat().st_mtime_ns
    os.utime(source, ns=(1, 1))
    with pytest.raises(InputError, match=r"source: not what the interrupted run had"):
        restore_clip(Inverting(FACE), source, target, resume=True, **how)  # type: ignore[arg-type]
    os.utime(source, ns=(before, before))
    restorer = Inverting(FACE)
    restore_clip(restorer, source, target, resume=True, **how)  # type: ignore[arg-type]
    assert restorer.runs == 11 and sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mkv"]


def test_interrupted_while_faces_are_looked_for_leaves_nothing(tmp_path: Path) -> None:
    def progress(stage: str, done: int, total: int, left: float) -> None:
        if (stage, done) == ("find", 3):
            raise KeyboardInterrupt

    source = make_clip(tmp_path / "a.mp4", 6, sound=None)
    with pytest.raises(KeyboardInterrupt):
        restore_clip(Inverting(FACE), source, tmp_path / "b.mkv", progress=progress)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_frames_without_a_face_are_enlarged_too(tmp_path: Path) -> None:
    restorer: Any = Inverting()
    restorer.options = RestoreOptions(color_match="none", scale=2)
    source = make_clip(tmp_path / "a.mp4", 4)
    before = Clip(source).probe()
    clip = restore_clip(restorer, source, tmp_path / "b.mkv", clip=ClipOptions(steady=0.0, codec="ffv1"))
    info = Clip(clip.path).probe()
    assert not clip.changed and (info.frames, info.width, info.height) == (4, 2 * before.width, 2 * before.height)


def test_numbered_pictures_lie_in_folders_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100% done %d"
    folder.mkdir()
    source = make_clip(tmp_path / "a.mp4", 4, sound=None)
    restore(source, folder / "50%_%03d.png", FACE)
    assert sorted(os.listdir(folder)) == [f"50%_{number:03d}.png" for number in range(1, 5)]
    again = restore(folder / "50%_%03d.png", tmp_path / "b.mkv", codec="ffv1")
    assert again.frames == 4


def test_sound_of_four_channels_becomes_two_aloud(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as file, av.open(str(make_clip(tmp_path / "b.mp4", 8, sound=None))) as pictures_only:
        video = file.add_stream_from_template(pictures_only.streams.video[0])
        audio = file.add_stream("pcm_s16le", rate=SOUND_RATE, layout="4.0")
        for packet in pictures_only.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                file.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4 * 2000), np.int16), format="s16", layout="4.0")
        frame.sample_rate, frame.pts = SOUND_RATE, 0
        file.mux(audio.encode(frame))
        file.mux(audio.encode())
    told = {
        ending: " ".join(notice.text for notice, _ in restore(source, tmp_path / f"c{ending}", FACE).notices)
        for ending in (".mp4", ".mkv")
    }
    assert "of the 4 channels of sound of track 1 two are made" in told[".mp4"] and "channels" not in told[".mkv"]


def test_sound_whose_channels_and_rate_change_goes_on(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as result:
        heard = SimpleNamespace(channels=2, rate=SOUND_RATE, metadata={}, disposition=0)
        track, made = _Sound(result, heard, "flac"), []
        for second, (layout, rate) in enumerate((("stereo", 48000), ("mono", 44100), ("5.1", 48000), ("stereo", 48000))):
            samples = np.full((1, rate * av.AudioLayout(layout).nb_channels), 1000, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, second * 90000, Fraction(1, 90000)
            made += track.take(SimpleNamespace(decode=lambda frame=frame: [frame]), Fraction(0))
        made += track.rest()
        ends = [packet.pts * packet.time_base + packet.duration * packet.time_base for packet in made if packet.pts is not None]
    assert float(max(ends)) == pytest.approx(4, abs=0.01) and ends == sorted(ends)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: out of memory"), OSError(errno.ENOSPC, "No space left on device")])
def test_followed_faces_outlast_what_another_try_may_not_meet(error: Exception, tmp_path: Path) -> None:
    source, target, stages = make_clip(tmp_path / "a.mp4", 6, sound=None), tmp_path / "b.mkv", set[str]()

    class Failing(Inverting):
        def restore_crops(self, crops: Any, **more: Any) -> Any:
            raise error

    with pytest.raises((RuntimeError, ImageError)):
        restore_clip(Failing(FACE), source, target)  # type: ignore[arg-type]
    told: Any = {"resume": True, "progress": lambda stage, *more: stages.add(stage)}
    restore_clip(Inverting(FACE), source, target, **told)  # type: ignore[arg-type]
    assert stages == {"restore"} and sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mkv"]


@pytest.mark.parametrize(("number", "kept"), [(errno.ENOMEM, True), (errno.ESTALE, True), (errno.EINVAL, False)])
def test_only_what_lies_in_the_clip_takes_its_pieces(
    number: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfr_core.video.restore.PIECE", 5)
    source, target = make_clip(tmp_path / "a.mp4", sound=None), tmp_path / "b.mkv"

    class Failing(Inverting):
        def restore_crops(self, crops: Any, **more: Any) -> Any:
            if self.runs == 7:
                raise av.FFmpegError(number, os.strerror(number))
            return super().restore_crops(crops, **more)

    with pytest.raises(ImageError, match=r"b\.mkv: cannot be written"):
        restore_clip(Failing(FACE), source, target, clip=ClipOptions(steady=0.0, codec="ffv1"))  # type: ignore[arg-type]
    assert bool(Unfinished(target).pieces()) == kept
