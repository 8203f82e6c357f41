"""What commit 9624dbb wrote still opens: models, runs, configurations, training sets, workflows (``tests/fixtures/older``)."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pfr_core import PFRConfig, load_model
from pfr_core.models.checkpoint import read_checkpoint, read_part
from pfr_core.network.config import PRESETS
from pfr_core.network.discriminator import Discriminator
from pfr_core.network.prior import StyleGAN2Prior
from trainer.cli import main
from trainer.data.dataset import read_face
from trainer.data.index import FaceFile, list_faces
from trainer.run.config import WITHOUT_EFFECT, DetectorConfig, FaceConfig, PriorConfig, RestoreConfig, load_config
from trainer.run.run_state import load_state
from trainer.stages.detector import DetectorStage

OLDER = Path(__file__).parent / "fixtures" / "older"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> PFRConfig:
    """Give the network that the older runs had under the name of a preset."""
    config = PFRConfig(size=16, narrow=1 / 256, style_dim=4, n_mlp=1)
    monkeypatch.setitem(PRESETS, "pfr-256-lite", config)
    return config


def test_a_model_computes_what_it_did() -> None:
    expected = load_file(OLDER / "expected.safetensors")
    with torch.no_grad():
        output = load_model(OLDER / "model.safetensors")(expected["input"])
    assert torch.allclose(output, expected["output"], atol=1e-5) and output.std() > 0.01
    about = read_checkpoint(OLDER / "model.safetensors")
    assert about.licence == "test weights, worth nothing" and about.provenance["words"] == "Grüße"


def test_a_prior_and_a_discriminator_fit_their_networks(small: PFRConfig) -> None:
    prior, discriminator = (read_part(OLDER / f"{part}.safetensors", part) for part in ("prior", "discriminator"))
    assert prior.config == discriminator.config == small
    StyleGAN2Prior(small).load_state_dict({name.removeprefix("prior."): value for name, value in prior.state.items()})
    Discriminator(small).load_state_dict(discriminator.state)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("prior", PriorConfig), ("restore", RestoreConfig), ("reconstruction", RestoreConfig), ("detector", DetectorConfig)],
)
def test_a_configuration_keeps_its_values(name: str, kind: type) -> None:
    path = OLDER / "configs" / f"{name}.json"
    written, config = json.loads(path.read_text()), load_config(path)
    stage = written.pop("stage", "detector")
    assert type(config) is kind and len(written) > 20
    for option in WITHOUT_EFFECT.get(stage, ()):  # older priors had some
        assert written.pop(option) and not hasattr(config, option)
    for option, value in written.items():
        assert getattr(config, option) == (tuple(value) if isinstance(value, list) else value), option
    if isinstance(config, FaceConfig):
        assert config.shape.patch == 1
    else:
        assert (config.schedule, config.final_rate, config.grad_clip, config.log_every) == ("cosine", 0.01, 5.0, 25)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Unpack the folder of the ``restore`` run, stopped after 4 steps."""
    with tarfile.open(OLDER / "run-restore.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "run-restore"


@pytest.mark.usefixtures("small")
def test_a_run_is_exported_as_it_was(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "out.safetensors")]) == 0
    for ending in ("safetensors", "discriminator.safetensors"):
        old, new = load_file(run / f"model.{ending}"), load_file(tmp_path / f"out.{ending}")
        assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    before, after = (read_checkpoint(path).provenance for path in (run / "model.safetensors", tmp_path / "out.safetensors"))
    assert after["started_from"] == before["started_from"] and after["iterations"] == 4
    assert before["config"].items() <= {**after["config"], "out": before["config"]["out"]}.items()


@pytest.mark.usefixtures("small")
def test_a_run_goes_on(run: Path) -> None:
    """With its own rates and state: the weights that it had are the ones that move on, by little in two steps."""
    stopped = load_state(run)["stage"]
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "iterations": 6}))
    assert main(["restore", "--resume", "--out", str(run), "--data", str(OLDER / "faces")]) == 0
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].keys() == rows[4].keys() | {"D/r1"}  # due every 16 steps
    now = load_state(run)
    assert now["step"] == 6 and now["stage"]["networks"].keys() == stopped["networks"].keys()
    moved = [
        (now["stage"]["networks"][n] - v).abs().max().item() for n, v in stopped["networks"].items() if v.is_floating_point()
    ]
    assert 0 < max(moved) < 0.01
    assert now["stage"]["optimisers"]["g"]["state"][0]["step"] > stopped["optimisers"]["g"]["state"][0]["step"]


