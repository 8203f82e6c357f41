"""Training of the second look: crops whose points are where the face is, the loss, a resumed run."""

from __future__ import annotations

import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pfr_core.errors import InputError
from pfr_core.faces.face import MIRRORED
from pfr_core.faces.points import EYES, FRAME, SIDE, describe
from pfr_core.faces.retinaface import RetinaFace
from trainer.cli import main
from trainer.data.points import dataset
from trainer.data.points.dataset import CropDataset, make_crop
from trainer.data.points.material import KnownFace, agreement, load_faces
from trainer.run.config import PointsConfig
from trainer.run.loop import train
from trainer.stages.points import NARROWEST, SEEN_WEIGHT, SURE_WEIGHT, points_loss

pytestmark = pytest.mark.slow

SHADES = (60, 110, 160, 205, 250)
POINTS = np.array([[48, 54], [80, 54], [64, 72], [50, 90], [78, 90]], np.float32)


def known() -> KnownFace:
    """Return a black picture in which the five points are dots of five shades of gray."""
    image = np.zeros((128, 128, 3), np.uint8)
    for (x, y), shade in zip(POINTS.astype(int).tolist(), SHADES, strict=True):
        cv2.circle(image, (x, y), 5, (shade,) * 3, -1)
    return KnownFace(image, POINTS)


def test_points_of_crops_are_where_the_dots_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "spoil", lambda image, rng: image)
    monkeypatch.setattr(dataset, "_hide", lambda image, *_: image)
    looked = right = mirrored = upright = 0
    for seed in range(300):
        gray, points, seen = make_crop(known(), np.random.default_rng(seed))
        assert gray.shape == (SIDE, SIDE) and gray.dtype == np.uint8 and points.shape == (5, 2)
        upright += seen
        if not seen or (points < 2).any() or (points > SIDE - 3).any():
            continue
        assert points[0, 0] < points[1, 0] and points[:2, 1].mean() < points[3:, 1].mean(), "upright, or nearly"
        assert np.abs(points - FRAME).max() < 1.5 * EYES
        looked += 1
        shades = gray[tuple(points.round().astype(int).T[::-1])].astype(int)
        for order in (range(5), MIRRORED):
            alike = np.abs(shades - np.take(SHADES, list(order))).max() < 40  # the small ones are blurred
            right += alike
            mirrored += alike and order is MIRRORED
    assert 0.7 < upright / 300 < 0.95 and looked > 200
    assert right > 0.6 * looked and 0.35 * right < mirrored < 0.65 * right


def test_the_loss_by_hand() -> None:
    points = torch.zeros(2, 5, 2)
    spread = torch.zeros(2, 5)
    truth, seen = torch.tensor([3.0, 4.0]).expand(2, 5, 2), torch.tensor([True, False])
    losses = points_loss((points, spread, torch.zeros(2)), truth, seen)
    assert losses["distance"].item() == pytest.approx(5 / EYES) == losses["sure"].item()
    assert losses["seen"].item() == pytest.approx(math.log(2))
    assert losses["loss"].item() == pytest.approx((1 + SURE_WEIGHT) * 5 / EYES + SEEN_WEIGHT * math.log(2))
    right = points_loss((truth, spread - 10, torch.tensor([50.0, -50.0])), truth, seen)
    assert (
        right["distance"] == 0 and right["seen"].item() == pytest.approx(0) and right["sure"].item() == pytest.approx(NARROWEST)
    )
    nothing = points_loss((points, spread, torch.zeros(2)), truth, torch.tensor([False, False]))
    assert nothing["distance"] == 0 and nothing["sure"] == 0


def test_the_network_learns_how_far_it_is_off() -> None:
    """The likelihood is best where the expected error is the real one."""
    points, seen = torch.full((1, 5, 2), 0.1 * EYES / math.sqrt(2)), torch.tensor([True])
    spread = torch.zeros(1, 5, requires_grad=True)
    optimiser = torch.optim.SGD([spread], lr=5.0)
    for _ in range(200):
        optimiser.zero_grad()
        points_loss((points, spread, torch.zeros(1)), torch.zeros(1, 5, 2), seen)["loss"].backward()
        optimiser.step()
    assert spread.detach().exp() == pytest.approx(torch.full((1, 5), 0.1), rel=0.05)


