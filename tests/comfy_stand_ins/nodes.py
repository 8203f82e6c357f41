"""Stands in for ComfyUI's top-level module ``nodes``."""

from __future__ import annotations

EXTENSION_WEB_DIRS: dict[str, str] = {}
