"""Stage ``restore``: the whole network around the prior, with the objective of section 3.4 (Eq. 11-16) and FreezeD (3.3, 4.2).

With the adversarial, feature and identity weights at 0 it is plain reconstruction training (preset ``reconstruction``). Beside
the paper's terms there are our own for texture (preset ``texture-512``), off by default.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfr_core.errors import InputError
from pfr_core.models.checkpoint import (
    DISCRIMINATORS,
    PRIOR_FORMAT,
    Checkpoint,
    discriminator_file,
    load_model,
    save_discriminator,
    save_model,
)
from pfr_core.models.identity import IdentityNetwork
from pfr_core.network.blended import BlendedPFR
from pfr_core.network.config import PRESETS
from pfr_core.network.discriminator import LocalDiscriminator
from pfr_core.network.pfr import PFR
from pfr_core.support.device import memory_format

from .. import losses
from ..data.components import COMPONENTS, cut, inside, places, squares
from ..data.dataset import FaceBatch, to_signed
from ..judge.features import PerceptualNetwork
from ..run.config import RestoreConfig
from ..run.initialise import origin, pass_through, take_over_discriminators, warm_start
from ..run.optim import adam, freeze_first, generator_groups, trainable
from ..run.randomness import SampleRandom
from .base import Phase, Terms
from .faces import FaceStage, scores, start_discriminator
from .texture import DetailDiscriminator, ProjectedHeads, details, discriminator_paired, generator_paired

log = logging.getLogger(__name__)

ANCHORED = 8
"""Shrunk by this, the output is to be the anchor's (ours): what is finer is texture's, and little of it the person's."""


