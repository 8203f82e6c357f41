"""Where a restored crop is pasted: masks in the crop's own frame, 1 inside, falling smoothly to 0 at its border."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import cv2
import numpy as np
import torch

from ..errors import InputError, ShouldStop, WeightsError
from ..models.disk import on_disk
from ..models.download import obtain
from ..models.registry import INSTALL_FACEXLIB, PARSER
from ..models.tensors import read_state_dict, weights_of
from ..photo.arrays import FloatImage
from ..support.choices import MaskKind

# The oval and the facial part of the FFHQ frame, as shares of the crop: ours.
OVAL_CENTER, OVAL_RADII = (0.5, 0.56), (0.36, 0.44)
PARSE_SIZE = 512
# ParseNet's classes (CelebAMask-HQ) that are no part of the head: background, hat, necklace, neck, clothes.
NOT_HEAD = (0, 14, 16, 17, 18)


@lru_cache(maxsize=4)
def make_mask(kind: MaskKind, size: int, feather: float) -> FloatImage:
    """Return the ``"box"`` or ``"oval"`` mask: [size,size] float32 in [0,1], not to be written to.

    Args:
        kind: which shape.
        size: side of the crop in px.
        feather: width of the soft edge as a share of the side, 0 to 0.5.

    Raises:
        InputError: another kind.
    """
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    if kind == "box":
        edge = np.minimum(axis, 1 - axis)  # distance to the crop's border
        depth = np.minimum(edge[None, :], edge[:, None])
    elif kind == "oval":
        x, y = (axis[None, :] - OVAL_CENTER[0]) / OVAL_RADII[0], (axis[:, None] - OVAL_CENTER[1]) / OVAL_RADII[1]
        depth = (1 - np.hypot(x, y)) * min(OVAL_RADII)
    else:
        raise InputError(f"make_mask draws 'box' and 'oval'; {kind!r} needs the picture, use FaceParser.")
    mask = _soften(depth, feather)
    mask.flags.writeable = False  # whoever asks next gets the same one
    return mask


def _soften(depth: FloatImage, feather: float) -> FloatImage:
    """Turn depth inside the shape, as a share of the crop, into a smooth step that is 0 at depth 0 and 1 at ``feather``."""
    t = np.clip(depth / max(feather, 1e-6), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


class FaceParser:
    """The ``"parse"`` mask: head and hair as facexlib's ParseNet sees them in the restored crop. Loaded at first use."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._network: torch.nn.Module | None = None

    @staticmethod
    def available(*, downloads: bool = False) -> bool:
        """Return whether the mask can be made: facexlib is here, and the weights are on disk or may be downloaded."""
        return find_spec("facexlib") is not None and (downloads or on_disk(PARSER) is not None)

    def mask(self, crop: FloatImage, feather: float, should_stop: ShouldStop | None = None) -> FloatImage:
        """Return the mask [S,S] in [0,1] of [S,S,3] RGB in [0,1], never beyond the feathered box.

        Args:
            crop: the restored face.
            feather: width of the soft border, as a share of the crop.
            should_stop: asked while the weights are downloaded.

        Raises:
            WeightsError: the weights cannot be found, downloaded or read, or facexlib is not installed.
            Cancelled: ``should_stop`` asked for it.
        """
        size = crop.shape[0]
        if self._network is None:
            self._network = self._load(should_stop)
        image = cv2.resize(crop, (PARSE_SIZE, PARSE_SIZE), interpolation=cv2.INTER_LINEAR)
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device) * 2 - 1
        with torch.inference_mode():
            classes = self._network(x)[0].argmax(dim=1)[0].cpu().numpy()
        head = (~np.isin(classes, NOT_HEAD)).astype(np.float32)
        inside = cv2.distanceTransform((head > 0).astype(np.uint8), cv2.DIST_L2, 5) / PARSE_SIZE
        soft = cv2.resize(_soften(inside, feather), (size, size), interpolation=cv2.INTER_LINEAR)
        return np.minimum(soft, make_mask("box", size, feather))

    def release(self) -> None:
        """Forget the network and its memory."""
        self._network = None

    def _load(self, should_stop: ShouldStop | None) -> torch.nn.Module:
        try:
            from facexlib.parsing.parsenet import ParseNet
        except ImportError as error:
            raise WeightsError(f"{INSTALL_FACEXLIB} ({error})") from error
        path = obtain(PARSER, should_stop=should_stop)
        network = ParseNet(in_size=PARSE_SIZE, out_size=PARSE_SIZE, parsing_ch=19)
        with weights_of("ParseNet", path):
            network.load_state_dict(read_state_dict(path))
        return network.to(self.device).eval()
