"""What ``pfr restore`` does with photographs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..options import RestoreOptions, Setup
from ..photo.arrays import Array, resize, to_uint8
from ..photo.photo import Photo, Provenance
from ..photo.read import read_photo
from ..photo.restored import check_transparency
from ..photo.write import write_photo
from ..restorer import FaceRestorer
from ..session import RestoredArray
from ..support.arguments import chosen
from ..support.device import keep_memory
from ..support.notice import Notice
from ..support.text import plural
from .common import tell


@dataclass(frozen=True)
class RestorePhotos:
    """Restores one photograph after the other; can be pickled before the first, and then loads the networks where it is used.

    Args:
        arguments: what was typed.
        pictures: where a picture before | after is written, by source.
    """

    arguments: argparse.Namespace
    pictures: Mapping[Path, Path]

    @cached_property
    def restorer(self) -> FaceRestorer:
        """The networks, loaded once in each process."""
        arguments = self.arguments
        restorer = FaceRestorer(**chosen(arguments, Setup), options=RestoreOptions(**chosen(arguments, RestoreOptions)))
        if restorer.device.type == "cpu":
            keep_memory()
        return restorer

    def __call__(self, source: Path, target: Path) -> str:
        """Restore a photograph; returns a line that tells of it."""
        arguments, photo = self.arguments, read_photo(source)
        if target != arguments.output:  # a format that was not asked for
            check_transparency(photo, target)
        background = None if arguments.background is None else _background(arguments.background, photo)
        try:
            file = self.restorer.restore_file(
                photo, target, quality=arguments.quality, provenance=arguments.provenance, background=background,
                aligned=arguments.aligned,
            )  # fmt: skip
        except ImageError:
            if target != arguments.output:  # the remedy is another one there
                check_transparency(photo, target, changed=True)
            raise
        tell(file.notices, source, target)
        if source in self.pictures:
            mark = self.restorer.provenance if arguments.provenance and file.changed else None
            _write_pair(self.pictures[source], photo, file.restored, mark)
        count = len(file.restored.faces)
        what = f"{plural(count, 'face')} restored"
        if arguments.aligned:
            what = "restored as a whole"
        elif not count:
            what = "no face restored"
        if file.copied:
            what += ", which changed nothing: copied as it is" if count or arguments.aligned else ", copied as it is"
        times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in file.restored.seconds.items())
        return f"{target}: {what}" + (f" ({times})" if arguments.verbose else "")


def _background(path: Path, photo: Photo) -> Array:
    """Return the pixels of a background, whose notices are told; its colours are taken to be the photograph's."""
    large = read_photo(path)
    noticed = list(large.notices)
    if large.icc is not None and large.icc != photo.icc:
        given = "none" if photo.icc is None else f"that of {photo.path}"
        noticed.append(Notice("not_kept", f"{path}: its colour profile is not the result's, which gets {given}; convert it."))
    tell(noticed, path)
    return large.pixels


def _write_pair(path: Path, photo: Photo, restored: RestoredArray, provenance: Provenance | None) -> None:
    """Write before | after."""
    before = resize(photo.pixels, restored.image.shape[1], restored.image.shape[0])
    after = restored.image[..., : before.shape[2]]  # a background may have a transparency of its own
    pair = to_uint8(np.concatenate([before, after], axis=1))
    tell(write_photo(path, pair, replace(photo, extras=()), provenance=provenance), path)
