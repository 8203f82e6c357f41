"""What one visitor may ask for. The command line's options for it are made from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pfr_core.errors import InputError
from pfr_core.support.schema import check_fields, option

if TYPE_CHECKING:
    from pfr_core.photo.photo import Photo


@dataclass(frozen=True)
class Limits:
    """Limits of the page (all values ours).

    Raises:
        InputError: a value has the wrong type or is out of range.

    Example:
        >>> Limits(max_video_seconds=10).max_files
        100
    """

    max_pixels: int = option(50_000_000, "largest photo, width x height, before and after enlarging", 10_000, 1_000_000_000)
    max_upload_mb: float = option(200.0, "largest file that can be uploaded, in MB", 0.01, 100_000)
    max_files: int = option(100, "photos in one batch", 1, 100_000)
    max_unpacked_mb: float = option(1000.0, "what a zip file may unpack to, in MB", 0.01, 1_000_000)
    max_video_seconds: float = option(60.0, "longest clip", 0.1, 100_000)
    max_video_pixels: int = option(8_900_000, "largest frame of a clip, width x height", 10_000, 100_000_000)
    max_waiting: int = option(20, "requests that wait at once; more are refused", 1, 10_000)
    keep_minutes: float = option(10.0, "minutes until the files of a closed page, or of an API client, are deleted", 0.01, 10_000)

    def __post_init__(self) -> None:
        check_fields(self)

    def check_scale(self, photo: Photo, scale: float) -> None:
        """Refuse to enlarge a photo beyond ``max_pixels``.

        Raises:
            InputError: it would become too large.
        """
        height, width = photo.pixels.shape[:2]
        if scale > 1 and width * scale * height * scale > self.max_pixels:
            raise InputError(
                f"{photo.path}: enlarged {scale:g} times, {width} x {height} pixels become more than the limit of "
                f"{self.max_pixels:,} (max_pixels). Choose a smaller scale."
            )
