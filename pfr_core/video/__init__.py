"""Clips. Needs PyAV: ``pip install 'pfr[video]'``."""

CLIP_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".flv"}
"""Endings of files that are taken for clips."""
