"""What decides about the pixels of a result: a clip or an archive that was begun is gone on with only where it is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from .faces.detect import on_this_machine
from .models.disk import sha256_of
from .models.download import obtain
from .models.registry import REGISTRY
from .options import ClipOptions, RestoreOptions, Setup
from .support.choices import DetectorName

UNNAMED = {
    "detector_file": "f7a7ca582193dc136d99f4cccdcded9938ab9bf5315368ab8aaac133e7d6b51d",
    "points_file": "cb8136543aee10f8267a2969be2464cb84705868e2f86c77debb755c83db58d2",
}
"""SHA-256 of the files that shipped with PFR before work that is begun named them: this stays as it is when others ship."""


def deciding(options: RestoreOptions, detector: DetectorName | None, dtype: str) -> dict[str, object]:
    """Return by name what decides about the pixels of faces, beside the model's file.

    Device and batch size do not, but for rounding.
    What ships with PFR counts by its content, which an update may change. A published file is checked against the registry's
    hash whenever it is used, so that its name says it all.

    Args:
        options: how faces are found, chosen, restored and put back.
        detector: which one finds them; None if nothing is looked for.
        dtype: precision of the network; as it was asked for where many machines settle it.

    Raises:
        WeightsError: a file that ships with PFR is missing.
    """
    found: dict[str, object] = {**asdict(options), "dtype": dtype}
    if detector is not None:
        name = on_this_machine(detector)  # what auto means may change meanwhile
        found |= {"detector": name, "points_file": sha256_of(obtain("points"))}
        if REGISTRY[name].embedded:
            found["detector_file"] = sha256_of(obtain(name))
    return found


def differing(earlier: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the names of the choices that differ, sorted. One that only one side names had its default on the other.

    So work that an earlier version began is gone on with although there are options now that it did not know.

    Example:
        >>> differing({"strength": 0.5}, {"strength": 0.5, "scale": 1.0}), differing({}, {"scale": 2.0})
        ([], ['scale'])
    """
    defaults = {**asdict(Setup()), **asdict(RestoreOptions()), **asdict(ClipOptions()), **UNNAMED}
    one, other = (json.loads(json.dumps({**defaults, **each})) for each in (earlier, now))  # a tuple is a list where it was kept
    return sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
