"""The ``pfr`` command as its tests run it, the pictures they give it, and how they look at what it left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pfr_core.cli import main
from pfr_core.photo.read import read_photo

ROOT = Path(__file__).resolve().parents[2]
SIZE = 32


def pfr(*arguments: object) -> int:
    """Run the command in this process; the exit status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def start(*arguments: object, before: str = "") -> subprocess.Popen[str]:
    """``python -m pfr_core`` in a process of its own, without standard input; ``before`` runs first in it."""
    code = f"{before}; import runpy; runpy.run_module('pfr_core', run_name='__main__', alter_sys=True)"
    command = [sys.executable, *(("-c", code) if before else ("-m", "pfr_core")), *map(str, arguments)]
    shell = ["sh", "-c", 'exec "$@" <&-', "sh"]
    return subprocess.Popen(
        [*shell, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit that it is ignored
    )  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], status: int, *words: object) -> None:
    """Check that the command ended properly and said one thing: one error, with these words in it."""
    error = capsys.readouterr().err
    assert status in (1, 2)
    assert error.count("error:") == 1 and "Traceback" not in error
    for word in words:
        assert str(word) in error


def photo(path: Path, width: int = 40, height: int = 40, seed: int = 0, mode: str = "RGB", **save: Any) -> Path:
    """Return a smooth picture; square ones pass for aligned faces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path, **save)
    return path


def files(folder: Path) -> list[str]:
    """Everything in a folder, temporary files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    return read_photo(path).pixels


class Code:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)
