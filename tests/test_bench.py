"""``pfr bench``: what it counts is what there is to count, and each stage is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pfr_core import FaceRestorer, RestoreOptions
from pfr_core.bench import STAGES, bench, measure
from pfr_core.cli import main
from pfr_core.errors import InputError
from pfr_core.faces.detect import Detector
from pfr_core.network.face_model import FaceModel
from pfr_core.support.notice import Notice

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "degraded.jpg"
SIZE, KERNEL = 32, 3


class OneConvolution(FaceModel):
    """A network whose work can be told by hand."""

    kind: ClassVar[str] = "one convolution"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.size = SIZE
        self.conv = nn.Conv2d(3, 3, KERNEL, padding=KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the image filtered."""
        result: Tensor = self.conv(x)
        return result


def restorer() -> FaceRestorer:
    """Return the pipeline around it."""
    return FaceRestorer(OneConvolution(), "builtin", device="cpu", dtype="fp32", options=RestoreOptions(only_bad_faces=False))


def test_operations_parameters_and_stages_are_those_of_the_network() -> None:
    found = bench(PHOTO, PHOTO.read_bytes(), {"a": restorer(), "b": restorer()}, rounds=2)
    for timing in found.models.values():
        assert timing.parameters == 3 * 3 * KERNEL**2
        assert timing.flops == 2 * 3 * 3 * KERNEL**2 * SIZE**2  # a multiply-add is two
        assert timing.traffic is not None
        assert timing.traffic >= 2 * 3 * SIZE**2 * 4  # the picture in and out, float32
        assert timing.faces == 1
        assert timing.precision == "float32"
        assert set(timing.seconds) == set(STAGES)
        assert all(len(each) == 2 and min(each) > 0 for each in timing.seconds.values())
        assert timing.interval[0] <= timing.ratio <= timing.interval[1]
    assert found.models["a"].ratio == 1
    table = found.table().splitlines()
    assert len(table) == 2 + 2 + 2
    assert len({line.count("|") for line in table[:4]}) == 1
    assert json.loads(json.dumps(found.to_dict()))["models"]["b"]["faces"] == 1


def test_the_rate_of_the_machine_is_that_of_the_precision() -> None:
    machine = measure(torch.device("cpu"), {"float32"})
    assert machine.multiply.keys() == {"float32"}
    assert 1e8 < machine.multiply["float32"] < 1e15
    assert 1e7 < machine.copy < 1e13


def test_a_photograph_without_a_face_and_no_round_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(path)
    monkeypatch.setattr(Detector, "advice", lambda self: Notice("better_detector", "take a better one"))
    with pytest.raises(InputError, match=r"no face.*\ntake a better one$"):
        bench(path, path.read_bytes(), {"a": restorer()})
    with pytest.raises(InputError, match="rounds is 0"):
        bench(PHOTO, PHOTO.read_bytes(), {"a": restorer()}, rounds=0)


def test_the_command_prints_a_table_and_writes_every_round(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    command = ["bench", str(PHOTO), "--models", str(tiny_model), "--rounds", "1", "--device", "cpu", "--detector", "builtin"]
    assert main([*command, "--json", str(out)]) == 0
    assert "peak memory" in capsys.readouterr().out
    (timing,) = json.loads(out.read_text())["models"].values()
    assert timing["seconds"].keys() == set(STAGES)
    assert main(["bench", str(tmp_path / "none.jpg"), "--models", str(tiny_model)]) == 1
    assert "none.jpg" in capsys.readouterr().err