class RestoreStage(FaceStage):
    """See the module.

    Raises:
        CheckpointError: a file to start from does not fit.
        InputError: the anchor is of another size.
        WeightsError: a feature network that a loss needs cannot be had.
    """

    config: RestoreConfig

    def __init__(self, config: RestoreConfig) -> None:
        super().__init__(config)
        self.g = PFR(config.shape)
        start = warm_start(self.g, config.init_from, config.init_fidelity) if config.init_from else None
        if config.pass_through and (start is None or start.layout == PRIOR_FORMAT):  # a model that is trained on stays itself
            pass_through(self.g)
        self.ema = PFR(config.shape).requires_grad_(False).eval()
        self.ema.load_state_dict(self.g.state_dict())
        self.networks = nn.ModuleDict({"generator": self.g})
        if config.sees_features:
            self.fixed["perceptual"] = PerceptualNetwork(config.perceptual)
        if config.fp_weight:
            self.fixed["identity"] = IdentityNetwork(config.identity)
        if config.anchor:
            self.fixed["anchor"] = load_anchor(config.anchor, config.shape.size)

        groups = generator_groups(self.g)
        if not config.fine_tune:
            for parameter in groups["prior"]:
                parameter.requires_grad_(False)
        rates = {"codec": config.lr_codec, "prior": config.lr_prior, "noise": config.lr_noise, "fine": config.lr_fine}
        lazy_g = dict.fromkeys(("prior", "noise"), config.path_every if config.path_weight else 0)
        g = trainable([parameter for group in groups.values() for parameter in group])
        self.optimisers = {"g": adam(groups, rates, config, lazy_g)}
        norm, path_norm = ("G/gradient", "G/path_gradient") if config.grad_clip else ("", "")
        self.phases = [Phase("Gmain", "g", g, norm=norm)]
        if config.path_weight:
            # What lies before w has no part in it.
            behind_w = trainable([p for name, p in self.g.prior.named_parameters() if not name.startswith("mapping.")])
            self.phases.append(Phase("Greg", "g", behind_w, config.path_every, path_norm))
        self._add_discriminators(start)
        if start is not None:
            self.started_from = origin(start)
            take_over_discriminators(self.networks, start)

    def _add_discriminators(self, start: Checkpoint | None) -> None:
        config = self.config
        given = start is not None and any(name.startswith(f"{DISCRIMINATORS}.global.") for name in start.state)
        if given and config.discriminator:
            log.warning("%s holds a global discriminator, which is taken in place of %s", config.init_from, config.discriminator)
        groups: dict[str, list[nn.Parameter]] = {}
        if config.global_weight:
            self.d = start_discriminator(config.shape, config.stddev_group, "" if given else config.discriminator)
            if config.freeze_d and not config.discriminator and not given:
                self.advice = "FreezeD freezes random layers: pass a trained discriminator with --discriminator, or --freeze-d 0."
            freeze_first(self.d.convs, config.freeze_d)
            self.networks["global"] = self.d
            groups["global"] = list(self.d.parameters())
        if config.local_weight:
            self.local = nn.ModuleDict({name: LocalDiscriminator(config.local_channels) for name in COMPONENTS})
            self.networks["local"] = self.local
            groups["local"] = list(self.local.parameters())
        if config.projected_weight:
            network = self.fixed["perceptual"]
            self.projected = ProjectedHeads([found.shape[1] for found in network(torch.zeros(1, 3, 64, 64))])
            self.networks["projected"] = self.projected
            groups["projected"] = list(self.projected.parameters())
        if config.detail_weight:
            self.detail = DetailDiscriminator()
            self.networks["detail"] = self.detail
            groups["detail"] = list(self.detail.parameters())
        if not groups:
            return
        rates = {
            "global": config.lr_global,
            "local": config.lr_local,
            "projected": config.lr_texture,
            "detail": config.lr_texture,
        }
        regularised: list[str] = [name for name in ("global", "detail") if name in groups and config.r1_weight]
        lazy = dict.fromkeys(regularised, config.r1_every)
        self.optimisers["d"] = adam(groups, rates, config, lazy)
        self.phases.append(Phase("Dmain", "d", trainable([p for group in groups.values() for p in group])))
        if regularised:
            parameters = trainable([p for name in regularised for p in groups[name]])
            self.phases.append(Phase("Dreg", "d", parameters, config.r1_every))

    @property
    def generator(self) -> nn.Module:
        return self.g

    def loss(self, phase: str, batch: FaceBatch) -> tuple[Tensor, Terms]:
        if phase == "Gmain":
            return self._generator(batch)
        if phase == "Greg":
            return self._path_length(batch)
        truth = to_signed(batch["truth"])
        if phase == "Dmain":
            return self._discriminators(truth, batch)
        terms: Terms = {}
        if self.config.global_weight:
            images = truth.detach().requires_grad_(True)
            terms["D/r1"] = losses.r1(self.d(images), images)
        if self.config.detail_weight:
            bands = details(self._piece(truth, batch)).requires_grad_(True)
            terms["D/r1_detail"] = losses.r1(self.detail(bands), bands)
        total = torch.stack(list(terms.values())).sum()
        return self.config.r1_weight * total, {name: term.detach() for name, term in terms.items()}

    def _generator(self, batch: FaceBatch) -> tuple[Tensor, Terms]:
        config, truth = self.config, to_signed(batch["truth"])
        degraded = to_signed(batch["degraded"]).contiguous(memory_format=memory_format(self.device))
        with self.autocast():
            output, pyramid = self.compiled_if_asked("g", self.g.forward_for_training)(degraded)
        # Beyond the photograph's edge there is no truth: there the output is replaced by it, and no loss sees a difference.
        mask = batch["mask"].float()
        output = torch.lerp(truth, output.float(), mask)
        truths, masks = losses.shrunk(truth, pyramid), losses.shrunk(mask, pyramid)
        pyramid = {r: torch.lerp(truths[r], y.float(), masks[r]) for r, y in pyramid.items()}
        batch["fake"] = output.detach()
        weighted = {"l1": config.l1_weight * losses.l1(output, truth)}
        if config.psnr_weight:
            weighted["psnr"] = config.psnr_weight * losses.log_error(output, truth)
        if config.pyramid_weight and pyramid:
            weighted["pyramid"] = config.pyramid_weight * losses.l1_pyramid(pyramid, truths)
        if config.global_weight:
            with self.autocast():
                logits = self.compiled_if_asked("d", self.d)(output)
            weighted["global"] = config.global_weight * losses.generator_adversarial(logits)
        if config.low_weight:
            weighted["low"] = config.low_weight * losses.low_pass(output, truth)
        if config.chroma_weight:
            weighted["chroma"] = config.chroma_weight * losses.chroma(output, truth)
        if config.anchor:
            with torch.no_grad(), self.autocast():
                anchor = self.fixed["anchor"]
                kept = anchor(degraded, fidelity=1.0) if isinstance(anchor, BlendedPFR) else anchor(degraded)
            weighted["anchor"] = config.anchor_weight * losses.low_pass(output, torch.lerp(truth, kept.float(), mask), ANCHORED)
        judged = self._judged(output, truth)
        if config.local_weight:
            weighted["local"] = config.local_weight * losses.generator_local(self._local_logits(judged, batch["boxes"]))
        textured = self._textured(judged, truth, batch["boxes"])
        if config.energy_weight:
            weighted["energy"] = config.energy_weight * losses.detail_energy(textured, truth)
        if config.sees_features:
            weighted |= self._features(judged, textured, truth, batch)
        if config.detail_weight:
            with self.autocast():
                fake = self.detail(details(self._piece(textured, batch)))
                with torch.no_grad():
                    real = self.detail(details(self._piece(truth, batch)))
            weighted["detail"] = config.detail_weight * generator_paired([real], [fake])
        if config.fp_weight:
            network = self.fixed["identity"]
            with torch.no_grad():
                wanted = network(truth, batch["points"])
            weighted["fp"] = config.fp_weight * losses.face_preserving(network(output, batch["points"]), wanted)
        total = torch.stack(list(weighted.values())).sum()  # Eq. 16
        return total, {f"G/{name}": value.detach() for name, value in weighted.items()}

    def _judged(self, output: Tensor, truth: Tensor) -> Tensor:
        """Return what features, components' adversaries and our losses for texture see of the output."""
        return losses.luma_only(output, truth) if self.config.luma_only else output

    def _textured(self, judged: Tensor, truth: Tensor, boxes: Tensor) -> Tensor:
        """Return what judges of texture see of it: how much detail is in an eye says nothing of how it is drawn."""
        if not self.config.spare_components:
            return judged
        return torch.where(inside(boxes, judged.shape[-1]), truth, judged)

    def _features(self, judged: Tensor, textured: Tensor, truth: Tensor, batch: FaceBatch) -> Terms:
        """Return the weighted terms on features of the perceptual network; the projected heads find the features in ``batch``."""
        config, network, terms = self.config, self.fixed["perceptual"], {}
        with self.autocast():
            found = network(self._piece(judged, batch))
            with torch.no_grad():
                wanted = network(self._piece(truth, batch))
        if config.fm_weight:
            terms["fm"] = config.fm_weight * losses.feature_matching(found, wanted)
        if config.unit_weight:
            terms["unit"] = config.unit_weight * losses.unit_distance(found, wanted)
        if config.projected_weight:
            with self.autocast():
                seen = found if textured is judged else network(self._piece(textured, batch))
                with torch.no_grad():
                    real = self.projected(wanted)
                terms["projected"] = config.projected_weight * generator_paired(real, self.projected(seen))
            batch["fake_features"], batch["real_features"] = [fake.detach() for fake in seen], wanted
        return terms

    def _piece(self, images: Tensor, batch: FaceBatch) -> Tensor:
        """Return the piece of each face that features and details are taken of, the same in all phases of a step."""
        size, side = self.config.shape.size, self.config.crop
        if not side:
            return images
        if "piece" not in batch:  # reading the boxes waits for the GPU
            random = SampleRandom(self.config.seed, "crop", batch["counter"].tolist(), torch.device("cpu"))
            batch["piece"] = places(batch["boxes"], size, side, random.uniform(4))
        return squares(images, batch["piece"], side)

    def _path_length(self, batch: FaceBatch) -> tuple[Tensor, Terms]:
        random = SampleRandom(self.config.seed, "Greg", batch["counter"].tolist(), self.device)
        with torch.no_grad():
            z, features = self.g.encoder(to_signed(batch["degraded"]))
            clean = features if self.g.decoder is None else self.g.decoder(features)
            w = self.g.prior.map(z)
        w.requires_grad_(True)
        images = self.g.prior.synthesise(w, clean)
        lengths = losses.path_lengths(images, w, random.normal(*images.shape[1:]))
        loss = losses.path_length(lengths, self.path_mean)
        return self.config.path_weight * loss, {"G/path": loss.detach(), "G/path_length": lengths.detach().mean()}

    def _discriminators(self, truth: Tensor, batch: FaceBatch) -> tuple[Tensor, Terms]:
        fake, boxes = batch["fake"], batch["boxes"]
        total, terms = truth.new_zeros(()), {}
        if self.config.global_weight:
            with self.autocast():
                discriminate = self.compiled_if_asked("d", self.d)
                real_logits, fake_logits = discriminate(truth), discriminate(fake)
            loss = losses.discriminator_adversarial(real_logits, fake_logits)
            total, terms = total + loss, {"D/adversarial": loss.detach(), **scores(real_logits, fake_logits)}
        if self.config.local_weight:
            real, false = self._local_logits(truth, boxes), self._local_logits(self._judged(fake, truth), boxes)
            loss = losses.discriminator_local(real, false)
            total = total + loss
            terms["D/local"] = loss.detach()
            for name, r, f in zip(COMPONENTS, real, false, strict=True):
                terms |= {f"D/{name}_real": r.detach().float().mean(), f"D/{name}_fake": f.detach().float().mean()}
        if self.config.projected_weight:
            with self.autocast():
                real, false = (self.projected(features) for features in (batch["real_features"], batch["fake_features"]))
            loss = discriminator_paired(real, false)
            total, terms = total + loss, terms | {"D/projected": loss.detach()}
        if self.config.detail_weight:
            with self.autocast():
                textured = self._textured(self._judged(fake, truth), truth, boxes)
                logits = [self.detail(details(self._piece(images, batch))) for images in (truth, textured)]
            loss = discriminator_paired(logits[:1], logits[1:])
            total, terms = total + loss, terms | {"D/detail": loss.detach()}
        return total, terms

    def _local_logits(self, images: Tensor, boxes: Tensor) -> list[Tensor]:
        parts = cut(images, boxes)
        with self.autocast():
            return [self.local[name](part) for name, part in zip(COMPONENTS, parts, strict=True)]

    @torch.no_grad()
    def look(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return ``faces``: input, output, truth; and each component's output and truth, as the local discriminators see them."""
        degraded, truth = to_signed(batch["degraded"]), to_signed(batch["truth"])
        output = self.ema(degraded)
        found = {"faces": torch.stack([degraded, output, truth], dim=1)}
        for name, fake, real in zip(COMPONENTS, cut(output, batch["boxes"]), cut(truth, batch["boxes"]), strict=True):
            found[name] = torch.stack([fake, real])
        return found

    def export(self, path: Path, provenance: dict[str, Any], licence: str, dtype: torch.dtype) -> list[Path]:
        assert isinstance(self.ema, PFR)
        save_model(self.ema, path, provenance=provenance, licence=licence, dtype=dtype)
        if not self.config.global_weight:
            return [path]
        beside = discriminator_file(path)
        save_discriminator(self.d, self.config.shape, beside, provenance=provenance, licence=licence)
        return [path, beside]


def load_anchor(source: str, size: int) -> PFR:
    """Return the network whose faces of ``size`` px, at fidelity 1 if it has that, the output is to keep coarsely (ours).

    Raises:
        CheckpointError: the file cannot be read.
        InputError: it is of another size, or a preset.
    """
    if source in PRESETS:
        raise InputError(f"--anchor {source} is a preset, whose weights are random. Take the file of a trained model.")
    net = load_model(source).requires_grad_(False)
    if net.config.size != size:
        raise InputError(f"--anchor {source} makes faces of {net.config.size} px, this run of {size}. Take one of this size.")
    return net
