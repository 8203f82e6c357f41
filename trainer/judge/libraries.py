"""LPIPS and DISTS by torchmetrics, FID by torch-fidelity: maintained libraries, the extra ``evaluate``.

Their networks' weights are files of the registry, checked there; they are downloaded only where that was asked for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from pfr_core.cli.common import fetch
from pfr_core.errors import WeightsError
from pfr_core.models.disk import on_disk
from pfr_core.models.registry import REGISTRY

from .options import Trunk

INSTALL = 'python -m pip install "torchmetrics>=1.8" torch-fidelity'


class Lpips:
    """LPIPS (Zhang et al., 2018), version 0.1: torchmetrics' heads on a trunk trained on ImageNet.

    Raises:
        WeightsError: torchmetrics or the trunk is not to be had.
    """

    def __init__(self, trunk: Trunk, device: torch.device, download: bool) -> None:
        path = weights(trunk, download)
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        except ModuleNotFoundError as error:
            raise WeightsError(f"torchmetrics is not installed: {INSTALL}") from error
        with as_torchvision_looks_for(path):
            net = LearnedPerceptualImagePatchSimilarity(net_type="alex" if trunk == "alexnet" else "vgg")
        self.net: nn.Module = net.net.to(device).eval()
        self.by = f"LPIPS 0.1 of torchmetrics, trunk {trunk} (SHA-256 {REGISTRY[trunk].sha256})"

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> float:
        return float(self.net(a, b))


class Dists:
    """DISTS (Ding et al., 2020) of torchmetrics, at the size that the pictures have.

    Raises:
        WeightsError: torchmetrics or VGG16 is not to be had.
    """

    def __init__(self, device: torch.device, download: bool) -> None:
        path = weights("vgg16", download)
        try:
            from torchmetrics.functional.image.dists import DISTSNetwork
        except ModuleNotFoundError as error:
            raise WeightsError(f"torchmetrics 1.8 or later is not installed: {INSTALL}") from error
        with as_torchvision_looks_for(path):
            self.net = DISTSNetwork().to(device).eval()
        self.by = f"DISTS of torchmetrics, trunk vgg16 (SHA-256 {REGISTRY['vgg16'].sha256})"

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> float:
        return float(self.net((a + 1) / 2, (b + 1) / 2))


class Inception:
    """The network of FID: torch-fidelity's, [1,3,S,S] uint8 -> [1,2048].

    Raises:
        WeightsError: torch-fidelity or the network's weights are not to be had.
    """

    def __init__(self, device: torch.device, download: bool) -> None:
        path = weights("inception", download)
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ModuleNotFoundError as error:
            raise WeightsError(f"torch-fidelity is not installed: {INSTALL}") from error
        self.net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        self.net.to(device)
        self.by = f"Inception of torch-fidelity (SHA-256 {REGISTRY['inception'].sha256})"

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> Tensor:
        return self.net(picture)[0]


def fid(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance (Heusel et al., 2017) of two sets of features [N,D], [M,D], of at least two each."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    one, two = (fid_features_to_statistics(features.double()) for features in (a, b))
    return float(np.real(fid_statistics_to_metric(one, two, verbose=False)[KEY_METRIC_FID]))


def weights(name: str, download: bool) -> Path:
    """Return the checked file of weights, which is downloaded only if that was asked for.

    Raises:
        WeightsError: it is not to be had.
    """
    entry = REGISTRY[name]
    path = fetch(name) if download else on_disk(name)
    if path is None:
        raise WeightsError(
            f"{entry.file} ({entry.bytes / 1e6:.0f} MB, licence {entry.licence}) is not on this machine. --download fetches it."
        )
    return path


@contextmanager
def as_torchvision_looks_for(path: Path) -> Iterator[None]:
    """Let torchvision find the checked file where it looks for one of that name, so that it does not download its own."""
    before = torch.hub.get_dir()
    with TemporaryDirectory() as folder:
        place = Path(folder) / "checkpoints" / path.name
        place.parent.mkdir()
        try:
            os.symlink(path, place)
        except OSError:  # on Windows a privilege
            shutil.copy(path, place)
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
