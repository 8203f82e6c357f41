"""The trainer: data, losses, a run that is interrupted and resumed, warm start, evaluation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core import PFR, PFRConfig, load_model, save_model
from pfr_core.checkpoint import read_checkpoint
from pfr_core.errors import CheckpointError, InputError, PFRError
from pfr_core.network.layers import blur, upsample2
from trainer import reconstruct
from trainer.cli import main
from trainer.config import TrainConfig
from trainer.data import DegradedFaces, FaceFile, list_faces
from trainer.evaluate import score
from trainer.initialise import pass_through, warm_start
from trainer.losses import l1, l1_pyramid
from trainer.run_state import NAME, load_state, save_state

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def config(faces: Path, out: Path, **changes: object) -> TrainConfig:
    values = {"size": 16, "iterations": 6, "batch": 2, "warmup": 2, "precision": "fp32", "workers": 0, "checkpoint_every": 100}
    return TrainConfig(data=str(faces), out=str(out), **{**values, **changes})  # type: ignore[arg-type]


def test_a_run_lowers_the_loss_and_exports_a_model_that_loads(faces: Path, tmp_path: Path) -> None:
    path = reconstruct.train(config(faces, tmp_path / "run", iterations=75, warmup=10, learning_rate=2e-3, licence="ours"))
    rows = [[float(v) for v in line.split(",")] for line in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    assert rows[-1][2] < 0.8 * rows[0][2]
    net = load_model(path)
    assert net.config.size == 16 and net(torch.zeros(1, 3, 16, 16)).isfinite().all()
    checkpoint = read_checkpoint(path)
    assert checkpoint.provenance["iterations"] == 75 and checkpoint.provenance["faces"] == 3
    assert checkpoint.licence == "ours"
    assert {value.dtype for value in checkpoint.state.values()} == {torch.float16}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_resumes_to_the_same_weights(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    torch.set_num_threads(1)
    reconstruct.train(config(faces, tmp_path / "whole"))
    whole = load_state(tmp_path / "whole")

    step = reconstruct._step

    def interrupted(*arguments: object) -> dict[str, float]:
        if arguments[-1] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)  # type: ignore[arg-type]

    parts = config(faces, tmp_path / "parts", workers=workers)
    with monkeypatch.context() as patch:
        patch.setattr(reconstruct, "_step", interrupted)
        reconstruct.train(parts)
    assert load_state(tmp_path / "parts")["step"] == 3
    reconstruct.train(parts, resume=True)
    resumed = load_state(tmp_path / "parts")
    assert resumed["step"] == 6
    for kind in ("net", "ema"):
        assert all(torch.equal(whole[kind][name], resumed[kind][name]) for name in whole[kind])


def test_sigterm_checkpoints_and_exits(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--data", faces, "--out", out, "--size", 16, "--batch", 1, "--workers", 0, "--iterations", 100000]
    process = subprocess.Popen([sys.executable, "-m", "trainer", "reconstruct", *map(str, options)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not (out / "log.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert load_state(out)["step"] >= 1
    assert load_model(out / "model.safetensors").config.size == 16


def test_a_small_network_is_a_warm_start_for_a_larger_one(faces: Path, tmp_path: Path) -> None:
    small = reconstruct.train(config(faces, tmp_path / "small"))
    net = PFR(config(faces, tmp_path / "x", size=64).network)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    warm_start(net, str(small))
    given = read_checkpoint(small).state
    taken = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert "prior.blocks.8.0.conv.weight" in taken and "encoder.convs.4.weight" in taken
    assert all(torch.equal(net.state_dict()[name], given[name].float()) for name in taken)
    assert "decoder.convs.64.weight" not in taken
    other = tmp_path / "other.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=0.25, style_dim=64)), other, provenance={}, licence="test")
    shapes = {name for name, value in read_checkpoint(other).state.items() if value.shape == before.get(name, value[:0]).shape}
    assert all("noise" in name or "rgb" in name or "bias" in name for name in shapes)


def randomised(config: PFRConfig) -> PFR:
    """A network none of whose parameters still has its neutral starting value."""
    torch.manual_seed(3)
    net = PFR(config)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


def test_a_network_grown_from_one_of_half_the_size_starts_as_that_one(tmp_path: Path) -> None:
    small = randomised(PFRConfig(size=16, narrow=0.25, style_dim=64))
    save_model(small, tmp_path / "small.safetensors", provenance={}, licence="test")
    net = PFR(PFRConfig(size=32, narrow=0.25, style_dim=64))
    warm_start(net, str(tmp_path / "small.safetensors"))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = upsample2(small(blur(x, 1, stride=2)))[..., 3:-3, 3:-3]
        # the down-sampling layers pad after the activation, so the outermost pixels may differ
        assert (net(x)[..., 3:-3, 3:-3] - expected).abs().max() < 1e-4 * expected.abs().max()


def test_pass_through_makes_any_network_the_identity() -> None:
    net = randomised(PFRConfig(size=32, narrow=0.25, style_dim=64))
    pass_through(net)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert (net(x) - x).abs().max() < 1e-5
    net.encoder.to_z.weight.data.normal_()  # whatever the style
    assert (net(x) - x).abs().max() < 1e-5


def test_pass_through_needs_a_decoder_and_room_for_the_colours() -> None:
    with pytest.raises(InputError, match="decoder"):
        pass_through(PFR(PFRConfig(size=16, narrow=0.25, mmrb=False, decoder=False)))
    with pytest.raises(InputError, match="6 channels"):
        pass_through(PFR(PFRConfig(size=256, narrow=0.03125, style_dim=64)))


def test_a_sample_depends_only_on_seed_and_counter(faces: Path) -> None:
    files = list_faces(faces, "train")
    data = [DegradedFaces(files, 16, 8, seed=seed, real_share=0.5) for seed in (1, 1, 2)]
    first, again, other = (d[5] for d in data)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (3, 16, 16) and first[1].abs().max() <= 1


def test_real_share_is_kept(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [FaceFile(Path(str(i)), real=i == 0, licence="") for i in range(2)]
    seen: list[str] = []

    def remember(path: Path) -> np.ndarray:
        seen.append(path.name)
        return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr("trainer.data.read_face", remember)
    data = DegradedFaces(files, 16, 400, seed=0, real_share=0.75)
    for i in range(400):
        data[i]
    assert 0.68 < seen.count("0") / len(seen) < 0.82


def test_the_index_leaves_out_small_and_magnified_faces(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(
        "split,file,size,kind,native_px,licence\n"
        "train,a.png,512,real,900,x\ntrain,b.png,256,real,900,x\ntrain,c.png,512,synthetic,300,x\nval,d.png,512,real,900,x\n"
    )
    assert [face.path.name for face in list_faces(tmp_path, "train")] == ["a.png"]


def test_losses_by_hand() -> None:
    truth = torch.tensor([[[[0.0, 1.0], [0.0, -1.0]]]]).expand(1, 3, 2, 2)
    assert l1(torch.zeros(1, 3, 2, 2), truth).item() == pytest.approx(0.5)
    pyramid = {1: torch.full((1, 3, 1, 1), 0.25), 2: torch.zeros(1, 3, 2, 2)}
    # at 1 px the truth averages to 0: |0.25 - 0|; at 2 px as above
    assert l1_pyramid(pyramid, truth).item() == pytest.approx(0.25 + 0.5)


def test_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    settings = config(tmp_path, tmp_path, iterations=100, warmup=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [reconstruct.learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] == pytest.approx(0.1, abs=0.01)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "l1", lambda a, b: torch.tensor(float("nan"), requires_grad=True))
    save_state(tmp_path, {"step": 1})
    with pytest.raises(PFRError, match="step 0"):
        reconstruct.train(config(faces, tmp_path))
    assert load_state(tmp_path) == {"step": 1}


def test_a_failed_write_keeps_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, {"step": 1})

    def full(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="previous checkpoint"):
        save_state(tmp_path, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert load_state(tmp_path) == {"step": 1}


def test_bad_input_is_named(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["reconstruct", "--size", "16", "--iterations", "1", "--batch", "1", "--workers", "0"]
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        "no such folder": [*run, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "a")],
        "no train faces": [*run, "--data", str(empty), "--out", str(tmp_path / "b")],
        "--out": [*run, "--data", str(faces)],
        "learning_rate": [*run, "--data", str(faces), "--out", str(tmp_path / "c"), "--learning-rate", "-1"],
        "configuration": ["reconstruct", "--out", str(tmp_path / "d"), "--resume"],
    }
    for expected, arguments in cases.items():
        assert main(arguments) == 1
        assert expected in capsys.readouterr().err
    (faces / "broken.png").write_bytes(b"no image")
    data = DegradedFaces([FaceFile(faces / "broken.png", True, "")], 16, 1, seed=0, real_share=1.0)
    with pytest.raises(InputError, match=r"broken\.png"):
        data[0]


def test_a_run_that_cannot_start_does_not_occupy_its_folder(faces: Path, tmp_path: Path) -> None:
    for change in ({"init_from": str(tmp_path / "none.safetensors")}, {"device": "cuda:99"}):
        with pytest.raises(PFRError):
            reconstruct.train(config(faces, tmp_path / "run", **change))
        assert not (tmp_path / "run").exists()


def test_a_taken_folder_is_refused(faces: Path, tmp_path: Path) -> None:
    reconstruct.train(config(faces, tmp_path / "run", iterations=1))
    with pytest.raises(InputError, match="--resume"):
        reconstruct.train(config(faces, tmp_path / "run"))


def test_score_by_hand() -> None:
    truth = np.full((16, 16, 3), 100, np.uint8)
    result = score("x", [truth + np.uint8(10)], [truth])
    assert result.psnr == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert score("x", [truth], [truth.copy()]).ssim == pytest.approx(1.0)


def test_evaluate_prints_a_table_and_a_grid(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=0.125)), model, provenance={}, licence="test")
    grid = tmp_path / "grid.png"
    assert main(["evaluate", str(model), str(faces), "--limit", "2", "--ablate", "--grid", str(grid)]) == 0
    table = capsys.readouterr().out
    for row in ("degraded input", "non-local means", "model", "MMRB zeroed", "decoder's skips zeroed"):
        assert f"| {row} |" in table
    assert Image.open(grid).size == (3 * 512, 2 * 512)
