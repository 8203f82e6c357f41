"""What the programs import before they know what they are to do, and what they call themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pfr_core.support.arguments import program

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "torchvision", "cv2", "gradio", "scipy", "skimage", "einops", "facexlib", "matplotlib"}
COMMANDS = (
    ("pfr_core", "--version"),
    ("pfr_core", "--help"),
    ("pfr_core", "restore", "--help"),
    ("pfr_core", "weights", "--help"),
    ("trainer", "--help"),
    ("trainer", "restore", "--help"),
    ("trainer", "detector", "--help"),
    ("web", "--help"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_waits_for_nothing_heavy(command: tuple[str, ...]) -> None:
    package, *rest = command
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", package, *rest], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {name.split(".")[0] for name in re.findall(r"^import time:.*\|\s*(\S+)$", done.stderr, re.MULTILINE)}
    assert package in imported or "argparse" in imported, "the list of imports is read as it is written"
    assert not imported & HEAVY
    usage = "pfr " if rest == ["--version"] else f"usage: python -m {package} "
    assert done.stdout.startswith(usage)


@pytest.mark.slow
def test_a_restoration_waits_for_torch_and_opencv_only(tmp_path: Path) -> None:
    command = ["restore", "examples/degraded.jpg", "-o", str(tmp_path), "--detector", "builtin", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pfr_core", *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {name.split(".")[0] for name in re.findall(r"^import time:.*\|\s*(\S+)$", done.stderr, re.MULTILINE)}
    assert imported & HEAVY == {"torch", "cv2", "einops"}


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("/clone/trainer/__main__.py", "python -m trainer"),
        ("/usr/bin/pfr-train", "pfr-train"),
        ("C:/Scripts/pfr-train.exe", "pfr-train"),
        ("/elsewhere/__main__.py", "pfr-train"),
        ("", "pfr-train"),
    ],
)
def test_a_program_is_called_what_was_typed(typed: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    assert program("pfr-train", "trainer") == name
