"""The ComfyUI nodes, loaded as ComfyUI loads them: by absolute path, from an oddly named copy, beside small stand-ins."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core import PFR, FaceRestorer, PFRConfig, save_model
from pfr_core.detection import DetectorName
from pfr_core.options import RestoreOptions

ROOT = Path(__file__).resolve().parents[1]
STAND_INS = Path(__file__).parent / "comfy_stand_ins"


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("custom_nodes") / "ComfyUI-PFR.v1 copy"
    folder.mkdir()
    shutil.copy(ROOT / "__init__.py", folder)
    for name in ("nodes", "pfr_core"):
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
        patch.syspath_prepend(str(STAND_INS))
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
            if added.startswith((name, "comfy", "folder_paths")):
                del sys.modules[added]


@pytest.fixture
def node(pack: Any) -> Any:
    return lambda name: pack.NODE_CLASS_MAPPINGS[name]()


def defaults(node: Any) -> dict[str, Any]:
    """What the widgets hold when nobody touches them; sockets have no default."""
    return {name: options["default"] for name, (_, options) in node.INPUT_TYPES()["required"].items() if "default" in options}


def defaults_with_detector(node: Any) -> dict[str, Any]:
    return {"detector": get_args(DetectorName)[0], **defaults(node)}


@pytest.fixture
def detector_weights(pack: Any, shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ComfyUI users have them."""
    import folder_paths

    folder = Path(folder_paths.get_folder_paths("facedetection_models")[0])
    folder.mkdir(exist_ok=True)
    shutil.copy(shared_dir / "weights" / "detection_mobilenet0.25_Final.pth", folder)
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(folder))  # for the core that the results are compared with


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    with Image.open(ROOT / "examples" / "astronaut.jpg") as image:
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
    options = sys.modules[f"{pack.__name__}.nodes.inputs"].options(defaults(restore))
    for item in fields(RestoreOptions):
        assert getattr(options, item.name) == item.default, item.name
        assert item.name in restore.INPUT_TYPES()["required"], item.name


def test_only_model_files_are_offered(node: Any) -> None:
    assert node("PFRLoadModel").INPUT_TYPES()["required"]["model"][0] == ["default", "broken.safetensors", "small.safetensors"]
    assert node("PFRLoadModel").VALIDATE_INPUTS("gone.pth") != True  # noqa: E712  # a text says what is wrong


def test_a_broken_model_is_named(node: Any) -> None:
    with pytest.raises(Exception, match=r"broken\.safetensors"):
        node("PFRLoadModel").load("broken.safetensors", "auto")


@pytest.mark.usefixtures("detector_weights")
def test_one_node_and_the_steps_give_what_the_core_gives(node: Any, photo: torch.Tensor) -> None:
    (model,) = node("PFRLoadModel").load("default", "fp32")
    everything = node("PFRRestoreFaces")
    image, mask, before, after = everything.restore(model, photo, **defaults_with_detector(everything))
    expected = FaceRestorer(device="cpu", dtype="fp32").restore(photo[0].numpy())
    assert torch.equal(image[0], torch.from_numpy(expected.image)) and torch.equal(mask[0], torch.from_numpy(expected.mask))
    assert image.dtype == mask.dtype == torch.float32
    assert torch.equal(image[mask == 0], photo[mask == 0]) and not torch.equal(image, photo)

    detect, crop, restore, paste = (node(f"PFR{name}") for name in ("DetectFaces", "CropFaces", "RestoreCrops", "PasteFaces"))
    faces, preview, boxes, count = detect.detect(photo, **defaults_with_detector(detect))
    assert count == len(expected.faces) == 1 and boxes.shape == mask.shape and boxes.max() == 1
    assert preview.shape == photo.shape and not torch.equal(preview, photo)
    (crops,) = crop.crop(photo, faces, size=before.shape[1])
    assert torch.allclose(crops, before, atol=1e-6)
    (restored,) = restore.restore(model, crops, color_match="none")
    assert torch.allclose(restored, after, atol=1e-4)
    pasted, again = paste.paste(photo, faces, restored, **defaults(paste))
    assert torch.allclose(pasted, image, atol=1e-4) and torch.equal(again, mask)


