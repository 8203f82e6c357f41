"""The trainer's runs: stages, FreezeD, interruption and resumption, safety, export, warm start, bad input."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

from pfr_core import PFR, PFRConfig, load_model, save_model
from pfr_core.errors import Cancelled, CheckpointError, InputError, PFRError, WeightsError
from pfr_core.models.checkpoint import read_checkpoint, read_part
from pfr_core.network.layers import blur, upsample2
from trainer import losses
from trainer.cli import build_parser, main, stage_config
from trainer.data.detector.dataset import PictureDataset
from trainer.run import engine
from trainer.run.clock import Clock
from trainer.run.config import NOT_STATED, DetectorConfig, PriorConfig, RestoreConfig, load_config
from trainer.run.engine import start, uses_bf16
from trainer.run.export import export_command
from trainer.run.initialise import OPEN, pass_through, warm_start
from trainer.run.loop import MAKING_UP, train
from trainer.run.presets import TRAINING_PRESETS
from trainer.run.provenance import licence_of, provenance, with_earlier
from trainer.run.run_state import alone, checkpoints, load_state, save_state
from trainer.run.steps import Run
from trainer.run.watch import Watch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMMON: dict[str, Any] = {
    "network": "pfr-256-lite",
    "size": 16,
    "iterations": 6,
    "batch": 2,
    "stddev_group": 0,
    "precision": "fp32",
    "device": "cpu",
    "workers": 0,
    "r1_every": 2,
    "path_every": 3,
    "checkpoint_every": 100,
    "image_every": 0,
    "validate_every": 0,
    "log_every": 1,
    "keep": 1,
}
# Small enough to need no feature network.
ADVERSARIAL: dict[str, Any] = {"fm_weight": 0.0, "fp_weight": 0.0, "local_channels": 4, "freeze_d": 2, "path_weight": 2.0}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """And as many as before for the tests of other files: the last bits of a result depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prior(faces: Path, out: Path, **changes: Any) -> PriorConfig:
    return PriorConfig(data=str(faces), out=str(out), **{**COMMON, "augment": 0.5, "ada_faces": 20, **changes})


def restore(faces: Path, out: Path, **changes: Any) -> RestoreConfig:
    return RestoreConfig(data=str(faces), out=str(out), **{**COMMON, **ADVERSARIAL, **changes})


