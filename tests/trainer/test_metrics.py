"""Feature networks, metrics, evaluation and validation on real faces; and that training runs without facexlib."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import vgg19

from pfr_core import PFR, Degradation, PFRConfig, save_model
from pfr_core.errors import InputError, WeightsError
from pfr_core.models.checkpoint import read_checkpoint
from pfr_core.models.identity import IdentityNetwork
from pfr_core.models.registry import REGISTRY
from trainer.cli import main
from trainer.data.dataset import RGB8, read_face, to_signed
from trainer.data.index import list_faces
from trainer.data.shards import Stored
from trainer.judge.features import PerceptualNetwork
from trainer.judge.metrics import HIGHER_IS_BETTER, Judge, kid, optimised_for
from trainer.judge.options import USUAL, Measure
from trainer.judge.sources import DegradedFaces, truths_of
from trainer.judge.validate import Validation
from trainer.losses import unit_distance
from trainer.run.config import FaceConfig, PriorConfig, RestoreConfig
from trainer.run.loop import train
from trainer.run.steps import Run
from trainer.stages import build

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def judge(shared_dir: Path) -> Judge:
    return Judge("squeezenet", "mobilefacenet", CPU)


def blurred(image: RGB8, sigma: float) -> RGB8:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def test_identity_cosines_of_real_crops(shared_dir: Path) -> None:
    """Same person (a face and its mild degradation) and different persons, as the weights' own figures say: 0.91 and 0.04."""
    faces = list_faces(shared_dir / "data" / "faces", "val")[:16]
    network = IdentityNetwork("mobilefacenet")
    mild = Degradation(blur=("isotropic",), sigma=(2, 3), scale=(3, 5), noise=(5, 10), quality=(40, 60))
    images = [read_face(face.stored) for face in faces]
    points = torch.from_numpy(np.stack([face.points for face in faces])).float()

    def embed(pictures: list[RGB8]) -> torch.Tensor:
        with torch.no_grad():
            return network(to_signed(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)), points)

    truth, degraded = embed(images), embed([mild(image, i)[0] for i, image in enumerate(images)])
    same = (truth * degraded).sum(dim=1).mean().item()
    different = ((truth @ truth.t()).sum() - len(faces)).item() / (len(faces) * (len(faces) - 1))
    assert same == pytest.approx(0.91, abs=0.1) and different == pytest.approx(0.04, abs=0.1)


def test_the_identity_loss_reaches_the_image_at_any_size(shared_dir: Path) -> None:
    face = list_faces(shared_dir / "data" / "faces", "val")[0]
    network = IdentityNetwork("mobilefacenet").train()  # training mode must not reach it
    assert not any(module.training for module in network.modules())
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    points = torch.from_numpy((face.points + 0.5) / 16 - 0.5).float().expand(2, -1, -1)
    network(image, points)[:, 0].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_perceptual_distance_grows_with_blur(shared_dir: Path) -> None:
    network = PerceptualNetwork("squeezenet")
    image = read_face(list_faces(shared_dir / "data" / "faces", "val")[0].stored)[128:384, 128:384]
    inputs = [
        to_signed(torch.from_numpy(i.transpose(2, 0, 1).copy())[None]) for i in (image, *(blurred(image, s) for s in (1, 2, 4)))
    ]
    features = [network(x) for x in inputs]
    distances = [unit_distance(f, features[0]).item() for f in features]
    assert distances[0] == 0 and distances == sorted(distances)


def test_kid_by_hand() -> None:
    # one-dimensional features 0, 0 against 1, 1: kernels 1, 8 and 1, so 1 + 8 - 2 = 7
    assert kid(torch.zeros(2, 1), torch.ones(2, 1)) == pytest.approx(7.0)
    # Twice each of two faces: within them only pairs of different faces count, (1 + 1 * 2) ** 3 = 27 each.
    twice = torch.tensor([[1.0], [1.0], [2.0], [2.0]])
    assert kid(twice, torch.zeros(2, 1), ["a", "a", "b", "b"]) == pytest.approx(27 + 1 - 2)
    assert kid(twice, torch.zeros(2, 1)) > 27 + 1 - 2
    same = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    assert abs(kid(same[:200], same[200:])) < 0.2 < kid(same[:200], same[200:] + 0.5)


