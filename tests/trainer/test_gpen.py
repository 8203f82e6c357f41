"""From GPEN's files to a trained PFR, the way a user goes: import-gpen, restore, export, a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pfr_core import load_model
from pfr_core.cli import main as pfr
from pfr_core.models import gpen
from pfr_core.models.checkpoint import read_checkpoint, read_part
from pfr_core.models.registry import GPEN_LICENCE
from pfr_core.models.tensors import read_state_dict
from trainer.cli import main as trainer
from trainer.run.clock import Clock
from trainer.run.config import RestoreConfig, load_config
from trainer.run.steps import Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_gpens_files_become_a_run_that_restores_a_photograph(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = shared_dir / "golden" / "gpen-64-narrow0.125"
    imported, beside, out = (tmp_path / name for name in ("gpen.safetensors", "gpen.discriminator.safetensors", "run"))
    assert pfr(["import-gpen", str(golden / "gpen_g.pth"), "--discriminator", f"{golden}/gpen_d.pth", "-o", str(imported)]) == 0
    expected = load_file(golden / "expected.safetensors")

    take_step, steps = Run.take_step, []

    def compared(run: Run, clock: Clock) -> dict[str, float]:
        with torch.no_grad():
            for net in (run.stage.generator, run.stage.ema):
                torch.testing.assert_close(net(expected["input"]), expected["generator_output"], rtol=0, atol=1e-4)
            judged = run.stage.networks["global"](expected["input"])
        torch.testing.assert_close(judged, expected["discriminator_output"], rtol=0, atol=1e-4)
        steps.append(take_step(run, clock))
        return steps[-1]

    monkeypatch.setattr(Run, "take_step", compared)
    options = ["--preset", "tiny", "--data", str(shared_dir / "data" / "faces"), "--out", str(out), "--batch", "2"]
    options += ["--stddev-group", "0", "--iterations", "1", "--workers", "0", "--device", "cpu", "--precision", "fp32"]
    options += ["--validate-every", "0", "--image-every", "0", "--log-every", "1"]
    assert trainer(["restore", *options, "--init-from", str(imported), "--discriminator", str(beside)]) == 0
    assert {"G/fm", "G/fp", "G/global", "G/local", "D/r1"} <= steps[0].keys() and np.isfinite(list(steps[0].values())).all()

    given = gpen.discriminator_from_gpen(read_state_dict(golden / "gpen_d.pth"), load_model(imported).config)
    trained = read_part(out / "model.discriminator.safetensors", "discriminator").state
    config = load_config(out / "config.json")
    assert isinstance(config, RestoreConfig)
    frozen = tuple(f"convs.{i}." for i in range(config.freeze_d))
    for name, value in given.items():
        assert torch.equal(trained[name], value) == name.startswith(frozen), name

    exported = tmp_path / "mine.safetensors"
    assert trainer(["export", str(out), str(exported)]) == 0
    assert read_checkpoint(exported).provenance["started_from"]["licence"] == GPEN_LICENCE
    photo, restored = ROOT / "examples" / "astronaut.jpg", tmp_path / "restored.png"
    assert pfr(["restore", str(photo), "-o", str(restored), "--model", str(exported), "--no-only-bad-faces"]) == 0
    difference = np.abs(np.asarray(Image.open(restored), int) - np.asarray(Image.open(photo).convert("RGB"), int))
    assert difference.any() and not difference[-16:].any()


def test_gpens_own_file_for_a_discriminator_is_refused_with_the_remedy(
    shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = shared_dir / "golden" / "gpen-64-narrow0.125"
    options = ["restore", "--preset", "tiny", "--data", str(shared_dir / "data" / "faces"), "--out", str(tmp_path / "run")]
    for option in ("--discriminator", "--init-from"):
        assert trainer([*options, option, str(golden / "gpen_d.pth")]) == 1
        assert "pfr import-gpen" in capsys.readouterr().err
    assert trainer([*options, "--network", "pfr-256", "--init-from", str(golden / "gpen_g.pth")]) == 1
    assert "Use --network pfr-256-lite --size 64" in capsys.readouterr().err
