"""The page's menu of models, its downloads and the comparison, called as the page calls them."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pfr_core import PFR, PFRConfig, save_model
from pfr_core.compare import CELL, HEADER
from pfr_core.models import disk
from pfr_core.models.registry import REGISTRY, restorers

gr = pytest.importorskip("gradio")

from web.cli import build_parser  # noqa: E402
from web.compare import CompareTab  # noqa: E402
from web.context import Context  # noqa: E402
from web.engine import Engine  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.models import ModelMenu, licence, summary  # noqa: E402
from web.photo import PhotoTab  # noqa: E402
from web.sessions import Sessions  # noqa: E402

VISITOR: Any = SimpleNamespace(session_hash="visitor")
PHOTO = Path(__file__).resolve().parents[2] / "examples" / "two_faces.jpg"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={}, licence="none of note")
    return path


@pytest.fixture
def context(model: Path, tmp_path: Path) -> Iterator[Context]:
    """Return what the tabs of a page share; one model is a file, the others are published."""
    models = {"tiny": str(model), "codeformer": "codeformer", "gfpgan-1.4": "gfpgan-1.4"}
    with gr.Blocks():
        yield Context(Engine(models, detector="builtin", device="cpu"), Sessions(tmp_path / "visitors", 60), Limits())


def test_the_menu_tells_size_licence_and_download(context: Context) -> None:
    menu = ModelMenu(context)
    assert [value for _, value in menu.menu.choices] == ["tiny", "codeformer", "gfpgan-1.4"]
    assert summary(context, "tiny") == "16 px" and summary(context, "codeformer") == "512 px, 377 MB, downloaded when first used"
    assert licence(context, "tiny") == "Licence of `tiny`: none of note"
    assert REGISTRY["gfpgan-1.4"].licence in licence(context, "gfpgan-1.4")
    assert not menu.controls["fidelity"].visible
    told, fidelity = menu.choose("codeformer")
    assert "S-Lab" in told and fidelity["visible"] and fidelity["value"] == 0.5
    assert not menu.choose("gfpgan-1.4")[1]["visible"]


def test_without_an_argument_the_page_offers_all_that_can_be_had() -> None:
    offered = build_parser().parse_args([]).models
    assert offered == [weights.name for weights in restorers() if weights.embedded or weights.urls] and offered[0] == "default"


def test_a_model_is_downloaded_when_it_is_first_used(
    context: Context, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = replace(
        REGISTRY["gfpgan-1.4"],
        file=model.name,
        urls=(f"http://127.0.0.1:{server.server_port}/{model.name}",),
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        bytes=model.stat().st_size,
    )
    monkeypatch.setitem(REGISTRY, "gfpgan-1.4", entry)
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("PFR_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(disk, "_extra_folders", [])
    tab, seen = PhotoTab(context, PHOTO), []
    tab.open(VISITOR, str(PHOTO))
    try:
        progress: Any = lambda done, **more: seen.append((done, more["desc"]))  # noqa: E731
        _, told, *_ = tab.restore(VISITOR, "gfpgan-1.4", progress)
    finally:
        server.shutdown()
        server.server_close()
    assert (tmp_path / "cache" / model.name).is_file() and seen[0][1] == "Downloading gfpgan-1.4"
    assert "2 of 2 faces restored" in told


def test_the_comparison(context: Context) -> None:
    tab, ignored = CompareTab(context), lambda done, **more: None
    sheet, told = tab.run(VISITOR, str(PHOTO), ["tiny"], ignored, strength=1.0)
    with Image.open(sheet) as picture:
        assert picture.size == (2 * CELL, HEADER + 2 * CELL)
    assert "2 faces" in told
    with pytest.raises(gr.Error, match="No model is chosen"):
        tab.run(VISITOR, str(PHOTO), [], ignored)
    with pytest.raises(gr.Error, match="fidelity: none of these models has such an option"):
        tab.run(VISITOR, str(PHOTO), ["tiny"], ignored, fidelity=0.9)
