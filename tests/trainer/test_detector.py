"""Training of the embedded detector: labels that are where the faces are, the loss, a resumed run, the judging."""

from __future__ import annotations

import csv
import math
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core import Face
from pfr_core.errors import InputError, WeightsError
from pfr_core.faces.detect import Detector
from pfr_core.faces.face import MIRRORED
from pfr_core.faces.retinaface import RetinaFace, anchors, decode, describe, read_network
from pfr_core.models.download import obtain
from trainer.cli import main
from trainer.data.detector import pictures
from trainer.data.detector.dataset import PictureDataset
from trainer.data.detector.photographs import Material, Picture, load_material
from trainer.data.detector.pictures import composite, piece
from trainer.data.detector.split import is_test
from trainer.data.detector.spoil import spoil
from trainer.data.detector.targets import MATCH_IOU, label
from trainer.data.loader import batches
from trainer.judge import detector as judging
from trainer.judge import turned
from trainer.judge.crops import movements
from trainer.judge.turned import look_turned
from trainer.run.config import DetectorConfig, load_config
from trainer.run.loop import train
from trainer.stages import build
from trainer.stages.detector import BEND, BOX_WEIGHT, Targets, enlarge_kernels, multibox_loss

pytestmark = pytest.mark.slow

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
POINTS = np.array([[96, 120], [160, 120], [128, 155], [100, 190], [156, 190]], np.float32)
BOX = np.array([70, 70, 186, 220], np.float32)


def face() -> Picture:
    """Return a gray head whose eyes, nose and corners of the mouth are dots of five colours."""
    image = np.full((256, 256, 3), 90, np.uint8)
    cv2.ellipse(image, (128, 145), (58, 75), 0, 0, 360, (140, 140, 140), -1)
    for (x, y), colour in zip(POINTS.astype(int).tolist(), COLOURS, strict=True):
        cv2.circle(image, (x, y), 9, colour, -1)
    levels = [image, *(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for side in (128, 64, 32))]
    return Picture([np.asarray(level) for level in levels], BOX[None], POINTS[None])


def material() -> Material:
    rng = np.random.default_rng(0)
    texture = rng.integers(100, 120, (120, 200, 3), dtype=np.uint8)
    nothing = Picture([texture], np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32))
    return Material([face()], [face()], [face()], [nothing], {})


# --- data ------------------------------------------------------------------------------------------------------------------


def test_names_that_are_no_utf_8_are_in_one_half_too() -> None:
    assert len({is_test(f"\udce4{number}.jpg") for number in range(20)}) == 2


def test_the_test_half_is_fixed(shared_dir: Path) -> None:
    """By the file's name alone; with a crowd, a gray and an old photograph in it."""
    assert is_test("a/dlib__faces__bald_guys.jpg") and is_test(Path("elsewhere/dlib__faces__bald_guys.jpg"))
    rows = list(csv.DictReader((shared_dir / "data" / "wild" / "index.csv").open()))
    test = [row for row in rows if is_test(row["file"])]
    assert 0.4 < len(test) / len(rows) < 0.6
    assert max(int(row["faces_found"]) for row in test) > 20
    for kind in ("gray", "old/"):
        assert any(kind in row["file"] for row in test) and any(kind in row["file"] for row in rows if row not in test)


def test_labels_of_composites_are_where_the_dots_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "spoil", lambda image, rng: image)
    seen = looked = mirrored = 0
    for seed in range(120):
        sample = composite(material(), 256, np.random.default_rng(seed))
        assert sample.exact and sample.image.shape == (256, 256, 3) and sample.image.dtype == np.uint8
        for box, points in zip(sample.boxes, sample.points, strict=True):
            if box[2] - box[0] < 40:
                continue
            assert (points > box[:2]).all() and (points < box[2:]).all()
            for number, (x, y) in enumerate(points.round().astype(int)):
                if 2 <= x < 254 and 2 <= y < 254:
                    looked += 1
                    colour = sample.image[y, x].astype(int)
                    swapped = COLOURS[MIRRORED[number]]
                    mirrored += np.abs(colour - swapped).max() < 60
                    seen += min(np.abs(colour - COLOURS[number]).max(), np.abs(colour - swapped).max()) < 60
    # Where another face or a bar lies over a point its dot is not to be seen. Half of the faces are mirrored, and their
    # left eye is the picture's right one; the nose is its own mirror image.
    assert looked > 300 and seen > 0.65 * looked
    assert 0.4 * seen < mirrored < 0.8 * seen


