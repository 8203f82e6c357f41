"""Stands in for ``comfy.utils``."""

from __future__ import annotations


class ProgressBar:
    seen: list[float] = []  # noqa: RUF012  # shares done, of the newest bar

    def __init__(self, total: int) -> None:
        ProgressBar.seen = []

    def update_absolute(self, value: int, total: int) -> None:
        ProgressBar.seen.append(value / total)
