"""The page as a whole: notices, tabs, looks."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from .api import Api
from .batch import BatchTab
from .compare import CompareTab
from .context import PRIVATE, Context
from .degrade import DegradeTab
from .models import licence
from .photo import PhotoTab
from .video import VideoTab

EXAMPLES = Path(__file__).resolve().parent / "examples"
TITLE = "PFR: face restoration"
# System fonts: the page asks no other server for anything.
THEME = gr.themes.Soft(
    primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
CSS = """
.gradio-container { width: 100% !important; max-width: min(1240px, 100vw) !important; margin: 0 auto !important; }
#notice p, #small-print p { margin: .15em 0; }
#notice { font-size: .95em; }
#small-print { font-size: .85em; opacity: .8; }
.grid-wrap { height: auto !important; min-height: 0 !important; max-height: 560px !important; }
.grid-container { padding-top: 0 !important; }
#faces .thumbnail-item { aspect-ratio: 1; }
#pairs .thumbnail-item { aspect-ratio: 2; }
#figures td { white-space: nowrap; }
@media (max-width: 640px) {
  .gradio-container { padding: 0 !important; }
  button.lg { min-height: 52px; }
  #faces .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
}
"""


def build_page(context: Context) -> gr.Blocks:
    """Return the page, not yet served."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        Api(context)  # first, so that the endpoints get their names, which events of the page would take otherwise
        gr.Markdown(f"# {TITLE}")
        gr.Markdown(_notice(context), elem_id="notice")
        with gr.Tab("Photo"):
            PhotoTab(context, EXAMPLES / "astronaut_degraded.jpg")
        with gr.Tab("Batch"):
            BatchTab(context)
        with gr.Tab("Video"):
            VideoTab(context)
        with gr.Tab("Compare"):
            CompareTab(context)
        with gr.Tab("Degrade"):
            DegradeTab(context, EXAMPLES / "astronaut.jpg")
        gr.Markdown(_small_print(context), elem_id="small-print")

        def opened(request: gr.Request) -> None:
            context.sessions.page_opened(request.session_hash)

        def closed(request: gr.Request) -> None:
            context.sessions.page_closed(request.session_hash)

        page.load(opened, queue=False, show_progress="hidden", **PRIVATE)
        page.unload(closed)
    return page


def _notice(context: Context) -> str:
    lines = ["**Restored detail is synthesised.** It looks plausible; it is no evidence of anyone's identity."]
    if context.engine.device.type == "cpu":
        lines.append("**This runs on a CPU**: a face takes seconds, a clip minutes. A CUDA GPU is much faster.")
    return "\n\n".join(lines)


def _small_print(context: Context) -> str:
    lines = [licence(context, model) for model in context.engine.models]
    lines.append(
        "Photos and results stay on the machine that serves this page, and are deleted "
        f"{context.limits.keep_minutes:g} minutes after it is closed."
    )
    return "\n\n".join(lines)
