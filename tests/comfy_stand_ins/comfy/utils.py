"""Stands in for ``comfy.utils``."""

from __future__ import annotations


class ProgressBar:
    done = 0

    def __init__(self, total: int) -> None:
        ProgressBar.done = 0

    def update(self, value: int) -> None:
        ProgressBar.done += value
