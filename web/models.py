"""The menu of models, with what each of them is, under which licence, and the options that only it has."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from pfr_core.errors import PFRError
from pfr_core.options import NETWORK, RestoreOptions
from pfr_core.support.schema import names, specs

from .context import PRIVATE, Context
from .texts import say, text

OF_MODELS = names(RestoreOptions, NETWORK)


class ModelMenu:
    """A menu, a line that tells the chosen model's licence and download, and controls that come and go with the model."""

    def __init__(self, context: Context) -> None:
        self.context = context
        models = list(context.engine.models)
        self.menu = gr.Dropdown(models, value=models[0], label=text("model"), filterable=False)
        context.menus[self.menu] = partial(choices, context)
        self.licence = gr.Markdown("", elem_classes="licence", container=False)
        self.controls = context.controls(*OF_MODELS)
        for component, state in zip(self.controls.values(), self._states(models[0]), strict=True):
            component.visible = state["visible"]
        self.menu.change(
            self.choose, [self.menu], [self.licence, *self.controls.values()], queue=False, show_progress="hidden", **PRIVATE
        )

    def choose(self, request: gr.Request, model: str) -> list[Any]:
        """Tell of the model that was chosen, and show the options that it has."""
        return [licence(self.context, request, model), *self._states(model)]

    def _states(self, model: str) -> list[Any]:
        try:
            has = self.context.engine.facts(model).options
        except PFRError:  # said in its line
            has = ()
        return [gr.update(visible=name in has, value=specs(RestoreOptions)[name].default) for name in OF_MODELS]


def choices(context: Context, request: gr.Request) -> list[tuple[str, str]]:
    """Return what a menu of the models shows, and their names."""
    facts = [(model, summary(context, request, model)) for model in context.engine.models]
    return [(f"{model} ({what})" if what else model, model) for model, what in facts]


def summary(context: Context, request: gr.Request, model: str) -> str:
    """Return size and download of a model in a few words; nothing if it cannot be used."""
    try:
        facts = context.engine.facts(model)
    except PFRError:
        return ""
    size = f"{facts.size} px"
    return f"{size}, {say(request, 'model_download', size=f'{facts.bytes / 1e6:.0f}')}" if facts.bytes else size


def licence(context: Context, request: gr.Request, model: str) -> str:
    """Return the licence of a model, or why it cannot be used."""
    try:
        return say(request, "weights", name=model, licence=context.engine.facts(model).licence)
    except PFRError as error:
        return say(request, "weights_unusable", name=model, why=context.page_error(error, request).message)
