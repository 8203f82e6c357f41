"""The video tab: a clip in, frames restored one by one, the clip out with its sound."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core.errors import Cancelled, InputError
from pfr_core.options import RestoreOptions
from pfr_core.support.notice import Notice
from pfr_core.video.clip import ClipInfo, Frame, convert, probe

from .components import uploads_only
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH, controls
from .jobs import connect_job
from .models import ModelMenu


class VideoTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        longest = context.limits.max_video_seconds
        self._advice = f"At most {longest:g} seconds. Frames are restored one by one, so restored detail may flicker."
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.upload = uploads_only(
                    gr.Video(label="Clip", sources=["upload", "webcam"], include_audio=True, height=320, elem_id="clip")
                )
                self.facts = gr.Markdown(self._advice, elem_id="clip-facts")
                options = controls("strength", "select")
                self.start = gr.Button("Restore the clip", variant="primary", size="lg", elem_id="clip-start")
                self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="clip-stop")
                with gr.Accordion("Settings", open=False):
                    model = ModelMenu(context)
                    options |= model.controls
                    options |= controls(*(name for name in BLEND if name != "scale"), *SEARCH)
            with gr.Column(scale=7, min_width=320):
                self.result = gr.Video(label="Restored", interactive=False, height=480, buttons=[], elem_id="clip-result")
                self.told = gr.Markdown("", elem_id="clip-told")
                self.download = gr.DownloadButton(
                    "Download the restored clip", variant="primary", size="lg", interactive=False, elem_id="clip-download"
                )
        self.upload.change(self.look, [self.upload], [self.facts], validator=context.hold, show_progress="minimal", **PRIVATE)
        connect_job(
            context, self.start, self.stop, self.run, [self.upload, model.menu], [self.result, self.told, self.download],
            inputs_kwargs=options, show_progress_on=[self.result], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def look(self, request: gr.Request, path: str | None) -> str:
        """Say what the clip is, or at once that it cannot be taken."""
        with self.context.visit(request):
            if path is None:
                return self._advice
            info = self._accept(Path(path))
            sound = "with sound" if info.audio else "without sound"
            return f"{info.seconds:.1f} s, {info.frames} frames of {info.width} x {info.height} px, {sound}."

    def run(
        self,
        request: gr.Request,
        path: str | None,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **options: Any,
    ) -> list[Any]:
        """Restore the clip."""
        with self.context.visit(request) as session:
            if path is None:
                raise InputError("There is no clip yet. Choose one first.")
            source = Path(path)
            self._accept(source)
            self.context.fetch(model, session, progress)
            folder = session.new_folder()
            target = folder / f"{source.stem}_restored.mp4"
            # A face that is sharp in one frame and not in the next would flicker.
            chosen, faces, notices = RestoreOptions(**options, only_bad_faces=False), 0, list[Notice]()

            def change(frame: Frame) -> Frame:
                nonlocal faces
                with self.context.engine.use(model) as restorer:
                    result = restorer.restore(frame, options=chosen, should_stop=session.stop.is_set)
                faces += len(result.faces)
                notices.extend(result.notices)
                return result.image

            def report(done: int, total: int, left: float) -> None:
                minutes, seconds = divmod(round(left), 60)
                progress(done / total, desc=f"Frame {done} of {total}, about {minutes}:{seconds:02d} left")

            try:
                frames = convert(source, target, change, progress=report, should_stop=session.stop.is_set)
            except Cancelled:
                shutil.rmtree(folder, ignore_errors=True)
                return [None, "**Stopped.** Nothing of it was kept.", gr.DownloadButton(value=None, interactive=False)]
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            told = f"{frames} frames, {faces / max(1, frames):.1f} faces a frame.{self.context.told(notices)}"
            return [str(target), told, gr.DownloadButton(value=str(target), interactive=True)]

    def _accept(self, path: Path) -> ClipInfo:
        info, limits = probe(path), self.context.limits
        if info.seconds > limits.max_video_seconds:
            raise InputError(
                f"{path.name}: {info.seconds:.1f} s; the limit is {limits.max_video_seconds:g} s (max_video_seconds). Cut it."
            )
        if info.width * info.height > limits.max_video_pixels:
            raise InputError(
                f"{path.name}: frames of {info.width} x {info.height}; the limit is {limits.max_video_pixels:,} pixels "
                "(max_video_pixels). Export it smaller."
            )
        return info
