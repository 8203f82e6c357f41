"""The named endpoints for programs: ``/detect`` and ``/restore``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr

from pfr_core.find import refuse_missing
from pfr_core.options import RestoreOptions
from pfr_core.photo.write import check_quality
from pfr_core.support.notice import Notice
from pfr_core.support.schema import Spec, specs

from .components import as_given
from .context import GPU_QUEUE, Context
from .controls import SEARCH, quality_control

EXAMPLE = {"path": "photo.jpg", "url": "photo.jpg", "orig_name": "photo.jpg", "meta": {"_type": "gradio.FileData"}}


class Api:
    """Hidden components with the endpoints' parameters, and the endpoints."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with gr.Column(visible=False):
            photo = gr.File(label="photo")
            photo.example_payload = lambda: EXAMPLE
            model = as_given(gr.Dropdown(list(context.engine.models), label="model"))
            options = context.controls(
                *(name for name in RestoreOptions.__dataclass_fields__ if name != "indices"), by_number=True
            )
            options["indices"] = as_given(gr.JSON([], label="indices"))
            for name, component in options.items():
                _describe(component, specs(RestoreOptions)[name])
            options["quality"] = quality_control()
            file, facts = gr.File(label="restored"), gr.JSON(label="facts")
            gr.Button().click(
                self.detect, [photo], [facts], inputs_kwargs={name: options[name] for name in SEARCH},
                api_name="detect", **GPU_QUEUE,
            )  # fmt: skip
            gr.Button().click(
                self.restore, [photo, model], [file, facts], inputs_kwargs=options, api_name="restore", **GPU_QUEUE,
            )  # fmt: skip

    def detect(self, request: gr.Request, photo: str, **options: Any) -> dict[str, Any]:
        """Find the faces of a photo: size in px, and box, score and five points of each face, from left to right."""
        with self.context.job(request) as job:
            chosen = self.context.options({**options, "only_bad_faces": False})
            source = self.context.read(photo)
            found = self.context.engine.find(source.pixels, chosen, job.should_stop)
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
        **options: Any,
    ) -> list[Any]:
        """Restore a photo as `pfr restore` does: the file in its own format, and the faces that were restored."""
        with self.context.job(request) as job:
            chosen = self.context.options({"max_face_size": max_face_size, "count": count, **options})
            check_quality(quality)
            source = self.context.read(photo)
            self.context.limits.check_scale(source, chosen.scale)
            self.context.fetch(request, model, job, mask=chosen.mask)
            with self.context.engine.use(model) as restorer:
                work = restorer.open(source)
                found = work.find(chosen, should_stop=job.should_stop)
                refuse_missing(found)
                self.context.limits.check_faces(len(found.faces))
                result = work.restore(chosen, should_stop=job.should_stop)
                file = work.save(result, job.session.new_folder(), quality=quality)
            faces = [face.to_dict() for face in file.restored.faces]
            return [str(file.path), {"changed": file.changed, "faces": faces, "notices": self._notices(file.notices)}]

    def _notices(self, notices: Iterable[Notice]) -> list[dict[str, Any]]:
        told = [*notices]
        for notice in told:
            self.context.for_operator(notice)
        return [{**notice.to_dict(), "text": self.context.without_folders(notice.text)} for notice in told]


def _describe(component: Any, spec: Spec) -> None:
    """Say on the API page what a value may be."""
    info = component.api_info()
    kind = info if spec.kind == "choice" else {"type": {"integer": "integer", "number": "number", "flag": "boolean"}[spec.kind]}
    if spec.many:
        kind = {"type": "array", "items": kind}
    limits = f"; from {spec.low:g} to {spec.high:g}" if spec.low is not None and spec.high is not None else ""
    none = "; None: no limit" if spec.optional else ""
    component.api_info = lambda: {**kind, "additional_description": f"{spec.help}{limits}{none}"}
