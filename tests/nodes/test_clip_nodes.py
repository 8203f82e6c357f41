"""The nodes for clips, loaded as ComfyUI loads them, with a detector that knows where the face is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pfr_core.faces.align import TEMPLATE


@pytest.fixture
def node(pack: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a node by name, and run it with untouched widgets; the detector sees a face in pictures that are not black."""
    Face = sys.modules[f"{pack.__name__}.pfr_core.faces.face"].Face
    points = tuple((float(x), float(y)) for x, y in (TEMPLATE - 256) / 16 + (48, 32))
    face = Face((40, 24, 56, 40), 0.9, points)
    detector = sys.modules[f"{pack.__name__}.pfr_core.faces.detect"].Detector
    monkeypatch.setattr(detector, "detect", lambda self, image, **how: [face] if image.any() else [])
    model, _ = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]().load("small.safetensors", "cpu", "fp32")["result"]

    def make(name: str) -> Any:
        made = pack.NODE_CLASS_MAPPINGS[name]()
        declared = {key: each for group in made.INPUT_TYPES().values() for key, each in group.items()}
        widgets = {key: options["default"] for key, (_, options) in declared.items() if "default" in options}
        return lambda **inputs: made.restore(**{**widgets, "model": model, **inputs})

    return make


def film(count: int, seed: int = 0) -> torch.Tensor:
    """Return frames [N,64,96,3] of one picture with noise drawn anew."""
    rng = np.random.default_rng(seed)
    still = np.kron(rng.random((16, 24, 3)), np.ones((4, 4, 1)))
    return torch.from_numpy((0.1 + 0.8 * still + rng.normal(0, 0.02, (count, 64, 96, 3))).clip(0, 1).astype(np.float32))


@pytest.mark.slow
def test_frames_are_restored_where_the_face_is_and_batches_go_on(node: Any) -> None:
    frames = film(12)
    image, mask, faces, count = node("PFRRestoreClip")(image=frames)["result"]
    assert image.shape == frames.shape and count == 1 and [len(each) for each in faces.frames] == [1] * 12
    assert torch.equal(image[mask == 0], frames[mask == 0]) and not torch.equal(image, frames)

    clip, fresh = node("PFRRestoreClip"), node("PFRRestoreClip")
    first = clip(image=frames[:6], steady=0.9)["result"]
    second = clip(image=frames[6:], steady=0.9, goes_on=True)["result"]
    assert second[3] == 1 and len(second[2].frames) == 6 and first[0].shape == second[0].shape
    alone = fresh(image=frames[6:], steady=0.9, goes_on=True)["result"]
    assert not torch.equal(second[0][0], alone[0][0]), "the past of the first batch is in the second"
    other = film(6, seed=1)
    assert torch.equal(clip(image=other, goes_on=True)["result"][0], fresh(image=other, goes_on=False)["result"][0]), "a cut"


def test_frames_without_a_face_and_frames_that_are_no_numbers_pass(node: Any) -> None:
    black = torch.zeros(3, 64, 96, 4)
    image, mask, _, count = node("PFRRestoreClip")(image=black)["result"]
    assert torch.equal(image, black) and count == 0 and not mask.any()
    black[1] = float("nan")
    shown = node("PFRRestoreClip")(image=black)
    assert torch.equal(shown["result"][0].isnan(), black.isnan()) and "NaN" in shown["ui"]["text"][0]
    assert node("PFRRestoreClip")(image=film(2), select="index", indices="7")["result"][3] == 0
    broken = film(9)
    broken[4, 30] = float("nan")
    image, mask, faces, _ = node("PFRRestoreClip")(image=broken)["result"]
    assert torch.equal(image[4].nan_to_num(), broken[4].nan_to_num()) and not mask[4].any() and mask[3].any() and mask[5].any()
    assert [len(each) for each in faces.frames] == [1] * 4 + [0] + [1] * 4