def test_a_mask_covers_nose_and_mouth_and_no_eye() -> None:
    for seed in range(20):
        bare = face().levels[0]
        masked = bare.copy()
        pictures.paint_mask(masked, POINTS, np.random.default_rng(seed))
        x, y = POINTS.astype(int).T
        assert (masked[y, x] != bare[y, x]).any(axis=1).tolist() == [False, False, True, True, True]


def test_pieces_show_the_photograph_and_carry_no_labels() -> None:
    for seed in range(20):
        sample = piece(face(), 96, np.random.default_rng(seed))
        assert not sample.exact and sample.image.shape == (96, 96, 3) and not len(sample.boxes)


def test_spoiling_keeps_shape_and_depth() -> None:
    image = face().levels[1]
    results = [spoil(image.copy(), np.random.default_rng(seed)) for seed in range(60)]
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    assert sum(not np.array_equal(result, image) for result in results) > 40
    assert any((result[..., 0] == result[..., 2]).all() for result in results), "some are gray"


# --- targets and loss --------------------------------------------------------------------------------------------------------


def test_every_face_gets_anchors_that_say_where_it_is() -> None:
    boxes = np.array([[20, 30, 33, 47], [80, 60, 230, 250]], np.float32)
    points = np.stack([box[:2] + (box[2:] - box[:2]) * np.linspace(0.2, 0.8, 5)[:, None] for box in boxes]).astype(np.float32)
    doubtful = np.array([[100, 0, 140, 45]], np.float32)
    score, offsets, coded = label(256, boxes, points, doubtful)
    faces = score == 1
    found, five = decode(offsets[faces], coded[faces], anchors(256, 256)[faces])
    for box, expected in zip(boxes, points, strict=True):
        own = np.abs(found - box).max(axis=1) < 0.01
        assert own.any() and five[own] == pytest.approx(np.broadcast_to(expected.ravel(), five[own].shape), abs=0.01)
    assert faces.sum() < 100 and 0 < (score == -1).sum() < 100 and (score == 0).sum() > 2000
    assert not label(256, boxes[:0], points[:0], doubtful[:0])[0].any() and 0 < MATCH_IOU < 1


def test_the_loss_by_hand() -> None:
    targets = Targets(torch.tensor([[1.0, 0.0, 0.0, -1.0]]), torch.zeros(1, 4, 4), torch.zeros(1, 4, 10))
    logits = torch.zeros(1, 4, 2)
    logits[0, 3, 1] = 50.0  # doubtful: whatever is said there does not count
    output = torch.ones(1, 4, 4), logits, torch.full((1, 4, 10), 2.0)
    losses = multibox_loss(output, targets, negatives_per_face=1, points_weight=0.5)
    assert losses["score"].item() == pytest.approx(3 * math.log(2), rel=1e-5)
    assert losses["box"].item() == pytest.approx(4 * (1 - BEND / 2))
    assert losses["points"].item() == pytest.approx(10 * (2 - BEND / 2))
    assert losses["loss"].item() == pytest.approx(
        losses["score"].item() + BOX_WEIGHT * losses["box"].item() + 0.5 * losses["points"].item()
    )
    logits[0, :, 1] = torch.tensor([50.0, -50.0, -50.0, 50.0])
    right = multibox_loss((targets.offsets, logits, targets.points), targets, negatives_per_face=1, points_weight=1)
    assert right["loss"].item() == pytest.approx(0, abs=1e-6)


