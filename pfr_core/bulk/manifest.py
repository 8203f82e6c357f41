"""What was done: a row for each photograph, in Parquet files that are written as the work goes on.

One process, the one that runs the job, writes; so no row is there twice but for photographs that were done again, of which
the last counts. Each run leaves a JSON file with its choices beside its parts.
"""

from __future__ import annotations

import io
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ImageError, InputError
from ..resume import differing
from . import places

log = logging.getLogger(__name__)

ROWS, SECONDS = 1000, 5.0
"""A part is written when it has so many rows, or is so old: what is lost if the process that runs the job is killed."""
TOGETHER = 100
"""Parts that become one: a week of parts of 5 seconds would be 120,000 files, which the next run reads."""


@dataclass(frozen=True)
class Row:
    """What became of one photograph.

    Attributes:
        input: where it is.
        output: where its result is.
        status: ``failed`` rows are done again by the next run.
        faces: how many were restored.
        changed: whether any pixel became another.
        seconds: what the stages took together.
        error: why there is no result.
        notices: what a person should know of the result.
        sha256: of the result's file.
        model: name of the model.
        model_sha256: of its file.
        options_sha256: of all choices that decide about the pixels, see :class:`Choices`.
        finished: when, in seconds since 1970.
    """

    input: str
    output: str
    status: Literal["done", "failed"]
    faces: int = 0
    changed: bool = False
    seconds: float = 0.0
    error: str = ""
    notices: list[str] = field(default_factory=list)
    sha256: str = ""
    model: str = ""
    model_sha256: str = ""
    options_sha256: str = ""
    finished: float = 0.0


_TYPES = {"str": pa.string(), "int": pa.int32(), "bool": pa.bool_(), "float": pa.float64(), "list[str]": pa.list_(pa.string())}
SCHEMA = pa.schema([pa.field(each.name, _TYPES.get(str(each.type), pa.string()), nullable=False) for each in fields(Row)])


AGAIN = ".again"
"""Ending of the Parquet file that lists what a run does again."""


def storable(text: str) -> str:
    r"""Return a text as the manifest holds it: bytes of a name that are no UTF-8 as ``\udcXX``, for Parquet has only UTF-8.

    Example:
        >>> print(storable("M\udcfcller.jpg"))
        M\udcfcller.jpg
    """
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Choices:
    """What decides about the results of a run.

    Attributes:
        model: name of the model.
        model_sha256: of its file.
        options_sha256: of ``options``.
        options: all choices by name.
        version: of PFR; empty in runs of before it was noted.
    """

    model: str
    model_sha256: str
    options_sha256: str
    options: Mapping[str, Any]
    version: str = ""


class Manifest:
    """The manifest in a folder or below an address.

    Args:
        place: where it is, or will be.
    """

    def __init__(self, place: str) -> None:
        self.place = places.absolute(place)
        self._rows: list[dict[str, Any]] = []
        self._part, self._since = 0, time.monotonic()
        self._small: list[tuple[str, pa.Table]] = []

    def rows(self, columns: list[str] | None = None) -> pa.Table:
        """Return the rows, of a photograph done again the last one, with the name of the run as ``run``.

        Args:
            columns: those that are wanted, ``input`` among them; all by default.

        Raises:
            ImageError: it cannot be read.
        """
        table = self.all_rows(columns)
        last = {name: number for number, name in enumerate(table["input"].to_pylist())}
        return table if len(last) == table.num_rows else table.take(sorted(last.values()))

    def all_rows(self, columns: list[str] | None = None) -> pa.Table:
        """Return the rows as :meth:`rows` does, of a photograph done again all of them, the last one last.

        Raises:
            ImageError: it cannot be read.
        """
        files = self._files(".parquet")
        try:
            parts = [self._read(part, columns) for part in files]
        except ImageError:
            if (now := self._files(".parquet")) == files:
                raise
            parts = [self._read(part, columns) for part in now]  # a run that goes on has made one of several
        if not parts:
            return SCHEMA.append(pa.field("run", pa.string())).empty_table()
        return pa.concat_tables(parts)

    def runs(self) -> list[Choices]:
        """Return the choices of each run, the last one's last.

        Raises:
            ImageError: they cannot be read.
        """
        found = list[Choices]()
        for file in self._files(".json"):
            try:
                found.append(Choices(**json.loads(places.read(file))))
            except (ValueError, TypeError) as error:
                raise ImageError(f"{file}: not written by pfr bulk ({error}); name another --manifest.") from error
        return found

    def again(self) -> dict[str, str]:
        """Return the inputs that runs were to do again, with the name of the last such run: it may have been interrupted.

        Raises:
            ImageError: they cannot be read.
        """
        found = dict[str, str]()
        for file in self._files(AGAIN):
            try:
                inputs = pq.read_table(io.BytesIO(places.read(file)))["input"].to_pylist()
            except (pa.ArrowException, KeyError, ValueError) as error:
                raise ImageError(f"{file}: not written by pfr bulk ({error}); name another --manifest.") from error
            found |= dict.fromkeys(inputs, _run_of(file))
        return found

    def begin(self, choices: Choices, again: Sequence[str] = ()) -> None:
        """Say with which choices this run goes, and which inputs it does again, whatever was done.

        Raises:
            ImageError: it cannot be written.
        """
        if again:
            inputs = pa.table({"input": [*map(storable, again)]})
            places.write(places.join(self.place, f"again-{self._run}{AGAIN}"), _parquet(inputs))
        places.write(places.join(self.place, f"run-{self._run}.json"), json.dumps(asdict(choices), indent=1).encode())

    def add(self, row: Row) -> None:
        """Take a row, and write a part when it is time to.

        Raises:
            ImageError: it cannot be written.
        """
        values = {name: storable(value) if isinstance(value, str) else value for name, value in asdict(row).items()}
        self._rows.append({**values, "notices": [*map(storable, row.notices)]})
        if len(self._rows) >= ROWS or time.monotonic() - self._since > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has been taken since the last part.

        Raises:
            ImageError: it cannot be written.
        """
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=SCHEMA)
            self._small.append((self._write(table), table))
            self._rows = []
        if len(self._small) >= TOGETHER:
            with suppress(ImageError):  # the rows are safe in many parts, too
                self._write(pa.concat_tables([table for _, table in self._small]))
                for place, _ in self._small:  # one that stays holds rows that are there twice, of which the last counts
                    with suppress(ImageError):
                        places.remove(place)
            self._small = []
        self._since = time.monotonic()

    @cached_property
    def _run(self) -> str:
        """The name of this run; sorted by name they are sorted by time, also where a clock is behind an earlier one's."""
        numbers = [_run_of(file).partition("-")[0] for file in self._files("")]
        later = [int(number) + 1 for number in numbers if number.isdecimal()]
        return f"{max(int(time.time() * 1000), *later, 0):014d}-{secrets.token_hex(3)}"

    def _write(self, table: pa.Table) -> str:
        """Write a part under a name of its own, for not every store replaces a file in one step; returns its place."""
        place = places.join(self.place, f"part-{self._run}-{self._part:06d}.parquet")
        places.write(place, _parquet(table))
        self._part += 1
        return place

    def _files(self, ending: str) -> list[str]:
        return sorted(found for name, found in places.files_in(self.place) if name.endswith(ending) and "/" not in name)

    def _read(self, part: str, columns: list[str] | None) -> pa.Table:
        schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
        try:
            table = pq.read_table(io.BytesIO(places.read(part)), columns=columns).select(schema.names).cast(schema)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise ImageError(f"{part}: no part of a manifest ({error}); move it away, its photographs are done again.") from error
        return table.append_column("run", pa.array([_run_of(part)] * table.num_rows, pa.string()))


