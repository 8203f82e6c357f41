"""An evaluation as files: ``results.json``, ``results.csv`` and ``report.html``, which needs no other file and no network."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from pfr_core.errors import InputError
from pfr_core.support.files import write_text

from .evaluation import Evaluation
from .methods import INPUT, TRUTH
from .metrics import OF_SETS, TITLES
from .options import Measure
from .pictures import forest, picture_grid, sorted_gains
from .tables import (
    NO_GROUPS,
    columns_of,
    differences,
    differences_table,
    gains,
    harm,
    subgroups,
    subgroups_table,
    table,
    twice_table,
)

NOT_COMPARABLE = (
    "Figures compare the rows of this page. Those of other papers and programs come from other crops, degradations, networks and "
    "references, and must not share a column with them."
)


def write(found: Evaluation, folder: Path, before: str = "") -> Path:
    """Write the three files; return the report's path.

    Args:
        found: the evaluation.
        folder: where.
        before: HTML that stands first in the report.

    Raises:
        InputError: they cannot be written.
    """
    write_text(folder / "results.json", json.dumps(as_json(found), indent=1, allow_nan=False), InputError)
    write_text(folder / "results.csv", as_csv(found), InputError)
    write_text(folder / "report.html", as_html(found, before), InputError)
    return folder / "report.html"


def as_json(found: Evaluation) -> dict[str, Any]:
    """Return everything but pictures and features."""
    worst = subgroups(found)
    return {
        "set": found.caption,
        "protocol": dict(found.protocol),
        "methods": {name: scores for name, scores in found.scores.items()},
        "optimised for": sorted(found.labelled),
        "differences": [asdict(each) for each in differences(found)],
        "worst subgroups": [asdict(each) for each in worst] or NO_GROUPS,
        "notes": found.notes,
        "rows": rows(found, columns_of(found.scores)),
    }


def rows(found: Evaluation, columns: Sequence[Measure]) -> list[dict[str, Any]]:
    """Return a row for each picture and method; None where it has no such measure."""
    return [
        {
            "method": record.method,
            "picture": record.case,
            "face": record.face,
            "probe": record.probe,
            "group": record.group,
            **{name: record.scores.get(name) for name in columns if name not in OF_SETS},
            "moved": record.moved,
        }
        for records in found.records.values()
        for record in records
    ]


def as_csv(found: Evaluation) -> str:
    """Return the rows as CSV."""
    table_of = rows(found, columns_of(found.scores))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table_of[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_of)
    return text.getvalue()


def as_html(found: Evaluation, before: str = "") -> str:
    """Return the report."""
    sections = [
        ("", before),
        ("Scores", table_html(table(found.scores, found.caption, found.labelled))),
        ("Faces", picture_grid(found)),
        ("Paired differences", interval_words() + forests(found) + table_html(differences_table(found))),
        ("Gain of each face", gain_plot(found)),
        ("Good faces and single faults", table_html(harm(found))),
        ("Restored again", table_html(twice_table(found))),
        ("Worst subgroup", table_html(subgroups_table(found))),
        ("Every picture", rows_html(found)),
        ("How it was measured", protocol_html(found)),
    ]
    body = "\n".join(
        f"<section>{f'<h2>{title}</h2>' if title else ''}{content}</section>" for title, content in sections if content
    )
    return PAGE.substitute(title=html.escape(found.caption), warning=html.escape(NOT_COMPARABLE), body=body)


def table_html(text: str) -> str:
    """Return Markdown tables and paragraphs, as :mod:`~trainer.judge.tables` writes them, as HTML; of ``*x*`` the x is grey."""
    parts = []
    for part in text.split("\n\n"):
        lines = part.splitlines()
        if not part.startswith("|"):
            parts.append(f"<p>{html.escape(part.lstrip(chr(92)))}</p>" if part else "")
            continue
        head, *others = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])]
        cells = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in others)
        parts.append(f"<table><thead><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr></thead>{cells}</table>")
    return "".join(parts)


def _cell(text: str) -> str:
    if len(text) > 2 and text.startswith("*") and text.endswith("*"):
        return f'<td class="paper">{html.escape(text.strip("*"))}</td>'
    return f"<td>{html.escape(text)}</td>"


def interval_words() -> str:
    """Return what the intervals are."""
    return (
        "<p>Mean over faces of the difference on the same face, with the 95 % bootstrap interval; faces are resampled, not their "
        "draws. An interval without 0 is more than chance among such faces.</p>"
    )


def forests(found: Evaluation) -> str:
    """Return a plot of the differences to the input for each measure."""
    all_of_them = [each for each in differences(found) if each.base == INPUT]
    measures = list(dict.fromkeys(each.measure for each in all_of_them))
    return "".join(forest(TITLES[name], [each for each in all_of_them if each.measure == name]) for name in measures)


def gain_plot(found: Evaluation) -> str:
    """Return a plot of every face's gain in PSNR, least to most, a line for each method."""
    lines = {
        name: np.sort(gains(found.judged(name), found.judged(INPUT))) for name in found.rated if "psnr" in found.scores[name]
    }
    return sorted_gains(lines) if lines else ""


def rows_html(found: Evaluation) -> str:
    """Return a sortable table of all pictures."""
    shown = [row for row in rows(found, columns_of(found.scores)) if not row["probe"] and row["method"] != TRUTH]
    names = [name for name in shown[0] if name not in ("face", "probe") and any(row[name] not in (None, "") for row in shown)]
    head = "".join(f"<th>{html.escape(TITLES.get(name, name))}</th>" for name in names)  # type: ignore[call-overload]
    lines = "".join(f"<tr>{''.join(f'<td>{_value(row[name])}</td>' for name in names)}</tr>" for row in shown)
    return f"<p>A click on a head sorts.</p><table><thead><tr>{head}</tr></thead>{lines}</table>"


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else html.escape(str(value))


def protocol_html(found: Evaluation) -> str:
    """Return what was measured with what, and what is missing."""
    facts = {TITLES[name]: how for name, how in found.by.items()}
    facts |= {name: str(value) for name, value in found.protocol.items() if name != "measures"}
    facts |= {f"version of {method.name}": method.told for method in found.methods if method.told}
    lines = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(how)}</td></tr>" for name, how in facts.items())
    return f"<table>{lines}</table>" + "".join(f"<p>{html.escape(note)}</p>" for note in found.notes)


PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
section { overflow-x: auto }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left }
th { cursor: pointer } th[data-order]::after { content: " ▾" } th[data-order="-1"]::after { content: " ▴" }
.paper { color: #888 } .warning { border-left: 3px solid #c80; padding-left: .8rem }
.faces { table-layout: fixed; width: 100% }
.faces img { width: 100% } svg { margin: 0 1.5rem 1rem 0 } svg text { font: 12px system-ui, sans-serif; fill: #222 }
</style>
<h1>$title</h1><p class="warning">$warning</p>
$body
<script>
for (const head of document.querySelectorAll("thead th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex, order = head.dataset.order == 1 ? -1 : 1
  for (const other of head.parentNode.cells) delete other.dataset.order
  head.dataset.order = order
  const value = row => row.cells[column].textContent, number = text => parseFloat(text.replace("\u2212", "-"))
  const compare = (a, b) => number(a) - number(b) || a.localeCompare(b)
  body.append(...[...body.rows].sort((a, b) => order * compare(value(a), value(b))))
}
</script>
</html>
""")
