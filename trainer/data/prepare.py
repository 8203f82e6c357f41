"""``prepare``: photographs in, training set out: aligned faces of 512 px and an index with all that training needs to know.

Detection and alignment are the pipeline's own. Every photograph that is done stands in a journal, so an interrupted run goes
on where it stopped; one that could not be read, or of whose faces a file is gone, is done again. The index is ``index.jsonl``, a
line for each face: ``file``, ``split``, ``size``, ``kind``, ``source``, ``native_px`` (source pixels across the crop),
``out_of_photo`` (share of the crop beyond the photograph's edge), ``photo`` (the photograph's corners in the crop, where they cut
it), ``points``, ``boxes`` and ``licence``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from pfr_core.errors import ImageError, InputError, PFRError
from pfr_core.faces.align import align, alignment_matrix
from pfr_core.faces.detect import Detector
from pfr_core.faces.geometry import Matrix, corners, rescaling, scale_of, transform
from pfr_core.photo.arrays import to_uint8
from pfr_core.photo.photo import IMAGE_SUFFIXES, images_below
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo
from pfr_core.support.files import write_text
from pfr_core.support.worker import begin_worker, starting_workers

from .components import component_boxes
from .dataset import RGB8, resize_square
from .index import CSV_INDEX, INDEX, JOURNAL
from .options import FULL_SIZE, PrepareOptions

log = logging.getLogger(__name__)

SETTINGS = "prepare.json"
SHARPNESS_SIZE = 256
LONGEST_STEM = 230
"""Bytes of a photograph's name that its faces' names keep: with what is added they may have 255."""


def prepare(photos: Path, out: Path, options: PrepareOptions) -> str:
    """Make or continue a training set; returns a summary.

    Raises:
        InputError: no images, no face left, or ``out`` holds a set made with other options.
        ImageError: a crop cannot be written.
        PFRError: the system has ended a worker.
    """
    paths = _images(photos, out)
    settings = {**asdict(options), "photos": photos.name}
    settings.pop("workers")  # changes nothing about the faces
    if (out / CSV_INDEX).exists():
        raise InputError(f"{out}: holds another set ({CSV_INDEX}). Choose another folder.")
    if (out / SETTINGS).exists():
        if json.loads((out / SETTINGS).read_text()) != settings:
            raise InputError(f"{out}: was prepared with other options or photographs. Choose another folder, or delete it.")
    else:
        write_text(out / SETTINGS, json.dumps(settings, indent=2) + "\n", InputError)
    done = _read_journal(out / JOURNAL)
    todo = [path for path in paths if not _is_done(done.get(path.relative_to(photos).as_posix()), out)]
    if todo:
        _work(photos, out, todo, options)
        done = _read_journal(out / JOURNAL)
    entries = [done[name] for path in paths if (name := path.relative_to(photos).as_posix()) in done]
    rows = [row for entry in entries for row in entry["faces"]]
    dropped: Counter[str] = Counter()
    for entry in entries:
        dropped.update(entry["dropped"])
    reasons = "\n".join(f"  {count} x {reason}" for reason, count in sorted(dropped.items())) or "  nothing"
    summary = f"{len(paths)} images, {len(rows)} faces kept. Left out:\n{reasons}"
    if not rows:
        raise InputError(f"{photos}: no usable face.\n{summary}")
    write_text(out / INDEX, index_lines(rows), InputError)
    held = sum(row["split"] == "val" for row in rows)
    told = "" if held else ". None is held out for validation: more photographs, or a larger --val-share in another folder"
    return f"{summary}\n{out / INDEX}: {len(rows) - held} train, {held} val{told}"


def _images(photos: Path, out: Path) -> list[Path]:
    if not photos.is_dir():
        raise InputError(f"{photos}: no such folder.")
    paths = images_below(photos, skip=[out])
    if not paths:
        raise InputError(f"{photos}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return paths


def _is_done(entry: dict[str, Any] | None, out: Path) -> bool:
    """Return whether the journal has a photograph and all its faces are there; what could not be read is tried again."""
    return entry is not None and not entry["error"] and all((out / face["file"]).is_file() for face in entry["faces"])


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:  # the line that was being written when the run was killed; the photograph is done again
            continue
        found[entry["photo"]] = entry
    return found


def _work(photos: Path, out: Path, todo: list[Path], options: PrepareOptions) -> None:
    """Process ``todo`` in parallel; each finished photograph is a line in the journal."""
    journal = out / JOURNAL
    text = journal.read_text() if journal.exists() else ""
    with journal.open("a") as file:
        if text and not text.endswith("\n"):
            file.write("\n")
        for entry in tqdm(_entries(photos, out, todo, options), total=len(todo), unit="photo", dynamic_ncols=True):
            if entry["error"]:
                log.warning("skipped: %s", entry["error"])
            file.write(json.dumps(entry) + "\n")
            file.flush()


def _entries(photos: Path, out: Path, todo: list[Path], options: PrepareOptions) -> Iterator[dict[str, Any]]:
    if options.workers == 1 or len(todo) == 1:
        worker = _Worker(photos, out, options)
        yield from map(worker, todo)
        return
    context = multiprocessing.get_context("spawn")  # a forked PyTorch can hang
    with ProcessPoolExecutor(options.workers, context, initializer=_start_worker, initargs=(photos, out, options)) as pool:
        try:
            with starting_workers():
                begun = [pool.submit(_run_worker, path) for path in todo]
            for future in as_completed(begun):
                yield future.result()
        except BrokenProcessPool as error:
            raise PFRError(
                "A worker was ended from outside, most likely for want of memory, unless an error stands above. Give the command "
                "again with fewer --workers: what is done is kept."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: _Worker | None = None


def _start_worker(photos: Path, out: Path, options: PrepareOptions) -> None:
    global _worker
    begin_worker()
    _worker = _Worker(photos, out, options)


def _run_worker(path: Path) -> dict[str, Any]:
    assert _worker is not None
    return _worker(path)


class _Worker:
    """Finds, judges, aligns and writes the faces of one photograph after the other."""

    def __init__(self, photos: Path, out: Path, options: PrepareOptions) -> None:
        self.photos, self.out, self.options = photos, out, options
        self.detector = Detector(options.detector)

    def __call__(self, path: Path) -> dict[str, Any]:
        """Return the journal's entry for a photograph: its ``faces``, and the number ``dropped`` by reason."""
        name = path.relative_to(self.photos).as_posix()
        entry: dict[str, Any] = {"photo": name, "faces": [], "dropped": {}, "error": ""}
        dropped: Counter[str] = Counter()
        try:
            pixels = to_uint8(read_photo(path).pixels[:, :, :3])
        except ImageError as error:
            return entry | {"dropped": {"image unreadable": 1}, "error": str(error)}
        if self.options.aligned and pixels.shape[0] != pixels.shape[1]:
            return entry | {"dropped": {"image not square, so no aligned face": 1}}
        faces = self.detector.detect(pixels, threshold=self.options.threshold)
        if self.options.aligned:
            faces = sorted(faces, key=lambda face: face.size)[-1:]  # a bystander may be in the picture
        if not faces:
            dropped["image without a face"] = 1
        for i, face in enumerate(faces):
            whole = rescaling(FULL_SIZE / len(pixels), FULL_SIZE / len(pixels))
            matrix = whole if self.options.aligned else alignment_matrix(face, FULL_SIZE)
            row, crop, reason = self._face(pixels, matrix, np.asarray(face.points))
            if reason:
                dropped[reason] += 1
                continue
            # The digest keeps names apart that differ only in their folder or ending; names need not be UTF-8.
            digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
            split = "val" if int(digest[:8], 16) / 2**32 < self.options.val_share else "train"
            file = f"{split}/{shortened(path.stem)}-{digest[:8]}-{i}.webp"
            write_photo(self.out / file, crop, quality=95)
            entry["faces"].append({"file": file, "split": split, "source": name, **row})
        return entry | {"dropped": dict(dropped)}

    def _face(self, pixels: RGB8, matrix: Matrix, points: np.ndarray) -> tuple[dict[str, Any], RGB8, str]:
        """Index row and crop, or the reason for which it is left out."""
        options, nothing = self.options, np.zeros((0, 0, 3), np.uint8)
        native = FULL_SIZE / scale_of(matrix)
        if native < options.min_native:
            return {}, nothing, f"face smaller than {options.min_native} source pixels"
        height, width = pixels.shape[:2]
        photo = corners(matrix, width, height).T  # [4,2] in the crop
        inside = np.zeros((FULL_SIZE, FULL_SIZE), np.uint8)
        cv2.fillConvexPoly(inside, np.rint(photo).astype(np.int32), 1)
        outside = 1 - float(inside.mean())
        if outside > options.max_out_of_photo:
            return {}, nothing, f"face with more than {options.max_out_of_photo:.0%} beyond the photo's edge"
        crop = resize_square(pixels, FULL_SIZE) if options.aligned else to_uint8(align(pixels, matrix, FULL_SIZE))
        if sharpness(crop) < options.min_sharpness:
            return {}, nothing, f"face with a sharpness below {options.min_sharpness:g}"
        placed = transform(points, matrix)
        row = {
            "size": FULL_SIZE,
            "kind": options.kind,
            "native_px": round(native),
            "out_of_photo": round(outside, 4),
            "photo": np.round(photo, 1).tolist() if outside > 0 else None,
            "points": np.round(placed, 2).tolist(),
            "boxes": np.round(component_boxes(placed, FULL_SIZE).astype(np.float64), 2).tolist(),
            "licence": options.licence,
        }
        return row, crop, ""


def shortened(stem: str) -> str:
    """Return the beginning of a file's name that leaves room for what is added to it."""
    raw = stem.encode(errors="surrogateescape")
    return stem if len(raw) <= LONGEST_STEM else raw[:LONGEST_STEM].decode(errors="ignore")


def sharpness(crop: RGB8) -> float:
    """Return the variance of the luma's Laplacian at 256 px, in 8-bit units squared: of the middle half, where the face is."""
    grey = cv2.cvtColor(resize_square(crop, SHARPNESS_SIZE), cv2.COLOR_RGB2GRAY)
    quarter = SHARPNESS_SIZE // 4
    return float(cv2.Laplacian(grey[quarter:-quarter, quarter:-quarter], cv2.CV_64F).var())


def index_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Return the text of ``index.jsonl``."""
    return "".join(json.dumps(row) + "\n" for row in rows)
