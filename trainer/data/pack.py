"""``pack``: any training set as tar shards (WebDataset's layout), for sets that outgrow a disk or have to travel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from pfr_core.errors import InputError
from pfr_core.faces.geometry import rescale
from pfr_core.photo.write import check_quality
from pfr_core.support.files import write_text

from .dataset import read_face, resize_square
from .index import INDEX, FaceFile, list_faces
from .options import FULL_SIZE
from .prepare import index_lines
from .shards import write_shards

log = logging.getLogger(__name__)


def pack(data: str, out: Path, *, shard_size: float, size: int, quality: int, min_native: int = 1) -> str:
    """Write the faces of ``data`` as WebP to shards in ``out``, with an index; returns a summary.

    Args:
        data: what ``--data`` of a run takes.
        out: folder, empty or not there.
        shard_size: MB in a shard, about.
        size: side of the packed faces in px, at most :data:`.FULL_SIZE`.
        quality: WebP quality, 1-100.
        min_native: leave out faces with fewer source pixels across.

    Raises:
        InputError: ``out`` is not empty, a value is out of range, or no image can be read.
    """
    check_quality(quality)
    if not 16 <= size <= FULL_SIZE or shard_size <= 0:
        raise InputError(f"size must be from 16 to {FULL_SIZE}, and shard_size above 0.")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty. Choose another folder.")
    found = {face.stored: ("train", face) for face in list_faces(data, "train", min_native=min_native)}
    with suppress(InputError):  # a set may do without held-out faces; in a plain folder they are the same ones
        for face in list_faces(data, "val", min_native=min_native):
            found.setdefault(face.stored, ("val", face))
    try:
        rows = list(write_shards(_samples(list(found.values()), size, quality), out, shard_size))
        if not rows:
            raise InputError(f"{data}: none of its {len(found)} images can be read. Check the training set.")
        write_text(out / INDEX, index_lines(rows), InputError)
    except BaseException:
        for shard in out.glob("*.tar"):  # the folder was empty: nothing half-written stays
            shard.unlink()
        raise
    shards = {row["shard"] for row in rows}
    skipped = f" (skipped as unreadable: {len(found) - len(rows)})" if len(rows) < len(found) else ""
    megabytes = sum(row["length"] for row in rows) / 1e6
    return f"{len(rows)} faces of {size} px{skipped} in {len(shards)} shards, {megabytes:.1f} MB: {out}"


def _samples(found: list[tuple[str, FaceFile]], size: int, quality: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    for i, (split, face) in enumerate(tqdm(found, desc="packing", unit="face", dynamic_ncols=True)):
        try:
            image = resize_square(read_face(face.stored), size)
        except InputError as error:
            log.warning("skipped: %s", error)
            continue
        _, data = cv2.imencode(".webp", image[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        factor = size / face.size

        def scaled(points: np.ndarray, factor: float = factor) -> list[list[float]]:
            return np.round(rescale(points, factor), 2).tolist()

        row: dict[str, Any] = {
            "file": f"{split}/{i:06d}.webp",
            "split": split,
            "size": size,
            "kind": face.kind,
            "native_px": face.native,
            "out_of_photo": face.out_of_photo,
            "photo": None if face.photo is None else scaled(face.photo),
            "points": scaled(face.points),
            "boxes": np.round(face.boxes.astype(np.float64) * factor, 2).tolist(),
            "licence": face.licence,
            "group": face.group,
        }
        yield row, data.tobytes()
