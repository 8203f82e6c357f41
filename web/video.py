"""The video tab: a clip in, frames restored one by one, the clip out with its sound."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from pfr_core.errors import Cancelled, InputError
from pfr_core.faces.face import Face
from pfr_core.photo.arrays import FloatImage
from pfr_core.session import Restored
from pfr_core.support.notice import Notice
from pfr_core.video.clip import ClipInfo, Frame, convert, frames, probe

from . import pictures
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH
from .jobs import connect_job
from .models import ModelMenu
from .sessions import Job
from .texts import say, text

FARTHEST_PREVIEW = 50
"""Frames before the one that is shown first: each must be decoded (ours)."""


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
                options = self.context.controls("strength", "select")
                self.start = gr.Button(text("clip_start"), variant="primary", size="lg", elem_id="clip-start")
                self.preview = gr.Button(text("clip_preview_start"), size="lg", elem_id="clip-preview-start")
                self.stop = gr.Button(text("stop"), variant="stop", size="lg", visible=False, elem_id="clip-stop")
                with gr.Accordion(text("settings"), open=False):
                    model = ModelMenu(context)
                    options |= model.controls
                    options |= self.context.controls(*(name for name in BLEND if name != "scale"), *SEARCH)
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
        self.upload.change(self.look, [self.upload], [self.facts], show_progress="minimal", **PRIVATE)
        connect_job(
            context, self.start, self.stop, self.run_clip, [self.upload, model.menu], [self.result, self.told, self.download],
            inputs_kwargs=options, show_progress_on=[self.result], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

        self.preview.click(
            self.preview_frame, [self.upload, model.menu], [self.frame, self.told], inputs_kwargs=options,
            show_progress_on=[self.told], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def preview_frame(self, request: gr.Request, path: str | None, model: str, **options: Any) -> list[Any]:
        """Restore one frame, from the middle of a short clip, and show it before and after."""
        with self.context.job(request) as job:
            if path is None:
                raise InputError(say(request, "clip_none"))
            source = Path(path)
            number = min(self._accept(source).frames // 2, FARTHEST_PREVIEW)
            frame = next(islice(frames(source), number, None))
            result = self._restore(frame, model, options, job)
            both = [pictures.as_shown(each, pictures.SHOWN // 2) for each in (frame, result.image)]
            shown = pictures.save_shown(job.session.new_folder() / "frame", np.concatenate(both, axis=1))
            return [gr.Image(value=shown, visible=True), say(request, "clip_told", frames=1, faces=len(result.faces))]

    def look(self, request: gr.Request, path: str | None) -> str:
        """Say what the clip is, or at once that it cannot be taken."""
        with self.context.visit(request):
            if path is None:
                return say(request, "clip_limit", seconds=f"{self.context.limits.max_video_seconds:g}")
            info = self._accept(Path(path))
            sound = say(request, "with_sound" if info.audio else "without_sound")
            size = {"width": info.width, "height": info.height}
            return say(request, "clip_facts", seconds=f"{info.seconds:.1f}", frames=info.frames, sound=sound, **size)

    def run_clip(
        self,
        request: gr.Request,
        path: str | None,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **options: Any,
    ) -> list[Any]:
        """Restore the clip."""
        with self.context.job(request, armed=True) as job:
            if path is None:
                raise InputError(say(request, "clip_none"))
            session, source = job.session, Path(path)
            self._accept(source)
            self.context.fetch(model, job, progress)
            folder = session.new_folder()
            target = folder / f"{source.stem}_restored.mp4"
            faces, notices = 0, list[Notice]()

            def change(frame: Frame) -> Frame:
                nonlocal faces
                result = self._restore(frame, model, options, job)
                faces += len(result.faces)
                notices.extend(result.notices)
                return result.image

            def report(done: int, total: int, left: float) -> None:
                minutes, seconds = divmod(round(left), 60)
                told = say(request, "clip_progress", done=done, total=total, left=f"{minutes}:{seconds:02d}")
                progress(done / total, desc=told)

            try:
                count = convert(source, target, change, progress=report, should_stop=job.should_stop)
            except Cancelled:
                shutil.rmtree(folder, ignore_errors=True)
                return [
                    None,
                    f"**{job.why}** {say(request, 'clip_kept_nothing')}",
                    gr.DownloadButton(value=None, interactive=False),
                ]
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            told = say(request, "clip_told", frames=count, faces=f"{faces / max(1, count):.1f}")
            told += self.context.told(request, notices)
            return [str(target), told, gr.DownloadButton(value=str(target), interactive=True)]

    def _restore(self, frame: Frame, model: str, options: dict[str, Any], job: Job) -> Restored[Frame, FloatImage, list[Face]]:
        # A face that is sharp in one frame and not in the next would flicker.
        chosen = self.context.options({**options, "only_bad_faces": False})
        with self.context.engine.use(model) as restorer:
            work = restorer.open(frame)
            self.context.limits.check_faces(len(work.find(chosen).faces))
            return work.restore(chosen, should_stop=job.should_stop)

    def _accept(self, path: Path) -> ClipInfo:
        limits = self.context.limits
        info = probe(path, limits.max_video_frames)
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
