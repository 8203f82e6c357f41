"""Bootstrap, differences and subgroups against known cases; measures of libraries against their definitions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import uniform_filter
from torch.nn.functional import relu

from pfr_core.faces.face import Face
from trainer.judge import libraries
from trainer.judge.landmarks import Landmarks
from trainer.judge.metrics import Judge, joined, kid
from trainer.judge.options import Measure
from trainer.judge.records import Record
from trainer.judge.statistics import difference, interval, worst_subgroup

CPU = torch.device("cpu")
metrics = pytest.importorskip("torchmetrics")


def records(method: str, scores: Mapping[str, list[float]], measure: Measure = "psnr", group: str = "") -> list[Record]:
    """Return a record for each draw of each face; a face belongs to the group of its first letter if ``group`` is given."""
    return [
        Record(method, f"{face}-{k}", face, "", face[0] if group else "", {measure: value}, {})
        for face, draws in scores.items()
        for k, value in enumerate(draws)
    ]


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    error = 1.96 * values.std() / 20
    assert interval(values) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.03)
    assert interval(values) == interval(values)
    assert interval(np.full(5, 1.5)) == (1.5, 1.5)


def test_faces_are_resampled_and_not_their_draws() -> None:
    rng = np.random.default_rng(0)
    base = {f"{i}": [0.0] for i in range(20)}
    once = {f"{i}": [float(rng.normal())] for i in range(20)}
    often = {face: values * 50 for face, values in once.items()}
    one = difference(records("a", once), records("b", base), "psnr")
    many = difference(records("a", often), records("b", base), "psnr")
    assert one is not None and many is not None
    assert (one.low, one.high, one.faces) == pytest.approx((many.low, many.high, many.faces)) and one.high - one.low > 0.3


def test_worse_is_turned_with_the_measure() -> None:
    ours, theirs = {"x": [1.0, 3.0], "y": [5.0], "z": [2.0]}, {"x": [1.0], "y": [4.0], "w": [0.0]}
    up, down = (difference(records("a", ours, name), records("b", theirs, name), name) for name in ("psnr", "niqe"))
    assert up is not None and down is not None
    assert (up.mean, up.faces, up.worse) == (1.0, 2, 0) and (down.mean, down.worse) == (1.0, 2)
    assert difference(records("a", ours), records("b", theirs), "ssim") is None


def test_the_worst_subgroup_is_the_one_that_gains_least() -> None:
    base = {f"{group}{i}": [1.0] for group in "mno" for i in range(5)} | {"p0": [1.0]}
    ours = {face: [1.0 + {"m": 0.5, "n": 0.2, "o": 0.9, "p": -9.0}[face[0]]] for face in base}  # p is too small a group
    worst = worst_subgroup(records("a", ours, group="yes"), records("b", base), "psnr")
    assert worst is not None and (worst.group, worst.faces) == ("n", 5) and worst.gain == pytest.approx(0.2)
    assert worst_subgroup(records("a", ours), records("b", base), "psnr") is None


def test_ssim_and_psnr_are_those_of_others() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    judge = Judge(None, None, CPU, measures=("psnr", "ssim"))
    scores = judge.pair(image, truth, np.zeros((5, 2)))
    a, b = (torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None] for x in (image, truth))
    theirs = metrics.functional.image.peak_signal_noise_ratio(a, b, data_range=255.0).item()
    assert scores["psnr"] == pytest.approx(theirs, abs=1e-3) and set(scores) == {"psnr", "ssim"}

    def mean(x: Any) -> Any:
        return uniform_filter(x, (7, 7, 1))[3:-3, 3:-3]

    x, y = image.astype(float), truth.astype(float)
    unbiased, c1, c2 = 49 / 48, (0.01 * 255) ** 2, (0.03 * 255) ** 2
    vx, vy, vxy = (unbiased * (mean(p * q) - mean(p) * mean(q)) for p, q in ((x, x), (y, y), (x, y)))
    ssim = (2 * mean(x) * mean(y) + c1) * (2 * vxy + c2) / ((mean(x) ** 2 + mean(y) ** 2 + c1) * (vx + vy + c2))
    assert scores["ssim"] == pytest.approx(ssim.mean(), abs=1e-6)


def test_fid_and_kid_of_features() -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_kid import kernel_mmd

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    b = torch.randn(200, 6, generator=generator) + 1
    one, two = (np.cov(x.double().numpy(), rowvar=False) for x in (a, b))
    shift = (a.double().mean(0) - b.double().mean(0)).square().sum().item()
    by_hand = shift + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert libraries.fid(a, b) == pytest.approx(by_hand, rel=1e-6) and libraries.fid(a, a) == pytest.approx(0, abs=1e-6)
    options = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1.0}
    assert kid(a, b) == pytest.approx(kernel_mmd(a.double().numpy(), b.double().numpy(), **options), rel=1e-9)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the weights of LPIPS and DISTS be found; the trunks of the tests are random."""
    (tmp_path / "trunk.pth").touch()
    monkeypatch.setattr(libraries, "weights", lambda name, download: tmp_path / "trunk.pth")


