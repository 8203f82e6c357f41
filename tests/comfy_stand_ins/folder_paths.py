"""Stands in for ComfyUI's ``folder_paths``; ``models_dir`` is set by the test."""

from __future__ import annotations

import os
from pathlib import Path

models_dir = ""
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}


def get_filename_list(key: str) -> list[str]:
    paths, suffixes = folder_names_and_paths[key]
    files = [name for path in paths if os.path.isdir(path) for name in os.listdir(path)]
    return sorted(name for name in files if Path(name).suffix in suffixes)


def get_full_path_or_raise(key: str, name: str) -> str:
    for path in folder_names_and_paths[key][0]:
        if os.path.isfile(os.path.join(path, name)):
            return os.path.join(path, name)
    raise FileNotFoundError(f"Model in folder '{key}' with filename '{name}' not found.")


def get_temp_directory() -> str:
    return os.path.join(models_dir, "temp")
