"""The clip tab: faces shown and picked, a clip restored by the core, a job that is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pfr_core import Face
from pfr_core.errors import InputError
from pfr_core.faces.align import TEMPLATE

av = pytest.importorskip("av")
gr = pytest.importorskip("gradio")

from web.context import Context  # noqa: E402
from web.engine import Engine  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.sessions import Sessions  # noqa: E402
from web.video import VideoTab  # noqa: E402

from ..clip_files import make_clip, pictures  # noqa: E402

VISITOR: Any = SimpleNamespace(session_hash="visitor", headers={})


def face(x: float) -> Face:
    points = tuple((float(px), float(py)) for px, py in (TEMPLATE - 256) / 16 + (x, 32))
    return Face((x - 8, 24, x + 8, 40), 0.9, points)  # type: ignore[arg-type]


@pytest.fixture
def tab(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoTab]:
    """Return the tab of a page whose detector sees two faces in every picture."""
    engine, sessions = Engine({"tiny": str(tiny_model)}, device="cpu"), Sessions(tmp_path / "visitors", 60)
    monkeypatch.setattr(engine._detector, "detect", lambda image, **how: [face(24), face(72)])
    with gr.Blocks(), sessions.listening("visitor"):
        yield VideoTab(Context(engine, sessions, Limits(max_faces=2)))
    sessions.close()


def quiet(*done: Any, **more: Any) -> None:
    """Take progress."""


def test_faces_are_shown_and_those_that_were_picked_are_restored(tab: VideoTab, tmp_path: Path) -> None:
    clip = str(make_clip(tmp_path / "a.mp4", 6))
    tab.look(VISITOR, clip)
    people, picked, strengths, told = tab.find_people(VISITOR, clip, quiet)
    assert [value for _, value in picked.choices] == picked.value == ["0", "1"] and "2 faces" in told
    assert people.visible and strengths.visible
    assert tab.pick(SimpleNamespace(index=0), ["0", "1"]) == ["1"] and tab.pick(SimpleNamespace(index=0), ["1"]) == ["0", "1"]
    path, told, _ = tab.run_clip(VISITOR, clip, ["1"], "tiny", quiet)
    change = np.abs(pictures(Path(path))[1] - pictures(Path(clip))[1]).mean(axis=(0, 1))
    assert change[68:76].mean() > 1.5 * change[20:28].mean() and told.startswith("6 frames, 1 face.")
    path, _, _ = tab.run_clip(VISITOR, clip, ["0", "1"], "tiny", quiet, strengths="0=1, 1=0")
    change = np.abs(pictures(Path(path))[1] - pictures(Path(clip))[1]).mean(axis=(0, 1))
    assert change[20:28].mean() > 1.5 * change[68:76].mean(), "one face keeps its looks"
    assert tab.preview_frame(VISITOR, clip, "tiny")[1].startswith("1 frame, 2 faces.")
    with pytest.raises(InputError, match="write the number of a face"):
        tab.run_clip(VISITOR, clip, ["0"], "tiny", quiet, strengths="half")
    with pytest.raises(InputError, match="at least one face"):
        tab.run_clip(VISITOR, clip, [], "tiny", quiet)
    for none_of_them in (None, ["x", "7", "-1"]):
        with pytest.raises(InputError, match="at least one face"):
            tab.run_clip(VISITOR, clip, none_of_them, "tiny", quiet)
    others: list[dict[str, Any]] = [{"max_face_size": 5}, {"min_face_size": 99}, {"select": "largest"}]
    for settings in others:
        told = tab.run_clip(VISITOR, clip, ["0", "1"], "tiny", quiet, **settings)[1]
        assert "2 faces" in told, "what is picked is restored"
    with pytest.raises(InputError, match="Show the faces again"):
        tab.run_clip(VISITOR, clip, ["0"], "tiny", quiet, threshold=0.7)
    for settings, number in zip(others[1:], (0, 1), strict=True):
        people, picked, _, _ = tab.find_people(VISITOR, clip, quiet, **settings)
        assert len(people.value) == len(picked.choices) == 2 and len(picked.value) == number, "what the settings choose is picked"
    tab.look(VISITOR, clip)
    assert "2 faces" in tab.run_clip(VISITOR, clip, [], "tiny", quiet)[1], "nobody looked: all of them"
    assert "0 faces" in tab.run_clip(VISITOR, clip, [], "tiny", quiet, max_face_size=5)[1], "nobody looked: those that are chosen"
    assert "2 faces" in tab.run_clip(VISITOR, clip, [], "tiny", quiet, threshold=0.7)[1]
    told = tab.run_clip(VISITOR, clip, [], "tiny", quiet, steady=0.0, restore_every=5)[1]
    assert "Restore every has no effect: with Steady 0" in told


def test_picked_faces_are_taken_whatever_gradio_remembers(tab: VideoTab) -> None:
    """It forgets the choices of a visitor once fifty others have come."""
    assert tab.picked.choices == [] and tab.picked.preprocess(["0", "1"]) == ["0", "1"]


def test_a_stopped_job_keeps_nothing_and_limits_hold(tab: VideoTab, tmp_path: Path) -> None:
    clip = str(make_clip(tmp_path / "a.mp4", 12))

    def stop(share: float, desc: str) -> None:
        if desc.startswith("Frame 5 "):
            with tab.context.visit(VISITOR) as session:
                session.stop("clip")

    path, told, _ = tab.run_clip(VISITOR, clip, [], "tiny", stop)
    assert path is None and told.startswith("**Stopped.**")
    with tab.context.visit(VISITOR) as session:
        session.arm("clip")
        assert not [each for each in session.folder.rglob("*") if each.is_file()]
    tab.context.engine._detector.detect = lambda image, **how: [face(20), face(48), face(76)]  # type: ignore[method-assign]
    tab.look(VISITOR, clip)
    with pytest.raises(InputError, match="max_faces"):
        tab.run_clip(VISITOR, clip, [], "tiny", quiet)
