"""The comparison: one photo by several models, face by face."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from pfr_core.errors import InputError

from . import pictures
from .components import photo_input
from .context import GPU_QUEUE, PRIVATE, Context
from .models import OF_MODELS, choices
from .texts import say, text


class CompareTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                self.upload = photo_input(
                    label=text("tab_photo"), sources=["upload", "clipboard"], height=280, elem_id="compare-photo"
                )
                first = list(context.engine.models)[:1]
                self.models = gr.CheckboxGroup(
                    list(context.engine.models), value=first, label=text("model"), elem_id="compare-models"
                )
                context.menus[self.models] = partial(choices, context)
                self.start = gr.Button(text("tab_compare"), variant="primary", size="lg", elem_id="compare-start")
                options = context.controls("strength", "threshold", *OF_MODELS)
            with gr.Column(scale=7, min_width=320):
                self.sheet = gr.Image(
                    label=text("compare_sheet"), show_label=False, type="filepath", format="png", interactive=False,
                    buttons=["fullscreen", "download"], elem_id="compare-sheet",
                )  # fmt: skip
                self.told = gr.Markdown("", elem_id="compare-told")
        self.start.click(
            self.run_comparison, [self.upload, self.models], [self.sheet, self.told], inputs_kwargs=options,
            show_progress_on=[self.sheet], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def run_comparison(
        self,
        request: gr.Request,
        path: str | None,
        models: list[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **options: Any,
    ) -> list[Any]:
        """Restore the faces with every model, and show the sheet.

        Raises:
            InputError: no model is chosen, or there are too many faces; else as :func:`pfr_core.compare.compare`.
        """
        with self.context.job(request) as job:
            if not models:
                raise InputError("Choose at least one model.")
            photo = self.context.read(path)
            for model in models:
                self.context.fetch(request, model, job, progress)
            found = self.context.engine.compare(
                photo.pixels,
                models,
                self.context.options(options),
                lambda name, done, total: progress((done, total), desc=name, unit=say(request, "unit_models")),
                job.should_stop,
                self.context.limits.check_faces,
            )
            sheet = pictures.save_exact(job.session.new_folder("comparison") / "comparison.png", found.sheet, photo)
            told = (
                f"{say(request, 'compared', count=len(found.faces))} {say(request, 'compare_sheet')}{say(request, 'full_stop')}"
            )
            return [sheet, told + self.context.told(request, (*photo.notices, *found.notices))]
