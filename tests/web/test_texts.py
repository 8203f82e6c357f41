"""What the page says of errors and notices in the visitor's language."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pfr_core import RestoreOptions
from pfr_core.errors import PFRError
from pfr_core.photo.read import read_photo

pytest.importorskip("gradio")

from web.context import Context
from web.engine import Engine
from web.limits import Limits
from web.sessions import Sessions
from web.texts import LOCALES, translated, words

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("de", "zh", "ja")
BLANK = re.compile(r"{\w*}")
FOR_PROGRAMS = {"api.py", "cli.py", "guard.py"}
"""Files whose errors no page can cause."""


def messages(language: str) -> dict[str, str]:
    kept: dict[str, str] = json.loads((LOCALES / language / "messages.json").read_text("utf-8"))
    return kept


def sentence(node: ast.AST) -> str | None:
    """Return a text in a piece of source, with ``{}`` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@pytest.mark.parametrize("language", OTHERS)
def test_every_message_is_one_that_is_said(language: str) -> None:
    files = [*(ROOT / "pfr_core").rglob("*.py"), *(ROOT / "web").glob("*.py")]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    said = "\n".join(sentence(node) or "" for node in nodes)
    assert messages(language).keys() == messages("de").keys()
    for english, text in messages(language).items():
        assert max(BLANK.split(english), key=len).strip("().;: ") in said, english
        assert set(BLANK.findall(text)) <= set(BLANK.findall(english)), english
        assert text and text != english


def test_whatever_the_page_raises_has_its_translations() -> None:
    for path in sorted((ROOT / "web").glob("*.py")):
        if path.name in FOR_PROGRAMS:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = (sentence(node.exc.args[0]) or "").replace("{}", "7")
                assert "auf Englisch" not in translated({"accept-language": "de"}, text), f"{path.name}: {text}"


@pytest.mark.parametrize("language", OTHERS)
def test_an_error_is_in_the_language_of_the_page(language: str, tmp_path: Path) -> None:
    with_name = tmp_path / "Ort: Foto.jpg"

    def file(content: bytes) -> Callable[[], object]:
        return lambda: (with_name.write_bytes(content), read_photo(with_name))

    causes: list[Callable[[], object]] = [
        lambda: RestoreOptions(threshold=2),
        lambda: RestoreOptions(min_face_size=None),  # type: ignore[arg-type]
        lambda: RestoreOptions(mask="star"),  # type: ignore[arg-type]
        lambda: Limits(max_faces=1).check_faces(7),
        file(b""),
        file(b"text"),
        file((ROOT / "examples" / "degraded.jpg").read_bytes()[:5000]),
    ]
    context = Context(Engine({"default": "default"}, device="cpu"), Sessions(tmp_path, 60), Limits())
    visitor: Any = SimpleNamespace(headers={"accept-language": f"{language},en;q=0.5"})
    for cause in causes:
        with pytest.raises(PFRError) as caught:
            cause()
        told = context.page_error(caught.value, visitor).message
        left = set(re.findall(r"[a-z]{3,}", told)) & {
            "the",
            "must",
            "choose",
            "limit",
            "file",
            "this",
            "number",
            "from",
            "picture",
        }
        assert not left and words(language)["in_english"].split("{")[0] not in told, told
    assert words(language)["option_threshold"] in context.page_error(_error(causes[0]), visitor).message


def _error(cause: Callable[[], object]) -> Exception:
    with pytest.raises(PFRError) as caught:
        cause()
    return caught.value


@pytest.mark.parametrize("language", OTHERS)
def test_a_notice_is_in_the_language_of_the_page(language: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8, 4), 99, np.uint8), "CMYK").save(tmp_path / "print.jpg")
    notices = read_photo(tmp_path / "print.jpg").notices
    context = Context(Engine({"default": "default"}, device="cpu"), Sessions(tmp_path, 60), Limits())
    visitor: Any = SimpleNamespace(headers={"accept-language": language})
    told = context.told(visitor, [*notices, *notices])
    assert "print.jpg: " in told and "CMYK" in told and "converted" not in told and ".." not in told


def test_what_has_no_translation_is_said_to_be_english() -> None:
    assert translated({"accept-language": "de"}, "A new thing.") == "Der Server sagt auf Englisch: A new thing."
    assert translated({"accept-language": "fr"}, "A new thing.") == "A new thing."
    assert translated({"accept-language": "fr,de;q=0.9"}, "A new thing.") == "A new thing.", "as Gradio's part of the page"
    assert translated(None, "Stopped.") == "Stopped." and translated({"accept-language": "ja"}, "Stopped.") == "停止しました。"


def test_a_stranger_cannot_make_it_search_for_long() -> None:
    """A file's name may hold any number of beginnings of a message."""
    assert "1 x 1" in translated({"accept-language": "de"}, "1 x " * 100_000)


@pytest.mark.parametrize("language", OTHERS)
def test_menus_speak_the_language_and_offer_what_can_be_chosen(language: str, tmp_path: Path) -> None:
    import gradio as gr

    context = Context(Engine({"default": "default"}, device="cpu"), Sessions(tmp_path, 60), Limits())
    with gr.Blocks():
        menu = context.controls("select")["select"]
    visitor: Any = SimpleNamespace(headers={"accept-language": language})
    shown = {value: label for label, value in context.menus[menu](visitor)}
    assert "index" not in shown and shown["largest"] == words(language)["choice_select_largest"] != "the largest"
