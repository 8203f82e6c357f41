"""The paper's tables as recipes: which pictures, prepared how, measured by what; and its own figures, for orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pfr_core.errors import InputError

from ..data.dataset import list_faces
from .evaluate import evaluate
from .evaluation import Evaluation
from .methods import INPUT, TRUTH
from .metrics import TITLES
from .options import USUAL, EvaluateOptions, Measure
from .report import NOT_COMPARABLE, table_html, write
from .sources import Degrade, DegradedFaces, Photographs, PreparedPairs, Source, bicubic4, eq17
from .tables import markdown, number

Make = Callable[[Path, EvaluateOptions], Source]


def faces(degrade: Degrade, first: int = 0) -> Make:
    """Return how a set of faces is made, each degraded once: all of them, or the first so many."""
    return lambda data, options: DegradedFaces(
        list_faces(data, "val")[: options.limit or first or None], 1, options.size, options.seed, degrade
    )


def photographs(*, aligned: bool, drawn: int = 0) -> Make:
    """Return how a set of photographs is made: all of them, or so many drawn by the seed."""
    return lambda data, options: Photographs(
        data, options.limit or drawn, options.size, sample=options.seed if drawn else None, aligned=aligned
    )


@dataclass(frozen=True)
class Recipe:
    """One of the paper's tables.

    Attributes:
        title: what it compares.
        sets: heading of each set, its folder below the data (empty: the data itself) and how it is made.
        measures: of each set.
        paper: a line for each of its rows: name, then the figures of each set in the order of ``measures``.
        across: methods stand side by side and not one below the other.
    """

    title: str
    sets: Mapping[str, tuple[str, Make]]
    measures: tuple[Measure, ...]
    paper: str
    across: bool = False

    def rows(self) -> dict[str, list[str]]:
        """Return the paper's figures by its names of methods."""
        lines = [line.rsplit(maxsplit=len(self.sets) * len(self.measures)) for line in self.paper.strip().splitlines()]
        return {name.strip(): figures for name, *figures in lines}


