"""Text that several parts write."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Return how many there are.

    Example:
        >>> plural(1, "face"), plural(0, "face")
        ('1 face', '0 faces')
    """
    return f"{count} {noun}{'s' * (count != 1)}"