# --- with the published RetinaFace ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, one for training and one for testing, and aligned faces, three for training and one for testing."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "wild").mkdir()
    for name in ("dlib__faces__2008_001009.jpg", "dlib__faces__2009_004587.jpg"):
        shutil.copy(shared_dir / "data" / "wild" / "whole" / name, folder / "wild")
    with (shared_dir / "data" / "faces" / "index.csv").open(newline="") as file:
        real = [row for row in csv.DictReader(file) if row["kind"] == "real"]
    rows = [row for split, count in (("train", 3), ("val", 1)) for row in [row for row in real if row["split"] == split][:count]]
    for split in ("train", "val"):
        (folder / "faces" / split).mkdir(parents=True)
    with (folder / "faces" / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(shared_dir / "data" / "faces" / row["split"] / row["file"], folder / "faces" / row["split"])
    return folder


def config(data: Path, out: Path, **changes: object) -> PointsConfig:
    settings = PointsConfig(
        faces=str(data / "faces"), wild=str(data / "wild"), out=str(out), iterations=4, crops=4, checkpoint_every=2, most_faces=2
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def test_labels_are_the_middle_of_several_looks_and_kept(data: Path, shared_dir: Path, tmp_path: Path) -> None:
    teacher = RetinaFace.load("mobile0.25", shared_dir / "weights" / "detection_mobilenet0.25_Final.pth", torch.device("cpu"))
    labels = tmp_path / "labels.npz"
    found = load_faces(str(data / "faces"), "", str(labels), 2, teacher)
    assert len(found) == 2 == len(np.load(labels))
    for face in found:
        eyes = np.linalg.norm(face.points[0] - face.points[1])
        again = agreement(teacher, face.image, face.points)
        assert again is not None and np.abs(again - face.points).max() < 0.12 * eyes
    kept = load_faces(str(data / "faces"), "", str(labels), 2, teacher=None)  # type: ignore[arg-type]  # nothing is left to label
    assert all(np.array_equal(a.points, b.points) for a, b in zip(found, kept, strict=True))
    with pytest.raises(InputError, match="knows nothing of"):
        load_faces(str(data / "faces"), "", str(labels), 3, teacher=None)  # type: ignore[arg-type]
    (tmp_path / "half.npz").write_bytes(labels.read_bytes()[:200])
    with pytest.raises(InputError, match=r"half\.npz: cannot be read"):
        load_faces(str(data / "faces"), "", str(tmp_path / "half.npz"), 2, teacher=None)  # type: ignore[arg-type]
    # Of the photographs only the one for training; what lies around its faces comes with them.
    more = load_faces(str(data / "faces"), str(data / "wild"), str(labels), 2, teacher)[2:]
    assert len(more) == 2
    for face in more:
        assert (face.points > 0).all() and (face.points < face.image.shape[1::-1]).all()
    assert agreement(teacher, np.full((128, 128, 3), 128, np.uint8), POINTS) is None


def test_an_interrupted_run_resumes_as_if_it_had_not_stopped(
    data: Path, shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(shared_dir / "weights"))
    whole = train(config(data, tmp_path / "whole", image_every=4))
    train(config(data, tmp_path / "parts", iterations=2, warmup=100))
    resumed = train(config(data, tmp_path / "parts"), resume=True)
    assert whole.read_bytes()[-1000:] == resumed.read_bytes()[-1000:]
    about = describe(whole)
    assert about["provenance"]["stage"] == "points" and about["provenance"]["faces"] == 4
    detectors = ["--detectors", "builtin", "--second-look", str(whole)]
    assert main(["evaluate-detector", str(data / "wild"), *detectors, "--points", "--faces", str(data / "faces")]) == 0
    text = capsys.readouterr().out
    assert "| off the index |" in text
    assert "| builtin, own points |" in text and "| builtin, second look |" in text


def test_a_crop_is_a_function_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "load_faces", lambda *_: [known(), known()])
    monkeypatch.setattr(dataset, "listed", lambda *_: {})
    one, two = (CropDataset(PointsConfig(seed=seed), teacher=None) for seed in (0, 0))  # type: ignore[arg-type]
    other = CropDataset(PointsConfig(seed=1), teacher=None)  # type: ignore[arg-type]
    assert all(torch.equal(one[5][name], two[5][name]) for name in one[5])
    assert not torch.equal(one[5]["crop"], other[5]["crop"]) and not torch.equal(one[5]["crop"], one[6]["crop"])
