"""The network: Eq. 1-10, StyleGAN2's arithmetic against textbook references, precision, the shape of the presets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfr_core import MMRB, PFR, PFRConfig
from pfr_core.errors import InputError
from pfr_core.network.codec import Decoder, Encoder
from pfr_core.network.config import PRESETS
from pfr_core.network.discriminator import Discriminator, LocalDiscriminator, minibatch_stddev
from pfr_core.network.fine import texture_noise
from pfr_core.network.layers import ConvLayer, EqualLinear, as_channels, averaged, blur, enlarged, upsample2
from pfr_core.network.need import Need
from pfr_core.network.prior import ModulatedConv, NoiseBranch, StyleBlock, StyleGAN2Prior, ToRGB

TINY = PFRConfig(size=32, narrow=1 / 32, style_dim=16, n_mlp=2)  # 16 channels everywhere


def randomise(net: nn.Module, seed: int = 0) -> None:
    """Every parameter that starts at a special value gets a random one, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("noise.weight") or (".mmrb." in name and name.endswith(".conv1.weight")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            elif name.endswith("bias") and "modulation" not in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


# --- MMRB -------------------------------------------------------------------------------------------------------------


def delta_mmrb(weights: Any = "plain") -> MMRB:
    """Two channels; every kernel is a single tap, so that each output pixel can be worked out by hand."""
    block = MMRB(2, weights=weights)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        for conv in (block.conv3_1, block.conv5_1, block.conv3_2, block.conv5_2, block.conv1):
            conv.scale = 1.0
        block.conv3_1.weight[0, 0, 1, 1] = 2  # Eq. 5: 2 x1
        block.conv5_1.weight[0, 0, 2, 0] = 3  # Eq. 6: 3 x2 two pixels to the left: only a 5x5 reaches it
        block.conv3_2.weight[0, :, 1, 2] = torch.tensor([1.0, 10.0])  # Eq. 7: (p1 + 10 p2) one to the right
        block.conv5_2.weight[0, :, 4, 2] = torch.tensor([100.0, 1.0])  # Eq. 8: (100 p1 + p2) two below
        block.conv1.weight[:, :, 0, 0] = torch.tensor([[1.0, 0.0], [1.0, 2.0]])  # Eq. 9
        for act, slope in ((block.act3_1, 0.5), (block.act5_1, 0.25), (block.act3_2, 0.1), (block.act5_2, 0.2)):
            act.weight.fill_(slope)
        block.act1.weight.copy_(torch.tensor([0.5, 0.3]))
    return block


def by_hand(x1: npt.NDArray[np.float64], x2: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what ``delta_mmrb`` must give, Eq. 4-10 pixel by pixel on plain numbers."""
    height, width = x1.shape

    def at(image: npt.NDArray[np.float64], i: int, j: int) -> float:
        return float(image[i, j]) if 0 <= i < height and 0 <= j < width else 0.0

    def prelu(value: float, slope: float) -> float:
        return value if value > 0 else slope * value

    def each(rule: Any) -> npt.NDArray[np.float64]:
        return np.array([[rule(i, j) for j in range(width)] for i in range(height)])

    p1 = each(lambda i, j: prelu(2 * at(x1, i, j), 0.5))
    p2 = each(lambda i, j: prelu(3 * at(x2, i, j - 2), 0.25))
    q1 = each(lambda i, j: prelu(at(p1, i, j + 1) + 10 * at(p2, i, j + 1), 0.1))
    q2 = each(lambda i, j: prelu(100 * at(p1, i + 2, j) + at(p2, i + 2, j), 0.2))
    first = each(lambda i, j: prelu(at(q1, i, j), 0.5))
    second = each(lambda i, j: prelu(at(q1, i, j) + 2 * at(q2, i, j), 0.3))
    return np.stack([x1 + first, x2 + second])


def test_mmrb_follows_eq_4_to_10() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 6))
    with torch.no_grad():
        got = delta_mmrb()(torch.tensor(x, dtype=torch.float32)[None])[0]
    np.testing.assert_allclose(got.numpy(), by_hand(x[0], x[1]), rtol=1e-4, atol=1e-4)


def test_mmrb_worked_example() -> None:
    """One pixel with x1 = 1 and x2 = -1 at the centre of 5x5, all by hand."""
    x = torch.zeros(1, 2, 5, 5)
    x[0, 0, 2, 2], x[0, 1, 2, 2] = 1, -1
    with torch.no_grad():
        y = delta_mmrb()(x)[0]
    # p1(2,2) = 2;  p2(2,4) = 0.25 * -3 = -0.75;  q1(2,1) = 2;  q1(2,3) = 0.1 * 10 * -0.75 = -0.75
    # q2(0,2) = 200;  q2(0,4) = 0.2 * -0.75 = -0.15
    expected = torch.zeros(2, 5, 5)
    expected[0, 2, 2], expected[0, 2, 1], expected[0, 2, 3] = 1, 2, 0.5 * -0.75
    expected[1, 2, 2], expected[1, 2, 1], expected[1, 2, 3] = -1, 2, 0.3 * -0.75
    expected[1, 0, 2], expected[1, 0, 4] = 400, 0.3 * 2 * -0.15
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize(
    ("part", "equation"),
    [
        ("conv3_1", 5), ("act3_1", 5), ("conv5_1", 6), ("act5_1", 6), ("conv3_2", 7), ("act3_2", 7), ("conv5_2", 8),
        ("act5_2", 8), ("conv1", 9), ("act1", 9),
    ],
)  # fmt: skip
def test_every_part_of_mmrb_is_seen_by_the_hand_computed_case(part: str, equation: int) -> None:
    """The case above is only worth something if each of Eq. 5-9 can make it fail."""
    x = np.random.default_rng(0).normal(size=(2, 6, 6))
    block = delta_mmrb()
    with torch.no_grad():
        block.get_submodule(part).weight.mul_(1.5)  # type: ignore[operator]
        got = block(torch.tensor(x, dtype=torch.float32)[None])[0]
    assert np.abs(got.numpy() - by_hand(x[0], x[1])).max() > 0.1, f"Eq. {equation} is not covered"


@pytest.mark.parametrize("weights", ["plain", "equalised"])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 2, 1, 1), (1, 32, 16, 16)])
def test_a_new_mmrb_is_the_identity_and_keeps_shape_after_training(shape: tuple[int, ...], weights: Any) -> None:
    block, x = MMRB(shape[1], weights=weights), torch.randn(shape)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    nn.init.normal_(block.conv1.weight)
    y = block(x)
    assert y.shape == x.shape
    assert not torch.allclose(y, x)


@pytest.mark.parametrize("channels", [-2, 0, 1, 3, 33])
def test_mmrb_refuses_channels_it_cannot_split(channels: int) -> None:
    with pytest.raises(InputError, match=rf"{channels}.*Eq\. 4"):
        MMRB(channels)


def test_mmrb_refuses_an_unknown_kind_of_weights() -> None:
    with pytest.raises(InputError, match="fancy"):
        MMRB(4, weights="fancy")  # type: ignore[arg-type]


def test_plain_and_equalised_mmrb_start_out_alike_and_differ_only_in_where_the_scale_is() -> None:
    plain, equalised = MMRB(64, weights="plain"), MMRB(64, weights="equalised")
    for name in ("conv3_1", "conv5_1", "conv3_2", "conv5_2"):
        a, b = getattr(plain, name).weight, getattr(equalised, name).weight
        he = math.sqrt(2 / (1 + 0.25**2) / (a.shape[1] * a.shape[2] ** 2))
        assert a.std().item() == pytest.approx(he, rel=0.05)
        assert b.std().item() == pytest.approx(1, rel=0.05)
    nn.init.normal_(equalised.conv1.weight)
    with torch.no_grad():
        for name in ("conv3_1", "conv5_1", "conv3_2", "conv5_2", "conv1"):
            source = getattr(equalised, name)
            getattr(plain, name).weight.copy_(source.weight * source.scale)
    x = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(plain(x), equalised(x))


def test_mmrb_trains_inside_another_network() -> None:
    """Plug and play: after one step even the convolutions behind the zero 1x1 move."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), MMRB(8, weights="plain"), nn.Conv2d(8, 3, 3, padding=1))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for _ in range(2):
        optimiser.zero_grad()
        net(torch.rand(2, 3, 8, 8)).square().mean().backward()
        optimiser.step()
    unmoved = [name for name, p in net.named_parameters() if torch.equal(p, before[name])]
    assert unmoved == []


# --- Resampling and convolutions against direct references ------------------------------------------------------------


def upfirdn(x: npt.NDArray[np.float64], up: int, down: int, pad: tuple[int, int], gain: float) -> npt.NDArray[np.float64]:
    """One channel: insert zeros, pad, filter with [1,3,3,1] x [1,3,3,1], keep every ``down``-th pixel."""
    height, width = x.shape
    spread = np.zeros((height * up, width * up))
    spread[::up, ::up] = x
    spread = np.pad(spread, pad)
    taps = np.array([1, 3, 3, 1]) / 8
    kernel = np.outer(taps, taps) * gain
    rows, columns = spread.shape[0] - 3, spread.shape[1] - 3
    full = np.array([[(spread[i : i + 4, j : j + 4] * kernel).sum() for j in range(columns)] for i in range(rows)])
    return full[::down, ::down]


@pytest.mark.parametrize(("padding", "stride", "gain"), [(1, 1, 4.0), (1, 2, 1.0), (2, 1, 1.0)])
def test_blur_is_upfirdn(padding: int, stride: int, gain: float) -> None:
    x = np.random.default_rng(1).normal(size=(2, 6, 9))
    got = blur(torch.tensor(x)[None], padding, gain=gain, stride=stride)[0].numpy()
    expected = np.stack([upfirdn(channel, 1, stride, (padding, padding), gain) for channel in x])
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_upsample2_is_upfirdn() -> None:
    x = np.random.default_rng(2).normal(size=(3, 5, 4))
    got = upsample2(torch.tensor(x)[None])[0].numpy()
    np.testing.assert_allclose(got, np.stack([upfirdn(c, 2, 1, (2, 1), 4.0) for c in x]), atol=1e-12)


def test_the_filter_made_in_inference_mode_can_be_trained_through() -> None:
    with torch.inference_mode():
        blur(torch.rand(1, 5, 8, 8), 1)
    x = torch.rand(1, 5, 8, 8, requires_grad=True)
    blur(x, 1).sum().backward()
    assert x.grad is not None


def reference_conv(x: Tensor, layer: ConvLayer) -> Tensor:
    """Equalised convolution as StyleGAN2 states it: blur, convolution, bias, leaky ReLU times sqrt(2)."""
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    kernel = weight.shape[2]
    if layer.down:
        total = 2 + kernel - 1  # StyleGAN2: (len(filter) - 2) + (kernel - 1)
        pad = ((total + 1) // 2, total // 2)
        x = torch.stack([torch.stack([torch.tensor(upfirdn(c.numpy(), 1, 1, pad, 1.0)) for c in image]) for image in x])
        x = F.conv2d(x, weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=kernel // 2)
    if layer.bias is not None:
        x = x + layer.bias[None, :, None, None]
    return F.leaky_relu(x, 0.2) * math.sqrt(2) if layer.activate else x


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_conv_layer(kernel: int, down: bool, activate: bool, bias: bool) -> None:
    layer = ConvLayer(3, 4, kernel, down=down, activate=activate, bias=bias).double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), reference_conv(x, layer))


def test_equal_linear_with_a_learning_rate_multiplier() -> None:
    layer, x = EqualLinear(6, 4, bias_init=1.0, lr_mul=0.01, activate=True), torch.randn(3, 6)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.5)  # stored large, so that the rate is small
    expected = F.leaky_relu(x @ (layer.weight * 0.01 / math.sqrt(6)).T + 0.01, 0.2) * math.sqrt(2)
    torch.testing.assert_close(layer(x), expected)


def textbook_modulated_conv(layer: ModulatedConv, x: Tensor, w: Tensor) -> Tensor:
    """StyleGAN2, appendix B: one weight per sample, modulated and demodulated, in one grouped convolution."""
    batch, channels, height, width = x.shape
    out, _, kernel, _ = layer.weight.shape
    style = w @ (layer.modulation.weight / math.sqrt(w.shape[1])).T + layer.modulation.bias
    weight = layer.weight[None] / math.sqrt(channels * kernel**2) * style[:, None, :, None, None]
    if layer.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, batch * channels, height, width)
    if not layer.up:
        weight = weight.reshape(batch * out, channels, kernel, kernel)
        return F.conv2d(x, weight, padding=kernel // 2, groups=batch).reshape(batch, out, height, width)
    weight = weight.transpose(1, 2).reshape(batch * channels, out, kernel, kernel)
    x = F.conv_transpose2d(x, weight, stride=2, groups=batch).reshape(batch, out, 2 * height + 1, 2 * width + 1)
    return torch.stack([torch.stack([torch.tensor(upfirdn(c.numpy(), 1, 1, (1, 1), 4.0)).float() for c in image]) for image in x])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size_of_style", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize(("kernel", "up", "demodulate"), [(3, False, True), (3, True, True), (1, False, False), (3, True, False)])
def test_modulation_is_the_textbook_one(kernel: int, up: bool, demodulate: bool, size_of_style: float, batch: int) -> None:
    """Of a batch it is done on the activations, of a sample alone on the weight."""
    layer = ModulatedConv(6, 5, kernel, 8, up=up, demodulate=demodulate)
    x, w, bias = torch.randn(batch, 6, 4, 4), torch.randn(batch, 8) * size_of_style, torch.randn(5) * size_of_style
    with torch.no_grad():
        layer.modulation.bias.mul_(size_of_style)
        expected = textbook_modulated_conv(layer, x, w)
        torch.testing.assert_close(layer(x, w), expected, rtol=0, atol=1e-5 * expected.std().item())
        expected = expected * 1.5 + bias[None, :, None, None]
        torch.testing.assert_close(layer(x, w, gain=1.5, bias=bias), expected, rtol=0, atol=1e-5 * expected.std().item())


def test_pixels_become_channels_and_means_as_torch_makes_them() -> None:
    x = torch.randn(2, 3, 16, 24)
    for patch in (1, 2, 4):
        channels = as_channels(x, patch)
        assert torch.equal(channels, F.pixel_unshuffle(x, patch))
        torch.testing.assert_close(averaged(x, patch), F.avg_pool2d(x, patch))
    torch.testing.assert_close(enlarged(x, 2)[..., 1:-1, 1:-1], upsample2(x)[..., 1:-1, 1:-1])


def test_style_block_concatenates_the_noise() -> None:
    """Eq. 3, with bias and activation over both halves."""
    block = StyleBlock(4, 3, 8)
    nn.init.normal_(block.bias)
    nn.init.constant_(block.noise.weight, -0.7)
    x, w, noise = torch.randn(2, 4, 5, 5), torch.randn(2, 8), torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        both = torch.cat([textbook_modulated_conv(block.conv, x, w), -0.7 * noise], dim=1)
        expected = F.leaky_relu(both + block.bias[None, :, None, None], 0.2) * math.sqrt(2)
        torch.testing.assert_close(block(x, w, noise), expected, rtol=1e-4, atol=1e-5)


def test_to_rgb_has_no_demodulation_and_adds_the_up_sampled_skip() -> None:
    layer = ToRGB(4, 8)
    nn.init.normal_(layer.bias)
    x, w, skip = torch.randn(2, 4, 6, 6), torch.randn(2, 8), torch.randn(2, 3, 3, 3)
    with torch.no_grad():
        style = w @ (layer.conv.modulation.weight / math.sqrt(8)).T + layer.conv.modulation.bias
        weight = layer.conv.weight[:, :, 0, 0] / math.sqrt(4)
        alone = torch.einsum("oi,bi,bihw->bohw", weight, style, x) + layer.bias[None, :, None, None]
        torch.testing.assert_close(layer(x, w, None), alone)
        torch.testing.assert_close(layer(x, w, skip), alone + upsample2(skip))
        torch.testing.assert_close(layer(x, 2 * w, None) - layer(x, w, None), layer(x, w, None) - layer(x, 0 * w, None))


def test_the_mapping_network_normalises_z() -> None:
    prior = StyleGAN2Prior(TINY)
    z = torch.randn(2, 16)
    torch.testing.assert_close(prior.map(z), prior.map(5 * z), rtol=1e-4, atol=1e-5)
    assert len(StyleGAN2Prior(PFRConfig(size=16, narrow=1 / 32)).mapping) == 8  # section 3.1


def test_noise_branches_are_alive_from_the_start() -> None:
    assert NoiseBranch().weight.item() != 0


# --- The whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "millions"), [("pfr-512", 112.0), ("pfr-512-lite", 11.4)])
def test_parameter_counts(name: str, millions: float) -> None:
    with torch.device("meta"):
        net = PFR(PRESETS[name])
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_gpen_s_shapes() -> None:
    """Published models of GPEN are what the presets of their sizes start from: their channels at 4 px to the whole size."""
    whole = [512, 512, 512, 512, 512, 256, 128, 64, 32, 16]
    shapes = {"pfr-256": [256, 256, 256, 256, 128, 64, 32], "pfr-512": whole[:8], "pfr-1024": whole[:9], "pfr-2048": whole}
    for name, channels in shapes.items():
        config = PRESETS[name]
        assert [config.channels(r) for r in config.resolutions] == channels, name
        assert (config.style_dim, config.n_mlp, config.patch) == (512, 8, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_layout_of_the_paper(name: str) -> None:
    config = PRESETS[name]
    with torch.device("meta"):
        net = PFR(config)
    assert config.resolutions[0] == 4
    assert config.resolutions[-1] == config.features
    assert [int(r) for r in net.encoder.mmrb] == [2**i for i in range(3, int(math.log2(config.features)))]
    assert net.decoder is not None
    assert not any(isinstance(module, MMRB) for module in net.decoder.modules())  # the asymmetry of section 3.1


def test_512_px_has_seven_down_samplings_and_six_mmrbs() -> None:
    config = PFRConfig()
    assert sorted(config.mmrb_resolutions) == [8, 16, 32, 64, 128, 256]
    with torch.device("meta"):
        assert len(Encoder(config).convs) == 7
    assert [config.channels(r) for r in config.resolutions] == [512, 512, 512, 512, 512, 256, 128, 64]


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("mmrb", [False, True])
@pytest.mark.parametrize("decoder", [False, True])
def test_shapes_of_every_variant(size: int, mmrb: bool, decoder: bool) -> None:
    config = PFRConfig(size=size, narrow=1 / 16, style_dim=16, n_mlp=1, mmrb=mmrb, decoder=decoder)
    net, x = PFR(config), torch.rand(2, 3, size, size)
    image, pyramid = net.forward_for_training(x)
    assert image.shape == net(x).shape == x.shape
    expected = {r: (2, 3, r, r) for r in config.resolutions} if decoder else {}
    assert {r: tuple(rgb.shape) for r, rgb in pyramid.items()} == expected


def test_with_a_patch_only_the_stem_is_another_and_finer_detail_passes_around() -> None:
    """512 px at the features of 128: the same body, and what the network adds to a face does not touch its finest detail."""
    torch.manual_seed(0)
    plain, patched = PFR(TINY), PFR(replace(TINY, size=128, patch=4))
    shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (plain, patched)]
    assert {name for name in shapes[1] if name.startswith("need.")} == {f"need.{name}" for name in Need().state_dict()}
    shapes[1] = {name: shape for name, shape in shapes[1].items() if not name.startswith(("gate.", "need.", "fine."))}
    assert shapes[0].keys() == shapes[1].keys()
    assert {name for name in shapes[0] if shapes[0][name] != shapes[1][name]} == {"encoder.stem.weight"}
    image, pyramid = patched.forward_for_training(torch.rand(2, 3, 128, 128))
    assert (patched.need(torch.rand(2, 3, 128, 128)) > 0).all()  # to begin with a face gets the change
    patched.need.out.bias.data.fill_(100.0)
    assert image.shape == (2, 3, 128, 128) and {side: rgb.shape[-1] for side, rgb in pyramid.items()} == {
        r: r for r in (4, 8, 16, 32)
    }
    stripes = torch.ones(1, 3, 128, 128)
    stripes[..., ::2] = -1.0  # nothing is left of them in the mean over a patch
    for name in ("conv.weight", "bias"):
        patched.get_parameter(f"prior.to_rgb.32.{name}").data.zero_()
    with torch.no_grad():
        left = patched(stripes) - patched(torch.zeros_like(stripes)) - stripes
    assert left[..., ::2].mean().isclose(left[..., 1::2].mean(), atol=0.1)  # of 2; the network's own change is smooth
    gate = patched.get_parameter("gate.bias").data
    gate[0] = -1.0  # shut for what is finer
    with torch.no_grad():
        torch.testing.assert_close(patched(stripes), left + patched(torch.zeros_like(stripes)))
    gate[:] = torch.tensor([0.0, 1.0])  # open for all
    smooth = torch.linspace(-1, 1, 128).expand(1, 3, 128, -1)
    with torch.no_grad():
        torch.testing.assert_close(patched(stripes), stripes)
        torch.testing.assert_close(patched(smooth), smooth)
    gate[:] = torch.tensor([-1.0, 0.0])
    patched.need.out.bias.data.fill_(-100.0)
    with torch.no_grad():
        torch.testing.assert_close(patched(stripes), stripes)  # a face that needs nothing stays as it is
    assert Discriminator(replace(TINY, size=128, patch=4))(image).shape == (2, 1)


def test_fine_levels_add_nothing_at_first_then_detail_across_seams_and_texture_without_a_pattern() -> None:
    config = replace(TINY, size=128, patch=4)
    net = PFR(config)
    fine, x = net.fine, torch.rand(2, 3, 128, 128) * 2 - 1
    features, rgb, finer = torch.rand(2, 32, 32, 32), torch.rand(2, 3, 32, 32), torch.zeros(2, 3, 128, 128)
    ramp = torch.linspace(-1, 1, 128).expand(1, 3, 128, -1)
    with torch.no_grad():
        assert torch.equal(fine(rgb, features, finer), enlarged(rgb, 4))
        assert net(x).shape == x.shape
        net.need.out.bias.fill_(100.0)
        for name, parameter in net.named_parameters():  # an image of nothing: only what is finer passes
            if ".to_rgb." in name:
                parameter.zero_()
        assert (net(ramp)[..., 4:-4] - net(torch.zeros_like(ramp))[..., 4:-4]).abs().max() < 1e-5  # and a ramp has nothing finer
        fine.to_rgb.weight.normal_()
        flat, black = torch.zeros(1, 32, 32, 32), torch.zeros(1, 3, 32, 32)
        texture = fine(black, flat, finer[:1])
        assert torch.equal(texture, fine(black, flat, finer[:1]))  # a face comes out the same twice
        places = as_channels(texture, 4)[..., 4:-4, 4:-4]  # [1,3*16,H,W]: away from the padding
        pattern, own = places.mean(dim=(2, 3)).unflatten(1, (3, 16)).std(dim=2), texture.std()
        assert pattern.max() < 0.2 * own  # of noise alone, over 24 x 24 patches: about 0.05
        for size in (64, 128):
            net.get_parameter(f"fine.levels.{size}.strength.bias").zero_()
        assert fine(black, flat, finer[:1]).abs().max() == 0  # no noise, no texture
        flat[:, :, 16, 16] = 1.0
        touched = fine(black, flat, finer[:1]).abs().amax(dim=(0, 1)) > 1e-6
        assert touched[62:70, 62:70].all()  # more than its own 4 x 4


def test_directed_noise_is_of_strokes_all_around_and_of_unit_variance() -> None:
    noise = texture_noise(128, 13, 8, torch.device("cpu"))[0]
    assert all(torch.equal(white, noise[0]) for white in noise[:5])
    torch.testing.assert_close(noise.std(dim=(1, 2)), torch.ones(13), atol=0.02, rtol=0)
    for turn, strokes in enumerate(noise[5:]):
        steps = [(round(6 * math.sin(angle)), round(6 * math.cos(angle))) for angle in (math.pi * k / 8 for k in range(8))]
        alike = [(strokes * strokes.roll(step, dims=(0, 1))).mean() for step in steps]  # the correlation with itself, shifted
        assert int(torch.stack(alike).argmax()) == turn
        assert alike[turn] > 0.6 > 0.3 > alike[(turn + 4) % 8].abs()  # long along, unlike across
    assert noise[5:].flatten(1).corrcoef().triu(1).abs().max() < 0.2  # no picture is another one turned


def test_the_decoders_features_match_the_noise_branches() -> None:
    encoder, decoder = Encoder(TINY), Decoder(TINY)
    z, features = encoder(torch.rand(2, 3, 32, 32))
    assert z.shape == (2, TINY.style_dim)
    clean = decoder(features)
    assert {r: tuple(y.shape) for r, y in clean.items()} == {r: (2, TINY.channels(r), r, r) for r in TINY.resolutions}
    torch.testing.assert_close(clean[4], features[4])
    # y_8 = act(conv3x3(up2(y_4))) + e_8
    up = F.interpolate(clean[4], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(clean[8], reference_conv(up, decoder.convs["8"]) + features[8])  # type: ignore[arg-type]


def test_a_fine_detail_reaches_the_decoders_full_resolution_feature() -> None:
    """Without the decoder's skips a single pixel would have to pass through 4x4; with them it stays where it is."""
    net = PFR(PFRConfig(size=64, narrow=1 / 16, style_dim=16, n_mlp=1)).eval()
    assert net.decoder is not None
    x = torch.zeros(1, 3, 64, 64)
    dot = x.clone()
    dot[0, :, 37, 21] = 1
    with torch.no_grad():
        change = (net.decoder(net.encoder(dot)[1])[64] - net.decoder(net.encoder(x)[1])[64])[0].abs().sum(dim=0)
        images = net(dot) - net(x)
    there = change[37, 21]
    assert (change == there).nonzero().tolist() == [[37, 21]]
    assert change.argmax() == 37 * 64 + 21
    assert there > 5 * change[37, 24]  # a dot, not a smear
    assert images.abs().max() > 0


@pytest.mark.parametrize("patch", [1, 4])
def test_a_result_does_not_depend_on_the_rest_of_the_batch(patch: int) -> None:
    side = 32 * patch
    net = PFR(replace(TINY, size=side, patch=patch)).eval()
    randomise(net)
    x = torch.rand(3, 3, side, side) * 2 - 1
    if patch > 1:  # what starts at 0 and decides for each face of the default's kind
        x[1] *= 0.01
        nn.init.normal_(net.gate.weight)
        nn.init.normal_(net.need.out.weight)
        nn.init.zeros_(net.need.out.bias)
        assert net.need(x).sigmoid().std() > 0.05
    with torch.no_grad():
        together = net(x)
        apart = torch.cat([net(image[None]) for image in x])
        reordered = net(x.flip(0)).flip(0)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, reordered, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_every_parameter_receives_a_gradient() -> None:
    net = PFR(TINY)
    randomise(net)
    image, pyramid = net.forward_for_training(torch.rand(2, 3, 32, 32))
    (image.square().mean() + torch.stack([rgb.square().mean() for rgb in pyramid.values()]).sum()).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(3, 32, 32),
        torch.rand(1, 3, 32, 16),
        torch.rand(1, 1, 32, 32),
        torch.rand(1, 3, 64, 64),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_wrong_input_is_refused(x: Tensor) -> None:
    with pytest.raises(InputError, match=r"float \[B,3,32,32\]"):
        PFR(TINY)(x)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 500), ("size", 8), ("size", 4096), ("size", 512.0), ("channel_multiplier", 0), ("narrow", 0.0),
        ("narrow", float("nan")), ("narrow", 0.01), ("style_dim", 0), ("style_dim", 8.0), ("n_mlp", 0),
    ],
)  # fmt: skip
def test_configurations_that_make_no_network_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        PFRConfig(**{field: value})


