"""Every kind of network through every door: the answer is that of the kind's own forward pass in float32.

What a network answered once is remembered for the doors that give it the same face: each full-size network runs three times.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from pfr_core import FaceModel, FaceRestorer, load_face_model
from pfr_core.cli import main
from pfr_core.photo.read import read_photo

from .test_gpen import in_gpen_layout, random_gpen
from .test_kinds import Files, network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples" / "degraded.jpg"
NAMES = {"gfpgan": "gfpgan-1.4", "gpen": "gpen-512", "onnx": "codeformer"}
"""Entries of the registry under which the files are published; the other kinds have the entry's name."""
KINDS = ("gfpgan", "codeformer", "restoreformer", "restoreformer++", "gpen", "onnx")

Face = npt.NDArray[np.uint8]


class Remembered:
    """Networks' answers, by network, its precision and weights, options and faces."""

    def __init__(self) -> None:
        self.known: list[tuple[tuple[Any, ...], Tensor, Tensor]] = []

    def install(self, kind: type[Any], patch: pytest.MonkeyPatch) -> None:
        """Let all networks of the base class ``kind`` remember."""
        original = kind.restore

        def restore(net: Any, crops: Tensor, **options: float) -> Tensor:
            weights = sum(value.sum(dtype=torch.float64).item() for value in net.parameters())
            key = (net.kind, net.size, net.place, weights, options, crops.shape)
            for known, before, after in self.known:
                if known == key and torch.allclose(before, crops, rtol=0, atol=1e-6):
                    return after.clone()
            after = original(net, crops, **options)
            self.known.append((key, crops.clone(), after.clone()))
            return after

        patch.setattr(kind, "restore", restore)


@pytest.fixture(scope="module")
def remembered() -> Iterator[Remembered]:
    with pytest.MonkeyPatch.context() as patch:
        made = Remembered()
        made.install(FaceModel, patch)
        yield made


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the file of a kind in its published layout."""
    folder = tmp_path_factory.mktemp("doors")
    files = Files(folder)

    @functools.cache
    def file_of(kind: str) -> Path:
        if kind == "gpen":
            torch.save(in_gpen_layout(random_gpen()), folder / "my-gpen.pth")
            return folder / "my-gpen.pth"
        if kind == "onnx":
            for package in ("onnx", "onnxruntime"):
                pytest.importorskip(package)
            path = folder / "my.onnx"
            torch.onnx.export(network("restoreformer"), (torch.zeros(1, 3, 64, 64),), path, input_names=["input"], dynamo=False)
            return path
        return files[kind]

    return file_of


@functools.cache
def face(size: int) -> Face:
    """Return an aligned face [size,size,3]."""
    noise = np.random.default_rng(size).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC))


@functools.cache
def own_answer(kind: str) -> npt.NDArray[np.float32]:
    """Return what the kind's own class, called directly in its own range, makes of the face; [S,S,3] in [0,1]."""
    x = torch.from_numpy(face(size_of(kind))).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    with torch.inference_mode():
        if kind == "gfpgan":
            y = network(kind)(x, return_rgb=False, randomize_noise=False)[0]
        elif kind == "codeformer":
            y = network(kind)(x, weight=0.5)[0]
        elif kind == "gpen":
            y = random_gpen()(x)
        elif kind == "restoreformer++":  # as its authors have it: the decoder looks at the encoder's features of 32 px, too
            net: Any = network(kind)
            codes, _, _, features = net.encode(x)
            y = net.decode(codes, {**features, "block_4_atten": features["block_4"]})
        else:
            y = network("restoreformer")(x)[0]
    image: npt.NDArray[np.float32] = ((y.clamp(-1, 1) + 1) / 2)[0].permute(1, 2, 0).numpy()
    return image


def size_of(kind: str) -> int:
    return 64 if kind in ("gpen", "onnx") else 512


@dataclass(frozen=True)
class Trial:
    """What a door is tried with."""

    kind: str
    file: Path
    folder: Path
    request: pytest.FixtureRequest

    @property
    def face(self) -> Face:
        return face(size_of(self.kind))


def by_python(trial: Trial) -> Any:
    restorer = FaceRestorer(trial.file, device="cpu")
    return restorer.restore(trial.face.astype(np.float32) / 255, aligned=True, color_match="none").image


