"""The configuration of a run: dataclasses with presets. Command-line options are generated from them."""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pfr_core.errors import InputError
from pfr_core.network.config import PRESETS, PFRConfig, Preset
from pfr_core.options import RestoreOptions
from pfr_core.support.choices import IdentityName
from pfr_core.support.files import write_text
from pfr_core.support.schema import check_fields, option

Precision = Literal["auto", "fp32", "bf16"]
Schedule = Literal["piecewise", "cosine"]
PerceptualName = Literal["vgg19", "squeezenet"]
Metric = Literal["psnr", "ssim", "sharpness", "perceptual", "identity", "kid", "niqe"]
Config = TypeVar("Config", bound="RunConfig")

FEATURE_WEIGHTS = ("fm_weight", "unit_weight", "projected_weight")
"""Weights of the losses that compare features of the perceptual network."""

NOT_STATED = "not stated"
"""What stands for a licence that nobody names."""


@dataclass(frozen=True)
class RunConfig(ABC):
    """What every run has. Defaults are the paper's where it states a value.

    Attributes:
        HELP: what the stage does, as the command's help says it.
        DATA: options that name the samples of a run.
        READ: options that name what else a run reads throughout.
        MOVABLE: options that a resumed run may take anew: with as many samples a step they change none of its numbers (but for
            what looks at the samples of a forward pass together: groups of the mini-batch standard deviation, batch
            normalisation, the detector's loss), only what is exported at its end, or only what is looked at on the way.
        RATES: learning rates, which a resumed run may take anew, too: a run that diverged goes on with lower ones.
        STARTS: options that say what the run starts from; once it has a checkpoint they are of no use.
        EXPORTED: name of the exported file in the folder of the run.

    Raises:
        InputError: a value is out of range.
    """

    HELP: ClassVar[str]
    DATA: ClassVar[tuple[str, ...]]
    READ: ClassVar[tuple[str, ...]] = ()
    MOVABLE: ClassVar[tuple[str, ...]]
    RATES: ClassVar[tuple[str, ...]] = ("learning_rate",)
    STARTS: ClassVar[tuple[str, ...]] = ("init_from",)
    EXPORTED: ClassVar[str] = "model.safetensors"

    out: str = option("", "folder of the run: checkpoints, log, grids, configuration, exported weights")
    init_from: str = option("", "prior or model file to start from; tensors that fit are taken, a model of half the size grown")
    iterations: int = option(700_000, "optimiser steps", 1, 10**9)
    accumulate: int = option(1, "forward passes whose gradients are averaged in a step", 1, 4096)
    ema: float = option(0.999, "decay a step of the weights' moving average, which is what gets exported (ours)", 0, 0.999999)
    warmup: int = option(0, "steps of linear warm-up", 0, 10**9)
    schedule: Schedule = option("piecewise", "how learning rates fall")
    decay_at: tuple[float, ...] = option((0.5, 0.75, 0.9), "piecewise: shares of the run after which the rates fall (ours)", 0, 1)
    decay: float = option(0.5, "piecewise: factor of each fall (ours)", 0.001, 1)
    final_rate: float = option(0.02, "cosine: share of the rates left at the end", 0, 1)
    grad_clip: float = option(0.0, "largest norm of the generator's gradient (0: no limit)", 0, 1e9)
    precision: Precision = option("auto", "autocast (auto: bf16 where it is faster); regularisers: fp32, TF32 on GPUs with it")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps, ...")
    workers: int = option(8, "data worker processes (of each process)", 0, 1024)
    seed: int = option(0, "seed of initialisation, data order, degradation and noise", 0, 2**31)
    checkpoint_every: int = option(1000, "steps between checkpoints", 1, 10**9)
    keep: int = option(2, "checkpoints kept", 1, 1000)
    log_every: int = option(50, "steps between log entries", 1, 10**9)
    image_every: int = option(1000, "steps between image grids (0: none)", 0, 10**9)
    licence: str = option(
        NOT_STATED, "licence of the weights, written into the exported file (not stated: that of what the run started from)"
    )

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    @abstractmethod
    def samples(self) -> int:
        """Return how many samples a process sees in a forward pass."""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_text(path, json.dumps({"stage": stage_of(self), **asdict(self)}, indent=2) + "\n")


