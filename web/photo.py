"""The photo tab: a photo that is dropped is restored at once; then compare, click faces, move settings, save."""

from __future__ import annotations

import logging
import shutil
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core import Face, PhotoSession
from pfr_core.errors import InputError, PFRError, ShouldStop
from pfr_core.faces.sharpness import JUDGED_SIDE
from pfr_core.find import choose_in
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import Array, FloatImage, fitted
from pfr_core.photo.photo import Photo
from pfr_core.photo.restored import keeps_format, of_copy, own_suffix
from pfr_core.session import RestoredArray
from pfr_core.support.notice import Notice, beside_no_face
from pfr_core.work import network_options

from . import pictures
from .context import GPU_QUEUE, PRIVATE, SHOWN_SECONDS, Context
from .controls import BLEND, SEARCH, quality_control
from .gallery import NAMES, Example
from .models import ModelMenu
from .sessions import Job, Session
from .texts import LANGUAGES, say, text, words

log = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parent / "assets"
STAGE_WORDS = (
    "drop", "choose", "drop_hint", "examples_hint", *NAMES.values(), "before", "after", "photo_before", "photo_after", "border",
    "face", "faces", "leave_out", "take_in",
)  # fmt: skip
AT_ONCE = "pfr-save-at-once"
"""Where the browser remembers whether photos are to be saved as soon as they are restored."""
STOP = "photo"
"""The Stop button of this tab."""
COMPOSED_AT_ONCE = 2
"""Photos of all visitors that are put together at the same time (ours)."""
MOST_PAIRS = 24
"""Faces shown one by one below the settings (ours)."""


@dataclass(eq=False)
class OpenPhoto:
    """What is kept of a visitor's photo between two clicks.

    Attributes:
        path: the upload.
        lock: the session's.
        folder: for what is put aside.
        photo: what was read; None once it is the session's, or its memory was given back.
        size: width and height of the photo in px.
        faces: as found, left to right.
        search: how they were looked for.
        included: numbers of the faces to restore.
        sharp: numbers of those that are sharp already.
        side: of the model's faces in px, for which they are.
        small: the photo as large as it is shown, of its own depth; made anew when it is needed.
        found: what was noticed in reading and finding.
        noticed: what was noticed when the faces were last put back in full.
        restored: numbers of the faces that were restored as ``how`` says.
        how: the model that ``work`` was opened with, and the network's options of the last restoration.
        work: reads, cuts and runs the network only once.
        before: the picture for the left of the border.
        told: what was said of it last.
        too_large: whether the last restoration was refused, for its scale.
    """

    path: Path
    lock: threading.RLock
    folder: Path
    photo: Photo | None
    size: tuple[int, int]
    faces: list[Face]
    search: RestoreOptions
    included: set[int]
    sharp: set[int]
    side: int
    small: Array | None = None
    found: tuple[Notice, ...] = ()
    noticed: tuple[Notice, ...] = ()
    restored: set[int] = field(default_factory=set)
    how: tuple[object, ...] = ()
    work: PhotoSession[Array, FloatImage] | None = None
    before: str | None = None
    told: str = ""
    too_large: bool = False

    @property
    def complete(self) -> bool:
        """Whether the network has seen every face that is included."""
        return self.included <= self.restored

    def take(self, work: PhotoSession[Array, FloatImage], how: tuple[object, ...]) -> None:
        """Take the session that restored the included faces so; those that were restored otherwise are so no more."""
        if self.how != how:
            self.restored = set()
        self.work, self.how = work, how
        self.restored |= self.included
        self.photo = None  # it is the session's now

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        arrays = (self.small, None if self.photo is None else self.photo.pixels)
        return sum(array.nbytes for array in arrays if array is not None) + (0 if self.work is None else self.work.nbytes)

    def put_aside(self) -> None:
        """Give back the memory: the file is read again, and the restored crops come back from disk, when they are needed."""
        self.photo = self.small = None
        if self.work is not None:
            self.work.put_aside(self.folder / "crops.npz")

    def close(self) -> None:
        """Give back the memory: another photo takes this one's place."""
        self.photo = self.small = self.work = None
        shutil.rmtree(self.folder, ignore_errors=True)