def test_a_set_of_one_face_is_no_distribution() -> None:
    """However many draws of it there are: nothing is left of KID within it."""
    judge = Judge(None, None, CPU, measures=())
    judge.by = {"kid": "", "kid_inception": ""}
    fake, real = ({name: torch.rand(count, 8) for name in ("kid", "inception")} for count in (3, 4))
    assert judge.apart(fake, real, ["a"] * 3) == {}
    for faces in (["a", "a", "b"], list[str]()):
        scores = judge.apart(fake, real, faces)
        assert {*scores} == {*judge.by} and all(map(math.isfinite, scores.values()))


def test_metrics_agree_on_what_is_worse(shared_dir: Path, judge: Judge) -> None:
    faces = list_faces(shared_dir / "data" / "faces", "val")[:4]
    truths, points = truths_of(list(DegradedFaces(faces, draws=1).cases(probes=False)))
    mild = judge([blurred(truth, 2) for truth in truths], truths, points)
    bad = judge([blurred(truth, 8) for truth in truths], truths, points)
    for name in USUAL:
        assert (mild[name] > bad[name]) == (name in HIGHER_IS_BETTER), name
    perfect = judge.unpaired(truths, truths)
    assert perfect["niqe"] < mild["niqe"] and 3 < perfect["niqe"] < 7


def test_faces_judged_small_are_the_large_ones_shrunk(shared_dir: Path, judge: Judge) -> None:
    face = list_faces(shared_dir / "data" / "faces", "val")[:1]
    (large,), (small,) = (DegradedFaces(face, 1, size).cases(probes=False) for size in (512, 64))
    for name in ("given", "truth"):
        wanted = getattr(large, name).reshape(64, 8, 64, 8, 3).mean(axis=(1, 3))
        assert np.abs(getattr(small, name) - wanted).max() <= 1
    assert small.truth is not None and small.points is not None and large.points is not None
    assert np.allclose((small.points + 0.5) * 8, large.points + 0.5)
    scores = judge([small.given] * 2, [small.truth] * 2, [small.points] * 2)
    assert set(USUAL) - set(scores) == {"niqe"}  # 64 px have none


