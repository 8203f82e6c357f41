"""The batch tab: many photos or zip files in; a gallery, a zip file and a report out."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from pfr_core.errors import Cancelled, ImageError, InputError
from pfr_core.network.inference import is_out_of_memory
from pfr_core.options import RestoreOptions

from . import pictures
from .archive import Entry, is_zip, unpack
from .components import uploads_only
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH, controls, quality_control
from .jobs import connect_job
from .models import ModelMenu
from .sessions import Session

GALLERY_SIZE = 640


class BatchTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        limits = context.limits
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.uploads = uploads_only(
                    gr.File(label="Photos, or a zip file of photos", file_count="multiple", height=220, elem_id="batch-files")
                )
                size = f"{limits.max_pixels / 1e6:g} megapixels, {limits.max_upload_mb:g} MB a file"
                gr.Markdown(f"At most {limits.max_files} photos of {size}.")
                options = controls("strength", "select")
                self.start = gr.Button("Restore all", variant="primary", size="lg", elem_id="batch-start")
                self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="batch-stop")
                with gr.Accordion("Settings", open=False):
                    model = ModelMenu(context)
                    options |= {**model.controls, **controls(*BLEND, *SEARCH, "only_bad_faces")}
                    options["quality"] = quality_control()
            with gr.Column(scale=7, min_width=320):
                self.told = gr.Markdown("", elem_id="batch-told")
                self.zip = gr.DownloadButton(
                    "Download all as a zip file", variant="primary", size="lg", interactive=False, elem_id="batch-zip"
                )
                self.gallery = gr.Gallery(
                    label="Restored",
                    show_label=False,
                    columns=3,
                    fit_columns=False,
                    height="auto",
                    object_fit="contain",
                    buttons=["fullscreen"],
                    elem_id="batch-gallery",
                )
                self.report = gr.Dataframe(
                    headers=["photo", "result"],
                    column_widths=["35%", "65%"],
                    datatype="str",
                    label="Report",
                    interactive=False,
                    wrap=True,
                    buttons=[],
                    elem_id="batch-report",
                )
        # The files are held from the moment they are there; they may wait long for the button.
        self.uploads.change(
            lambda uploads: None, [self.uploads], None, validator=context.hold, show_progress="hidden", queue=True, **PRIVATE
        )
        connect_job(
            context, self.start, self.stop, self.run,
            [self.uploads, model.menu], [self.told, self.zip, self.gallery, self.report],
            inputs_kwargs=options, show_progress_on=[self.gallery], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def run(
        self,
        request: gr.Request,
        uploads: list[str] | None,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        quality: int | None = None,
        **options: Any,
    ) -> list[Any]:
        """Restore every photo; what is wrong with one does not stop the others."""
        with self.context.visit(request) as session:
            if not uploads:
                raise InputError("There is nothing to restore yet. Choose some photos or a zip file first.")
            self.context.fetch(model, session, progress)
            return self._run(session, uploads, model, RestoreOptions(**options), quality, progress)

    def _run(
        self,
        session: Session,
        uploads: list[str],
        model: str,
        options: RestoreOptions,
        quality: int | None,
        progress: gr.Progress,
    ) -> list[Any]:
        folder = session.new_folder()
        (folder / "unpacked").mkdir()
        rows: list[list[str]] = []
        shown: list[tuple[str, str]] = []
        names: set[str] = set()
        stopped = False
        result = folder / "restored.zip"
        total = self._count(uploads)
        try:
            with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as packed:  # photos are compressed already
                for number, entry in enumerate(self._entries(uploads, folder / "unpacked")):
                    progress((number, max(total, number + 1)), desc=entry.name, unit="photos")
                    if session.stop.is_set():
                        stopped = True
                        break
                    try:
                        text, target, preview = self._restore(session, entry, folder, model, options, quality)
                    except Cancelled:
                        stopped = True
                        break
                    rows.append([entry.name, text])
                    if target is not None:
                        packed.write(target, _unused(target.name, names))
                        shown.append((preview, entry.name))
                        target.unlink()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder / "unpacked")
        failed = len(rows) - len(shown)
        told = f"**{len(shown)} of {len(rows)} restored.**"
        if failed:
            told += f" {failed} could not be: see the report."
        if stopped:
            told = f"**Stopped** after {len(rows)} of {total}. " + told
        zipped = gr.DownloadButton(value=str(result) if shown else None, interactive=bool(shown))
        return [told, zipped, shown, rows]

    def _restore(
        self, session: Session, entry: Entry, folder: Path, model: str, options: RestoreOptions, quality: int | None
    ) -> tuple[str, Path | None, str]:
        """Return what to report, the restored file, and a preview of it."""
        if entry.path is None:
            return entry.problem, None, ""
        try:
            photo = self.context.read(entry.path)
            self.context.limits.check_scale(photo, options.scale)
            with self.context.engine.use(model) as restorer:
                file = restorer.restore_file(photo, folder, options=options, quality=quality, should_stop=session.stop.is_set)
            preview = session.new_folder() / "preview.jpg"
            pictures.save(preview, pictures.shrunk(file.restored.image, GALLERY_SIZE))
        except (ImageError, InputError) as error:
            return self._about(entry.path.name, error), None, ""
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return "not enough memory; make the photo smaller.", None, ""
        count = len(file.restored.faces)
        text = f"{count} face{'s' * (count != 1)}" if count else "no face found, unchanged"
        texts = [text, *(self._about(photo.path.name, notice.text) for notice in file.notices)]
        return "; ".join(texts), file.path, str(preview)

    def _entries(self, uploads: Sequence[str], folder: Path) -> Iterator[Entry]:
        """Yield the photos of all uploads; those from a zip file are deleted as soon as they are done."""
        count, limit = 0, self.context.limits.max_files
        for index, upload in enumerate(map(Path, uploads)):
            inside: Iterator[Entry]
            if is_zip(upload):
                (folder / str(index)).mkdir()
                inside = unpack(upload, folder / str(index), self.context.limits)
            else:
                inside = iter([Entry(upload.name, upload)])
            try:
                for entry in inside:
                    count += 1
                    if count > limit:
                        yield Entry(entry.name, problem=f"left out with all that follow: more than {limit} photos (max_files).")
                        return
                    yield entry
                    if is_zip(upload) and entry.path is not None:
                        entry.path.unlink(missing_ok=True)
            except ImageError as error:  # the zip file itself
                yield Entry(upload.name, problem=self._about(upload.name, error))

    def _about(self, name: str, text: object) -> str:
        """Return the message without the name, which stands beside it."""
        return self.context.without_folders(str(text)).removeprefix(f"{name}: ")

    @staticmethod
    def _count(uploads: Sequence[str]) -> int:
        """Return how many photos there seem to be, for the progress bar."""
        count = 0
        for upload in map(Path, uploads):
            try:
                with zipfile.ZipFile(upload) as content:
                    count += len(content.namelist())
            except (zipfile.BadZipFile, OSError):
                count += 1
        return count


def _unused(name: str, taken: set[str]) -> str:
    """Return a name that no other result in the zip file has; remembers it."""
    path, number, new = PurePosixPath(name), 1, name
    while new.lower() in taken:
        number += 1
        new = f"{path.stem}_{number}{path.suffix}"
    taken.add(new.lower())
    return new
