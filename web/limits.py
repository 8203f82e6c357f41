"""What one visitor may ask for. The command line's options for it are made from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pfr_core.errors import InputError
from pfr_core.options import RestoreOptions
from pfr_core.support.choices import CLOSEST_DETECTION
from pfr_core.support.schema import check_fields, option, specs

if TYPE_CHECKING:
    from pfr_core.photo.photo import Photo

_SIZE = specs(RestoreOptions)["detection_size"]


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
    max_faces: int = option(100, "faces restored in one photo or frame", 1, 100_000)
    max_detection_size: int = option(
        CLOSEST_DETECTION, "largest size at which faces are looked for, in px", _SIZE.low, _SIZE.high
    )
    max_upload_mb: float = option(200.0, "largest file that can be uploaded, in MB", 0.01, 100_000)
    max_session_mb: float = option(1000.0, "uploads of one visitor together, in MB", 0.01, 1_000_000)
    max_server_mb: float = option(20_000.0, "files of all visitors together, in MB", 0.01, 100_000_000)
    max_files: int = option(100, "photos in one batch", 1, 100_000)
    max_unpacked_mb: float = option(1000.0, "what a zip file may unpack to, in MB", 0.01, 1_000_000)
    max_video_seconds: float = option(60.0, "longest clip", 0.1, 100_000)
    max_video_frames: int = option(6000, "frames of a clip", 1, 10_000_000)
    max_video_pixels: int = option(8_900_000, "largest frame of a clip, width x height", 10_000, 100_000_000)
    max_job_seconds: float = option(900.0, "seconds that one job may work", 1, 1_000_000)
    max_waiting: int = option(20, "requests that wait for the networks at once; more are refused", 1, 10_000)
    max_waiting_each: int = option(8, "requests of one visitor that wait or run at once", 1, 10_000)
    max_memory_mb: float = option(500.0, "open photos of all pages in memory, in MB; the oldest are put on disk", 1, 1_000_000)
    keep_minutes: float = option(10.0, "minutes until the files of a closed page, or of an API client, are deleted", 0.01, 10_000)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def detection_size(self) -> int:
        """Longer side in px at which faces are looked for where a visitor does not say: the usual one, if that is allowed."""
        return min(int(_SIZE.default), self.max_detection_size)

    @property
    def closest_detection(self) -> int:
        """Longer side in px up to which a photo is looked at closer by itself where many faces seem small."""
        return min(CLOSEST_DETECTION, self.max_detection_size)

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

    def check_options(self, options: RestoreOptions) -> None:
        """Refuse to look for faces at a size that would take too long.

        Raises:
            InputError: it is larger than ``max_detection_size``.
        """
        if options.detection_size > self.max_detection_size:
            raise InputError(
                f"detection_size is {options.detection_size}; on this server it must be from {_SIZE.low:g} to "
                f"{self.max_detection_size} (max_detection_size)."
            )

    def check_faces(self, count: int) -> None:
        """Refuse a picture with too many faces.

        Raises:
            InputError: there are more than ``max_faces``.
        """
        if count > self.max_faces:
            raise InputError(
                f"{count} faces in one picture; the limit is {self.max_faces} (max_faces). Choose the largest, set a smallest "
                "face size, or cut the picture."
            )
