"""The ComfyUI nodes, loaded as ComfyUI loads them: by absolute path, from an oddly named copy, beside small stand-ins."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pfr_core import FaceRestorer
from pfr_core.cli import main as pfr
from pfr_core.compare import compare
from pfr_core.faces.align import TEMPLATE
from pfr_core.faces.detect import Detector
from pfr_core.models import disk
from pfr_core.models.registry import restorers
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import to_float

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(pack: Any) -> Any:
    """Run a node by name, untouched widgets holding what they hold when nobody touches them, and return its outputs."""

    def run(name: str, **inputs: Any) -> tuple[Any, ...]:
        result = show(name, **inputs)
        return result["result"] if isinstance(result, dict) else result

    def show(name: str, **inputs: Any) -> Any:
        node = pack.NODE_CLASS_MAPPINGS[f"PFR{name}"]()
        return getattr(node, node.FUNCTION)(**{**defaults(node), **inputs})

    run.show = show  # type: ignore[attr-defined]  # what ComfyUI gets, with what the page shows
    return run


def defaults(node: Any) -> dict[str, Any]:
    declared = {name: each for group in node.INPUT_TYPES().values() for name, each in group.items()}
    return {name: options["default"] for name, (_, options) in declared.items() if "default" in options}


@pytest.fixture
def detector_weights(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ComfyUI users have them; without the shared material the detector that ships does it."""
    import folder_paths

    folder = Path(folder_paths.models_dir) / "facedetection"
    folder.mkdir(exist_ok=True)
    if shared := os.environ.get("PFR_SHARED_DIR"):
        shutil.copy(Path(shared) / "weights" / "detection_mobilenet0.25_Final.pth", folder)
    monkeypatch.delenv("PFR_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(disk, "_extra_folders", [folder])  # of the core that the results are compared with; the pack has its own


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    with Image.open(ROOT / "examples" / "degraded.jpg") as image:
        return torch.from_numpy(np.array(image.convert("RGB"), np.float32) / 255)[None]


def test_every_node_and_every_input_explains_itself(pack: Any) -> None:
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    for name, node in pack.NODE_CLASS_MAPPINGS.items():
        assert name.startswith("PFR") and node.DESCRIPTION and node.CATEGORY and node.SEARCH_ALIASES
        assert len(node.RETURN_TYPES) == len(node.OUTPUT_TOOLTIPS)
        assert callable(getattr(node, node.FUNCTION))
        for group in node.INPUT_TYPES().values():
            assert all(options["tooltip"] for _, options in group.values()), name


def test_the_widgets_are_the_core_s_options(pack: Any) -> None:
    """Untouched widgets give the core's own defaults, and no option is missing."""
    restore = pack.NODE_CLASS_MAPPINGS["PFRRestoreFaces"]
    chosen = sys.modules[f"{pack.__name__}.nodes.inputs"].options(defaults(restore))
    options = chosen.options
    assert not chosen.none and not chosen.ignored
    for item in fields(RestoreOptions):
        assert getattr(options, item.name) == item.default, item.name
        assert any(item.name in group for group in restore.INPUT_TYPES().values()), item.name


def test_only_model_files_are_offered(pack: Any) -> None:
    load = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]
    offered, widget = load.INPUT_TYPES()["required"]["model"]
    assert offered[:3] == ["default", "broken.safetensors", "small.safetensors"]
    downloadable = [weights for weights in restorers() if weights.urls]
    assert offered[3:] == [weights.name for weights in downloadable] and "gpen-512" not in offered
    assert all(weights.licence in widget["tooltip"] for weights in downloadable)


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_other_packs_keep_their_endings_and_we_ours(
    pack: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: bool
) -> None:
    """ReActor and facerestore_cf put their folder and endings in place of whatever there was; so may one of another folder."""
    import folder_paths

    runtime, load = sys.modules[f"{pack.__name__}.nodes.runtime"], pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]
    usual, theirs = tmp_path / "facerestore_models", tmp_path / "theirs"
    for folder, name in ((usual, "own.onnx"), (theirs, "a.pth")):
        folder.mkdir()
        (folder / name).touch()
    searched: list[str] = []
    known: Any = {"facerestore_models": ([str(tmp_path / "named")], set())}  # by extra_model_paths.yaml
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "b.pth").touch()
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(runtime, "add_search_folder", searched.append)
    for ours in (False, True) if first else (True, False):
        if ours:
            runtime.register_folders()
        else:
            known["facerestore_models"] = ([str(usual), str(theirs)], {".pth"})
    offered, _ = load.INPUT_TYPES()["required"]["model"]
    here = {"own.onnx", "a.pth", *([] if first else ["b.pth"])}
    assert here <= set(offered) and not {"own.onnx", "a.pth", "b.pth"} - here & set(offered)
    assert runtime.model_path("own.onnx") == str(usual / "own.onnx") and runtime.model_path("a.pth") == str(theirs / "a.pth")
    assert known["facerestore_models"] == ([str(usual), str(theirs)], {".pth"}), "theirs is as they left it"
    assert {str(usual), str(theirs), str(tmp_path / "facedetection")} <= set(searched)


def test_a_step_of_several_frames_moves_the_bar_by_all_of_them(pack: Any) -> None:
    steps = sys.modules[f"{pack.__name__}.nodes.runtime"].Steps(5)
    with steps.frame(0, 2):
        pass
    with pytest.raises(RuntimeError, match="Frames 2 to 3 of 5"), steps.frame(2, 2):
        raise RuntimeError("a defect of the device")
    full = torch.OutOfMemoryError("no memory")
    with pytest.raises(torch.OutOfMemoryError) as caught, steps.frame(2, 2):
        raise full
    assert caught.value is full, "ComfyUI knows that one, and frees memory"
    with steps.frame(4):
        pass
    assert sys.modules["comfy.utils"].ProgressBar.seen == [2 / 5, 3 / 5]