class PhotoTab:
    """The tab's components, and what happens when they are used.

    Args:
        context: of the page.
        examples: photos to try.
    """

    def __init__(self, context: Context, examples: list[Example]) -> None:
        self.context = context
        self._lock, self._recent = threading.Lock(), list[weakref.ref[OpenPhoto]]()
        self._composing = threading.BoundedSemaphore(COMPOSED_AT_ONCE)
        with gr.Row(equal_height=False):
            with gr.Column(scale=8, min_width=320):
                self.stage = gr.HTML(
                    value={}, html_template='<div class="stage"></div>', js_on_load=(ASSETS / "stage.js").read_text("utf-8"),
                    apply_default_css=False, elem_id="stage",
                    examples=[
                        {"file": str(each.photo), "result": str(each.result), "label": each.label} for each in examples
                    ],
                    words={language: {name: words(language)[name] for name in STAGE_WORDS} for language in LANGUAGES},
                )  # fmt: skip
                with gr.Row(elem_id="bar", visible=False) as self.bar:
                    self.download = gr.Button(text("download"), variant="primary", size="lg", visible=False, elem_id="download")
                    self.stop = gr.Button(text("stop"), variant="stop", size="lg", visible=False, elem_id="stop")
                    self.another = gr.Button(text("another"), size="lg", elem_id="another")
                self.told = gr.Markdown("", elem_id="told", container=False)
            with gr.Column(scale=3, min_width=280):
                strength = context.controls("strength")
                self.model = ModelMenu(context)
                main = context.controls(*(name for name in BLEND if name not in ("feather", "keep_gray")))
                self.at_once = gr.Checkbox(label=text("save_at_once"), info=text("help_save_at_once"), elem_id="at-once")
                with gr.Accordion(text("advanced"), open=False):
                    more = context.controls("feather", "keep_gray")
                    self.quality = quality_control()
                    self.search = context.controls(*SEARCH)
                self.blend: dict[str, Any] = {**strength, **main, **more}
                with gr.Accordion(text("pairs"), open=False, visible=False) as self.pairs_box:
                    self.pairs = gr.Gallery(
                        label=text("pairs"), show_label=False, columns=1, fit_columns=False, height="auto",
                        object_fit="contain", allow_preview=False, buttons=[], elem_id="pairs",
                    )  # fmt: skip
        self._connect()

    def _connect(self) -> None:
        shown, pairs = [self.stage, self.told], [self.pairs_box, self.pairs]
        buttons = [self.bar, self.download, self.stop]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}
        network = {**self.blend, **self.model.controls}
        long: dict[str, Any] = {"show_progress_on": [self.stage], **GPU_QUEUE, **PRIVATE}

        state = [self.told, *buttons]

        def ended(job: Any) -> None:
            job.then(self.disarm, None, state, **quick)
            job.failure(self.give_up, None, state, **quick)  # Gradio leaves out `then` if the job failed

        def restoring(
            after: Any, restore: Any, *more: Any, progress: str = "full", mode: str = "always_last", **kept: Any
        ) -> None:
            how = {"inputs_kwargs": {**network, **kept}, "show_progress": progress, "trigger_mode": mode, **long}
            ended(after(restore, [self.model.menu, *more], [*shown, *pairs], **how))

        changed = [getattr(each, "release", None) or getattr(each, "blur", None) or each.change for each in self.search.values()]
        # Gradio drops an event while one of its kind is on its way, one that follows another too, unless it has another mode:
        # "multiple", for of two photos the second is the wanted one; "always_last" for what is moved further meanwhile.
        dropped = self.stage.upload(self.take, None, state, trigger_mode="multiple", **quick)
        again = gr.on(changed, self.look, None, state, trigger_mode="always_last", **quick)
        opened = [
            armed.success(open_it, [self.model.menu], [*shown, *pairs], inputs_kwargs=self.search, trigger_mode=mode, **long)
            for armed, open_it, mode in ((dropped, self.open_dropped, "multiple"), (again, self.open_again, "always_last"))
        ]
        # A restoration that waits yet takes the photo that is open when its turn comes: a second one would save it twice.
        restoring(opened[0].success, self.restore_dropped, self.at_once, quality=self.quality, mode="once")
        restoring(opened[1].success, self.restore)
        for each, failed in zip(opened, (self.give_up_dropped, self.give_up), strict=True):
            each.failure(failed, None, state, **quick)
        asked = [self.model.menu.change, *(each.release for each in self.model.controls.values())]
        restoring(gr.on(asked, self.arm, None, buttons, **quick).success, self.restore)
        settings: dict[str, Any] = {
            # Without a limit of Gradio's: who waits for his own photo's job to end must not keep others waiting.
            "inputs_kwargs": self.blend, "show_progress": "hidden", "concurrency_limit": None, **PRIVATE,
        }  # fmt: skip
        toggled = self.stage.select(self.toggle, None, shown, trigger_mode="multiple", **settings)
        toggled.failure(None, js="() => document.querySelector('#stage .stage').dispatchEvent(new Event('refused'))", **PRIVATE)
        missing = self.arm_if(lambda session, photo: not photo.complete)
        restoring(toggled.success(missing, None, state, trigger_mode="multiple", **quick).success, self.restore)
        moved = [each.change for each in self.blend.values()]
        gr.on(moved, self.change, [self.stage], shown, trigger_mode="always_last", **settings)
        # What was refused for its scale begins once that is another; a stage that fades at each move would flicker.
        refused = self.arm_if(lambda session, photo: photo.too_large or session.expects(STOP))  # what waits may be refused yet
        scaled = self.blend["scale"].change(refused, None, state, trigger_mode="always_last", **quick)
        restoring(scaled.success, self.restore, progress="hidden")
        self.download.click(self.save, None, shown, **{**settings, "inputs_kwargs": {**self.blend, "quality": self.quality}})
        self.at_once.change(None, self.at_once, js=f"wanted => localStorage.setItem('{AT_ONCE}', wanted ? 'yes' : '')", **PRIVATE)
        self.stop.click(self.ask_to_stop, None, [self.stop], **quick)
        self.another.click(None, js="() => document.querySelector('#stage .chooser').click()", queue=False, **PRIVATE)

    # --- What the page asks for ---------------------------------------------------------------------------------------

    def take(self, request: gr.Request, event: gr.EventData) -> list[Any]:
        """Note which photo was dropped; the next step opens it."""
        with self.context.visit(request) as session:
            path = str(event._data["path"])
            if int(event._data.get("of", 1)) > 1:
                gr.Info(say(request, "first_of_several"))
            self.context.sessions.page_opened(request.session_hash)  # once more, if its state was gone
            self.context.sessions.hold(request.session_hash, [path])
            session.wanted = Path(path)
            session.openings += 1
        return self.look(request)

    def look(self, request: gr.Request) -> list[Any]:
        """Show that faces are looked for, and how to stop it, if there is a photo."""
        with self.context.visit(request) as session:
            told = gr.skip() if session.wanted is None else say(request, "looking")
        return [told, *self.arm(request)]

    def arm(self, request: gr.Request) -> list[Any]:
        """Show that work goes on, and how to stop it."""
        with self.context.visit(request) as session:
            session.arm(STOP)
            there = session.wanted is not None
        return [gr.Row(visible=there), gr.Button(visible=False), gr.Button(text("stop"), visible=there, interactive=True)]

    def arm_if(self, due: Callable[[Session, OpenPhoto], bool]) -> Callable[[gr.Request], list[Any]]:
        """Return what shows that a restoration begins if it is due; if not, nothing follows."""

        def arm(request: gr.Request) -> list[Any]:
            with self.context.visit(request) as session:
                if session.photo is None or not due(session, session.photo):
                    raise gr.Error("", visible=False, print_exception=False)  # or Gradio goes on with what follows
            return [f"{say(request, 'restoring')} ...", *self.arm(request)]

        return arm

    def disarm(self, request: gr.Request) -> list[Any]:
        """Show what can be done now; while another photo or another restoration waits, that work goes on."""
        with self.context.visit(request) as session:
            state = session.photo
            other = state is not None and session.wanted != state.path
            if other or session.expects(STOP):
                told = say(request, "looking") if other else gr.skip()
                return [told, gr.skip(), gr.Button(visible=False), gr.Button(visible=True)]
            done = state is not None and state.work is not None
            return [gr.skip(), gr.Row(visible=session.wanted is not None), gr.Button(visible=done), gr.Button(visible=False)]

    def give_up(self, request: gr.Request) -> list[Any]:
        """Show what can be done after a job that failed or was stopped; a message has said why."""
        with self.context.visit(request) as session:
            session.disarm(STOP)  # Gradio leaves out what was to begin after it
            state = session.photo
            told = ""
            if state is not None:
                told = state.told if state.restored else say(request, "not_restored")
            waiting, *buttons = self.disarm(request)
            return [waiting if isinstance(waiting, str) else told, *buttons]

    def give_up_dropped(self, request: gr.Request) -> list[Any]:
        """Show what can be done after a photo was not opened: it is wanted no more, unless another opening takes it."""
        with self.context.visit(request) as session:
            session.expect_fewer()
            if not session.openings and session.photo is not None:  # where nothing is open, another search still opens it
                session.wanted = session.photo.path
        return self.give_up(request)

    def ask_to_stop(self, request: gr.Request) -> Any:
        """End the job of this page."""
        with self.context.visit(request) as session:
            session.stop(STOP)
        return gr.Button(text("stopping"), interactive=False)

    def open(self, request: gr.Request, model: str, **search: Any) -> list[Any]:
        """Read the photo and find its faces; they are shown while they are being restored."""
        with self.context.job(request, STOP, last=False) as job, job.session.lock:
            session, path = job.session, job.session.wanted
            before = session.photo
            photo: Photo | None = None
            if path is None:
                return [gr.skip()] * 4
            try:
                photo = self._read(before) if before is not None and before.path == path else self.context.read(path)
                options, side = self.context.options(search), self._side(model)
                found = self.context.engine.find(photo.pixels, options, job.should_stop, side)
            except BaseException:
                # What is on the page is what later clicks mean; where nothing is, another search opens what could be read.
                if session.wanted == path and (before is not None or photo is None):
                    session.wanted = None if before is None else before.path
                raise
            if before is not None:
                before.close()
            faces = found.candidates
            height, width = photo.pixels.shape[:2]
            # How many are left as sharp changes with each click: it is said by itself. So is that there is no face.
            noticed = [notice for notice in (*photo.notices, *beside_no_face(found.notices)) if notice.kind != "sharp_faces"]
            state = OpenPhoto(
                path, session.lock, session.new_folder(), photo, (width, height), faces,
                options,
                included=self._largest(faces, found.numbers), sharp=set(found.sharp), side=side, found=tuple(noticed),
            )  # fmt: skip
            session.photo = state
            self._keep(state)
            state.told = self._told(request, state) + self.context.told(request, state.found)
            return [self._stage(session, photo), state.told, gr.Accordion(visible=False), None]

    def open_dropped(self, request: gr.Request, model: str, **search: Any) -> list[Any]:
        """Open the photo that was dropped last."""
        shown = self.open(request, model, **search)
        with self.context.visit(request) as session:
            session.expect_fewer()
        return shown

    def open_again(self, request: gr.Request, model: str, **search: Any) -> list[Any]:
        """Find the photo's faces anew, if they are looked for otherwise than before: a slider tells also of a mere visit."""
        with self.context.visit(request) as session:
            state = session.photo
            if state is not None and state.path == session.wanted and state.search == self.context.options(search):
                return [gr.skip()] * 4
        return self.open(request, model, **search)

    def restore(self, request: gr.Request, model: str, progress: gr.Progress = gr.Progress(), **blend: Any) -> list[Any]:  # noqa: B008
        """Run the network over the included faces that it has not seen yet, and put them back."""
        with self.context.job(request, STOP) as job, job.session.lock:
            session = job.session
            if session.photo is None and session.wanted is None:  # a model is chosen before there is a photo
                return [gr.skip()] * 4
            state, options = self._photo_of(session), self.context.options(blend)
            photo = self._read(state)
            state.too_large = True
            self.context.limits.check_scale(photo, options.scale)
            state.too_large = False
            side = self._side(model)
            included, sharp = self._judged(state, photo, side, job.should_stop)
            self.context.limits.check_faces(len(included))
            if not state.faces:  # told once more: a slider tells of one move twice, and the second look stood there last
                return [gr.skip(), state.told, gr.skip(), gr.skip()]

            def report(stage: str, done: int, total: int) -> None:
                if stage == "restore":
                    progress((done, total), desc=say(request, "restoring"), unit=say(request, "unit_faces"))

            self.context.fetch(request, model, job, progress, options.mask)
            with self.context.engine.use(model) as restorer:
                # Another model's session is the photo's when it has something to show: it may be stopped before.
                work = state.work if state.work is not None and state.how[0] == model else restorer.open(photo, faces=state.faces)
                chosen = [state.faces[number] for number in sorted(included)]
                full = replace(options, strength=1.0)  # so that the slider needs no network, wherever it stands now
                result = work.restore(full, faces=chosen, progress=report, should_stop=job.should_stop)
            state.included, state.sharp, state.side = included, sharp, side  # not before: a job that is stopped leaves all
            state.take(work, (model, *network_options(full)))
            state.noticed = result.notices
            self._keep(state)
            pairs = self._pairs(session, request, result)
            with self.context.engine.composing(options, job.should_stop):
                shown = self._compose(request, job, options)
            return [*shown, gr.Accordion(visible=bool(pairs)), pairs]

    def restore_dropped(
        self,
        request: gr.Request,
        model: str,
        save: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        quality: int | None = None,
        **blend: Any,
    ) -> list[Any]:
        """Restore a photo that was dropped, and save it if that is wanted, before the next one takes its place."""
        *shown, box, pairs = self.restore(request, model, progress, **blend)
        with self.context.visit(request) as session:
            state = session.photo
            if save and state is not None and state.work is not None:  # one without a face is not worth it
                shown = self.save(request, quality, **blend)
        return [*shown, box, pairs]

    def toggle(self, request: gr.Request, event: gr.EventData, **blend: Any) -> list[Any]:
        """Leave a face that was clicked out, or include it."""
        options = self.context.options(blend)
        with self._at_rest(request, options) as job:
            state = self._photo_of(job.session)
            before = state.included
            if event._data.get("photo", state.before) == state.before:  # not the next one, that was opened meanwhile
                state.included = before ^ ({int(event._data["index"])} & set(range(len(state.faces))))
            try:
                return self._compose(request, job, options)
            except BaseException:
                state.included = before  # as the page shows it again
                raise

    def change(self, request: gr.Request, stage: object = None, **blend: Any) -> list[Any]:
        """Show the photo with a changed setting that needs no network.

        Raises:
            InputError: ``stage``, what the page shows, is a photo that is kept no more.
        """
        options = self.context.options(blend)
        with self._at_rest(request, options) as job:
            shows_one = isinstance(stage, dict) and bool(stage.get("before"))
            if shows_one and job.session.wanted is None:
                self._photo_of(job.session)
            if job.session.photo is None or job.session.photo.work is None:
                return [gr.skip()] * 2
            return self._compose(request, job, options)

    def save(self, request: gr.Request, quality: int | None = None, **blend: Any) -> list[Any]:
        """Write the restored photo in its own format, and let the browser fetch it.

        Raises:
            InputError: there is nothing to write yet.
        """
        options = self.context.options(blend)
        with self._at_rest(request, options) as job:
            session, state = job.session, self._photo_of(job.session)
            if state.work is None:
                raise InputError("Nothing is restored yet.")
            photo = self._read(state)
            self.context.limits.check_scale(photo, options.scale)
            faces = [state.faces[number] for number in sorted(state.included)]
            result = state.work.compose(options, faces=faces, should_stop=job.should_stop)
            file = state.work.save(result, session.new_folder("saved"), quality=quality)
            self._keep(state)
            state.noticed = file.notices
            stage, told = self._compose(request, job, options)
            saved = say(request, "saved_unchanged") if file.copied else say(request, "saved", name=file.path.name)
            return [{**stage, "save": str(file.path), "name": file.path.name}, f"{saved} {told}"]

    # --- What it is told ----------------------------------------------------------------------------------------------

    @contextmanager
    def _at_rest(self, request: gr.Request, options: RestoreOptions) -> Iterator[Job]:
        """Yield a job that begins when the visitor's other jobs have ended, and that may compose with these options."""
        named = set[str]()

        def report(name: str, done: int, total: int) -> None:
            if name not in named:  # a message: a progress bar would cover the picture at each move of a setting
                named.add(name)
                gr.Info(say(request, "downloading", name=name), duration=SHOWN_SECONDS)

        with self.context.job(request, last=False) as job:  # before the visitor's next job has to wait for this one
            self.context.engine.fetch_around(options.mask, report, job.should_stop)
        with (
            self.context.visit(request) as session,
            session.lock,
            self.context.job(request) as job,
            self.context.engine.composing(options, job.should_stop),
            self._composing,  # the last of all: who waits for the networks must not keep a place from those who need none
        ):
            yield job

    def _compose(self, request: gr.Request, job: Job, options: RestoreOptions) -> list[Any]:
        """Put the included restored faces into the photo as large as it is shown, and say what became of it.

        The caller holds :meth:`.Engine.composing`.
        """
        session, state = job.session, self._photo_of(job.session)
        photo = self._read(state)
        if state.work is None:
            return [self._stage(session, photo), self._told(request, state)]
        self.context.limits.check_scale(photo, options.scale)
        faces = [state.faces[number] for number in sorted(state.included)]
        small, shown = self._small(state, photo), replace(options, scale=1.0)
        result = state.work.compose(shown, faces=faces, background=small, should_stop=job.should_stop)
        after = pictures.save_shown(session.new_folder("after") / "after", result.image, photo)
        self._keep(state)
        # Where what is shown is smaller than the photo, a change may be too small to show.
        changed = result.changed or (small.shape != photo.pixels.shape and bool(result.mask.any()))
        told = self._told(request, state, options, changed=changed)
        noticed = tuple(dict.fromkeys((*state.found, *state.noticed)))
        # As the file of the whole photo would be: what is shown is smaller.
        stays = options.scale == 1 and keeps_format(photo.path.with_suffix(own_suffix(photo)), photo)
        state.told = told + self.context.told(request, of_copy(noticed) if stays and not changed else noticed)
        return [{**self._stage(session, photo), "after": after}, state.told]

    def _stage(self, session: Session, photo: Photo) -> dict[str, Any]:
        """Return what the stage shows: the photo, and where its faces are."""
        state = self._photo_of(session)
        if state.before is None:
            state.before = pictures.save_shown(session.new_folder("before") / "before", self._small(state, photo), photo)
        width, height = state.size
        boxes = [(left, top, right - left, bottom - top) for left, top, right, bottom in (face.box for face in state.faces)]
        faces = [
            {
                "box": [round(v / s, 4) for v, s in zip(box, (width, height) * 2, strict=True)],
                "included": number in state.included,
            }
            for number, box in enumerate(boxes)
        ]
        return {"before": state.before, "width": width, "height": height, "faces": faces}

    def _told(self, request: gr.Request, state: OpenPhoto, options: RestoreOptions | None = None, *, changed: bool = True) -> str:
        count, most = len(state.faces), self.context.limits.max_faces
        if not count:
            return say(request, "no_face", sideways=say(request, "option_sideways"))
        if options is None:
            parts = [say(request, "found", count=count)]
        else:
            width, height = (round(side * options.scale) for side in state.size)
            done = len(state.included & state.restored)
            said = "restored" if done else "restored_none"
            parts = [say(request, said, done=done, count=count, width=width, height=height)]
            if options.strength == 0:
                parts.append(say(request, "no_strength"))
            elif not changed:
                parts.append(say(request, "no_change"))
        if left := len(state.sharp - state.included):
            parts.append(say(request, "left_sharp", count=left))
        if count > most:
            parts.append(say(request, "too_many", most=most))
        return " ".join(parts)

    def _pairs(self, session: Session, request: gr.Request, result: RestoredArray) -> list[tuple[str, str]]:
        state = self._photo_of(session)
        folder = session.new_folder("pairs")
        crops = zip(sorted(state.included), result.crops_before, result.crops_after, strict=True)
        return [
            (
                pictures.save_shown(folder / f"face_{number}", pictures.side_by_side(old, new)),
                say(request, "face_number", number=number),
            )
            for number, old, new in list(crops)[:MOST_PAIRS]
        ]

    # --- Which faces --------------------------------------------------------------------------------------------------

    def _side(self, model: str) -> int:
        """Return the side in px of the faces that a model restores."""
        try:
            return self.context.engine.facts(model).size
        except PFRError:  # it cannot be used, which is said when it is to restore
            return JUDGED_SIDE

    def _largest(self, faces: Sequence[Face], numbers: Collection[int]) -> set[int]:
        """Return the numbers of the largest faces, as many as may be restored."""
        return set(sorted(numbers, key=lambda number: -faces[number].size)[: self.context.limits.max_faces])

    def _judged(self, state: OpenPhoto, photo: Photo, side: int, should_stop: ShouldStop) -> tuple[set[int], set[int]]:
        """Return the numbers of the faces to restore with a model for faces of ``side`` px, and of those sharp already.

        What was clicked stays as it is, but for faces that are sharp to this model and were not to the one before, or the
        other way round.
        """
        if side == state.side:
            return state.included, state.sharp
        sharp = set(choose_in(photo.pixels, state.faces, state.search, side=side, should_stop=should_stop).sharp)
        return self._largest(state.faces, (state.included - (sharp - state.sharp)) | (state.sharp - sharp)), sharp

    # --- What is kept -------------------------------------------------------------------------------------------------

    def _read(self, state: OpenPhoto) -> Photo:
        """Return the photo with its pixels."""
        if state.work is not None:
            return state.work.photo
        if state.photo is None:
            state.photo = self.context.read(state.path)
        return state.photo

    def _small(self, state: OpenPhoto, photo: Photo) -> Array:
        if state.small is None:
            state.small = fitted(photo.pixels, pictures.SHOWN)
        return state.small

    def _keep(self, state: OpenPhoto) -> None:
        """Note that this photo was used last; what all pages keep beyond the budget goes, the oldest first."""
        with self._lock:
            known = [each for each in (kept() for kept in self._recent) if each is not None and each is not state]
            self._recent = [weakref.ref(each) for each in (*known, state)]
            budget = self.context.limits.max_memory_mb * 1e6 - state.nbytes
            for each in reversed(known):
                budget -= each.nbytes
                if budget < 0 and each.nbytes and each.lock.acquire(blocking=False):  # one that is worked on stays
                    try:
                        each.put_aside()
                    except PFRError as error:  # a full disk, say, which is not for the visitor of now to know
                        log.warning("A photo stays in memory: %s", error)
                    finally:
                        each.lock.release()

    @staticmethod
    def _photo_of(session: Session) -> OpenPhoto:
        if session.photo is None:
            raise InputError("There is no photo here any more. Drop it in again.")
        return session.photo
