"""What each stage makes of the losses: signs, weights, masks, lazy factors and the average, against formulas written out here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, softplus

from pfr_core.errors import InputError
from pfr_core.models.checkpoint import save_model
from pfr_core.network.blended import BlendedPFR
from pfr_core.network.pfr import PFR
from trainer.data.components import COMPONENTS, cut
from trainer.data.dataset import FaceBatch, to_signed
from trainer.losses import (
    detail_energy,
    discriminator_local,
    face_preserving,
    face_weight,
    feature_matching,
    generator_local,
    luma_only,
    unit_distance,
)
from trainer.run.clock import Clock
from trainer.run.config import PriorConfig, RestoreConfig, RunConfig
from trainer.run.steps import Run
from trainer.stages.restore import RestoreStage
from trainer.stages.texture import details

COMMON: dict[str, Any] = {
    "network": "pfr-256-lite",
    "size": 16,
    "batch": 4,
    "stddev_group": 2,
    "r1_every": 3,
    "path_every": 5,
    "path_weight": 2.0,
    "precision": "fp32",
    "device": "cpu",
    "workers": 0,
    "iterations": 10,
}


def started(config: RunConfig) -> tuple[Any, FaceBatch, Run]:
    torch.manual_seed(0)
    run = Run(config)
    batch = next(run.batches)
    batch["mask"][:, :, :, :4] = 0  # beyond the edge of the photograph
    return run.stage, batch, run


def restoration(faces: Path, **changes: Any) -> RestoreConfig:
    small = {"fm_weight": 0.0, "fp_weight": 0.0, "local_channels": 4, "freeze_d": 2}
    return RestoreConfig(data=str(faces), **{**COMMON, **small, **changes})


def real(logits: torch.Tensor) -> torch.Tensor:
    """-log of the probability that logits give to "real", mean."""
    return -torch.sigmoid(logits.double()).log().mean()


def fake(logits: torch.Tensor) -> torch.Tensor:
    """-log of the probability that logits give to "fake", mean."""
    return -(1 - torch.sigmoid(logits.double())).log().mean()


def close(value: torch.Tensor, expected: Any) -> None:
    assert value.item() == pytest.approx(torch.as_tensor(expected).item(), rel=1e-4)


def test_the_papers_weights_are_the_defaults() -> None:
    """Section 4.2. ``pyramid`` and R1 are not the paper's: GFPGAN's and StyleGAN2's."""
    config = RestoreConfig()
    assert (config.global_weight, config.local_weight) == (0.5, 3.0)
    assert (config.l1_weight, config.fm_weight, config.fp_weight) == (8.0, 0.02, 10.0)
    assert (config.pyramid_weight, config.r1_weight, config.freeze_d) == (1.0, 10.0, 5)
    assert PriorConfig().r1_weight == 10.0


def test_restore_sums_its_weighted_terms_within_the_photograph(faces: Path) -> None:
    stage, batch, _ = started(restoration(faces, l1_weight=7.0, pyramid_weight=1.5, global_weight=0.4, local_weight=2.5))
    total, terms = stage.loss("Gmain", batch)
    truth, mask = to_signed(batch["truth"]), batch["mask"].float()
    assert isinstance(stage.g, PFR)
    output, pyramid = stage.g.forward_for_training(to_signed(batch["degraded"]))
    output = mask * output + (1 - mask) * truth
    assert torch.equal(batch["fake"][..., :4], truth[..., :4]) and not torch.equal(batch["fake"], truth)
    close(terms["G/l1"], 7.0 * (output - truth).abs().mean())
    expected = 0.0
    for side, image in pyramid.items():
        small, inside = adaptive_avg_pool2d(truth, side), adaptive_avg_pool2d(mask, side)
        expected += (inside * (image - small)).abs().mean().item()
    close(terms["G/pyramid"], 1.5 * expected)
    close(terms["G/global"], 0.4 * real(stage.d(output)))
    parts = zip(COMPONENTS, cut(output, batch["boxes"]), strict=True)
    close(terms["G/local"], 2.5 * sum(real(stage.local[name](part)) for name, part in parts))
    close(total, sum(terms[f"G/{name}"] for name in ("l1", "pyramid", "global", "local")))


