"""The photo tab: find the faces, pick, restore, compare, download."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from pfr_core.compose import crop_faces
from pfr_core.faces.face import Face
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import FloatImage
from pfr_core.photo.photo import Photo
from pfr_core.photo.restored import own_suffix, write_restored

from . import pictures
from .components import photo_input
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH, controls
from .sessions import Session

SHOW_RESULT = "() => document.getElementById('slider').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
"""On a phone the result is below the button."""


@dataclass
class OpenPhoto:
    """What is kept of a visitor's photo between two clicks. Pixels are not: the file is read again when they are needed.

    Attributes:
        path: the upload.
        faces: as found, left to right.
        included: numbers of the faces to restore.
        model: the one that made ``after``.
        after: crops as the network restored them, [S,S,3], by number of the face.
        folders: of the pictures on the page, by what they show; the last two stay, the browser may still be loading the older.
    """

    path: Path
    faces: list[Face]
    included: set[int]
    model: str = ""
    after: dict[int, FloatImage] = field(default_factory=dict)
    folders: dict[str, list[Path]] = field(default_factory=dict)

    def new_folder(self, session: Session, what: str) -> Path:
        """A folder for the next pictures of this kind; old ones go."""
        *old, last = [*self.folders.get(what, []), session.new_folder()]
        for folder in old[:-1]:
            shutil.rmtree(folder, ignore_errors=True)
        self.folders[what] = [*old[-1:], last]
        return last

    def delete_pictures(self) -> None:
        """Another photo takes this one's place."""
        for folder in [folder for folders in self.folders.values() for folder in folders]:
            shutil.rmtree(folder, ignore_errors=True)


class PhotoTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context, example: Path) -> None:
        self.context = context
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.upload = photo_input(label="Photo", sources=["upload", "clipboard", "webcam"], height=320, elem_id="photo")
                gr.Examples([[str(example)]], [self.upload], label="Example", cache_examples=False)
                self.found = gr.Markdown("", elem_id="found", container=False)
                self.faces = gr.Gallery(
                    label="Faces", show_label=False, columns=4, fit_columns=False, height="auto", object_fit="cover",
                    allow_preview=False, visible=False, buttons=[], elem_id="faces",
                )  # fmt: skip
                self.drawn = gr.Image(label="Faces found", height=240, visible=False, buttons=["fullscreen"], elem_id="drawn")
                self.strength = controls("strength")["strength"]
                self.start = gr.Button("Restore", variant="primary", size="lg", interactive=False, elem_id="restore")
                with gr.Accordion("Settings", open=False):
                    self.model = gr.Dropdown(list(context.engine.models), label="Model", filterable=False)
                    self.blend = controls(*(name for name in BLEND if name not in ("feather", "keep_gray")))
                    with gr.Accordion("Advanced", open=False):
                        self.search = controls(*SEARCH)
                        self.blend |= controls("feather", "keep_gray")
            with gr.Column(scale=7, min_width=320):
                self.slider = gr.ImageSlider(
                    label="Before | after", type="filepath", format="png", image_mode=None, max_height=720,
                    interactive=False, buttons=["fullscreen"], elem_id="slider",
                )  # fmt: skip
                self.told = gr.Markdown("", elem_id="told")
                self.download = gr.DownloadButton(
                    "Download the restored photo", variant="primary", size="lg", interactive=False, elem_id="download"
                )
                self.pairs = gr.Gallery(
                    label="Faces before and after", show_label=False, columns=2, fit_columns=False, height="auto",
                    object_fit="contain", visible=False, buttons=["fullscreen"], elem_id="pairs",
                )  # fmt: skip
        self._connect()

    def _connect(self) -> None:
        finding = [self.found, self.drawn, self.faces, self.start]
        result = [self.slider, self.told, self.download, self.pairs]
        blend = {"strength": self.strength, **self.blend}
        gr.on(
            [self.upload.change, *(each.change for each in self.search.values())],
            self.open, [self.upload], [*finding, *result], inputs_kwargs=self.search, validator=self.context.hold,
            show_progress_on=[self.upload], trigger_mode="always_last", **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip
        restored = self.start.click(
            self.restore, [self.model], result, inputs_kwargs=blend, show_progress_on=[self.slider], **GPU_QUEUE, **PRIVATE
        )
        restored.then(None, js=SHOW_RESULT, queue=False, **PRIVATE)
        settings: dict[str, Any] = {
            "inputs_kwargs": blend, "show_progress": "minimal", "trigger_mode": "always_last",
            "concurrency_id": "compose", "concurrency_limit": 2, **PRIVATE,
        }  # fmt: skip
        self.faces.select(self.toggle, None, [self.drawn, self.faces, *result], **settings)
        gr.on([each.change for each in blend.values()], self.change, None, result, **settings)

    def open(self, request: gr.Request, path: str | None, **search: Any) -> list[Any]:
        """A photo was dropped in, or is looked through again with other settings."""
        with self.context.visit(request) as session, session.lock:
            if session.photo is not None:
                session.photo.delete_pictures()
            session.photo = None
            if path is None:
                return ["", _hidden(), _hidden(), gr.Button(interactive=False), *_no_result()]
            photo = self.context.read(path)
            found = self.context.engine.find(photo.pixels, RestoreOptions(**search))
            session.photo = OpenPhoto(Path(path), found, set(range(len(found))))
            if not found:
                text = (
                    "**No face was found.** Under Settings, Advanced: lower the detection threshold, or look for faces at a "
                    "larger size, or sideways."
                )
                return [text, _hidden(), _hidden(), gr.Button(interactive=False), *_no_result()]
            drawn, faces = self._show_faces(session, photo)
            count = "1 face" if len(found) == 1 else f"{len(found)} faces"
            return [f"**{count} found.** Tap one to leave it out.", drawn, faces, gr.Button(interactive=True), *_no_result()]

    def restore(self, request: gr.Request, model: str, progress: gr.Progress = gr.Progress(), **blend: Any) -> list[Any]:  # noqa: B008
        """Run the network over the included faces that it has not seen yet, and put them back."""
        with self.context.visit(request) as session, session.lock:
            state = _photo_of(session)
            session.stop.clear()
            photo = self.context.read(state.path)
            self.context.limits.check_scale(photo, blend["scale"])
            with self.context.engine.use(model) as restorer:
                if state.model != model:
                    state.model, state.after = model, {}
                missing = [number for number in sorted(state.included) if number not in state.after]
                before = restorer.crop(photo.pixels, [state.faces[number] for number in missing])
                after = restorer.restore_crops(
                    before,
                    progress=lambda done, total: progress((done, total), desc="Restoring", unit="faces"),
                    should_stop=session.stop.is_set,
                )
                state.after.update(zip(missing, after, strict=True))
            return self._compose(session, photo, RestoreOptions(**blend))

    def toggle(self, request: gr.Request, event: gr.SelectData, **blend: Any) -> list[Any]:
        """A face was tapped: leave it out, or include it."""
        with self.context.visit(request) as session, session.lock:
            state = _photo_of(session)
            state.included ^= {int(event.index)} & set(range(len(state.faces)))
            photo = self.context.read(state.path)
            return [*self._show_faces(session, photo), *self._recompose(session, photo, blend)]

    def change(self, request: gr.Request, **blend: Any) -> list[Any]:
        """A setting changed that needs no network."""
        with self.context.visit(request) as session, session.lock:
            if session.photo is None or not session.photo.after:
                return [gr.skip()] * 4
            photo = self.context.read(session.photo.path)
            return self._recompose(session, photo, blend)

    def _recompose(self, session: Session, photo: Photo, blend: dict[str, Any]) -> list[Any]:
        if not session.photo.after:
            return [gr.skip()] * 4
        return self._compose(session, photo, RestoreOptions(**blend))

    def _compose(self, session: Session, photo: Photo, options: RestoreOptions) -> list[Any]:
        """Put the restored faces that are included into the photo; no network but the parser's for that mask."""
        state: OpenPhoto = session.photo
        self.context.limits.check_scale(photo, options.scale)
        numbers = [number for number in sorted(state.included) if number in state.after]
        waiting = len(state.included) - len(numbers)
        size = next(iter(state.after.values())).shape[0] if state.after else 64
        faces = [state.faces[number] for number in numbers]
        before = crop_faces(photo.pixels, faces, size)
        after = np.stack([state.after[number] for number in numbers]) if numbers else before
        result, mask = self.context.engine.paste(photo.pixels, faces, before, after, options)
        folder = state.new_folder(session, "result")
        target = folder / f"{photo.path.stem}_restored{own_suffix(photo)}"
        changed = bool(mask.any())
        write_restored(target, photo, result, changed=changed, provenance=self.context.engine.provenance(state.model))
        pairs = [
            (pictures.save(folder / f"face_{number + 1}.png", pictures.side_by_side(old, new)), f"Face {number + 1}")
            for number, old, new in zip(numbers, before, after, strict=True)
        ]
        height, width = result.shape[:2]
        told = f"**{len(numbers)} of {len(state.faces)} faces restored**, {width} x {height} px."
        if not changed:
            told += " **Nothing was changed**: no face is included, or the strength is 0."
        if waiting:
            told += f" {waiting} included later: press Restore for them."
        if pairs:
            told += " Below, each face before and as the network restored it."
        return [
            gr.ImageSlider(value=pictures.comparison(folder, photo, result)),
            told,
            gr.DownloadButton(value=str(target), interactive=True),
            gr.Gallery(value=pairs, visible=bool(pairs)),
        ]

    def _show_faces(self, session: Session, photo: Photo) -> list[Any]:
        state: OpenPhoto = session.photo
        folder = state.new_folder(session, "faces")
        drawn = pictures.save(folder / "faces.jpg", pictures.draw_faces(photo.pixels, state.faces, state.included))
        shown = []
        for number, image in enumerate(pictures.thumbnails(photo.pixels, state.faces, state.included)):
            caption = f"Face {number + 1}" if number in state.included else f"{number + 1} left out"
            shown.append((pictures.save(folder / f"{number + 1}.png", image), caption))
        return [gr.Image(value=drawn, visible=True), gr.Gallery(value=shown, visible=True, selected_index=None)]


def _photo_of(session: Session) -> OpenPhoto:
    if session.photo is None:
        raise gr.Error("There is no photo here any more. Drop it in again.", duration=60, print_exception=False)
    return session.photo


def _hidden() -> Any:
    return gr.update(value=None, visible=False)


def _no_result() -> list[Any]:
    return [None, "", gr.DownloadButton(value=None, interactive=False), _hidden()]