# --- Precision --------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_halves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half-precision convolutions as accelerators do them: halves in and out, float32 sums, overflow to infinity.

    A CPU without such arithmetic takes minutes for one face, in its own convolutions.
    """

    def through_float32(function: Any) -> Any:
        def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
            autocast = torch.is_autocast_enabled("cpu")
            dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
            assert autocast or weight.dtype == dtype
            with torch.autocast("cpu", enabled=False):
                given = [None if each is None else each.to(dtype).float() for each in (x, weight, bias)]
                return function(*given, **options).to(dtype)

        return convolution

    monkeypatch.setattr(F, "conv2d", through_float32(F.conv2d))
    monkeypatch.setattr(F, "conv_transpose2d", through_float32(F.conv_transpose2d))
    yield


@pytest.mark.slow
@pytest.mark.usefixtures("quick_halves")
def test_half_precision_at_512_px() -> None:
    seed = 0
    torch.manual_seed(seed)
    net = PFR(PRESETS["pfr-512-lite"]).eval()
    randomise(net, seed)
    x = torch.rand(1, 3, 512, 512) * 2 - 1
    with torch.inference_mode():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            results = {"autocast": net(x)}
        for dtype in (torch.bfloat16, torch.float16):  # float16 from parameters that went through bfloat16 would not do
            half = PFR(net.config).eval()
            half.load_state_dict(net.state_dict())
            results[str(dtype)] = half.to(dtype)(x)
    for name, y in results.items():
        assert y.isfinite().all(), name
        assert y.dtype == torch.float32, name  # that of the input
        assert (y - exact).abs().mean() <= 2e-2 * exact.std(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_round_the_styles(dtype: torch.dtype) -> None:
    """Every later feature depends on them."""
    layer = EqualLinear(6, 4, lr_mul=0.01)
    exact = layer.weight.detach().clone()
    nn.Sequential(layer).to(device="cpu", dtype=dtype)
    assert torch.equal(layer.to(dtype).weight, exact)
    assert ConvLayer(3, 4, 3).to(dtype).weight.dtype == dtype
    assert layer.double().weight.dtype == torch.float64
    with torch.device("meta"):
        empty = EqualLinear(6, 4)
    assert empty.to_empty(device="cpu").weight.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_the_real_kernels(dtype: torch.dtype) -> None:
    """Small, since real float16 is slow on a CPU; no operation may lack a half-precision kernel."""
    net = PFR(TINY).eval()
    randomise(net)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        exact = net(x)
        y = net.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    assert (y.float() - exact).abs().mean() <= 3e-2 * exact.std()


def test_float16_does_not_overflow_on_large_styles() -> None:
    """Demodulation cancels the size of the style, so even one near float16's limit must change nothing."""
    layer = ModulatedConv(16, 8, 3, 8)
    x, w = torch.randn(2, 16, 8, 8), torch.randn(2, 8)
    with torch.no_grad():
        layer.modulation.bias.zero_()
        exact = layer(x, w)
        y = layer.half()(x.half(), 30000 * w)
    torch.testing.assert_close(y.float(), exact, rtol=0, atol=2e-2)