@dataclass(frozen=True)
class Earlier:
    """What the runs before this one did; all names are :func:`storable`.

    Attributes:
        done: input and output of photographs that need not be done.
        results: by output, the input whose result it is.
        meant: by input, where its result went, or was to go if it failed; without those that are to be done again.
        begun: whether there was any run.
    """

    done: Set[tuple[str, str]]
    results: Mapping[str, str]
    meant: Mapping[str, str]
    begun: bool


def look_back(manifest: Manifest, choices: Choices, again: bool) -> Earlier:
    """Return what was done, with these choices.

    Nothing is if all are to be done ``again``; of a photograph that a run was to do again, what was before it does not count; and
    what another photograph's result has replaced is not there any more. That the last run was one of another version of PFR is
    logged.

    Raises:
        InputError: the last run had others, and they are not to be done ``again``.
        ImageError: the manifest cannot be read.
    """
    runs = manifest.runs()
    if runs and not again:
        last = runs[-1]
        earlier = f"PFR {last.version}" if last.version else "an earlier version of PFR"  # the first ones did not note theirs
        of = f" of {earlier}" if last.version != choices.version else ""
        if differ := _differing(last, choices):
            what = f"the last run{of} had other choices ({', '.join(differ)})"
            raise InputError(f"{manifest.place}: {what}; use the same, another output, or --again.")
        if of:
            log.warning("%s: the last run was%s, this is %s; --again does all alike.", manifest.place, of, choices.version)
    # The digest is of the options that a version knows: the same choices may have several.
    same = {_key(choices), *(_key(run) for run in runs if not _differing(run, choices))}
    redone = manifest.again()
    done, results, meant = dict[str, str](), dict[str, str](), dict[str, str]()
    for row in each(manifest.all_rows(["input", "output", "status", "model_sha256", "options_sha256"])):
        source, target, good = row["input"], row["output"], row["status"] == "done"
        if good:
            results[target] = source
        done.pop(source, None)
        if again or row["run"] < redone.get(source, ""):
            continue
        meant[source] = target
        if good and (row["model_sha256"], row["options_sha256"]) in same:
            done[source] = target
    return Earlier({pair for pair in done.items() if results[pair[1]] == pair[0]}, results, meant, bool(runs))


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _run_of(file: str) -> str:
    """Return the name of the run that a file of a manifest belongs to."""
    return "-".join(file.replace("\\", "/").rpartition("/")[2].partition(".")[0].split("-")[1:3])


def _key(choices: Choices) -> tuple[str, str]:
    return choices.model_sha256, choices.options_sha256


def _differing(earlier: Choices, now: Choices) -> list[str]:
    other = [] if earlier.model_sha256 == now.model_sha256 else ["the model's file"]
    return [*differing(earlier.options, now.options), *other]


def each(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table by and by, by name."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()
