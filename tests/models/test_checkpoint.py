"""Model files: round trips, what is refused and how, and that nothing half-written is ever left behind."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pfr_core import PFR, PFRConfig, load_model, save_model
from pfr_core.errors import CheckpointError, WeightsError
from pfr_core.models import checkpoint, disk, gpen, tensors
from pfr_core.models.checkpoint import read_checkpoint, read_part, read_start
from pfr_core.models.tensors import read_state_dict
from pfr_core.network.config import PRESETS

TINY = PFRConfig(size=16, narrow=1 / 64, style_dim=8, n_mlp=1)


@pytest.fixture
def net() -> PFR:
    torch.manual_seed(0)
    net = PFR(TINY).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


@pytest.fixture
def saved(net: PFR, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_model(net, path, provenance={"steps": 3}, licence="test only")
    return path


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> Path:
    """Return the same file with its tensors or metadata changed."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = {name: value.clone() for name, value in load_file(path).items()}
    change(state, metadata)
    target = path.with_name("changed.safetensors")
    save_file(state, target, metadata or None)
    return target


# --- Round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        PFRConfig(size=32, channel_multiplier=1, narrow=1 / 16, style_dim=5, n_mlp=3, mmrb=False),
        PFRConfig(size=16, narrow=1 / 64, style_dim=8, n_mlp=1, mmrb=False, decoder=False),
        PFRConfig(size=32, narrow=1 / 64, style_dim=8, n_mlp=1, patch=2),
    ],
)
def test_the_file_alone_is_enough(config: PFRConfig, tmp_path: Path) -> None:
    net = PFR(config).eval()
    save_model(net, tmp_path / "a.safetensors", provenance={}, licence="x")
    again = load_model(tmp_path / "a.safetensors")
    assert again.config == config
    assert not again.training
    x = torch.rand(2, 3, config.size, config.size)
    with torch.no_grad():
        torch.testing.assert_close(again(x), net(x), rtol=0, atol=0)


def test_provenance_and_licence_are_kept(net: PFR, tmp_path: Path) -> None:
    provenance = {"data": "faces, ünïcode", "steps": 12, "losses": {"l1": 1.0}, "list": [1, None]}
    save_model(net, tmp_path / "a.safetensors", provenance=provenance, licence="non-commercial\nresearch only")
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert found.provenance == provenance
    assert found.licence == "non-commercial\nresearch only"
    assert (found.config, found.layout) == (TINY, "pfr")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_stored_precision(net: PFR, tmp_path: Path, dtype: torch.dtype) -> None:
    save_model(net, tmp_path / "a.safetensors", provenance={}, licence="x", dtype=dtype)
    assert {value.dtype for value in read_state_dict(tmp_path / "a.safetensors").values()} == {dtype}
    again = load_model(tmp_path / "a.safetensors")
    for name, parameter in again.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad  # it can be trained on
        torch.testing.assert_close(parameter, net.get_parameter(name).to(dtype).float(), rtol=0, atol=0)


def test_the_parameters_own_precision_is_kept_unless_another_is_asked_for(net: PFR, tmp_path: Path) -> None:
    save_model(net.half(), tmp_path / "a.safetensors", provenance={}, licence="x")
    stored = read_state_dict(tmp_path / "a.safetensors")
    assert {name: value.dtype for name, value in stored.items()} == {n: p.dtype for n, p in net.named_parameters()}
    again = load_model(tmp_path / "a.safetensors", dtype=torch.bfloat16)
    assert again.encoder.stem.weight.dtype == torch.bfloat16
    assert torch.equal(again.encoder.to_z.weight, net.encoder.to_z.weight)  # styles are never rounded


def test_a_string_and_a_suffix_in_capitals_will_do(saved: Path) -> None:
    assert load_model(str(saved)).config == TINY
    capitals = saved.rename(saved.with_suffix(".SAFETENSORS"))
    assert load_model(capitals).config == TINY