@pytest.mark.usefixtures("detector_weights")
def test_a_batch_keeps_length_order_alpha_and_frames_without_a_face(node: Any, photo: torch.Tensor) -> None:
    (model,) = node("PFRLoadModel").load("small.safetensors", "fp32")
    frames = torch.cat([torch.zeros_like(photo), photo, torch.zeros_like(photo)])
    frames = torch.cat([frames, torch.linspace(0, 1, photo.shape[2]).expand(3, *photo.shape[1:3])[..., None]], dim=3)
    restore = node("PFRRestoreFaces")
    image, mask, before, _ = restore.restore(model, frames, **defaults_with_detector(restore))
    assert image.shape == frames.shape and len(mask) == 3 and len(before) == 1
    assert torch.equal(image[0], frames[0]) and torch.equal(image[2], frames[2]) and torch.equal(image[..., 3], frames[..., 3])
    assert not torch.equal(image[1], frames[1])
    half, *_ = restore.restore(model, frames.half(), **defaults_with_detector(restore))
    assert half.dtype == torch.float32 and (half - image).abs().max() < 0.05
    large = torch.nn.functional.interpolate(photo.permute(0, 3, 1, 2), scale_factor=2).permute(0, 2, 3, 1)
    pasted, *_ = restore.restore(model, frames[1:2], upscaled=large, **defaults_with_detector(restore))
    assert pasted.shape == large.shape


@pytest.mark.usefixtures("detector_weights")
def test_no_face_passes_through_and_wrong_counts_are_refused(node: Any, photo: torch.Tensor) -> None:
    detect, crop, paste = node("PFRDetectFaces"), node("PFRCropFaces"), node("PFRPasteFaces")
    blank = torch.full_like(photo, 0.5)
    faces, _, _, count = detect.detect(blank, **defaults_with_detector(detect))
    (crops,) = crop.crop(blank, faces, size=64)
    assert count == 0 and crops.shape == (1, 64, 64, 3), "ComfyUI's own nodes fail on an empty batch"
    image, mask = paste.paste(blank, faces, crops, **defaults(paste))
    assert torch.equal(image, blank) and mask.max() == 0

    found, *_ = detect.detect(photo, **defaults_with_detector(detect))
    with pytest.raises(Exception, match=r"1 faces, but crops of shape \[2, 64, 64, 3\]"):
        paste.paste(photo, found, torch.zeros(2, 64, 64, 3), **defaults(paste))
    with pytest.raises(Exception, match="found in 1 pictures, this IMAGE has 2"):
        crop.crop(torch.cat([photo, photo]), found, size=64)


@pytest.mark.usefixtures("detector_weights")
def test_an_error_names_its_frame(node: Any, photo: torch.Tensor) -> None:
    detect = node("PFRDetectFaces")
    with pytest.raises(Exception, match="indices is 'a'"):
        detect.detect(photo, **{**defaults_with_detector(detect), "select": "index", "indices": "a"})
    (model,) = node("PFRLoadModel").load("small.safetensors", "fp32")
    restore = node("PFRRestoreFaces")
    other = torch.zeros(2, 64, 200, 3)  # not the same picture enlarged
    with pytest.raises(Exception, match="Frame 0 of 2"):
        restore.restore(model, torch.cat([photo, photo]), upscaled=other, **defaults_with_detector(restore))


def test_degrade_repeats_with_its_seed_and_keeps_the_size(node: Any, photo: torch.Tensor) -> None:
    degrade = node("PFRDegrade")
    (first,), (again,), (other,) = (degrade.degrade(photo, seed) for seed in (1, 1, 2))
    assert first.shape == photo.shape and torch.equal(first, again) and not torch.equal(first, other)


def test_stop_is_noticed_and_a_batch_of_none_passes(node: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = node("PFRLoadModel").load("small.safetensors", "fp32")
    restore = node("PFRRestoreFaces")
    image, mask, *_ = restore.restore(model, photo[:0], **defaults_with_detector(restore))
    assert image.shape == photo[:0].shape and mask.shape == photo[:0, ..., 0].shape
    management = sys.modules["comfy.model_management"]
    monkeypatch.setattr(management, "interrupted", True)
    with pytest.raises(management.InterruptProcessingException):
        restore.restore(model, photo, **defaults_with_detector(restore))
