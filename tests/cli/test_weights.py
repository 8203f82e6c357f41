"""``pfr weights``, ``pfr info`` and ``pfr import-gpen``: what is had, told and taken over."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pfr_core import load_model
from pfr_core.models.disk import on_disk
from pfr_core.models.registry import REGISTRY

from .command import SIZE, Code, files, pfr, refused


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """``parsenet`` published on this machine; its content."""
    body = bytes(range(256)) * 100
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file.pth").write_bytes(body)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    address = ("127.0.0.1", 0)
    with http.server.ThreadingHTTPServer(address, functools.partial(Quiet, directory=str(tmp_path / "www"))) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_port}/file.pth"
        published: dict[str, Any] = {"urls": (url,), "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        monkeypatch.setitem(REGISTRY, "parsenet", dataclasses.replace(REGISTRY["parsenet"], **published))
        monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for name in ("PFR_WEIGHTS_DIR", "PFR_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield body
        web.shutdown()


def test_weights(tmp_path: Path, server: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, pfr("weights", "path", "parsenet"), "pfr weights download parsenet")
    assert pfr("weights", "list") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in REGISTRY) and str(tmp_path / "cache") in listed
    assert "CC BY-NC-SA 4.0" in listed and "pfr weights download parsenet" in listed
    assert f"embedded: {on_disk('builtin')}" in listed

    assert pfr("weights", "download", "parsenet") == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.read_bytes() == server and path.parent == tmp_path / "cache"
    assert pfr("weights", "path", "parsenet") == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert pfr("weights", "list") == 0
    assert str(path) in capsys.readouterr().out
    assert pfr("weights", "download", "nosuch") == 2


def test_a_broken_download_leaves_nothing(tmp_path: Path, server: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "www" / "file.pth").write_bytes(server[:-1] + b"!")
    refused(capsys, pfr("weights", "download", "parsenet"), "parsing_parsenet.pth", "SHA-256", "by hand")
    assert files(tmp_path / "cache") == []


def test_info(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pfr("info", model) == 0
    said = json.loads(capsys.readouterr().out)
    net = load_model(model)
    assert said["file"] == str(model) and said["layout"] == "pfr" and said["dtypes"] == ["float32"]
    assert said["config"]["size"] == SIZE and said["licence"] == "none" and said["provenance"] == {"test": True}
    assert said["parameters"] == sum(value.numel() for value in net.state_dict().values())


@pytest.mark.parametrize("name", ["builtin", "points"])
def test_info_of_what_finds_faces(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, and of a file like it: one that somebody trained."""
    assert pfr("info", name) == 0
    said = json.loads(capsys.readouterr().out)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(Path(said["file"]).read_bytes())
    assert pfr("info", path) == 0
    assert "licence" in said and json.loads(capsys.readouterr().out) == said | {"file": str(path)}


@pytest.mark.parametrize("part", ["prior", "discriminator"])
def test_info_of_a_part_for_training(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[1] / "fixtures" / "older" / f"{part}.safetensors"
    assert pfr("info", path) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["layout"] == f"pfr-{part}" and said["config"]["size"] == 16 and said["parameters"]
    assert "licence" in said and "provenance" in said


def test_no_progress_is_shown_where_nothing_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert pfr("weights", "download", "builtin") == 0
    assert capsys.readouterr().err == ""


def test_info_of_a_published_model_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PFR_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("PFR_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("PFR_OFFLINE", "1")
    assert pfr("info", "gfpgan-1.4") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] is None and said["size"] == 512 and said["addresses"] and "NVIDIA" in said["licence"]


@pytest.fixture
def gpen(shared_dir: Path) -> tuple[Path, Path]:
    """Return a GPEN generator and its discriminator, random weights."""
    folder = shared_dir / "golden" / "gpen-64-narrow0.125"
    return folder / "gpen_g.pth", folder / "gpen_d.pth"


@pytest.mark.shared
def test_import_gpen(tmp_path: Path, gpen: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    generator, discriminator = gpen
    plain, start = tmp_path / "gpen.safetensors", tmp_path / "start.safetensors"
    assert pfr("import-gpen", generator, "-o", plain) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == [str(plain)] and "no licence" in captured.err
    assert pfr("import-gpen", generator, "--discriminator", discriminator, "-o", start) == 0
    assert set(capsys.readouterr().out.split()) == {str(start), str(tmp_path / "start.discriminator.safetensors")}
    assert files(tmp_path) == ["gpen.safetensors", "start.discriminator.safetensors", "start.safetensors"]

    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        expected = load_model(generator)(x)
        assert torch.equal(load_model(plain)(x), expected)
        assert torch.allclose(load_model(start)(x), expected, atol=1e-4)
    assert load_model(start).config.mmrb and not load_model(plain).config.mmrb
    assert pfr("info", start) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["provenance"] == {"imported_from": "gpen_g.pth", "discriminator": "gpen_d.pth"}


@pytest.mark.shared
def test_import_gpen_refuses(tmp_path: Path, model: Path, gpen: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    generator, discriminator = gpen
    mine, marker, evil = tmp_path / "mine.safetensors", tmp_path / "code-has-run", tmp_path / "evil.pth"
    mine.write_bytes(model.read_bytes())
    torch.save({"g_ema": Code(marker)}, evil)
    out = tmp_path / "new.safetensors"
    for words, *arguments in (
        (discriminator, discriminator, "-o", out),
        (generator, generator, "--discriminator", generator, "-o", out),
        (mine, mine, "-o", out),
        (evil, evil, "-o", out),
        (tmp_path / "nosuch.pth", generator, "--discriminator", tmp_path / "nosuch.pth", "-o", out),
        ("new.pth", generator, "--discriminator", discriminator, "-o", tmp_path / "new.pth"),
        ("same file", mine, "-o", mine),
    ):
        refused(capsys, pfr("import-gpen", *arguments), words)
    assert files(tmp_path) == ["evil.pth", "mine.safetensors"]
    assert mine.read_bytes() == model.read_bytes()
