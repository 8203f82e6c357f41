"""One network between two sets of weights: its ends, its file, its option, the command that makes it."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pfr_core import PFR, FaceRestorer, PFRConfig, load_face_model, load_model
from pfr_core.errors import InputError
from pfr_core.models.checkpoint import read_checkpoint, save_model
from pfr_core.models.kinds.codeformer import CodeFormer
from pfr_core.models.kinds.onnx import OnnxModel
from pfr_core.network.blended import BlendedPFR
from pfr_core.network.face_model import FaceModel
from pfr_core.options import RestoreOptions
from trainer.cli import main
from trainer.run.export import blend_command
from trainer.run.initialise import warm_start

CONFIG = PFRConfig(size=64, narrow=1 / 32, style_dim=16, n_mlp=2, patch=2)


@pytest.fixture(scope="module")
def ends() -> tuple[PFR, PFR]:
    """Return two networks of which the second was moved from the first, as training does."""
    torch.manual_seed(0)
    faithful, textured = PFR(CONFIG).eval(), PFR(CONFIG).eval()
    textured.load_state_dict(faithful.state_dict())
    with torch.no_grad():
        for parameter in textured.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    textured.need.load_state_dict(faithful.need.state_dict())  # training leaves it as it is
    return faithful, textured


@pytest.fixture(scope="module")
def files(ends: tuple[PFR, PFR], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the files of the two, and where a third may lie."""
    folder = tmp_path_factory.mktemp("ends")
    paths = [folder / f"{name}.safetensors" for name in ("faithful", "textured", "blend")]
    for net, path in zip(ends, paths[:2], strict=True):
        save_model(net, path, provenance={"name": path.stem}, licence="none")
    return list(map(str, paths))


@pytest.fixture
def faces() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("network", [BlendedPFR, CodeFormer, OnnxModel])
def test_a_network_s_own_fidelity_is_that_of_the_options(network: type[FaceModel]) -> None:
    assert signature(network.forward).parameters["fidelity"].default == RestoreOptions().fidelity


@torch.no_grad()
def test_the_ends_are_the_two_networks(ends: tuple[PFR, PFR], faces: torch.Tensor) -> None:
    faithful, textured = ends
    net = BlendedPFR.between(faithful, textured)
    torch.testing.assert_close(net(faces, fidelity=1.0), faithful(faces))
    torch.testing.assert_close(net(faces, fidelity=0.0), textured(faces))
    between = PFR(CONFIG)
    between.load_state_dict(
        {name: 0.7 * value + 0.3 * textured.state_dict()[name] for name, value in faithful.state_dict().items()}
    )
    torch.testing.assert_close(net(faces, fidelity=0.7), between(faces))
    torch.testing.assert_close(net(faces), net(faces, fidelity=0.5))  # the choice before leaves no trace
    assert (faithful(faces) - textured(faces)).abs().max() > 0.01


@torch.no_grad()
def test_the_middle_lies_where_it_is_put(ends: tuple[PFR, PFR], faces: torch.Tensor, tmp_path: Path) -> None:
    faithful, textured = ends
    save_model(BlendedPFR.between(*ends, middle=0.75), tmp_path / "blend.safetensors", provenance={}, licence="none")
    net = load_model(tmp_path / "blend.safetensors")
    for fidelity, share in ((1.0, 0.0), (0.8, 0.3), (0.5, 0.75), (0.2, 0.9), (0.0, 1.0)):
        point = PFR(CONFIG).eval()
        point.load_state_dict(
            {name: torch.lerp(value, textured.state_dict()[name], share) for name, value in faithful.state_dict().items()}
        )
        torch.testing.assert_close(net(faces, fidelity=fidelity), point(faces))


