"""The batch tab: many photos or zip files in; a gallery, a zip file and a report out. No file takes others with it."""

from __future__ import annotations

import html
import logging
import secrets
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import gradio as gr

from pfr_core.errors import Cancelled, ImageError, InputError
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import fitted
from pfr_core.photo.write import check_quality
from pfr_core.support.blame import blame
from pfr_core.support.files import is_of_disk, unwritable

from . import pictures
from .archive import UNREADABLE, Entry, Unbuffered, is_zip, meant_in, opened, pack, unpack
from .context import GPU_QUEUE, PRIVATE, Context
from .controls import BLEND, SEARCH, quality_control
from .jobs import connect_job
from .models import ModelMenu
from .sessions import Job
from .texts import say, text, translated

log = logging.getLogger(__name__)

STOP = "batch"
"""The Stop button of this tab."""
GALLERY_SIZE = 640
LONGEST_NAME = 200
"""Bytes of a name in the zip file: file systems take 255, and an ending is added (ours)."""


@dataclass(frozen=True)
class Row:
    """What became of one photo: ``text`` says it, ``file`` is what goes into the zip file as ``name``."""

    outcome: Literal["restored", "without", "unchanged", "anew", "failed"]
    text: str
    file: Path | None = None
    name: str = ""
    preview: str = ""


class BatchTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.uploads = gr.File(label=text("batch_files"), file_count="multiple", height=220, elem_id="batch-files")
                self.start = gr.Button(text("restore_all"), variant="primary", size="lg", elem_id="batch-start")
                self.stop = gr.Button(text("stop"), variant="stop", size="lg", visible=False, elem_id="batch-stop")
                options = self.context.controls("strength", "select")
                with gr.Accordion(text("settings"), open=False):
                    model = ModelMenu(context)
                    options |= model.controls | self.context.controls(*BLEND, *SEARCH, "only_bad_faces")
                    options["quality"] = quality_control()
            with gr.Column(scale=7, min_width=320):
                self.told = gr.Markdown("", elem_id="batch-told")
                self.zip = gr.DownloadButton(
                    text("download_zip"), variant="primary", size="lg", visible=False, elem_id="batch-zip"
                )
                self.report = gr.HTML("", elem_id="report", apply_default_css=False)
                self.gallery = gr.Gallery(
                    label=text("batch_gallery"), show_label=False, columns=3, fit_columns=False, height="auto",
                    object_fit="contain", buttons=["fullscreen"], visible=False, elem_id="batch-gallery",
                )  # fmt: skip
        # The files are held from the moment they are there; they may wait long for the button.
        self.uploads.change(self.look, [self.uploads], [self.told], show_progress="hidden", **PRIVATE)
        connect_job(
            context, STOP, self.start, self.stop, self.run_batch, [self.uploads, model.menu],
            [self.told, self.zip, self.gallery, self.report],
            inputs_kwargs=options, show_progress_on=[self.told], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def look(self, request: gr.Request, uploads: list[str] | None) -> str:
        """Say how many photos there may be, as long as there is nothing else to say."""
        limits = self.context.limits
        pixels, size = f"{limits.max_pixels / 1e6:g}", f"{limits.max_upload_mb:g}"
        return say(request, "batch_limits", files=limits.max_files, pixels=pixels, size=size)

    def run_batch(
        self,
        request: gr.Request,
        uploads: list[str] | None,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        quality: int | None = None,
        **options: Any,
    ) -> list[Any]:
        """Restore every photo; what is wrong with one does not stop the others.

        Raises:
            InputError: there are no photos, or a value is refused.
        """
        with self.context.job(request, STOP) as job:
            if not uploads:
                raise InputError("Choose some photos or a zip file first.")
            chosen = self.context.options(options)
            check_quality(quality)  # here: when a photo is written, the network has run for it
            self.context.fetch(request, model, job, progress, chosen.mask)
            return self._run(request, job, uploads, model, chosen, quality, progress)

    def _run(
        self,
        request: gr.Request,
        job: Job,
        uploads: list[str],
        model: str,
        options: RestoreOptions,
        quality: int | None,
        progress: gr.Progress,
    ) -> list[Any]:
        folder = job.session.new_folder("batch")
        (folder / "unpacked").mkdir()
        rows: list[tuple[str, Row]] = []
        names: set[str] = set()
        result, total, stopped = folder / "restored.zip", self._count(uploads), False
        try:
            # Stored as they are: photos are compressed already.
            with Unbuffered(result, "w+") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:
                for number, entry in enumerate(self._entries(uploads, folder / "unpacked")):
                    progress((number, max(total, number + 1)), desc=entry.name, unit=say(request, "unit_photos"))
                    try:
                        row = self._restore(request, job, entry, folder, model, options, quality)
                    except Cancelled:
                        stopped = True
                        break
                    if row.file is not None:
                        done = row.file
                        try:
                            pack(packed, stream, done, _unused(row.name, names))
                        except OSError as error:  # what is packed already is kept
                            row = Row("failed", self.context.page_error(error, request).message)
                        done.unlink()
                    rows.append((entry.name, row))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder / "unpacked")
        shown = [(row.preview, name) for name, row in rows if row.preview]
        count = Counter(row.outcome for _, row in rows)
        counted = ", ".join(say(request, f"count_{each}", count=number) for each, number in count.items())
        told = f"**{counted}**" if counted else ""
        if stopped:
            why = translated(request.headers, job.why)
            told = f"{say(request, 'count_stopped', why=why, done=len(rows), total=total)} {told}"
        return [
            told,
            gr.DownloadButton(value=str(result) if shown else None, visible=bool(shown)),
            gr.Gallery(value=shown, visible=bool(shown)),
            _table(request, rows),
        ]

    def _restore(
        self, request: gr.Request, job: Job, entry: Entry, folder: Path, model: str, options: RestoreOptions, quality: int | None
    ) -> Row:
        """Restore one photo.

        Raises:
            Cancelled: the job is to end.
        """
        if job.should_stop():
            raise Cancelled(job.why)
        if entry.path is None:
            return Row("failed", translated(request.headers, entry.problem))
        try:
            photo = self.context.read(entry.path)
            self.context.limits.check_scale(photo, options.scale)
            with self.context.engine.use(model) as restorer:
                work = restorer.open(photo)
                found = work.find(options, should_stop=job.should_stop)
                self.context.limits.check_faces(len(found.faces))
                restored = work.restore(options, should_stop=job.should_stop)
                preview = fitted(restored.image, GALLERY_SIZE)  # first: without it nobody would fetch the file, which takes room
                shown = pictures.save_shown(folder / f"preview-{secrets.token_hex(4)}", preview, photo)
                file = work.save(restored, folder, quality=quality)
        except Cancelled:
            raise
        except Exception as error:
            whose = blame(error)
            if whose == "photo":
                return Row("failed", translated(request.headers, self._about(entry.path.name, error)))
            if whose == "memory":
                return Row("failed", say(request, "row_memory"))
            # Unlike the commands the page goes on after what would come with every photo: what is packed is not to be lost.
            if whose == "defect" and not isinstance(error, OSError):
                log.error("%s", entry.name, exc_info=error)
            return Row("failed", self.context.page_error(error, request).message)
        name = PurePosixPath(entry.name)
        notices = [self.context.noticed(request, notice).removeprefix(f"{photo.path.name}: ") for notice in file.notices]
        if file.changed:
            told = say(request, "row_faces", count=len(file.restored.faces))
            new = f"{_shortened(name.stem)}_restored{file.path.suffix}"
            return Row("restored", "; ".join([told, *notices]), file.path, str(name.with_name(new)), shown)
        how: Literal["unchanged", "anew"] = "unchanged" if file.copied else "anew"
        suffix = name.suffix if file.copied else file.path.suffix  # enlarged, or in a format that can be written
        kept = str(name.with_name(f"{_shortened(name.stem)}{suffix}"))
        parts = [say(request, f"row_{how}"), *notices]
        if found.candidates:
            return Row(how, "; ".join(parts), file.path, kept, shown)
        if not any(notice.kind == "no_face" for notice in file.notices):  # there are some, of another size than is asked for
            parts = [say(request, "row_without"), *parts]
        return Row("without", "; ".join(parts), file.path, kept, shown)

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
            except OSError as error:  # the same, or there is no room for what is in it
                text = unwritable(upload.name, error) if is_of_disk(error) else error
                yield Entry(upload.name, problem=self._about(upload.name, text))

    def _about(self, name: str, text: object) -> str:
        """Return the message without the name, which stands beside it."""
        return self.context.without_folders(str(text)).removeprefix(f"{name}: ")

    def _count(self, uploads: Sequence[str]) -> int:
        """Return how many photos there seem to be, for the progress bar."""
        count = 0
        for upload in map(Path, uploads):
            try:
                with opened(upload, self.context.limits) as content:
                    count += len(meant_in(content))
            except (*UNREADABLE, ImageError, OSError):
                count += 1
        return min(count, self.context.limits.max_files)


def _table(request: gr.Request, rows: Sequence[tuple[str, Row]]) -> str:
    """Return the report as HTML: what failed first."""
    lines = [f"<tr><th>{say(request, 'column_photo')}</th><th>{say(request, 'column_result')}</th></tr>"]
    for name, row in sorted(rows, key=lambda each: each[1].outcome != "failed"):
        lines.append(f'<tr class="{row.outcome}"><td>{html.escape(name)}</td><td>{html.escape(row.text)}</td></tr>')
    return f"<table>{''.join(lines)}</table>"


def _shortened(stem: str) -> str:
    """Return a name without its ending that every file system takes."""
    return stem.encode()[:LONGEST_NAME].decode(errors="ignore")


def _unused(name: str, taken: set[str]) -> str:
    """Return a name that no other result in the zip file has; remembers it."""
    path, number, new = PurePosixPath(name), 1, name
    while new.lower() in taken:
        number += 1
        new = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
    taken.add(new.lower())
    return new