def test_networks_are_told_with_their_files(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of another file under the same name are another measure's: records are not taken for it."""
    measures: tuple[Measure, ...] = ("perceptual", "identity", "kid", "niqe", "lmd")
    one = Judge("squeezenet", "mobilefacenet", CPU, measures=measures).by
    monkeypatch.setattr("trainer.judge.metrics.sha256_of", lambda path: "0" * 64)
    other = Judge("squeezenet", "mobilefacenet", CPU, measures=measures).by
    assert {*one} == {*other} == {*measures} and not {*one.values()} & {*other.values()}


def test_psnr_by_hand(judge: Judge) -> None:
    truth = np.random.default_rng(0).integers(20, 200, (512, 512, 3), dtype=np.uint8)
    points = [np.array([[193.0, 240], [319, 240], [257, 314], [201, 371], [313, 371]])] * 2
    scores = judge([truth + np.uint8(10)] * 2, [truth] * 2, points)
    assert scores["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)


def test_metrics_that_a_loss_optimised_are_labelled() -> None:
    trained = {"l1_weight": 8.0, "fm_weight": 0.02, "perceptual": "vgg19", "fp_weight": 10.0, "identity": "mobilefacenet"}
    assert optimised_for(trained, "squeezenet", "mobilefacenet") == {"psnr", "identity"}
    assert optimised_for(trained, "vgg19", "arcface") == {"psnr", "perceptual"}
    assert optimised_for({"energy_weight": 2.0, "unit_weight": 1.5, "perceptual": "vgg19"}, "vgg19", "arcface") == {
        "sharpness",
        "perceptual",
    }
    assert optimised_for({}, "vgg19", "arcface") == set()


def test_evaluate_prints_a_table_and_a_grid(
    shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.judge.evaluate.DRAWS", 1)
    data = str(shared_dir / "data" / "faces")
    model = tmp_path / "model.safetensors"
    training = {"config": {"fp_weight": 10.0, "identity": "mobilefacenet"}}
    save_model(PFR(PFRConfig(size=16, narrow=0.125)), model, provenance=training, licence="test")
    grid = tmp_path / "grid.png"
    assert main(["evaluate", str(model), data, "--limit", "2", "--ablate", "--grid", str(grid)]) == 0
    table = capsys.readouterr().out
    for row in ("degraded input", "non-local means", "model", "MMRB zeroed", "decoder's skips zeroed", "truth"):
        assert f"| {row} |" in table
    assert main(["evaluate", str(model), data, "--limit", "2", "--no-denoiser"]) == 0
    assert "non-local means" not in (again := capsys.readouterr().out) and "| degraded input |" in again
    assert "| identity ↑ * |" in table and "optimised for" in table and "| perceptual ↓ |" in table
    assert Image.open(grid).size == (3 * 512, 2 * 512)


SMALL: dict[str, Any] = {
    "network": "pfr-256-lite",
    "size": 32,
    "batch": 2,
    "stddev_group": 0,
    "local_channels": 4,
    "freeze_d": 2,
    "perceptual": "squeezenet",
    "identity": "mobilefacenet",
    "device": "cpu",
    "precision": "fp32",
    "workers": 0,
    "validate_faces": 2,
    "iterations": 2,
}


def test_the_full_objective_is_alive_and_the_best_is_kept(shared_dir: Path, tmp_path: Path) -> None:
    config = RestoreConfig(
        data=str(shared_dir / "data" / "faces"), out=str(tmp_path / "run"), validate_every=1, image_every=2, log_every=1, **SMALL
    )
    train(config)
    first = (tmp_path / "run" / "log.jsonl").read_text().splitlines()[0]
    for term in ("l1", "pyramid", "global", "local", "fm", "fp"):
        assert f'"G/{term}"' in first
    best = read_checkpoint(tmp_path / "run" / "best.safetensors").provenance
    # Judged at the network's size, or 64 px if that is smaller; NIQE says nothing there.
    assert best["best_by"] == "perceptual" and set(best["scores"]) == {
        "psnr",
        "ssim",
        "sharpness",
        "perceptual",
        "identity",
        "kid",
    }
    grids = {path.name.split("-")[1]: Image.open(path).size for path in (tmp_path / "run" / "grids").glob("000000002-*")}
    assert set(grids) == {"faces.png", "left_eye.png", "right_eye.png", "mouth.png"}
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_the_prior_is_validated_without_networks_it_has_no_use_for(shared_dir: Path, tmp_path: Path) -> None:
    options = {name: SMALL[name] for name in ("network", "batch", "stddev_group", "device", "precision", "workers")}
    config = PriorConfig(data=str(shared_dir / "data" / "faces"), size=64, validate_faces=4, **options)
    validation = Validation(config, build(config), [])
    assert validation.judge.perceptual is None and validation.judge.identity is None
    assert {face.shape for face in validation.real} == {(64, 64, 3)}
    scores = validation(build(config))
    assert set(scores) == {"kid"} and validation.rank(scores) == -scores["kid"]
    with pytest.raises(InputError, match="best_by niqe cannot be computed here"):
        Validation(dataclasses.replace(config, best_by="niqe"), build(config), [])


@pytest.mark.parametrize("kind", [PriorConfig, RestoreConfig])
def test_a_held_out_face_is_read_once(kind: type[FaceConfig], shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lie on a server."""
    read, seen = Stored.read, list[Stored]()

    def seen_read(stored: Stored) -> bytes:
        seen.append(stored)
        return read(stored)

    monkeypatch.setattr(Stored, "read", seen_read)
    known = {field.name for field in dataclasses.fields(kind)}
    config = kind(data=str(shared_dir / "data" / "faces"), **{name: value for name, value in SMALL.items() if name in known})
    validation = Validation(config, build(config), [])
    assert len(seen) == len(set(seen)) == len(validation.real) + len(validation.cases) == config.validate_faces


def test_held_out_faces_that_cannot_be_read_are_skipped(
    shared_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, face in enumerate(list_faces(shared_dir / "data" / "faces", "val")[:3]):
        shutil.copy(face.stored.place, tmp_path / f"{number}.webp")
    (tmp_path / "index.jsonl").write_text("".join(f'{{"file": "{number}.webp", "split": "val"}}\n' for number in range(3)))
    options = {name: SMALL[name] for name in ("network", "batch", "stddev_group", "device", "precision", "workers")}
    config = PriorConfig(data=str(tmp_path), size=64, **options)
    stage = build(config)
    (tmp_path / "1.webp").write_bytes(b"no picture")
    assert len(Validation(config, stage, []).real) == 2
    assert "1.webp: cannot be read" in caplog.text and "without 1 of 3 held-out faces" in caplog.text
    for number in (0, 2):
        (tmp_path / f"{number}.webp").unlink()
    with pytest.raises(InputError, match=r"none of 3 held-out faces can be read.*--validate-every 0"):
        Validation(config, stage, [])


def test_every_term_of_the_objective_moves_the_generator(shared_dir: Path, tmp_path: Path) -> None:
    data = str(shared_dir / "data" / "faces")
    weights = ("l1_weight", "pyramid_weight", "global_weight", "local_weight", "fm_weight", "fp_weight")
    for name in weights:
        only: dict[str, Any] = {other: 0.0 for other in weights if other != name}
        if name != "l1_weight":
            only["l1_weight"] = 0.0
        run = Run(dataclasses.replace(RestoreConfig(data=data, **SMALL), **only))
        run.gradients(run.stage.phases[0], [next(run.batches)])
        gradients = [p.grad for p in run.stage.generator.parameters() if p.grad is not None]
        assert max(g.abs().max() for g in gradients) > 0 and all(g.isfinite().all() for g in gradients), name


def test_published_weights_of_the_right_shape_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG19 and ArcFace are not here: files of random numbers in their layout stand in for them."""
    from facexlib.recognition.arcface_arch import Backbone

    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(tmp_path))
    net = vgg19()
    state = {name: value.half() for name, value in net.state_dict().items() if name.startswith("features.")}
    for name, content in (("vgg19", state), ("arcface", Backbone(50, 0.6, "ir_se").state_dict())):
        path = tmp_path / REGISTRY[name].file
        torch.save(content, path)
        data = path.read_bytes()
        published: dict[str, Any] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        monkeypatch.setitem(REGISTRY, name, dataclasses.replace(REGISTRY[name], **published))
    shapes = [tuple(f.shape[1:]) for f in PerceptualNetwork("vgg19")(torch.zeros(1, 3, 32, 32))]
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    points = torch.tensor([[[12.0, 15], [20, 15], [16, 20], [12, 23], [20, 23]]])
    embedding = IdentityNetwork("arcface")(torch.rand(1, 3, 32, 32), points)
    assert embedding.shape == (1, 512) and embedding.norm().item() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(WeightsError, match=r"squeezenet1_0_features_fp16\.safetensors: not found"):
        PerceptualNetwork("squeezenet")


def test_training_runs_without_facexlib(shared_dir: Path, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["facexlib"] = None  # an import raises ImportError
from trainer.cli import main
sys.exit(main(sys.argv[1:]))
"""
    options = {**SMALL, "data": shared_dir / "data" / "faces", "out": tmp_path / "run", "validate-every": 2, "validate-faces": 2}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run([sys.executable, "-c", code, "restore", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best.safetensors").exists()
