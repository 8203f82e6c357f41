"""The weights registry, search order and downloads, against a real web server on the loopback interface."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.util
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from unittest.mock import Mock

import pytest

from pfr_core.errors import Cancelled, CheckpointError, WeightsError
from pfr_core.models import disk, download
from pfr_core.models.checkpoint import model_file
from pfr_core.models.load import load_face_model
from pfr_core.models.registry import REGISTRY, Weights, restorers
from pfr_core.models.tensors import read_tensors
from pfr_core.support.choices import DetectorName
from pfr_core.support.files import lock

ROOT = Path(__file__).resolve().parents[2]
BODY = bytes(range(256)) * 8192  # 2 MiB: several pieces, more than the socket buffers swallow at once
SHA = hashlib.sha256(BODY).hexdigest()
FILE = "test-weights.bin"
SHARED = os.environ.get("PFR_WEIGHTS_DIR", "")  # read before the fixture below clears it


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Half of the file, then a connection reset, as from a server that dies."""
    send(handler, BODY[: len(BODY) // 2], length=len(BODY))
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/good")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"this is not HTTP\r\n\r\n")


class Server:
    """Serves paths by name; ``requests`` lists (path, User-Agent) as they came."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        both = threading.Barrier(2, timeout=60)

        def together(handler: BaseHTTPRequestHandler) -> None:
            both.wait()  # neither client gets a byte before the other one has asked too
            send(handler, BODY)

        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
            "/good": lambda h: send(h, BODY),
            "/redirect": redirect,
            "/truncated": lambda h: send(h, BODY[:-1000], length=len(BODY)),
            "/wrong": lambda h: send(h, BODY[:-1] + b"\0"),
            "/long": lambda h: send(h, BODY + b"\0"),
            "/short": lambda h: send(h, b"<html>please log in</html>"),
            "/missing": lambda h: send(h, b"gone", status=404),
            "/reset": reset,
            "/gone": lambda h: send(h, b"gone", status=410),
            "/garbage": garbage,
            "/together": together,
            "http://weights.invalid/good": lambda h: send(h, BODY),  # what a proxy is asked for
        }
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers["User-Agent"]))
                try:
                    server.pages[self.path](self)
                except (ConnectionError, threading.BrokenBarrierError):
                    self.close_connection = True  # the client went away, as some tests make it do

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # reset() closed the socket under it
                    super().finish()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.base = f"http://127.0.0.1:{self.http.server_port}"

    def url(self, page: str) -> str:
        return f"{self.base}/{page}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder (not yet made), no other search folder, no proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("PFR_OFFLINE", "PFR_WEIGHTS_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "cache"
    monkeypatch.setenv("PFR_CACHE_DIR", str(folder))
    monkeypatch.setattr(disk, "_extra_folders", [])
    monkeypatch.setattr(disk, "_digests", {})
    return folder


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Weights]:
    def add(*urls: str) -> Weights:
        entry = Weights("test", FILE, urls, SHA, len(BODY), "none", "this test", "testing")
        monkeypatch.setitem(REGISTRY, "test", entry)
        return entry

    return add


def put(folder: Path, body: bytes = BODY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(body)
    return folder / FILE


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/nobody-listens"


# --- the registry ---------------------------------------------------------------------------------------------------


def test_registry_entries_are_whole() -> None:
    assert set(get_args(DetectorName)) - {"auto"} <= set(REGISTRY)
    models = {"default", "gfpgan-1.3", "gfpgan-1.4", "codeformer", "restoreformer", "restoreformer++"}
    models |= {f"gpen-{size}" for size in (256, 512, 1024, 2048)}
    assert {weights.name for weights in restorers()} == models
    assert REGISTRY["default"].size == load_face_model("default").size
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert entry.licence and entry.source and entry.purpose
        if entry.urls or entry.sha256:
            assert len(entry.sha256) == 64 and int(entry.sha256, 16) and entry.sha256 == entry.sha256.lower()
            assert entry.bytes > 200_000
            assert all(url.startswith("https://") and url.endswith("/" + entry.file) for url in entry.urls)
    with pytest.raises(dataclasses.FrozenInstanceError):
        REGISTRY["parsenet"].sha256 = ""  # type: ignore[misc]


def test_published_addresses_are_those_facexlib_uses() -> None:
    spec = importlib.util.find_spec("facexlib")
    if spec is None or spec.origin is None:
        pytest.skip("facexlib is not installed")
    package = Path(spec.origin).parent
    source = "".join((package / part / "__init__.py").read_text() for part in ("detection", "parsing", "recognition"))
    for name in ("retinaface_mobile0.25", "retinaface_resnet50", "parsenet", "arcface"):
        assert REGISTRY[name].urls[0] in source


def test_published_address_of_vgg19_is_the_one_torchvision_uses() -> None:
    from torchvision.models import VGG19_Weights

    vgg19 = REGISTRY["vgg19"]
    assert vgg19.urls == (VGG19_Weights.IMAGENET1K_V1.url,)
    assert vgg19.sha256.startswith(vgg19.file.split("-")[1].removesuffix(".pth"))  # torchvision's names carry its beginning


@pytest.mark.shared
@pytest.mark.skipif(not SHARED, reason="PFR_WEIGHTS_DIR is not set")
def test_the_real_small_detector_is_what_the_registry_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", SHARED)
    path = disk.on_disk("retinaface_mobile0.25")
    assert path is not None and path.name == "detection_mobilenet0.25_Final.pth"
    disk.verify(path, REGISTRY["retinaface_mobile0.25"])
    with pytest.raises(WeightsError, match="not the weights parsenet"):
        disk.verify(path, REGISTRY["parsenet"])


@pytest.mark.shared
@pytest.mark.skipif(not SHARED, reason="PFR_WEIGHTS_DIR is not set")
def test_the_real_yunet_is_what_the_registry_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", SHARED)
    assert disk.on_disk("yunet") == Path(SHARED).absolute() / "face_detection_yunet_2023mar.onnx"


def test_unknown_name_lists_the_known_ones() -> None:
    for function in (disk.on_disk, download.obtain):
        with pytest.raises(WeightsError, match=r"unknown weights 'parsnet'.*parsenet"):
            function("parsnet")


# --- folders and search order ---------------------------------------------------------------------------------------


def test_cache_folder_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert disk.cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("PFR_CACHE_DIR", "~/mine")
    assert disk.cache_folder() == tmp_path / "home" / "mine"
    monkeypatch.delenv("PFR_CACHE_DIR")
    assert disk.cache_folder() == tmp_path / "xdg" / "pfr"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert disk.cache_folder() == tmp_path / "home" / ".cache" / "pfr"
    monkeypatch.setattr(disk, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert disk.cache_folder() == tmp_path / "local" / "pfr"


def test_no_home_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("PFR_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(WeightsError, match="Set PFR_CACHE_DIR"):
        disk.cache_folder()


def test_a_folder_of_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFR_WEIGHTS_DIR", "~nobody-has-this-name/weights")
    with pytest.raises(WeightsError, match=r"PFR_WEIGHTS_DIR=~nobody-has-this-name/weights: .*without ~"):
        disk.on_disk("parsenet")


def test_search_order(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, register: Callable[..., Weights]) -> None:
    register(closed_port())
    first, second, extra, later = (tmp_path / name for name in ("first", "second", "extra", "later"))
    monkeypatch.setenv("PFR_WEIGHTS_DIR", os.pathsep.join([str(first), "", str(second)]))
    for folder in (extra, later, extra):
        disk.add_search_folder(folder)
    assert disk._extra_folders == [extra, later]
    assert disk.on_disk("test") is None
    for folder in (cache, later, extra, second, first):  # from last to first: each one must win over those before
        path = put(folder)
        assert disk.on_disk("test") == path
        assert download.obtain("test") == path


def test_find_never_connects(server: Server, cache: Path, register: Callable[..., Weights]) -> None:
    register(server.url("good"))
    assert disk.on_disk("test") is None
    assert not server.requests and not cache.exists()


def test_embedded_is_looked_for_in_the_package_only(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = REGISTRY["default"].file
    assets = tmp_path / "assets"
    for folder in (assets, cache):
        folder.mkdir()
    monkeypatch.setattr(disk, "ASSETS", assets)
    (cache / file).write_bytes(b"somebody else's")
    assert disk.on_disk("default") is None
    with pytest.raises(WeightsError, match=f"{file} is missing from the installation"):
        download.obtain("default")
    (assets / file).write_bytes(b"ours")
    assert disk.on_disk("default") == download.obtain("default") == assets / file


@pytest.mark.parametrize("weights", [each for each in REGISTRY.values() if each.embedded], ids=lambda each: str(each.name))
def test_the_licence_of_what_ships_is_told_in_the_words_of_its_file(weights: Weights) -> None:
    assert read_tensors(disk.ASSETS / weights.file)[1]["licence"] == weights.licence


# --- checking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "says"), [(BODY[:-1], f"it has {len(BODY) - 1} bytes"), (BODY[:-1] + b"\0", "its SHA-256 is")])
def test_a_wrong_file_of_the_user_is_refused_and_left_alone(
    body: bytes,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    register: Callable[..., Weights],
) -> None:
    url = server.url("good")
    register(url)
    path = put(tmp_path / "mine", body)
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(path.parent))
    for function in (disk.on_disk, download.obtain):
        with pytest.raises(WeightsError) as caught:
            function("test")
        message = str(caught.value)
        assert str(path) in message and says in message and f"Replace it with the file from {url}" in message
    assert path.read_bytes() == body
    assert not server.requests


def test_a_damaged_file_in_the_cache_is_downloaded_again(
    cache: Path, server: Server, register: Callable[..., Weights], caplog: pytest.LogCaptureFixture
) -> None:
    register(server.url("good"))
    path = put(cache, BODY[:-1] + b"\0")
    with caplog.at_level(logging.WARNING, "pfr_core.models.disk"):
        assert disk.on_disk("test") is None
    assert str(path) in caplog.text
    assert download.obtain("test") == path
    assert path.read_bytes() == BODY and os.listdir(cache) == [FILE]


def test_a_file_changed_after_it_was_checked_is_checked_again(
    tmp_path: Path, register: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = register(closed_port())
    path = put(tmp_path / "mine")
    hasher = Mock(wraps=disk.hash_pieces)
    monkeypatch.setattr(disk, "hash_pieces", hasher)
    disk.verify(path, entry)
    disk.verify(path, entry)
    assert hasher.call_count == 1
    path.write_bytes(BODY[:-1] + b"\0")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    with pytest.raises(WeightsError, match="SHA-256"):
        disk.verify(path, entry)


def test_verify_names_an_unreadable_file(tmp_path: Path, register: Callable[..., Weights]) -> None:
    entry = register(closed_port())
    with pytest.raises(WeightsError, match=r"absent\.bin.*cannot be read: No such file.*Replace it"):
        disk.verify(tmp_path / "absent.bin", entry)


# --- downloading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["good", "redirect"])
def test_download(page: str, cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    register(server.url(page))
    seen: list[tuple[int, int]] = []
    path = download.obtain("test", progress=lambda done, total: seen.append((done, total)))
    assert path == cache / FILE and path.read_bytes() == BODY and os.listdir(cache) == [FILE]
    done = [step for step, _ in seen]
    assert done == sorted(set(done)) and len(done) > 2 and done[0] > 0
    assert seen[-1] == (len(BODY), len(BODY)) and {total for _, total in seen} == {len(BODY)}
    asked = len(server.requests)
    assert all(agent.startswith("pfr") for _, agent in server.requests)
    assert download.obtain("test") == disk.on_disk("test") == path
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("truncated", f"sent {len(BODY) - 1000} bytes, {len(BODY)} expected"),
        ("wrong", "sent a file with SHA-256"),
        ("long", f"sent more than the {len(BODY)} bytes"),
        ("short", "sent 26 bytes"),
        ("missing", "HTTP 404 Not Found"),
        ("reset", "connection broke: "),
        ("garbage", "connection broke"),
        (None, "refused"),
    ],
)
def test_a_bad_address(page: str | None, says: str, cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    """Alone it gives one error that says everything; followed by a good mirror it does no harm."""
    bad = server.url(page) if page else closed_port()
    register(bad, server.url("gone"))
    with pytest.raises(WeightsError) as caught:
        download.obtain("test")
    message = str(caught.value)
    [reason] = [line for line in message.splitlines() if line.startswith(f"  {bad}: ")]
    assert says in reason
    assert f"{server.url('gone')}: HTTP 410" in message
    assert FILE in message and f"Download {bad} by hand and put it into {cache} as {FILE}" in message
    assert os.listdir(cache) == []

    register(bad, server.url("good"))
    seen: list[int] = []
    assert download.obtain("test", progress=lambda done, total: seen.append(done)).read_bytes() == BODY
    assert seen == sorted(set(seen)) and seen[-1] == len(BODY)
    assert os.listdir(cache) == [FILE]


def test_a_silent_server_times_out(
    cache: Path, server: Server, register: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 2)
    release = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        release.wait(60)

    server.pages["/silent"] = silent
    register(server.url("silent"), server.url("good"))
    try:
        assert download.obtain("test").read_bytes() == BODY
        register(server.url("silent"))
        (cache / FILE).unlink()
        with pytest.raises(WeightsError, match="timed out"):
            download.obtain("test")
    finally:
        release.set()


@pytest.mark.parametrize("after", [0, 2])
def test_cancel(after: int, cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    register(server.url("good"), server.url("good"))
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(Cancelled, match=FILE):
        download.obtain("test", should_stop=should_stop)
    assert asked == after + 1
    assert len(server.requests) == (1 if after else 0)  # asked before connecting, and the mirror was not tried
    assert not cache.exists() or os.listdir(cache) == []
    assert download.obtain("test", should_stop=lambda: False).read_bytes() == BODY


def test_the_licence_is_told_before_a_download_and_only_then(
    server: Server, register: Callable[..., Weights], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = register(server.url("good"))
    monkeypatch.setenv("PFR_OFFLINE", "1")
    with pytest.raises(WeightsError, match="PFR_OFFLINE"):
        download.obtain("test")
    assert not caplog.messages
    monkeypatch.delenv("PFR_OFFLINE")

    def should_stop() -> bool:
        assert caplog.messages == [weights.announcement] and weights.licence in weights.announcement
        return False

    download.obtain("test", should_stop=should_stop)
    caplog.clear()
    download.obtain("test")
    assert not caplog.messages


def test_an_error_in_a_callback_is_the_callers(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    """An OSError of the caller's progress bar must not pass for a broken disk or network."""
    register(server.url("good"), server.url("good"))

    def progress(done: int, total: int) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="terminal"):
        download.obtain("test", progress=progress)
    assert len(server.requests) == 1 and os.listdir(cache) == []


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline(
    value: str,
    offline: bool,
    tmp_path: Path,
    cache: Path,
    server: Server,
    register: Callable[..., Weights],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls = server.url("good"), server.url("redirect")
    register(*urls)
    monkeypatch.setenv("PFR_OFFLINE", value)
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(tmp_path / "mistyped"))
    if not offline:
        assert download.obtain("test").read_bytes() == BODY
        return
    with pytest.raises(WeightsError) as caught:
        download.obtain("test")
    message = str(caught.value)
    assert "PFR_OFFLINE" in message and all(url in message for url in urls)
    assert f"{tmp_path / 'mistyped'}: no such folder" in message and f"{cache}: no such folder" in message
    assert f"Download {urls[0]} by hand and put it into {cache} as {FILE}" in message
    assert not server.requests and not cache.exists()
    put(cache, b"not the body")
    with pytest.raises(WeightsError, match="no usable copy"):
        download.obtain("test")
    path = put(cache)
    assert download.obtain("test") == path


def test_a_cache_that_cannot_be_made(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    register(server.url("good"), server.url("good"))
    cache.write_text("a file where the folder should be")
    with pytest.raises(WeightsError) as caught:
        download.obtain("test")
    message = str(caught.value)
    assert (
        f"{cache}: cannot be written" in message
        and f"{FILE} needs" in message
        and "PFR_CACHE_DIR names another folder" in message
    )
    assert not server.requests


def child(url: str, before: str = "") -> subprocess.Popen[str]:
    code = (
        f"{before}\n"
        "from pfr_core.models import download\n"
        "from pfr_core.models.registry import REGISTRY, Weights\n"
        f"REGISTRY['test'] = Weights('test', {FILE!r}, ({url!r},), {SHA!r}, {len(BODY)}, '', '', '')\n"
        "print(download.obtain('test'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits a file's size with the resource module")
def test_full_disk(cache: Path, server: Server) -> None:
    """The system itself refuses the write mid-way: one error with the remedy, nothing left behind."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    process = child(server.url("good"), before=limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    told = errors.splitlines()[-1]
    assert f"{cache}: cannot be written (File too large); free some space" in told and f"{FILE} needs 2.1 MB" in told
    assert os.listdir(cache) == []


@pytest.mark.slow
def test_two_processes_download_at_once(cache: Path, server: Server) -> None:
    processes = [child(server.url("together")) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.strip() == str(cache / FILE)
    assert len(server.requests) == 2
    assert os.listdir(cache) == [FILE] and (cache / FILE).read_bytes() == BODY


def test_proxy_is_respected(cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.base)
    url = "http://weights.invalid/good"
    process = child(url)  # a process of its own: urllib reads the proxy settings once
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [path for path, _ in server.requests] == [url] and os.listdir(cache) == [FILE]


# --- files without a published address, and the model's name --------------------------------------------------------------


@pytest.mark.parametrize("place", ["given", "added", "cache"])
def test_a_supplied_file_is_looked_for_where_all_weights_are(
    place: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"given": tmp_path / "given", "added": tmp_path / "added", "cache": cache}
    monkeypatch.setenv("PFR_WEIGHTS_DIR", str(folders["given"]))
    disk.add_search_folder(folders["added"])
    with pytest.raises(WeightsError, match=r"mine\.npz: not found") as caught:
        disk.supplied("mine.npz")
    assert all(str(folder) in str(caught.value) for folder in folders.values())
    folders[place].mkdir(parents=True, exist_ok=True)
    (folders[place] / "mine.npz").touch()
    assert disk.supplied("mine.npz") == folders[place] / "mine.npz"


def test_a_model_s_name_is_the_default_or_a_file(tmp_path: Path) -> None:
    assert model_file("default") == disk.ASSETS / REGISTRY["default"].file
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: no such model file.*Known names: default, gfpgan"):
        model_file(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="no such model file"):
        model_file(tmp_path)
    (tmp_path / "mine.pth").touch()
    assert model_file(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"


def test_an_address_that_fails_is_told_once(
    server: Server, register: Callable[..., Weights], caplog: pytest.LogCaptureFixture
) -> None:
    """By the error, or, where another address gives the file, by a warning."""
    bad = server.url("missing")
    weights = register(bad, server.url("gone"))
    with pytest.raises(WeightsError) as caught:
        download.obtain("test")
    assert caplog.messages == [weights.announcement] and str(caught.value).count("HTTP 404") == 1
    caplog.clear()
    weights = register(bad, server.url("good"))
    download.obtain("test")
    assert caplog.messages == [weights.announcement, f"{bad}: HTTP 404 Not Found"]


# --- going on with what was broken off --------------------------------------------------------------------------------------


def ranges(handler: BaseHTTPRequestHandler, total: int = len(BODY)) -> None:
    """Send as much as ``total`` bytes of the body from where it is asked for, as servers of large files can."""
    start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
    handler.send_response(206 if start else 200)
    handler.send_header("Accept-Ranges", "bytes")
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
    handler.send_header("Content-Length", str(len(BODY) - start))
    handler.end_headers()
    handler.wfile.write(BODY[start : start + total])


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the files of these tests for large ones."""
    monkeypatch.setattr(download, "WORTH_KEEPING", 300_000)


@pytest.mark.usefixtures("large")
def test_a_broken_connection_is_taken_up_again(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    server.pages["/pieces"] = lambda handler: ranges(handler, 600_000)
    register(server.url("pieces"))
    seen: list[int] = []
    path = download.obtain("test", progress=lambda done, total: seen.append(done))
    assert path.read_bytes() == BODY and os.listdir(cache) == [FILE]
    assert len(server.requests) == 4 and seen == sorted(set(seen))


@pytest.mark.usefixtures("large")
def test_the_next_download_goes_on(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    asked: list[str] = []

    def page(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Range"] or "")
        ranges(handler)

    server.pages["/page"] = page
    register(server.url("page"))
    with pytest.raises(Cancelled):
        download.obtain("test", should_stop=lambda: bool(asked) and any(cache.glob("*.part")) and size(cache) > 500_000)
    (left,) = cache.iterdir()
    assert left.name == f"{FILE}.part" and disk.on_disk("test") is None
    kept = left.stat().st_size
    assert download.obtain("test").read_bytes() == BODY and asked == ["", f"bytes={kept}-"] and os.listdir(cache) == [FILE]


@pytest.mark.usefixtures("large")
def test_a_connection_that_breaks_is_taken_up_again_at_once(
    cache: Path, server: Server, register: Callable[..., Weights]
) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        if len(server.requests) > 1:
            return ranges(handler)
        handler.send_response(200)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:1_000_000])
        time.sleep(0.5)  # what was sent before a reset may be lost
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    server.pages["/page"] = page
    register(server.url("page"))
    assert download.obtain("test").read_bytes() == BODY and len(server.requests) == 2


@pytest.mark.usefixtures("large")
def test_a_server_that_sends_another_piece_is_asked_for_all_of_it(
    cache: Path, server: Server, register: Callable[..., Weights]
) -> None:
    asked: list[str] = []

    def page(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Range"] or "")
        if not asked[-1]:
            return send(handler, BODY)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 1000-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY) - 1000))
        handler.end_headers()
        handler.wfile.write(BODY[1000:])

    server.pages["/page"] = page
    register(server.url("page"))
    cache.mkdir()
    (cache / f"{FILE}.part").write_bytes(BODY[:500_000])
    assert download.obtain("test").read_bytes() == BODY and asked == ["bytes=500000-", ""] and os.listdir(cache) == [FILE]


@pytest.mark.usefixtures("large")
def test_a_file_that_changes_all_the_time_is_given_up(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    """Each time the first part arrives and the connection ends; the rest is of another version."""

    def page(handler: BaseHTTPRequestHandler) -> None:
        start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
        handler.send_response(206 if start else 200)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY) - start))
        handler.end_headers()
        handler.wfile.write(bytes(len(BODY) - start) if start else BODY[:600_000])

    server.pages["/page"] = page
    register(server.url("page"))
    with pytest.raises(WeightsError, match="sent a file with SHA-256"):
        download.obtain("test")
    assert len(server.requests) == 4 and not os.listdir(cache)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("left", [BODY, BODY[:-1] + b"\0", BODY + b"more"], ids=["whole", "damaged", "longer"])