def test_a_graph_made_for_a_model_that_is_not_here_says_what_to_do(pack: Any) -> None:
    load = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]
    said = load.VALIDATE_INPUTS("gone.pth")
    assert said == ("gone.pth is not in models/facerestore_models on this machine. Choose another model, or put the file there.")
    for name in ("GFPGANv1.4.pth", "sub/GFPGANv1.4.pth", "sub\\GFPGANv1.4.pth"):
        assert "Choose gfpgan-1.4, which is downloaded when it is first used" in load.VALIDATE_INPUTS(name)
    assert "Choose another model" in load.VALIDATE_INPUTS("GPEN-BFR-512.pth"), "PFR does not download it"
    # What another node gives is not known yet.
    assert load.VALIDATE_INPUTS(None) is True and load.IS_CHANGED(None, device="auto", dtype="auto") == ""


def test_a_model_file_that_was_replaced_is_read_again(pack: Any) -> None:
    load = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]
    import folder_paths

    before = load.IS_CHANGED("small.safetensors", device="auto", dtype="auto")
    os.utime(Path(folder_paths.models_dir) / "facerestore_models" / "small.safetensors", (1, 1))
    assert before != load.IS_CHANGED("small.safetensors", device="auto", dtype="auto")
    assert load.IS_CHANGED("default") == load.IS_CHANGED("default")


def test_a_broken_model_is_named(run: Any) -> None:
    with pytest.raises(Exception, match=r"broken\.safetensors"):
        run("LoadModel", model="broken.safetensors")
    with pytest.raises(Exception, match="bf16: this network does not bear it"):  # before it is downloaded
        run("LoadModel", model="codeformer", dtype="bf16")
    with pytest.raises(Exception, match="fp16 on a CPU"):
        run("LoadModel", device="cpu", dtype="fp16")


@pytest.mark.parametrize("names", [["ClassHead.0.conv1x1.weight"], ["final_linear.weight", "conv_body_first.0.weight"], ["x"]])
def test_a_file_of_something_else_is_told_in_words_of_the_graph(names: list[str], run: Any) -> None:
    """Not in those of the command; names of the widget's list are the remedy."""
    import folder_paths

    state = {name: torch.ones(1) for name in (*names, "stylegan_decoder.constant_input.weight")}
    path = Path(folder_paths.models_dir) / "facerestore_models" / "other.safetensors"
    save_file(state, path)
    with pytest.raises(Exception, match=r"other\.safetensors.*gfpgan-1\.4") as caught:
        run("LoadModel", model=path.name)
    path.unlink()
    assert "pfr " not in str(caught.value) and "--" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("detector_weights")
def test_one_node_the_steps_and_the_command_give_the_same_picture(run: Any, photo: torch.Tensor, tmp_path: Path) -> None:
    model, size = run("LoadModel", dtype="fp32")
    image, mask, before, after, restored_faces, number = run("RestoreFaces", model=model, image=photo)
    expected = FaceRestorer(device="cpu", dtype="fp32").restore(photo[0].numpy())
    assert torch.equal(image[0], torch.from_numpy(expected.image)) and torch.equal(mask[0], torch.from_numpy(expected.mask))
    assert image.dtype == mask.dtype == torch.float32
    assert torch.equal(image[mask == 0], photo[mask == 0]) and not torch.equal(image, photo)

    faces, preview, boxes, count, *_ = run("DetectFaces", image=photo)
    assert (
        count == number == len(expected.faces) == 1 and faces == restored_faces and boxes.shape == mask.shape and boxes.max() == 1
    )
    assert preview.shape == photo.shape and not torch.equal(preview, photo)
    (crops,) = run("CropFaces", image=photo, faces=faces, size=size)
    assert torch.equal(crops, before)
    (restored,) = run("RestoreCrops", model=model, crops=crops)
    assert torch.equal(restored, after)
    pasted, again = run("PasteFaces", image=photo, faces=faces, crops=restored)
    assert torch.equal(pasted, image) and torch.equal(again, mask)

    out = tmp_path / "out.png"
    assert pfr(["restore", str(ROOT / "examples" / "degraded.jpg"), "-o", str(out), "--device", "cpu", "--dtype", "fp32"]) == 0
    with Image.open(out) as saved:
        assert np.array_equal(np.array(saved), np.rint(image[0].numpy() * 255))


@pytest.mark.usefixtures("detector_weights")
def test_a_batch_keeps_length_order_alpha_and_frames_without_a_face(run: Any, photo: torch.Tensor) -> None:
    model, size = run("LoadModel", model="small.safetensors", dtype="fp32")
    assert size == 64
    frames = torch.cat([torch.zeros_like(photo), photo, torch.zeros_like(photo)])
    frames = torch.cat([frames, torch.linspace(0, 1, photo.shape[2]).expand(3, *photo.shape[1:3])[..., None]], dim=3)
    image, mask, before, *_ = run("RestoreFaces", model=model, image=frames)
    assert image.shape == frames.shape and len(mask) == 3 and len(before) == 1
    assert torch.equal(image[0], frames[0]) and torch.equal(image[2], frames[2]) and torch.equal(image[..., 3], frames[..., 3])
    assert not torch.equal(image[1], frames[1])
    half, *_ = run("RestoreFaces", model=model, image=frames.half())
    assert half.dtype == torch.float32 and (half - image).abs().max() < 0.05


@pytest.mark.usefixtures("detector_weights")
@pytest.mark.parametrize(("own", "other"), [(3, 3), (4, 3), (3, 4), (4, 4)])
def test_an_upscaled_picture_keeps_the_alpha_there_is(run: Any, photo: torch.Tensor, own: int, other: int) -> None:
    model, _ = run("LoadModel", model="small.safetensors", dtype="fp32")
    small = torch.cat([photo, torch.linspace(0, 1, photo.shape[2]).expand(photo.shape[:3])[..., None]], dim=3)
    large = torch.nn.functional.interpolate(small.permute(0, 3, 1, 2), scale_factor=2).permute(0, 2, 3, 1)
    image, mask, *_ = run("RestoreFaces", model=model, image=small[..., :own], upscaled=large[..., :other])
    assert image.shape == (*large.shape[:3], max(own, other)) and mask.shape == large.shape[:3]
    outside = mask == 0
    assert torch.equal(image[outside][:, :3], large[outside][:, :3])
    if max(own, other) == 4:
        assert (image[..., 3] - large[..., 3]).abs().max() < 0.01


