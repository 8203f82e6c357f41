"""``-`` on the command line: a photo from standard input, a result to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ImageError, InputError
from ..photo.read import ending_of

STANDARD = "-"


def is_standard(output: Path) -> bool:
    """Return whether an output is standard output: what is written on the way there lasts no longer than the command."""
    return output == Path(STANDARD)


@contextmanager
def standard_input(inputs: Sequence[str]) -> Iterator[list[str]]:
    """Yield the inputs with a temporary file in the place of ``-``, named by what came.

    Raises:
        InputError: there is no standard input.
        ImageError: nothing came, or there is no room to keep it.
    """
    if STANDARD not in inputs:
        yield [*inputs]
        return
    if sys.stdin is None:
        raise InputError("-: there is no standard input; name a file.")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("-: nothing came from standard input.")
    with ExitStack() as kept:
        try:
            path = Path(kept.enter_context(TemporaryDirectory(prefix="pfr-")), f"stdin{ending_of(data)}")
            path.write_bytes(data)
        except OSError as error:
            raise ImageError(
                f"-: cannot be kept in the folder for temporary files ({error.strerror}); make room, or name another in TMPDIR."
            ) from error
        yield [str(path) if name == STANDARD else name for name in inputs]


@contextmanager
def standard_output(output: Path) -> Iterator[Path]:
    """Yield the output; in the place of ``-`` a temporary folder, of which the one result is then written to standard output.

    Raises:
        InputError: nobody would read it.
    """
    if not is_standard(output):
        yield output
        return
    if sys.stdout is None or sys.stdout.isatty():
        raise InputError("-o -: standard output is no file and no pipe here; redirect it, or name a file.")
    with TemporaryDirectory(prefix="pfr-") as folder:
        yield Path(folder)
        for path in Path(folder).rglob("*"):  # of a folder with one photograph below it, too
            if path.is_file():
                sys.stdout.buffer.write(path.read_bytes())
        sys.stdout.buffer.flush()
