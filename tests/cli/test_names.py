"""Names that no file can have: one sentence that says so, from every command and from Python, and nothing is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfr_core import FaceRestorer
from pfr_core.cli import main as pfr
from pfr_core.errors import InputError
from pfr_core.photo.read import read_photo
from pfr_core.support.files import checked
from trainer.cli import main as train

LONG = "x" * 300 + ".png"
NAMES = {LONG: "File name too long", "a\0b.png": "null byte", "": "name of a file is empty"}
COMMANDS: tuple[tuple[Callable[..., int], str], ...] = (
    (pfr, "restore NAME -o out"),
    (pfr, "restore photo.png -o NAME"),
    (pfr, "restore photo.png -o out --compare NAME"),
    (pfr, "detect NAME"),
    (pfr, "detect photo.png --json NAME"),
    (pfr, "detect photo.png --annotate NAME"),
    (pfr, "degrade photo.png -o NAME"),
    (pfr, "compare NAME --models default -o out.png"),
    (pfr, "bench NAME"),
    (pfr, "faces NAME -o out.png"),
    (pfr, "import-gpen NAME -o out.safetensors"),
    (train, "prepare NAME out"),
    (train, "blend NAME b.safetensors out.safetensors --licence none"),
)


@pytest.mark.parametrize("name", NAMES, ids=["long", "NUL", "empty"])
@pytest.mark.parametrize(("program", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_every_command_refuses_it_in_one_sentence(
    program: Callable[..., int],
    command: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save("photo.png")
    try:
        status = program([name if word == "NAME" else word for word in command.split()])
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capsys.readouterr().err
    assert status in (1, 2)
    assert NAMES[name] in error
    assert error.count("error:") == 1 and "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("name", NAMES, ids=["long", "NUL", "empty"])
def test_so_do_the_functions(name: str, tmp_path: Path, tiny_model: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photo)
    with pytest.raises(InputError, match=NAMES[name]):
        FaceRestorer(tiny_model, device="cpu").restore_file(photo, name, aligned=True)
    if name:  # an empty path is the current folder, which is told as such
        with pytest.raises(InputError, match=NAMES[name]):
            read_photo(name)


def test_what_is_no_path_is_named() -> None:
    with pytest.raises(InputError, match="3 is a int"):
        checked(3)  # type: ignore[arg-type]
