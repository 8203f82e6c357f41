"""The clip tab: a clip in, its faces followed and shown to be picked, the clip with its faces restored out."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from pfr_core.errors import Cancelled, InputError
from pfr_core.options import DETECTION, ClipOptions, RestoreOptions, clip_options
from pfr_core.photo.arrays import fitted
from pfr_core.support.notice import Notice
from pfr_core.support.schema import specs
from pfr_core.video.read import Clip, ClipInfo
from pfr_core.video.restore import follow, restore_clip
from pfr_core.video.track import Tracks
from pfr_core.video.tracked import strengths_of

from . import pictures
from .components import as_given
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH
from .jobs import connect_job
from .models import ModelMenu
from .sessions import Job
from .texts import say, text, translated

FARTHEST_PREVIEW = 50
"""Frames before the one that is shown first: each must be decoded (ours)."""
STOP, STOP_FINDING = "clip", "clip-find"
"""The Stop buttons of this tab."""
SHOWN = {".mp4", ".m4v", ".mov", ".webm", ".ogv"}
"""Endings of clips that browsers usually show."""


@dataclass(frozen=True)
class Followed:
    """The faces of a visitor's clip.

    Attributes:
        how: of which clip, and how they were looked for.
        tracks: the faces.
        notices: what was noticed in reading it.
        shown: whether the visitor sees them.
    """

    how: object
    tracks: Tracks
    notices: tuple[Notice, ...] = ()
    shown: bool = False


class VideoTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.upload = gr.Video(
                    label=text("clip"), sources=["upload", "webcam"], include_audio=True, height=320, elem_id="clip"
                )
                self.facts = gr.Markdown("", elem_id="clip-facts")
                self.start = gr.Button(text("clip_start"), variant="primary", size="lg", elem_id="clip-start")
                self.stop = gr.Button(text("stop"), variant="stop", size="lg", visible=False, elem_id="clip-stop")
                with gr.Row():
                    self.preview = gr.Button(text("clip_preview_start"), elem_id="clip-preview-start")
                    self.find = gr.Button(text("clip_find"), elem_id="clip-find")
                    self.stop_find = gr.Button(text("stop"), variant="stop", visible=False, elem_id="clip-find-stop")
                self.people = gr.Gallery(
                    label=text("clip_people"), visible=False, columns=4, height=240, allow_preview=False, buttons=[],
                    interactive=False, elem_id="clip-people",
                )  # fmt: skip
                self.picked = as_given(  # its choices come later, and Gradio forgets them where there are many visitors
                    gr.CheckboxGroup(
                        [], label=text("clip_picked"), info=text("clip_picked_info"), visible=False, elem_id="clip-picked"
                    )
                )
                self.strengths = gr.Textbox(
                    label=text("clip_strengths"), info=text("clip_strengths_info"), visible=False, elem_id="clip-strengths"
                )
                options = self.context.controls("strength", "select", "steady")
                with gr.Accordion(text("settings"), open=False):
                    model = ModelMenu(context)
                    options |= model.controls
                    every = "detect_every", "restore_every"
                    options |= self.context.controls(*(name for name in BLEND if name != "scale"), *SEARCH, *every)
            with gr.Column(scale=7, min_width=320):
                self.result = gr.Video(
                    label=text("clip_result"), interactive=False, height=480, buttons=[], elem_id="clip-result"
                )
                self.frame = gr.Image(
                    label=text("clip_preview"), interactive=False, visible=False, buttons=[], elem_id="clip-preview"
                )
                self.told = gr.Markdown("", elem_id="clip-told")
                self.download = gr.DownloadButton(
                    text("clip_download"), variant="primary", size="lg", interactive=False, elem_id="clip-download"
                )
        people = [self.people, self.picked, self.strengths]
        self.upload.change(self.look, [self.upload], [self.facts, *people], show_progress="minimal", **PRIVATE)
        connect_job(
            context, STOP, self.start, self.stop, self.run_clip, [self.upload, self.picked, model.menu],
            [self.result, self.told, self.download],
            inputs_kwargs={**options, "strengths": self.strengths}, show_progress_on=[self.facts], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip
        connect_job(
            context, STOP_FINDING, self.find, self.stop_find, self.find_people, [self.upload],
            [*people, self.told],
            inputs_kwargs=options, show_progress_on=[self.facts], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip
        self.people.select(self.pick, [self.picked], [self.picked], queue=False, show_progress="hidden", **PRIVATE)
        self.preview.click(
            self.preview_frame, [self.upload, model.menu], [self.frame, self.told], inputs_kwargs=options,
            show_progress_on=[self.facts], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def look(self, request: gr.Request, path: str | None) -> list[Any]:
        """Say what the clip is, or at once that it cannot be taken; the faces of another clip go."""
        hidden = _no_people()
        with self.context.visit(request) as session:
            session.clip = None
            if path is None:
                return [say(request, "clip_limit", seconds=f"{self.context.limits.max_video_seconds:g}"), *hidden]
            info = self._accept(Path(path))
            sound = say(request, "with_sound" if info.audio else "without_sound")
            size = {"width": info.width, "height": info.height}
            frames = say(request, "clip_frames", count=info.frames)
            facts = say(request, "clip_facts", seconds=f"{info.seconds:.1f}", frames=frames, sound=sound, **size)
            if Path(path).suffix.lower() not in SHOWN:
                facts += " " + say(request, "clip_unseen")
            return [facts, *hidden]

    def preview_frame(self, request: gr.Request, path: str | None, model: str, **options: Any) -> list[Any]:
        """Restore one frame, from the middle of a short clip, and show it before and after."""
        with self.context.job(request) as job:
            source = self._source(path)
            chosen, *_ = self._options(options)
            self.context.fetch(request, model, job, mask=chosen.mask)
            number = min(self._accept(source).frames // 2, FARTHEST_PREVIEW)
            (frame,) = deque(islice(Clip(source).frames(), number + 1), maxlen=1)  # or the last that can be decoded
            with self.context.engine.use(model) as restorer:
                work = restorer.open(frame)
                self.context.limits.check_faces(len(work.find(chosen, should_stop=job.should_stop).faces))
                result = work.restore(chosen, should_stop=job.should_stop)
            both = [fitted(each, pictures.SHOWN // 2) for each in (frame, result.image)]
            shown = pictures.save_shown(job.session.new_folder("frame") / "frame", np.concatenate(both, axis=1))
            told = _told(request, 1, len(result.faces)) + self.context.told(request, result.notices)
            return [gr.Image(value=shown, visible=True), told]

    def find_people(
        self,
        request: gr.Request,
        path: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **options: Any,
    ) -> list[Any]:
        """Follow the faces through the clip, and show them all; those that the options choose are picked to begin with."""
        with self.context.job(request, STOP_FINDING) as job:
            source = self._source(path)
            self._accept(source)
            chosen, clip, _ = self._options(options)
            try:
                followed = self._follow(request, source, chosen, clip, job, progress)
            except Cancelled:
                job.session.clip = None  # with the faces on the page the choice among them goes
                return [*_no_people(), f"**{translated(request.headers, job.why)}**"]
            found = followed.tracks
            job.session.clip = replace(followed, shown=True)
            folder = job.session.new_folder("people")
            shown = [
                (pictures.save_exact(folder / f"{track.number}.png", track.picture), str(track.number)) for track in found.tracks
            ]
            choices = [(say(request, "clip_person", number=track.number), str(track.number)) for track in found.tracks]
            at_first = {str(track.number) for track in found.chosen(chosen)[0]}
            picked = gr.CheckboxGroup(
                choices=choices, value=[value for _, value in choices if value in at_first], visible=bool(choices)
            )
            told = _told(request, found.frames, len(found.tracks))
            told += self.context.told(request, (*followed.notices, *found.notices))
            return [gr.Gallery(value=shown, visible=bool(shown)), picked, gr.Textbox(visible=bool(shown)), told]

    def pick(self, event: gr.SelectData, picked: list[str]) -> list[str]:
        """Take a face whose picture was clicked, or leave it."""
        return sorted({str(event.index)} ^ _ticked(picked), key=lambda number: (len(number), number))

    def run_clip(
        self,
        request: gr.Request,
        path: str | None,
        picked: list[str] | None,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        strengths: str | None = None,
        **options: Any,
    ) -> list[Any]:
        """Restore the clip; of faces that were shown those that are picked, whatever the options choose.

        Raises:
            InputError: no face is chosen, strengths that are none, or faces were shown that were looked for otherwise.
        """
        each = strengths_of((strengths or "").replace(",", " ").split())
        with self.context.job(request, STOP) as job:
            source = self._source(path)
            self._accept(source)
            chosen, clip, idle = self._options(options)
            self.context.fetch(request, model, job, progress, chosen.mask)
            seen = job.session.clip
            if seen is not None and seen.shown and seen.how != self._how(source, chosen, clip):
                raise InputError("How faces are looked for has changed since they were shown. Show the faces again.")
            folder = job.session.new_folder("clip")
            try:
                followed = self._follow(request, source, chosen, clip, job, progress)
                found = followed.tracks
                if followed.shown:
                    found = found.only(track.number for track in found.tracks if str(track.number) in _ticked(picked))
                    unpicked = {track.number for track in followed.tracks.tracks} - {track.number for track in found.tracks}
                    each = {number: strength for number, strength in each.items() if number not in unpicked}
                    if not found.tracks and followed.tracks.tracks:
                        raise InputError("Choose at least one face.")
                    chosen = replace(chosen, select="all", min_face_size=0, max_face_size=None)
                with self.context.engine.use(model) as restorer:
                    result = restore_clip(
                        restorer, source, folder / f"{source.stem}_restored.mp4", options=chosen, clip=clip, found=found,
                        strengths=each, progress=self._report(request, progress), should_stop=job.should_stop,
                    )  # fmt: skip
            except Cancelled:
                shutil.rmtree(folder, ignore_errors=True)
                told = f"**{translated(request.headers, job.why)}** {say(request, 'clip_kept_nothing')}"
                return [None, told, gr.DownloadButton(value=None, interactive=False)]
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            told = _told(request, result.frames, len(result.tracks))
            for name in idle:
                said = say(request, "clip_idle", option=say(request, f"option_{name}"), steady=say(request, "option_steady"))
                told += f"\n\n*{say(request, 'note')}: {said}*"
            told += self.context.told(request, result.notices)
            return [str(result.path), told, gr.DownloadButton(value=str(result.path), interactive=True)]

    def _follow(
        self,
        request: gr.Request,
        source: Path,
        options: RestoreOptions,
        clip: ClipOptions,
        job: Job,
        progress: gr.Progress,
    ) -> Followed:
        """Return the faces of the clip, found once for each way to look for them."""
        how = self._how(source, options, clip)
        kept = job.session.clip
        if kept is None or kept.how != how:
            report = self._report(request, progress)
            with self.context.engine.finding() as detector:
                footage = Clip(source)
                found = follow(detector, footage, options, clip, progress=report, should_stop=job.should_stop)
            kept = job.session.clip = Followed(how, found, tuple(footage.notices))
        self.context.limits.check_faces(kept.tracks.most_at_once)
        return kept

    @staticmethod
    def _how(source: Path, options: RestoreOptions, clip: ClipOptions) -> object:
        """Return all that decides which faces are found in which clip."""
        return (source, clip.detect_every, *(getattr(options, name) for name in DETECTION))

    def _report(self, request: gr.Request, progress: gr.Progress) -> Callable[[str, int, int, float], None]:
        def report(stage: str, done: int, total: int, left: float) -> None:
            minutes, seconds = divmod(round(left), 60)
            told = say(request, f"clip_{stage}_progress", done=done, total=total, left=f"{minutes}:{seconds:02d}")
            progress(done / max(1, total), desc=told)

        return report

    def _options(self, options: dict[str, Any]) -> tuple[RestoreOptions, ClipOptions, list[str]]:
        """Return what a visitor chose, and the names of what has no effect beside the rest.

        Sharp faces are restored, too: one that is sharp in one frame and not in the next would flicker.
        """
        others = {name: value for name, value in options.items() if name not in specs(ClipOptions)}
        return self.context.options({**others, "only_bad_faces": False}), *clip_options(options)

    def _source(self, path: str | None) -> Path:
        if path is None:
            raise InputError("Choose a clip first.")
        return Path(path)

    def _accept(self, path: Path) -> ClipInfo:
        limits = self.context.limits
        info = Clip(path).probe(limits.max_video_frames)
        if info.seconds > limits.max_video_seconds:
            raise InputError(
                f"{path.name}: {info.seconds:.1f} s; the limit is {limits.max_video_seconds:g} s (max_video_seconds). Cut it."
            )
        if info.frames > limits.max_video_frames:
            raise InputError(
                f"{path.name}: more frames than the limit of {limits.max_video_frames} (max_video_frames). Cut it, or "
                "export it with fewer frames a second."
            )
        if info.width * info.height > limits.max_video_pixels:
            raise InputError(
                f"{path.name}: frames of {info.width} x {info.height}; the limit is {limits.max_video_pixels:,} pixels "
                "(max_video_pixels). Export it smaller."
            )
        return info


def _told(request: gr.Request, frames: int, faces: int) -> str:
    return say(request, "clip_told", frames=say(request, "clip_frames", count=frames), count=faces)


def _ticked(picked: list[str] | None) -> set[str]:
    """Return the numbers of the faces that are ticked; programs may send anything for one."""
    return {str(each) for each in picked or ()}


def _no_people() -> list[Any]:
    """Return the gallery, the choice of faces and their strengths, hidden."""
    return [
        gr.Gallery(value=[], visible=False), gr.CheckboxGroup(choices=[], value=[], visible=False),
        gr.Textbox(value="", visible=False),
    ]  # fmt: skip
