"""Stage ``prior``: the concat-noise StyleGAN2 generator and its discriminator, from scratch, on clean faces.

StyleGAN2's recipe: non-saturating logistic loss, lazy R1, path-length regularisation, style mixing. Ours, because the noise is
concatenated: noise inputs are N(0,1) in every channel of each scale, which is the shape of the decoder's features that later
take their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfr_core.models.checkpoint import discriminator_file, save_discriminator, save_prior
from pfr_core.network.prior import StyleGAN2Prior

from .. import losses
from ..data.augment import augment, steer
from ..data.dataset import FaceBatch, to_signed
from ..run.config import PriorConfig
from ..run.initialise import OPEN, origin, take_over
from ..run.optim import adam, noise_scalars
from ..run.randomness import SampleRandom
from .base import Phase, Terms
from .faces import FaceStage, scores, start_discriminator


class PriorStage(FaceStage):
    """See the module.

    Raises:
        CheckpointError: a file to start from does not fit.
    """

    config: PriorConfig

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        shape = config.shape
        self.g = StyleGAN2Prior(shape)
        for scalar in noise_scalars(self.g):
            nn.init.constant_(scalar, OPEN)
        if config.init_from:
            self.started_from = origin(take_over(nn.ModuleDict({"prior": self.g}), shape, config.init_from))
        self.d = start_discriminator(shape, config.stddev_group, config.discriminator)
        self.networks = nn.ModuleDict({"generator": self.g, "discriminator": self.d})
        self.ema = StyleGAN2Prior(shape).requires_grad_(False).eval()
        self.ema.load_state_dict(self.g.state_dict())
        g, d = list(self.g.parameters()), list(self.d.parameters())
        lazy = {
            "generator": config.path_every if config.path_weight else 0,
            "discriminator": config.r1_every if config.r1_weight else 0,
        }
        rates = dict.fromkeys(lazy, config.learning_rate)
        self.optimisers = {
            "g": adam({"generator": g}, rates, config, lazy),
            "d": adam({"discriminator": d}, rates, config, lazy),
        }
        norm, path_norm = ("G/gradient", "G/path_gradient") if config.grad_clip else ("", "")
        self.phases = [Phase("Gmain", "g", g, norm=norm)]
        if config.path_weight:
            self.phases.append(Phase("Greg", "g", g, config.path_every, path_norm))
        self.phases.append(Phase("Dmain", "d", d))
        if config.r1_weight:
            self.phases.append(Phase("Dreg", "d", d, config.r1_every))
        self.augment_probability = config.augment

    @property
    def generator(self) -> nn.Module:
        return self.g

    def loss(self, phase: str, batch: FaceBatch) -> tuple[Tensor, Terms]:
        random = SampleRandom(self.config.seed, phase, batch["counter"].tolist(), self.device)
        if phase == "Gmain":
            with self.autocast():
                fake = self.compiled_if_asked("g", self.g.synthesise)(self._styles(random), self._noise(random)).float()
                logits = self.compiled_if_asked("d", self.d)(augment(fake, random, self.augment_probability))
            batch["fake"] = fake.detach()
            loss = losses.generator_adversarial(logits)
            return loss, {"G/adversarial": loss.detach()}
        if phase == "Greg":
            w = self._styles(random)
            images = self.g.synthesise(w, self._noise(random))
            lengths = losses.path_lengths(images, w, random.normal(*images.shape[1:]))
            loss = losses.path_length(lengths, self.path_mean)
            return self.config.path_weight * loss, {"G/path": loss.detach(), "G/path_length": lengths.detach().mean()}
        truth = to_signed(batch["truth"])
        if phase == "Dmain":
            with self.autocast():
                discriminate = self.compiled_if_asked("d", self.d)
                real = discriminate(augment(truth, random, self.augment_probability))
                fake = discriminate(augment(batch["fake"], random, self.augment_probability))
            loss = losses.discriminator_adversarial(real, fake)
            return loss, {"D/adversarial": loss.detach(), **scores(real, fake)}
        images = truth.requires_grad_(True)
        loss = losses.r1(self.d(augment(images, random, self.augment_probability)), images)
        return self.config.r1_weight * loss, {"D/r1": loss.detach()}

    def update(self, terms: Mapping[str, float], samples: int) -> None:
        super().update(terms, samples)
        if self.config.ada_target:
            self.augment_probability = steer(
                self.augment_probability, terms["D/real_sign"], self.config.ada_target, samples, self.config.ada_faces
            )

    def steered(self) -> dict[str, float]:
        return {"augment": self.augment_probability, **super().steered()}

    def steer(self, values: Mapping[str, float]) -> None:
        super().steer(values)
        self.augment_probability = values["augment"]

    @torch.no_grad()
    def sample(self, counters: list[int], *, noise_of: list[int] | None = None) -> Tensor:
        """Return faces of the average [B,3,S,S]: z from ``counters``, noise from ``noise_of`` (the same if not given)."""
        z = SampleRandom(self.config.seed, "look", counters, self.device).normal(self.config.shape.style_dim)
        random = SampleRandom(self.config.seed, "Gmain", counters if noise_of is None else noise_of, self.device)
        assert isinstance(self.ema, StyleGAN2Prior)
        return self.ema(z, self._noise(random))

    def look(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return ``samples``, z and noise varied, and ``noise``, the same z in each row with other noise."""
        rows = [self.sample(list(range(8 * i, 8 * i + 8))) for i in range(6)]
        same = [self.sample([i] * 8, noise_of=list(range(8))) for i in range(4)]
        return {"samples": torch.stack(rows), "noise": torch.stack(same), "real": to_signed(batch["truth"])[None]}

    def export(self, path: Path, provenance: dict[str, Any], licence: str, dtype: torch.dtype) -> list[Path]:
        assert isinstance(self.ema, StyleGAN2Prior)
        beside = discriminator_file(path)
        save_prior(self.ema, self.config.shape, path, provenance=provenance, licence=licence, dtype=dtype)
        save_discriminator(self.d, self.config.shape, beside, provenance=provenance, licence=licence)
        return [path, beside]

    def _styles(self, random: SampleRandom) -> Tensor:
        """Return w of each sample and resolution [B,R,D]; with style mixing the later resolutions may have another z's."""
        shape = self.config.shape
        count = len(shape.resolutions)
        first, second = self.g.map(random.normal(shape.style_dim)), self.g.map(random.normal(shape.style_dim))
        chance, place = random.uniform(2).unbind(1)
        crossover = 1 + (place * (count - 1)).long()  # at least one resolution keeps the first
        crossover = torch.where(chance < self.config.style_mixing, crossover, torch.full_like(crossover, count))
        later = torch.arange(count, device=self.device) >= crossover[:, None]  # [B,R]
        return torch.where(later[:, :, None], second[:, None], first[:, None])

    def _noise(self, random: SampleRandom) -> dict[int, Tensor]:
        shape = self.config.shape
        return {r: random.normal(shape.channels(r), r, r) for r in shape.resolutions}
