"""The paper's tables as commands: its recipes with the models that are named, its own figures beside them for orientation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pfr_core import FaceRestorer
from pfr_core.bench import bench
from pfr_core.cli.common import fetch_all
from pfr_core.errors import InputError
from pfr_core.photo.read import read_bytes
from pfr_core.support.text import markdown

from .evaluate import evaluate, prepared
from .evaluation import Evaluation
from .folders import by_stem
from .methods import INPUT, TRUTH
from .metrics import TITLES
from .options import USUAL, EvaluateOptions, Measure
from .paper import RECIPES, TIMES, Recipe
from .report import NOT_COMPARABLE, table_html, write
from .tables import number

IN_THE_PAPER = {"PFR": "Our", "GPEN": "GPEN", "GFPGAN": "GFPGAN"}
"""Kinds of network that have a row of their own there; of which version or training the paper does not say."""


def table_command(names: Sequence[str], options: EvaluateOptions) -> str:
    """Return one of the paper's tables with the models that are named, its own figures beside them.

    Args:
        names: models, and last the folder of data, unless that is ``options.pairs``.
        options: all others, too; ``measures`` and ``limit`` replace the recipe's.

    Raises:
        InputError: as :func:`~trainer.judge.evaluate.evaluate`, a folder that is not there, or a table that is no recipe.
    """
    models, data = (names, "") if options.pairs else (names[:-1], names[-1] if names else "")
    if not models and (options.table == 6 or not options.results):
        raise InputError(f"--table {options.table}: name models and, last, the data.")
    if options.table == 6:
        return running_time(models, Path(data), options)
    recipe = RECIPES[options.table]
    if options.unpaired or (options.pairs and options.table in (3, 4)):
        raise InputError(f"--table {options.table} prepares its pictures. Leave out --unpaired, and --pairs but for 1, 2 and 5.")
    wanted = recipe.measures if options.measures == USUAL else options.measures
    sources = {}
    for heading, (below, make) in recipe.sets.items():  # all before the first is judged: a folder may be missing
        out = str(Path(options.out) / below) if options.out else ""
        here = replace(options, measures=wanted, denoiser=False, out=out)
        sources[heading] = (prepared(here) if options.pairs else make(Path(data) / below, here)), here
    found = {heading: evaluate(source, models, here) for heading, (source, here) in sources.items()}
    text = f"{recipe.title}\n\n{laid_out(recipe, found)}"
    places = {heading: " and ".join(options.pairs) or str(Path(data) / below) for heading, (below, _) in recipe.sets.items()}
    captions = "; ".join(f"{places[heading]}: {each.caption}" for heading, each in found.items())
    notes = list(dict.fromkeys(note for each in found.values() for note in each.notes))
    parts = [text, f"{captions}. In italics what the paper reports. {NOT_COMPARABLE}", *notes]
    if options.out:
        before = table_html("\n\n".join(parts[:2]))
        written = [write(each, Path(options.out) / recipe.sets[heading][0], before) for heading, each in found.items()]
        parts.append(f"written to {', '.join(map(str, written))}")
    return "\n\n".join(parts)


def running_time(models: Sequence[str], photo: Path, options: EvaluateOptions) -> str:
    """Return Table 6, running time: what ``pfr bench`` measures on ``photo``, or on the first of that folder.

    Raises:
        InputError: there is no photo, or no face in it.
    """
    path = next(iter(by_stem(photo).values())) if photo.is_dir() else photo
    fetch_all(models)
    restorers = {model: FaceRestorer(model, device=options.device) for model in models}
    found = bench(path, read_bytes(path), restorers)
    kinds = {model: restorer.net.kind for model, restorer in reversed(restorers.items())}
    known = {IN_THE_PAPER[kind]: model for model, kind in kinds.items() if kind in IN_THE_PAPER}
    seconds = {model: f"{each.stage('restore') / each.faces:.3f}" for model, each in found.models.items()}
    rows = [(known.get(name, ""), name) for name in TIMES]
    rows += [(model, "") for model in models if model not in known.values()]
    table = [["method", *(model for model, _ in rows)], ["in the paper", *(f"*{name}*" if name else "" for _, name in rows)]]
    table.append(["seconds a face", *(seconds.get(model, "") for model, _ in rows)])
    table.append(["paper, a V100", *(f"*{TIMES[name]}*" if name else "" for _, name in rows)])
    return f"Table 6: running time\n\n{markdown(table[0], table[1:])}\n\n{NOT_COMPARABLE}\n\n{found.table()}"


def laid_out(recipe: Recipe, found: Mapping[str, Evaluation]) -> str:
    """Return the table: a column of measured figures and one of the paper's for each measure of each set."""
    columns = [(heading, measure) for heading, each in found.items() for measure in _measured(recipe, each)]
    theirs = {
        name: dict(zip([(heading, measure) for heading in recipe.sets for measure in recipe.measures], figures, strict=True))
        for name, figures in recipe.rows().items()
    }
    head = ["method", "in the paper"]
    for heading, measure in columns:
        title = f"{heading}: {TITLES[measure]}" if len(found) > 1 else TITLES[measure]
        head += [title, "paper"]
    table = [head]
    for method, name in matched(recipe, next(iter(found.values()))):
        row = [method, f"*{name}*" if name else ""]
        for heading, measure in columns:
            figure = theirs.get(name, {}).get((heading, measure), "")
            row += [number(found[heading].scores.get(method, {}), measure), f"*{figure}*" if figure else ""]
        table.append(row)
    if recipe.across:
        table = [list(column) for column in zip(*table, strict=True)]
    return markdown(table[0], table[1:])


def _measured(recipe: Recipe, found: Evaluation) -> list[Measure]:
    """Return the recipe's measures, then others that were asked for; those that nobody could measure are left out."""
    return [name for name in dict.fromkeys([*recipe.measures, *found.by]) if name in found.by]


def matched(recipe: Recipe, found: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield rows as (our method, the paper's name), either of which may be empty: the paper's in its order, then ours alone.

    Models of a kind that the paper has stand in its row, the first of several. Of ablations all six, in the paper's order, do.
    """
    left = [method.name for method in found.methods if method.name in found.scores]
    names = list(recipe.rows())
    if recipe is RECIPES[5]:
        pairs = dict(zip(names, found.models, strict=True)) if len(found.models) == len(names) else {}
    else:
        first = {"Input": INPUT, "Bicubic": INPUT, "GT": TRUTH}
        kinds = {IN_THE_PAPER[m.kind]: m.name for m in reversed(found.methods) if m.kind in IN_THE_PAPER}
        pairs = {name: method for name, method in (first | kinds).items() if method in left}
    yield from ((pairs.get(name, ""), name) for name in names)
    yield from ((name, "") for name in left if name not in [pairs.get(each) for each in names])
