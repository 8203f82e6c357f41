"""Whether a face needs a change: the statistics it is told from, the layer's fit, the command that fits it."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from pfr_core import PFR, PFRConfig, load_model
from pfr_core.models.checkpoint import read_checkpoint, save_model
from pfr_core.network.need import HALF_A_STEP, QUANTILES, SCALES, STATISTICS, Need, detail_statistics
from trainer.cli import main
from trainer.run.need import fit

PATCHED = PFRConfig(size=64, narrow=1 / 32, style_dim=16, n_mlp=2, patch=2)


def by_scale(statistics: Tensor) -> Tensor:
    """Return [B,STATISTICS] as [B,scale,gradient or diagonal,quantile]."""
    return statistics.reshape(len(statistics), SCALES, 2, len(QUANTILES))


def face(size: int = 128) -> Tensor:
    """Return a smooth picture with one strong edge, [1,3,S,S]."""
    picture = torch.linspace(-0.5, 0.5, size).repeat(1, 3, size, 1)
    picture[..., size // 2 + 1 :, :] += 0.4  # within a pair of pixels at every scale
    return picture


def test_no_detail_is_half_a_step() -> None:
    torch.testing.assert_close(detail_statistics(torch.zeros(2, 3, 64, 64)), torch.full((2, STATISTICS), math.log(HALF_A_STEP)))


def test_they_neither_see_which_way_a_face_looks_nor_how_bright_it_is_nor_other_faces() -> None:
    # At 160 px what is looked at is 96 wide, which halves four times.
    faces = torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(0)) - 0.5
    found = detail_statistics(faces)
    torch.testing.assert_close(detail_statistics(faces.flip(3)), found)
    torch.testing.assert_close(detail_statistics(faces + 0.3), found, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([detail_statistics(one[None]) for one in faces]), found)


def test_contrast_adds_to_all_and_order_is_that_of_the_quantiles() -> None:
    faces = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    more = detail_statistics(faces * 4).exp() - HALF_A_STEP
    torch.testing.assert_close(more, 4 * (detail_statistics(faces).exp() - HALF_A_STEP), rtol=1e-3, atol=1e-5)
    assert (by_scale(detail_statistics(faces)).diff(dim=-1) >= 0).all()


def test_noise_stirs_what_is_quiet_and_blur_takes_what_is_strong() -> None:
    clean = face()
    noise = 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.from_numpy(cv2.GaussianBlur(clean[0].numpy().transpose(1, 2, 0), (0, 0), 3.0).transpose(2, 0, 1)[None])
    sharp, noisy, soft = (by_scale(detail_statistics(x))[0] for x in (clean, clean + noise, blurred))
    assert (noisy[0, :, 2] > sharp[0, :, 2] + 0.5).all()  # the median at one pixel
    assert soft[0, 0, -1] < sharp[0, 0, -1] - 0.5  # the strongest edge at one pixel
    assert abs(soft[-1, 0, -1] - sharp[-1, 0, -1]) < 0.3  # which coarse pixels hardly miss


def test_a_fit_tells_what_can_be_told() -> None:
    generator = torch.Generator().manual_seed(0)
    statistics = torch.randn(600, STATISTICS, generator=generator) * torch.linspace(0.2, 2, STATISTICS) - 3
    degraded = (statistics[:, 3] - statistics[:, 7] > 0.1) | (statistics[:, 20] < -4.5)
    need = Need()
    assert (need(torch.rand(2, 3, 64, 64)) > 0).all()  # until then every face gets the change
    fit(need, statistics[:500], degraded[:500], seed=1)
    with torch.no_grad():
        said = need.judge(statistics)[:, 0] > 0
    assert (said[:500] == degraded[:500]).float().mean() > 0.97
    assert (said[500:] == degraded[500:]).float().mean() > 0.8


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a training set of pictures with edges and quiet places."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for i in range(6):
        picture = np.full((512, 512, 3), 128, np.uint8)
        for _ in range(40):
            x, y = rng.integers(0, 512, 2)
            cv2.circle(picture, (int(x), int(y)), int(rng.integers(5, 60)), rng.integers(0, 255, 3).tolist(), -1)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    return folder


def test_the_command_fits_only_that_layer(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.run.need.CHECKED", 12)
    monkeypatch.setattr("trainer.run.need.STEPS", 300)
    model, out = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_model(PFR(PATCHED), model, provenance={"step": 3}, licence="mine", dtype=torch.float16)
    assert main(["need", str(model), str(faces), str(out), "--faces", "60"]) == 0
    assert "of the degraded" in capsys.readouterr().out
    before, after = load_model(model).state_dict(), load_model(out).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"need.{name}" for name in Need().state_dict()}
    written = read_checkpoint(out)
    assert written.licence == "mine" and written.provenance == {"step": 3, "need": {"faces": 60, "seed": 0}}


def test_what_cannot_be_fitted_is_refused(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_model(PFR(PFRConfig(size=64, narrow=1 / 32, style_dim=16, n_mlp=2)), model, provenance={}, licence="none")
    assert main(["need", str(model), str(faces), str(out)]) == 1
    assert "only networks with a patch" in capsys.readouterr().err
    save_model(PFR(PATCHED), model, provenance={}, licence="none")
    assert main(["need", str(model), str(faces), str(out), "--faces", "0"]) == 1
    assert "--faces 0" in capsys.readouterr().err
    (tmp_path / "index.csv").write_text("split,file,native_px\ntrain,a.png,20\n")
    assert main(["need", str(model), str(tmp_path), str(out)]) == 1
    told = capsys.readouterr().err
    assert "no train faces" in told and "--min-native" not in told, "it has no such option"
    assert not out.exists()


@torch.no_grad()
def test_a_face_that_needs_nothing_keeps_its_finest_shades_in_any_precision() -> None:
    net = PFR(PATCHED).bfloat16()
    net.need.out.bias.fill_(-100.0)
    crops = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net.restore(crops), crops, atol=1e-6, rtol=0)
