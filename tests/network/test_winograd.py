"""Convolutions by minimal filtering: their equation, when they are taken, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfr_core.network import inference, winograd
from pfr_core.network.face_model import FaceModel
from pfr_core.network.winograd import BACK, PIXELS, WEIGHTS, Winograd, convolved


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_matrices_are_those_of_a_filter_of_three_on_a_line() -> None:
    """Four outputs of y = sum of w[k] x[i + k], exactly, in one dimension."""
    x, w = drawn(6).double(), drawn(3).double()
    pixels, weights, back = (torch.tensor(rows, dtype=torch.float64) for rows in (PIXELS, WEIGHTS, BACK))
    torch.testing.assert_close(back @ ((pixels @ x) * (weights @ w)), x.unfold(0, 3, 1) @ w)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(1, 5, 8, 4), (3, 2, 4, 72), (2, 7, 40, 12)])
def test_it_is_the_convolution(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x, weight, bias = drawn(*shape).to(memory_format=layout), drawn(6, shape[1], 3, 3) / (9 * shape[1]) ** 0.5, drawn(6)
    for given in (bias, None):
        expected = F.conv2d(x.double(), weight.double(), None if given is None else given.double(), padding=1)
        found = convolved(x, weight, given)
        torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=2e-5)
        assert found.stride() == F.conv2d(x, weight, given, padding=1).stride()
    assert torch.equal(convolved(x, weight)[-1:], convolved(x[-1:], weight)), "others in the batch change nothing"


def test_many_rows_of_tiles_are_worked_on_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = drawn(1, 3, 28, 8), drawn(4, 3, 3, 3)
    whole = convolved(x, weight)
    monkeypatch.setattr(winograd, "AT_ONCE", 6)  # three rows of tiles, three, and the last one
    torch.testing.assert_close(convolved(x, weight), whole)


LARGE, FILTERS = (1, 128, 32, 32), (128, 128, 3, 3)


@pytest.mark.parametrize(
    ("taken", "shape", "filters", "how"),
    [
        (True, LARGE, FILTERS, {"padding": 1}),
        (True, LARGE, FILTERS, {"padding": (1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 1}),
        (False, LARGE, FILTERS, {}),
        (False, LARGE, FILTERS, {"padding": "same"}),
        (False, LARGE, FILTERS, {"padding": 1, "stride": 2}),
        (False, LARGE, FILTERS, {"padding": 2, "dilation": 2}),
        (False, LARGE, (128, 64, 3, 3), {"padding": 1, "groups": 2}),
        (False, LARGE, (128, 128, 1, 1), {"padding": 1}),
        (False, LARGE, (64, 128, 3, 3), {"padding": 1}),
        (False, (1, 128, 33, 32), FILTERS, {"padding": 1}),
        (False, (1, 128, 16, 16), FILTERS, {"padding": 1}),
        (False, (128, 32, 32), FILTERS, {"padding": 1}),
    ],
)
def test_large_ones_are_taken_and_no_others(
    taken: bool, shape: tuple[int, ...], filters: tuple[int, ...], how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []

    def counted(x: Tensor, *rest: Any) -> Tensor:
        calls.append(tuple(x.shape))
        return convolved(x, *rest)

    monkeypatch.setattr(winograd, "convolved", counted)
    x, weight, bias = drawn(*shape), drawn(*filters) / 30, drawn(filters[0])
    expected = F.conv2d(x, weight, bias, **how)
    with torch.inference_mode(), Winograd():
        torch.testing.assert_close(F.conv2d(x, weight, bias, **how), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(F.conv2d(x, weight, bias=bias, **how), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(F.conv2d(input=x, weight=weight, bias=bias, **how), expected, atol=1e-4, rtol=1e-4)
        assert F.conv2d(x.double(), weight.double(), **how).dtype == torch.float64
    assert len(calls) == 2 * taken


def test_where_gradients_or_other_precisions_are_wanted_it_stays_out_of_the_way() -> None:
    x, weight = drawn(*LARGE), drawn(*FILTERS).requires_grad_()
    with Winograd():
        assert F.conv2d(x, weight, padding=1).requires_grad
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert F.conv2d(x, weight, padding=1).dtype == torch.bfloat16
        with torch.inference_mode(), pytest.raises(RuntimeError):
            F.conv2d(x, weight, torch.zeros(1), padding=1)


class Single(FaceModel):
    """A network that is one convolution, of a module."""

    kind = "a single convolution"
    size = 32

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.conv, self.back = nn.Conv2d(3, 128, 1), nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.back(self.conv(self.widen(x)))
        return image


def test_faces_are_restored_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, crops = Single().eval(), torch.rand(2, 32, 32, 3).numpy()
    found = inference.restore_crops(net, crops, batch_size=2)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1000)
    usual = inference.restore_crops(net, crops, batch_size=2)
    assert 0 < abs(found - usual).max() < 1e-5