@pytest.mark.usefixtures("detector_weights")
def test_no_face_passes_through_and_what_does_not_fit_is_refused(run: Any, photo: torch.Tensor) -> None:
    blank = torch.full_like(photo, 0.5)
    faces, _, _, count, *_ = run("DetectFaces", image=blank)
    (crops,) = run("CropFaces", image=blank, faces=faces, size=64)
    assert count == 0 and crops.shape == (1, 64, 64, 3), "ComfyUI's own nodes fail on an empty batch"
    image, mask = run("PasteFaces", image=blank, faces=faces, crops=crops)
    assert torch.equal(image, blank) and mask.max() == 0

    found, *_ = run("DetectFaces", image=photo)
    with pytest.raises(Exception, match="1 faces, but 2 crops"):
        run("PasteFaces", image=photo, faces=found, crops=torch.zeros(2, 64, 64, 3))
    with pytest.raises(Exception, match="crops are 32x64 px; they must be square"):
        run("PasteFaces", image=photo, faces=found, crops=torch.zeros(1, 64, 32, 3))
    with pytest.raises(Exception, match=r"1 x 512x512 px, this one is 2 x 512x512"):
        run("CropFaces", image=torch.cat([photo, photo]), faces=found)
    with pytest.raises(Exception, match=r"1 x 512x512 px, this one is 1 x 256x256"):
        run("PasteFaces", image=photo[:, ::2, ::2], faces=found, crops=torch.zeros(1, 64, 64, 3))
    with pytest.raises(Exception, match=r"IMAGE of shape \[1, 8, 8, 2\]"):
        run("DetectFaces", image=torch.zeros(1, 8, 8, 2))


@pytest.mark.usefixtures("detector_weights")
def test_the_picker_numbers_all_faces_and_knows_which_are_chosen(run: Any, photo: torch.Tensor) -> None:
    import folder_paths

    pair = torch.cat([photo, photo.flip(2)], dim=2)
    frames = torch.cat([torch.zeros_like(pair), pair])
    shown = run.show("DetectFaces", image=frames, select="index", indices="1")
    (picker,) = shown["ui"]["pfr_picker"]
    assert picker["size"] == [1024, 512] and picker["frame"] == 1 and picker["frames"] == 2
    assert len(picker["boxes"]) == 2 and picker["chosen"] == [1]
    with Image.open(Path(folder_paths.get_temp_directory()) / picker["picture"]["filename"]) as picture:
        assert picture.size == (1024, 512)
    faces, _, mask, count, *_ = shown["result"]
    assert count == 1 and faces.frames[1][0].center[0] > 512 and mask[1, :, :512].max() == 0
    assert run.show("DetectFaces", image=frames[:1])["ui"]["pfr_picker"] == []
    assert run.show("DetectFaces", image=frames, select="index", indices="1")["ui"]["pfr_picker"] == [picker], "as before"
    assert run.show("DetectFaces", image=frames[:, :, :512])["ui"]["pfr_picker"][0]["picture"] != picker["picture"]


