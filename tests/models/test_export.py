"""``pfr export``: a network as ONNX, which PFR reads again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from pfr_core import PFR, FaceRestorer, PFRConfig, load_face_model
from pfr_core.cli import main
from pfr_core.models import export
from pfr_core.models.checkpoint import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    torch.manual_seed(0)
    net = PFR(PFRConfig(size=64, narrow=1 / 32, style_dim=16, n_mlp=2, patch=4))  # of the default's kind
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_model(net, path, provenance={}, licence="for a test only", dtype=torch.float16)  # as it is stored
    return path


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the command writes, once: it takes torch half a minute."""
    out = tmp_path_factory.mktemp("exported") / "mine.onnx"
    assert main(["export", str(model), "-o", str(out)]) == 0
    return out


@pytest.mark.slow
def test_the_file_gives_what_torch_gives_and_keeps_the_licence(
    model: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, wanted = load_face_model(exported), load_face_model(model).float()
    assert net.size == 64 and net.licence == "for a test only"
    with torch.inference_mode():
        for batch in (1, 3):
            faces = torch.rand(batch, 3, 64, 64)
            assert (net.restore(faces) - wanted.restore(faces)).abs().max() < 1e-3
    assert [path.name for path in exported.parent.iterdir()] == ["mine.onnx"]
    assert main(["export", str(exported), "-o", str(tmp_path / "again.onnx")]) != 0
    assert "is ONNX already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_that_differs_is_not_kept(
    model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "_write", lambda net, size, path: shutil.copy(exported, path))
    assert main(["export", str(model), "-o", str(tmp_path / "mine.onnx")]) == 0
    assert "differs from torch by at most" in capsys.readouterr().out
    (tmp_path / "mine.onnx").unlink()
    monkeypatch.setitem(export.AGREEMENT, "fp32", 0.0)
    assert main(["export", str(model), "-o", str(tmp_path / "mine.onnx")]) != 0
    assert "differ from torch's by" in capsys.readouterr().err and not list(tmp_path.iterdir())
    FaceRestorer(model, device="cpu")  # what the export put into caches does no harm


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mine.safetensors", "-o", "mine.pth"], "must end in .onnx"),
        (["nobody.safetensors", "-o", "mine.onnx"], "nobody.safetensors"),
        (["mine.safetensors", "-o", "mine.onnx", "--fidelity", "0.3"], "fidelity"),
        (["gfpgan-1.4", "-o", "mine.pth"], "must end in .onnx"),  # said before it is downloaded
    ],
)
def test_what_is_refused(
    model: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setenv("PFR_OFFLINE", "1")
    assert main(["export", *arguments]) != 0
    assert says in capsys.readouterr().err
    assert [path.name for path in model.parent.iterdir()] == ["mine.safetensors"]


def test_without_its_packages(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(model), "-o", "mine.onnx"]) != 0
    assert "pip install onnxruntime onnxscript" in capsys.readouterr().err