@dataclass(frozen=True)
class FaceConfig(RunConfig):
    """What the stages on aligned faces have in common.

    Raises:
        InputError: a value is out of range, or the discriminator of whole faces could not divide a batch into groups.
    """

    DATA: ClassVar[tuple[str, ...]] = ("data",)
    MOVABLE: ClassVar[tuple[str, ...]] = (
        *DATA, "device", "workers", "batch", "accumulate", "stddev_group", "image_every", "validate_every",
    )  # fmt: skip
    STARTS: ClassVar[tuple[str, ...]] = ("init_from", "discriminator")

    data: str = option("", "faces: folder with an index, of WebDataset shards or of plain images; or the URL of prepared shards")
    network: Preset = option("pfr-512", "the network")
    size: int = option(0, "train the network at another size in px (0: its own)", 0, 2048)
    patch: int = option(
        0, "pixels across to one of the finest feature map: 1 (the paper), 2 or 4 (ours, faster; 0: the network's own)", 0, 4
    )
    discriminator: str = option("", "trained global discriminator to start from (without: from scratch)")
    batch: int = option(4, "faces in a forward pass of one process", 1, 4096)
    beta1: float = option(0.0, "Adam's first beta (StyleGAN2's)", 0, 0.9999)
    beta2: float = option(0.99, "Adam's second beta (StyleGAN2's)", 0, 0.9999)
    r1_weight: float = option(10.0, "weight of R1 on the discriminators of whole faces and of details (0: off)", 0, 1e6)
    r1_every: int = option(16, "steps between lazy R1", 1, 10**6)
    path_weight: float = option(2.0, "weight of the path-length regularisation (0: off)", 0, 1e6)
    path_every: int = option(4, "steps between lazy path-length regularisations", 1, 10**6)
    stddev_group: int = option(4, "faces in a group of the mini-batch standard deviation (0: the whole batch, as GPEN)", 0, 4096)
    compile: bool = option(False, "torch.compile the networks in the main phases")
    min_native: int = option(400, "leave out faces with fewer source pixels across (ours)", 1, 8192)
    max_out_of_photo: float = option(0.1, "leave out faces with more beyond the photo's edge, if not maskable (ours)", 0, 1)
    real_share: float = option(0.6, "share of real photographs among samples, where the index tells the kind", 0, 1)
    validate_every: int = option(5000, "steps between validations (0: none)", 0, 10**9)
    validate_faces: int = option(32, "held-out faces in a validation", 2, 10**6)
    best_by: Metric = option("kid", "which metric decides what is kept as the best")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judges_faces and self.stddev_group and self.batch % self.stddev_group:
            raise InputError(
                f"batch {self.batch} is no multiple of stddev_group {self.stddev_group}; choose another, or 0 for all."
            )

    @property
    def judges_faces(self) -> bool:
        """Return whether a discriminator of whole faces takes part."""
        return True

    @property
    def samples(self) -> int:
        """Return how many faces a process sees in a forward pass."""
        return self.batch

    @property
    def shape(self) -> PFRConfig:
        """Return the network's configuration: the preset, at ``size`` and with ``patch`` if these are given."""
        config = PRESETS[self.network]
        return replace(config, size=self.size or config.size, patch=self.patch or config.patch)