# --- Discriminators ---------------------------------------------------------------------------------------------------


def test_the_global_discriminator() -> None:
    discriminator = Discriminator(PFRConfig(size=64, narrow=1 / 16))
    x = torch.rand(4, 3, 64, 64)
    assert discriminator(x).shape == (4, 1)
    assert len(discriminator.convs) == 5  # the stem and one block for each halving from 64 to 4
    with torch.device("meta"):
        assert len(Discriminator(PFRConfig()).convs) >= 5  # as many as FreezeD freezes (4.2)


@pytest.mark.parametrize(("height", "width"), [(80, 80), (48, 96)])
def test_the_local_discriminator_gives_a_map_a_quarter_the_size(height: int, width: int) -> None:
    assert LocalDiscriminator(8)(torch.rand(2, 3, height, width)).shape == (2, 1, height // 4, width // 4)


def test_minibatch_stddev_over_the_whole_batch_and_over_groups() -> None:
    x = torch.randn(6, 3, 4, 4)
    whole = minibatch_stddev(x, None)
    torch.testing.assert_close(whole[:, :3], x, rtol=0, atol=0)
    expected = x.std(dim=0, unbiased=False).mean()
    torch.testing.assert_close(whole[:, 3], expected.expand(6, 4, 4), rtol=1e-4, atol=1e-5)
    grouped = minibatch_stddev(x, 2)[:, 3]
    for i in range(3):  # StyleGAN2: sample i is grouped with i + 3
        expected = x[[i, i + 3]].std(dim=0, unbiased=False).mean()
        torch.testing.assert_close(grouped[[i, i + 3]], expected.expand(2, 4, 4), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"6.*4"):
        minibatch_stddev(x, 4)


def test_a_group_of_the_discriminator_does_not_see_the_other_groups() -> None:
    discriminator = Discriminator(PFRConfig(size=16, narrow=1 / 32), stddev_group=2)
    x = torch.rand(4, 3, 16, 16)
    changed = x.clone()
    changed[1] = -1  # samples 1 and 3 are one group, 0 and 2 the other
    with torch.no_grad():
        a, b = discriminator(x), discriminator(changed)
    torch.testing.assert_close(a[[0, 2]], b[[0, 2]])
    assert not torch.allclose(a[3], b[3])
