"""``pfr degrade``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..degradation import Degradation, bicubic_downsample
from ..errors import InputError
from ..photo.arrays import to_uint8
from ..photo.read import read_photo
from ..photo.write import write_photo
from ..support.arguments import flag
from ..support.notice import Notice
from .common import for_each, tell
from .inputs import list_inputs, plan_outputs
from .parser import OFF


def run(arguments: argparse.Namespace) -> int:
    """Degrade every input; returns the exit status.

    Raises:
        InputError: an option that is out of range or would have no effect.
    """
    stages = {
        name: getattr(arguments, name)
        for name in ("blur", "sigma", "motion_length", "scale", "noise", "quality")
        if getattr(arguments, name) is not None
    }
    seed = arguments.seed or 0
    if seed < 0:
        raise InputError(f"--seed is {seed}; it cannot be negative.")
    useless = [*stages, *([] if arguments.seed is None else ["seed"])]
    if arguments.bicubic and useless:
        raise InputError(f"--bicubic is a task of its own; {flag(useless[0])} has no effect with it.")
    parsed: dict[str, Any] = {name: _parse(name, values) for name, values in stages.items()}
    degradation = Degradation(**parsed)
    for name, kinds in {"sigma": {"isotropic", "anisotropic"}, "motion_length": {"motion"}}.items():
        if name in parsed and not kinds & set(degradation.blur or ()):
            raise InputError(f"{flag(name)} has no effect: --blur leaves out {' and '.join(sorted(kinds))}.")
    plan = plan_outputs(list_inputs(arguments.input, [arguments.output]), arguments.output)
    numbers = {source: number for number, (source, _) in enumerate(plan)}

    def work(source: Path, target: Path) -> None:
        photo = read_photo(source)
        tell(photo.notices, source)
        if photo.pixels.dtype == np.uint16:
            text = "its 16 bits a channel are reduced to 8; the degradation ends in a JPEG."
            tell([Notice("sixteen_bits", text)], source)
        rgb = to_uint8(photo.pixels[..., :3])
        if arguments.bicubic:
            degraded, drawn = bicubic_downsample(rgb), {"bicubic": 4}
        else:
            # The first picture takes the seed as it is; further ones differ from it and from each other.
            number = numbers[source]
            degraded, parameters = degradation(rgb, (seed, number) if number else seed)
            drawn = asdict(parameters)
        tell(write_photo(target, np.concatenate([degraded, to_uint8(photo.pixels[..., 3:])], axis=2), photo), target)
        tqdm.write(json.dumps({"file": str(source), "output": str(target), **drawn}))

    return for_each(plan, work, "degraded")


def _parse(name: str, values: list[str]) -> object:
    if values == [OFF]:
        if name in ("sigma", "motion_length"):
            raise InputError(f"{flag(name)} cannot be off; leave the kind out of --blur.")
        return None
    if name == "blur":
        return tuple(values)
    try:
        numbers = [float(value) for value in values]
    except ValueError as error:
        raise InputError(f"{flag(name)} {' '.join(values)}: give one or two numbers, or '{OFF}'.") from error
    if len(numbers) > 2:
        raise InputError(f"{flag(name)} takes one or two numbers.")
    return numbers[0], numbers[-1]
