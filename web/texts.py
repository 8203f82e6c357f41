"""The page's words in the visitor's language.

They are in the folder of the nodes' words: ``locales/LANGUAGE/page.json`` and, for what an option is called, ``nodeDefs.json``.
What stands on the page is translated in the browser, by Gradio, which has words of its own in the same languages; what is said of
a visitor's work is put together here, in the language that his browser asks for. Errors are in English.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core.options import ClipOptions, RestoreOptions
from pfr_core.support.schema import specs

LANGUAGES = ("en", "de", "zh", "ja")
_HERE = Path(__file__).resolve().parent
LOCALES = next(folder for folder in (_HERE / "locales", _HERE.parent / "locales") if folder.is_dir())
NODES = ("PFRRestoreClip", "PFRRestoreFaces")
"""The nodes whose options are the page's."""


@cache
def words(language: str) -> dict[str, str]:
    """Return all texts of the page in one language, by name; English where there is no other."""
    own: dict[str, str] = json.loads((LOCALES / language / "page.json").read_text(encoding="utf-8"))
    if language == "en":
        known = {**specs(ClipOptions), **specs(RestoreOptions)}
        named = {f"option_{name}": spec.label for name, spec in known.items()}
        return {**named, **{f"help_{name}": spec.help for name, spec in known.items()}, **own}
    nodes = LOCALES / language / "nodeDefs.json"
    kept = json.loads(nodes.read_text(encoding="utf-8")) if nodes.is_file() else {}
    options = {name: each for node in NODES if node in kept for name, each in kept[node]["inputs"].items()}
    named = {f"option_{name}": each["name"] for name, each in options.items()}
    helped = {f"help_{name}": each["tooltip"] for name, each in options.items() if "tooltip" in each}
    return {**words("en"), **named, **helped, **own}


def translations() -> gr.I18n:
    """Return what Gradio's page translates with."""
    return gr.I18n(**{name: words(language) for language in LANGUAGES for name in _names(language)})


def text(name: str) -> Any:
    """Return a text of the page as a placeholder that the browser replaces."""
    assert name in words("en"), name
    return gr.I18n()(name)


def say(request: gr.Request, name: str, /, **numbers: Any) -> str:
    """Return a text in the language of a visitor, with its blanks filled."""
    known = words(language_of(request))
    one = f"{name}_one"
    return known[one if numbers.get("count") == 1 and one in known else name].format(**numbers)


def language_of(request: gr.Request) -> str:
    """Return the first language of the browser's that the page speaks."""
    wanted = str(request.headers.get("accept-language", "")) if request.headers else ""
    for each in wanted.split(","):
        name = each.split(";")[0].strip()[:2].lower()
        if name in LANGUAGES:
            return name
    return "en"


def _names(language: str) -> tuple[str, ...]:
    return (language, "zh-CN") if language == "zh" else (language,)
