"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from ..errors import ImageError
from ..image_io import IMAGE_SUFFIXES


def list_inputs(arguments: Sequence[str]) -> list[tuple[Path, Path]]:
    """Files, folders (with everything below) and globs -> pairs of a file and the path its result has in an output folder.

    A name that is not there stays in the list: reading it reports the error, and the other files are still done.

    Raises:
        ImageError: a folder or glob without any image.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
            found |= {file: file.relative_to(path) for file in below if file not in found}
            if not below:
                raise ImageError(f"{path}: no image in this folder; looked for {', '.join(sorted(IMAGE_SUFFIXES))}.")
        elif path.exists() or not glob.has_magic(argument):
            found.setdefault(path, Path(path.name))
        else:
            matches = sorted(Path(match) for match in glob.glob(argument, recursive=True) if Path(match).is_file())
            if not matches:
                raise ImageError(f"{argument}: no file matches.")
            found |= {file: Path(file.name) for file in matches if file not in found}
    return list(found.items())


def plan_outputs(arguments: Sequence[str], output: Path) -> list[tuple[Path, Path]]:
    """Pairs of input and output file. ``output`` is a file if there is one input file and it looks like one, else a folder.

    Raises:
        ImageError: two inputs would be written to the same file, or a result would replace its input.
    """
    inputs = list_inputs(arguments)
    single = len(inputs) == 1 and not Path(arguments[0]).is_dir()
    if single and not output.is_dir() and output.suffix.lower() in IMAGE_SUFFIXES:
        plan = [(inputs[0][0], output)]
    else:
        plan = [(source, output / name) for source, name in inputs]
    taken: dict[Path, Path] = {}
    for source, target in plan:
        other = taken.setdefault(target.resolve(), source)
        if other is not source:
            raise ImageError(f"{other} and {source} would both be written to {target}; give them different names or outputs.")
        if target.resolve() == source.resolve():
            raise ImageError(f"{source}: input and output are the same file; choose another output, the original is kept.")
    return plan
