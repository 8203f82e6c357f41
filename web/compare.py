"""The comparison: one photo by several models, face by face."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pfr_core.errors import InputError
from pfr_core.options import RestoreOptions

from . import pictures
from .components import photo_input
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import controls
from .models import OF_MODELS, summary


class CompareTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                self.upload = photo_input(label="Photo", sources=["upload", "clipboard"], height=280, elem_id="compare-photo")
                choices = [(f"{model} ({summary(context, model)})", model) for model in context.engine.models]
                first = list(context.engine.models)[:1]
                self.models = gr.CheckboxGroup(choices, value=first, label="Models", elem_id="compare-models")
                options = controls("strength", "threshold", *OF_MODELS)
                self.start = gr.Button("Compare", variant="primary", size="lg", elem_id="compare-start")
            with gr.Column(scale=7, min_width=320):
                self.sheet = gr.Image(
                    label="Rows: faces. Columns: the input, then the models", type="filepath", format="png", interactive=False,
                    buttons=["fullscreen", "download"], elem_id="compare-sheet",
                )  # fmt: skip
                self.told = gr.Markdown("", elem_id="compare-told")
        self.start.click(
            self.run, [self.upload, self.models], [self.sheet, self.told], inputs_kwargs=options, validator=context.hold,
            show_progress_on=[self.sheet], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def run(
        self,
        request: gr.Request,
        path: str | None,
        models: list[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **options: Any,
    ) -> list[Any]:
        """Restore the faces with every model, and show the sheet."""
        with self.context.visit(request) as session:
            if not models:
                raise InputError("No model is chosen. Tick at least one.")
            session.stop.clear()
            photo = self.context.read(path)
            for model in models:
                self.context.fetch(model, session, progress)
            found = self.context.engine.compare(
                photo.pixels,
                models,
                RestoreOptions(**options),
                lambda name, done, total: progress((done, total), desc=name, unit="models"),
                session.stop.is_set,
            )
            sheet = pictures.save(session.new_folder() / "comparison.png", found.sheet)
            count = "1 face" if len(found.faces) == 1 else f"{len(found.faces)} faces"
            return [sheet, f"**{count}.**{self.context.told((*photo.notices, *found.notices))}"]
