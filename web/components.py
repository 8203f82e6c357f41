"""Inputs that take what was uploaded, and hand it over as it is."""

from __future__ import annotations

from typing import Any, TypeVar

import gradio as gr

Component = TypeVar("Component", bound=gr.components.Component)


def photo_input(**settings: Any) -> gr.Image:
    """Return a photo by upload, paste or webcam: the function gets the path of the uploaded file, whatever is in it."""
    component = gr.Image(type="filepath", image_mode=None, format="png", **settings)
    # gr.Image would open the file, and speak of a non-image in words that help nobody. Replaced on the object: Gradio writes a
    # .pyi file beside every module that subclasses a component.
    component.preprocess = lambda payload: None if payload is None else payload.path
    return uploads_only(component)


def uploads_only(component: Component) -> Component:
    """Refuse addresses: Gradio would fetch them, whatever their size."""
    move = component.async_move_resource_to_block_cache

    async def files_only(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("Upload a file; addresses are not fetched.", print_exception=False)
        return await move(path)

    component.async_move_resource_to_block_cache = files_only
    return component
