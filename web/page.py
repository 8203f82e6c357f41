"""The page as a whole: notices, tabs, looks, and the visitor's language."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .api import Api
from .batch import BatchTab
from .compare import CompareTab
from .context import PRIVATE, Context
from .degrade import DegradeTab
from .gallery import FOLDER, Example
from .guard import GuardedBlocks
from .models import licence
from .photo import ASSETS, AT_ONCE, PhotoTab
from .texts import say, text, words
from .video import VideoTab

# System fonts: the page asks no other server for anything.
THEME = gr.themes.Soft(
    primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
CSS = (ASSETS / "page.css").read_text("utf-8")
HEAD = f"<script>{(ASSETS / 'names.js').read_text('utf-8')}</script>"


def build_page(context: Context, shown: list[Example]) -> gr.Blocks:
    """Return the page, not yet served, with a gallery of these examples."""
    title = words("en")["title"]
    with GuardedBlocks(context, title=title, analytics_enabled=False) as page:
        Api(context)  # first, so that the endpoints get their names, which events of the page would take otherwise
        gr.Markdown(f"# {title}", elem_id="title")
        notice = gr.Markdown(words("en")["notice"], elem_id="notice")
        with gr.Tab(text("tab_photo")):
            photo = PhotoTab(context, shown)
        with gr.Tab(text("tab_batch")):
            BatchTab(context)
        with gr.Tab(text("tab_clip")):
            VideoTab(context)
        with gr.Tab(text("tab_compare")):
            CompareTab(context)
        with gr.Tab(text("tab_degrade")):
            DegradeTab(context, FOLDER / "astronaut.jpg")
        small_print = gr.Markdown("", elem_id="small-print")

        def opened(request: gr.Request) -> list[Any]:
            context.sessions.page_opened(request.session_hash)
            told = [_notice(context, request), _small_print(context, request)]
            return [*told, *(gr.update(choices=choices(request)) for choices in context.menus.values())]

        def closed(request: gr.Request) -> None:
            context.sessions.page_closed(request.session_hash)

        page.load(opened, None, [notice, small_print, *context.menus], queue=False, show_progress="hidden", **PRIVATE)
        page.load(None, None, photo.at_once, js=f"() => localStorage.getItem('{AT_ONCE}') === 'yes'", **PRIVATE)
        page.unload(closed)
    return page


def _notice(context: Context, request: gr.Request) -> str:
    slow = [say(request, "notice_cpu")] if context.engine.device.type == "cpu" else []
    return " ".join([say(request, "notice"), *slow])


def _small_print(context: Context, request: gr.Request) -> str:
    lines = [licence(context, request, name) for name in context.engine.models]
    lines.append(say(request, "privacy", minutes=f"{context.limits.keep_minutes:g}"))
    return "\n\n".join(lines)
