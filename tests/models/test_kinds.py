"""Networks that others published: recognised by content, run in their own range, at every door; what is none of them is refused.

The files are of the published layout with random weights. Only :func:`test_gfpgan_as_a_whole` runs a network at its full size (it
takes seconds); elsewhere the forward pass of spandrel's class is a cheap one that shows what went in.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from pfr_core import PFR, FaceRestorer, PFRConfig, RestoreOptions, load_face_model
from pfr_core.cli import main
from pfr_core.compose import Canvas, cut_face, paste_faces
from pfr_core.errors import CheckpointError, InputError, WeightsError
from pfr_core.faces.face import Face
from pfr_core.models import registry
from pfr_core.models.kinds import recognise
from pfr_core.models.kinds.gfpgan import bear_any_layout
from pfr_core.models.kinds.restoreformer import HEADS_PLUS
from pfr_core.models.registry import CODEFORMER_LICENCE

SMALL = {"n_embed": 64, "ch": 32}
"""RestoreFormer reads its width from the file: a quarter of the published one. GFPGAN and CodeFormer have one size."""


@functools.cache
def network(kind: str) -> nn.Module:
    """Return a network as its own package builds it."""
    torch.manual_seed(0)
    if kind == "gfpgan":
        from spandrel.architectures.GFPGAN import GFPGAN

        return GFPGAN().eval()
    if kind == "codeformer":
        from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

        return CodeFormer().eval()
    from spandrel.architectures.RestoreFormer import RestoreFormer

    net: Any = RestoreFormer(**SMALL, head_size=8 if kind == "restoreformer" else HEADS_PLUS)
    if kind == "restoreformer++":
        net.decoder = type(net.decoder)(
            ch=SMALL["ch"], out_ch=3, ch_mult=(1, 2, 2, 4, 4, 8), attn_resolutions=(16, 32), head_size=4
        )
    return net.eval()


class Files:
    """A file of each kind in the layout that is published, written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, kind: str) -> Path:
        path = self.folder / f"my-{kind}.{'ckpt' if kind.endswith('+') else 'pth'}"
        if not path.exists():
            state = network(kind).state_dict()
            if kind.startswith("restoreformer"):
                state["quantize.utility_counter"] = torch.ones(SMALL["n_embed"])  # of training, as in authors' files
            if kind == "restoreformer++":
                own = {f"vqvae.{name}": value for name, value in state.items()}
                torch.save({"epoch": 3, "state_dict": {**own, "loss.weight": torch.ones(1)}}, path)
            else:
                torch.save({"params" if kind == "restoreformer" else "params_ema": state}, path)
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("models"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make the forward pass of GFPGAN's and CodeFormer's classes cheap, and return the arguments of each call of it."""
    from spandrel.architectures.GFPGAN import GFPGAN
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

    calls: list[dict[str, Any]] = []

    def forward(self: nn.Module, x: Tensor, **options: Any) -> tuple[Tensor, None]:
        calls.append({"x": x, **options})
        return answer(x), None

    for kind in (GFPGAN, CodeFormer):
        monkeypatch.setattr(kind, "forward", forward)
    return calls


def answer(x: Tensor) -> Tensor:
    """Return what the cheap networks make of pixels in [-1,1]: it tells channels, rows and columns apart."""
    weights = torch.linspace(-0.9, 0.9, x[0].numel()).reshape(x[0].shape)
    return x * 0.5 + weights * torch.tensor([0.4, 0.1, -0.4])[:, None, None]


@pytest.fixture
def crop() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (512, 512, 3), dtype=np.uint8)


def expected(crop: np.ndarray) -> np.ndarray:
    """Return the answer for one aligned face, as the file's own program would compute it."""
    x = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    image: np.ndarray = ((answer(x)[0].clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy()
    return image


def restored(source: Any, image: np.ndarray, **options: Any) -> np.ndarray:
    """Return an aligned face restored by the whole pipeline, in float."""
    restorer = FaceRestorer(source, device="cpu", options=RestoreOptions(color_match="none", **options))
    return restorer.restore(image.astype(np.float32) / 255, aligned=True).image


# --- what a file is -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gfpgan", "codeformer", "restoreformer", "restoreformer++"])
def test_a_file_is_recognised_by_its_content(kind: str, files: Files) -> None:
    net = load_face_model(files[kind])
    own = {name.removeprefix("net."): value for name, value in net.state_dict().items()}
    assert own.keys() == network(kind).state_dict().keys()
    assert all(torch.equal(value.view_as(own[name]), own[name]) for name, value in network(kind).state_dict().items())
    assert type(net.net).__module__ == type(network(kind)).__module__ and not net.training
    assert net.size == 512 and net.licence.startswith("not stated in the file")
    assert net.options == (("fidelity",) if kind == "codeformer" else ())


@pytest.mark.parametrize("heads", [8, 4])
def test_restoreformer_is_spandrel_s_in_its_own_range(heads: int, files: Files) -> None:
    """Of the second kind only with what it has more silenced: spandrel does not have that."""
    net: Any = load_face_model(files["restoreformer" if heads == 8 else "restoreformer++"])
    own: Any = network("restoreformer")
    if heads == 4:
        more = [name for name in net.state_dict() if name.startswith("net.decoder.up.4.attn.")]
        assert len(more) == 36
        x = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            before = net.restore(x)
            for block in net.net.decoder.up[4].attn:
                block.proj_out.weight.zero_()
                block.proj_out.bias.zero_()
            assert (net.restore(x) - before).abs().max() > 1e-3
        from spandrel.architectures.RestoreFormer import RestoreFormer

        own = RestoreFormer(**SMALL, head_size=4).eval()
        own.load_state_dict({name[4:]: value for name, value in net.state_dict().items() if name not in more})
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        wanted = (own(x * 2 - 1)[0] + 1) / 2
        assert (net.restore(x) - wanted).abs().max() < 1e-4
        assert (net.restore(x[:1]) - wanted[:1]).abs().max() < 1e-4, "a face does not depend on its batch"


@pytest.mark.slow
def test_gfpgan_as_a_whole(files: Files, crop: np.ndarray) -> None:
    x = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        own = network("gfpgan")(x * 2 - 1, randomize_noise=False)[0]
    wanted = ((own.clamp(-1, 1) + 1) / 2)[0].permute(1, 2, 0).numpy()
    assert np.abs(restored(files["gfpgan"], crop) - wanted).max() < 1e-4


@pytest.mark.slow
def test_each_network_gets_what_its_own_program_gives_it(files: Files, quick: list[dict[str, Any]], crop: np.ndarray) -> None:
    """RGB in [-1,1]; GFPGAN's stored noise, so that a face is the same again; CodeFormer's weight is fidelity."""
    for kind, options in (("gfpgan", {}), ("codeformer", {}), ("codeformer", {"fidelity": 0.9})):
        assert restored(files[kind], crop, **options) == pytest.approx(expected(crop), abs=1e-4)
    first, second, third = quick
    assert first["x"].dtype == torch.float32
    assert first["randomize_noise"] is False
    assert (second["weight"], third["weight"]) == (0.5, 0.9)


@pytest.mark.slow
def test_another_fidelity_runs_the_network_again(files: Files, quick: list[dict[str, Any]], crop: np.ndarray) -> None:
    session = FaceRestorer(files["codeformer"], device="cpu").open(crop, aligned=True)
    for fidelity in (0.5, 0.5, 1.0, 1.0):
        session.restore(fidelity=fidelity)
    assert [call["weight"] for call in quick] == [0.5, 1.0]


@pytest.mark.slow
def test_a_group_is_the_network_s_crops_pasted(files: Files, quick: list[dict[str, Any]]) -> None:
    photo = np.random.default_rng(2).integers(0, 255, (260, 420, 3), dtype=np.uint8)
    faces = [face_at(90, 120, 60), face_at(300, 130, 80)]
    restorer = FaceRestorer(files["gfpgan"], device="cpu")
    result = restorer.restore(photo, faces=faces)
    layers = [cut_face(photo, face, 512) for face in faces]
    for layer in layers:
        x = torch.from_numpy(layer.crop).permute(2, 0, 1)[None] * 2 - 1
        layer.restored = ((answer(x)[0].clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy()
    pasted = paste_faces(Canvas(photo), layers, options=restorer.options, parser=restorer.parser)
    assert np.array_equal(result.image, pasted.image)
    assert np.array_equal(result.image[result.mask == 0], photo[result.mask == 0])
    assert (result.image[result.mask > 0.9] != photo[result.mask > 0.9]).mean() > 0.5 and (result.mask == 0).any()


def face_at(x: float, y: float, size: float) -> Face:
    """Return an upright face of ``size`` px between the outer corners of its box."""
    points = np.array([[-0.18, -0.1], [0.18, -0.1], [0, 0.1], [-0.15, 0.27], [0.15, 0.27]]) * size + (x, y)
    box = (x - size / 2, y - size / 2, x + size / 2, y + size / 2)
    return Face(box, 0.99, tuple((float(a), float(b)) for a, b in points))  # type: ignore[arg-type]


# --- doors ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def aligned(crop: np.ndarray, tmp_path: Path) -> Path:
    Image.fromarray(crop).save(tmp_path / "face.png")
    return tmp_path / "face.png"


@pytest.mark.slow
def test_the_command(
    files: Files, quick: list[dict[str, Any]], aligned: Path, crop: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    out = aligned.with_name("out.png")
    common = ["restore", str(aligned), "-o", str(out), "--aligned", "--device", "cpu", "--color-match", "none", "--overwrite"]
    assert main([*common, "--model", str(files["gfpgan"])]) == 0
    with Image.open(out) as image:
        assert np.abs(np.array(image) / 255 - expected(crop)).max() <= 0.51 / 255
        assert hashlib.sha256(files["gfpgan"].read_bytes()).hexdigest() in str(image.info), "the model's hash is on record"
    assert main([*common, "--model", str(files["codeformer"]), "--fidelity", "0.25"]) == 0 and quick[-1]["weight"] == 0.25
    assert main([*common, "--model", str(files["gfpgan"]), "--fidelity", "0.5"]) == 2
    assert "--fidelity: the model" in capsys.readouterr().err
    assert main(["info", str(files["codeformer"])]) == 0
    assert CODEFORMER_LICENCE in capsys.readouterr().out


def test_an_option_that_a_published_model_lacks_is_refused_before_its_download(
    aligned: Path, publish: Callable[[str, Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("gfpgan-1.4", aligned)
    out = tmp_path / "out"
    assert main(["restore", str(aligned), "-o", str(out), "--model", "gfpgan-1.4", "--fidelity", "0.9"]) == 2
    assert "--fidelity: the model gfpgan-1.4 has no such option" in capsys.readouterr().err
    several = ["compare", str(aligned), "--models", "restoreformer", "gfpgan-1.4", "-o", str(tmp_path / "sheet.png")]
    assert main([*several, "--fidelity", "0.9"]) == 2
    assert "fidelity: none of these models has such an option" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_precision_that_a_published_model_does_not_bear_is_refused_before_its_download(
    aligned: Path, publish: Callable[[str, Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("codeformer", aligned)
    (tmp_path / "list.txt").write_text(str(aligned))
    for command in (
        ["restore", str(aligned), "-o", str(tmp_path / "out"), "--model", "codeformer", "--dtype", "bf16"],
        ["compare", str(aligned), "--models", "default", "codeformer", "-o", str(tmp_path / "sheet.png"), "--dtype", "bf16"],
        ["export", "codeformer", "-o", str(tmp_path / "out.onnx"), "--dtype", "fp16"],
        ["bulk", str(tmp_path / "list.txt"), str(tmp_path / "archive"), "--model", "codeformer", "--dtype", "fp16"],
    ):
        assert main(command) == 2
        assert "this network does not bear it; use fp32" in capsys.readouterr().err
    with pytest.raises(InputError, match="does not bear it"):
        FaceRestorer("codeformer", device="cpu", dtype="bf16")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("command", ["restore", "bulk"])
def test_a_batch_of_no_face_is_refused_before_a_download(
    command: str, aligned: Path, publish: Callable[[str, Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("codeformer", aligned)
    (tmp_path / "list.txt").write_text(str(aligned))
    places = {"restore": [str(aligned), "-o", str(tmp_path / "out")], "bulk": [str(tmp_path / "list.txt"), str(tmp_path / "out")]}
    assert main([command, *places[command], "--model", "codeformer", "--batch-size", "0"]) == 2
    assert "batch_size is 0; it must be a whole number from 1 to 4096" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_names_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    (tmp_path / "folder.pth").mkdir()
    for name in ("x" * 300 + ".pth", "nul\0.pth", str(tmp_path / "loop.pth"), str(tmp_path / "folder.pth")):
        with pytest.raises(CheckpointError, match=r"no such model file.*Known names: default"):
            load_face_model(name)
    (tmp_path / "empty.pth").touch()
    refused(tmp_path / "empty.pth", r"no file of tensors \(.+\)")
    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "script.pth")
    refused(tmp_path / "script.pth", r"no file of tensors \([^()]*TorchScript[^()]*\)\. Download it again")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "mine.pth")
    with (
        zipfile.ZipFile(tmp_path / "mine.pth") as mine,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in mine.namelist():
            out.writestr(name, mine.read(name))
    refused(tmp_path / "small.pth", "refused: its content is compressed")
    (tmp_path / "face.png").touch()
    refused(tmp_path / "face.png", r"no model file; those end in .*\.onnx")


@pytest.mark.slow
def test_a_model_is_fetched_by_its_name(
    files: Files,
    publish: Callable[[str, Path], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From a server on this machine; the licence is told before, and the file is checked."""
    source = files["restoreformer"]
    server = publish("restoreformer", source)
    try:
        assert main(["weights", "download", "restoreformer"]) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert "Licence: Apache-2.0" in caplog.text and capsys.readouterr().out.strip() == str(tmp_path / "cache" / source.name)
    net = load_face_model("restoreformer")
    assert net.licence == "Apache-2.0" and torch.equal(
        net.state_dict()["net.quant_conv.bias"], network("restoreformer").state_dict()["quant_conv.bias"]
    )
    path = tmp_path / "cache" / source.name
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(WeightsError, match=r"damaged or changed: its SHA-256 is \w{64}, the published file's \w{64}"):
        load_face_model(path)


@pytest.mark.slow
def test_evaluate_takes_any_model_and_refuses_to_ablate_it(
    files: Files, shared_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RestoreFormer with an encoder that gives the picture back; it has none of the paper's parts."""
    from trainer.cli import main as trainer

    monkeypatch.setattr("trainer.judge.evaluate.DRAWS", 1)
    monkeypatch.setattr("pfr_core.models.kinds.restoreformer.RestoreFormer.forward", lambda self, x: x)
    command = ["evaluate", str(files["restoreformer"]), str(shared_dir / "data" / "faces"), "--limit", "1", "--no-denoiser"]
    assert trainer(command) == 0
    table = capsys.readouterr().out.split("\n\n")[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2:4] for line in table.splitlines()}
    assert rows["model"] == rows["degraded input"]
    assert trainer([*command, "--ablate"]) == 1
    assert "is RestoreFormer, which has none of the paper's parts" in capsys.readouterr().err


# --- what is none of them -------------------------------------------------------------------------------------------------


def refused(path: Path, pattern: str) -> None:
    with pytest.raises((CheckpointError, WeightsError), match=pattern) as caught:
        load_face_model(path)
    assert str(path) in str(caught.value)


def test_a_known_name_with_another_hash(tmp_path: Path) -> None:
    for name in ("GFPGANv1.4.pth", "codeformer.pth", "GPEN-BFR-512.pth"):
        (tmp_path / name).write_bytes(b"cut")
        refused(tmp_path / name, rf"damaged or changed: it has 3 bytes.*{hashlib.sha256(b'cut').hexdigest()}.*\w{{64}}.*Replace")


def test_weights_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "detection_Resnet50_Final.pth").touch()
    refused(tmp_path / "detection_Resnet50_Final.pth", "retinaface_resnet50 .face detection, accurate., no restoration network")
    for state, says in (
        ({"module.ClassHead.0.conv1x1.weight": torch.ones(1)}, "it is a face detector"),
        ({"out_mask_conv.conv2d.weight": torch.ones(1)}, "it is a face parser"),
        ({"final_linear.1.weight": torch.ones(1), "convs.0.0.weight": torch.ones(1)}, "it is a GPEN discriminator, which is for"),
        ({"some.weight": torch.ones(1)}, "of no kind that is known here"),
        ({"conv_body_first.0.weight": torch.ones(1), "stylegan_decoder.constant_input.weight": torch.ones(1),
          "final_linear.weight": torch.ones(1)}, "GFPGAN 1.0.*Use gfpgan-1.3 or gfpgan-1.4"),
    ):  # fmt: skip
        torch.save(state, tmp_path / "mine.pth")
        refused(tmp_path / "mine.pth", says)


def test_an_upscaler(tmp_path: Path) -> None:
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.save({"params_ema": ESRGAN(num_filters=8, num_blocks=1).state_dict()}, tmp_path / "up.pth")
    refused(
        tmp_path / "up.pth",
        "it is ESRGAN, which enlarges or cleans whole pictures. Models to be had.*: default, gfpgan",
    )


def test_shapes_of_which_no_network_can_be_built(tmp_path: Path) -> None:
    names = ("encoder.conv_in.weight", "quantize.embedding.weight", "decoder.up.5.attn.0.norm2.weight", "quant_conv.weight")
    for shape in ((1,), (7, 5, 1, 1)):
        torch.save({name: torch.ones(shape[:2] if "quantize" in name else shape) for name in names}, tmp_path / "odd.pth")
        refused(tmp_path / "odd.pth", "no network can be built of its tensors")


def test_tensors_that_are_missing(files: Files, tmp_path: Path) -> None:
    state = dict(network("restoreformer").state_dict())
    del state["decoder.conv_out.weight"]
    torch.save({"params": state}, tmp_path / "part.pth")
    refused(tmp_path / "part.pth", r"whole RestoreFormer. Download the file again. \(1 missing, first decoder.conv_out.weight\)$")
    (tmp_path / "cut.pth").write_bytes(files["restoreformer"].read_bytes()[:100_000])
    refused(tmp_path / "cut.pth", "damaged")


@pytest.mark.parametrize(
    "change",
    [lambda value: value.to(torch.int64), lambda value: value.to(torch.complex64)],
    ids=["integers", "complex"],
)
def test_tensors_of_another_type(change: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    state = dict(network("restoreformer").state_dict())
    state["quant_conv.bias"] = change(state["quant_conv.bias"])
    torch.save({"params": state}, tmp_path / "odd.pth")
    refused(tmp_path / "odd.pth", r"whole RestoreFormer.*\(1 not of plain numbers, first quant_conv.bias\)$")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_file_of_another_precision_runs_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(dtype) for name, value in network("restoreformer").state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    net = FaceRestorer(tmp_path / "mine.safetensors", device="cpu").net
    assert net.kind == "RestoreFormer" and net.place[1] == torch.float32
    assert torch.equal(net.state_dict()["net.quant_conv.bias"], state["quant_conv.bias"].float())


def test_a_result_names_the_file_that_was_loaded(tmp_path: Path, tiny_model: Path, aligned: Path) -> None:
    """Not the one that has its name when the result is written."""
    digest = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    restorer = FaceRestorer(tiny_model, device="cpu")
    tiny_model.unlink()
    assert restorer.restore_file(aligned, tmp_path / "out.png", aligned=True).changed
    with Image.open(tmp_path / "out.png") as image:
        assert digest in str(image.info) and tiny_model.name in str(image.info)
    restorer.release()
    with pytest.raises(CheckpointError, match="no such model file"):
        restorer.restore(aligned, aligned=True)


def test_codeformer_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: torch.ones(2, 2) for name in ("position_emb", "idx_pred_layer.1.weight", "quantize.embedding.weight")}
    kind = recognise(state)
    assert kind is not None
    for name in ("spandrel_extra_arches", "spandrel_extra_arches.architectures.CodeFormer"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CheckpointError, match="pip install spandrel_extra_arches"):
        kind(state)


def test_codeformer_without_its_package_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="pip install spandrel_extra_arches"):
        FaceRestorer("codeformer", device="cpu")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert main(["compare", str(tmp_path / "a.png"), "--models", "gfpgan-1.4", "codeformer", "-o", str(tmp_path / "b.png")]) != 0
    said = capsys.readouterr().err
    assert "pip install spandrel_extra_arches" in said and "Licence" not in caplog.text, (
        "nothing is fetched, of the other model neither"
    )


def test_what_crops_are_is_said() -> None:
    restorer = FaceRestorer(PFR(PFRConfig(size=64, narrow=1 / 32, style_dim=16, n_mlp=2)), device="cpu")
    with pytest.raises(InputError, match=r"uint8; pass float32 in \[0,1\]"):
        restorer.restore_crops(np.zeros((1, 64, 64, 3), np.uint8))


def test_an_option_that_the_model_lacks() -> None:
    restorer = FaceRestorer(PFR(PFRConfig(size=64, narrow=1 / 32, style_dim=16, n_mlp=2)), device="cpu")
    photo = np.zeros((40, 40, 3), np.uint8)
    for call in ({"fidelity": 0.5}, {"fidelity": 0.9}, {"options": RestoreOptions(fidelity=0.9)}):
        with pytest.raises(InputError, match="fidelity: this model has no such option"):
            restorer.restore(photo, **call)


@pytest.mark.slow
def test_a_precision_that_the_network_does_not_bear(files: Files) -> None:
    with pytest.raises(InputError, match="bf16: this network does not bear it; use fp32"):
        FaceRestorer(files["restoreformer"], device="cpu", dtype="bf16")
    assert FaceRestorer(files["restoreformer"], device="cpu", dtype="auto").net.place[1] == torch.float32


# --- ONNX -----------------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """A small network with a weight, as CodeFormer's ONNX files have it, and more than a picture, ``first`` or after it."""

    def __init__(self, enlarge: int = 1, first: bool = False) -> None:
        super().__init__()
        self.conv, self.enlarge, self.first = nn.Conv2d(3, 3 * enlarge**2, 3, padding=1), enlarge, first

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Any:
        y = nn.functional.pixel_shuffle(self.conv(x), self.enlarge)
        y = y if weight is None else y * weight.float()
        return (y.mean((2, 3)), y) if self.first else (y, y.mean((2, 3)), y[:, :, ::2, ::2])


class Fixed(nn.Module):
    """A network of 64 px, whose file says that it takes any size."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(64.0)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("onnx")

    def export(net: nn.Module, *inputs: Tensor, size: int = 64, **more: Any) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        names = ["input", "weight"][: 1 + len(inputs)]
        torch.onnx.export(net.eval(), (torch.zeros(1, 3, size, size), *inputs), path, input_names=names, dynamo=False, **more)
        return path

    return export


@pytest.mark.slow
def test_an_exported_network_gives_the_same(export: Callable[..., Path], files: Files) -> None:
    class Image(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network("restoreformer")(x)[0]

    whole = Image()
    whole.net = network("restoreformer")
    model = load_face_model(export(whole))
    x = torch.rand(2, 3, 64, 64)
    assert model.size == 64 and model.options == () and model.kind == "ONNX"
    with torch.inference_mode():
        assert (model.restore(x) - load_face_model(files["restoreformer"]).restore(x)).abs().max() < 1e-3


@pytest.mark.slow
def test_an_onnx_file_with_a_weight(export: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    net = Plain()
    path = export(net, torch.tensor([0.5], dtype=torch.float64))
    model: Any = load_face_model(path)
    assert len(model.session.get_outputs()) == 3, "as in files of CodeFormer and RestoreFormer++; the first is the picture"
    image = np.random.default_rng(0).random((64, 64, 3), np.float32)
    restorer = FaceRestorer(path, device="cpu", options=RestoreOptions(color_match="none"))
    x = torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1
    for fidelity in (0.5, 1.0):
        with torch.inference_mode():
            wanted = ((net(x)[0][0] * fidelity).clamp(-1, 1) + 1) / 2
        result = restorer.restore(image, aligned=True, fidelity=fidelity).image
        assert result == pytest.approx(wanted.permute(1, 2, 0).numpy(), abs=1e-3)
    for each in (restorer, FaceRestorer(model, device="cpu")):
        assert each.provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert main(["info", str(path)]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"file", "layout", "size", "options", "licence"}


@pytest.mark.slow
def test_onnx_of_another_task(export: Callable[..., Path], tmp_path: Path) -> None:
    path = export(Plain(first=True))
    refused(path, r"restores no faces: \S+ is \[1, 3\], no picture")
    refused(export(Plain(enlarge=2)), r"it makes \[1, 3, 128, 128\] of \[1, 3, 64, 64\]")
    any_size = {"dynamic_axes": {"input": {2: "height", 3: "width"}}}
    with pytest.raises(CheckpointError, match=r"it makes \[1, 3, 128, 128\] of \[1, 3, 64, 64\]"):
        load_face_model(export(Plain(enlarge=2), **any_size)).restore(torch.zeros(1, 3, 64, 64))
    with pytest.raises(CheckpointError, match=r"\.onnx: onnxruntime cannot run it on \[1, 3, 512, 512\]"):
        load_face_model(export(Fixed(), **any_size)).restore(torch.zeros(1, 3, 512, 512))
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:200])
    refused(tmp_path / "cut.onnx", "damaged or no ONNX file")


def test_onnx_gives_its_memory_back_when_it_is_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever moves it off a graphics card, as ComfyUI does, needs that memory now, not when it runs again."""

    class Session:
        def __init__(self, *_: object) -> None:
            pass

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="x", shape=[1, 3, 64, 64], type="tensor(float)")]

        get_outputs = get_inputs

        def get_modelmeta(self) -> SimpleNamespace:
            return SimpleNamespace(custom_metadata_map={})

        def run(self, names: object, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [given["x"]]

    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    (tmp_path / "net.onnx").touch()
    model: Any = load_face_model(tmp_path / "net.onnx")
    first = model.session
    assert model.to("cpu").session is first, "it stays where it is"
    model._opened_for = torch.device("cuda")  # as after a run there
    on_the_card = weakref.ref(first)
    del first
    model.to("cpu")
    assert on_the_card() is None
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(model.restore(x), x, atol=1e-6), "and is opened again where it is"


def test_onnx_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net.onnx").touch()
    refused(tmp_path / "net.onnx", "pip install onnxruntime")


def test_onnx_on_a_full_device_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Exception("CUDA failure 2: out of memory ; GPU=0")

    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=full)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(MemoryError, match="CUDA failure 2"):
        load_face_model(tmp_path / "net.onnx")


@pytest.mark.parametrize("batch", [1, 2])
def test_gfpgan_gives_the_same_channels_last(batch: int) -> None:
    """As it runs on a GPU and on CPUs with AVX-512; spandrel's own code cannot."""
    from spandrel.architectures.GFPGAN import GFPGAN

    torch.manual_seed(0)
    net = GFPGAN(
        out_size=32, num_style_feat=16, channel_multiplier=1, narrow=0.0625, input_is_latent=True, different_w=True
    ).eval()
    x = torch.rand(batch, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        expected = net(x, return_rgb=False, randomize_noise=False)[0]
        bear_any_layout(net)
        net.to(memory_format=torch.channels_last)
        found = net(x.contiguous(memory_format=torch.channels_last), return_rgb=False, randomize_noise=False)[0]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.std()))
