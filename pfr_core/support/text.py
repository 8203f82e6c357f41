"""Text that several parts write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def plural(count: int, noun: str) -> str:
    """Return how many there are.

    Example:
        >>> plural(1, "face"), plural(0, "face")
        ('1 face', '0 faces')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    Example:
        >>> print(markdown(["model", "PSNR"], [["a", "26.1"], ["b", ""]]))
        | model | PSNR |
        | --- | --- |
        | a | 26.1 |
        | b |  |
    """
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