@pytest.mark.parametrize("layout", ["pfr", "gpen"])
def test_loading_makes_no_second_copy(
    layout: str, net: PFR, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved
    if layout == "gpen":
        path = tmp_path / "g.pth"
        config = PFRConfig(**{**TINY.to_dict(), "mmrb": False, "decoder": False})
        keys = gpen._generator_keys(config)
        torch.save({keys[ours]: value for ours, value in PFR(config).state_dict().items()}, path)
    read: list[dict[str, Tensor]] = []

    def reading(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        state, metadata = original(path)
        read.append(state)
        return state, metadata

    original = tensors.read_tensors
    monkeypatch.setattr(checkpoint, "read_tensors", reading)
    loaded = load_model(path)
    assert {p.data_ptr() for p in loaded.parameters()} == {value.data_ptr() for value in read[0].values()}


@pytest.mark.slow
def test_loading_does_not_import_torchs_compiler(saved: Path) -> None:
    """Its import takes two seconds, and drawing random weights on the meta device is enough to cause it."""
    program = "import sys, pfr_core; pfr_core.load_model(sys.argv[1]); print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", program, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout.strip() == "False"


def test_a_loaded_model_does_not_write_into_its_file(saved: Path) -> None:
    before = saved.read_bytes()
    loaded = load_model(saved)
    for parameter in loaded.parameters():
        nn.init.zeros_(parameter)
    assert saved.read_bytes() == before
    save_model(loaded, saved, provenance={}, licence="x")  # over the file that the tensors came from
    assert not any(parameter.any() for parameter in load_model(saved).parameters())


# --- Names ------------------------------------------------------------------------------------------------------------


def test_a_preset_gives_random_weights_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        net = load_model("pfr-256-lite", dtype=torch.bfloat16)
    assert net.config == PRESETS["pfr-256-lite"]
    assert not net.training
    assert net.encoder.stem.weight.dtype == torch.bfloat16
    assert "pfr-256-lite" in caplog.text
    assert "random" in caplog.text


def test_a_file_gives_no_warning(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_model(saved)
    assert caplog.records == []


def test_default_is_the_file_in_the_package(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "ASSETS", tmp_path)
    with pytest.raises(WeightsError, match=r"pfr-default\.safetensors"):
        load_model("default")
    saved.rename(tmp_path / "pfr-default.safetensors")
    assert load_model("default").config == TINY
    (tmp_path / "pfr-default.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"pfr-default\.safetensors"):
        load_model("default")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pfr-513", "Did you mean pfr-512?"),
        ("pfr_512", "Did you mean pfr-512?"),
        ("gfpgan1.4", "Did you mean gfpgan-1.4?"),
        ("nowhere/net.safetensors", "Known names: default, gfpgan-1.3"),
        ("", "Known names: default, gfpgan-1.3"),
    ],
)
def test_an_unknown_name_is_told_with_what_is_near_or_known(name: str, advice: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model(name)
    assert str(caught.value).startswith(f"{name}: ") and advice in str(caught.value)


# --- Bad files --------------------------------------------------------------------------------------------------------


def refused(path: Path, pattern: str) -> None:
    """One CheckpointError, which names the file."""
    with pytest.raises(CheckpointError, match=pattern) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, -1])
def test_a_truncated_safetensors_file(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep * len(data))] if isinstance(keep, float) else data[: int(keep)])
    refused(saved, "Download it again")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize(
    "content", [b"", b"this is a text file, not a model\n", b"404: Not Found", b"PK\x03\x04", b"\x80\x02", b"\0" * 99]
)
def test_a_file_that_is_no_model(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    refused(path, "damaged")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_file_whose_name_is_no_text_is_not_called_damaged(saved: Path) -> None:
    refused(saved.rename(saved.with_name(os.fsdecode(b"m\xe8.safetensors"))), "no UTF-8. Rename it")


def test_a_truncated_pth(net: PFR, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-500])
    refused(path, "damaged")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / f"net{suffix}"
    path.touch()
    monkeypatch.setattr(tensors, "open", denied, raising=False)  # root may read everything
    refused(path, r"cannot be read \(Permission denied\)\. Look at its permissions and disk\.$")


def test_too_little_memory_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.")

    path = tmp_path / "net.pth"
    path.touch()
    monkeypatch.setattr(torch, "load", full)
    refused(path, "too little memory to read it .* Close other programs")


