"""``FaceModel``: what the pipeline and its doors need to know of any network that restores aligned faces."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..support.choices import EVERY_DTYPE, DTypeName
from ..support.device import memory_format


class FaceModel(nn.Module):
    """A network that restores aligned faces (FFHQ frame, RGB): ``forward`` maps [B,3,S,S] in :attr:`range` to the same.

    A kind of network is a subclass: it names what differs from the defaults below and defines ``forward``, which takes
    :attr:`options` as keywords. A sample's result must not depend on the others in the batch, nor on chance.

    Attributes:
        kind: what the network is called.
        range: lowest and highest value of its pixels.
        dtypes: precisions that it bears.
        options: fields of :class:`pfr_core.RestoreOptions` that it has.
        size: side S of the crops in px.
        licence: of the weights that were loaded.
    """

    kind: ClassVar[str]
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    dtypes: ClassVar[tuple[DTypeName, ...]] = EVERY_DTYPE
    options: tuple[str, ...] = ()
    size: int
    licence: str = "not stated"

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        """Where the network is, and in which precision it takes its pixels."""
        parameter = next(self.parameters())
        return parameter.device, parameter.dtype

    def restore(self, crops: Tensor, **options: float) -> Tensor:
        """Restore [B,3,S,S] float in [0,1]; returns the same in float32 on the network's device, not clamped.

        Args:
            crops: on any device.
            **options: values of :attr:`options`.
        """
        (device, dtype), (low, high) = self.place, self.range
        x = crops.to(device, dtype, memory_format=memory_format(device)) * (high - low) + low
        restored: Tensor = self(x, **options).float()
        return restored.sub(low).div(high - low)
