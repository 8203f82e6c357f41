"""Writes the pages of options from the dataclasses that define them; `tests/test_docs.py` holds them fresh.

python docs/tools/options.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pfr_core.options import ClipOptions, RestoreOptions, Setup  # noqa: E402
from pfr_core.support.schema import Spec, specs  # noqa: E402
from trainer.data.options import PrepareOptions  # noqa: E402
from trainer.judge.options import EvaluateOptions  # noqa: E402
from trainer.run.config import DetectorConfig, FaceConfig, PointsConfig, PriorConfig, RestoreConfig  # noqa: E402
from trainer.run.presets import TRAINING_PRESETS  # noqa: E402
from web.limits import Limits  # noqa: E402

MADE = "<!-- Written by docs/tools/options.py from the code; change the code, then run `make docs`. -->"
OF_THE_MACHINE: dict[tuple[type, str], str] = {(PrepareOptions, "workers"): "half the processors"}
"""Defaults that differ from machine to machine."""
MANY = 100_000
"""An upper limit from here on only keeps typing errors out, and is not shown."""


def pages() -> dict[Path, str]:
    """Return the text of each page by its file."""
    docs = ROOT / "docs"
    return {docs / "options.md": restoring(), docs / "training" / "options.md": training()}


def restoring() -> str:
    """Return the page on options of a restoration and limits of the page."""
    return "\n\n".join([
        "# Options of a restoration",
        MADE,
        "One list for every door: fields of `pfr_core.RestoreOptions`, options of `pfr restore` (with `--` and dashes), widgets "
        "of the nodes, arguments of the page's endpoint and controls of the page, which has no `order`, `indices`, `count` and "
        "`max_face_size`; in its Photo tab faces are clicked instead. Options that exclude each other are refused "
        "(in a graph of ComfyUI ignored, which is said).",
        table(RestoreOptions, flag=False),
        "## Networks",
        "Arguments of `FaceRestorer` and options of `pfr restore`; `pfr-demo` and nodes have those that concern them.",
        table(Setup, flag=False),
        "## Clips",
        "More options of `pfr restore` for [clips](clips.md); page and nodes have `steady`, `detect_every`, `restore_every`.",
        table(ClipOptions, flag=False),
        "## Limits of the web page",
        "Options of `python -m web` and `pfr-demo`.",
        table(Limits),
        "",
    ])  # fmt: skip


def training() -> str:
    """Return the page on options of the trainer."""
    common = [*specs(FaceConfig)]
    prior, restore = (own(kind, common) for kind in (PriorConfig, RestoreConfig))
    return "\n\n".join([
        "# Options of the trainer",
        MADE,
        "A preset gives the defaults (`--preset`), options that are typed replace them, `--config FILE` takes them from a saved "
        "run. An empty cell is the value of the column `paper`. Values that the paper does not state are marked in "
        "[paper.md](../paper.md).",
        "## Both stages",
        table(FaceConfig, common),
        "Presets of `prior` set of these:",
        presets("prior", PriorConfig, common),
        "Presets of `restore` set of these:",
        presets("restore", RestoreConfig, common),
        "## `prior`",
        table(PriorConfig, prior, TRAINING_PRESETS["prior"]),
        "## `restore`",
        table(RestoreConfig, restore, TRAINING_PRESETS["restore"]),
        "## `prepare`",
        table(PrepareOptions),
        "## `detector`",
        table(DetectorConfig),
        "## `points`",
        table(PointsConfig),
        "## `evaluate`",
        "What they mean: [evaluation.md](../evaluation.md).",
        table(EvaluateOptions),
        "",
    ])  # fmt: skip


def own(kind: type, common: list[str]) -> list[str]:
    """Return the fields that a stage adds, or whose default it changes."""
    base = specs(FaceConfig)
    return [name for name, spec in specs(kind).items() if name not in common or spec.default != base[name].default]


def table(kind: type, names: Iterable[str] | None = None, columns: Mapping[str, Any] | None = None, flag: bool = True) -> str:
    """Return a Markdown table of a dataclass's options.

    Args:
        kind: the dataclass.
        names: which fields; all by default.
        columns: presets, each with a column of the values it sets; the first one sets none, its values are the defaults.
        flag: name them as on the command line.
    """
    wanted = None if names is None else set(names)
    presets = list(columns or {"default": {}})
    lines = [row("option", *presets, "what it is"), row(*["---"] * (len(presets) + 2))]
    for name, spec in specs(kind).items():
        if wanted is None or name in wanted:
            value = OF_THE_MACHINE.get((kind, name)) or text(spec.default)
            others = cells(list((columns or {}).values()), name)
            lines.append(row(code(name, flag), value, *others, describe(spec)))
    return "\n".join(lines)


def presets(stage: str, kind: type, names: list[str]) -> str:
    """Return a Markdown table: which of the fields ``names`` the presets of ``stage`` set."""
    found = TRAINING_PRESETS[stage]
    set_by_some = [name for name in names if any(name in values for values in found.values())]
    known = specs(kind)
    lines = [row("option", *found), row(*["---"] * (len(found) + 1))]
    for name in set_by_some:
        lines.append(row(code(name), text(known[name].default), *cells(list(found.values()), name)))
    return "\n".join(lines)


def cells(columns: list[Mapping[str, Any]], name: str) -> list[str]:
    """Return what each preset after the first sets ``name`` to; empty where it leaves it."""
    return [text(values[name]) if name in values else "" for values in columns[1:]]


def describe(spec: Spec) -> str:
    """Return the help text with choices and limits."""
    said = spec.help
    if spec.choices:
        said += ": " + ", ".join(f"`{choice}`" for choice in spec.choices)
    if spec.low is None or spec.high is None:
        return said
    return f"{said}; from {spec.low:g}" if spec.high >= MANY else f"{said}; {spec.low:g} to {spec.high:g}"


def code(name: str, flag: bool = True) -> str:
    """Return an option's name as it is typed."""
    return f"`--{name.replace('_', '-')}`" if flag else f"`{name}`"


def text(value: Any) -> str:
    """Return a default as it is typed."""
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def row(*cells: str) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write both pages."""
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
