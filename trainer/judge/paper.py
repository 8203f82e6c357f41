"""The paper's tables: which pictures, prepared how, measured by what, and its own figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.index import list_faces
from .options import EvaluateOptions, Measure
from .sources import Degrade, DegradedFaces, Photographs, Source, bicubic4, eq17

Make = Callable[[Path, EvaluateOptions], Source]


def faces(degrade: Degrade, first: int = 0) -> Make:
    """Return how a set of faces is made, each degraded once: all of them, or the first so many."""
    return lambda data, options: DegradedFaces(
        list_faces(data, "val", min_native=options.min_native)[: options.limit or first or None],
        1,
        options.size,
        options.seed,
        degrade,
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
        {"faces": ("", faces(eq17))},
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
        {"faces": ("", faces(bicubic4, first=1500))},
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
        {"faces": ("", faces(eq17))},
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

TIMES = {
    "DFDNet": "1.056",
    "Panini": "0.088",
    "GCFSR": "0.029",
    "VQFR": "0.177",
    "DMDNet": "0.021",
    "PSFRGAN": "0.205",
    "HiFaceGAN": "0.055",
    "GPEN": "0.031",
    "GFPGAN": "0.026",
    "Our": "0.109",
}
"""Seconds a face of 512 px on a V100, the paper's Table 6."""