def test_a_detector_s_checkpoint_goes_on() -> None:
    """Before its run shared the loop it held other names, and an optimiser without the nominal rate."""
    config = load_config(OLDER / "configs" / "detector.json")
    assert isinstance(config, DetectorConfig)
    torch.manual_seed(1)
    before = DetectorStage(config)
    optimiser = torch.optim.AdamW(before.net.parameters(), lr=1e-5, weight_decay=config.weight_decay, fused=True)
    before.net(torch.zeros(1, 3, 64, 64))[0].sum().backward()
    optimiser.step()
    parts = {"net": before.net.state_dict(), "ema": before.ema.state_dict(), "optimiser": optimiser.state_dict()}
    state = {**parts, "step": 25, "earlier": {"iterations": 3}}
    stage = DetectorStage(config)
    modern = stage.modern(state)
    stage.load(modern["stage"])
    assert (modern["step"], modern["faces_per_step"], json.loads(modern["started_from"])) == (25, 6, {"iterations": 3})
    assert all(torch.equal(stage.net.state_dict()[name], value) for name, value in parts["net"].items())
    assert all(torch.equal(stage.ema.state_dict()[name], value) for name, value in parts["ema"].items())
    (group,) = stage.optimisers["detector"].param_groups
    assert (group["name"], group["base_lr"]) == ("detector", config.learning_rate)
    moments = [value["exp_avg"] for value in stage.optimisers["detector"].state_dict()["state"].values()]
    assert (
        all(torch.equal(a, b["exp_avg"]) for a, b in zip(moments, parts["optimiser"]["state"].values(), strict=True)) and moments
    )
    assert stage.modern(modern) is modern


@pytest.mark.parametrize(("name", "count"), [("prepared", 1), ("packed", 2), ("faces", 2)])
def test_training_sets_are_read(name: str, count: int) -> None:
    found: list[FaceFile] = list_faces(OLDER / name, "train", min_native=16)
    assert len(found) == count
    for face in found:
        image = read_face(face.stored)
        assert image.shape == (512, 512, 3) and image.std() > 1
        eyes, mouth = face.points[:2], face.points[3:]
        assert eyes[0, 0] < eyes[1, 0] and (mouth[:, 1] > eyes[:, 1].max()).all() and np.ptp(face.boxes[:, 0]) > 0.05 * face.size


@pytest.mark.parametrize(("name", "nodes"), [("1_restore", 2), ("2_step", 5), ("3_video", 2), ("4_crops", 3)])
def test_a_workflow_finds_its_nodes_inputs_and_outputs(pack: Any, name: str, nodes: int) -> None:
    """Each node with the widgets of then in the order of then: ComfyUI's page gives values to widgets by their order."""
    seen = 0
    (path,) = (OLDER / "workflows").glob(f"{name}*.json")
    for node in json.loads(path.read_text())["nodes"]:
        if not node["type"].startswith("PFR"):
            continue
        seen += 1
        kind = pack.NODE_CLASS_MAPPINGS[node["type"]]
        declared = {name: spec for group in kind.INPUT_TYPES().values() for name, spec in group.items()}
        assert {item["name"] for item in node["inputs"]} <= declared.keys()
        outputs = [(output["name"], output["type"]) for output in node["outputs"]]
        assert list(zip(kind.RETURN_NAMES, kind.RETURN_TYPES, strict=True))[: len(outputs)] == outputs  # a link counts them
        widgets = [name for name, (kinds, _) in declared.items() if isinstance(kinds, list) or kinds in WIDGETS]
        names = [item["name"] for item in node["inputs"] if item.get("widget")]
        assert widgets[: len(names)] == names
        for name, value in zip(names, node["widgets_values"], strict=True):
            kinds, options = declared[name]
            choices = kinds if isinstance(kinds, list) else options.get("options")
            assert value in choices if choices else options.get("min", value) <= value <= options.get("max", value), name
    assert seen == nodes


WIDGETS = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