@pytest.mark.slow
@pytest.mark.usefixtures("found")
def test_lpips_is_the_weighted_distance_of_unit_features(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchmetrics.functional.image.lpips as module
    from torchvision.models import alexnet

    torch.manual_seed(0)
    trunk = alexnet(num_classes=1).features.eval()
    monkeypatch.setattr(module, "_get_tv_model_features", lambda net, pretrained: trunk)
    lpips = libraries.Lpips("alexnet", CPU, download=False)
    a, b = torch.rand(1, 3, 64, 64) * 2 - 1, torch.rand(1, 3, 64, 64) * 2 - 1
    heads = torch.load(Path(module.__file__).parent / "lpips_models" / "alex.pth", map_location="cpu")
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    wanted = 0.0
    with torch.no_grad():
        x, y = ((each - shift[:, None, None]) / scale[:, None, None] for each in (a, b))
        for i, layer in enumerate(trunk):
            x, y = (relu(layer(each)) if isinstance(layer, torch.nn.ReLU) else layer(each) for each in (x, y))
            if i in (1, 4, 7, 9, 11):
                p, q = (each / each.norm(dim=1, keepdim=True) for each in (x, y))
                weight = heads[f"lin{(1, 4, 7, 9, 11).index(i)}.model.1.weight"]
                wanted += ((p - q).square() * weight).sum(dim=1).mean().item()
    assert lpips(a, b) == pytest.approx(wanted, rel=1e-4) and lpips(a, a) == 0
    assert "trunk alexnet (SHA-256 7be5be79" in lpips.by


@pytest.mark.slow
@pytest.mark.usefixtures("found")
def test_dists_is_no_distance_of_a_picture_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchmetrics.functional.image.dists as module
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    monkeypatch.setattr(module, "vgg16", lambda weights: SimpleNamespace(features=make_layers(cfgs["D"])))
    dists = libraries.Dists(CPU, download=False)
    a = torch.rand(1, 3, 64, 64) * 2 - 1
    near, far = a + 0.05 * torch.randn_like(a), torch.rand_like(a) * 2 - 1
    assert dists(a, a) == pytest.approx(0, abs=1e-4) and dists(a, a) < dists(a, near) < dists(a, far)


@pytest.mark.slow
@pytest.mark.usefixtures("found")
def test_inception_gives_what_fid_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.save({}, tmp_path / "trunk.pth")
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    judge = Judge(None, None, CPU, measures=("fid", "kid_inception"))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    features = joined([judge.embed(picture) for picture in pictures])
    assert features["inception"].shape == (3, 2048)
    scores = judge.apart(features, features)
    assert set(scores) == {"fid", "kid_inception"} and scores["fid"] == pytest.approx(0, abs=1e-6)
    assert judge.apart(joined([judge.embed(pictures[0])]), features) == {}  # of one picture there is none
    assert "SHA-256 6726825d" in judge.by["fid"]


def test_torchvision_finds_the_checked_file(tmp_path: Path) -> None:
    before = torch.hub.get_dir()
    path = tmp_path / "weights-12345678.pth"
    torch.save({"x": torch.ones(1)}, path)
    with libraries.as_torchvision_looks_for(path):
        assert torch.hub.load_state_dict_from_url(f"https://example.invalid/{path.name}")["x"] == 1
    assert torch.hub.get_dir() == before


def test_what_cannot_be_had_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        judge = Judge(None, None, CPU, measures=("psnr", "lpips", "dists", "fid"))
    assert set(judge.by) == {"psnr"} and set(judge.missing) == {"LPIPS", "DISTS", "FID"}
    assert "FID is left out: weights-inception-2015-12-05-6726825d.pth (96 MB, licence Apache-2.0)" in caplog.text
    assert "--download fetches it" in caplog.text


def test_landmark_distance_by_hand() -> None:
    """Every point two to the right and, of the second picture, none."""
    points = np.array([[20.0, 20], [40, 20], [30, 30], [22, 40], [38, 40]])

    def face(shift: float) -> Face:
        return Face((10, 10, 50, 50), 0.9, tuple((x + shift, y) for x, y in points))  # type: ignore[arg-type]

    there, here, nobody = (np.full((64, 64, 3), i, np.uint8) for i in range(3))
    landmarks: Any = Landmarks(CPU)
    seen = {0: [face(0)], 1: [Face((1, 1, 5, 5), 0.99, face(30).points), face(2)], 2: []}
    landmarks.detector = SimpleNamespace(detect=lambda picture: seen[int(picture[0, 0, 0])])
    assert landmarks.distance(here, there) == pytest.approx(2.0)
    assert landmarks.distance(nobody, there) is None and landmarks.distance(there, nobody) is None
