"""What a long clip costs in memory, and whether times and sound survive it: a short clip beside a long one, both in 1080p.

The clip is a face that wanders over a gradient, frames unevenly spaced, a click of sound and a flash in a corner each second.
The sound has to be encoded anew, which is where it could slip. The network is a small one with random weights, since only what
grows with the clip is asked for. Run it as ``python benchmarks/long_clip.py``; at 25 frames a second the long clip takes hours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from pfr_core import PFR, PFRConfig, save_model
from pfr_core.photo.read import read_photo

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, FLASH = 1920, 1080, 64
SOUND_RATE, CLICK = 48000, 0.01
LOUD = 0.1
"""A sample beyond this, after a quarter of a second without, begins a click."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 600], help="lengths of the clips")
    parser.add_argument("--fps", type=int, default=5, help="frames a second")
    parser.add_argument("--detect-every", type=int, default=250)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print("| seconds | frames | peak memory, MB | frames and times equal | sound after flash, ms: clip | result | CPU minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(
            PFR(PFRConfig(size=64, narrow=0.125, style_dim=64, n_mlp=2)),
            folder / "small.safetensors",
            provenance={},
            licence="none",
        )
        for seconds in arguments.seconds:
            source, target = folder / f"{seconds}.mkv", folder / f"{seconds}.mp4"
            film(source, seconds, arguments.fps)
            peak, used = restored(source, target, folder / "small.safetensors", arguments.detect_every)
            before, after = (times(path) for path in (source, target))
            slips = [slip(path) for path in (source, target)]
            shown = " | ".join(f"{low:.1f} to {high:.1f}" for low, high in slips)
            print(f"| {seconds} | {len(after)} | {peak:.0f} | {before == after} | {shown} | {used / 60:.1f} |", flush=True)


def film(path: Path, seconds: int, fps: int) -> None:
    """Write the clip."""
    face = cv2.resize(read_photo(ROOT / "examples" / "astronaut.jpg").pixels[..., :3], (512, 512))
    ground = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    ground[:] = np.linspace(60, 160, WIDTH)[None, :, None]
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = file.add_stream("pcm_s16le", rate=SOUND_RATE, layout="mono")
        sound = (0.8 * click()).astype(np.float32)
        for second in range(seconds):
            for part in range(fps):
                number = second * fps + part
                picture = ground.copy()
                x, y = (round(middle + 150 * np.sin(number / pace)) for middle, pace in ((704, 23), (284, 31)))
                picture[y : y + 512, x : x + 512] = face
                picture[:FLASH, :FLASH] = 255 if part == 0 else 0
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                uneven = 0 if part == 0 else number % 3 * 200 // fps  # ms
                frame.pts, frame.time_base = 1000 * second + 1000 * part // fps + uneven, Fraction(1, 1000)
                file.mux(video.encode(frame))
            heard = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = SOUND_RATE, second * SOUND_RATE, Fraction(1, SOUND_RATE)
            file.mux(audio.encode(av.AudioResampler("s16", "mono", SOUND_RATE).resample(heard)[0]))
        for stream in (video, audio):
            file.mux(stream.encode())


def click() -> npt.NDArray[np.float64]:
    """Return a second of sound that begins with a click."""
    time = np.arange(SOUND_RATE) / SOUND_RATE
    return np.where(time < CLICK, np.cos(2 * np.pi * 2000 * time), 0.0)


def restored(source: Path, target: Path, model: Path, every: int) -> tuple[float, float]:
    """Run the command; return its peak of resident memory in MB, and its seconds of processor time."""
    line = [sys.executable, "-m", "pfr_core", "restore", source, "-o", target, "--model", model, "--device", "cpu"]
    process = subprocess.Popen([*map(str, line), "--detect-every", str(every)], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"pfr restore failed, with status {os.waitstatus_to_exitcode(status)}.")
    return used.ru_maxrss / 1024, used.ru_utime + used.ru_stime


def times(path: Path) -> list[int]:
    """Return the times of the pictures in ms."""
    with av.open(str(path)) as file:
        base = file.streams.video[0].time_base or Fraction(1)
        return sorted(round(1000 * packet.pts * base) for packet in file.demux(video=0) if packet.pts is not None)


def slip(path: Path) -> tuple[float, float]:
    """Return the least and the most by which a click comes after its flash, in ms."""
    with av.open(str(path)) as file:
        flashes = [
            float(frame.time or 0)
            for frame in file.decode(video=0)
            if frame.to_ndarray()[: FLASH // 2, : FLASH // 2].mean() > 128
        ]
    clicks, last = list[float](), -1.0
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            loud = np.flatnonzero(
                np.abs(frame.to_ndarray().astype(np.float64)).ravel() / (1.0 if frame.format.is_planar else 32768) > LOUD
            )
            for time in float(frame.time or 0) + loud / SOUND_RATE:
                if time - last > 0.25:
                    clicks.append(time)
                last = time
    late = [1000 * (click - flash) for click, flash in zip(clicks, flashes, strict=True)]
    return min(late), max(late)


if __name__ == "__main__":
    main()
