"""The parts of the web page that need no browser and no server: clips, zip files, sessions, results."""

from __future__ import annotations

import os
import time
import weakref
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pfr_core.errors import Cancelled, ImageError, InputError
from pfr_core.photo.photo import Provenance
from pfr_core.photo.read import read_photo
from pfr_core.photo.restored import own_suffix, write_restored
from pfr_core.photo.write import write_photo

av = pytest.importorskip("av")

from pfr_core.video.clip import ClipInfo, Frame, convert, probe  # noqa: E402
from web.archive import Entry, unpack  # noqa: E402
from web.cli import main  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.sessions import SILENT, Sessions  # noqa: E402

RATE, SOUND_RATE = 8, 48000


def make_clip(
    path: Path, frames: int = 16, size: tuple[int, int] = (96, 64), sound: str | None = "aac", codec: str = "libx264"
) -> Path:
    """Return a clip of smooth moving colours; a beep that starts with it."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=RATE, options={"crf": "10"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = file.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        for number in range(frames):
            picture = np.stack([x, y, 0.5 + 0.3 * np.sin(6 * x + number / 4)], axis=2)
            frame = av.VideoFrame.from_ndarray((picture * 200 + 20).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(video.encode(frame))
            if audio is not None:
                step = SOUND_RATE // RATE
                wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(number * step, (number + 1) * step) / SOUND_RATE)
                heard = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = SOUND_RATE, number * step, Fraction(1, SOUND_RATE)
                file.mux(audio.encode(heard))
        for stream in (video, audio):
            if stream is not None:
                file.mux(stream.encode())
    return path


def _same(frame: Frame) -> Frame:
    return frame


def pictures(path: Path) -> tuple[list[float], np.ndarray]:
    """Return times, and brightness as stored: [N,H,W]."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    planes = [frame.to_ndarray()[: frame.height].astype(float) for frame in frames]
    return [float(frame.pts * frame.time_base) for frame in frames], np.stack(planes)


def sound(path: Path) -> tuple[str, np.ndarray]:
    with av.open(str(path)) as file:
        name = file.streams.audio[0].codec_context.name
        return name, np.concatenate([frame.to_ndarray().mean(axis=0) for frame in file.decode(audio=0)])


# --- Clips -----------------------------------------------------------------------------------------------------------


