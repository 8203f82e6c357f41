"""``pfr`` itself: its version, its help, every option, and that the package runs as the program."""

from __future__ import annotations

import dataclasses
import re
import runpy

import pytest

import pfr_core
from pfr_core import RestoreOptions

from .command import pfr


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert pfr("--version") == 0
    assert capsys.readouterr().out.strip() == f"pfr {pfr_core.__version__}"
    commands = (["restore"], ["detect"], ["degrade"], ["import-gpen"], ["info"], ["weights"])
    for command in ([], *commands, *(["weights", action] for action in ("list", "path", "download"))):
        assert pfr(*command, "--help") == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "usage: pfr" in text and "None)" not in text and "SUPPRESS" not in text
        for (name,) in commands if not command else ():
            assert name in text


def test_every_restore_option_is_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert pfr("restore", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for item in dataclasses.fields(RestoreOptions):
        flag, words = f"--{item.name.replace('_', '-')}", item.metadata["help"]
        (entry,) = (entry for entry in re.findall(rf"{flag}\b.*?(?= --(?!no-)|$)", text) if words in entry)
        default = [] if item.default in (None, ()) else [f"(default: {item.default})"]
        assert re.findall(r"\(default.*?\)", entry) == default


def test_the_package_runs_as_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["pfr", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("pfr_core", run_name="__main__")
    assert capsys.readouterr().out.startswith("pfr ")