@dataclass(frozen=True)
class PriorConfig(FaceConfig):
    """Stage 1: the concat-noise StyleGAN2 generator and its discriminator from scratch, on clean faces.

    Raises:
        InputError: as :class:`FaceConfig`, or a network with a patch.
    """

    HELP: ClassVar[str] = "train the StyleGAN2 prior and its discriminator on clean faces"

    learning_rate: float = option(2e-3, "generator's and discriminator's (StyleGAN2's)", 1e-9, 1)
    style_mixing: float = option(0.9, "probability that a sample's styles come from two z (StyleGAN2's)", 0, 1)
    augment: float = option(0.0, "probability of each augmentation that the discriminator sees (at the start)", 0, 1)
    ada_target: float = option(0.6, "steer the augmentation to this mean sign of D on real faces (0: leave it as it is)", 0, 1)
    ada_faces: int = option(100_000, "faces over which the augmentation can rise from 0 to 1", 1, 10**9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape.patch > 1:
            raise InputError(
                f"The prior has no part in what is finer than the features: train it with --size {self.shape.features} --patch 1."
            )


@dataclass(frozen=True)
class RestoreConfig(FaceConfig):
    """Stage 2: the whole network, with section 3.4's objective. A weight of 0 switches a term and its networks off.

    Table 5: (a) ``--no-mmrb``; (b) ``--freeze-d 0``; (c) ``--local-weight 0``; (d) ``--no-fine-tune --freeze-d 0``;
    (e) ``--fp-weight 0``.

    Raises:
        InputError: as :class:`FaceConfig`, a crop that does not fit, an anchor without a weight or the other way round, or a
            discriminator to start from and none that takes part.
    """

    HELP: ClassVar[str] = "train the restoration network (presets: the paper's objective, or reconstruction only)"
    READ: ClassVar[tuple[str, ...]] = ("anchor",)
    MOVABLE: ClassVar[tuple[str, ...]] = (*FaceConfig.MOVABLE, *READ)
    STARTS: ClassVar[tuple[str, ...]] = (*FaceConfig.STARTS, "init_fidelity")
    RATES: ClassVar[tuple[str, ...]] = (
        "lr_codec", "lr_prior", "lr_noise", "lr_fine", "lr_local", "lr_global", "lr_texture",
    )  # fmt: skip

    init_fidelity: float = option(
        RestoreOptions.fidelity, "fidelity at which a model with that option is started from (ours)", 0, 1
    )
    pass_through: bool = option(
        False, "start as the identity (unless from a model), so that training only learns what to change (ours)"
    )
    clean_share: float = option(0.0, "share of the inputs that are not degraded: a good face is to stay as it is (ours)", 0, 1)
    mild_share: float = option(
        0.0, "share of the inputs that are small, noisy or compressed, not blurred as Eq. 17's (ours)", 0, 1
    )
    mmrb: bool = option(True, "the encoder's MMRBs")
    fine_tune: bool = option(True, "train the prior; without, only codec and noise branches")
    freeze_d: int = option(5, "FreezeD: entries of the global discriminator's convolutions that stay as they are", 0, 16)
    lr_codec: float = option(2e-3, "learning rate of encoder and decoder", 0, 1)
    lr_prior: float = option(2e-4, "learning rate of mapping network and StyleGAN2 prior", 0, 1)
    lr_noise: float = option(2e-3, "learning rate of the noise branches' scalars", 0, 1)
    lr_fine: float = option(4e-3, "learning rate of what a network with a patch has behind it (ours)", 0, 1)
    lr_local: float = option(2e-3, "learning rate of the local discriminators", 0, 1)
    lr_global: float = option(2e-5, "learning rate of the global discriminator", 0, 1)
    global_weight: float = option(0.5, "weight of the global adversarial loss, Eq. 11", 0, 1e6)
    local_weight: float = option(3.0, "weight of each local adversarial loss, Eq. 12", 0, 1e6)
    l1_weight: float = option(8.0, "weight of the pixel loss, Eq. 14", 0, 1e6)
    psnr_weight: float = option(0.0, "weight of the logarithm of each face's mean squared error (ours)", 0, 1e6)
    pyramid_weight: float = option(1.0, "weight of the decoder's loss at each scale (ours; GFPGAN's value)", 0, 1e6)
    fm_weight: float = option(0.02, "weight of feature matching, Eq. 14", 0, 1e6)
    fp_weight: float = option(10.0, "weight of the face-preserving loss, Eq. 15", 0, 1e6)
    low_weight: float = option(0.0, "weight of the pixel loss at a quarter of the size (ours)", 0, 1e6)
    chroma_weight: float = option(0.0, "weight of the pixel loss of the colours alone (ours)", 0, 1e6)
    anchor: str = option("", "model of pixel losses, or with fidelity, whose faces are to stay at an eighth of the size (ours)")
    anchor_weight: float = option(0.0, "weight of the distance to it there (ours)", 0, 1e6)
    energy_weight: float = option(0.0, "weight of the distance of the finest details' local strength (ours)", 0, 1e6)
    unit_weight: float = option(0.0, "weight of the distance of features of unit length (ours)", 0, 1e6)
    projected_weight: float = option(0.0, "weight of the adversary that sees a frozen network's features (ours)", 0, 1e6)
    detail_weight: float = option(0.0, "weight of the adversary that sees the finest details (ours)", 0, 1e6)
    lr_texture: float = option(1e-3, "learning rate of those two adversaries", 0, 1)
    luma_only: bool = option(False, "texture's losses and adversaries see the output's luma in the truth's colours (ours)")
    spare_components: bool = option(False, "texture's adversaries and the details' strength see no eyes, no mouth (ours)")
    crop: int = option(0, "side in px of the random piece that features and those two see (0: the whole face)", 0, 2048)
    local_channels: int = option(64, "channels of the local discriminators at full resolution (ours)", 1, 1024)
    path_weight: float = option(0.0, "weight of the path-length regularisation (0: off; the paper has none here)", 0, 1e6)
    best_by: Metric = option("perceptual", "which metric decides what is kept as the best")
    perceptual: PerceptualName = option("vgg19", "network of the feature-matching loss and the perceptual distance")
    identity: IdentityName = option("arcface", "network of the face-preserving loss and the identity similarity")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clean_share + self.mild_share > 1:
            raise InputError(f"clean_share {self.clean_share} and mild_share {self.mild_share} are more than all inputs.")
        if self.crop % 8 or self.crop > self.shape.size:
            raise InputError(
                f"crop is {self.crop}; it must be a multiple of 8 of at most {self.shape.size}, or 0 for the whole face."
            )
        if self.init_fidelity != RestoreOptions.fidelity and not self.init_from:
            raise InputError("--init-fidelity goes with --init-from: at which fidelity that model is taken.")
        if self.discriminator and not self.judges_faces:
            raise InputError(f"--discriminator {self.discriminator}: the run has none (--global-weight 0). Leave it out.")
        if bool(self.anchor) != bool(self.anchor_weight):
            raise InputError("--anchor and --anchor-weight go together: whose faces, and how strongly they are kept.")

    @property
    def judges_faces(self) -> bool:
        """Return whether a discriminator of whole faces takes part."""
        return bool(self.global_weight)

    @property
    def sees_features(self) -> bool:
        """Return whether a loss compares features of the perceptual network."""
        return any(getattr(self, weight) for weight in FEATURE_WEIGHTS)

    @property
    def shape(self) -> PFRConfig:
        """The network's configuration, ``mmrb`` applied."""
        return replace(super().shape, mmrb=self.mmrb)


@dataclass(frozen=True)
class DetectorConfig(RunConfig):
    """The face detector that ships inside ``pfr_core``. All values are ours unless a source is named.

    Its loss is divided by the face anchors of each forward pass, so ``pictures``, ``accumulate`` and the number of processes
    change the training even where their product stays.

    Raises:
        InputError: a value is out of range, or there are no photographs for the pictures that are no composites.
    """

    HELP: ClassVar[str] = "train the face detector"
    DATA: ClassVar[tuple[str, ...]] = ("faces", "wild", "photos", "negatives")
    MOVABLE: ClassVar[tuple[str, ...]] = (*DATA, "device", "workers", "pictures", "accumulate", "largest_face", "score_shift")
    EXPORTED: ClassVar[str] = "detector.safetensors"

    faces: str = option("", "aligned faces, five points stated for each: what prepare or pack wrote, or a folder with index.csv")
    wild: str = option("", "folder of photographs of which one half is for testing and left out (see data/detector/split.py)")
    photos: tuple[str, ...] = option((), "folders of further photographs; all are labelled by the published RetinaFace")
    negatives: tuple[str, ...] = option((), "folders of pictures without faces")
    init_from: str = option("", "detector file of an earlier run to start from, or the one that ships with PFR")
    iterations: int = option(6000, "optimiser steps", 1, 10**9)
    pictures: int = option(6, "pictures in a forward pass of one process", 1, 4096)
    side: int = option(320, "of training pictures, px; about twice the largest face", 64, 4096)
    composite_share: float = option(
        0.4, "share of pictures that are made of aligned faces; the rest are pieces of photographs", 0, 1
    )
    learning_rate: float = option(3e-3, "AdamW's, after the warm-up", 1e-9, 1)
    warmup: int = option(200, "steps of linear warm-up", 0, 10**9)
    schedule: Schedule = option("cosine", "how the learning rate falls")
    final_rate: float = option(0.01, "cosine: share of the rate left at the end", 0, 1)
    weight_decay: float = option(5e-4, "AdamW's", 0, 1e6)
    grad_clip: float = option(5.0, "largest norm of the gradient (0: no limit)", 0, 1e9)
    ema: float = option(0.998, "decay of the moving average of the weights, which is what gets exported", 0, 0.999999)
    negatives_per_face: int = option(7, "background anchors, the worst ones, for each that is a face (RetinaFace: 7)", 1, 10**6)
    points_weight: float = option(1.2, "of the loss of the five points, beside 1 for the score (RetinaFace: 1 beside 1)", 0, 1e3)
    largest_face: int = option(
        160, "px; wider faces are looked for in the photograph shrunk; may be set at the end, of a finished run", 32, 4096
    )
    score_shift: float = option(
        0.0,
        "added to the logit of a face in the exported file, so that its scores suit the usual threshold; may be set at the end",
        -100,
        100,
    )
    device: str = option("cpu", "auto, cpu, cuda, cuda:1, mps, ...")
    workers: int = option(0, "data worker processes, each with the pictures in its memory", 0, 1024)
    seed: int = option(0, "seed of initialisation and pictures", 0, 2**31)
    checkpoint_every: int = option(250, "steps between checkpoints", 1, 10**9)
    log_every: int = option(25, "steps between log entries", 1, 10**9)
    image_every: int = option(0, "steps between image grids (0: none)", 0, 10**9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.composite_share < 1 and not (self.photos or self.wild):
            raise InputError("Say with --wild or --photos where photographs are, or pass --composite-share 1 to do without.")

    @property
    def samples(self) -> int:
        """Return how many pictures a process sees in a forward pass."""
        return self.pictures


@dataclass(frozen=True)
class PointsConfig(RunConfig):
    """The second look at found faces that ships inside ``pfr_core``. All values are ours.

    Raises:
        InputError: a value is out of range.
    """

    HELP: ClassVar[str] = "train the second look at found faces, which places their points"
    DATA: ClassVar[tuple[str, ...]] = ("faces", "wild", "labels")
    MOVABLE: ClassVar[tuple[str, ...]] = (*DATA, "device", "workers", "crops", "accumulate")
    STARTS: ClassVar[tuple[str, ...]] = ()
    EXPORTED: ClassVar[str] = "points.safetensors"

    init_from: str = option("", "not to be given: the second look starts from random weights")
    faces: str = option("", "aligned faces, five points stated for each: what prepare or pack wrote, or a folder with index.csv")
    wild: str = option("", "folder of photographs of which one half is for testing and left out (see data/detector/split.py)")
    labels: str = option(
        "", "file (.npz) for the points that the published RetinaFace gave the aligned faces, read if it is there"
    )
    most_faces: int = option(
        1600, "aligned faces taken, the first real ones of the index: labelling them takes minutes", 1, 10**9
    )
    iterations: int = option(5000, "optimiser steps", 1, 10**9)
    crops: int = option(32, "crops in a forward pass of one process", 2, 4096)
    learning_rate: float = option(4e-3, "AdamW's, after the warm-up", 1e-9, 1)
    warmup: int = option(100, "steps of linear warm-up", 0, 10**9)
    schedule: Schedule = option("cosine", "how the learning rate falls")
    final_rate: float = option(0.01, "cosine: share of the rate left at the end", 0, 1)
    weight_decay: float = option(1e-3, "AdamW's", 0, 1e6)
    grad_clip: float = option(1.0, "largest norm of the gradient (0: no limit)", 0, 1e9)
    ema: float = option(0.998, "decay of the moving average of the weights, which is what gets exported", 0, 0.999999)
    device: str = option("cpu", "auto, cpu, cuda, cuda:1, mps, ...")
    workers: int = option(0, "data worker processes, each with the faces in its memory", 0, 1024)
    seed: int = option(0, "seed of initialisation and crops", 0, 2**31)
    checkpoint_every: int = option(250, "steps between checkpoints", 1, 10**9)
    log_every: int = option(25, "steps between log entries", 1, 10**9)
    image_every: int = option(0, "steps between image grids (0: none)", 0, 10**9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_from:
            raise InputError("points starts from random weights: leave out --init-from.")

    @property
    def samples(self) -> int:
        """Return how many crops a process sees in a forward pass."""
        return self.crops


WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {"prior": ("perceptual", "identity")}
"""Options by stage that older versions saved although they did nothing."""

STAGES: dict[str, type[RunConfig]] = {
    "prior": PriorConfig,
    "restore": RestoreConfig,
    "detector": DetectorConfig,
    "points": PointsConfig,
}


def network_options(config: PFRConfig) -> str:
    """Return which options make a network of the size and channels of ``config``, as advice in an error."""
    fitting = [
        name
        for name, preset in PRESETS.items()
        if (preset.style_dim, preset.n_mlp) == (config.style_dim, config.n_mlp)
        and all(preset.channels(r) == config.channels(r) for r in config.resolutions)
    ]
    if not fitting:
        return "No preset has its channels."
    name = next((name for name in fitting if PRESETS[name].size == config.size), fitting[0])
    return f"Use --network {name}" + ("." if PRESETS[name].size == config.size else f" --size {config.size}.")


def without_start(config: Config) -> Config:
    """Return ``config`` for a run whose weights come from a checkpoint of its own."""
    cleared: dict[str, Any] = {field.name: field.default for field in fields(config) if field.name in config.STARTS}
    return replace(config, **cleared)


def stage_of(config: RunConfig) -> str:
    """Return the name of the stage that ``config`` is of."""
    return next(name for name, kind in STAGES.items() if isinstance(config, kind))


def read_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Return stage and values of a configuration that a run saved, or that a user wrote.

    The detector's runs did not name their stage before they had this loop; they are known by their ``pictures``. What
    :data:`WITHOUT_EFFECT` names is left out.

    Raises:
        InputError: no such file, no stage in it, or a name that the stage does not know; the message suggests the right one.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except ValueError as error:
        raise InputError(f"{path}: no configuration of a run ({error}). Pass the config.json of one.") from error
    if isinstance(values, dict) and "pictures" in values:
        values.setdefault("stage", "detector")
    if not isinstance(values, dict) or values.get("stage") not in STAGES:
        raise InputError(f'{path}: no configuration of a run: it needs "stage", one of {", ".join(STAGES)}.')
    stage = values.pop("stage")
    values = {name: value for name, value in values.items() if name not in WITHOUT_EFFECT.get(stage, ())}
    known = [item.name for item in fields(STAGES[stage])]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise InputError(f"{path}: unknown option {name!r} for {stage}." + (f" Did you mean {near[0]!r}?" if near else ""))
    return stage, {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def load_config(path: Path) -> RunConfig:
    """Return the configuration that :meth:`RunConfig.save` wrote.

    Earlier versions let runs without a discriminator name one to start from. That had no effect, and is left out.

    Raises:
        InputError: as :func:`read_config`, or a value is out of range.
    """
    stage, values = read_config(path)
    if values.get("global_weight") == 0:
        values.pop("discriminator", None)
    return STAGES[stage](**values)