def test_only_the_worst_of_the_background_counts() -> None:
    score = torch.zeros(1, 1000)
    score[0, 0] = 1
    logits = torch.zeros(1, 1000, 2)
    logits[0, :, 0] = 50.0  # certain that nothing is a face
    logits[0, 1:100, 0] = 0.0
    rest = (torch.zeros(1, 1000, 4), torch.zeros(1, 1000, 10))
    losses = multibox_loss((rest[0], logits, rest[1]), Targets(score, *rest), negatives_per_face=30, points_weight=1)
    assert losses["score"].item() == pytest.approx(50 + 30 * math.log(2), rel=1e-4)


def test_a_picture_is_a_function_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the step it begins with nor the number of processes changes one, and what its anchors should say stays with it."""
    monkeypatch.setattr("trainer.data.detector.dataset.load_material", lambda *_: material())
    settings = {"wild": "wild", "composite_share": 0.7, "side": 64, "iterations": 3}
    one, two = (DetectorConfig(**settings, pictures=count) for count in (8, 4))  # type: ignore[arg-type]
    data, shared = (PictureDataset(config, teacher=None) for config in (one, two))  # type: ignore[arg-type]
    whole = next(batches(data, one, 1, 0, 1))
    halves = [next(batches(shared, two, 1, rank, 2)) for rank in (0, 1)]
    assert whole["counter"].tolist() == list(range(8, 16)) and len({image.numpy().tobytes() for image in whole["image"]}) == 8
    assert 0 < whole["exact"].sum() < 8
    for name, values in whole.items():
        for rank, half in enumerate(halves):
            assert torch.equal(half[name], values[rank::2]), name
    for number in range(8):
        single = data[8 + number]
        assert all(torch.equal(single[name], whole[name][number]) for name in whole)


def test_no_photograph_for_training_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of ``--wild`` is for testing, of a small folder perhaps all."""
    nothing = replace(material(), photos=[], real_faces=[])
    monkeypatch.setattr("trainer.data.detector.dataset.load_material", lambda *_: nothing)
    with pytest.raises(InputError, match=r"wild: all its photographs are kept for testing.*--composite-share 1"):
        PictureDataset(DetectorConfig(wild="wild", composite_share=0.7), teacher=None)  # type: ignore[arg-type]
    assert len(PictureDataset(DetectorConfig(composite_share=1.0), teacher=None)[0]) == 6  # type: ignore[arg-type]


