"""What long work calls to say how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

NamedProgress = Callable[[str, int, int], None]
"""Called with (what it is at, done, total)."""

TimedProgress = Callable[[str, int, int, float], None]
"""Called with (what it is at, done, total, seconds left)."""
