"""What the page says of errors and notices in the visitor's language."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pfr_core import RestoreOptions
from pfr_core.errors import PFRError
from pfr_core.photo.read import read_photo
from pfr_core.support.notice import Notice, with_notices

pytest.importorskip("gradio")

from web import texts
from web.context import Context
from web.engine import Engine
from web.limits import Limits
from web.sessions import Sessions
from web.texts import LOCALES, translated, translations, words

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("de", "zh", "ja")
BLANK = re.compile(r"{\w*}")
FILLED = "7"
"""What stands in a blank of a sentence of the source."""
FOR_PROGRAMS = {"api.py", "cli.py", "guard.py"}
"""Files whose errors no page can cause."""
OF_CLIPS = {("video", "read.py"), ("video", "restore.py")}
"""Files of the core whose errors a clip can cause."""
CORE = [path for path in sorted((ROOT / "pfr_core").rglob("*.py")) if not {"cli", "bulk"} & set(path.parts)]
PAGE = sorted((ROOT / "web").glob("*.py"))
NOT_SAID = re.compile(
    "there is no such|not a file;|clips are written as|picture 7 is missing|is no time|end must come later"
    "|colour profile of the source's pictures|PIL image|left as sharp already"
    "|times larger than the model's|than the one that ships with PFR|what is transparent becomes opaque|beside those of this run"
)
"""What no visitor is told so: the page takes no paths, times, numbered pictures and pictures in memory, and has words of its own
for some notices."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Known = Mapping[str, list[ast.expr]]
"""What is assigned to the names of a function."""


def messages(language: str) -> dict[str, str]:
    kept: dict[str, str] = json.loads((LOCALES / language / "messages.json").read_text("utf-8"))
    return kept