def test_what_is_left_may_have_all_bytes(left: bytes, cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    """Of a process that was killed before the last step, or of another version of the file: servers have nothing more to send."""
    register(server.url("good"))
    cache.mkdir()
    (cache / f"{FILE}.part").write_bytes(left)
    assert download.obtain("test").read_bytes() == BODY and os.listdir(cache) == [FILE]
    assert len(server.requests) == (0 if left == BODY else 1)


@pytest.mark.usefixtures("large")
def test_a_server_whose_file_is_shorter_than_what_is_left(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    server.pages["/page"] = lambda handler: send(handler, b"no such range", status=416)
    register(server.url("page"), server.url("good"))
    cache.mkdir()
    (cache / f"{FILE}.part").write_bytes(BODY[:500_000])
    assert download.obtain("test").read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/page", "/page", "/good"], "from the start, and then elsewhere"


@pytest.mark.usefixtures("large")
def test_a_killed_download_is_gone_on_from(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    """That of a process which still writes is left alone."""
    server.pages["/ranges"] = ranges
    register(server.url("ranges"))
    cache.mkdir()
    killed, older, busy = (cache / f"{FILE}.{number}-abcd0123.part" for number in (1, 2, 3))
    for path, length in ((killed, 700_000), (older, 400_000), (busy, 900_000)):
        path.write_bytes(BODY[:length])
    seen: list[int] = []
    with open(busy, "ab") as held:
        assert lock(held)
        os.utime(busy, (0, 0))  # its process has been stopped for long
        assert download.obtain("test", progress=lambda done, total: seen.append(done)).read_bytes() == BODY
    assert seen[0] > 700_000 and sorted(os.listdir(cache)) == sorted([FILE, busy.name])


@pytest.mark.usefixtures("large")
@pytest.mark.skipif(sys.platform == "win32", reason="there an open file is safe without a lock")
def test_on_a_disk_without_locks_the_age_decides(
    cache: Path, server: Server, register: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    server.pages["/ranges"] = ranges
    register(server.url("ranges"))
    cache.mkdir()
    old, recent = (cache / f"{FILE}.{number}-abcd0123.part" for number in (1, 2))
    for path, length in ((old, 700_000), (recent, 900_000)):
        path.write_bytes(BODY[:length])
    os.utime(old, (0, 0))
    seen: list[int] = []
    assert download.obtain("test", progress=lambda done, total: seen.append(done)).read_bytes() == BODY
    assert 700_000 < seen[0] < 1_000_000 and sorted(os.listdir(cache)) == sorted([FILE, recent.name])


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file is safe without a lock")
def test_a_download_is_held_and_what_died_beside_it_goes(cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    free: list[bool] = []

    def page(handler: BaseHTTPRequestHandler) -> None:
        free.extend(download._is_free(path) for path in cache.glob("*.part"))
        (cache / f"{FILE}.1-abcd0123.part").write_bytes(BODY[:100])  # of a process that is killed now
        send(handler, BODY)

    server.pages["/page"] = page
    register(server.url("page"))
    assert download.obtain("test").read_bytes() == BODY and free == [False] and os.listdir(cache) == [FILE]


def test_what_another_process_wrote_into_a_download_is_seen(
    cache: Path, server: Server, register: Callable[..., Weights]
) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        if len(server.requests) > 1:
            return send(handler, BODY)
        send(handler, BODY[:1_000_000], length=len(BODY))
        while not size(cache):
            time.sleep(0.01)
        with open(next(cache.glob("*.part")), "ab") as file:
            file.write(b"more")
        handler.wfile.write(BODY[1_000_000:])

    server.pages["/page"] = page
    register(server.url("page"))
    assert download.obtain("test").read_bytes() == BODY and len(server.requests) == 2


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("quicker", [True, False])
def test_a_finished_download_that_cannot_be_renamed(
    quicker: bool, cache: Path, server: Server, register: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where another process, which was quicker, has the file open; else it stays for the next try."""
    register(server.url("good"))
    rename = os.replace

    def denied(source: Path, target: Path) -> None:
        if target.name != FILE:
            return rename(source, target)
        if quicker:
            put(cache)
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(os, "replace", denied)
    if quicker:
        assert download.obtain("test") == cache / FILE and os.listdir(cache) == [FILE]
        return
    with pytest.raises(WeightsError, match=r"cannot be written \(Access is denied\)"):
        download.obtain("test")
    monkeypatch.setattr(os, "replace", rename)
    assert download.obtain("test").read_bytes() == BODY and len(server.requests) == 1


def test_a_download_is_hashed_while_it_is_written(
    cache: Path, server: Server, register: Callable[..., Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(server.url("good"))
    download.obtain("test")
    monkeypatch.setattr(disk, "hash_pieces", Mock(side_effect=AssertionError))
    assert disk.on_disk("test") == cache / FILE and disk.sha256_of(cache / FILE) == SHA


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("page", ["ranges", "good"])
def test_a_wrong_beginning_is_thrown_away(page: str, cache: Path, server: Server, register: Callable[..., Weights]) -> None:
    """Also if the server sends the whole file whatever it was asked for."""
    server.pages["/ranges"] = ranges
    register(server.url(page))
    cache.mkdir()
    (cache / f"{FILE}.part").write_bytes(b"\0" * 500_000)
    assert download.obtain("test").read_bytes() == BODY and os.listdir(cache) == [FILE]


def test_weights_that_are_not_downloaded(cache: Path) -> None:
    with pytest.raises(WeightsError, match=rf"PFR does not download GPEN-BFR-1024\.pth.*put it into {cache}"):
        download.obtain("gpen-1024")
    cache.mkdir()
    (cache / "GPEN-BFR-1024.pth").write_bytes(b"mine")
    assert model_file("gpen-1024") == cache / "GPEN-BFR-1024.pth", "no SHA-256 of it is known"
