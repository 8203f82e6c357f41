"""Clips for tests: smooth moving colours and a beep; what is in a clip, as arrays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

RATE, SOUND_RATE = 8, 48000


def make_clip(
    path: Path, frames: int = 16, size: tuple[int, int] = (96, 64), sound: str | None = "aac", codec: str = "libx264",
    sound_rate: int = SOUND_RATE,
) -> Path:  # fmt: skip
    """Return a clip of smooth moving colours; a beep that starts with it."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=RATE, options={"crf": "10"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = file.add_stream(sound, rate=sound_rate, layout="mono") if sound else None
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


def pictures(path: Path) -> tuple[list[float], np.ndarray]:
    """Return times, and brightness as stored: [N,H,W]."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    planes = [frame.to_ndarray()[: frame.height].astype(float) for frame in frames]
    return [float(frame.pts * frame.time_base) for frame in frames], np.stack(planes)


def sound(path: Path) -> tuple[str, np.ndarray]:
    """Return the codec and the samples, [T]."""
    with av.open(str(path)) as file:
        name = file.streams.audio[0].codec_context.name
        return name, np.concatenate([frame.to_ndarray().mean(axis=0) for frame in file.decode(audio=0)])
