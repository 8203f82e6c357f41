"""GPEN's files: golden parity, every layout they come in, and the start of a PFR from one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pfr_core import PFR, PFRConfig, load_face_model, load_model, save_model
from pfr_core.errors import CheckpointError
from pfr_core.models import gpen
from pfr_core.models.checkpoint import read_checkpoint, read_part
from pfr_core.models.registry import GPEN_LICENCE
from pfr_core.models.tensors import read_state_dict
from pfr_core.network.discriminator import Discriminator

SMALL = PFRConfig(size=64, narrow=1 / 16, style_dim=16, n_mlp=2, mmrb=False, decoder=False)


def in_gpen_layout(net: PFR | Discriminator) -> dict[str, Tensor]:
    """Return the state dict that GPEN would have written for this network, with its extra dimensions and blur kernels."""
    keys = gpen._generator_keys(net.config) if isinstance(net, PFR) else gpen._discriminator_keys(SMALL)
    state = {}
    for ours, value in net.state_dict().items():
        theirs = keys[ours]
        if "generator." in theirs and theirs.endswith("conv.weight"):
            value = value[None]  # [1,out,in,k,k]
        if "to_rgb" in theirs and value.shape == (3,):
            value = value[None, :, None, None]
        state[theirs] = value.clone()
    state["ecd1.0.0.kernel" if isinstance(net, PFR) else "convs.1.skip.0.kernel"] = torch.ones(4, 4)
    return state


def random_gpen(config: PFRConfig = SMALL, seed: int = 0) -> PFR:
    torch.manual_seed(seed)
    net = PFR(config).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


@pytest.fixture
def golden(shared_dir: Path) -> Path:
    return shared_dir / "golden" / "gpen-64-narrow0.125"


# --- Golden -----------------------------------------------------------------------------------------------------------


def test_golden_generator(golden: Path) -> None:
    expected = load_file(golden / "expected.safetensors")
    net = load_model(golden / "gpen_g.pth")
    assert net.config == PFRConfig(size=64, narrow=0.125, mmrb=False, decoder=False)
    with torch.no_grad():
        y = net(expected["input"])
    torch.testing.assert_close(y, expected["generator_output"], rtol=0, atol=1e-4)
    assert y.std() > 0.01


def test_golden_discriminator(golden: Path) -> None:
    expected = load_file(golden / "expected.safetensors")
    config = PFRConfig(size=64, narrow=0.125)
    net = Discriminator(config).eval()
    net.load_state_dict(gpen.discriminator_from_gpen(read_state_dict(golden / "gpen_d.pth"), config))
    with torch.no_grad():
        y = net(expected["input"])
    torch.testing.assert_close(y, expected["discriminator_output"], rtol=0, atol=1e-4)


def test_golden_pfr_started_from_gpen(golden: Path, tmp_path: Path) -> None:
    """MMRB and decoder on: GPEN's own output, also after a round trip through our file."""
    expected = load_file(golden / "expected.safetensors")
    net = gpen.initialise_from_gpen(read_state_dict(golden / "gpen_g.pth")).eval()
    assert net.config.mmrb
    assert net.config.decoder
    save_model(net, tmp_path / "start.safetensors", provenance={}, licence=GPEN_LICENCE)
    for each in (net, load_model(tmp_path / "start.safetensors")):
        with torch.no_grad():
            torch.testing.assert_close(each(expected["input"]), expected["generator_output"], rtol=0, atol=1e-4)


def test_golden_file_as_safetensors_and_wrapped(golden: Path, tmp_path: Path) -> None:
    expected = load_file(golden / "expected.safetensors")
    state = read_state_dict(golden / "gpen_g.pth")
    save_file(state, tmp_path / "g.safetensors")
    torch.save({"g_ema": state, "d": read_state_dict(golden / "gpen_d.pth"), "iteration": 7}, tmp_path / "wrapped.pth")
    for name in ("g.safetensors", "wrapped.pth"):
        with torch.no_grad():
            y = load_model(tmp_path / name)(expected["input"])
        torch.testing.assert_close(y, expected["generator_output"], rtol=0, atol=1e-4)


# --- Without the golden files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, size=16),
        replace(SMALL, size=32, channel_multiplier=1),
        replace(SMALL, size=128),
        replace(SMALL, size=64, channel_multiplier=1, narrow=0.25),
        replace(SMALL, size=128, channel_multiplier=1, narrow=7 / 64),
        replace(SMALL, size=64, channel_multiplier=4, style_dim=7, n_mlp=5),
    ],
)
def test_configuration_and_weights_are_read_back(config: PFRConfig) -> None:
    net = random_gpen(config)
    found, weights = gpen.generator_from_gpen(in_gpen_layout(net))
    # Below 64 px the multiplier changes nothing, and nothing in the file tells it.
    assert found == (config if config.size >= 64 else replace(config, channel_multiplier=1))
    assert set(weights) == set(net.state_dict())
    for name, value in net.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("layout", ["plain", "g_ema", "params_ema", "params", "safetensors"])