def test_a_file_of_before_has_its_middle_halfway(ends: tuple[PFR, PFR], faces: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "blend.safetensors"
    net = BlendedPFR.between(*ends)
    save_model(net, path, provenance={}, licence="none")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({name: value for name, value in load_file(path).items() if name != "middle"}, path, metadata)
    with torch.no_grad():
        torch.testing.assert_close(load_model(path)(faces, fidelity=0.7), net(faces, fidelity=0.7))


def test_the_command_makes_a_file_of_it(ends: tuple[PFR, PFR], files: list[str], faces: torch.Tensor) -> None:
    faithful, textured, out = files
    assert main(["blend", faithful, textured, out, "--share", "0.5", "--dtype", "fp32", "--licence", "none"]) == 0
    net = load_face_model(out)
    assert isinstance(net, BlendedPFR) and net.options == ("fidelity",)
    with torch.no_grad():
        torch.testing.assert_close(net(faces, fidelity=1.0), ends[0](faces))
        halfway = BlendedPFR.between(*ends)
        torch.testing.assert_close(net(faces, fidelity=0.0), halfway(faces))
    load_model(out)(faces)  # at the default fidelity, for programs that know of none


@torch.no_grad()
def test_the_ends_of_a_blend_can_be_had_again(
    ends: tuple[PFR, PFR], files: list[str], faces: torch.Tensor, tmp_path: Path
) -> None:
    """To train one of them further, and to pair it with the other."""
    faithful, textured, _ = map(Path, files)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    blend_command(faithful, textured, first, "none", middle=0.9, dtype="fp32")
    net = load_model(first)
    assert isinstance(net, BlendedPFR)
    for fidelity, end in ((1.0, ends[0]), (0.0, ends[1])):
        torch.testing.assert_close(net.at(fidelity)(faces), end(faces))
    started = PFR(CONFIG).eval()
    warm_start(started, str(first), 1.0)
    torch.testing.assert_close(started(faces), ends[0](faces))
    with pytest.raises(InputError, match="--init-fidelity 0"):
        warm_start(started, files[0], 0.0)
    blend_command(first, first, second, "none", middle=0.5, dtype="fp32")
    again = load_model(second)
    torch.testing.assert_close(again(faces, fidelity=1.0), ends[0](faces))
    torch.testing.assert_close(again(faces, fidelity=0.0), ends[1](faces))
    told = read_checkpoint(second).provenance
    assert told["name"] == "textured" and told["blend"]["faithful"] == {"name": "faithful"} and told["blend"]["middle"] == 0.5


def test_the_option_reaches_it_through_the_pipeline(ends: tuple[PFR, PFR]) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    net = BlendedPFR.between(*ends)
    wanted = FaceRestorer(ends[0], device="cpu", dtype="fp32").restore(crop, aligned=True).image
    restorer = FaceRestorer(net, device="cpu", dtype="fp32")
    assert np.abs(restorer.restore(crop, aligned=True, fidelity=1.0).image.astype(int) - wanted).max() <= 1
    assert np.abs(restorer.restore(crop, aligned=True).image.astype(int) - wanted).max() > 1


@pytest.mark.parametrize(("option", "value"), [*(("--share", bad) for bad in ("0", "-1", "1.5", "nan")), ("--middle", "1.5")])
def test_a_share_out_of_range(files: list[str], option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blend", *files, option, value, "--licence", "none"]) == 1
    assert option in capsys.readouterr().err


def test_networks_that_differ(ends: tuple[PFR, PFR], files: list[str], tmp_path: Path) -> None:
    unfitted = load_model(files[1])
    torch.nn.init.normal_(unfitted.need.out.weight)
    save_model(unfitted, tmp_path / "unfitted.safetensors", provenance={}, licence="none")
    blend_command(Path(files[0]), tmp_path / "unfitted.safetensors", tmp_path / "one.safetensors", "none")
    fitted, net = load_model(files[0]).need, load_model(tmp_path / "one.safetensors")
    assert isinstance(net, BlendedPFR)
    assert all(not (value.abs() > 1e-3).any() for name, value in net.texture.named_parameters() if name.startswith("need."))
    assert all(
        torch.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in zip(net.need.parameters(), fitted.parameters(), strict=True)
    )
    other = tmp_path / "other.safetensors"
    save_model(PFR(PFRConfig(size=64, narrow=1 / 16, style_dim=16, n_mlp=2)), other, provenance={}, licence="none")
    with pytest.raises(InputError, match=r"another network than .*faithful\.safetensors's"):
        blend_command(Path(files[0]), other, tmp_path / "out.safetensors", "none")
    assert not (tmp_path / "out.safetensors").exists()
