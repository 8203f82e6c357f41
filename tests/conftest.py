"""Shared fixtures, and the rule that keeps CI honest about tests that need real photos and weights."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def full_precision() -> Iterator[None]:
    """Make ``auto`` float32 where a test does not say otherwise: what references are in, whatever this processor is fast in."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real photos, golden data and detector weights (``PFR_SHARED_DIR``); skips where there is none."""
    value = os.environ.get("PFR_SHARED_DIR")
    if not value:
        pytest.skip("PFR_SHARED_DIR is not set")
    return Path(value)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a plain folder of three small images that training takes for faces."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for i in range(3):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """Return the file of a tiny network with random weights."""
    import torch

    from pfr_core import PFR, PFRConfig, save_model

    torch.manual_seed(1)  # how much a random network changes is chance, too
    path = tmp_path / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={}, licence="none of note")
    return path


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Path], http.server.ThreadingHTTPServer]]:
    """Let a registered model be a file that a server on this machine, which is returned, publishes, and that is not on it yet."""
    from pfr_core.models import disk
    from pfr_core.models.registry import REGISTRY

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("PFR_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(disk, "_extra_folders", [])
    servers: list[http.server.ThreadingHTTPServer] = []

    def publish(name: str, source: Path) -> http.server.ThreadingHTTPServer:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(source.parent))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        entry = replace(
            REGISTRY[name],
            file=source.name,
            urls=(f"http://127.0.0.1:{server.server_port}/{source.name}",),
            sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
            bytes=source.stat().st_size,
        )
        monkeypatch.setitem(REGISTRY, name, entry)
        return server

    yield publish
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield the ComfyUI nodes as ComfyUI loads them: by absolute path, from an oddly named copy, beside small stand-ins."""
    from pfr_core import PFR, PFRConfig, save_model

    folder = tmp_path_factory.mktemp("custom_nodes") / "ComfyUI-PFR.v1 copy"
    folder.mkdir()
    shutil.copy(ROOT / "__init__.py", folder)
    for name in ("nodes", "pfr_core", "locales"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    models = folder.parent / "models"
    (models / "facerestore_models").mkdir(parents=True)
    (models / "facerestore_models" / "notes.txt").touch()
    save_model(
        PFR(PFRConfig(size=64, narrow=0.125)), models / "facerestore_models" / "small.safetensors", provenance={}, licence="test"
    )
    (models / "facerestore_models" / "broken.safetensors").write_bytes(b"no model")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "comfy_stand_ins"))
        import folder_paths

        folder_paths.models_dir = str(models)
        name = str(folder).replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        yield module
        for added in set(sys.modules) - before:
            if added.startswith((name, "comfy", "folder_paths")) or added == "nodes":
                del sys.modules[added]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for ``shared_dir`` is a shared test, marked or not."""
    for item in items:
        if "shared_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test that needs what is promised.

    ``PFR_REQUIRE_SHARED=1`` promises the shared material, ``PFR_REQUIRE_BROWSER=1`` a browser.
    """
    report = yield
    for mark in ("shared", "browser"):
        promise = f"PFR_REQUIRE_{mark.upper()}"
        required = os.environ.get(promise) == "1" and item.get_closest_marker(mark)
        if required and report.skipped and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"a test marked `{mark}` was skipped although {promise}=1: {report.longrepr}"
    return report
