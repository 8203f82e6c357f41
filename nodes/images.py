"""ComfyUI's pictures and ours: IMAGE [B,H,W,3 or 4] and MASK [B,H,W] against arrays [H,W,C] float32.

Frames are converted one by one, and results go straight to their place in memory that is taken once: a video costs what its
outputs cost and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..pfr_core.errors import InputError
from ..pfr_core.faces.face import Face
from ..pfr_core.photo.arrays import Array, FloatImage, to_uint8
from ..pfr_core.photo.write import write_file

PREVIEW_SIDE = 1024
"""Longest side in px of a picture shown on a node."""


class Frames:
    """The frames of an IMAGE of any float type on any device, as arrays [H,W,C] float32, made when they are asked for.

    Other nodes make values below 0 and above 1; they stay, for a picture passes through as it is outside its faces. The arrays
    may share the IMAGE's memory and are not to be written to.

    Raises:
        InputError: not an IMAGE.
    """

    def __init__(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[3] not in (3, 4) or 0 in image.shape[1:3]:
            raise InputError(f"An IMAGE of shape {list(image.shape)}; PFR takes [batch, height, width, 3 or 4].")
        self.image = image

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, number: int) -> FloatImage:
        array: FloatImage = self.image[number].float().cpu().contiguous().numpy()
        return array

    def __iter__(self) -> Iterator[FloatImage]:
        return (self[number] for number in range(len(self)))


class Batch:
    """An IMAGE or a MASK that is filled frame by frame; the first frame says how large it is."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.tensor: Tensor | None = None

    def append(self, array: Array) -> None:
        """Put the next frame in its place: [H,W,C] for an IMAGE, [H,W] for a MASK."""
        import comfy.model_management as management

        if self.tensor is None:
            shape = (self.total, *array.shape)
            self.tensor = torch.empty(shape, dtype=torch.float32, device=management.intermediate_device())
        self.tensor[self.done] = torch.from_numpy(array)
        self.done += 1

    def extend(self, arrays: Iterable[Array]) -> None:
        """Put the next frames in their places."""
        for array in arrays:
            self.append(array)

    def result(self, empty: Tensor) -> Tensor:
        """Return the whole batch, or ``empty`` if it has no frames."""
        return empty.float() if self.tensor is None else self.tensor


def no_crops(size: int) -> Tensor:
    """Return what stands for no crops: one black image, because ComfyUI's own nodes fail on an empty batch."""
    import comfy.model_management as management

    return torch.zeros(1, size, size, 3, device=management.intermediate_device())


def preview(array: Array) -> dict[str, Any]:
    """Save [H,W,3+] as ComfyUI's temporary picture, shrunk, and give the reference that its page can load.

    The same picture has the same name: a workflow that keeps the reference has not changed because it ran again.
    """
    import folder_paths

    picture = Image.fromarray(to_uint8(array[..., :3]))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    encoded = BytesIO()
    picture.save(encoded, "JPEG", quality=95)
    name = f"pfr_{hashlib.sha256(encoded.getvalue()).hexdigest()}.jpg"
    target = Path(folder_paths.get_temp_directory()) / name
    if not target.exists():  # the page may be loading it
        write_file(target, encoded.getvalue())
    return {"filename": name, "subfolder": "", "type": "temp"}


AROUND = 0.4
"""What the before | after preview shows around the faces, as a share of their size."""


def before_after(before: Array, after: Array, faces: Sequence[Face]) -> dict[str, Any]:
    """Return what the before | after preview of a node shows: the part of the picture where its faces are."""
    boxes = np.array([face.box for face in faces])
    margin = AROUND * (boxes[:, 2:] - boxes[:, :2])
    corners = np.stack([(boxes[:, :2] - margin).min(axis=0), (boxes[:, 2:] + margin).max(axis=0)])
    size = before.shape[1], before.shape[0]
    (left, top), (right, bottom) = np.clip(np.rint(corners), 0, size).astype(int)
    factor = after.shape[1] / size[0], after.shape[0] / size[1]
    rows = slice(round(top * factor[1]), round(bottom * factor[1]))
    columns = slice(round(left * factor[0]), round(right * factor[0]))
    return {"pfr_before": [preview(before[top:bottom, left:right])], "pfr_after": [preview(after[rows, columns])]}


NOTHING_RESTORED: dict[str, Any] = {"pfr_before": [], "pfr_after": []}
"""For a run without a face, so that the picture of an earlier one goes."""
