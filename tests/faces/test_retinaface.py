"""Our network, anchors and decoding against facexlib's own, and the file format of the embedded detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from torch import nn

from pfr_core.errors import CheckpointError, WeightsError
from pfr_core.faces.detections import Detections
from pfr_core.faces.retinaface import RetinaFace, anchors, decode, encode, save
from pfr_core.faces.retinaface_network import Backbone, RetinaFaceNetwork
from pfr_core.models.tensors import read_state_dict

CPU = torch.device("cpu")


@pytest.mark.parametrize("backbone", ["mobile0.25", "resnet50"])
def test_the_network_is_facexlib_s(backbone: Backbone) -> None:
    """The same names, and the same numbers, with weights and statistics at random."""
    facexlib = pytest.importorskip("facexlib.detection.retinaface")
    theirs = facexlib.RetinaFace(network_name=backbone, device=CPU)
    for name, tensor in theirs.state_dict().items():
        if "running_mean" in name:
            tensor.normal_(0, 0.1)
        elif "running_var" in name:
            tensor.uniform_(0.5, 2)
    ours, training = RetinaFaceNetwork(backbone).eval(), RetinaFaceNetwork(backbone, raw=True).eval()
    for network in (ours, training):
        network.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 3, 70, 97) * 255 - 120
    with torch.inference_mode():
        expected = theirs(image)
        for found, each in zip(ours(image), expected, strict=True):
            assert torch.equal(found, each)
        assert torch.allclose(training(image)[1].softmax(dim=-1), expected[1])


@pytest.mark.parametrize("shape", [(64, 64), (97, 300), (301, 65)])
def test_anchors_and_decoding_are_facexlib_s(shape: tuple[int, int]) -> None:
    pytest.importorskip("facexlib")
    from facexlib.detection.retinaface import generate_config
    from facexlib.detection.retinaface_utils import PriorBox, decode_landm
    from facexlib.detection.retinaface_utils import decode as facexlib_decode

    height, width = shape
    config = generate_config("mobile0.25")
    priors = PriorBox(config, image_size=shape).forward()
    ours = anchors(height, width)
    expected = priors.numpy() * (width, height, width, height)
    assert ours == pytest.approx(expected[:, :3], abs=1e-3)
    rng = np.random.default_rng(0)
    offsets, points = (rng.normal(size=(len(ours), count)).astype(np.float32) for count in (4, 10))
    boxes, xy = decode(offsets, points, ours)
    scale = np.array([width, height])
    reference = facexlib_decode(torch.from_numpy(offsets), priors, config["variance"]).numpy() * np.tile(scale, 2)
    assert boxes == pytest.approx(reference, abs=2e-3)
    reference = decode_landm(torch.from_numpy(points), priors, config["variance"]).numpy() * np.tile(scale, 5)
    assert xy == pytest.approx(reference, abs=2e-3)
    again = encode(boxes, xy, ours)
    assert again[0] == pytest.approx(offsets, abs=1e-3) and again[1] == pytest.approx(points, abs=1e-3)


def test_faces_are_those_of_facexlib_s_own_detect_faces(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "detection_mobilenet0.25_Final.pth"
    facexlib = pytest.importorskip("facexlib.detection.retinaface")
    detector, published = RetinaFace.load("mobile0.25", path, CPU), facexlib.RetinaFace("mobile0.25", device=CPU)
    published.load_state_dict({name.removeprefix("module."): value for name, value in read_state_dict(path).items()})
    photo = np.array(Image.open(shared_dir / "data" / "wild" / "whole" / "dlib__faces__2007_007763.jpg").convert("RGB"))
    bgr = np.ascontiguousarray(photo[:, :, ::-1])
    for threshold in (0.8, 0.02):
        with torch.inference_mode():
            expected = published.detect_faces(bgr, conf_threshold=threshold, nms_threshold=0.4)
        assert len(expected) >= 7
        found = detector.detect_faces(photo, threshold, 0.4)
        rows = np.concatenate([found.boxes, found.scores[:, None], found.points.reshape(-1, 10)], axis=1)
        assert rows == pytest.approx(expected, abs=2e-3)


def test_a_saved_network_computes_the_same(tmp_path: Path) -> None:
    """Also where a variance is beyond float16, as behind a first layer that sees 0 to 255."""
    torch.manual_seed(0)
    network = RetinaFaceNetwork("mobile0.25").eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
    network.get_parameter("body.stage1.0.0.weight").data *= 3000
    network.get_buffer("body.stage1.0.1.running_var").mul_(3000**2)
    path = tmp_path / "detector.safetensors"
    save(network, path, largest_face=99, provenance={"iterations": 1}, licence="test")
    loaded = RetinaFace.load("mobile0.25", path, CPU)
    assert loaded.largest_face == 99 and path.stat().st_size < 1_500_000
    image = torch.rand(1, 3, 64, 96) * 255 - 120
    with torch.inference_mode():
        for expected, found in zip(network(image), loaded.network(image), strict=True):
            assert found.float() == pytest.approx(expected, abs=0.02 * max(1.0, expected.std().item()))
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["licence"] == "test" and "iterations" in file.metadata()["provenance"]
    with pytest.raises(CheckpointError, match=r"detector\.pth: models are saved as \.safetensors"):
        save(network, tmp_path / "detector.pth", largest_face=99, provenance={}, licence="test")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    path = path.rename(tmp_path / "DETECTOR.SAFETENSORS")
    assert RetinaFace.load("mobile0.25", path, CPU).largest_face == 99


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"largest_face": "160"})
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        RetinaFace.load("mobile0.25", path, CPU)
    path.write_bytes(b"no safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        RetinaFace.load("mobile0.25", path, CPU)


def test_suppression_keeps_the_best() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], np.float32)
    found = Detections(boxes, np.array([0.6, 0.9, 0.7], np.float32), np.arange(30, dtype=np.float32).reshape(3, 5, 2))
    best = found.suppressed(0.4)
    assert best.boxes.tolist() == boxes[[1, 2]].tolist() and best.points.tolist() == found.points[[1, 2]].tolist()
    assert len(Detections.none().suppressed(0.4)) == 0


def test_suppression_is_that_of_torchvision() -> None:
    from torchvision.ops import nms

    rng = np.random.default_rng(0)
    for count in (1, 5, 60):
        corners = rng.uniform(0, 100, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(1, 60, (count, 2))], axis=1).astype(np.float32)
        found = Detections(boxes, rng.uniform(0.01, 1, count).astype(np.float32), np.zeros((count, 5, 2), np.float32))
        kept = nms(torch.from_numpy(found.boxes), torch.from_numpy(found.scores), 0.4).numpy()
        assert found.suppressed(0.4).boxes.tolist() == boxes[kept].tolist()


def test_detections_in_a_resized_picture() -> None:
    """The corner of the top-left pixel stays where it is; scores are untouched."""
    corner = Detections(*(np.array(part, np.float32) for part in ([[-0.5, -0.5, 9, 9]], [0.5], [[[-0.5, 3]] * 5])))
    twice = corner.rescaled(2, 3)
    assert twice.boxes.tolist() == [[-0.5, -0.5, 18.5, 28]] and twice.points[0, 0].tolist() == [-0.5, 10]
    assert twice.boxes.dtype == np.float32 and twice.scores is corner.scores