def test_a_widget_without_effect_is_ignored_and_faces_are_numbered_from_left_to_right(
    node: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = sys.modules[f"{pack.__name__}.pfr_core.faces.detect"].Detector
    (face,) = detector.detect(None, np.ones(1))
    both = [face.moved(1, (24, 0)), face.moved(1, (-24, 0))]
    monkeypatch.setattr(detector, "detect", lambda self, image, **how: both)
    shown = node("PFRRestoreClip")(image=film(2), select="index", indices="0", steady=0.0, restore_every=5)
    assert "Restore every was ignored: with steady 0 each frame is restored anew." in shown["ui"]["text"]
    mask = shown["result"][1][0]
    assert mask[:, :48].any() and not mask[:, 48:].any(), "the left one, though the detector is surer of the other"
    sizes = {"min_face_size": 500, "max_face_size": 9}
    shown = node("PFRRestoreClip")(image=film(2), select="index", indices="0", **sizes)
    (text,) = (text for text in shown["ui"]["text"] if "smallest face" in text)
    assert text.startswith("Ignored") and "largest face" in text and shown["result"][3] == 1


def test_a_face_of_an_earlier_batch_is_none_of_this_one(node: Any) -> None:
    clip, black = node("PFRRestoreClip"), torch.zeros(3, 64, 96, 3)
    assert clip(image=film(3))["result"][3] == 1
    assert clip(image=black, goes_on=True)["result"][3] == 0


def test_a_video_comes_out_as_a_file_with_its_times(node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    from ..clip_files import make_clip, pictures

    class VideoFromFile(SimpleNamespace):
        def __init__(self, path: str, **more: Any) -> None:
            super().__init__(get_stream_source=lambda: path, **more)

    api: Any = ModuleType("comfy_api.input_impl")
    api.VideoFromFile = VideoFromFile
    monkeypatch.setitem(sys.modules, "comfy_api", ModuleType("comfy_api"))
    monkeypatch.setitem(sys.modules, "comfy_api.input_impl", api)
    source = make_clip(tmp_path / "a.mp4", 5)
    video, count = node("PFRRestoreVideo")(video=api.VideoFromFile(str(source)), color_match="none")["result"]
    (times, before), (new_times, after) = pictures(source), pictures(Path(video.get_stream_source()))
    change = np.abs(after - before).mean(axis=(0, 1))
    assert times == new_times and count == 1 and change[44:52].mean() > 2 * change[:16].mean()
    values = {"select": "index", "indices": "7", "scale": 2.0, "min_face_size": 500}
    large: Any = node("PFRRestoreVideo")(video=api.VideoFromFile(str(source)), **values)
    frames = pictures(Path(large["result"][0].get_stream_source()))[1]
    assert frames.shape[1:3] == (128, 192) and large["result"][1] == 0, "enlarged, though there is no such face"
    assert "there is no face 7" in str(large["ui"])
    assert "Ignored, for the face numbers" in str(large["ui"]) and "smallest face" in str(large["ui"])
    large = node("PFRRestoreVideo")(video=api.VideoFromFile(str(source)), select="index", indices="", scale=2.0)
    frames = pictures(Path(large["result"][0].get_stream_source()))[1]
    assert frames.shape[1:3] == (128, 192) and large["result"][1] == 0 and "No face is chosen" in str(large["ui"])
    edited = VideoFromFile(
        "what it was",
        has_pending_frame_edits=lambda: True,
        save_to=lambda path: shutil.copy(source, path),
        get_active_trim_window=lambda: (0.25, 0.25),
    )
    video, _ = node("PFRRestoreVideo")(video=edited)["result"]
    assert len(pictures(Path(video.get_stream_source()))[0]) == 5, "cut by save_to, and not once more"
    cut = VideoFromFile(str(source), get_active_trim_window=lambda: (0.25, 0.25))  # of 8 a second
    video, _ = node("PFRRestoreVideo")(video=cut)["result"]
    assert len(pictures(Path(video.get_stream_source()))[0]) == 2
    created = SimpleNamespace(save_to=lambda path: shutil.copy(source, path))  # of frames: 0.3.64 gives no stream of it
    video, count = node("PFRRestoreVideo")(video=created)["result"]
    assert len(pictures(Path(video.get_stream_source()))[0]) == 5 and count == 1
