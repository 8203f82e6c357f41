"""How weights came to be, for the exported file."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pfr_core import __version__
from pfr_core.support.arguments import flag

from .config import NOT_STATED, RunConfig, stage_of

log = logging.getLogger(__name__)

EARLIER = "earlier_data"
"""Where a file states what its run was trained on before it went on with other data: facts, and until which step."""


def licence_of(config: RunConfig, started_from: str) -> str:
    """Return the licence of a run's weights: what the run states, else what is stated of the file that it started from.

    Args:
        config: the run.
        started_from: provenance and licence of that file, as JSON; empty: of none.
    """
    if config.licence != NOT_STATED or not started_from:
        return config.licence
    return str(json.loads(started_from).get("licence", NOT_STATED))


def with_earlier(
    facts: dict[str, Any], before: Mapping[str, Any], step: int, *, compared: Collection[str], options: Collection[str]
) -> dict[str, Any]:
    """Return what is to be said of all data of a run that goes on; that they are others than before is warned of.

    Args:
        facts: of the data that it goes on with.
        before: what its checkpoint says of the data; nothing if that is unknown.
        step: how far the checkpoint is.
        compared: names of the facts that tell other data; one that the checkpoint does not have tells nothing.
        options: which name the data.
    """
    last, earlier = {name: value for name, value in before.items() if name != EARLIER}, [*before.get(EARLIER, ())]
    if any(name in last and last[name] != facts.get(name) for name in compared):
        log.warning(
            "The data are not those that the run had until step %d: %s then, %s now. It draws other samples from here on, and "
            "exported files state both. If that is not wanted, stop it and say where its own are (%s).",
            step, last, facts, ", ".join(map(flag, options)),
        )  # fmt: skip
        earlier.append({**last, "iterations": step})
    return {**facts, EARLIER: earlier} if earlier else facts


def provenance(config: RunConfig, facts: dict[str, Any], step: int, started_from: str) -> dict[str, Any]:
    """Return what an exported file says of its weights. Paths are reduced to names.

    Args:
        config: the run.
        facts: what is to be said of its data.
        step: how far it is.
        started_from: provenance of the file that it started from, as JSON, or empty.
    """
    values = asdict(config)
    for name in (*config.DATA, *config.READ, *config.STARTS, "out"):
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
