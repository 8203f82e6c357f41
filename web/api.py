"""The named endpoints for programs: ``/detect`` and ``/restore``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr

from pfr_core.options import RestoreOptions
from pfr_core.support.notice import Notice

from .components import uploads_only
from .context import GPU_QUEUE, Context
from .controls import SEARCH, controls, quality_control


class Api:
    """Hidden components with the endpoints' parameters, and the endpoints."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with gr.Column(visible=False):
            photo = uploads_only(gr.File(label="photo"))
            model = gr.Dropdown(list(context.engine.models), label="model")
            options = controls(*(name for name in RestoreOptions.__dataclass_fields__ if name != "indices"))
            options["indices"] = gr.JSON([], label="indices")
            options["quality"] = quality_control()
            file, facts = gr.File(label="restored"), gr.JSON(label="facts")
            hold = context.hold
            gr.Button().click(
                self.detect, [photo], [facts], inputs_kwargs={name: options[name] for name in SEARCH},
                validator=hold, api_name="detect", **GPU_QUEUE,
            )  # fmt: skip
            gr.Button().click(
                self.restore, [photo, model], [file, facts], inputs_kwargs=options,
                validator=hold, api_name="restore", **GPU_QUEUE,
            )  # fmt: skip

    def detect(self, request: gr.Request, photo: str, **options: Any) -> dict[str, Any]:
        """Find the faces of a photo: size in px, and box, score and five points of each face, from left to right."""
        with self.context.visit(request):
            source = self.context.read(photo)
            found = self.context.engine.find(source.pixels, RestoreOptions(**options, only_bad_faces=False))
            height, width = source.pixels.shape[:2]
            return {
                "width": width,
                "height": height,
                "faces": [face.to_dict() for face in found.faces],
                "notices": self._notices((*source.notices, *found.notices)),
            }

    def restore(
        self,
        request: gr.Request,
        photo: str,
        model: str,
        *,
        max_face_size: int | None = None,  # Gradio asks for these three otherwise: None in a component is no default to it
        count: int | None = None,
        quality: int | None = None,
        indices: list[int] | None,
        **options: Any,
    ) -> list[Any]:
        """Restore a photo as `pfr restore` does: the file in its own format, and the faces that were restored."""
        with self.context.visit(request) as session:
            chosen = RestoreOptions(max_face_size=max_face_size, count=count, indices=tuple(indices or ()), **options)
            source = self.context.read(photo)
            self.context.limits.check_scale(source, chosen.scale)
            self.context.fetch(model, session)
            with self.context.engine.use(model) as restorer:
                file = restorer.restore_file(source, session.new_folder(), options=chosen, quality=quality)
            faces = [face.to_dict() for face in file.restored.faces]
            return [str(file.path), {"changed": file.changed, "faces": faces, "notices": self._notices(file.notices)}]

    def _notices(self, notices: Iterable[Notice]) -> list[dict[str, Any]]:
        return [{**notice.to_dict(), "text": self.context.without_folders(notice.text)} for notice in notices]
