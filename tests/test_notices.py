"""What the core notices reaches the user at every door."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from pfr_core import FaceRestorer
from pfr_core.cli import main

gr = pytest.importorskip("gradio")

from web.api import Api  # noqa: E402
from web.batch import BatchTab  # noqa: E402
from web.context import Context  # noqa: E402
from web.engine import Engine  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.photo import PhotoTab  # noqa: E402
from web.sessions import Sessions  # noqa: E402

VISITOR: Any = SimpleNamespace(session_hash="visitor", headers={})


@pytest.fixture
def print_photo(tmp_path: Path) -> Path:
    """Return a photograph without faces whose reading has something to tell."""
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (64, 48)).save(path)
    return path


@pytest.fixture
def sentence(print_photo: Path, tiny_model: Path, tmp_path: Path) -> str:
    """Return what the core says of it."""
    (notice,) = FaceRestorer(tiny_model, device="cpu").restore_file(print_photo, tmp_path / "out.png").notices
    assert notice.kind == "cmyk"
    return notice.text.removeprefix(f"{print_photo}: ")


@pytest.fixture
def context(tiny_model: Path, tmp_path: Path) -> Iterator[Context]:
    """Return what the tabs of a page share."""
    sessions = Sessions(tmp_path / "visitors", 60)
    with gr.Blocks(), sessions.listening("visitor"):
        yield Context(Engine({"tiny": str(tiny_model)}, device="cpu"), sessions, Limits())


@pytest.mark.parametrize("command", ["restore", "detect", "degrade"])
def test_the_command_line(
    command: str, print_photo: Path, tiny_model: Path, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"restore": ["--model", str(tiny_model)], "detect": [], "degrade": []}[command]
    target = [] if command == "detect" else ["-o", str(print_photo.with_name("new.png"))]
    assert main([command, str(print_photo), *target, *more]) == 0
    assert sentence in caplog.text


def test_the_pages_api(context: Context, print_photo: Path, sentence: str) -> None:
    api = Api(context)
    for facts in (api.detect(VISITOR, str(print_photo)), api.restore(VISITOR, str(print_photo), "tiny", scale=2)[1]):
        (notice,) = facts["notices"]
        assert notice["kind"] == "cmyk" and sentence in notice["text"]


def test_the_page_and_its_batch(context: Context, print_photo: Path, sentence: str) -> None:
    with context.visit(VISITOR) as session:
        session.wanted = print_photo
    assert sentence in PhotoTab(context, []).open(VISITOR)[1]
    report = BatchTab(context).run_batch(VISITOR, [str(print_photo)], "tiny", lambda *done, **more: None, scale=2)[-1]
    assert "print.jpg" in report and html.escape(sentence.rstrip(".")) in report


def test_what_is_lost_in_reading_is_not_said_of_a_copy(print_photo: Path, tiny_model: Path, tmp_path: Path) -> None:
    file = FaceRestorer(tiny_model, device="cpu").restore_file(print_photo, tmp_path / "out.jpg")
    assert file.path.read_bytes() == print_photo.read_bytes() and file.notices == ()


def test_the_nodes(pack: Any) -> None:
    """They get pixels, of which only finding and pasting have something to tell."""
    image = torch.full((1, 48, 64, 3), 0.5)
    model, _ = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]().load("small.safetensors", "cpu", "fp32")["result"]
    for name, inputs in {"DetectFaces": {}, "RestoreFaces": {"model": model}}.items():
        node = pack.NODE_CLASS_MAPPINGS[f"PFR{name}"]()
        widgets = {key: given["default"] for key, (_, given) in node.INPUT_TYPES()["required"].items() if "default" in given}
        shown = getattr(node, node.FUNCTION)(**{**widgets, **inputs, "image": image, "select": "index", "indices": "9"})
        assert any("9" in text for text in shown["ui"]["text"]), name