@pytest.mark.usefixtures("detector_weights")
def test_boxes_come_out_as_the_core_s_nodes_take_them(run: Any, photo: torch.Tensor) -> None:
    faces, _, mask, _, boxes, first, _ = run("DetectFaces", image=photo)
    ((box,),) = boxes
    assert set(box) == {"x", "y", "width", "height", "label", "score"} and box["score"] == faces.frames[0][0].score
    assert first == box
    whole = run("DetectFaces", image=torch.zeros_like(photo))[-2]
    assert whole == {"x": 0, "y": 0, "width": photo.shape[2], "height": photo.shape[1]}, "Crop Image takes it"
    inside = mask[0, box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
    assert inside.min() == 1 and inside.sum() == mask.sum()


@pytest.mark.usefixtures("detector_weights")
def test_segs_of_the_impact_pack_go_out_and_come_in(run: Any, photo: torch.Tensor) -> None:
    wide = torch.nn.functional.pad(photo, (0, 0, 40, 0))  # the face is not in the middle
    faces, _, mask, *_, ((height, width), (seg,)) = run("DetectFaces", image=wide)
    assert (height, width) == wide.shape[1:3] and seg.label == "face" and seg.control_net_wrapper is None
    left, top, right, bottom = seg.crop_region
    assert np.array_equal(seg.cropped_image, wide[:, top:bottom, left:right]), "as that pack cuts it out"
    whole = np.zeros(wide.shape[1:3], np.float32)
    whole[top:bottom, left:right] = seg.cropped_mask
    assert np.array_equal(whole, mask[0]), "the mask's place is that of the box"
    x0, y0, x1, y1 = seg.bbox
    assert whole[y0:y1, x0:x1].min() == 1 and whole.sum() == (x1 - x0) * (y1 - y0)

    other: Any = namedtuple("SEG", seg._fields)(*seg)  # that pack's own class
    (again,) = run("DetectFaces", image=wide, segs=((height, width), [other]), threshold=0.99)[0].frames[0]
    assert np.abs(np.subtract(again.center, faces.frames[0][0].center)).max() < 0.1 * again.size
    half = other._replace(bbox=tuple(value / 2 for value in seg.bbox))
    (from_small,) = run("DetectFaces", image=wide, segs=((height / 2, width / 2), [half]), threshold=0.99)[0].frames[0]
    assert np.allclose(from_small.points, again.points), "found in a smaller picture"
    assert run("DetectFaces", image=wide, segs=((height, width), []))[3] == 0
    assert run("DetectFaces", image=torch.zeros_like(wide))[-1] == ((height, width), [])
    with pytest.raises(Exception, match="not of the Impact Pack's form"):
        run("DetectFaces", image=wide, segs=[1])


@pytest.mark.usefixtures("detector_weights")
def test_values_beyond_white_and_frames_that_are_not_numbers_pass(run: Any, photo: torch.Tensor) -> None:
    """Outside the faces every value stays as it came; a frame of NaN stops no other, and is said once."""
    model, size = run("LoadModel", model="small.safetensors", dtype="fp32")
    bright = photo * 1.5 - 0.1
    broken = torch.full_like(photo, torch.nan)
    frames = torch.cat([torch.full_like(photo, 1.7), bright, broken, broken])
    shown = run.show("RestoreFaces", model=model, image=frames)
    image, mask, *_ = shown["result"]
    assert torch.equal(image[0], frames[0]) and torch.equal(image[2:].isnan(), frames[2:].isnan())
    outside = mask[1] == 0
    assert torch.equal(image[1][outside], bright[0][outside]) and not torch.equal(image[1], bright[0])
    (text,) = (text for text in shown["ui"]["text"] if "NaN" in text)
    assert "Frame 2 of 4" in text and "(and 1 more like it)" in text

    found = run.show("DetectFaces", image=frames)
    faces, preview, _, count, *_ = found["result"]
    assert count == 1 and bool(preview.isfinite().all())
    assert "No face" in found["ui"]["text"][0] and "NaN" in found["ui"]["text"][-1]
    (crops,) = run("CropFaces", image=frames, faces=faces, size=size)
    (restored,) = run("RestoreCrops", model=model, crops=crops)
    pasted, again = run("PasteFaces", image=frames, faces=faces, crops=restored)
    assert torch.equal(pasted[:2], image[:2]) and torch.equal(again, mask)


@pytest.mark.usefixtures("detector_weights")
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("together", [1, 8])
def test_a_crop_that_is_not_numbers_leaves_its_face_and_no_other(
    pack: Any, run: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch, wrong: float, together: int
) -> None:
    monkeypatch.setattr(sys.modules[f"{pack.__name__}.pfr_core.restorer"], "faces_at_once", lambda device: together)
    model, size = run("LoadModel", model="small.safetensors", dtype="fp32")
    frames = torch.cat([photo, photo, photo])
    faces, *_ = run("DetectFaces", image=frames)
    (crops,) = run("CropFaces", image=frames, faces=faces, size=size)
    (whole,) = run("RestoreCrops", model=model, crops=crops)
    crops[1, 3, 5, 0] = wrong
    shown = run.show("RestoreCrops", model=model, crops=crops)
    (restored,) = shown["result"]
    assert torch.allclose(restored[::2], whole[::2], atol=1e-5) and torch.equal(restored[1].isfinite(), crops[1].isfinite())
    assert [("Frame 1 of 3" in text, "NaN" in text) for text in shown["ui"]["text"]] == [(True, True)]
    shown = run.show("PasteFaces", image=frames, faces=faces, crops=restored)
    image, mask = shown["result"]
    assert torch.equal(image[1], photo[0]) and mask[1].max() == 0
    expected, _ = run("PasteFaces", image=frames, faces=faces, crops=whole)
    assert torch.allclose(image[::2], expected[::2], atol=1e-5) and not torch.equal(image[0], photo[0])
    assert sum("its face stays as it is" in text for text in shown["ui"]["text"]) == 1


@pytest.mark.usefixtures("detector_weights")
def test_memory_is_comfyui_s(run: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves the network, and says where pictures lie between nodes."""
    management = sys.modules["comfy.model_management"]
    monkeypatch.setattr(management, "intermediate_device", lambda: torch.device("meta"))
    monkeypatch.setattr(management, "loaded", [])
    model, size = run("LoadModel", model="small.safetensors", dtype="fp32")
    faces, preview, masks, *_ = run("DetectFaces", image=photo)
    (crops,) = run("CropFaces", image=photo, faces=faces, size=size)
    nobody, *_ = run("DetectFaces", image=torch.zeros_like(photo))
    (none,) = run("CropFaces", image=photo, faces=nobody, size=size)
    assert management.loaded == []
    image, mask, *_ = run("RestoreFaces", model=model, image=photo)
    assert management.loaded == [model.patcher]
    assert {each.device.type for each in (preview, masks, crops, none, image, mask)} == {"meta"}


def test_an_onnx_file_counts_with_its_size(pack: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ComfyUI sees no tensor of it; of other networks it counts the tensors itself."""
    runtime = sys.modules[f"{pack.__name__}.nodes.runtime"]
    (tmp_path / "net.onnx").write_bytes(bytes(1000))
    network = runtime.OnnxModel.__new__(runtime.OnnxModel)
    torch.nn.Module.__init__(network)
    network.path, network._opened_for, network.anchor = tmp_path / "net.onnx", torch.device("cpu"), torch.empty(0)
    monkeypatch.setattr(runtime, "model_path", str)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "read_face_model", lambda path: network)
        assert runtime.load(str(network.path), "auto", "fp32").patcher.size == 1000
    small = Path(sys.modules["folder_paths"].models_dir) / "facerestore_models" / "small.safetensors"
    assert runtime.load(str(small), "auto", "fp32").patcher.size == 0


def test_what_a_model_made_is_recorded_with_its_file_s_name_and_hash(run: Any) -> None:
    """Whatever ComfyUI makes of the network in between, such as another precision."""
    small = Path(sys.modules["folder_paths"].models_dir) / "facerestore_models" / "small.safetensors"
    for dtype in ("fp32", "bf16"):
        model, _ = run("LoadModel", model=small.name, dtype=dtype)
        mark = model.restorer().provenance
        assert (mark.model, mark.sha256) == (small.name, hashlib.sha256(small.read_bytes()).hexdigest())


def test_comfyui_is_asked_for_memory_before_faces_are_looked_for_or_cut_out(
    run: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graphics card may be full of other models; a CPU's memory is nobody's to give."""
    management, runtime = sys.modules["comfy.model_management"], sys.modules[f"{pack.__name__}.nodes.runtime"]
    core, image = f"{pack.__name__}.pfr_core.faces", torch.full((1, 64, 64, 3), 0.5)
    points = tuple((float(x), float(y)) for x, y in TEMPLATE / 8)
    face = sys.modules[f"{core}.face"].Face((12, 12, 50, 56), 0.9, points)
    asked: list[Any] = []

    def detect(self: Any, image: Any, **how: Any) -> list[Any]:
        asked.append("look")
        return [face]

    def mask(self: Any, crop: Any, *_: Any, **__: Any) -> Any:
        asked.append("cut")
        return np.ones(crop.shape[:2], np.float32)

    monkeypatch.setattr(sys.modules[f"{core}.detect"].Detector, "detect", detect)
    monkeypatch.setattr(sys.modules[f"{core}.mask"].FaceParser, "mask", mask)
    monkeypatch.setattr(runtime, "fetch_around", lambda *_: None)
    monkeypatch.setattr(management, "free_memory", lambda size, device: asked.append((size, device)))
    for device, room in (("cuda", [(management.minimum_inference_memory(), torch.device("cuda"))]), ("cpu", [])):
        monkeypatch.setattr(runtime, "own_device", lambda device=device: torch.device(device))
        asked.clear()
        faces, *_ = run("DetectFaces", image=image)
        assert asked == [*room, "look"]
        run("PasteFaces", image=image, faces=faces, crops=image)
        assert asked == [*room, "look"], "a box needs no network"
        run("PasteFaces", image=image, faces=faces, crops=image, mask="parse")
        assert asked == [*room, "look", *room, "cut"]


@pytest.mark.usefixtures("detector_weights")
@pytest.mark.parametrize("node", ["RestoreFaces", "RestoreClip", "CompareModels"])
def test_faces_are_looked_for_where_the_model_is(
    run: Any, pack: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    """A model on the CPU leaves the graphics card alone, and so does what finds its faces."""
    monkeypatch.setattr(sys.modules[f"{pack.__name__}.nodes.runtime"], "own_device", lambda: torch.device("meta"))
    Detector = sys.modules[f"{pack.__name__}.pfr_core.faces.detect"].Detector
    devices, detect = list[torch.device](), Detector.detect

    def watched(self: Any, *args: Any, **how: Any) -> Any:
        devices.append(self.device)
        return detect(self, *args, **how)

    monkeypatch.setattr(Detector, "detect", watched)
    model, _ = run("LoadModel", model="small.safetensors", device="cpu", dtype="fp32")
    run(node, model=model, image=photo)
    assert set(devices) == {torch.device("cpu")}


@pytest.mark.usefixtures("detector_weights")
def test_faces_given_for_a_frame_that_is_not_numbers_are_left(run: Any, photo: torch.Tensor) -> None:
    """One pixel of NaN would become a face of NaN, and a frame of the batch is no reason to stop it."""
    model, size = run("LoadModel", model="small.safetensors", dtype="fp32")
    faces, *_ = run("DetectFaces", image=torch.cat([photo, photo]))
    broken = torch.cat([photo, photo])
    broken[0, 250, 250] = torch.nan
    shown = run.show("RestoreFaces", model=model, image=broken, faces=faces)
    image, mask, *_, count = shown["result"]
    assert torch.equal(image[0].nan_to_num(9), broken[0].nan_to_num(9)) and mask[0].max() == 0 and count == 1
    assert bool(image[1].isfinite().all()) and not torch.equal(image[1], photo[0]) and "NaN" in shown["ui"]["text"][0]
    (crops,) = run("CropFaces", image=torch.cat([photo, photo]), faces=faces, size=size)
    shown = run.show("PasteFaces", image=broken, faces=faces, crops=1 - crops)
    image, mask = shown["result"]
    assert torch.equal(image[0].nan_to_num(9), broken[0].nan_to_num(9)) and mask[0].max() == 0 and mask[1].max() > 0
    assert "NaN" in shown["ui"]["text"][0]


@pytest.mark.usefixtures("detector_weights")
def test_a_notice_is_given_once(run: Any, photo: torch.Tensor) -> None:
    """However many frames it is about."""
    model, _ = run("LoadModel", model="small.safetensors", dtype="fp32")
    (text,) = run.show("RestoreFaces", model=model, image=torch.cat([photo] * 3))["ui"]["text"]
    assert text.startswith("Frame 0 of 3") and "times larger" in text and text.endswith("(and 2 more like it)")


@pytest.mark.usefixtures("detector_weights")
def test_an_error_names_its_frame(run: Any, photo: torch.Tensor, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="The face numbers are 'a'"):
        run("DetectFaces", image=photo, select="index", indices="a")
    model, _ = run("LoadModel", model="small.safetensors")
    other = torch.zeros(2, 64, 200, 3)  # not the same picture enlarged
    with pytest.raises(Exception, match="Frame 0 of 2"):
        run("RestoreFaces", model=model, image=torch.cat([photo, photo]), upscaled=other)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect of the device")

    monkeypatch.setattr(sys.modules[f"{pack.__name__}.pfr_core"].FaceRestorer, "restore_crops", fail)
    with pytest.raises(RuntimeError, match=r"Frame 0 of 2.*a defect of the device"):
        run("RestoreFaces", model=model, image=torch.cat([photo, photo]))


@pytest.fixture(scope="module")
def pair(photo: torch.Tensor) -> torch.Tensor:
    """Two faces, side by side."""
    return torch.cat([photo, photo.flip(2)], dim=2)


@pytest.mark.usefixtures("detector_weights")
@pytest.mark.parametrize(
    ("values", "count", "words"),
    [
        ({"select": "largest", "indices": "0"}, 1, "face numbers were ignored: which faces is largest"),
        ({"select": "largest", "indices": "a, b"}, 1, "face numbers were ignored: which faces is largest"),
        ({"select": "center", "count": 1}, 1, "At most was ignored"),
        ({"select": "index", "indices": "1, 7"}, 1, "there is no face"),
        ({"select": "index", "indices": ""}, 0, "No face is chosen"),
        ({"min_face_size": 5000}, 0, "No face was found"),
    ],
)
def test_a_widget_without_effect_is_said_and_stops_no_queue(
    run: Any, pair: torch.Tensor, values: dict[str, Any], count: int, words: str
) -> None:
    shown = run.show("DetectFaces", image=pair, **values)
    assert shown["result"][3] == count and words in shown["ui"]["text"][0]
    assert [len(each["boxes"]) for each in shown["ui"]["pfr_picker"]] == ([] if "min_face_size" in values else [2])


@pytest.mark.usefixtures("detector_weights")
def test_what_finds_faces_is_without_effect_where_they_are_connected(run: Any, pair: torch.Tensor) -> None:
    """Were they looked for, the sizes would be refused."""
    model, _ = run("LoadModel", model="small.safetensors")
    faces = run("DetectFaces", image=pair, select="index", indices="1")[0]
    values = {"detector": "builtin", "min_face_size": 500, "max_face_size": 9, "select": "largest", "indices": "a"}
    shown = run.show("RestoreFaces", model=model, image=pair, faces=faces, only_bad_faces=False, **values)
    assert shown["result"][5] == 1
    told = "Ignored, for faces are connected: detector, smallest face, largest face, which faces, face numbers, only bad faces."
    assert shown["ui"]["text"][0] == told


@pytest.mark.usefixtures("detector_weights")
def test_a_scale_beside_an_upscaled_picture_is_said(run: Any, photo: torch.Tensor) -> None:
    model, _ = run("LoadModel", model="small.safetensors")
    large = torch.nn.functional.interpolate(photo.permute(0, 3, 1, 2), scale_factor=2).permute(0, 2, 3, 1)
    shown = run.show("RestoreFaces", model=model, image=photo, upscaled=large, scale=3.0)
    assert shown["result"][0].shape == large.shape and "Enlarge was ignored" in shown["ui"]["text"][0]
    faces = shown["result"][4]
    (crops,) = run("CropFaces", image=photo, faces=faces, size=64)
    shown = run.show("PasteFaces", image=photo, faces=faces, crops=crops, upscaled=large, scale=3.0)
    assert shown["result"][0].shape == large.shape and "Enlarge was ignored" in shown["ui"]["text"][0]
    large[0, 500, 500] = torch.nan  # would become a patch of NaN in the face
    for node, inputs in (("RestoreFaces", {"model": model}), ("PasteFaces", {"faces": faces, "crops": crops})):
        shown = run.show(node, image=photo, upscaled=large, **inputs)
        image, mask, *_ = shown["result"]
        assert torch.equal(image.nan_to_num(9), large.nan_to_num(9)) and not mask.any()
        assert sum("upscaled picture holds NaN" in text for text in shown["ui"]["text"]) == 1


@pytest.mark.usefixtures("detector_weights")
def test_a_sharp_face_is_left_and_the_node_says_so(run: Any) -> None:
    with Image.open(ROOT / "examples" / "astronaut.jpg") as image:
        sharp = torch.from_numpy(np.array(image.convert("RGB"), np.float32) / 255)[None]
    model, _ = run("LoadModel", model="default")
    shown = run.show("RestoreFaces", model=model, image=sharp)
    assert torch.equal(shown["result"][0], sharp) and "1 left: already sharp" in shown["ui"]["text"][0]
    assert shown["ui"]["pfr_before"] == [], "no picture of an earlier run"
    (picker,) = run.show("DetectFaces", image=sharp)["ui"]["pfr_picker"]
    assert picker["chosen"] == [] and picker["sharp"] == [0]
    for options in ({"only_bad_faces": False}, {"select": "index", "indices": "0"}):
        assert run("RestoreFaces", model=model, image=sharp, **options)[5] == 1


@pytest.mark.usefixtures("detector_weights")
def test_faces_that_were_picked_are_restored_by_the_one_node(run: Any, pair: torch.Tensor) -> None:
    model, _ = run("LoadModel", model="small.safetensors")
    faces, *_ = run("DetectFaces", image=pair, select="index", indices="1")
    shown = run.show("RestoreFaces", model=model, image=pair, faces=faces, select="largest", indices="0")
    image, mask, *_, restored, count = shown["result"]
    assert restored == faces and count == 1 and mask[:, :, :512].max() == 0
    assert torch.equal(image[:, :, :512], pair[:, :, :512]) and not torch.equal(image, pair)
    with pytest.raises(Exception, match="The faces were found in an IMAGE"):
        run("RestoreFaces", model=model, image=pair[:, ::2], faces=faces)


@pytest.mark.usefixtures("detector_weights")
def test_before_and_after_show_the_faces_and_little_else(run: Any, pair: torch.Tensor) -> None:
    import folder_paths

    model, _ = run("LoadModel", model="small.safetensors")
    shown = run.show("RestoreFaces", model=model, image=pair, select="index", indices="0", scale=2.0)
    (face,) = shown["result"][4].frames[0]
    sizes = []
    for name in ("pfr_before", "pfr_after"):
        with Image.open(Path(folder_paths.get_temp_directory()) / shown["ui"][name][0]["filename"]) as picture:
            sizes.append(picture.size)
    assert face.size < sizes[0][1] < 3 * face.size and sizes[0][0] < 512
    assert sizes[1] == pytest.approx(2 * np.array(sizes[0]), abs=2)


@pytest.mark.usefixtures("detector_weights")
def test_faces_are_looked_for_in_a_region(run: Any, pair: torch.Tensor) -> None:
    region = torch.zeros(1, *pair.shape[1:3])
    region[:, :, 512:] = 1
    every, *_ = run("DetectFaces", image=pair)
    faces, _, _, count, *_ = run("DetectFaces", image=torch.cat([pair, pair]), region=region)
    assert count == 2 and all(frame[0].center[0] > 512 for frame in faces.frames)
    assert faces.frames[0][0].center == pytest.approx(every.frames[0][1].center, abs=6)
    assert run("DetectFaces", image=pair, region=torch.zeros_like(region))[3] == 0
    for unpainted in (torch.zeros(1, 64, 64), torch.zeros(64, 64)):  # Load Image's, of a picture without transparency
        shown = run.show("DetectFaces", image=pair, region=unpainted)
        assert shown["result"][3] == 2 and "Look only here was ignored" in shown["ui"]["text"][0]
    with pytest.raises(Exception, match=r"MASK of 1 x 1024x256 px, the IMAGE 1 x 1024x512"):
        run("DetectFaces", image=pair, region=region[:, ::2])


@pytest.mark.usefixtures("detector_weights")
def test_a_face_that_the_detector_misses_can_be_given(run: Any, pair: torch.Tensor) -> None:
    every, *_ = run("DetectFaces", image=pair)
    own = every.frames[0][1]
    left, top, right, bottom = (round(value) for value in own.box)
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    for given, frames in ((box, 1), ([box], 2), ([[box], [box]], 2)):
        faces, *_ = run("DetectFaces", image=torch.cat([pair] * frames), given=given)
        assert [len(frame) for frame in faces.frames] == [1] * frames
        assert faces.frames[0][0].center == pytest.approx(own.center, abs=6)
    blank = torch.full_like(pair, 0.5)
    faces, *_ = run("DetectFaces", image=blank, given=box, only_bad_faces=False)
    (face,) = faces.frames[0]
    assert face.box == (left, top, right, bottom)
    assert np.abs(np.array(face.points) - np.array(own.points)).max() < 0.25 * (right - left), "about where they are in a face"
    region = torch.zeros(1, *pair.shape[1:3])
    region[:, :, :512] = 1
    other = run("DetectFaces", image=pair, region=region)[4][0][0]
    for white, count in ((region, 1), (1 - region, 1), (torch.zeros_like(region), 0)):
        faces, *_ = run("DetectFaces", image=pair, given=[box, other], region=white)
        assert len(faces.frames[0]) == count
        assert all(white[0, round(face.center[1]), round(face.center[0])] == 1 for face in faces.frames[0])
    assert run("DetectFaces", image=pair, given=[box, {**box, "x": left + 2}, other])[3] == 2, "two of them are of one face"
    for beyond in ({**box, "x": 5000}, {"x": -0.9, "y": 5, "width": 1, "height": 30}):
        with pytest.raises(Exception, match="outside the picture"):
            run("DetectFaces", image=pair, given=beyond)
    with pytest.raises(Exception, match="Boxes for 2 frames, and 1 images"):
        run("DetectFaces", image=pair, given=[[box], [box]])


def test_degrade_has_a_level_and_a_quality(run: Any, photo: torch.Tensor) -> None:
    differences = [
        np.mean([(run("Degrade", image=photo, seed=seed, level=level)[0] - photo).abs().mean().item() for seed in range(3)])
        for level in (0.1, 0.5, 1.0)
    ]
    assert differences == sorted(differences)
    good, bad = (run("Degrade", image=photo, seed=1, level=0.05, jpeg_quality=quality)[0] for quality in (95, 5))
    assert (good - photo).abs().mean() < (bad - photo).abs().mean()


def test_degrade_repeats_with_its_seed_and_keeps_the_size(run: Any, photo: torch.Tensor) -> None:
    (first,), (again,), (other,) = (run("Degrade", image=photo, seed=seed) for seed in (1, 1, 2))
    shown = run.show("Degrade", image=torch.cat([photo, photo * torch.nan]), seed=1)
    assert torch.equal(shown["result"][0][0], first[0]) and shown["result"][0][1].isnan().all()
    assert "Frame 1 of 2" in shown["ui"]["text"][0] and "NaN" in shown["ui"]["text"][0]
    assert first.shape == photo.shape and torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.usefixtures("detector_weights")
def test_progress_ends_full_and_moves_face_by_face(run: Any, photo: torch.Tensor) -> None:
    model, _ = run("LoadModel", model="small.safetensors")
    run("RestoreFaces", model=model, image=torch.cat([photo, photo.flip(2)], dim=2))
    seen = sys.modules["comfy.utils"].ProgressBar.seen
    assert seen == [0.5, 0.75, 1, 1], "the faces are found, two are restored, the frame is done"


@pytest.mark.usefixtures("detector_weights")
def test_stop_is_noticed_between_faces_and_a_batch_of_none_passes(
    run: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = run("LoadModel", model="small.safetensors")
    none = photo[:0]
    image, mask, *_ = run("RestoreFaces", model=model, image=none)
    assert image.shape == none.shape and mask.shape == none.shape[:3]
    faces, preview, mask, count, *_ = run("DetectFaces", image=none)
    assert preview.shape == none.shape and mask.shape == none.shape[:3] and count == 0
    (crops,) = run("CropFaces", image=none, faces=faces)
    assert run("PasteFaces", image=none, faces=faces, crops=crops)[0].shape == none.shape
    assert run("RestoreCrops", model=model, crops=none)[0].shape == none.shape
    assert run("Degrade", image=none)[0].shape == none.shape

    management = sys.modules["comfy.model_management"]
    calls = []

    def stop_at_the_second_face() -> None:
        calls.append(len(sys.modules["comfy.utils"].ProgressBar.seen))
        if calls[-1] == 2:
            raise management.InterruptProcessingException

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", stop_at_the_second_face)
    with pytest.raises(management.InterruptProcessingException):
        run("RestoreFaces", model=model, image=torch.cat([photo, photo.flip(2)], dim=2))
    assert calls[-1] == 2, "the faces were found and one was done"


@pytest.mark.parametrize(
    ("node", "widgets", "fetched"),
    [
        ("DetectFaces", {"detector": "retinaface_resnet50"}, "retinaface_resnet50"),
        ("RestoreFaces", {"detector": "retinaface_resnet50"}, "retinaface_resnet50"),
        ("RestoreFaces", {"mask": "parse"}, "parsenet"),
        ("RestoreFaces", {"detector": "retinaface_resnet50", "mask": "parse", "faces": True}, "parsenet"),
        ("PasteFaces", {"mask": "parse"}, "parsenet"),
        ("CompareModels", {"detector": "retinaface_resnet50"}, "retinaface_resnet50"),
        ("RestoreClip", {"detector": "retinaface_resnet50"}, "retinaface_resnet50"),
        ("RestoreClip", {"mask": "parse"}, "parsenet"),
    ],
)
def test_what_finds_and_cuts_out_faces_is_downloaded_in_sight(
    node: str, widgets: dict[str, Any], fetched: str, run: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a model is: ComfyUI's bar moves, and its stop ends the download; what cuts out a face only if there is one."""
    runtime = sys.modules[f"{pack.__name__}.nodes.runtime"]
    monkeypatch.setattr(sys.modules[f"{pack.__name__}.pfr_core.models.registry"], "find_spec", lambda name: name)
    names: list[str] = []

    def obtain(name: str, *, progress: Callable[[int, int], None], should_stop: Callable[[], bool]) -> None:
        names.append(name)
        progress(1, 4)
        should_stop()

    def stop() -> None:
        if names:
            raise management.InterruptProcessingException

    core, image = f"{pack.__name__}.pfr_core.faces", torch.zeros(1, 64, 64, 3)
    points = tuple((float(x), float(y)) for x, y in TEMPLATE / 8)
    face = sys.modules[f"{core}.face"].Face((12, 12, 50, 56), 0.9, points)
    monkeypatch.setattr(
        sys.modules[f"{core}.detect"].Detector, "detect", lambda self, image, **how: [face] if image.any() else []
    )
    if fetched == "parsenet":
        image += 0.5
    faces, *_ = run("DetectFaces", image=image)
    assert faces.count == int(image.any())
    model, _ = run("LoadModel", model="small.safetensors")
    management = sys.modules["comfy.model_management"]
    monkeypatch.setattr(runtime, "on_disk", lambda name: None)
    monkeypatch.setattr(runtime, "obtain", obtain)
    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", stop)
    inputs: dict[str, Any] = {"image": image, **({} if node in ("DetectFaces", "PasteFaces") else {"model": model}), **widgets}
    if node == "PasteFaces":
        inputs["crops"] = image
    if widgets.get("faces") or node == "PasteFaces":
        inputs["faces"] = faces
    if fetched == "parsenet" and node != "PasteFaces":
        empty = {**inputs, "image": torch.zeros_like(image)}
        if "faces" in empty:
            empty["faces"] = run("DetectFaces", image=empty["image"])[0]
        run(node, **empty)
        assert names == [], "a picture without faces needs none"
    with pytest.raises(management.InterruptProcessingException):
        run(node, **inputs)
    assert names == [fetched] and sys.modules["comfy.utils"].ProgressBar.seen == [0.25]


def test_weights_that_cannot_be_had_are_named_with_their_folder(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = sys.modules[f"{pack.__name__}.nodes.runtime"]

    def obtain(name: str, **how: Any) -> None:
        raise runtime.WeightsError("No network.")

    monkeypatch.setattr(runtime, "on_disk", lambda name: None)
    monkeypatch.setattr(runtime, "obtain", obtain)
    for name, words in (
        ("codeformer", r"Put codeformer\.pth into models/facerestore_models, or choose another model\. No network"),
        ("yunet", r"Put face_detection_yunet_2023mar\.onnx into models/facedetection, or choose another detector or mask\."),
    ):
        with pytest.raises(runtime.WeightsError, match=words):
            runtime.fetch(name)


@pytest.mark.usefixtures("detector_weights")
def test_stop_is_noticed_between_the_faces_of_a_frame_that_are_pasted(
    run: Any, pair: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, *_ = run("DetectFaces", image=pair)
    (crops,) = run("CropFaces", image=pair, faces=faces)
    management, asked = sys.modules["comfy.model_management"], list[bool]()

    def stop_before_the_second_face() -> None:
        asked.append(True)
        if len(asked) == 3:  # the frame, and each of its faces
            raise management.InterruptProcessingException

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", stop_before_the_second_face)
    with pytest.raises(management.InterruptProcessingException):
        run("PasteFaces", image=pair, faces=faces, crops=crops)


def test_an_option_of_other_models_is_ignored_and_said(run: Any) -> None:
    (model, _), image = run("LoadModel", model="small.safetensors", dtype="fp32"), torch.full((1, 64, 64, 3), 0.5)
    shown = run.show("RestoreCrops", model=model, crops=image, fidelity=0.9)
    assert shown["ui"]["text"] == ["Fidelity was ignored: this model has no such option."]
    assert run.show("RestoreCrops", model=model, crops=image, fidelity=0.5)["ui"]["text"] == []


def test_the_loader_shows_the_licence(run: Any) -> None:
    assert run.show("LoadModel", model="small.safetensors", dtype="fp32")["ui"]["text"] == ["Licence of small.safetensors: test"]


@pytest.mark.slow
def test_models_side_by_side(run: Any) -> None:
    with Image.open(ROOT / "examples" / "two_faces.jpg") as picture:
        photo = torch.from_numpy(np.array(picture.convert("RGB"), np.float32) / 255)[None]
    model, _ = run("LoadModel", model="small.safetensors", dtype="fp32")
    other, _ = run("LoadModel", dtype="fp32")
    (sheet,) = run("CompareModels", image=photo, model=model, model_3=other, detector="builtin")
    models = Path(sys.modules["folder_paths"].models_dir) / "facerestore_models"
    load = functools.partial(FaceRestorer, detector=Detector("builtin"), device="cpu", dtype="fp32")
    expected = compare(
        photo[0].numpy(),
        [(name, functools.partial(load, file)) for name, file in ((model.name, models / model.name), ("default", "default"))],
    )
    assert (sheet[0] - torch.from_numpy(to_float(expected.sheet))).abs().max() < 1.01 / 255, "faces one by one, or in a batch"
    with pytest.raises(Exception, match="No face was found"):
        run("CompareModels", image=torch.full((1, 64, 64, 3), 0.5), model=model, detector="builtin")
    shown = run.show("CompareModels", image=photo, model=model, detector="builtin", fidelity=0.9)
    assert "Fidelity was ignored: this model has no such option." in shown["ui"]["text"]
