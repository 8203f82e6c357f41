"""What the tests of several commands need: a network, and ``pfr restore`` with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pfr_core import PFR, PFRConfig, save_model

from .command import SIZE, pfr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network with random weights: it changes every photo."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=SIZE, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={"test": True}, licence="none")
    return path


@pytest.fixture
def restore(model: Path) -> Callable[..., int]:
    """``pfr restore`` of aligned faces, which needs no detector."""
    return functools.partial(pfr, "restore", "--aligned", "--device", "cpu", "--model", model)