# --- runs --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, one for training and one for testing, and two aligned faces."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "wild").mkdir()
    for name in ("dlib__faces__2008_001009.jpg", "dlib__faces__2009_004587.jpg"):
        shutil.copy(shared_dir / "data" / "wild" / "whole" / name, folder / "wild")
    with (shared_dir / "data" / "faces" / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"][:2]
    (folder / "faces" / "train").mkdir(parents=True)
    with (folder / "faces" / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(shared_dir / "data" / "faces" / "train" / row["file"], folder / "faces" / "train")
    return folder


@pytest.fixture
def weights(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the published detectors on the search path."""
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(shared_dir / "weights"))


def config(data: Path, out: Path, **changes: object) -> DetectorConfig:
    settings = DetectorConfig(
        faces=str(data / "faces"), wild=str(data / "wild"), out=str(out), iterations=4, pictures=2, checkpoint_every=2
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def test_photographs_for_testing_are_not_trained_on(shared_dir: Path, data: Path) -> None:
    weights = shared_dir / "weights" / "detection_mobilenet0.25_Final.pth"
    teacher = RetinaFace.load("mobile0.25", weights, torch.device("cpu"))
    found = load_material(str(data / "faces"), str(data / "wild"), (), (), teacher)
    assert len(found.photos) == 1 and found.facts["photographs"] == 1
    listed = found.facts["listed"]
    assert isinstance(listed, dict) and (listed["aligned_faces"], listed["photographs"], listed["negatives"]) == (2, 1, 0)
    assert found.photos[0].levels[0].shape == np.array(Image.open(data / "wild" / "dlib__faces__2008_001009.jpg")).shape
    for aligned in found.faces:
        left_eye, right_eye, nose, left_mouth, right_mouth = aligned.points[0]
        assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[1] > nose[1] < right_mouth[1]
        assert (aligned.points[0] > aligned.boxes[0, :2]).all() and (aligned.points[0] < aligned.boxes[0, 2:]).all()


def test_a_run_is_resumed_where_it_lies_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DetectorConfig(faces="faces", wild="wild", out="elsewhere").save(tmp_path / "config.json")
    asked: list[tuple[str, bool]] = []

    def remember(config: DetectorConfig, *, resume: bool = False) -> Path:
        asked.append((config.out, resume))
        return Path(config.out)

    monkeypatch.setattr("trainer.run.loop.train", remember)
    assert main(["detector", "--resume", "--out", str(tmp_path)]) == 0 and asked == [(str(tmp_path), True)]


@pytest.mark.parametrize("extra", [["--composite-share", "1"], ["--seed", "0"], ["--side", "64"]])
def test_a_resumed_run_takes_no_other_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]) -> None:
    DetectorConfig(wild="wild", out=str(tmp_path)).save(tmp_path / "config.json")
    assert main(["detector", "--resume", "--out", str(tmp_path), *extra]) == 1
    told = capsys.readouterr().err
    assert f"so {extra[0]} cannot be given; only --faces, --wild, --photos, --negatives, --device, --workers, " in told
    assert "--largest-face, --score-shift, --iterations, --learning-rate can." in told


def test_the_end_of_a_finished_run_may_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = DetectorConfig(wild="wild", out=str(tmp_path), iterations=7)
    before.save(tmp_path / "config.json")
    configs: list[DetectorConfig] = []

    def remember(config: DetectorConfig, *, resume: bool) -> Path:
        configs.append(config)
        return tmp_path

    monkeypatch.setattr("trainer.run.loop.train", remember)
    moved = ["--wild", "elsewhere", "--score-shift", "1.5", "--device", "cpu"]
    assert main(["detector", "--resume", "--out", str(tmp_path), *moved]) == 0
    assert configs == [replace(before, wild="elsewhere", score_shift=1.5)]


@pytest.mark.usefixtures("weights")
def test_an_interrupted_run_resumes_as_if_it_had_not_stopped(data: Path, tmp_path: Path) -> None:
    whole = train(config(data, tmp_path / "whole"))
    train(config(data, tmp_path / "parts", iterations=2, warmup=200))
    resumed = train(config(data, tmp_path / "parts"), resume=True)
    begun = train(config(data, tmp_path / "begun"), resume=True)  # stopped before its first checkpoint
    expected, found, again = (RetinaFace.load("mobile0.25", path, torch.device("cpu")) for path in (whole, resumed, begun))
    for name, value in expected.network.state_dict().items():
        assert torch.equal(value, found.network.state_dict()[name]), name
        assert torch.equal(value, again.network.state_dict()[name]), name
    with pytest.raises(InputError, match="--resume"):
        train(config(data, tmp_path / "whole"))
    # A finished run that is resumed only exports again, with another shift of the scores if that was changed.
    path = tmp_path / "whole" / "config.json"
    path.write_text(path.read_text().replace('"score_shift": 0.0', '"score_shift": 1.5'))
    train(load_config(path), resume=True)
    shifted = RetinaFace.load("mobile0.25", whole, torch.device("cpu"))
    image = torch.rand(1, 3, 64, 96) * 255 - 120
    with torch.inference_mode():
        before, after = (each.network(image)[1][0, :, 1].logit() for each in (expected, shifted))
    assert after - before == pytest.approx(torch.full_like(before, 1.5), abs=0.02)
    Detector("builtin", weights=whole).detect(np.zeros((70, 70, 3), np.uint8))
    # A new run that starts from this one's weights; a step as small as this does not move them.
    settings = {"iterations": 1, "learning_rate": 1e-9, "largest_face": 70, "init_from": str(resumed)}
    path = train(config(data, tmp_path / "next", **settings))
    continued, about = RetinaFace.load("mobile0.25", path, torch.device("cpu")), describe(path)
    with torch.inference_mode():
        assert continued.network(image)[1] == pytest.approx(found.network(image)[1], abs=0.02)
    assert about["largest_face"] == 70 and about["provenance"]["earlier_run"]["iterations"] == 4


def test_a_run_starts_from_kernels_that_a_step_does_not_turn_to_noise() -> None:
    """Those of the first layer are tiny in the file; the network computes the same with larger ones."""
    shipped, _ = read_network("mobile0.25", obtain("builtin"), torch.device("cpu"))
    enlarged = deepcopy(shipped)
    enlarge_kernels(enlarged)
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 255 - 110
    with torch.no_grad():
        for before, after in zip(shipped(image), enlarged(image), strict=True):
            assert after == pytest.approx(before, abs=1e-4)
    started = build(DetectorConfig(wild="wild", init_from=str(obtain("builtin")))).generator
    kernels = [next(network.parameters()).square().mean().sqrt().item() for network in (shipped, enlarged, started)]
    assert kernels[0] < 0.005 and kernels[1:] == pytest.approx([1 / 9, 1 / 9], rel=1e-3), "as random ones of 3 x 3 x 3"


def test_bad_settings_and_folders_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_dir: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "index.csv").write_text("split,file\ntrain,a.png\n")
    run = ["detector", "--out", str(tmp_path / "run")]
    cases = {
        "--out": ["detector", "--composite-share", "1"],
        "--photos": [*run],
        "iterations": [*run, "--iterations", "0"],
        "holds no run": [*run, "--resume"],
        "no train faces": [*run, "--composite-share", "1", "--faces", str(tmp_path / "empty")],
        "no landmarks": [*run, "--composite-share", "1", "--faces", str(tmp_path)],
        "no photographs": ["evaluate-detector", str(tmp_path / "empty")],
        "neither a file": ["evaluate-detector", str(tmp_path), "--detectors", "mine"],
        "threshold": ["evaluate-detector", str(tmp_path), "--threshold", "nan"],
        "each a table of its own": ["evaluate-detector", str(tmp_path), "--turned", "--points"],
        "--faces is for": ["evaluate-detector", str(tmp_path), "--faces", str(tmp_path)],
        "--everything is for": ["evaluate-detector", str(tmp_path), "--masked", "--everything", "--faces", str(tmp_path)],
        "detection_size": ["evaluate-detector", str(tmp_path), "--sizes", "640", "0"],
    }
    for expected, arguments in cases.items():
        assert main(arguments) == 1
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(WeightsError, match="none: no such file"):
        build(DetectorConfig(composite_share=1.0, init_from=str(tmp_path / "none")))


# --- judging -----------------------------------------------------------------------------------------------------------------


def head(left: float, width: float, score: float = 0.9) -> Face:
    points = tuple((left + width * x, 10 + width * y) for x, y in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)))
    return Face((left, 10, left + width, 10 + width), score, points)  # type: ignore[arg-type]


class Scripted(Detector):
    """Finds what it was told to."""

    def __init__(self, faces: list[list[Face]]) -> None:
        super().__init__("builtin")
        self.answers = iter(faces)

    def detect(self, image: object, **_: object) -> list[Face]:
        return next(self.answers)


def test_judging_by_hand() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    photos = [
        judging.JudgedPhoto(Path("a"), image, [head(0, 60), head(100, 60), head(200, 30)]),
        judging.JudgedPhoto(Path("b"), image, []),
    ]
    found = [[head(2, 60, 0.95), head(0, 62, 0.9), head(300, 50, 0.85), head(200, 30, 0.7)], [head(5, 30, 0.6)]]
    result = judging.judge(Scripted(found), photos, threshold=0.5, size=1280)
    assert result.scores == [0.95, None, 0.7], "the second finding of the first face is no second face"
    assert [(number, face.score) for number, face in result.extras] == [(0, 0.9), (0, 0.85), (1, 0.6)]
    assert result.points[0] == pytest.approx(2 / 24) and result.points[1] == pytest.approx(0)
    text = judging.table([("x", result)], photos)
    assert "0.500 (1 of 2;" in text and "1.000 (1 of 1;" in text and "| 3 (30.0 in 20) |" in text
    reach, precision = judging.precision_recall(result, 3)
    assert reach == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert precision == pytest.approx([1, 1 / 2, 1 / 3, 2 / 4, 2 / 5])
    assert judging.wilson(70, 70) == pytest.approx((0.948, 1.0), abs=1e-3)
    assert judging.wilson(15, 16) == pytest.approx((0.717, 0.989), abs=1e-3)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_face_that_is_found_the_wrong_way_up_is_told_from_one_that_is_not(turns: int) -> None:
    image, asked = np.zeros((200, 400, 3), np.uint8), [head(0, 60), head(100, 60), head(200, 60)]
    size = (200, 400) if turns % 2 else (400, 200)  # of the photograph that was turned
    seen = [face.unturned(-turns % 4, *size) for face in asked]
    assert seen[1].unturned(turns, 400, 200) == asked[1]
    middle = np.array(seen[1].center)
    upside_down = Face(seen[1].box, 0.8, tuple(map(tuple, 2 * middle - seen[1].points)))  # type: ignore[arg-type]
    beside = Face((390, 190, 399, 199) if not turns % 2 else (190, 390, 199, 399), 0.8, head(0, 9).points)
    result = look_turned(Scripted([[seen[0], upside_down, beside]]), [(image, asked)], turns, threshold=0.5, size=1280)
    assert result.right == [True, False, False] and result.wrong == [False, True, False]
    assert result.off[0] == pytest.approx(0) and result.off[1] == pytest.approx(180) and result.off[2] is None
    assert [face.score for face in result.extras] == [0.8]


@pytest.mark.usefixtures("weights")
def test_the_command_judges_a_detector(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    files = {name: tmp_path / "new" / name for name in ("curve.png", "crops.png")}
    command = ["evaluate-detector", str(data / "wild"), "--detectors", "retinaface_mobile0.25", "yunet"]
    outputs = ["--curve", str(files["curve.png"]), "--crops", str(files["crops.png"]), "--extras", str(tmp_path / "extras")]
    assert main([*command, *outputs]) == 0
    text = capsys.readouterr().out
    assert "| 1 photographs |" in text and "| retinaface_mobile0.25 | 1.000 (2 of 2;" in text and "| yunet |" in text
    assert all(Image.open(path).size for path in files.values())
    assert main([*command, "--everything", "--sizes", "320", "640"]) == 0
    assert "| 640 |" in capsys.readouterr().out
    assert main([*command, "--turned"]) == 0
    text = capsys.readouterr().out
    assert "| turned by 270° |" in text and "| yunet | 1.000 (" in text
    assert main([*command[:-1], "--points"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    off = [float(row.split("|")[2].split("%")[0]) for row in rows]
    assert off[0] < off[2] < 8 and off[0] < off[1] < 8 and "several looks" in rows[2], "looks of one network differ, too"
    calm = [float(row.split("|")[3].split("%")[0]) for row in rows]
    assert 0 < calm[2] < calm[0], "what four looks agree on is nearer to what many do than one look is"


def test_one_overlap_says_which_faces_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In crops that are compared and in crops that are shown, as in the tables."""
    image, found = face().levels[0], Face.of(BOX.tolist(), 0.9, POINTS)
    detector, photos = Mock(), [judging.JudgedPhoto(Path("a.png"), image, [found])]
    detector.detect.return_value = [found]
    assert movements(detector, [image], threshold=0.5, size=256)["shifted"]
    judging.write_crops(detector, photos, tmp_path / "alike.png", threshold=0.5, size=256)
    monkeypatch.setattr(turned, "IOU", 1.01)
    assert not any(movements(detector, [image], threshold=0.5, size=256).values())
    judging.write_crops(detector, photos, tmp_path / "others.png", threshold=0.5, size=256)
    assert [path.name for path in tmp_path.iterdir()] == ["alike.png"]