def test_every_layout_of_file_gives_the_same_network(layout: str, tmp_path: Path) -> None:
    net = random_gpen()
    state = in_gpen_layout(net)
    path = tmp_path / ("g.safetensors" if layout == "safetensors" else "g.pth")
    if layout == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if layout == "plain" else {layout: state}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "gpen"
    assert "no licence" in checkpoint.licence
    assert checkpoint.provenance == {"imported_from": path.name}
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(load_model(path)(x), net(x))


def test_the_discriminator_is_read_back() -> None:
    net = Discriminator(SMALL)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    weights = gpen.discriminator_from_gpen(in_gpen_layout(net), SMALL)
    assert set(weights) == set(net.state_dict())
    for name, value in net.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)


def test_a_pfr_started_from_gpen_returns_gpens_output_and_can_learn() -> None:
    net = random_gpen()
    start = gpen.initialise_from_gpen(in_gpen_layout(net)).eval()
    assert start.config == replace(SMALL, mmrb=True, decoder=True)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(start(x), net(x), rtol=1e-4, atol=1e-4)
    start(x).square().mean().backward()
    assert start.decoder is not None
    decoder, mmrb = ("decoder.convs.{}.weight", (8, 16, 32, 64)), ("encoder.mmrb.{}.conv1.weight", (8, 16, 32))
    for name in [pattern.format(r) for pattern, resolutions in (decoder, mmrb) for r in resolutions]:
        gradient = start.get_parameter(name).grad
        assert gradient is not None, name
        assert gradient.any(), name


# --- Files that are something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "generator.conv1.activate.bias",
        "generator.convs.6.conv.weight",
        "generator.to_rgbs.3.bias",
        "generator.style.2.weight",
        "ecd2.0.1.weight",
        "generator.to_rgb1.conv.modulation.bias",
    ],
)
def test_an_incomplete_file_is_refused(key: str, tmp_path: Path) -> None:
    state = in_gpen_layout(random_gpen())
    del state[key]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"part\.pth.*complete"):
        load_model(tmp_path / "part.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generator.input.input", torch.zeros(())),
        ("generator.input.input", torch.zeros(1, 0, 4, 4)),
        ("generator.input.input", torch.zeros(1, 31, 4, 4)),
        ("final_linear.0.weight", torch.zeros(())),
        ("generator.convs.6.conv.weight", torch.zeros(1, 1, 1, 1, 1)),
        ("ecd2.0.1.weight", torch.zeros(32, 9, 32, 3)),  # the right number of values in a wrong order
        ("generator.to_rgbs.0.bias", torch.zeros(4)),
    ],
)
def test_wrong_shapes_are_refused(key: str, value: Tensor, tmp_path: Path) -> None:
    state = in_gpen_layout(random_gpen())
    state[key] = value
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth"):
        load_model(tmp_path / "odd.pth")


def test_an_unknown_tensor_is_refused() -> None:
    state = in_gpen_layout(random_gpen()) | {"extra.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        gpen.generator_from_gpen(state)


def test_added_noise_is_named() -> None:
    """GPEN's other variant has half the biases; it cannot be loaded, and the message says why."""
    state = in_gpen_layout(random_gpen())
    for key in state:
        if key.endswith("activate.bias"):
            state[key] = state[key][: len(state[key]) // 2]
    with pytest.raises(CheckpointError, match="isconcat"):
        gpen.generator_from_gpen(state)


def test_a_discriminator_is_not_taken_for_a_generator(tmp_path: Path) -> None:
    state = in_gpen_layout(Discriminator(SMALL))
    torch.save(state, tmp_path / "d.pth")
    remedy = r"d\.pth: .*a GPEN discriminator; convert it with pfr import-gpen G\.pth --discriminator D\.pth"
    doors: list[tuple[Callable[[Path], object], str]] = [
        (load_model, remedy),
        (lambda path: read_part(path, "discriminator"), remedy),
        (load_face_model, r"d\.pth: .*it is a GPEN discriminator, which is for training"),  # where there are no commands
    ]
    for read, said in doors:
        with pytest.raises(CheckpointError, match=said):
            read(tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="not a GPEN generator"):
        gpen.initialise_from_gpen(state)
    with pytest.raises(CheckpointError, match="not a GPEN discriminator"):
        gpen.discriminator_from_gpen(in_gpen_layout(random_gpen()), SMALL)
    with pytest.raises(CheckpointError, match="128 px"):
        gpen.discriminator_from_gpen(state, replace(SMALL, size=128))
