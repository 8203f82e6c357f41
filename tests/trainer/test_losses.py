"""The trainer's losses, regularisers, components, augmentation and optimisers, against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pfr_core import PFR, PFRConfig
from pfr_core.errors import InputError
from pfr_core.faces.align import TEMPLATE, template
from pfr_core.models.identity import ARCFACE_TEMPLATE, arcface_crop
from trainer import losses
from trainer.data.augment import augment, steer
from trainer.data.components import component_boxes, cut, flip_boxes, patch_size, places, squares
from trainer.run.config import RestoreConfig
from trainer.run.initialise import OPEN, open_noise
from trainer.run.optim import adam, generator_groups, noise_scalars, rate_factor, set_rates
from trainer.run.randomness import SampleRandom, counters_of

CPU = torch.device("cpu")


def test_global_adversarial_by_hand() -> None:
    # softplus(0) = ln 2; softplus(-x) + x = softplus(x)
    assert losses.generator_adversarial(torch.zeros(2, 1)).item() == pytest.approx(math.log(2))
    assert losses.generator_adversarial(torch.tensor([[2.0]])).item() == pytest.approx(math.log(1 + math.exp(-2)))
    both = losses.discriminator_adversarial(torch.tensor([[2.0]]), torch.tensor([[1.0]])).item()
    assert both == pytest.approx(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1)))


def test_local_adversarial_by_hand() -> None:
    logits = [torch.zeros(2, 1, 4, 4), torch.full((2, 1, 5, 5), math.log(3)), torch.zeros(2, 1, 4, 4)]
    # the middle one says "real" with probability 3/4
    assert losses.generator_local(logits).item() == pytest.approx(2 * math.log(2) + math.log(4 / 3), rel=1e-5)
    expected = 2 * 2 * math.log(2) + math.log(4 / 3) + math.log(4)
    assert losses.discriminator_local(logits, logits).item() == pytest.approx(expected, rel=1e-5)


def test_pixel_losses_by_hand() -> None:
    truth = torch.tensor([[[[0.0, 1.0], [0.0, -1.0]]]]).expand(1, 3, 2, 2)
    assert losses.l1(torch.zeros(1, 3, 2, 2), truth).item() == pytest.approx(0.5)
    pyramid = {1: torch.full((1, 3, 1, 1), 0.25), 2: torch.zeros(1, 3, 2, 2)}
    # at 1 px the truth averages to 0: |0.25 - 0|; at 2 px as above
    assert losses.l1_pyramid(pyramid, losses.shrunk(truth, pyramid)).item() == pytest.approx(0.25 + 0.5)


def test_the_log_of_the_error_is_each_faces_own() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    errors = torch.tensor([0.03, 0.2])
    output = errors.sqrt()[:, None, None, None].expand_as(truth)
    expected = sum(math.log(1 + error / losses.FLAWLESS) for error in errors.tolist()) / 2
    assert losses.log_error(output, truth).item() == pytest.approx(expected, rel=1e-5)
    assert losses.log_error(truth, truth).item() == 0.0
    # the best constant for what is -1 in places is the mean, where that of an L1 distance is the median
    outcomes = torch.ones(1, 3, 8, 8)
    outcomes[..., :4, :4] = -1
    constant = torch.zeros((), requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(losses.log_error(constant.expand_as(outcomes), outcomes), constant)
        constant.data -= 0.1 * gradient
    weight = losses.face_weight(8, torch.device("cpu"))
    assert constant.item() == pytest.approx((outcomes * weight / weight.mean()).mean().item(), abs=1e-3)


def test_an_error_in_the_face_counts_more_than_one_around_it() -> None:
    truth = torch.zeros(2, 3, 64, 64)
    output = truth.clone()
    output[0, :, 32:42, 27:37] = output[1, :, :10, :10] = 0.01
    within, around = (losses.log_error(output[face : face + 1], truth[:1]).item() for face in (0, 1))
    assert within / around == pytest.approx(1 / losses.AROUND, rel=0.02)


def test_chroma_sees_no_gray() -> None:
    truth = torch.rand(2, 3, 8, 8) * 2 - 1
    assert losses.chroma(truth + torch.randn(2, 1, 8, 8), truth).item() == pytest.approx(0.0, abs=1e-6)
    red = torch.tensor([0.5, 0.0, 0.0])[:, None, None]  # its luma is 0.1495
    assert losses.chroma(truth + red, truth).item() == pytest.approx((0.5 - 0.1495 + 2 * 0.1495) / 3, rel=1e-4)


def test_feature_matching_is_a_norm_per_layer_that_does_not_grow_with_the_image() -> None:
    a = [torch.zeros(2, 4, 3, 3), torch.zeros(2, 8, 2, 2)]
    b = [torch.full((2, 4, 3, 3), 2.0), torch.cat([torch.zeros(1, 8, 2, 2), torch.full((1, 8, 2, 2), 6.0)])]
    # first layer: sqrt(36 * 4) / sqrt(36) = 2 for both faces; second: 0 and 6, mean 3
    assert losses.feature_matching(a, b).item() == pytest.approx(5.0, rel=1e-5)
    same = torch.ones(1, 2, 2, 2, requires_grad=True)
    losses.feature_matching([same], [same.detach()]).backward()
    assert same.grad is not None and same.grad.isfinite().all()


def test_face_preserving_by_hand() -> None:
    assert losses.face_preserving(torch.eye(512)[:1], torch.eye(512)[1:2]).item() == pytest.approx(2 / 512)
    a, b = torch.nn.functional.normalize(torch.randn(2, 4000, 512, generator=torch.Generator().manual_seed(0)), dim=2)
    small = [torch.nn.functional.normalize(x[:, :128], dim=1) for x in (a, b)]
    assert losses.face_preserving(*small).item() == pytest.approx(losses.face_preserving(a, b).item(), rel=0.01)
    assert losses.face_preserving(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])).item() == 0.0


def test_r1_of_a_linear_discriminator() -> None:
    weight = torch.randn(3, 4, 4, requires_grad=True)
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    penalty = losses.r1((images * weight).sum(dim=(1, 2, 3))[:, None], images)
    assert penalty.item() == pytest.approx(weight.square().sum().item() / 2, rel=1e-5)
    penalty.backward()  # d/dweight |weight|^2 / 2 = weight
    assert weight.grad is not None and torch.allclose(weight.grad, weight.detach(), atol=1e-6)


def test_path_length_of_a_linear_generator() -> None:
    w = torch.randn(2, 5, requires_grad=True)
    jacobian = torch.randn(3 * 4 * 4, 5)
    noise = torch.randn(2, 3, 4, 4)
    lengths = losses.path_lengths((w @ jacobian.t()).view(2, 3, 4, 4), w, noise)
    expected = (noise.view(2, -1) / 4 @ jacobian).norm(dim=1)
    assert torch.allclose(lengths, expected, rtol=1e-5)
    assert losses.path_length(torch.tensor([1.0, 3.0]), 2.0).item() == pytest.approx(1.0)


def test_path_length_has_a_gradient_where_w_has_no_say_yet() -> None:
    w, weight = torch.randn(2, 5, requires_grad=True), torch.zeros(3 * 4 * 4, 5, requires_grad=True)
    lengths = losses.path_lengths((w @ weight.t()).view(2, 3, 4, 4), w, torch.randn(2, 3, 4, 4))
    losses.path_length(lengths, 0.0).backward()
    assert weight.grad is not None and weight.grad.isfinite().all()


def test_boxes_sit_on_the_landmarks_and_have_gfpgans_sizes() -> None:
    boxes = component_boxes(TEMPLATE, 512)
    assert np.allclose(boxes[:, 2:] - boxes[:, :2], [[112, 112], [112, 112], [120, 120]], atol=1e-3)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5
    assert np.allclose(centres, [TEMPLATE[0], TEMPLATE[1], TEMPLATE[3:].mean(axis=0)], atol=1e-3)
    assert np.allclose(component_boxes(template(64), 64), boxes / 8, atol=1e-3)


def test_a_turned_head_keeps_real_boxes_and_a_smile_its_corners() -> None:
    profile = TEMPLATE.copy()
    profile[1, 0] = profile[0, 0] + 30  # the right eye is nearly behind the nose
    boxes = component_boxes(profile, 512)
    assert boxes[1, 2] - boxes[1, 0] > 100
    assert (boxes[1, 0] + boxes[1, 2]) / 2 == pytest.approx(profile[1, 0] + 0.5, abs=1e-3)
    smile = TEMPLATE.copy()
    smile[3:, 0] += (-20, 20)
    assert np.allclose(component_boxes(smile, 512)[:2], component_boxes(TEMPLATE, 512)[:2])
    width = TEMPLATE[4, 0] - TEMPLATE[3, 0]
    left, _, right, _ = component_boxes(smile, 512)[2]
    assert right - left == pytest.approx(120 * (width + 40) / width, rel=1e-3) and left < smile[3, 0] < smile[4, 0] < right
    tiny = component_boxes(TEMPLATE.mean(axis=0) + (TEMPLATE - TEMPLATE.mean(axis=0)) * 0.1, 512)
    assert tiny[0, 2] - tiny[0, 0] == pytest.approx(112 * 0.75, abs=1e-3)


def test_cut_shows_each_component_and_flipping_swaps_the_eyes() -> None:
    points = template(64).copy()
    points[:2, 1] += (-6, 6)  # one eye higher than the other
    image = torch.zeros(1, 3, 64, 64)
    boxes = component_boxes(points, 64)
    for channel, box in enumerate(boxes):  # each component in a colour of its own
        x, y = (int((box[i] + box[i + 2]) / 2) for i in range(2))
        image[:, channel, y - 1 : y + 2, x - 1 : x + 2] = 1
    parts = cut(image, torch.from_numpy(boxes)[None])
    assert [part.shape[-1] for part in parts] == [patch_size(i, 64) for i in range(3)] == [16, 16, 16]
    mirrored = cut(image.flip(3), torch.from_numpy(flip_boxes(boxes, 64))[None])
    for channel, part in enumerate(parts):
        assert part[:, channel].amax() > 0.5 and part[:, channel, 6:10, 6:10].sum() > 0.5 * part[:, channel].sum()
    assert torch.allclose(mirrored[0], parts[1].flip(3), atol=1e-5) and torch.allclose(mirrored[2], parts[2].flip(3), atol=1e-5)


def test_a_quarter_of_the_pieces_sit_on_eyes_and_mouth_and_none_leaves_the_face() -> None:
    boxes = torch.from_numpy(component_boxes(template(64), 64)).expand(2000, -1, -1)
    found = places(boxes, 64, 32, torch.rand(2000, 4, generator=torch.Generator().manual_seed(0)))
    assert all(0 <= x <= 32 and 0 <= y <= 32 for x, y in found)
    middles = ((boxes[0, :, :2] + boxes[0, :, 2:]) / 2 - 16).clamp(0, 32).round()
    on_parts = {(int(x), int(y)) for x, y in middles.tolist()}
    assert len(on_parts) == 3 and 0.22 < sum(at in on_parts for at in found) / 2000 < 0.3
    image = torch.arange(64.0 * 64).reshape(1, 1, 64, 64)
    assert squares(image, [(3, 5)], 32)[0, 0, 0, 0] == 5 * 64 + 3


def test_arcface_crop_puts_the_landmarks_into_its_frame() -> None:
    turn = torch.tensor([[0.9, -0.3], [0.3, 0.9]])
    for size in (64, 512):
        placed = (ARCFACE_TEMPLATE - 56) @ turn.t() * (size / 160) + size / 2
        image = torch.zeros(1, 5, size, size)
        radius = size // 64
        for i, (x, y) in enumerate(placed.round().long().tolist()):
            image[0, i, y - radius : y + radius + 1, x - radius : x + radius + 1] = 1
        crop = arcface_crop(image, placed.round()[None])[0]
        rows, columns = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
        for i in range(5):
            mass = crop[i] / crop[i].sum()
            found = torch.stack([(mass * columns).sum(), (mass * rows).sum()])
            assert (found - ARCFACE_TEMPLATE[i]).norm() < (1.5 if size == 64 else 0.3)  # the points are rounded to pixels


def test_augmentation_is_off_at_zero_repeatable_and_differentiable_twice() -> None:
    images = torch.rand(4, 3, 16, 16, dtype=torch.float32)

    def apply(x: Tensor, probability: float) -> Tensor:
        return augment(x, SampleRandom(0, "Dmain", range(4), CPU), probability)

    assert torch.equal(apply(images, 0.0), images)
    assert torch.equal(apply(images, 1.0), apply(images, 1.0)) and not torch.equal(apply(images, 1.0), images)
    x = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(apply(x, 1.0).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_ada_steers_towards_its_target() -> None:
    assert steer(0.5, 0.9, 0.6, faces=10, full=100) == pytest.approx(0.6)
    assert steer(0.5, 0.3, 0.6, faces=10, full=100) == pytest.approx(0.4)
    assert steer(0.0, 0.3, 0.6, faces=10, full=100) == 0.0 and steer(1.0, 0.9, 0.6, faces=10, full=100) == 1.0


def test_randomness_belongs_to_the_sample() -> None:
    whole = SampleRandom(1, "Gmain", range(4), CPU).normal(2, 3)
    assert torch.equal(whole[2:], SampleRandom(1, "Gmain", [2, 3], CPU).normal(2, 3))
    assert not torch.equal(whole, SampleRandom(1, "Dmain", range(4), CPU).normal(2, 3))
    spread = [n for rank in range(2) for n in counters_of(3, 1, 2, 2, rank, 2)]
    assert sorted(spread) == list(counters_of(3, 1, 4, 2, 0, 1)) == [28, 29, 30, 31]


def test_every_parameter_is_in_exactly_one_group() -> None:
    net = PFR(PFRConfig(size=32, narrow=0.125, patch=2))
    groups = generator_groups(net)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    members = [names[id(parameter)] for group in groups.values() for parameter in group]
    assert sorted(members) == sorted(names.values())
    by_group = {name: {names[id(p)] for p in group} for name, group in groups.items()}
    assert by_group["noise"] == {name for name in members if name.endswith("noise.weight")} and len(by_group["noise"]) == 5
    assert all(name.startswith(("encoder.", "decoder.", "need.")) for name in by_group["codec"])
    assert by_group["fine"] == {name for name in members if name.startswith(("fine.", "gate."))} and by_group["fine"]
    assert {"prior.const", "prior.mapping.0.weight", "prior.to_rgb.16.bias"} <= by_group["prior"]


def test_the_scalars_that_are_opened_are_those_with_a_rate_of_their_own() -> None:
    net = PFR(PFRConfig(size=32, narrow=0.125, patch=2))
    scalars = {id(scalar) for scalar in noise_scalars(net)}
    assert scalars == {id(scalar) for scalar in noise_scalars(net.prior)} == {id(p) for p in generator_groups(net)["noise"]}
    for scalar in noise_scalars(net):
        nn.init.zeros_(scalar)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    open_noise(net)
    changed = {id(parameter) for name, parameter in net.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == scalars and all(scalar.item() == pytest.approx(OPEN) for scalar in noise_scalars(net))


def test_rates_of_the_groups_under_lazy_regularisation() -> None:
    config = RestoreConfig()
    groups = {"a": [nn.Parameter(torch.zeros(1))], "b": [nn.Parameter(torch.zeros(1))], "frozen": [nn.Parameter(torch.zeros(1))]}
    groups["frozen"][0].requires_grad_(False)
    optimiser = adam(groups, {"a": 2e-3, "b": 2e-5, "frozen": 1.0}, config, {"b": 16})
    a, b = optimiser.param_groups
    assert a["lr"] == 2e-3 and a["betas"] == (0.0, 0.99)
    assert b["lr"] == pytest.approx(2e-5 * 16 / 17) and b["betas"][1] == pytest.approx(0.99 ** (16 / 17))
    assert set_rates(optimiser, 0.5) == pytest.approx({"a": 1e-3, "b": 1e-5 * 16 / 17})


def test_rates_fall_piecewise_or_by_a_cosine() -> None:
    piecewise = RestoreConfig(iterations=100, decay_at=(0.5, 0.9), decay=0.1)
    assert [rate_factor(piecewise, step) for step in (0, 49, 50, 89, 90)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    with pytest.raises(InputError, match=r"decay_at is 60; it must be .* from 0 to 1"):
        RestoreConfig(iterations=100, decay_at=(60,))
    cosine = RestoreConfig(iterations=100, schedule="cosine", warmup=10, final_rate=0.1)
    rates = [rate_factor(cosine, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] == pytest.approx(0.1, abs=0.01)
