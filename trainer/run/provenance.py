"""How weights came to be, for the exported file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pfr_core import __version__

from .config import NOT_STATED, RunConfig, stage_of


def licence_of(config: RunConfig, started_from: str) -> str:
    """Return the licence of a run's weights: what the run states, else what is stated of the file that it started from.

    Args:
        config: the run.
        started_from: provenance and licence of that file, as JSON; empty: of none.
    """
    if config.licence != NOT_STATED or not started_from:
        return config.licence
    return str(json.loads(started_from).get("licence", NOT_STATED))


def provenance(config: RunConfig, facts: dict[str, Any], step: int, started_from: str) -> dict[str, Any]:
    """Return what an exported file says of its weights. Paths are reduced to names.

    Args:
        config: the run.
        facts: what is to be said of its data.
        step: how far it is.
        started_from: provenance of the file that it started from, as JSON, or empty.
    """
    values = asdict(config)
    for name in (*config.DATA, *config.STARTS, "out"):
        match values[name]:
            case str(path):
                values[name] = Path(path).name
            case [*paths]:
                values[name] = [Path(each).name for each in paths]
    found: dict[str, Any] = {
        "trainer": f"pfr {__version__}",
        "stage": stage_of(config),
        "iterations": step,
        **facts,
        "config": values,
    }
    if started_from:
        found["started_from"] = json.loads(started_from)
    return found