def reconstruction(faces: Path, out: Path, **changes: Any) -> RestoreConfig:
    preset = TRAINING_PRESETS["restore"]["reconstruction"]
    return RestoreConfig(data=str(faces), out=str(out), **{**preset, **COMMON, "warmup": 2, **changes})


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same_state(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_state(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def test_reconstruction_lowers_the_loss_and_exports_a_model_that_loads(faces: Path, tmp_path: Path) -> None:
    rates = {"lr_codec": 2e-3, "lr_prior": 2e-3}
    config = reconstruction(faces, tmp_path / "run", iterations=75, warmup=10, pass_through=False, licence="ours", **rates)
    path = train(config)
    rows = log_of(tmp_path / "run")
    assert rows[-1]["G/l1"] < 0.8 * rows[0]["G/l1"] and not any(name.startswith("D/") for name in rows[-1])
    net = load_model(path)
    assert net.config.size == 16 and net(torch.zeros(1, 3, 16, 16)).isfinite().all()
    checkpoint = read_checkpoint(path)
    assert checkpoint.provenance["iterations"] == 75 and checkpoint.provenance["faces"] == 3
    assert checkpoint.licence == "ours" and checkpoint.provenance["config"]["lr_codec"] == 2e-3
    assert {value.dtype for value in checkpoint.state.values()} == {torch.float16}
    assert load_config(tmp_path / "run" / "config.json") == config


def test_prior_then_restore_with_its_discriminator_frozen(faces: Path, tmp_path: Path) -> None:
    """The way a user goes. FreezeD: what is frozen stays bit-identical, through R1 too; everything else changes."""
    model = train(prior(faces, tmp_path / "prior", iterations=3))
    discriminator = model.with_name("model.discriminator.safetensors")
    config = restore(faces, tmp_path / "run", init_from=str(model), discriminator=str(discriminator), iterations=4)
    run = Run(config)
    given = read_part(model, "prior").state
    own = run.stage.generator.state_dict()
    scalars = {name for name in given if name.endswith("noise.weight")}
    assert all(torch.equal(own[name], value.float()) for name, value in given.items() if name not in scalars)
    assert all(own[name].abs() >= OPEN for name in scalars)  # a closed branch would cut the decoder off
    assert sum(name.startswith("prior.") for name in own) == len(given)
    further = Run(prior(faces, tmp_path / "further", init_from=str(model))).stage.generator.state_dict()
    assert {f"prior.{name}" for name in further} == given.keys()
    assert all(torch.equal(value, given[f"prior.{name}"].float()) for name, value in further.items())
    save_state(tmp_path / "run", run.state(), keep=1)
    before = {name: value.clone() for name, value in run.stage.networks.state_dict().items()}
    starting = read_part(discriminator, "discriminator").state
    for _ in range(4):
        run.take_step(Clock(run.device, exact=False))
    frozen = {f"global.convs.{i}." for i in range(2)}
    for name, value in run.stage.networks.state_dict().items():
        is_frozen = name.startswith(tuple(frozen))
        assert torch.equal(value, before[name]) == is_frozen, name
        if is_frozen:
            assert torch.equal(value, starting[name.removeprefix("global.")])
    # Once there is a checkpoint, what the run started from may go.
    for path in (model, discriminator):
        path.unlink()
    config.save(tmp_path / "run" / "config.json")
    again = read_checkpoint(train(config, resume=True)).provenance
    assert again["started_from"]["stage"] == "prior" and again["iterations"] == 4
    assert read_checkpoint(export_command(tmp_path / "run", tmp_path / "out.safetensors")[0]).provenance == again


def test_each_phase_gives_gradients_to_its_own_parameters_only(faces: Path, tmp_path: Path) -> None:
    run = Run(restore(faces, tmp_path / "run"))
    batch = next(run.batches)
    names = {id(parameter): name for name, parameter in run.stage.networks.named_parameters()}
    reached: dict[str, set[str]] = {}
    for phase in run.stage.phases:
        run.stage.networks.zero_grad(set_to_none=True)
        run.gradients(phase, [batch])
        got = [p for p in run.stage.networks.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        reached[phase.name] = {names[id(p)] for p in got}
    assert list(reached) == ["Gmain", "Greg", "Dmain", "Dreg"]
    tops = {phase: {name.split(".")[0] for name in found} for phase, found in reached.items()}
    assert tops == {"Gmain": {"generator"}, "Greg": {"generator"}, "Dmain": {"global", "local"}, "Dreg": {"global"}}
    # R1 goes through the frozen layers to the image, and leaves them alone
    assert not any(name.startswith(("global.convs.0.", "global.convs.1.")) for name in reached["Dreg"] | reached["Dmain"])
    assert any(name.startswith("global.convs.2.") for name in reached["Dreg"])
    assert all(name.startswith("generator.prior.") for name in reached["Greg"])


def test_learning_rates_of_the_paper_reach_their_groups(faces: Path, tmp_path: Path) -> None:
    run = Run(restore(faces, tmp_path / "run", path_weight=0.0, iterations=10, decay_at=(0.5,), decay=0.1))
    values = run.take_step(Clock(run.device, exact=False))
    lazy = 2 / 3  # R1 every second step
    expected = {"codec": 2e-3, "prior": 2e-4, "noise": 2e-3, "local": 2e-3, "global": 2e-5 * lazy}
    assert {name: values[f"lr/{name}"] for name in expected} == pytest.approx(expected)
    assert values["G/noise_smallest"] > 0.9
    run.step = 5
    assert run.take_step(Clock(run.device, exact=False))["lr/codec"] == pytest.approx(2e-4)


@pytest.mark.parametrize(
    ("change", "parts", "frozen"),
    [
        ({"freeze_d": 0}, {"generator", "global", "local"}, False),
        ({"local_weight": 0.0}, {"generator", "global"}, False),
        ({"mmrb": False}, {"generator", "global", "local"}, False),
        ({"fine_tune": False, "freeze_d": 0}, {"generator", "global", "local"}, True),
    ],
)
def test_table_5_switches(faces: Path, tmp_path: Path, change: dict[str, Any], parts: set[str], frozen: bool) -> None:
    run = Run(restore(faces, tmp_path / "run", **change))
    assert set(run.stage.networks) == parts
    before = {name: value.clone() for name, value in run.stage.networks.state_dict().items()}
    run.take_step(Clock(run.device, exact=False))
    changed = {name for name, value in run.stage.networks.state_dict().items() if not torch.equal(value, before[name])}
    assert ("generator.prior.mapping.0.weight" not in changed) == frozen
    assert ("global.convs.0.weight" in changed) == ("freeze_d" in change)
    assert any(".mmrb." in name for name in before) == ("mmrb" not in change)
    assert any(name.endswith("noise.weight") for name in changed) and "generator.encoder.stem.weight" in changed


@pytest.mark.parametrize("stage", [prior, restore])
def test_an_interrupted_run_resumes_to_the_same_bits(faces: Path, tmp_path: Path, stage: Any) -> None:
    """Stopped by a signal between two lazy regularisations, in the middle of the data workers' batches."""
    options = {"accumulate": 2, "iterations": 5, "ema": 0.9}
    train(stage(faces, tmp_path / "whole", **options))
    whole = load_state(tmp_path / "whole")

    def stop_at_3(run: Run) -> None:
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    parts = stage(faces, tmp_path / "parts", workers=1, **options)
    with pytest.raises(Cancelled, match="stopped at step 3; continue with --resume"):
        train(parts, after_step=stop_at_3)
    assert load_state(tmp_path / "parts")["step"] == 3 and (tmp_path / "parts" / "model.safetensors").exists()
    train(parts, resume=True)
    assert same_state(whole, load_state(tmp_path / "parts"))
    assert [row["step"] for row in log_of(tmp_path / "parts")] == [1, 2, 3, 4, 5]
    first, second = (
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in log_of(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert first == second


def test_kill_9_during_a_checkpoint_loses_only_what_came_after_the_last(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = reconstruction(faces, out, iterations=5, checkpoint_every=1)
    code = """
import os, signal, sys
from pathlib import Path
import torch
from trainer.run.config import load_config
from trainer.run.loop import train
torch.set_num_threads(1)
save, count = torch.save, 0
def killed_in_the_middle(state, file):
    global count
    count += 1
    if count == 3:
        file.write(b"half of a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)
torch.save = killed_in_the_middle
train(load_config(Path(sys.argv[1])))
"""
    config.save(tmp_path / "start.json")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "start.json")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((out / "checkpoints").glob(".*.tmp")) and load_state(out)["step"] == 2
    assert main(["restore", "--out", str(out), "--resume"]) == 0
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000000005.pt"]
    assert [row["step"] for row in log_of(out)] == [1, 2, 3, 4, 5]


def test_a_resumed_run_keeps_its_checkpoint_s_own_step_on_the_board(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, steps in ((0, (1, 2, 3)), (2, (3,))):
        watch = Watch(tmp_path, begun, 1)
        for step in steps:
            watch.write(step, {"loss": 10.0 * begun + step})
        watch.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 23.0)]


def test_killed_between_the_last_checkpoint_and_its_export(faces: Path, tmp_path: Path) -> None:
    config = reconstruction(faces, tmp_path / "run", iterations=1)
    model = train(config)
    model.unlink()
    for left in (".pfr-0123456789abcdef.tmp", ".0123456789abcdef.tmp", "checkpoints/.fedcba9876543210.tmp"):
        (tmp_path / "run" / left).touch()
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"step": ')
    assert main(["restore", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert load_model(model).config.size == 16 and len(log_of(tmp_path / "run")) == 1
    train(dataclasses.replace(config, iterations=2), resume=True)
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_stopped_before_its_first_checkpoint_a_run_begins_again(faces: Path, tmp_path: Path) -> None:
    config = reconstruction(faces, tmp_path / "run", iterations=1)
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run" / "config.json")
    assert main(["restore", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert load_state(tmp_path / "run")["step"] == 1


def test_a_run_is_resumed_where_it_lies_with_its_own_options(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_at_2(run: Run) -> None:
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Cancelled):
        train(reconstruction(faces, tmp_path / "run", iterations=4), after_step=stop_at_2)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.copytree(faces, tmp_path / "moved")
    resume = ["restore", "--resume", "--out", str(tmp_path / "copy")]
    for extra in (["--log-every", "9"], ["--dry-run"], ["--preset", "paper"]):
        assert main([*resume, *extra]) == 1
        assert f"so {extra[0]} cannot be given" in capsys.readouterr().err
    assert main([*resume, "--batch", "1"]) == 1
    assert "--accumulate so that their product with the processes stays" in capsys.readouterr().err
    assert main([*resume, "--data", str(tmp_path / "moved"), "--batch", "1", "--accumulate", "2"]) == 0
    assert load_state(tmp_path / "copy")["step"] == 4 and load_state(tmp_path / "run")["step"] == 2
    assert main([*resume, "--iterations", "3"]) == 1
    assert "has taken 4 steps already" in capsys.readouterr().err
    assert main([*resume, "--batch", "1", "--accumulate", "2", "--iterations", "5"]) == 0
    assert load_state(tmp_path / "copy")["step"] == 5 and load_config(tmp_path / "copy" / "config.json").iterations == 5
    (tmp_path / "run" / "config.json").unlink()  # its checkpoints are there still, and newer than a new run's
    with pytest.raises(InputError, match="holds a run already"):
        train(reconstruction(faces, tmp_path / "run", iterations=4))


def test_a_run_that_goes_on_with_other_data_says_so_and_keeps_the_licences_of_both(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other, out = tmp_path / "other", tmp_path / "run"
    shutil.copytree(faces, other)
    rows = [{"file": f"{i}.png", "split": "train", "licence": "CC BY-NC 4.0"} for i in range(2)]
    (other / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def told() -> tuple[dict[str, int], list[tuple[dict[str, int], int]]]:
        facts = read_checkpoint(out / "model.safetensors").provenance
        return facts["data_licences"], [(each["data_licences"], each["iterations"]) for each in facts.get("earlier_data", [])]

    train(reconstruction(other, out, iterations=1))
    resume, own, later = ["restore", "--resume", "--out", str(out)], {"CC BY-NC 4.0": 2}, {"not stated": 3}
    assert main([*resume, "--iterations", "2"]) == 0
    assert told() == (own, []) and "The data are not those" not in caplog.text
    assert main([*resume, "--iterations", "3", "--data", str(faces)]) == 0
    assert told() == (later, [(own, 2)]) and "until step 2: {'faces': 2, " in caplog.text and "{'faces': 3, " in caplog.text
    assert "say where its own are (--data)." in caplog.text  # not the anchor's, which is not compared
    caplog.clear()
    assert main([*resume, "--iterations", "4"]) == 0
    assert told() == (later, [(own, 2)]) and "The data are not those" not in caplog.text
    export_command(out, out / "model.safetensors")
    assert told() == (later, [(own, 2)])


def test_what_a_teacher_saw_does_not_tell_other_data(caplog: pytest.LogCaptureFixture) -> None:
    """It depends on the device, which may change."""

    def later(saw: int, listed: int) -> dict[str, Any]:
        before = {"aligned_faces": 9, "listed": {"aligned_faces": 10}}
        facts = {"aligned_faces": saw, "listed": {"aligned_faces": listed}}
        return with_earlier(facts, before, 3, compared=PictureDataset.compared, options=DetectorConfig.DATA)

    assert "earlier_data" not in later(8, 10) and not caplog.text
    assert later(9, 11)["earlier_data"][0]["iterations"] == 3 and "(--faces, --wild, --photos, --negatives)" in caplog.text
    old = {"aligned_faces": 9}  # as earlier versions left it
    assert with_earlier({"listed": {}}, old, 3, compared=("listed",), options=()) == {"listed": {}}


def test_data_that_took_no_step_are_not_stated(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a finished run, which exports again, nor by a validation that is made up, after which the step is saved again."""
    other, out = tmp_path / "other", tmp_path / "run"
    shutil.copytree(faces, other)
    rows = [{"file": f"{i}.png", "split": "train", "licence": "CC BY-NC 4.0"} for i in range(2)]
    (other / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    validation = Mock(side_effect=[{"psnr": 1.0}, {"psnr": 2.0}], rank=lambda scores: scores["psnr"])
    validation.config.best_by = "psnr"
    monkeypatch.setattr("trainer.run.loop.open_validation", lambda *_: validation)
    train(reconstruction(faces, out, iterations=1, validate_every=1))
    save_state(out, load_state(out) | {"validated": 0}, keep=1)  # as a kill leaves it
    before, files = load_state(out)["data"], [out / name for name in ("model.safetensors", "best.safetensors")]
    assert main(["restore", "--resume", "--out", str(out), "--data", str(other)]) == 0
    assert load_state(out)["validated"] == 1 and load_state(out)["data"] == before and "earlier_data" not in before
    for path in files:
        told = read_checkpoint(path).provenance
        assert told["data_licences"] == before["data_licences"] and "earlier_data" not in told


def test_one_process_works_in_a_folder(faces: Path, tmp_path: Path) -> None:
    config = reconstruction(faces, tmp_path / "run", iterations=1)
    with alone(tmp_path / "run"):
        for resume in (False, True):
            with pytest.raises(InputError, match="another process trains there"):
                train(config, resume=resume)
    assert not checkpoints(tmp_path / "run")

    def join(run: Run) -> None:
        with pytest.raises(InputError, match="another process trains there"), alone(tmp_path / "run"):
            pass

    train(config, after_step=join)
    train(dataclasses.replace(config, iterations=2), resume=True, after_step=join)
    assert load_state(tmp_path / "run")["step"] == 2


def test_machines_that_do_not_share_the_folder_are_told(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = reconstruction(faces, tmp_path / "run", iterations=1)
    train(config)
    monkeypatch.setattr("lightning_fabric.Fabric.broadcast", lambda _, step: step + 1)  # what the first machine has
    with pytest.raises(InputError, match="--out must be the same folder on all machines"):
        train(dataclasses.replace(config, iterations=2), resume=True)
    assert load_state(tmp_path / "run")["step"] == 1


def test_unreadable_images_are_counted_from_the_beginning(faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = Path(shutil.copytree(faces, tmp_path / "faces"))
    for number in (0, 1):
        (here / f"{number}.png").write_bytes(b"no image")
    config = reconstruction(here, tmp_path / "run", iterations=4, log_every=4)
    train(config)
    assert log_of(tmp_path / "run")[-1]["data/skipped"] == caplog.text.count(".png: cannot be read") > 0
    train(dataclasses.replace(config, iterations=8), resume=True)
    counts = [row["data/skipped"] for row in log_of(tmp_path / "run")]
    assert counts[-1] == caplog.text.count(".png: cannot be read") > counts[-2]


@pytest.mark.parametrize("kind", [InputError, WeightsError])
def test_a_face_that_cannot_be_judged_does_not_end_a_run(
    kind: type[PFRError], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flat(stage: Any) -> None:
        raise kind("NIQE: the image is flat")

    monkeypatch.setattr("trainer.run.loop.open_validation", lambda *_: flat)
    train(reconstruction(faces, tmp_path / "run", iterations=2, validate_every=1))
    assert load_state(tmp_path / "run")["step"] == 2
    assert "step 1 could not be validated: NIQE: the image is flat" in caplog.text


def test_pictures_whose_faces_have_gone_do_not_end_a_run(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No checkpoint is due where they are drawn."""

    def gone(*_: object) -> None:
        raise InputError("http://faces: cannot be fetched")

    monkeypatch.setattr("trainer.run.loop.first_batch", gone)
    train(reconstruction(faces, tmp_path / "run", iterations=2, image_every=1))
    assert load_state(tmp_path / "run")["step"] == 2
    assert "no pictures of step 1: http://faces: cannot be fetched" in caplog.text


def test_networks_larger_than_faces_are_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="A network of 1024 px: faces are read at 512 px"):
        train(reconstruction(faces, tmp_path / "run", network="pfr-1024", size=0))
    assert not (tmp_path / "run").exists()


def test_a_device_that_training_does_not_know(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.run.engine.resolve_device", lambda name: torch.device("xpu"))
    with pytest.raises(InputError, match="training knows cpu, cuda, mps"):
        train(reconstruction(faces, tmp_path / "run", device="xpu"))
    train(reconstruction(faces, tmp_path / "run", device="auto", iterations=1))


def test_what_a_run_is_judged_by_comes_after_its_checkpoint_and_after_a_stop_when_it_goes_on(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Judging takes minutes, and may ask for more memory than there is."""
    folder, judged = tmp_path / "run", list[int]()

    class Judged:
        config = SimpleNamespace(best_by="psnr")

        def __call__(self, stage: Any) -> dict[str, float]:
            judged.append(load_state(folder)["step"])
            if len(judged) == 2:
                raise MemoryError("CUDA out of memory")
            return {"psnr": float(len(judged))}

        def rank(self, scores: dict[str, float]) -> float:
            return scores["psnr"]

    def stop_at_4(run: Run) -> None:
        if run.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("trainer.run.loop.open_validation", lambda *_: Judged())
    with pytest.raises(Cancelled):
        train(reconstruction(faces, folder, iterations=9, validate_every=1, checkpoint_every=1), after_step=stop_at_4)
    assert judged == [1, 2, 3] and "step 2 could not be validated: CUDA out of memory" in caplog.text
    assert main(["restore", "--resume", "--out", str(folder), "--iterations", "5"]) == 0
    assert judged == [1, 2, 3, 4, 5] and load_state(folder)["best"] == 5  # the checkpoint is written once more, with it
    assert main(["restore", "--resume", "--out", str(folder)]) == 0
    assert judged == [1, 2, 3, 4, 5], "no step is judged twice"
    save_state(folder, load_state(folder) | {"validated": 4}, keep=1)  # as a kill at the very end leaves it
    assert main(["restore", "--resume", "--out", str(folder)]) == 0
    assert judged == [1, 2, 3, 4, 5, 5]
    earlier = load_state(folder)
    del earlier["validated"]  # as earlier versions left it
    save_state(folder, earlier, keep=1)
    assert main(["restore", "--resume", "--out", str(folder), "--iterations", "6"]) == 0
    assert judged == [1, 2, 3, 4, 5, 5, 6]
    assert main(["restore", "--resume", "--out", str(folder), "--validate-every", "0", "--iterations", "7"]) == 0
    assert len(judged) == 7 and load_state(folder)["step"] == 7


def test_a_validation_that_ends_the_process_is_made_up_once(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, judged = tmp_path / "run", list[int]()

    class Deadly:
        config = SimpleNamespace(best_by="psnr")

        def __call__(self, stage: Any) -> dict[str, float]:
            judged.append(load_state(folder)["step"])
            if judged[-1] == 1:
                raise RuntimeError("device-side assert triggered")
            return {"psnr": 1.0}

        def rank(self, scores: dict[str, float]) -> float:
            return scores["psnr"]

    monkeypatch.setattr("trainer.run.loop.open_validation", lambda *_: Deadly())
    config = reconstruction(faces, folder, iterations=2, validate_every=1, checkpoint_every=1)
    for resume in (False, True):
        with pytest.raises(RuntimeError, match="device-side"):
            train(config, resume=resume)
    train(config, resume=True)
    assert judged == [1, 1, 2] and "step 1 was not validated" in caplog.text and load_state(folder)["validated"] == 2
    files = {*folder.iterdir()}
    save_state(folder, load_state(folder) | {"validated": 1}, keep=1)
    train(config, resume=True)
    assert judged == [1, 1, 2, 2] and files - {*folder.iterdir()} == {folder / MAKING_UP}, "one that succeeds leaves no mark"


def test_a_run_that_ended_before_it_had_anything_does_not_hold_its_folder(faces: Path, tmp_path: Path) -> None:
    config = reconstruction(faces, tmp_path / "run", iterations=1)
    (tmp_path / "run").mkdir()
    replace(config, batch=8).save(tmp_path / "run" / "config.json")
    train(config)
    assert load_config(tmp_path / "run" / "config.json").samples == config.samples
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match="holds a run already"):  # its exported weights are there
        train(config)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_data_worker_that_is_killed_costs_no_step(faces: Path, tmp_path: Path) -> None:
    def kill_worker(run: Run) -> None:
        if run.step == 3:
            for worker in multiprocessing.active_children():
                with suppress(RuntimeError):  # the loader's own handler of the signal raises it wherever that comes
                    os.kill(worker.pid or 0, signal.SIGKILL)
                    worker.join(10)

    config = reconstruction(faces, tmp_path / "run", iterations=50, workers=1)
    with pytest.raises(InputError, match=r"a data worker has ended.*--workers 0"):
        train(config, after_step=kill_worker)
    assert 3 <= load_state(tmp_path / "run")["step"] < 50
    assert main(["restore", "--resume", "--out", config.out, "--workers", "0", "--iterations", "10"]) == 0


def test_ctrl_c_and_an_encoding_without_arrows_end_in_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.cli.run", interrupted)
    assert main(["pack", "faces", "shards"]) == 130
    assert "Give the same command again" in capsys.readouterr().err
    code = (
        "from trainer import cli; cli.run = lambda options: chr(0x2191); raise SystemExit(cli.main(['pack', 'faces', 'shards']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "\\u2191\n"), done.stderr


def test_sigterm_to_the_whole_group_writes_a_checkpoint(faces: Path, tmp_path: Path) -> None:
    """So do torchrun, `timeout` and a terminal: the data workers get the signal too."""
    config = reconstruction(faces, tmp_path / "run", iterations=100_000, workers=1)
    config.save(tmp_path / "start.json")
    command = [sys.executable, "-m", "trainer", "restore", "--config", str(tmp_path / "start.json"), "--out", config.out]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") > 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130 and "stopping after this step" in told and "Traceback" not in told, told
    assert "continue with --resume" in told
    assert load_state(tmp_path / "run")["step"] > 2 and (tmp_path / "run" / "model.safetensors").exists()


def test_data_that_go_away_cost_no_step(faces: Path, tmp_path: Path) -> None:
    """A disk or a server that is away for longer than is waited for."""
    here = Path(shutil.copytree(faces, tmp_path / "faces"))
    config = reconstruction(here, tmp_path / "run")

    def take_away(run: Run) -> None:
        if run.step == 3:
            here.rename(tmp_path / "away")

    with pytest.raises(InputError, match="neither this nor the images after it can be read"):
        train(config, after_step=take_away)
    (tmp_path / "away").rename(here)
    assert load_state(tmp_path / "run")["step"] == 3
    train(config, resume=True)
    assert load_state(tmp_path / "run")["step"] == 6


def test_a_discriminator_for_a_run_without_one_is_refused(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["restore", "--preset", "reconstruction", "--data", str(faces), "--out", str(tmp_path / "run")]
    assert main([*run, "--discriminator", "d.safetensors"]) == 1
    refusal = "--discriminator d.safetensors: the run has none"
    assert refusal in capsys.readouterr().err
    with pytest.raises(InputError, match=refusal):
        restore(faces, tmp_path / "run", global_weight=0.0, discriminator="d.safetensors")
    saved = tmp_path / "config.json"
    other = ["restore", "--config", str(saved), "--out", str(tmp_path / "run")]
    restore(faces, tmp_path / "run", discriminator="d.safetensors").save(saved)
    without = stage_config(build_parser().parse_args([*other, "--global-weight", "0"]))
    assert isinstance(without, RestoreConfig) and without.discriminator == ""
    # What an earlier version saved without effect is left out, of a run that goes on and of a new one like it; nobody typed it.
    saved.write_text(saved.read_text().replace('"global_weight": 0.5', '"global_weight": 0.0'))
    assert load_config(saved) == without == stage_config(build_parser().parse_args(other))
    assert main([*other, "--discriminator", "d.safetensors"]) == 1 and refusal in capsys.readouterr().err


def test_another_start_is_taken_at_its_own_fidelity(tmp_path: Path) -> None:
    """Of a saved configuration the fidelity holds for the file that it names."""
    RestoreConfig(init_from="a.safetensors", init_fidelity=1.0).save(tmp_path / "config.json")
    command = ["restore", "--config", str(tmp_path / "config.json")]
    same, other = (stage_config(build_parser().parse_args([*command, *more])) for more in ([], ["--init-from", "b.safetensors"]))
    assert isinstance(same, RestoreConfig) and same.init_fidelity == 1.0
    assert isinstance(other, RestoreConfig) and other.init_fidelity == 0.5
    with pytest.raises(InputError, match="--init-fidelity goes with --init-from"):
        RestoreConfig(init_fidelity=0.0)


def test_weights_that_are_not_finite_are_not_written(faces: Path, tmp_path: Path) -> None:
    config = reconstruction(faces, tmp_path / "run", checkpoint_every=2, iterations=6)

    def poison(after: Run) -> None:
        if after.step == 4:
            next(after.stage.generator.parameters()).data.fill_(float("nan"))

    with pytest.raises(PFRError, match="no longer finite after step 4"):
        train(config, after_step=poison)
    assert load_state(tmp_path / "run")["step"] == 2
    train(config, resume=True)
    assert load_state(tmp_path / "run")["step"] == 6


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    config = reconstruction(faces, run, checkpoint_every=2)
    pixel = losses.l1

    def poison(after: Run) -> None:
        if after.step == 3:
            monkeypatch.setattr(losses, "l1", lambda a, b: pixel(a, b) * float("nan"))

    with pytest.raises(PFRError, match=r"G/l1 is nan at step 3.*--resume and lower rates \(--lr-codec"):
        train(config, after_step=poison)
    assert load_state(run)["step"] == 2
    monkeypatch.setattr(losses, "l1", pixel)
    assert main(["restore", "--resume", "--out", str(run), "--lr-codec", "1e-5"]) == 0  # as the message says
    assert load_state(run)["step"] == 6
    rows = log_of(run)
    assert rows[1]["lr/codec"] > 1e-3 and 0 < rows[2]["lr/codec"] < 1.01e-5
    assert rows[2]["lr/prior"] > 1e-4


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, {"step": 1}, keep=2)

    def full(state: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError, match=r"No space left.*Earlier checkpoints are intact"):
            save_state(tmp_path, {"step": 2}, keep=2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000001.pt"]
    for step in (2, 3, 4):
        save_state(tmp_path, {"step": step}, keep=2)
    assert [path.stem for path in checkpoints(tmp_path)] == ["step-000000003", "step-000000004"]
    assert load_state(tmp_path) == {"step": 4}
    newest = checkpoints(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    pickled = content.index(b"data.pkl") + 64
    for place in range(pickled, pickled + 40):  # the unpickler raises whatever a changed byte makes it stumble over
        newest.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with suppress(CheckpointError):
            load_state(tmp_path)
    newest.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"step-000000004\.pt: .*damaged.*Delete it to resume"):
        load_state(tmp_path)


def test_a_checkpoint_that_does_not_fit_is_refused(faces: Path, tmp_path: Path) -> None:
    config = reconstruction(faces, tmp_path / "run", iterations=1)
    train(config)
    longer = dataclasses.replace(config, iterations=2)
    with pytest.raises(CheckpointError, match="does not fit this run's networks"):
        train(dataclasses.replace(longer, size=32), resume=True)
    with pytest.raises(CheckpointError, match="2 samples a step, now there are 4"):
        train(dataclasses.replace(longer, batch=4), resume=True)
    with pytest.raises(CheckpointError, match="no prior of PFR"):
        read_part(tmp_path / "run" / "model.safetensors", "prior")
    save_model(PFR(PFRConfig(size=16, narrow=0.25)), tmp_path / "other.safetensors", provenance={}, licence="")
    with pytest.raises(CheckpointError, match="no discriminator of PFR"):
        Run(restore(faces, tmp_path / "x", discriminator=str(tmp_path / "other.safetensors")))
    train(prior(faces, tmp_path / "prior", iterations=1, size=32))
    with pytest.raises(CheckpointError, match=r"a discriminator of 32 px .* has 16 px"):
        Run(restore(faces, tmp_path / "x", discriminator=str(tmp_path / "prior" / "model.discriminator.safetensors")))


def test_export_writes_the_average_with_its_provenance(faces: Path, tmp_path: Path) -> None:
    shutil.copytree(faces, tmp_path / "faces")
    train(restore(tmp_path / "faces", tmp_path / "run", iterations=2, ema=0.5))
    shutil.rmtree(tmp_path / "faces")  # what was trained on need not be there any more
    files = export_command(tmp_path / "run", tmp_path / "out.safetensors", dtype="fp32", licence="mine")
    assert [file.name for file in files] == ["out.safetensors", "out.discriminator.safetensors"]
    checkpoint = read_checkpoint(files[0])
    assert same_state(checkpoint.state, load_state(tmp_path / "run")["stage"]["ema"])
    assert checkpoint.licence == "mine" and checkpoint.provenance["stage"] == "restore"
    assert checkpoint.provenance["config"]["global_weight"] == 0.5


def test_the_licence_of_the_start_holds_for_what_is_trained_on_from_it(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = train(reconstruction(faces, tmp_path / "start", iterations=1, licence="research only"))
    with caplog.at_level("INFO"):
        model = train(reconstruction(faces, tmp_path / "run", iterations=1, init_from=str(start)))
    assert "which holds for its weights, too: research only" in caplog.text
    assert read_checkpoint(model).licence == "research only"
    (state,) = export_command(tmp_path / "run", tmp_path / "state.safetensors", training=True)
    assert read_part(state, "training").licence == "research only"
    assert read_checkpoint(export_command(tmp_path / "run", tmp_path / "out.safetensors", licence="mine")[0]).licence == "mine"


def test_of_a_place_an_exported_file_states_the_name() -> None:
    places: dict[str, Any] = {"data": "/home/me/faces", "out": "/home/me/runs/mine", "init_from": "/home/me/prior.safetensors"}
    stated = provenance(RestoreConfig(**places, anchor="/home/me/anchor.safetensors", anchor_weight=1.0), {}, 3, "")
    assert stated["config"]["anchor"] == "anchor.safetensors" and "/home" not in json.dumps(stated)


def test_a_licence_is_what_the_run_states_else_that_of_its_start() -> None:
    start = json.dumps({"licence": "research only"})
    assert licence_of(PriorConfig(licence="mine"), start) == "mine"
    assert licence_of(PriorConfig(), start) == "research only"
    assert licence_of(PriorConfig(), "") == licence_of(PriorConfig(), "{}") == NOT_STATED


def test_a_run_goes_on_elsewhere_from_one_file(faces: Path, tmp_path: Path) -> None:
    config = restore(faces, tmp_path / "run", iterations=2, ema=0.5, detail_weight=0.1)
    train(config)
    (file,) = export_command(tmp_path / "run", tmp_path / "state.safetensors", training=True)
    with pytest.raises(CheckpointError, match="a run to be gone on from"):
        read_checkpoint(file)
    trained = load_state(tmp_path / "run")["stage"]
    run = Run(dataclasses.replace(config, init_from=str(file)))
    own = {**run.stage.networks.state_dict()}
    for name, value in trained["ema"].items():
        assert torch.equal(own[f"generator.{name}"], value.half().float())
    others = [name for name in own if not name.startswith("generator.")]
    assert {name.split(".")[0] for name in others} == {"global", "local", "detail"}
    assert all(torch.equal(own[name], trained["networks"][name].half().float()) for name in others)
    anew = Run(dataclasses.replace(config, init_from=str(file), pass_through=True)).stage.networks.state_dict()
    assert same_state({**anew}, own), "a model that is trained on does not begin as the identity"
    with pytest.raises(CheckpointError, match="'local' of --init-from does not fit"):
        Run(dataclasses.replace(config, init_from=str(file), local_channels=8))


def test_dry_run_and_benchmark_write_nothing(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(faces), "--device", "cpu", "--size", "16", "--workers", "0", "--batch", "4", "--precision", "fp32"]
    options += ["--validate-every", "0"]
    small = [
        *options,
        "--network",
        "pfr-256-lite",
        "--freeze-d",
        "2",
        "--fm-weight",
        "0",
        "--fp-weight",
        "0",
        "--local-channels",
        "4",
    ]
    assert main(["restore", *small, "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    for part in ("3 faces, 4 a step", "| generator |", "| - decoder |", "| global |", "| G/local |", "peak memory", "about"):
        assert part in told
    assert main(["benchmark", "--steps", "2", "prior", "--preset", "tiny", *options]) == 0
    told = capsys.readouterr().out
    shares = [float(line.split("|")[2].strip().rstrip("%")) for line in told.splitlines() if line.endswith("% |")]
    assert "faces a second" in told and len(shares) == 4 and sum(shares) == pytest.approx(100, abs=0.3)
    assert list(tmp_path.iterdir()) == []


def test_compiled_main_phases_leave_the_regularisers_alone(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compiler(function: Any) -> Any:
        compiled.append(getattr(function, "__name__", type(function).__name__))
        return torch.no_grad()(function) if len(compiled) > 2 else function

    monkeypatch.setattr(torch, "compile", compiler)
    run = Run(restore(faces, tmp_path / "run", compile=True))
    run.take_step(Clock(run.device, exact=False))
    assert compiled == ["forward_for_training", "Discriminator"]


def test_missing_packages_are_named() -> None:
    hidden = "import sys; sys.modules['lightning_fabric'] = None"
    script = f"{hidden}; from trainer.cli import main; sys.exit(main(['prior', '--dry-run']))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'error: lightning_fabric is missing: training needs more packages, python -m pip install ".[train]".\n'


def test_groups_of_the_discriminator_bind_no_run_without_one() -> None:
    assert RestoreConfig(global_weight=0.0, batch=2).stddev_group == 4
    with pytest.raises(InputError, match="no multiple of stddev_group 4"):
        RestoreConfig(batch=2)


@pytest.mark.parametrize(("command", "remedy"), [(["prior"], "Lower --batch"), (["evaluate"], "another --device")])
def test_memory_that_does_not_suffice_is_told_with_the_remedy(
    command: list[str], remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.cli.run", Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory. Tried to ...")))
    assert main(command) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: not enough memory (CUDA out of memory.") and remedy in told
    monkeypatch.setattr("trainer.cli.run", Mock(side_effect=RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        main(command)


def test_bad_input_is_named(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["restore", "--preset", "reconstruction", "--size", "16", "--iterations", "1", "--batch", "4", "--workers", "0"]
    empty = tmp_path / "empty"
    empty.mkdir()
    misspelt = tmp_path / "misspelt.json"
    misspelt.write_text(json.dumps({"stage": "restore", "lr_codex": 1}))
    other = tmp_path / "prior.json"
    other.write_text(json.dumps({"stage": "prior"}))
    monkeypatch.setattr("pfr_core.models.download.obtain", Mock(side_effect=AssertionError("a download before the data")))
    cases = {
        "none: no such folder": ["restore", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "g")],
        "no such folder": [*run, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "a")],
        "no train faces": [*run, "--data", str(empty), "--out", str(tmp_path / "b")],
        "--out": [*run, "--data", str(faces)],
        "lr_codec is -1": [*run, "--data", str(faces), "--out", str(tmp_path / "c"), "--lr-codec", "-1"],
        "no multiple of stddev_group 3": ["restore", "--data", str(faces), "--out", str(tmp_path / "c"), "--stddev-group", "3"],
        "--steps 0: must be at least 1": ["benchmark", "--steps", "0", *run, "--data", str(faces)],
        "holds no run": ["restore", "--out", str(tmp_path / "d"), "--resume"],
        "Did you mean 'lr_codec'": ["restore", "--config", str(misspelt), "--out", str(tmp_path / "e")],
        "configuration of a prior run": ["restore", "--config", str(other), "--out", str(tmp_path / "f")],
        "Check the path": ["restore", "--config", str(tmp_path / "none.json"), "--out", str(tmp_path / "f")],
    }
    for expected, arguments in cases.items():
        assert main(arguments) == 1
        assert expected in capsys.readouterr().err
    for option, value in (("--lr-codex", "1"), ("--config", str(misspelt))):  # the latter beside --preset
        with pytest.raises(SystemExit):
            main([*run, option, value])
        assert option in capsys.readouterr().err


def test_precision_is_that_asked_for_or_what_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for pays in (False, True):
        monkeypatch.setattr(engine, "bf16_pays", lambda device, pays=pays: pays)
        assert uses_bf16("auto", cpu) is pays
        assert uses_bf16("bf16", cpu) and not uses_bf16("fp32", cpu)


def test_freeze_d_beyond_the_stack_is_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="freeze_d is 4, but this discriminator has 3 entries"):
        Run(restore(faces, tmp_path / "run", freeze_d=4))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes, but this machine has 1 GPUs"):
        start(RestoreConfig(device="cuda"))


def test_a_run_that_cannot_start_does_not_occupy_its_folder(faces: Path, tmp_path: Path) -> None:
    for change in ({"init_from": str(tmp_path / "none.safetensors")}, {"device": "cuda:99"}):
        with pytest.raises(PFRError):
            train(reconstruction(faces, tmp_path / "run", **change))
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").touch()
    with pytest.raises(InputError, match="--resume"):
        train(reconstruction(faces, tmp_path / "run"))


def test_a_small_network_is_a_warm_start_for_a_larger_one(tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=0.125)), small, provenance={}, licence="test")
    net = PFR(PFRConfig(size=64, narrow=0.125))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    warm_start(net, str(small))
    given = read_checkpoint(small).state
    taken = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert all(torch.equal(net.state_dict()[name], given[name].float()) for name in taken)
    assert "decoder.convs.16.weight" in taken and "decoder.convs.64.weight" not in taken
    for config, advice in (
        (PFRConfig(size=16, narrow=0.25), "Use --network pfr-512-lite --size 16"),
        (PFRConfig(size=16, narrow=0.125, n_mlp=1), "No preset has its channels"),
    ):
        save_model(PFR(config), tmp_path / "other.safetensors", provenance={}, licence="test")
        with pytest.raises(InputError, match=advice):
            warm_start(net, str(tmp_path / "other.safetensors"))


def test_a_network_started_from_one_without_a_decoder_is_that_one(tmp_path: Path) -> None:
    gpen = randomised(PFRConfig(size=16, narrow=0.125, mmrb=False, decoder=False))
    save_model(gpen, tmp_path / "gpen.safetensors", provenance={}, licence="test")
    net = PFR(PFRConfig(size=16, narrow=0.125))
    warm_start(net, str(tmp_path / "gpen.safetensors"))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(net(x), gpen(x), rtol=1e-4, atol=1e-4)


def randomised(config: PFRConfig) -> PFR:
    """Return a network none of whose parameters still has its neutral starting value."""
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


def test_a_network_with_a_patch_starts_as_the_smaller_one_between_shrinking_and_enlarging(tmp_path: Path) -> None:
    small = randomised(PFRConfig(size=16, narrow=0.25, style_dim=64))
    save_model(small, tmp_path / "small.safetensors", provenance={}, licence="test")
    net = PFR(PFRConfig(size=64, narrow=0.25, style_dim=64, patch=4))
    warm_start(net, str(tmp_path / "small.safetensors"))
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    shrunk = F.avg_pool2d(x, 4)
    with torch.no_grad():
        change = F.interpolate(small(shrunk) - shrunk, scale_factor=4, mode="bilinear")
        expected = x + torch.sigmoid(net.need(x))[:, :, None, None] * change  # most of it, until the layer is fitted
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)
    save_model(net, tmp_path / "net.safetensors", provenance={}, licence="test")
    with pytest.raises(InputError, match=r"patch of 4.*--patch 4"):
        warm_start(PFR(PFRConfig(size=16, narrow=0.25, style_dim=64)), str(tmp_path / "net.safetensors"))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_pass_through_makes_any_network_the_identity(patch: int, sign: int) -> None:
    net = randomised(PFRConfig(size=64, narrow=0.25, style_dim=64, patch=patch))
    for name, parameter in net.prior.named_parameters():
        if name.endswith("noise.weight"):  # as a prior's training may have left them
            parameter.data = sign * parameter.data.abs()
    pass_through(net)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert (net(x) - x).abs().max() < 1e-5
    net.encoder.to_z.weight.data.normal_()  # whatever the style
    assert (net(x) - x).abs().max() < 1e-5


@pytest.mark.parametrize("patch", [1, 2])
def test_a_network_widened_starts_as_the_narrower_one(tmp_path: Path, patch: int) -> None:
    given = randomised(PFRConfig(size=64, narrow=0.125, style_dim=64, patch=patch))
    for name, parameter in given.named_parameters():
        if ".strength." in name:  # with other channels the strokes of the noise are others
            parameter.data.zero_()
    save_model(given, tmp_path / "narrow.safetensors", provenance={}, licence="test", dtype=torch.float16)  # as runs export
    narrow = load_model(tmp_path / "narrow.safetensors")
    net = PFR(PFRConfig(size=64, narrow=0.1875, channel_multiplier=3, style_dim=64, patch=patch))
    warm_start(net, str(tmp_path / "narrow.safetensors"))
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    restored = narrow(x)
    torch.testing.assert_close(net(x), restored, rtol=1e-4, atol=1e-4)
    net(x).square().mean().backward()
    for name in ("encoder.convs.16", "decoder.convs.32", "prior.blocks.32.1.conv"):  # old outputs can learn to use what is new
        gradient = net.get_parameter(f"{name}.weight").grad
        assert gradient is not None and gradient[0].abs().sum(dim=(1, 2)).min() > 0
    with pytest.raises(InputError, match="other channels"):  # back again something would be lost
        save_model(net, tmp_path / "wide.safetensors", provenance={}, licence="test")
        warm_start(narrow, str(tmp_path / "wide.safetensors"))


def test_pass_through_needs_a_decoder_and_room_for_the_colours() -> None:
    with pytest.raises(InputError, match="decoder"):
        pass_through(PFR(PFRConfig(size=16, narrow=0.25, mmrb=False, decoder=False)))
    with pytest.raises(InputError, match="6 channels"):
        pass_through(PFR(PFRConfig(size=256, narrow=0.03125, style_dim=64)))


def test_a_prior_of_a_network_with_a_patch_is_refused() -> None:
    with pytest.raises(InputError, match="--size 128 --patch 1"):
        PriorConfig(network="pfr-512-patch4")
