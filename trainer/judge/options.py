"""What a user decides about an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

from pfr_core.errors import InputError
from pfr_core.support.arguments import flag
from pfr_core.support.choices import IdentityName
from pfr_core.support.schema import check_fields, option

from ..data.options import FULL_SIZE
from ..run.config import Metric, PerceptualName

Measure = Literal[Metric, "lpips", "dists", "lmd", "fid", "kid_inception"]
"""What training validates by, and what only ``evaluate`` measures."""
USUAL: tuple[Measure, ...] = get_args(Metric)

Trunk = Literal["alexnet", "vgg16"]
"""Of LPIPS."""

SEED, DRAWS = 2023, 3
"""Face number i is degraded with the seeds (SEED, i, 0), (SEED, i, 1), ...: one draw a face would leave the mean severity to
chance, it spreads over 2 dB."""

SMALLEST_SIZE = 64
"""Of faces to judge: SqueezeNet and the detector's body need something to look at (ours)."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What is judged, by what, and what is written.

    Raises:
        InputError: a value is out of range, or an option that has no effect beside another.
    """

    table: int = option(0, "one of the paper's tables, with its own figures beside (0: none)", 0, 6)
    out: str = option("", "folder for results.json, results.csv and report.html; an interrupted evaluation in it goes on")
    grid: str = option("", "also write a picture: degraded | restored by each model | truth")
    grid_rows: int = option(8, "faces in it and in the report", 1, 1000)
    limit: int = option(0, "evaluate only the first N faces (0: all)", 0, 10_000_000)
    min_native: int = option(400, "leave out faces with fewer source pixels across, as in training", 1, 8192)
    size: int = option(FULL_SIZE, "judge at this size in px, that of a network trained small", SMALLEST_SIZE, FULL_SIZE)
    seed: int = option(SEED, "of the degradations", 0, 2**31)
    pairs: tuple[str, ...] = option((), "instead of DATA: a folder of degraded faces and one of their truths, of the same names")
    unpaired: bool = option(False, "DATA is a folder of photographs without truths")
    align: bool = option(False, "with --unpaired: cut the largest face out of each")
    reference: str = option("", "folder of real faces for KID and FID (without: the truths)")
    write_pairs: str = option("", "also write the degraded faces and their truths there, for other programs; --pairs reads them")
    results: tuple[str, ...] = option((), "NAME=FOLDER of results made elsewhere, whose files have the names of the pictures")
    fidelities: tuple[float, ...] = option((), "judge each model at each of these fidelities (without: as the product runs it)")
    ablate: bool = option(False, "also with every MMRB, and with the decoder's skips, zeroed")
    denoiser: bool = option(True, "a row of a classical denoiser, which takes longer than the models")
    measures: tuple[str, ...] = option(USUAL, f"what is measured, of {' '.join(get_args(Measure))}")
    perceptual: PerceptualName = option("squeezenet", "network of the perceptual distance")
    identity: IdentityName = option("mobilefacenet", "network of the identity similarity")
    lpips: Trunk = option("alexnet", "trunk of LPIPS")
    download: bool = option(False, "fetch weights of LPIPS, DISTS and FID that are not on this machine")
    device: str = option("cpu", "auto, cpu, cuda, ...")

    def __post_init__(self) -> None:
        check_fields(self)
        if unknown := [name for name in self.measures if name not in get_args(Measure)]:
            raise InputError(f"--measures {unknown[0]}: no such measure. There are {', '.join(get_args(Measure))}.")
        if self.pairs and len(self.pairs) != 2:
            raise InputError(f"--pairs {' '.join(self.pairs)}: name two folders, of degraded faces and of their truths.")
        if self.pairs and self.unpaired:
            raise InputError("--pairs has truths, --unpaired is for photographs without. Pass one of them.")
        if self.table and (self.grid or self.write_pairs):
            raise InputError(
                f"--table {self.table} writes no --grid and no --write-pairs. Leave them out, or evaluate without --table."
            )
        if self.align and not self.unpaired:
            raise InputError("--align has an effect only with --unpaired. Faces with truths are aligned already.")
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Refuse what would do nothing, though the report might state it.

        Raises:
            InputError: there is such an option.
        """
        measures = get_args(Measure) if self.table else self.measures  # a table brings its own

        def unused(*by: Measure) -> str:
            return "" if {*by} & {*measures} else f"without one of {', '.join(by)} in --measures"

        pictures = f"with --table {self.table}, whose pictures are photographs" if self.table in (3, 4) else ""
        idle = {
            "min_native": "with --pairs and --unpaired" if self.pairs or self.unpaired else pictures,
            "seed": "with --unpaired, where nothing is degraded" if self.unpaired else "",
            "grid_rows": "" if self.grid or self.out else "without --grid or --out",
            "lpips": unused("lpips"),
            "download": unused("lpips", "dists", "fid", "kid_inception"),
            "reference": unused("kid", "fid", "kid_inception"),
            "perceptual": unused("perceptual"),
            "identity": unused("identity"),
        }
        if self.table == 6:
            others = {item.name for item in fields(self)} - {"table", "device"}
            idle = dict.fromkeys(sorted(others), "with --table 6, which measures time alone")
        for name, where in idle.items():
            if where and getattr(self, name) != getattr(EvaluateOptions, name):
                raise InputError(f"{flag(name)} has no effect {where}. Leave it out.")

    @property
    def wanted(self) -> tuple[Measure, ...]:
        """The measures, checked."""
        return cast("tuple[Measure, ...]", self.measures)
