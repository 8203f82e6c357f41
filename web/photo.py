"""The photo tab: find the faces, pick, restore, compare, download."""

from __future__ import annotations

import shutil
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core import Face, FaceRestorer, PhotoSession, RestoreOptions
from pfr_core.photo.arrays import Array, FloatImage
from pfr_core.photo.photo import Photo
from pfr_core.session import RestoredArray

from . import pictures
from .components import photo_input
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH, controls, quality_control
from .models import ModelMenu
from .sessions import Session

SHOW_RESULT = "() => document.getElementById('slider').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
"""On a phone the result is below the button."""
MOST_OPEN = 4
"""Photos whose pixels are kept between two clicks, those used last; the others are read again (ours)."""


@dataclass(eq=False)
class OpenPhoto:
    """What is kept of a visitor's photo between two clicks.

    Attributes:
        path: the upload.
        photo: what was read; None once its memory was given back.
        faces: as found, left to right.
        included: numbers of the faces to restore.
        restored: numbers of those that ``model`` has restored.
        model: the one that ``work`` was opened with.
        work: reads, cuts and runs the network only once.
        before: the picture for the left of the slider, and its size.
        folders: of the pictures on the page, by what they show; the last two stay, the browser may still be loading the older.
    """

    path: Path
    photo: Photo | None
    faces: list[Face]
    included: set[int]
    restored: set[int] = field(default_factory=set)
    model: str = ""
    work: PhotoSession[Array, FloatImage] | None = None
    before: tuple[Path, tuple[int, int]] | None = None
    folders: dict[str, list[Path]] = field(default_factory=dict)

    def work_with(self, model: str, restorer: FaceRestorer, photo: Photo) -> PhotoSession[Array, FloatImage]:
        """Return the session of the photo with this model; another model begins anew."""
        if self.work is None or self.model != model:
            self.model, self.work, self.restored = model, restorer.open(photo, faces=self.faces), set()
            self.photo = None  # it is the session's now
        return self.work

    def release(self) -> None:
        """Give back the pixels; the file is read again when they are needed."""
        self.photo = None
        if self.work is not None:
            self.work.release()

    def new_folder(self, session: Session, what: str) -> Path:
        """Make a folder for the next pictures of this kind; old ones go."""
        *old, last = [*self.folders.get(what, []), session.new_folder()]
        for folder in old[:-1]:
            shutil.rmtree(folder, ignore_errors=True)
        self.folders[what] = [*old[-1:], last]
        return last

    def delete_pictures(self) -> None:
        """Delete the pictures: another photo takes this one's place."""
        for folder in [folder for folders in self.folders.values() for folder in folders]:
            shutil.rmtree(folder, ignore_errors=True)


class PhotoTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context, example: Path) -> None:
        self.context = context
        self._lock, self._recent = threading.Lock(), list[weakref.ref[OpenPhoto]]()
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
                    self.model = ModelMenu(context)
                    self.blend = controls(*(name for name in BLEND if name not in ("feather", "keep_gray")))
                    self.quality = quality_control()
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
        blend = {"strength": self.strength, **self.blend, "quality": self.quality}
        gr.on(
            [self.upload.change, *(each.change for each in self.search.values())],
            self.open, [self.upload], [*finding, *result], inputs_kwargs=self.search, validator=self.context.hold,
            show_progress_on=[self.upload], trigger_mode="always_last", **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip
        restored = self.start.click(
            self.restore, [self.model.menu], result, inputs_kwargs={**blend, **self.model.controls},
            show_progress_on=[self.slider], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip
        restored.then(None, js=SHOW_RESULT, queue=False, **PRIVATE)
        settings: dict[str, Any] = {
            "inputs_kwargs": blend, "show_progress": "minimal", "trigger_mode": "always_last",
            "concurrency_id": "compose", "concurrency_limit": 2, **PRIVATE,
        }  # fmt: skip
        self.faces.select(self.toggle, None, [self.drawn, self.faces, *result], **settings)
        gr.on([each.change for each in blend.values()], self.change, None, result, **settings)

    def open(self, request: gr.Request, path: str | None, **search: Any) -> list[Any]:
        """Open a photo that was dropped in, or look through it again with other settings."""
        with self.context.visit(request) as session, session.lock:
            before: OpenPhoto | None = session.photo
            if before is not None:
                before.delete_pictures()
            session.photo = None
            if path is None:
                return ["", _hidden(), _hidden(), gr.Button(interactive=False), *_no_result()]
            same = before is not None and before.path == Path(path)
            photo = self._read(before) if before is not None and same else self.context.read(path)
            found = self.context.engine.find(photo.pixels, RestoreOptions(**search))
            notices = self.context.told((*photo.notices, *found.notices))
            faces = found.candidates
            session.photo = state = OpenPhoto(Path(path), photo, faces, set(found.numbers))
            self._read(state)
            if not faces:
                text = (
                    "**No face was found.** Under Settings, Advanced: lower the detection threshold, or look for faces at a "
                    "larger size, or sideways."
                )
                return [text + notices, _hidden(), _hidden(), gr.Button(interactive=False), *_no_result()]
            count = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
            text = f"**{count} found.** Tap one to leave it out, or to take it again.{notices}"
            return [text, *self._show_faces(session, photo), gr.Button(interactive=True), *_no_result()]

    def restore(
        self,
        request: gr.Request,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        quality: int | None = None,
        **blend: Any,
    ) -> list[Any]:
        """Run the network over the included faces that it has not seen yet, and put them back."""
        with self.context.visit(request) as session, session.lock:
            state = _photo_of(session)
            session.stop.clear()
            photo, options = self._read(state), RestoreOptions(**blend)
            self.context.limits.check_scale(photo, options.scale)

            def report(stage: str, done: int, total: int) -> None:
                if stage == "restore":
                    progress((done, total), desc="Restoring", unit="faces")

            self.context.fetch(model, session, progress)
            with self.context.engine.use(model) as restorer:
                work = state.work_with(model, restorer, photo)
                included = [state.faces[number] for number in sorted(state.included)]
                result = work.restore(options, faces=included, progress=report, should_stop=session.stop.is_set)
            state.restored |= state.included
            return self._show(session, work, result, quality)

    def toggle(self, request: gr.Request, event: gr.SelectData, quality: int | None = None, **blend: Any) -> list[Any]:
        """Leave a face that was tapped out, or include it."""
        with self.context.visit(request) as session, session.lock:
            state = _photo_of(session)
            state.included ^= {int(event.index)} & set(range(len(state.faces)))
            return [*self._show_faces(session, self._read(state)), *self._compose(session, blend, quality)]

    def change(self, request: gr.Request, quality: int | None = None, **blend: Any) -> list[Any]:
        """Show the photo with a changed setting that needs no network."""
        with self.context.visit(request) as session, session.lock:
            return self._compose(session, blend, quality)

    def _read(self, state: OpenPhoto) -> Photo:
        """Return the photo with its pixels; only those of the photos used last are kept."""
        with self._lock:
            open_photos = [each for each in (kept() for kept in self._recent) if each is not None and each is not state]
            self._recent = [weakref.ref(each) for each in (*open_photos, state)][-MOST_OPEN:]
        for each in open_photos[: 1 - MOST_OPEN]:
            each.release()
        if state.work is not None:
            return state.work.photo
        if state.photo is None:
            state.photo = self.context.read(state.path)
        return state.photo

    def _compose(self, session: Session, blend: dict[str, Any], quality: int | None) -> list[Any]:
        """Put the restored faces that are included into the photo; no network but the parser's for that mask."""
        state: OpenPhoto | None = session.photo
        if state is None or state.work is None or not state.restored:
            return [gr.skip()] * 4
        options = RestoreOptions(**blend)
        self.context.limits.check_scale(self._read(state), options.scale)
        with self.context.engine.composing(options):
            result = state.work.compose(options, faces=[state.faces[number] for number in sorted(state.included)])
        return self._show(session, state.work, result, quality)

    def _show(
        self, session: Session, work: PhotoSession[Array, FloatImage], result: RestoredArray, quality: int | None
    ) -> list[Any]:
        """Return the result on the page, and its file."""
        state: OpenPhoto = session.photo
        numbers = sorted(state.included & state.restored)
        waiting = len(state.included) - len(numbers)
        folder = state.new_folder(session, "result")
        file = work.save(result, folder, quality=quality)
        pairs = [
            (pictures.save(folder / f"face_{number + 1}.png", pictures.side_by_side(old, new)), f"Face {number + 1}")
            for number, old, new in zip(numbers, result.crops_before, result.crops_after, strict=True)
        ]
        height, width = result.image.shape[:2]
        if state.before is None or state.before[1] != (width, height):
            before = state.new_folder(session, "before") / "before.png"
            pictures.save_comparable(before, work.pixels, width, height, work.photo)
            state.before = before, (width, height)
        after = folder / "after.png"
        pictures.save_comparable(after, result.image, width, height, work.photo)
        told = f"**{len(numbers)} of {len(state.faces)} faces restored**, {width} x {height} px."
        if not file.changed:
            told += " **Nothing was changed**: no face is included, or the strength is 0."
        if waiting:
            told += f" {waiting} included later: press Restore for them."
        if pairs:
            told += " Below, each face before and as the network restored it."
        return [
            gr.ImageSlider(value=(str(state.before[0]), str(after))),
            told + self.context.told(file.notices),
            gr.DownloadButton(value=str(file.path), interactive=True),
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