RESTORATION: tuple[Measure, ...] = ("psnr", "ssim", "lpips", "fid", "niqe")
RECIPES: dict[int, Recipe] = {
    1: Recipe(
        "Table 1: blind restoration, Eq. 17",
        {"CelebA": ("", faces(eq17))},
        RESTORATION,
        """
        HiFaceGAN 24.506 0.612 0.196 31.545 4.427
        DFDNet 22.470 0.663 0.232 54.358 5.916
        VQFR 24.907 0.675 0.175 21.312 4.580
        PSFRGAN 24.884 0.663 0.192 34.695 4.765
        Panini 24.679 0.611 0.194 44.696 3.837
        DMDNet 25.691 0.696 0.171 24.871 5.341
        GCFSR 25.925 0.700 0.163 16.859 4.963
        GPEN 25.190 0.680 0.169 21.852 4.712
        GFPGAN 24.895 0.688 0.172 21.160 4.746
        Our 26.034 0.702 0.162 16.080 4.285
        GT ∞ 1 0 2.478 4.188
        """,
    ),
    2: Recipe(
        "Table 2: super-resolution by 4, bicubic",
        {"CelebA": ("", faces(bicubic4, first=1500))},
        RESTORATION,
        """
        Bicubic 23.757 0.641 0.297 148.468 10.460
        SuperFAN 23.193 0.617 0.290 152.188 7.857
        pSp 18.493 0.580 0.242 67.596 5.647
        HiFaceGAN 19.946 0.470 0.326 230.756 10.480
        DFDNet 21.772 0.638 0.260 93.107 6.416
        Panini 23.417 0.620 0.278 165.834 6.898
        GPEN 24.248 0.658 0.217 50.348 5.886
        GFPGAN 23.780 0.656 0.190 32.894 4.955
        DMDNet 24.319 0.660 0.202 41.952 5.869
        GCFSR 23.321 0.572 0.274 118.506 4.051
        Our 24.797 0.674 0.189 27.403 4.449
        GT ∞ 1 0 2.413 4.036
        """,
    ),
    3: Recipe(
        "Table 3: photographs in the wild",
        {
            "FDDB": ("FDDB", photographs(aligned=False)),
            "LFW": ("LFW", photographs(aligned=True)),
            "WebFace": ("WebFace", photographs(aligned=True)),
        },
        ("niqe",),
        """
        Input 4.262 5.454 6.197
        HiFaceGAN 3.956 4.548 4.969
        DFDNet 4.153 4.990 5.449
        PSFRGAN 4.334 5.461 5.830
        Panini − 4.694 4.875
        VQFR 4.049 4.449 4.390
        GPEN 4.110 5.418 5.793
        GFPGAN 4.009 4.982 5.313
        DMDNet 4.476 4.733 4.898
        GCFSR 4.979 5.136 5.071
        Our 3.578 4.548 4.605
        """,
    ),
    4: Recipe(
        "Table 4: adaptability, 775 photographs of WFLW",
        {"WFLW": ("", photographs(aligned=False, drawn=775))},
        ("niqe",),
        """
        Input 10.449
        DFDNet 5.407
        Panini 4.429
        GCFSR 5.204
        VQFR 4.377
        DMDNet 5.018
        PSFRGAN 3.918
        HiFaceGAN 3.646
        GFPGAN 5.046
        GPEN 4.538
        Our 4.257
        """,
        across=True,
    ),
    5: Recipe(
        "Table 5: ablations, trained apart",
        {"CelebA": ("", faces(eq17))},
        RESTORATION,
        """
        a) w/o MMRB 25.977 0.699 0.163 17.027 4.682
        b) w/o FreezeD 26.016 0.701 0.164 17.812 4.868
        c) w/o LocalD 26.010 0.697 0.163 16.908 4.614
        d) w/o Ft+FreezeD 25.704 0.692 0.171 19.543 4.546
        e) w/o FP Loss 26.018 0.700 0.163 16.853 4.707
        All (Our) 26.034 0.702 0.162 16.080 4.285
        """,
    ),
}

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
    recipe = RECIPES[options.table]
    if not names and not options.pairs:
        raise InputError(f"--table {options.table}: name models and, last, the folder of data.")
    models, data = (names, "") if options.pairs else (names[:-1], names[-1])
    wanted = recipe.measures if options.measures == USUAL else options.measures
    found = {}
    for heading, (below, make) in recipe.sets.items():
        out = str(Path(options.out) / below) if options.out else ""
        here = replace(options, measures=wanted, denoiser=False, out=out)
        source = PreparedPairs(*map(Path, options.pairs), options.limit, options.size) if options.pairs else None
        found[heading] = evaluate(source or make(Path(data) / below, here), models, here)
    text = f"{recipe.title}\n\n{laid_out(recipe, found)}"
    captions = "; ".join(f"{heading}: {each.caption}" for heading, each in found.items())
    notes = list(dict.fromkeys(note for each in found.values() for note in each.notes))
    parts = [text, f"{captions}. In italics what the paper reports. {NOT_COMPARABLE}", *notes]
    if options.out:
        before = table_html("\n\n".join(parts[:2]))
        written = [write(each, Path(options.out) / recipe.sets[heading][0], before) for heading, each in found.items()]
        parts.append(f"written to {', '.join(map(str, written))}")
    return "\n\n".join(parts)


def laid_out(recipe: Recipe, found: Mapping[str, Evaluation]) -> str:
    """Return the table: a column of ours and one of the paper's for each measure of each set."""
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
    for ours, name in matched(recipe, next(iter(found.values()))):
        row = [ours, f"*{name}*" if name else ""]
        for heading, measure in columns:
            figure = theirs.get(name, {}).get((heading, measure), "")
            row += [number(found[heading].scores.get(ours, {}), measure), f"*{figure}*" if figure else ""]
        table.append(row)
    if recipe.across:
        table = [list(column) for column in zip(*table, strict=True)]
    return markdown(table[0], table[1:])


def _measured(recipe: Recipe, found: Evaluation) -> list[Measure]:
    """Return the recipe's measures, then others that were asked for; those that nobody could measure are left out."""
    return [name for name in (*recipe.measures, *(set(found.by) - {*recipe.measures})) if name in found.by]


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
        pairs = {name: ours for name, ours in (first | kinds).items() if ours in left}
    yield from ((pairs.get(name, ""), name) for name in names)
    yield from ((name, "") for name in left if name not in [pairs.get(each) for each in names])