@pytest.mark.filterwarnings("error:Detected pickle protocol")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_damaged_bytes_load_or_are_refused(kind: str, data: st.DataObject, saved: Path, tmp_path: Path) -> None:
    """Whatever the damage, the only exception is ours and names the file."""
    path = tmp_path / ("hurt.safetensors" if kind == "safetensors" else "hurt.pth")
    if kind == "safetensors":
        content = bytearray(saved.read_bytes())
    else:
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=kind == "zip")
        content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 3000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load_model(path)
    except CheckpointError as error:
        assert str(path) in str(error)


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


@pytest.mark.filterwarnings("error:Detected pickle protocol")
@pytest.mark.parametrize("form", ["pickle", "zip", "legacy", "wrapped", "state"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_code_in_a_pickle_is_not_run(form: str, suffix: str, tmp_path: Path) -> None:
    proof, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    trap = Trap(proof)
    content = {"wrapped": {"g_ema": trap}, "state": {"a": torch.ones(1), "b": trap}}.get(form, trap)
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    if suffix == ".pth":  # the trap works where pickles are trusted
        torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
        assert proof.exists()
        proof.unlink()
    refused(path, "no safetensors" if suffix == ".safetensors" else "could run code")
    with pytest.raises(CheckpointError):
        read_state_dict(path)
    assert not proof.exists()


def test_a_tar_file_is_refused_before_pytorch_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones run the code in it although they are asked for tensors only."""
    path = tmp_path / "evil.pth"
    with tarfile.open(path, "w") as file:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Trap(tmp_path / "executed"))
            (member := tarfile.TarInfo(name)).size = len(content)
            file.addfile(member, io.BytesIO(content))
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("PyTorch is asked"))
    refused(path, "a tar file")
    assert not (tmp_path / "executed").exists()
    monkeypatch.undo()
    path.write_bytes(bytes(5000))  # what a power cut leaves
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "a tar file" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [[torch.ones(1)], {"step": 3}, {"g_ema": {"a": 1.0}}, {3: torch.ones(1)}, torch.ones(2), None]
)
def test_a_pickle_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "no state dict")


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about what few use
@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "nested", "quantised"],
)
def test_tensors_that_are_no_ordinary_ones_are_named(value: Tensor, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "odd": value}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "odd is sparse, nested")


@pytest.mark.parametrize("name", ["gfpgan.pth", "codeformer.safetensors"])
def test_another_network(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    state = {"stylegan_decoder.constant_input.weight": torch.zeros(1, 4, 4, 4), "conv_body_first.bias": torch.zeros(2)}
    if path.suffix == ".pth":
        torch.save({"params_ema": state}, path)
    else:
        save_file(state, path, {"format": "pt"})
    refused(path, "not a PFR or GPEN generator")


@pytest.mark.parametrize("name", ["model.onnx", "model", "model.zip"])
def test_another_suffix(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"abc")
    refused(tmp_path / name, r"\.safetensors, \.pth, \.pt")


def test_a_part_for_training_says_what_it_is_for(saved: Path) -> None:
    part = rewrite(saved, lambda state, metadata: metadata.update(format="pfr-discriminator"))
    refused(part, r"\(a discriminator, for the trainer's --discriminator\)\.$")


def test_what_training_starts_from(saved: Path) -> None:
    """Of a damaged prior it is said what is wrong with it, not that it is no model."""
    assert read_start(saved).layout == "pfr"
    whole = rewrite(saved, lambda state, metadata: metadata.update(format="pfr-prior"))
    assert read_start(whole).layout == "pfr-prior"
    damaged = rewrite(saved, lambda state, metadata: metadata.update(format="pfr-prior", config="{"))
    with pytest.raises(CheckpointError, match="the metadata is damaged"):
        read_start(damaged)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    refused(folder, "no such model file")


@pytest.mark.parametrize("version", ["2", "", "0", "1.0", "soon"])
def test_another_format_version(saved: Path, version: str) -> None:
    refused(rewrite(saved, lambda state, metadata: metadata.update(format_version=version)), "format version.*Update")
    prior = rewrite(saved, lambda state, metadata: metadata.update(format="pfr-prior", format_version=version))
    for read in (read_start, lambda path: read_part(path, "prior")):
        with pytest.raises(CheckpointError, match=r"format version.*Update"):
            read(prior)


@pytest.mark.parametrize("key", ["format", "format_version", "config", "provenance"])
def test_metadata_with_a_missing_entry(saved: Path, key: str) -> None:
    refused(rewrite(saved, lambda state, metadata: metadata.pop(key)), "damaged|missing|not a PFR")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", "{"), ("config", "[1, 2]"), ("config", "null"), ("config", '{"size": 500}'),
        ("config", '{"size": "512"}'), ("config", '{"size": [512]}'), ("config", '{"unknown": 1}'),
        ("config", '{"style_dim": 8.5}'), ("config", '{"narrow": null}'), ("config", '{"narrow": NaN}'),
        ("provenance", "{"), ("provenance", "3"), ("provenance", "null"),
    ],
)  # fmt: skip
def test_damaged_metadata(saved: Path, key: str, value: str) -> None:
    refused(rewrite(saved, lambda state, metadata: metadata.update({key: value})), "metadata is damaged")


@pytest.mark.parametrize("key", TINY.to_dict())
def test_a_configuration_that_lacks_a_value_never_builds_another_network(saved: Path, key: str) -> None:
    """A missing value means the default, as in a file older than the option; it must fit the tensors."""

    def drop(state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        config = json.loads(metadata["config"])
        del config[key]
        metadata["config"] = json.dumps(config)

    path = rewrite(saved, drop)
    if getattr(PFRConfig(), key) == getattr(TINY, key):
        assert load_model(path).config == TINY
    else:
        refused(path, "do not fit|damaged")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("prior.const"),
        lambda state: state.update(extra=torch.zeros(1)),
        lambda state: state.update({"prior.const": torch.zeros(1, 8, 4, 5)}),
        lambda state: state.update({"prior.const": torch.zeros(1, 8, 4, 4, dtype=torch.int64)}),
    ],
    ids=["missing", "unknown", "shape", "integers"],
)
def test_tensors_that_do_not_fit_the_configuration(saved: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    refused(rewrite(saved, lambda state, metadata: change(state)), "do not fit")


# --- Writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.pth", "net", "net.safetensors.bak"])
def test_only_safetensors_are_written(net: PFR, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"\.safetensors"):
        save_model(net, tmp_path / name, provenance={}, licence="x")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_permissions_follow_the_umask(net: PFR, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "net.safetensors"
    save_model(net, path, provenance={}, licence="x")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if os.name == "posix":
        umask = os.umask(0)
        os.umask(umask)
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@contextmanager
def small_files_only() -> Iterator[None]:
    """No file may grow beyond 4 KiB: what a full disk looks like to the program.

    Not a fixture: pytest itself writes between the phases of a test, and its log may be a longer file.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def intact_after_a_failed_save(net: PFR, path: Path) -> None:
    before, names = path.read_bytes(), sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        save_model(net, path, provenance={}, licence="x")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == names


def test_a_full_disk_leaves_the_old_file_intact(net: PFR, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"the old one")
    with small_files_only():
        intact_after_a_failed_save(net, path)


@pytest.mark.parametrize("failing", ["touch", "save_file", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_intact(
    failing: str, net: PFR, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``touch`` is where a read-only folder shows; root may write everywhere, so it is acted out."""

    def fail(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    owner: Any = {"touch": Path, "save_file": tensors, "replace": os}[failing]
    monkeypatch.setattr(owner, failing, fail)
    intact_after_a_failed_save(net, saved)


def test_an_interrupt_leaves_no_half_file(net: PFR, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise KeyboardInterrupt

    before = saved.read_bytes()
    monkeypatch.setattr(tensors, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(net, saved, provenance={}, licence="x")
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_target_that_cannot_be_a_file(net: PFR, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.safetensors").mkdir()
    for path in (tmp_path / "file" / "net.safetensors", tmp_path / "folder.safetensors"):
        with pytest.raises(CheckpointError, match="cannot be written") as caught:
            save_model(net, path, provenance={}, licence="x")
        assert str(path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors"]
