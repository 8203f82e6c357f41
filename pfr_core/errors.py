"""The few exception types of PFR. Each message names the thing and the remedy.

All derive from :class:`PFRError`, so a caller can catch one type; none is dropped unless the answer itself says what is missing.
"""

from collections.abc import Callable

ShouldStop = Callable[[], bool]
"""What is asked now and then in long work: true to end it."""


class PFRError(Exception):
    """Base of every error that PFR raises on purpose."""


class InputError(PFRError, ValueError):
    """An argument, array or option has the wrong type, shape, range or name."""


class ImageError(PFRError, ValueError):
    """An image file cannot be read or written: missing, empty, truncated, not an image, unsupported, disk full."""


class CheckpointError(PFRError, ValueError):
    """A model file is damaged, unsafe, or belongs to another network."""


class NotFiniteError(PFRError, ValueError):
    """A model gives NaN or infinity for a face: it, or the precision, does not bear this photograph; others may well go."""


class WeightsError(PFRError, RuntimeError):
    """Weights are not to be had: unknown name, failed or corrupt download, offline and not on disk."""


class Cancelled(PFRError):
    """The caller's ``should_stop`` asked for the work to end; nothing was half-written."""


def check_stop(should_stop: ShouldStop | None, text: str = "Stopped as asked; nothing was written.") -> None:
    """Ask whether to go on.

    Raises:
        Cancelled: ``should_stop`` returned true; ``text`` is its message.
    """
    if should_stop is not None and should_stop():
        raise Cancelled(text)
