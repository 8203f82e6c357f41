"""The video tab: a clip in, frames restored one by one, the clip out with its sound."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core.errors import Cancelled, InputError
from pfr_core.support.notice import Notice
from pfr_core.video.clip import ClipInfo, Frame, convert, probe

from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH
from .jobs import connect_job
from .texts import say, text


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
                self.stop = gr.Button(text("stop"), variant="stop", size="lg", visible=False, elem_id="clip-stop")
                with gr.Accordion(text("settings"), open=False):
                    model = gr.Dropdown(list(context.engine.models), label=text("model"), filterable=False)
                    options |= self.context.controls(*(name for name in BLEND if name != "scale"), *SEARCH)
            with gr.Column(scale=7, min_width=320):
                self.result = gr.Video(
                    label=text("clip_result"), interactive=False, height=480, buttons=[], elem_id="clip-result"
                )
                self.told = gr.Markdown("", elem_id="clip-told")
                self.download = gr.DownloadButton(
                    text("clip_download"), variant="primary", size="lg", interactive=False, elem_id="clip-download"
                )
        self.upload.change(self.look, [self.upload], [self.facts], show_progress="minimal", **PRIVATE)
        connect_job(
            context, self.start, self.stop, self.run_clip, [self.upload, model], [self.result, self.told, self.download],
            inputs_kwargs=options, show_progress_on=[self.result], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

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
            folder = session.new_folder()
            target = folder / f"{source.stem}_restored.mp4"
            # A face that is sharp in one frame and not in the next would flicker.
            chosen, faces, notices = self.context.options({**options, "only_bad_faces": False}), 0, list[Notice]()

            def change(frame: Frame) -> Frame:
                nonlocal faces
                with self.context.engine.use(model) as restorer:
                    work = restorer.open(frame)
                    self.context.limits.check_faces(len(work.find(chosen).faces))
                    result = work.restore(chosen, should_stop=job.should_stop)
                faces += len(result.faces)
                notices.extend(result.notices)
                return result.image

            def report(done: int, total: int, left: float) -> None:
                minutes, seconds = divmod(round(left), 60)
                told = say(request, "clip_progress", done=done, total=total, left=f"{minutes}:{seconds:02d}")
                progress(done / total, desc=told)

            try:
                frames = convert(source, target, change, progress=report, should_stop=job.should_stop)
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
            told = say(request, "clip_told", frames=frames, faces=f"{faces / max(1, frames):.1f}")
            told += self.context.told(request, notices)
            return [str(target), told, gr.DownloadButton(value=str(target), interactive=True)]

    def _accept(self, path: Path) -> ClipInfo:
        info, limits = probe(path), self.context.limits
        if info.seconds > limits.max_video_seconds:
            raise InputError(
                f"{path.name}: {info.seconds:.1f} s; the limit is {limits.max_video_seconds:g} s (max_video_seconds). Cut it."
            )
        if info.frames > limits.max_video_frames:
            raise InputError(
                f"{path.name}: {info.frames} frames; the limit is {limits.max_video_frames} (max_video_frames). Cut it, or "
                "export it with fewer frames a second."
            )
        if info.width * info.height > limits.max_video_pixels:
            raise InputError(
                f"{path.name}: frames of {info.width} x {info.height}; the limit is {limits.max_video_pixels:,} pixels "
                "(max_video_pixels). Export it smaller."
            )
        return info
