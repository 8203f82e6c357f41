"""Where an image's bytes lie: in a file, or inside a tar shard (WebDataset's layout), on disk or behind a URL.

Every image has a place of its own that is read by itself, whatever holds it, so that a sample stays a pure function of its
number. Shards behind a URL are read by HTTP ranges and never stored as a whole.
"""

from __future__ import annotations

import http.client
import io
import json
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfr_core.errors import InputError
from pfr_core.photo.photo import IMAGE_SUFFIXES

TRIES, TIMEOUT = 4, 60.0
"""How often a URL is tried, with pauses of 1, 2 and 4 s; seconds of silence after which a try has failed."""


def is_url(place: str) -> bool:
    """Return whether ``place`` is to be fetched."""
    return place.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Stored:
    """The bytes of one image: the file or URL ``place``, or ``length`` bytes of it from ``offset``."""

    place: str
    offset: int = 0
    length: int | None = None

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            InputError: they cannot be read; the message names the place.
        """
        try:
            if is_url(self.place):
                return fetch(self.place, self.offset, self.length)
            with open(self.place, "rb") as file:
                file.seek(self.offset)
                data = file.read(-1 if self.length is None else self.length)
        except OSError as error:
            raise InputError(f"{self}: cannot be read ({error}).") from error
        if self.length is not None and len(data) != self.length:
            raise InputError(f"{self}: the shard ends too early. Copy or prepare it again.")
        return data

    def __str__(self) -> str:
        return self.place if self.length is None else f"{self.place} at {self.offset}"


def fetch(url: str, offset: int = 0, length: int | None = None) -> bytes:
    """Return the bytes of ``url``, or a range of them; passing trouble is tried again.

    Raises:
        OSError: still not to be had after some tries.
    """
    headers = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
                if length is not None and answer.status != 206:
                    raise OSError("the server does not serve ranges; copy the shards to a local folder")
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == TRIES - 1:
                raise OSError(f"HTTP {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            if attempt == TRIES - 1:
                raise OSError(str(error)) from error
        time.sleep(2**attempt)
    raise AssertionError


def scan_tar(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of a WebDataset tar without an index: ``shard``, ``offset``, ``length``, ``file``, its JSON's content.

    Raises:
        InputError: not a tar file.
    """
    described: dict[str, dict[str, Any]] = {}
    images: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                # WebDataset's key ends at the first dot of the file's own name, and what lies beside the image may be anything.
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                key = f"{folder}/{key}"
                if ending == "json":
                    file = tar.extractfile(member)
                    assert file is not None
                    described[key] = json.load(file)
                    if not isinstance(described[key], dict):
                        raise ValueError(f"{member.name} is no object")
                elif member.isfile() and f".{ending.lower()}" in IMAGE_SUFFIXES:
                    images[key] = {"file": member.name, "shard": path.name, "offset": member.offset_data, "length": member.size}
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"{path}: no readable shard ({error}).") from error
    yield from ({**described.get(key, {}), **image} for key, image in images.items())


def write_shards(samples: Iterable[tuple[dict[str, Any], bytes]], out: Path, megabytes: float) -> Iterator[dict[str, Any]]:
    """Pack images, each with the row that describes it, into tars of about ``megabytes`` in ``out``.

    Yields each row with its ``shard``, ``offset`` and ``length``; the JSON beside each image holds the row itself.
    """
    out.mkdir(parents=True, exist_ok=True)
    waiting = iter(samples)
    sample = next(waiting, None)
    number = 0
    while sample is not None:
        name = f"faces-{number:06d}.tar"
        number += 1
        with tarfile.open(out / name, "w") as tar:
            while sample is not None and tar.offset < megabytes * 1e6:
                row, image = sample
                key, ending = Path(row["file"]).with_suffix("").as_posix(), Path(row["file"]).suffix[1:]
                key = key.replace("/", "_").replace(".", "_")  # WebDataset's keys end at the first dot
                for suffix, data in (("json", json.dumps(row).encode()), (ending, image)):
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
                # The image came last: it ends where the tar does, up to the padding to whole blocks.
                padded = -(-len(image) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                yield {**row, "shard": name, "offset": tar.offset - padded, "length": len(image)}
                sample = next(waiting, None)