def test_restores_discriminators_learn_real_from_restored(faces: Path) -> None:
    stage, batch, _ = started(restoration(faces))
    stage.loss("Gmain", batch)
    total, terms = stage.loss("Dmain", batch)
    truth, restored = to_signed(batch["truth"]), batch["fake"]
    close(terms["D/adversarial"], real(stage.d(truth)) + fake(stage.d(restored)))
    local = [
        real(stage.local[name](good)) + fake(stage.local[name](bad))
        for name, good, bad in zip(COMPONENTS, cut(truth, batch["boxes"]), cut(restored, batch["boxes"]), strict=True)
    ]
    close(terms["D/local"], sum(local))
    close(total, terms["D/adversarial"] + terms["D/local"])  # the terms' weights are the generator's


def test_priors_discriminator_learns_real_from_made(faces: Path) -> None:
    stage, batch, _ = started(PriorConfig(data=str(faces), **COMMON))
    loss, _ = stage.loss("Gmain", batch)
    close(loss, real(stage.d(batch["fake"])))
    loss, _ = stage.loss("Dmain", batch)
    close(loss, real(stage.d(to_signed(batch["truth"]))) + fake(stage.d(batch["fake"])))


class Features(torch.nn.Module):
    """In place of a trained network: two layers of features."""

    def __init__(self, _: str) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Conv2d(3, 5, 3, 2, 1), torch.nn.Conv2d(5, 6, 3, 2, 1)]).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.layers[0](x)
        return [first, self.layers[1](first)]