def by_name(trial: Trial) -> Any:
    """Download it from a server on this machine."""
    name = NAMES.get(trial.kind, trial.kind)
    trial.request.getfixturevalue("publish")(name, trial.file)
    restorer = FaceRestorer(name, device="cpu")
    assert (trial.folder / "cache" / trial.file.name).is_file()
    return restorer.restore(trial.face.astype(np.float32) / 255, aligned=True, color_match="none").image


def by_command(trial: Trial) -> Any:
    """Give it 16 bits a channel: 8 would hide a difference."""
    source, target = trial.folder / "face.png", trial.folder / "out.png"
    cv2.imwrite(str(source), trial.face[:, :, ::-1].astype(np.uint16) * 257)
    words = ["restore", str(source), "-o", str(target), "--aligned", "--color-match", "none", "--device", "cpu"]
    assert main([*words, "--model", str(trial.file)]) == 0
    return read_photo(target).pixels.astype(np.float32) / 65535


def by_node(trial: Trial) -> Any:
    pack = trial.request.getfixturevalue("pack")
    patch = trial.request.getfixturevalue("monkeypatch")
    copy = sys.modules[f"{pack.__name__}.pfr_core.network.face_model"].FaceModel  # the pack has the core once more
    trial.request.getfixturevalue("remembered").install(copy, patch)
    folder = Path(sys.modules["folder_paths"].models_dir) / "facerestore_models"
    link = folder / trial.file.name
    link.symlink_to(trial.file)
    try:
        model, size = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]().load(trial.file.name, "auto", "fp32")["result"]
        assert size == size_of(trial.kind)
        crops = torch.from_numpy(trial.face.astype(np.float32) / 255)[None]
        return pack.NODE_CLASS_MAPPINGS["PFRRestoreCrops"]().restore(model, crops)["result"][0][0].numpy()
    finally:
        link.unlink()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", [by_python, by_name, by_command, by_node], ids=lambda door: door.__name__)
@pytest.mark.usefixtures("remembered")
def test_the_answer_is_the_network_s_own(
    kind: str,
    door: Callable[[Trial], Any],
    file_of: Callable[[str], Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    result = door(Trial(kind, file_of(kind), tmp_path, request))
    # A quarter of an 8-bit step: ONNX Runtime rounds otherwise, and so does torch in channels last, which CPUs with AVX-512 get.
    assert np.abs(result - own_answer(kind)).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("remembered")
def test_evaluate_judges_what_the_pipeline_gives(kind: str, file_of: Callable[[str], Path]) -> None:
    from trainer.judge.methods import restore_with

    image = face(size_of(kind))
    judged = restore_with(load_face_model(file_of(kind)), torch.device("cpu"))(image)
    assert np.array_equal(judged, FaceRestorer(file_of(kind), device="cpu").restore(image, aligned=True).image)
    assert not np.array_equal(judged, image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("remembered")
def test_the_page_gives_what_the_pipeline_gives(kind: str, file_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Its endpoint, and its comparison."""
    gr = pytest.importorskip("gradio")
    from web.api import Api
    from web.compare import CompareTab
    from web.context import Context
    from web.engine import Engine
    from web.limits import Limits
    from web.sessions import Sessions

    sessions, visitor = Sessions(tmp_path / "visitors", 60), SimpleNamespace(session_hash="visitor", headers={})
    restorer = FaceRestorer(file_of(kind), "builtin", device="cpu")
    wanted = restorer.restore_file(PHOTO, tmp_path / "wanted.jpg")
    with gr.Blocks(), sessions.listening("visitor"):
        context = Context(Engine({kind: str(file_of(kind))}, detector="builtin", device="cpu"), sessions, Limits())
        api: Any = Api(context)
        path, facts = api.restore(visitor, str(PHOTO), kind, indices=[])
        assert facts["changed"] and np.array_equal(read_photo(path).pixels, read_photo(wanted.path).pixels)
        sheet, _ = CompareTab(context).run_comparison(visitor, str(PHOTO), [kind], lambda *done, **more: None)
    assert_sheet_shows(wanted.restored.image, wanted.restored.faces, read_photo(sheet).pixels)


def assert_sheet_shows(image: Any, faces: Sequence[Any], sheet: Any) -> None:
    from pfr_core.compare import CELL, HEADER
    from pfr_core.faces.align import align, alignment_matrix
    from pfr_core.photo.arrays import to_uint8

    (only,) = faces
    assert np.array_equal(sheet[HEADER:, CELL:], to_uint8(align(image, alignment_matrix(only, CELL), CELL)))
