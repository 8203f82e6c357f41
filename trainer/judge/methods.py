"""What is compared: models, a classical denoiser, results made elsewhere, and the input and the truth themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pfr_core import PFR, FaceModel, FaceRestorer, RestoreOptions, load_face_model, load_model
from pfr_core.cli.common import fetch_all
from pfr_core.errors import InputError
from pfr_core.models.checkpoint import model_file, read_checkpoint
from pfr_core.models.disk import sha256_of
from pfr_core.network.config import PRESETS

from ..data.dataset import RGB8
from .folders import by_stem, match_names, match_sizes, read_square
from .sources import Case

INPUT, TRUTH, DENOISER = "degraded input", "truth", "non-local means"


@dataclass(frozen=True)
class Method:
    """A way from a case to a picture.

    Attributes:
        name: no other has it.
        run: the way.
        version: what tells its results on this case from another version's: a SHA-256 and options.
        model: restores faces, so it is asked what it does to good ones and to its own results, too.
        shown: in the picture of the faces.
        told: which version it is, for the report.
        kind: of a model's network.
        trainings: the configurations of the runs that it came by, as far as they are known.
    """

    name: str
    run: Callable[[Case], RGB8]
    version: Callable[[Case], str]
    model: bool = False
    shown: bool = False
    told: str = ""
    kind: str = ""
    trainings: Sequence[Mapping[str, Any]] = ()


def fixed(name: str, run: Callable[[Case], RGB8], version: str, **more: Any) -> Method:
    """Return a method that is the same for all cases."""
    return Method(name, run, lambda case: version, told=version, **more)


def given() -> Method:
    """Return the input as it is."""
    return fixed(INPUT, lambda case: case.given, "the input")


def truth() -> Method:
    """Return the truth, for what is measured without one."""

    def run(case: Case) -> RGB8:
        assert case.truth is not None
        return case.truth

    return fixed(TRUTH, run, "the truth")


def denoiser() -> Method:
    """Return the baseline: OpenCV's non-local means, a classical denoiser: what can be gained without knowing faces."""
    return fixed(DENOISER, lambda case: denoise(case.given), f"OpenCV {cv2.__version__}")


def denoise(image: RGB8) -> RGB8:
    """Denoise with OpenCV's customary strengths."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(image, None, 10, 10, 7, 21), np.uint8)


def models(names: Sequence[str], fidelities: Sequence[float], ablate: bool, device: torch.device) -> Iterator[Method]:
    """Yield each model as the product runs it, or at each of ``fidelities``; with ``ablate`` also without its parts.

    The only one is called ``model``, several by their names.

    Raises:
        InputError: ``ablate`` for a network that is no PFR, or ``fidelities`` for one that has no such option.
    """
    fetch_all(names)  # their licences are told first
    for model in names:
        net, name = load_face_model(model), model if len(names) > 1 else "model"
        if ablate and not isinstance(net, PFR):
            raise InputError(f"--ablate: {model} is {net.kind}, which has none of the paper's parts. Evaluate it without.")
        trainings: list[Mapping[str, Any]] = []
        if model in PRESETS:
            version = FaceRestorer(net, device="cpu", dtype="fp32").provenance.sha256
        else:
            version = sha256_of(model_file(model))
            if isinstance(net, PFR):
                trainings += _trainings(read_checkpoint(model_file(model)).provenance)
        ways: dict[str, RestoreOptions | None] = {
            f"{name}, fidelity {value:g}": RestoreOptions(fidelity=value) for value in fidelities
        }
        for way, options in (ways or {name: None}).items():
            how = version if options is None else f"{version}, fidelity {options.fidelity:g}"
            run = _on_case(restore_with(net, device, options))
            yield fixed(way, run, how, model=True, shown=True, kind=net.kind, trainings=trainings)
        if ablate:
            for part, without in ablations(model).items():
                called = part if len(names) == 1 else f"{name}, {part}"
                yield fixed(called, _on_case(restore_with(without, device)), f"{version}, {part}")


def _trainings(provenance: object) -> Iterator[Mapping[str, Any]]:
    """Yield the configuration of a run, and those of the runs that it started from or that were blended with it."""
    if isinstance(provenance, Mapping):
        if isinstance(config := provenance.get("config"), Mapping):
            yield config
        yield from _trainings(provenance.get("started_from"))
        if isinstance(blend := provenance.get("blend"), Mapping):
            yield from _trainings(blend.get("faithful"))


def _on_case(restore: Callable[[RGB8], RGB8]) -> Callable[[Case], RGB8]:
    return lambda case: restore(case.given)


def restore_with(net: FaceModel, device: torch.device, options: RestoreOptions | None = None) -> Callable[[RGB8], RGB8]:
    """Return the product's own way from an aligned crop to a restored one."""
    restorer = FaceRestorer(net, device=device, dtype="fp32", options=options)
    return lambda image: restorer.restore(image, aligned=True).image


def ablations(model: str) -> dict[str, PFR]:
    """Return the model with a part switched off, to show that the part works.

    Every MMRB is the identity; or no encoder feature is added in the decoder.
    """
    no_mmrb, no_skips = load_model(model), load_model(model)
    for block in no_mmrb.encoder.mmrb.values():
        torch.nn.init.zeros_(block.conv1.weight)  # type: ignore[union-attr, arg-type]  # an MMRB's parameters
        torch.nn.init.zeros_(block.conv1.bias)  # type: ignore[union-attr, arg-type]
    found = {"MMRB zeroed": no_mmrb}
    if no_skips.decoder is not None:
        decoder = no_skips.decoder
        decoder.register_forward_pre_hook(
            lambda _, inputs: ({r: e if r == min(inputs[0]) else torch.zeros_like(e) for r, e in inputs[0].items()},)
        )
        found["decoder's skips zeroed"] = no_skips
    return found


def results(given: str, names: Sequence[str], whole: bool) -> Method:
    """Return results made elsewhere, ``NAME=FOLDER``, whose pictures are called as the cases are.

    Args:
        given: as on the command line.
        names: of the cases.
        whole: these are all of the set, so that the folder may hold no others.

    Raises:
        InputError: no such folder, or names that do not match; later, at the case, a picture of another size.
    """
    name, _, folder = given.partition("=")
    if not name or not folder:
        raise InputError(f"--results {given}: write NAME=FOLDER.")
    files = by_stem(Path(folder))
    match_names("The set", names, folder, list(files), more=not whole)

    def run(case: Case) -> RGB8:
        picture = read_square(files[case.name])
        match_sizes(files[case.name], picture, "the set's picture", case.given)
        return picture

    return Method(name, run, lambda case: sha256_of(files[case.name]), shown=True, told="files of their own")
