"""The page's words in the visitor's language.

They are in the folder of the nodes' words: ``locales/LANGUAGE/page.json`` and, for what an option is called, ``nodeDefs.json``.
What stands on the page is translated in the browser, by Gradio, which has words of its own in the same languages; what is said of
a visitor's work is put together here, in the language that his browser asks for. Errors and notices are made in
English, by a core that knows no visitor: ``locales/LANGUAGE/messages.json`` has their translations by the English sentence, with
blanks for what differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core.options import ClipOptions, RestoreOptions
from pfr_core.support.choices import CLOSEST_DETECTION
from pfr_core.support.schema import specs

LANGUAGES = ("en", "de", "zh", "ja")
_HERE = Path(__file__).resolve().parent
LOCALES = next(folder for folder in (_HERE / "locales", _HERE.parent / "locales") if folder.is_dir())
NODES = ("PFRRestoreClip", "PFRRestoreFaces")
"""The nodes whose options are the page's."""
WORDY = ("choices", "kind", "model", "option", "value", "what", "why")
"""Blanks of a message that may hold anything; all others are numbers."""
LONGEST_MESSAGE = 1000
"""Characters up to which a message is looked up: it may hold what a stranger sent (ours)."""


@cache
def words(language: str) -> dict[str, str]:
    """Return all texts of the page in one language, by name; English where there is no other."""
    own: dict[str, str] = json.loads((LOCALES / language / "page.json").read_text(encoding="utf-8"))
    if language == "en":
        known = {**specs(ClipOptions), **specs(RestoreOptions)}
        named = {f"option_{name}": spec.label for name, spec in known.items()}
        return {**named, **{f"help_{name}": spec.help[:1].upper() + spec.help[1:] for name, spec in known.items()}, **own}
    nodes = LOCALES / language / "nodeDefs.json"
    kept = json.loads(nodes.read_text(encoding="utf-8")) if nodes.is_file() else {}
    options = {name: each for node in NODES if node in kept for name, each in kept[node]["inputs"].items()}
    named = {f"option_{name}": each["name"] for name, each in options.items()}
    helped = {f"help_{name}": each["tooltip"] for name, each in options.items() if "tooltip" in each}
    return {**words("en"), **named, **helped, **own}


def translations(closest: int) -> gr.I18n:
    """Return what Gradio's page translates with.

    Args:
        closest: px up to which this server looks for faces by itself; the help of the detection size says so.
    """
    told = dict[str, dict[str, str]]()
    for language in LANGUAGES:
        known = words(language)
        helped = known["help_detection_size"].replace(str(CLOSEST_DETECTION), str(closest))
        told |= {name: {**known, "help_detection_size": helped} for name in _names(language)}
    return gr.I18n(**told)


def text(name: str) -> Any:
    """Return a text of the page as a placeholder that the browser replaces."""
    assert name in words("en"), name
    return gr.I18n()(name)


def say(request: gr.Request, name: str, /, **numbers: Any) -> str:
    """Return a text in the language of a visitor, with its blanks filled."""
    known = words(language_of(request.headers))
    one = f"{name}_one"
    return known[one if numbers.get("count") == 1 and one in known else name].format(**numbers)


def choices(request: gr.Request, name: str, values: list[str]) -> list[tuple[str, str]]:
    """Return what the menu of an option shows in the visitor's language, and the value of each."""
    known = {value: f"choice_{name}_{value}" for value in values}
    return [(say(request, key) if key in words("en") else value, value) for value, key in known.items()]


def translated(headers: Mapping[str, str] | None, message: str) -> str:
    """Return a message of PFR in the language of a visitor, by the headers of his request.

    One that has no translation comes in English, and it is said that it does.
    """
    language = language_of(headers)
    if language == "en" or not message:
        return message
    found = _translated(message, language)
    if found is not None:
        return found
    lines = [_translated(line, language) for line in message.split("\n")]  # an error, and what was noticed before it
    known = [line for line in lines if line is not None]
    return "\n".join(known) if len(known) == len(lines) else words(language)["in_english"].format(text=message)


def _translated(message: str, language: str) -> str | None:
    if len(message) > LONGEST_MESSAGE:
        return None
    bare = message.removesuffix(".")
    for pattern, text in _messages(language):
        if match := pattern.fullmatch(bare):
            blanks = {name: _blank(name, value, language) for name, value in match.groupdict().items()}
            return text.format(**blanks) + words(language)["full_stop"] * (bare != message)
    subject, colon, rest = message.partition(": ")
    known = _translated(rest, language) if colon else None
    return None if known is None else f"{subject}: {known}"


def _blank(name: str, value: str, language: str) -> str:
    if name == "option":
        return words(language).get(f"option_{value}", value)
    return (_translated(value, language) or value) if name == "what" else value


@cache
def _messages(language: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the messages of a language: patterns of the English ones, those with the most words of their own first."""
    kept: dict[str, str] = json.loads((LOCALES / language / "messages.json").read_text(encoding="utf-8"))
    parts = {english: re.split(r"{(\w+)}", english) for english in kept}
    ordered = sorted(kept, key=lambda english: -sum(map(len, parts[english][::2])))
    return [(re.compile(_pattern(parts[english]), re.DOTALL), kept[english]) for english in ordered]


def _pattern(parts: list[str]) -> str:
    """Return the regular expression of a message: words and, at every second place, the names of blanks."""
    blanks = (f"(?P<{name}>{'.*?' if name in WORDY else '-?[0-9.,]+'})" for name in parts[1::2])
    texts = map(re.escape, parts[::2])
    return next(texts) + "".join(blank + text for blank, text in zip(blanks, texts, strict=True))


def language_of(headers: Mapping[str, str] | None) -> str:
    """Return the browser's first language if the page speaks it, else English, as Gradio does for what stands on the page."""
    wanted = str(headers.get("accept-language", "")) if headers else ""
    name = wanted.strip()[:2].lower()
    return name if name in LANGUAGES else "en"


def _names(language: str) -> tuple[str, ...]:
    return (language, "zh-CN") if language == "zh" else (language,)
