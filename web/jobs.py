"""Long work behind a button: shown while it waits and runs, stopped by another button or by closing the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from .context import PRIVATE, Context
from .texts import text


def connect_job(
    context: Context,
    name: str,
    start: gr.Button,
    stop: gr.Button,
    run: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    **settings: Any,
) -> None:
    """Let ``start`` run ``run(request, *inputs, **inputs_kwargs)``, and ``stop`` ask the session's jobs beside ``name`` to end.

    Asked, and not ended by Gradio's own ``cancels``: that would leave the thread running, and drop what is done already.
    """

    def arm(request: gr.Request) -> list[Any]:
        with context.sessions.use(request.session_hash) as session:
            session.arm(name)
        return [gr.Button(visible=False), gr.Button(text("stop"), visible=True, interactive=True)]

    def ask_to_stop(request: gr.Request) -> Any:
        with context.sessions.use(request.session_hash) as session:
            session.stop(name)
        return gr.Button(text("stopping"), interactive=False)

    def disarm() -> list[Any]:
        return [gr.Button(visible=True), gr.Button(visible=False)]

    buttons = [start, stop]
    armed = start.click(arm, None, buttons, queue=False, show_progress="hidden", **PRIVATE)
    done = armed.then(run, inputs, outputs, **settings)
    for after in (done.then, done.failure):  # Gradio's page leaves out what follows with `then` if the job failed
        after(disarm, None, buttons, queue=False, show_progress="hidden", **PRIVATE)
    stop.click(ask_to_stop, None, [stop], queue=False, show_progress="hidden", **PRIVATE)