def test_our_terms_for_texture(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.stages.restore.PerceptualNetwork", Features)
    weights = {"low_weight": 3.0, "unit_weight": 0.7, "projected_weight": 0.2, "detail_weight": 0.1, "r1_weight": 0.05}
    weights |= {"psnr_weight": 0.3, "chroma_weight": 0.6}
    stage, batch, _ = started(restoration(faces, global_weight=0.0, local_weight=0.0, crop=8, path_weight=0.0, **weights))
    assert [phase.name for phase in stage.phases] == ["Gmain", "Dmain", "Dreg"]
    stage.networks.eval()  # spectral norm's estimate moves with each call in training
    total, terms = stage.loss("Gmain", batch)
    output, truth = batch["fake"], to_signed(batch["truth"])
    piece, wanted = stage._piece(output, batch), stage._piece(truth, batch)
    assert piece.shape == (4, 3, 8, 8) and torch.equal(stage._piece(output - truth, batch), piece - wanted)
    within = face_weight(output.shape[-1], output.device)
    errors = ((output - truth).square() * within).mean(dim=(1, 2, 3)) / within.mean()
    close(terms["G/psnr"], 0.3 * torch.log(1 + 1000 * errors).mean())
    close(terms["G/chroma"], 0.6 * (output - luma_only(output, truth)).abs().mean())
    close(terms["G/low"], 3.0 * (avg_pool2d(output, 4) - avg_pool2d(truth, 4)).abs().mean())
    network = stage.fixed["perceptual"]
    f, t = network(piece), network(wanted)
    distances = [(2 - 2 * torch.cosine_similarity(a, b, dim=1)).mean() for a, b in zip(f, t, strict=True)]
    close(terms["G/unit"], 0.7 * sum(distances))
    made, real_ones = stage.projected(f), stage.projected(t)
    close(terms["G/projected"], 0.2 * sum(softplus(r - m).mean() for r, m in zip(real_ones, made, strict=True)) / 2)
    close(stage.projected([100 * x for x in f])[0].sum(), made[0].sum())  # whatever the size of the features
    r, m = stage.detail(details(wanted)), stage.detail(details(piece))
    close(terms["G/detail"], 0.1 * softplus(r - m).mean())  # at each place against the truth there
    names = ("l1", "psnr", "pyramid", "low", "chroma", "unit", "projected", "detail")
    close(total, sum(terms[f"G/{name}"] for name in names))

    loss, terms = stage.loss("Dmain", batch)
    close(terms["D/projected"], sum(softplus(m - r).mean() for r, m in zip(real_ones, made, strict=True)) / 2)
    close(loss, terms["D/projected"] + softplus(m - r).mean())

    bands = details(wanted).requires_grad_(True)
    (gradient,) = torch.autograd.grad(stage.detail(bands).sum(), bands)
    loss, _ = stage.loss("Dreg", batch)
    close(loss, 0.05 / 2 * gradient.square().sum(dim=(1, 2, 3)).mean())


def test_with_luma_only_texture_is_judged_in_the_truths_colours(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.stages.restore.PerceptualNetwork", Features)
    random = torch.Generator().manual_seed(0)
    output, truth = (torch.rand(2, 3, 8, 8, generator=random) - 0.5 for _ in range(2))
    weights = torch.tensor([0.299, 0.587, 0.114])
    judged = luma_only(output, truth)
    luma = [torch.einsum("c,bchw->bhw", weights, images) for images in (judged, output)]
    torch.testing.assert_close(*luma)
    torch.testing.assert_close((judged - truth).std(dim=1), torch.zeros(2, 8, 8))  # the same in each channel: truth's colours

    alone = {"global_weight": 0.0, "local_weight": 0.5, "path_weight": 0.0, "energy_weight": 2.0, "projected_weight": 0.1}
    stage, batch, _ = started(restoration(faces, luma_only=True, **alone))
    _, terms = stage.loss("Gmain", batch)
    wanted = to_signed(batch["truth"])
    close(terms["G/energy"], 2 * detail_energy(luma_only(batch["fake"], wanted), wanted))
    found = stage.fixed["perceptual"](stage._piece(luma_only(batch["fake"], wanted), batch))
    torch.testing.assert_close(batch["fake_features"][0], found[0])
    logits = stage._local_logits(luma_only(batch["fake"], wanted), batch["boxes"])
    close(terms["G/local"], 0.5 * generator_local(logits))
    _, terms = stage.loss("Dmain", batch)
    close(terms["D/local"], discriminator_local(stage._local_logits(wanted, batch["boxes"]), logits))


def test_spared_components_are_seen_by_no_judge_of_texture(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.stages.restore.PerceptualNetwork", Features)
    weights: dict[str, Any] = {"unit_weight": 0.7, "projected_weight": 0.2, "detail_weight": 0.1, "energy_weight": 2.0}
    alone: dict[str, Any] = {"global_weight": 0.0, "local_weight": 0.0, "path_weight": 0.0}
    stage, batch, _ = started(restoration(faces, spare_components=True, **alone, **weights))
    stage.networks.eval()
    batch["boxes"] = torch.tensor([[[-2.0, 1.0, 4.5, 6.0], [8.0, 2.0, 13.0, 7.0], [5.0, 9.0, 11.0, 20.0]]]).expand(4, -1, -1)
    _, terms = stage.loss("Gmain", batch)
    output, truth = batch["fake"], to_signed(batch["truth"])
    spared = output.clone()
    for rows, columns in ((slice(1, 6), slice(0, 4)), (slice(2, 7), slice(8, 13)), (slice(9, 16), slice(5, 11))):
        spared[..., rows, columns] = truth[..., rows, columns]
    close(terms["G/energy"], 2 * detail_energy(spared, truth))
    real_one, made_one = stage.detail(details(truth)), stage.detail(details(spared))
    close(terms["G/detail"], 0.1 * softplus(real_one - made_one).mean())
    network = stage.fixed["perceptual"]
    pairs = zip(stage.projected(network(truth)), stage.projected(network(spared)), strict=True)
    close(terms["G/projected"], 0.2 * sum(softplus(r - m).mean() for r, m in pairs) / 2)
    close(terms["G/unit"], 0.7 * unit_distance(network(output), network(truth)))
    _, terms = stage.loss("Dmain", batch)
    close(terms["D/detail"], softplus(made_one - real_one).mean())
    torch.testing.assert_close(batch["fake_features"][0], network(spared)[0])


@pytest.mark.parametrize("blended", [False, True])
def test_an_anchors_faces_are_kept_coarsely_within_the_photograph(faces: Path, tmp_path: Path, blended: bool) -> None:
    torch.manual_seed(1)
    path = tmp_path / "anchor.safetensors"
    anchor, other = (PFR(restoration(faces).shape).eval() for _ in range(2))
    net = BlendedPFR.between(anchor, other) if blended else anchor
    save_model(net, path, provenance={}, licence="none", dtype=torch.float32)
    alone: dict[str, Any] = {"global_weight": 0.0, "local_weight": 0.0, "path_weight": 0.0}
    stage, batch, _ = started(restoration(faces, anchor=str(path), anchor_weight=5.0, **alone))
    total, terms = stage.loss("Gmain", batch)
    with torch.no_grad():
        kept = anchor(to_signed(batch["degraded"]))
    mask = batch["mask"].float()
    kept = mask * kept + (1 - mask) * to_signed(batch["truth"])
    close(terms["G/anchor"], 5.0 * (avg_pool2d(batch["fake"], 8) - avg_pool2d(kept, 8)).abs().mean())
    close(total, sum(terms.values()))
    total.backward()
    assert not any(parameter.grad is not None for parameter in stage.fixed.parameters())


def test_an_anchor_that_cannot_be_one(faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "anchor.safetensors"
    with pytest.raises(InputError, match="go together"):
        restoration(faces, anchor=str(path))
    with pytest.raises(InputError, match="go together"):
        restoration(faces, anchor_weight=1.0)
    config = restoration(faces, anchor=str(path), anchor_weight=1.0)
    with pytest.raises(InputError, match="pfr-256 is a preset"):
        RestoreStage(replace(config, anchor="pfr-256"))
    save_model(PFR(replace(config.shape, size=32)), path, provenance={}, licence="none")
    with pytest.raises(InputError, match="faces of 32 px"):
        RestoreStage(config)


def test_energy_of_details_sees_their_strength_and_neither_place_nor_sign(faces: Path) -> None:
    truth = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    flat = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
    weaker = [detail_energy(flat + share * (truth - flat), truth).item() for share in (1.0, 0.8, 0.5, 0.0)]
    assert weaker[0] < 1e-6 and weaker == sorted(weaker)
    assert detail_energy(flat - (truth - flat), truth) < 1e-6, "upside down"
    squares = truth.reshape(2, 3, 4, 16, 4, 16)  # a window is 16 px wide, and 32 at half size
    assert detail_energy(squares.flip(3, 5).reshape(truth.shape), truth) < 1e-6
    assert detail_energy(truth.flip(3), truth) > 0.01, "what is elsewhere is not what should be here"
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., 1::2] = 0.5
    weight = face_weight(4, torch.device("cpu"))
    assert weight[:, 1:3].max() > 0.9 and weight[0].max() < 0.3 and weight[:, [0, 3]].max() < 0.35
    close(detail_energy(stripes, torch.zeros(1, 3, 64, 64)), weight.mean() * (1.0 - 1e-3) / 3)  # one band of three

    stage, batch, _ = started(restoration(faces, global_weight=0.0, local_weight=0.0, path_weight=0.0, energy_weight=2.0))
    total, terms = stage.loss("Gmain", batch)
    close(terms["G/energy"], 2 * detail_energy(batch["fake"], to_signed(batch["truth"])))
    close(total, sum(terms.values()))


class Person(torch.nn.Module):
    """In place of a network that recognises people: mean colour and left eye, of unit length."""

    def __init__(self, _: str) -> None:
        super().__init__()

    def forward(self, images: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.cat([images.mean(dim=(2, 3)), points[:, 0] / 16], dim=1))


def test_features_and_identity_carry_their_weights(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.stages.restore.PerceptualNetwork", Features)
    monkeypatch.setattr("trainer.stages.restore.IdentityNetwork", Person)
    alone = {"global_weight": 0.0, "local_weight": 0.0, "path_weight": 0.0}
    stage, batch, _ = started(restoration(faces, **{**alone, "fm_weight": 0.4, "fp_weight": 3.0}))
    total, terms = stage.loss("Gmain", batch)
    output, truth = batch["fake"], to_signed(batch["truth"])
    network, person = stage.fixed["perceptual"], stage.fixed["identity"]
    close(terms["G/fm"], 0.4 * feature_matching(network(output), network(truth)))
    close(terms["G/fp"], 3.0 * face_preserving(person(output, batch["points"]), person(truth, batch["points"])))
    assert terms["G/fm"] > 0 and terms["G/fp"] > 0
    close(total, sum(terms.values()))


def test_details_are_two_octaves_and_nothing_else() -> None:
    stripes = torch.ones(1, 3, 8, 8)
    stripes[..., 1::2] = -1.0
    bands = details(stripes)
    assert (bands[:, :3] == 32).all() and (bands[:, 3:] == 0).all() and (details(torch.full((1, 3, 8, 8), 0.3)) == 0).all()
    assert (details(stripes.transpose(2, 3))[:, 3:6] == 32).all()
    wider = stripes.repeat_interleave(2, dim=3)[..., :8]  # twice as wide: the next octave, at the same places
    assert (details(wider)[:, 9:12] == 32).all() and (details(wider)[:, [*range(9), *range(12, 18)]] == 0).all()


@pytest.mark.parametrize("kind", ["prior", "restore"])
def test_r1_carries_its_weight_and_lazy_phases_their_factor(faces: Path, kind: str) -> None:
    config = PriorConfig(data=str(faces), **COMMON, r1_weight=6.0) if kind == "prior" else restoration(faces, r1_weight=6.0)
    stage, batch, run = started(config)
    images = to_signed(batch["truth"]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(stage.d(images).sum(), images)
    loss, _ = stage.loss("Dreg", batch)
    close(loss, 6.0 / 2 * gradient.square().sum(dim=(1, 2, 3)).mean())
    (phase,) = (phase for phase in stage.phases if phase.name == "Dreg")
    alone = torch.autograd.grad(loss, phase.parameters, allow_unused=True)
    run.gradients(phase, [batch, batch])
    for parameter, single in zip(phase.parameters, alone, strict=True):
        if single is not None:
            assert torch.allclose(parameter.grad, 3 * single, rtol=1e-3, atol=1e-6)  # r1_every; accumulation takes the mean


@pytest.mark.parametrize("kind", ["prior", "restore"])
def test_adam_makes_up_for_the_lazy_steps(faces: Path, kind: str) -> None:
    stage, _, _ = started(PriorConfig(data=str(faces), **COMMON) if kind == "prior" else restoration(faces))
    rates = {group["name"]: (group["lr"], group["betas"][1]) for o in stage.optimisers.values() for group in o.param_groups}
    if kind == "prior":
        assert rates["generator"] == pytest.approx((2e-3 * 5 / 6, 0.99 ** (5 / 6)))
        assert rates["discriminator"] == pytest.approx((2e-3 * 3 / 4, 0.99 ** (3 / 4)))
    else:
        assert rates["prior"] == pytest.approx((2e-4 * 5 / 6, 0.99 ** (5 / 6)))
        assert rates["global"] == pytest.approx((2e-5 * 3 / 4, 0.99 ** (3 / 4)))
        assert rates["local"] == pytest.approx((2e-3, 0.99))


def test_the_average_keeps_most_of_what_it_was(faces: Path) -> None:
    stage, _, _ = started(restoration(faces, ema=0.75))
    before = [parameter.clone() for parameter in stage.ema.parameters()]
    with torch.no_grad():
        for parameter in stage.g.parameters():
            parameter += 1
    stage.average(step=1000)
    assert all(torch.allclose(now, old + 0.25, atol=1e-6) for now, old in zip(stage.ema.parameters(), before, strict=True))


@pytest.mark.parametrize("kind", ["prior", "restore"])
def test_path_lengths_are_measured_from_their_running_mean(faces: Path, kind: str) -> None:
    one: dict[str, Any] = {"batch": 1, "stddev_group": 0, "path_weight": 2.0}
    config = PriorConfig(data=str(faces), **{**COMMON, **one}) if kind == "prior" else restoration(faces, **one)
    stage, batch, _ = started(config)
    stage.path_mean = 0.3
    loss, terms = stage.loss("Greg", batch)
    close(loss, 2.0 * (terms["G/path_length"] - 0.3) ** 2)
    stage.update({"G/path_length": 1.3, "D/real_sign": 0.0}, 1)
    assert stage.path_mean == pytest.approx(0.31)


def test_the_priors_augmentation_follows_what_its_discriminator_says(faces: Path) -> None:
    stage, _, _ = started(PriorConfig(data=str(faces), **COMMON, augment=0.5, ada_target=0.6, ada_faces=100))
    stage.update({"D/real_sign": 0.9}, 10)
    assert stage.augment_probability == pytest.approx(0.6)
    stage.update({"D/real_sign": 0.1}, 20)
    assert stage.augment_probability == pytest.approx(0.4)


def test_a_gradient_is_limited_and_its_size_told(faces: Path) -> None:
    stage, batch, run = started(restoration(faces, grad_clip=0.01))
    told = run.gradients(stage.phases[0], [batch])
    norm = torch.stack([each.grad.norm() for each in stage.phases[0].parameters if each.grad is not None]).norm()
    assert told["G/gradient"] > 0.01 and norm.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("kind", ["prior", "restore"])
def test_each_gradient_that_is_limited_is_told_by_a_name_of_its_own(faces: Path, kind: str) -> None:
    clipped = {"grad_clip": 0.01}
    config = PriorConfig(data=str(faces), **{**COMMON, **clipped}) if kind == "prior" else restoration(faces, **clipped)
    stage, _, run = started(config)
    names = [phase.norm for phase in stage.phases if phase.norm]
    assert len(names) == len({*names}) == 2 and {*names} <= {*run.take_step(Clock(run.device, exact=False))}


def test_freezing_random_layers_is_advised_against(faces: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(restoration(faces, freeze_d=0))
    assert "FreezeD" not in caplog.text
    started(restoration(faces))
    assert "FreezeD" in caplog.text
