"""The configuration of the network, and the presets that have names.

Channels per resolution follow GPEN's table, with which the paper says its generator is consistent (section 4.2).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import InputError

SMALLEST = 4
"""Resolution of the learned constant and of the encoder's last feature (section 3.1)."""


@dataclass(frozen=True)
class PFRConfig:
    """What a PFR network is made of.

    Args:
        size: side of input and output in pixels, a power of two from 16 to 2048.
        channel_multiplier: ``m``, factor on the channels of resolutions of 64 px and more.
        narrow: factor on all channels.
        style_dim: length of z and w.
        n_mlp: layers of the mapping network (section 3.1: eight).
        mmrb: an MMRB after the encoder's convolutions, the paper's network. Off: row (a) of Table 5.
        decoder: the decoder between encoder and noise branches. Off (with ``mmrb`` off) the network is GPEN.
        patch: pixels of the image, across, to one of the finest feature map: 1 (Figure 2), 2 or 4. Ours, for speed: above 1 the
            encoder begins with a pixel-unshuffle, levels of few channels end at the image's size, what is finer than the
            features and a share of the rest pass around the network as far as learned maps allow, and a layer of its own says
            how much of the whole change a face needs.

    Raises:
        InputError: a value is out of its range.

    Example:
        >>> PFRConfig(size=256, narrow=0.5).channels(256)
        64
    """

    size: int = 512
    channel_multiplier: int = 2
    narrow: float = 1.0
    style_dim: int = 512
    n_mlp: int = 8
    mmrb: bool = True
    decoder: bool = True
    patch: int = 1

    def __post_init__(self) -> None:
        for name in ("size", "channel_multiplier", "style_dim", "n_mlp", "patch"):
            if not isinstance(getattr(self, name), int):  # 512.0 from a file would fail only in the middle of building
                raise InputError(f"PFRConfig.{name} is {getattr(self, name)!r}; it must be a whole number.")
        if self.size not in {2**i for i in range(4, 12)}:
            raise InputError(f"PFRConfig.size is {self.size}; it must be a power of two from 16 to 2048.")
        if self.patch not in (1, 2, 4) or self.features < 16:
            raise InputError(f"PFRConfig.patch is {self.patch}; it must be 1, 2 or 4, and leave at least 16 px of {self.size}.")
        if self.channel_multiplier < 1 or self.style_dim < 1 or self.n_mlp < 1:
            raise InputError("PFRConfig: channel_multiplier, style_dim and n_mlp must be at least 1.")
        if not 0 < self.narrow <= 4:
            raise InputError(f"PFRConfig.narrow is {self.narrow}; it must be above 0 and at most 4.")
        if any(self.channels(r) < 2 or self.channels(r) % 2 for r in self.resolutions):
            raise InputError(
                f"PFRConfig.narrow={self.narrow} leaves an odd number of channels; MMRB splits them in two. "
                "Multiples of 0.25 fit every size."
            )

    @property
    def features(self) -> int:
        """Side of the finest feature map: ``size``, or less with a ``patch``."""
        return self.size // self.patch

    @property
    def resolutions(self) -> tuple[int, ...]:
        """All feature resolutions, 4 first, ``features`` last."""
        return tuple(2**i for i in range(int(math.log2(SMALLEST)), int(math.log2(self.features)) + 1))

    @property
    def mmrb_resolutions(self) -> tuple[int, ...]:
        """Where the encoder has an MMRB: every scale but the first and last (section 4.2). Empty if ``mmrb`` is off."""
        return self.resolutions[1:-1] if self.mmrb else ()

    def channels(self, resolution: int) -> int:
        """Return channels of encoder, decoder and prior at ``resolution``."""
        full = 512 if resolution <= 32 else (16384 // resolution) * self.channel_multiplier
        return int(full * self.narrow)

    def fine_channels(self, resolution: int) -> int:
        """Return channels of the level at ``resolution`` behind a patch (ours); three of its inputs are the image's."""
        return max(8, self.channels(resolution))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as written into a checkpoint's metadata."""
        return asdict(self)


Preset = Literal["pfr-512", "pfr-256", "pfr-512-lite", "pfr-512-patch4", "pfr-256-lite", "pfr-1024", "pfr-2048"]

PRESETS: dict[str, PFRConfig] = {
    "pfr-512": PFRConfig(size=512),
    "pfr-256": PFRConfig(size=256, channel_multiplier=1, narrow=0.5),
    "pfr-512-lite": PFRConfig(size=512, narrow=0.25),
    # Ours: wide layers at a quarter of the size, which keep a CPU busier than narrow ones at half of it.
    "pfr-512-patch4": PFRConfig(size=512, channel_multiplier=6, narrow=0.125, style_dim=256, patch=4),
    # Ours: small enough to be trained on two CPU cores in an hour or two.
    "pfr-256-lite": PFRConfig(size=256, narrow=0.125),
    "pfr-1024": PFRConfig(size=1024),
    "pfr-2048": PFRConfig(size=2048),
}
assert tuple(PRESETS) == get_args(Preset), "Preset names those of PRESETS, in their order"