def assignments(scope: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield what is assigned, and to what."""
    for node in ast.walk(scope):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=False)  # a star takes the rest
            else:
                yield target, node.value


def known_in(scope: ast.AST) -> Known:
    known: dict[str, list[ast.expr]] = {}
    for target, value in assignments(scope):
        if isinstance(target, ast.Name):
            known.setdefault(target.id, []).append(value)
    return known


def renderings(node: ast.AST, known: Known) -> list[str]:
    """Return all texts that a piece of source can give, as far as it says so itself."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [*renderings(node.body, known), *renderings(node.orelse, known)]
    if isinstance(node, ast.FormattedValue):
        return renderings(node.value, known)
    if isinstance(node, ast.JoinedStr):
        return ["".join(parts) for parts in product(*(renderings(part, known) for part in node.values))]
    if isinstance(node, ast.Name) and node.id in known:
        others = {name: values for name, values in known.items() if name != node.id}
        return list(dict.fromkeys(text for value in known[node.id] for text in renderings(value, others)))
    return [FILLED]


def wholes(node: ast.AST, known: Known, parts: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the texts of a piece of source that are no part of another one: neither inside it nor under a name that is.

    Args:
        node: where they are.
        known: what is assigned around it.
        parts: names that stand in texts around it.
    """
    if isinstance(node, FUNCTIONS):
        blanks = (blank.value for blank in ast.walk(node) if isinstance(blank, ast.FormattedValue))
        parts = frozenset(name.id for blank in blanks for name in ast.walk(blank) if isinstance(name, ast.Name))
        known = known_in(node)
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield from renderings(node, known)
    elif isinstance(node, ast.Assign):
        for target, value in assignments(node):
            if not (isinstance(target, ast.Name) and target.id in parts):
                yield from wholes(value, known, parts)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check_stop":
        return  # of what was stopped the page says why
    elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):  # that is documentation
        for child in ast.iter_child_nodes(node):
            yield from wholes(child, known, parts)


class Heard:
    """A pattern of a message that knows whether anything has matched it."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern, self.heard = pattern, False

    def fullmatch(self, text: str) -> re.Match[str] | None:
        found = self.pattern.fullmatch(text)
        self.heard |= found is not None
        return found


def test_every_message_is_a_whole_one_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all that fills a blank of one."""
    every = [(Heard(pattern), text) for pattern, text in texts._messages("de")]
    monkeypatch.setattr(texts, "_messages", lambda language: every)
    for path in (*CORE, *PAGE):
        for text in set(wholes(ast.parse(path.read_text("utf-8")), {})):
            translated({"accept-language": "de"}, text)
    assert not [message.pattern.pattern for message, _ in every if not message.heard]


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_blanks_of_its_message(language: str) -> None:
    assert messages(language).keys() == messages("de").keys()
    for english, text in messages(language).items():
        assert set(BLANK.findall(text)) <= set(BLANK.findall(english)), english
        assert text and text != english


def visible() -> Iterator[tuple[Path, str]]:
    """Yield what a visitor may be told: what the page raises, what is wrong with a clip, and what the core notices."""
    for path in (*CORE, *PAGE):
        raises = path.name not in FOR_PROGRAMS if path in PAGE else path.parts[-2:] in OF_CLIPS
        tree = ast.parse(path.read_text("utf-8"))
        for scope in (each for each in ast.walk(tree) if isinstance(each, FUNCTIONS)):
            for node in ast.walk(scope):
                shown: list[ast.expr] = []
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and raises:
                    shown = node.exc.args[:1]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Notice":
                    shown = node.args[1:2]
                for each in shown:
                    yield from ((path, text) for text in renderings(each, known_in(scope)) if re.search("[a-z]", text))


def test_whatever_a_visitor_is_told_has_its_translations() -> None:
    for path, text in visible():
        told = translated({"accept-language": "de"}, text)
        assert "auf Englisch" not in told or NOT_SAID.search(text), f"{path.name}: {text}"


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


NOTICED = [
    Notice("magnified", "... (max_face_size skips such faces)", numbers={"face_px": 900.4, "times": 1.76, "crop_px": 512}),
    Notice("better_detector", "...: pfr weights download yunet", numbers={"megabytes": 0.2}),
    Notice("opaque", "a.webm: ... .mkv with codec ffv1, keep it."),
]
"""What the core words for its commands."""


@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_a_notice_names_nothing_that_a_visitor_has_not(language: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = Context(Engine({"default": "default"}, device="cpu"), Sessions(tmp_path, 60), Limits())
    visitor: Any = SimpleNamespace(headers={"accept-language": language})
    told = [context.noticed(visitor, notice) for notice in NOTICED]
    assert not re.search(r"max_face_size|pfr|ffv1|\.\.\.|\{", " ".join(told)), told
    assert all(number in told[0] for number in ("900", "1.8", "512"))
    assert language == "en" or not {*told} & {context.noticed(SimpleNamespace(headers={}), each) for each in NOTICED}
    assert "pfr weights download" in caplog.text, "whoever runs the server can do something"


@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_a_text_that_is_of_a_control_or_a_model_has_its_names(language: str) -> None:
    nodes = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))
    helped = {node["inputs"]["fidelity"].get("tooltip") for node in nodes.values() if "fidelity" in node.get("inputs", {})}
    assert len(helped) == 1 and (language == "en" or "default" in str(helped)), "which models have it is one fact"
    visitor: Any = SimpleNamespace(headers={"accept-language": language})
    name = texts.say(visitor, "option_sideways")
    assert name == words(language)["option_sideways"] and "{sideways}" in words(language)["no_face"]


def test_the_help_of_the_detection_size_is_that_of_this_server() -> None:
    """In every language the core's figure is in it, to be replaced."""
    for known in translations(1000).translations.values():
        assert "1000" in known["help_detection_size"] and "4096" not in known["help_detection_size"]
    assert "4096" in translations(Limits().closest_detection).translations["de"]["help_detection_size"]
    assert Limits(max_detection_size=1000).closest_detection == 1000


def test_what_has_no_translation_is_said_to_be_english() -> None:
    assert translated({"accept-language": "de"}, "A new thing.") == "Der Server sagt auf Englisch: A new thing."
    assert translated({"accept-language": "fr"}, "A new thing.") == "A new thing."
    assert translated({"accept-language": "fr,de;q=0.9"}, "A new thing.") == "A new thing.", "as Gradio's part of the page"
    assert translated(None, "Stopped.") == "Stopped." and translated({"accept-language": "ja"}, "Stopped.") == "停止しました。"


@pytest.mark.parametrize("language", OTHERS)
def test_what_was_noticed_before_an_error_is_translated_with_it(language: str) -> None:
    error, noticed = "No face was found in this photo. Choose another one.", "its end is missing; nothing of the picture is lost"
    headers = {"accept-language": language}
    both = translated(headers, with_notices(error, [Notice("mended", noticed)]))
    assert both == f"{translated(headers, error)}\n{translated(headers, noticed)}"
    unknown = translated(headers, with_notices(error, [Notice("mended", "A new thing.")]))
    assert error in unknown, "wholly in English, and said to be"


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