def test_an_unchanged_clip_keeps_its_times_pictures_and_sound(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    assert convert(source, target, _same) == 16
    (times, before), (new_times, after) = pictures(source), pictures(target)
    assert new_times == times and len(times) == 16
    assert np.abs(after - before).mean() < 0.7
    assert abs((after - before).mean()) < 0.2, "FFmpeg's default conversion would darken by 1"
    (name, heard), (new_name, new_heard) = sound(source), sound(target)
    assert name == new_name == "aac" and np.array_equal(heard, new_heard)


def test_sound_that_mp4_cannot_hold_is_encoded_anew_and_odd_sizes_are_filled_up(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mkv", size=(97, 65), sound="pcm_s16le", codec="ffv1"), tmp_path / "b.mp4"
    convert(source, target, _same)
    assert probe(target) == ClipInfo(16, 2.0, 98, 66, True)
    name, heard = sound(target)
    spectrum = np.abs(np.fft.rfft(heard[4096 : 4096 + SOUND_RATE]))
    assert name == "aac" and abs(int(spectrum.argmax()) - 440) <= 1


def test_a_clip_is_streamed(tmp_path: Path) -> None:
    alive: set[int] = set()
    most = 0

    def change(frame: Frame) -> Frame:
        nonlocal most
        new = frame.copy()
        for array in (frame, new):
            alive.add(id(array))
            weakref.finalize(array, alive.discard, id(array))
        most = max(most, len(alive))
        return new

    reported: list[tuple[int, int]] = []
    convert(make_clip(tmp_path / "a.mp4", 48), tmp_path / "b.mp4", change, progress=lambda *step: reported.append(step[:2]))
    assert most <= 4, "frames pile up"
    assert reported == [(number + 1, 48) for number in range(48)]


def test_a_stopped_clip_leaves_nothing(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4")
    done: list[int] = []
    with pytest.raises(Cancelled):
        convert(source, tmp_path / "b.mp4", _same, progress=lambda *step: done.append(1), should_stop=lambda: len(done) > 4)
    assert os.listdir(tmp_path) == ["a.mp4"]


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
        convert(path, tmp_path / "b.mp4", _same)
    assert os.listdir(tmp_path) == ["holiday.mp4"]


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as file:
        audio = file.add_stream("aac", rate=SOUND_RATE, layout="mono")
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        heard.sample_rate = SOUND_RATE
        file.mux(audio.encode(heard))
        file.mux(audio.encode())
    with pytest.raises(ImageError, match="no video"):
        probe(path)


# --- Zip files -------------------------------------------------------------------------------------------------------


def make_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


def entries(archive: Path, limits: Limits | None = None) -> list[Entry]:
    folder = archive.parent / "out"
    folder.mkdir(exist_ok=True)
    return list(unpack(archive, folder, limits or Limits()))


def test_photos_come_out_of_a_zip_file_and_nothing_leaves_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    evil = ["../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
    names = ["a.jpg", "album/a.jpg", *evil, "notes.txt", "__MACOSX/._a.jpg"]
    found = entries(make_zip(inside / "photos.zip", {name: name.encode() for name in names}))
    assert [(entry.name, entry.path is not None) for entry in found][:2] == [("a.jpg", True), ("album/a.jpg", True)]
    assert [entry.path.read_bytes() for entry in found if entry.path] == [b"a.jpg", b"album/a.jpg"]
    refused = [(entry.name, entry.problem) for entry in found if not entry.path]
    assert ["out of the zip file's folder" in text for _, text in refused] == [True] * 4 + [False]
    assert refused[4] == ("notes.txt", "not a photo; left out.")
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"photos.zip", "a.jpg"}


def test_a_zip_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {f"{number}.png": bytes(4_000_000) for number in range(3)})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(ImageError, match=r"bomb.zip: it unpacks to more than 5 MB"):
        entries(bomb, Limits(max_unpacked_mb=5))
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.png")) <= 5_000_000
    with pytest.raises(ImageError, match="3 files in it; the limit is 2"):
        entries(bomb, Limits(max_files=2))


def test_a_damaged_zip_file_and_a_damaged_entry_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK but no more")
    with pytest.raises(ImageError, match=r"broken\.zip: not a zip file"):
        entries(broken)
    archive = make_zip(tmp_path / "half.zip", {"bad.jpg": os.urandom(2000), "good.jpg": b"good"})
    data = bytearray(archive.read_bytes())
    data[600:700] = bytes(100)
    archive.write_bytes(data)
    bad, good = entries(archive)
    assert bad.path is None and "damaged" in bad.problem and good.path and good.path.read_bytes() == b"good"


# --- Sessions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    made = Sessions(tmp_path, keep=3600)
    made.close()  # the sweeper: the tests sweep themselves
    return made


def upload(root: Path, name: str = "a.jpg", age: float = 0) -> Path:
    path = root / ("f" * 64) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_files_go_when_nobody_holds_them_any_more(sessions: Sessions) -> None:
    path = upload(sessions.root)
    sessions.hold("one", [str(path)])
    sessions.hold("two", [str(path)])
    sessions.page_opened("one")
    sessions.page_closed("two")
    with sessions.use("two") as second:
        result = second.new_folder() / "result.png"
        result.write_bytes(b"x")
        sessions.keep = -1  # everything is old now
        sessions.sweep()
        assert result.exists() and path.exists(), "the session was at work"
    sessions.sweep()
    assert not result.exists() and path.exists(), "the open page needs the upload"
    sessions.page_closed("one")
    with sessions.use("one") as first:
        assert first.stop.is_set(), "a closed page's jobs must end"
    sessions.sweep()
    assert list(sessions.root.iterdir()) == []


def test_a_client_that_waits_or_is_silent_is_patiently_kept(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    path = upload(sessions.root)
    sessions.hold("one", [str(path)])
    sessions.keep = -1
    sessions.sweep()
    assert path.exists(), "its request may still stand in the queue"
    now = time.time()
    monkeypatch.setattr("web.sessions.time.time", lambda: now + SILENT + 10)
    sessions.sweep()
    assert not path.exists()


def test_young_uploads_and_the_pages_own_files_stay(sessions: Sessions) -> None:
    waiting, example = upload(sessions.root), upload(sessions.root, "example.jpg")
    sessions.sweep()
    assert waiting.exists(), "an upload just made, whose request is not here yet"
    sessions.keep_forever([example])
    sessions.keep = -1
    sessions.sweep()
    assert example.exists() and not waiting.exists()


def test_nobody_gets_at_another_visitors_results(sessions: Sessions) -> None:
    with sessions.use("one") as session:
        result = session.new_folder() / "result.png"
        result.touch()
    sessions.hold("one", [str(result)])
    with pytest.raises(InputError, match=r"result.png: this file is not yours"):
        sessions.hold("two", [str(result)])
    for gone in (result.with_name("gone.png"), sessions.root):
        with pytest.raises(InputError, match="upload it again"):
            sessions.hold("two", [str(gone)])


# --- Results, command line, limits ---------------------------------------------------------------------------------


def test_results_keep_the_photos_own_format(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    mark = Provenance("model", "0" * 64)
    for name, suffix in {"a.JPG": ".JPG", "b.tif": ".tif", "c.webp": ".webp"}.items():
        write_photo(tmp_path / name, pixels)
        photo = read_photo(tmp_path / name)
        assert own_suffix(photo) == suffix
        target = tmp_path / f"new{suffix}"
        write_restored(target, photo, photo.pixels, changed=False, provenance=mark)
        assert target.read_bytes() == (tmp_path / name).read_bytes(), "nothing changed: a copy"
        write_restored(target, photo, photo.pixels[::-1], changed=True, provenance=mark)
        assert read_photo(target).format == photo.format
        assert b"compositeWithTrainedAlgorithmicMedia" in (read_photo(target).xmp or b"")
    (tmp_path / "a.JPG").rename(tmp_path / "liar.png")
    assert own_suffix(read_photo(tmp_path / "liar.png")) == ".jpg"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--auth", "missing.txt"], "missing.txt: cannot be read"),
        (["--max-files", "0"], "max_files is 0; it must be"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_limits_say_what_to_do(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", np.zeros((200, 300, 3), np.uint8))
    photo = read_photo(tmp_path / "a.png")
    Limits(max_pixels=240_000).check_scale(photo, 2)
    with pytest.raises(InputError, match=r"enlarged 2 times, 300 x 200 pixels become more .* smaller scale"):
        Limits(max_pixels=239_999).check_scale(photo, 2)
