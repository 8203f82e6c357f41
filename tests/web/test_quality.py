"""The quality that a visitor asks for is the quality that is written, whichever tab or endpoint writes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pfr_core import PFR, PFRConfig, save_model
from pfr_core.errors import InputError

gr = pytest.importorskip("gradio")

from web.api import Api  # noqa: E402
from web.batch import BatchTab  # noqa: E402
from web.context import Context  # noqa: E402
from web.engine import Engine  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.photo import PhotoTab  # noqa: E402
from web.sessions import Sessions  # noqa: E402

VISITOR: Any = SimpleNamespace(session_hash="visitor", headers={})
PROGRESS: Any = lambda *done, **more: None  # noqa: E731


PHOTO = str(Path(__file__).resolve().parents[2] / "examples" / "degraded.jpg")


def test_a_quality_that_is_none_is_refused_before_the_network_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gr.Blocks():
        context = Context(Engine({"default": "default"}, device="cpu"), Sessions(tmp_path, 60), Limits())
        batch, api = BatchTab(context), Api(context)
    monkeypatch.setattr(context.engine, "use", lambda model: pytest.fail("it runs"))
    with pytest.raises(InputError, match="quality is 0"):
        api.restore(VISITOR, PHOTO, "default", quality=0)
    with pytest.raises(InputError, match="quality is 101"):
        batch.run_batch(VISITOR, [PHOTO], "default", PROGRESS, quality=101)


@pytest.mark.slow
def test_every_way_of_the_page_writes_in_the_quality_asked_for(tmp_path: Path) -> None:
    """Photo tab, batch tab and endpoint; without one as the command does."""
    model = tmp_path / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), model, provenance={}, licence="none")
    with gr.Blocks():
        context = Context(Engine({"tiny": str(model)}, detector="builtin", device="cpu"), Sessions(tmp_path / "s", 60), Limits())
        tab, batch, api = PhotoTab(context, []), BatchTab(context), Api(context)
    sizes = []
    with context.sessions.use("visitor") as session, context.sessions.listening("visitor"):
        session.wanted = Path(PHOTO)
        for quality in (None, 30):
            endpoint = Path(api.restore(VISITOR, PHOTO, "tiny", indices=[], quality=quality)[0])
            tab.open(VISITOR, "tiny")
            tab.restore(VISITOR, "tiny", PROGRESS)
            saved = Path(tab.save(VISITOR, quality)[0]["save"])
            _, zipped, *_ = batch.run_batch(VISITOR, [PHOTO], "tiny", PROGRESS, quality)
            with zipfile.ZipFile(zipped.value["path"]) as content:
                (name,) = content.namelist()
                assert content.read(name) == endpoint.read_bytes() == saved.read_bytes()
            sizes.append(endpoint.stat().st_size)
    assert sizes[1] < 0.5 * sizes[0]
