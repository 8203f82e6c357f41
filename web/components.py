"""Inputs that take what was uploaded, and hand it over as it is."""

from __future__ import annotations

from typing import Any

import gradio as gr


def photo_input(**settings: Any) -> gr.Image:
    """Return a photo by upload, paste or webcam: the function gets the path of the uploaded file, whatever is in it."""
    component = gr.Image(type="filepath", image_mode=None, format="png", **settings)
    # gr.Image would open the file, and speak of a non-image in words that help nobody. Replaced on the object: Gradio writes a
    # .pyi file beside every module that subclasses a component.
    component.preprocess = lambda payload: None if payload is None else payload.path
    # An upload is the visitor's, and stays, from the first event that takes it; the button beside it may come long after.
    component.change(lambda path: None, [component], None, show_progress="hidden", api_visibility="private")
    return component


def as_given(component: gr.components.Component) -> gr.components.Component:
    """Hand a value over as it came: our own check names the parameter, what was given and what may be."""
    component.preprocess = lambda payload: payload
    return component
