"""The web page as people and programs use it: a real server, the official client, a real browser."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core import PFR, PFRConfig, RestoreOptions, save_model
from pfr_core.cli import main as pfr
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo

pytest.importorskip("gradio")
pytest.importorskip("av")
from gradio_client import Client, handle_file

from tests.hostile_page import attack
from web.gallery import NAMES

from ..clip_files import make_clip, pictures
from .test_parts import make_zip

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "web" / "examples" / "astronaut_degraded.jpg"
"""Of one face, which is not sharp."""
DETECTOR = ("--detector", "builtin")
"""The one that is on every machine."""
KEEP = 15.0
"""Seconds that a closed page's files are kept in these tests; also what may pass between an upload and its request."""


@dataclass
class Server:
    """A running page."""

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    model: Path

    @property
    def root(self) -> Path:
        """The one folder with everything that visitors left here."""
        (folder,) = self.temporary.glob("pfr-demo-*")
        return folder

    def files(self) -> set[Path]:
        """Not by ``rglob``, which fails when a folder goes while it looks."""
        return {Path(folder, name) for folder, _, names in os.walk(self.root) for name in names}

    def memory(self) -> int:
        """Resident memory in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) // 1024  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``python -m web`` with a tiny network of random weights, which changes every face; one more model is missing."""
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    model = folder / "tiny.safetensors"
    net = PFR(PFRConfig(size=32, narrow=1 / 32, style_dim=16, n_mlp=2))
    save_model(net, model, provenance={"test": True}, licence="test weights, worth nothing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = folder / "tmp"
    temporary.mkdir()
    limits = {"max-pixels": 2_000_000, "max-video-seconds": 10, "max-unpacked-mb": 5, "keep-minutes": KEEP / 60}
    command = [sys.executable, "-m", "web", "--port", port, "--device", "cpu", "--dtype", "fp32", *DETECTOR]
    command += ["--model", model, folder / "gone.safetensors"]
    command += [text for name, value in limits.items() for text in (f"--{name}", value)]
    environment = {**os.environ, "TMPDIR": str(temporary), "PFR_CACHE_DIR": str(folder / "cache")}
    environment.pop("PFR_WEIGHTS_DIR", None)  # without a parser, wherever this runs
    process = subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said: list[str] = []
    ready = threading.Event()

    def listen() -> None:
        for line in process.stdout or ():
            said.append(line)
            if "Open http" in line:
                ready.set()
        ready.set()

    threading.Thread(target=listen, daemon=True).start()
    assert ready.wait(400) and process.poll() is None, "".join(said)
    yield Server(f"http://127.0.0.1:{port}/", process, temporary, model)
    assert process.poll() is None, "the server did not survive:\n" + "".join(said)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, "".join(said)
    assert list(temporary.glob("pfr-demo-*")) == [], "temporary files are left behind"
    assert not [line for line in said if "Traceback" in line], "".join(said)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connect(server) as made:
        yield made


class connect:
    """A client of the page, closed at the end."""

    def __init__(self, server: Server) -> None:
        own = tempfile.mkdtemp(dir=server.model.parent)
        self.client = Client(
            server.url, verbose=False, download_files=own, httpx_kwargs={"timeout": 120}
        )  # 5 s are few for a crowd

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()


def refused(call: Callable[[], Any], *words: str) -> None:
    with pytest.raises(Exception) as caught:
        call()
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)
    assert "/page" not in str(caught.value), "it names a folder of the server"


def by_command(server: Server, source: Path, target: Path, *options: str) -> bytes:
    """Return what `pfr restore` makes of a photo."""
    command = ["restore", str(source), "-o", str(target), "--model", str(server.model), "--device", "cpu", *DETECTOR, *options]
    assert pfr(command) == 0
    return target.read_bytes()


# --- Programs --------------------------------------------------------------------------------------------------------


def test_the_client_gets_what_the_command_writes(server: Server, client: Client, tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    pixels = read_photo(PHOTO).pixels.astype(np.uint16) * 257
    write_photo(deep, np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 60000, np.uint16)], axis=2))
    dated = tmp_path / "dated.jpg"
    with Image.open(PHOTO) as image:
        exif = image.getexif()
        exif[0x0132] = "1999:01:02 03:04:05"
        image.save(dated, quality=80, subsampling=2, exif=exif)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (dated, {"strength": 0.7, "mask": "oval"}, "--strength 0.7 --mask oval"),
        (deep, {"select": "index", "indices": [0]}, "--select index --indices 0"),
    ]
    for source, options, words in cases:
        file, facts = client.predict(photo=handle_file(source), **options, api_name="/restore")
        assert Path(file).read_bytes() == by_command(server, source, tmp_path / f"out{source.suffix}", *words.split())
        assert Path(file).name == f"{source.stem}_restored{source.suffix}" and facts["changed"] and len(facts["faces"]) == 1
    result = read_photo(file)
    assert result.pixels.dtype == np.uint16 and result.pixels.shape[2] == 4


def test_a_photo_without_a_face_comes_back_byte_for_byte(client: Client, tmp_path: Path) -> None:
    white = tmp_path / "white.png"
    Image.new("RGB", (300, 200), "white").save(white)
    file, facts = client.predict(photo=handle_file(white), api_name="/restore")
    assert Path(file).read_bytes() == white.read_bytes() and (facts["changed"], facts["faces"]) == (False, [])
    assert [notice["kind"] for notice in facts["notices"]] == ["no_face"]


def test_the_client_finds_what_the_command_finds(client: Client, tmp_path: Path) -> None:
    found = client.predict(photo=handle_file(PHOTO), threshold=0.5, api_name="/detect")
    assert pfr(["detect", str(PHOTO), "--threshold=0.5", "--device=cpu", *DETECTOR, "--json", str(tmp_path / "f.json")]) == 0
    (listed,) = json.loads((tmp_path / "f.json").read_text())
    assert found["faces"] == [{key: face[key] for key in ("box", "score", "points")} for face in listed["faces"]]
    assert (found["width"], found["height"]) == (512, 512)


def test_the_endpoints_take_every_option_with_its_default(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/detect", "/restore"}
    taken = {each["parameter_name"]: each for each in endpoints["/restore"]["parameters"]}
    defaults = RestoreOptions()
    assert set(taken) == {"photo", "model", "quality", *RestoreOptions.__dataclass_fields__}
    assert taken["quality"].get("parameter_default") is None
    for name in RestoreOptions.__dataclass_fields__:
        default = taken[name].get("parameter_default")
        assert (tuple(default or ()) if name == "indices" else default) == getattr(defaults, name), name


def test_the_lines_of_the_documentation_work(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(from gradio_client.*?)```", (ROOT / "docs" / "web.md").read_text(), re.DOTALL)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    script = tmp_path / "lines.py"
    script.write_text(code.replace("http://127.0.0.1:7860/", server.url))
    names = runpy.run_path(str(script))
    assert len(names["found"]["faces"]) == 1 and names["facts"]["changed"] and Path(names["file"]).is_file()


def test_bad_input_gets_a_message_and_the_server_goes_on(server: Server, client: Client, tmp_path: Path) -> None:
    def restore(path: Path, **options: Any) -> Callable[[], Any]:
        return lambda: client.predict(photo=handle_file(path), **options, api_name="/restore")

    text = tmp_path / "notes.jpg"
    text.write_text("not a photo")
    refused(restore(text), "notes.jpg: not a picture")
    huge = tmp_path / "huge.png"
    Image.new("1", (10_000, 10_000)).save(huge)
    refused(restore(huge), "huge.png: 10000 x 10000 pixels", "2,000,000", "max_pixels")
    refused(restore(PHOTO, scale=4), "astronaut_degraded.jpg: enlarged 4 times", "smaller scale")
    refused(restore(PHOTO, model="gone"), "model is 'gone'; choose from tiny")
    refused(restore(PHOTO, indices=[0]), "indices and select")
    refused(restore(PHOTO, select="index", indices=[5]), "there is no face 5 among the 1 found")
    refused(restore(PHOTO, strength=2), "strength is 2; it must be a number from 0 to 1")
    refused(restore(PHOTO, indices="abc", select="index"), "indices is 'abc'; it must be a list")
    refused(restore(PHOTO, detection_size=8192), "detection_size is 8192", "from 64 to 4096")
    refused(restore(PHOTO, mask="parse"), "mask is 'parse'; this server has no weights for it, choose from box, oval")
    client.predict(photo=handle_file(PHOTO), api_name="/restore")


def test_a_hostile_visitor_gets_nowhere(server: Server) -> None:
    """The suite that a person can run against any address: every endpoint, every input, every limit."""
    assert attack(server.url, PHOTO.read_bytes()) == {}


def test_only_own_uploads_can_be_named(server: Server) -> None:
    """Files of the machine and other visitors' results are out of reach, by address too."""
    secret = server.model.parent / "secret.jpg"
    shutil.copy(PHOTO, secret)
    with connect(server) as other:
        other.predict(photo=handle_file(PHOTO), api_name="/restore")
        result = next(server.root.glob("session-*/*/astronaut_degraded_restored.jpg"))
        for path in (secret, "/etc/passwd", ROOT / "README.md", f"{server.root}/../../secret.jpg", result.parent):
            assert ask(f"{server.url}gradio_api/file={path}")[0] in (403, 404), path
    assert ask(f"{server.url}gradio_api/run/detect", b'{"data": []}')[0] == 404, "past the queue"


def ask(url: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and text of a plain HTTP request."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def test_twenty_at_once_are_all_answered_and_leave_no_memory(server: Server, tmp_path: Path) -> None:
    """The photo is so large that 20 forgotten copies of its pixels would show in the memory."""
    photo = tmp_path / "large.jpg"
    write_photo(photo, cv2.resize(read_photo(PHOTO).pixels, (1400, 1400)))
    expected = by_command(server, photo, tmp_path / "out.jpg", "--detection-size", "320")

    def one(number: int) -> bool:
        with connect(server) as visitor:
            file, _ = visitor.predict(photo=handle_file(photo), detection_size=320, api_name="/restore")
            return Path(file).read_bytes() == expected

    def crowd(size: int) -> int:
        with ThreadPoolExecutor(size) as pool:
            assert list(pool.map(one, range(size))) == [True] * size
        return server.memory()

    # What is forgotten adds up with every crowd; what the allocator keeps for its threads settles.
    photos = 20 * read_photo(photo).pixels.nbytes / 1e6
    memory = [crowd(20)]
    while len(memory) == 1 or (memory[-1] - memory[-2] >= photos / 2 and len(memory) < 5):
        memory.append(crowd(20))
    assert memory[-1] - memory[-2] < photos / 2, f"memory grew with every crowd of 20: {memory} MB"


# --- People ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """Yield the page in a window of desktop size. It asks no other server for anything, and reports no error."""
    made = browser.new_page(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(120_000)
    hosts, errors = set[str](), list[str]()
    made.on("request", lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None)
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.goto(server.url)
    yield made
    made.close()
    assert hosts == {server.url.split("/")[2]} and errors == []


def text_of(page: Any, place: str, *words: str) -> str:
    """Return the text at ``place`` once it holds all the words."""
    there = "([place, words]) => words.every(word => document.querySelector(place).innerText.includes(word))"
    page.wait_for_function(there, arg=[place, words])
    return page.inner_text(place)


def choose_clip(page: Any, path: Path) -> None:
    """In place of the one that is there."""
    if page.locator("#clip button[aria-label=Clear]").count():
        page.click("#clip button[aria-label=Clear]")
    page.set_input_files("#clip input[type=file]", path)


def download(page: Any, button: str, target: Path) -> Path:
    with page.expect_download() as started:
        page.click(button)
    started.value.save_as(target)
    return target


def looks_like(path: Path, expected: bytes) -> bool:
    """Return whether a picture is the expected one to one 8-bit level: two faces at once are summed in another order than one."""
    pixels, others = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in (path.read_bytes(), expected))
    assert pixels is not None and others is not None
    return pixels.shape == others.shape and int(cv2.absdiff(pixels, others).max()) <= 1


@pytest.mark.browser
def test_a_photo_in_the_browser(server: Server, page: Any, tmp_path: Path) -> None:
    """Drop a photo of two faces, and it is restored. Leave one out, slide, save, change the strength; on a phone too."""
    text_of(page, "body", "no evidence", "test weights, worth nothing", "This runs on a CPU")
    twins = tmp_path / "twins #2 50%?.png"
    face = read_photo(PHOTO).pixels[:256, 96:352]
    write_photo(twins, np.concatenate([face, face[:, ::-1]], axis=1))
    page.set_input_files("#stage .chooser", twins)
    text_of(page, "#told", "2 of 2 faces restored")
    page.locator("#stage img.after").wait_for()
    assert in_view(page, "#stage .picture", "#download"), "one has to scroll to what matters"
    (tmp_path / "broken.png").write_bytes(twins.read_bytes()[:2000])
    page.set_input_files("#stage .chooser", tmp_path / "broken.png")
    page.get_by_text("damaged").first.wait_for()
    page.click("[data-face='1']")  # the photo that was there still is
    text_of(page, "#told", "1 of 2 faces restored")
    assert page.get_attribute("[data-face='1']", "aria-pressed") == "false"
    assert page.text_content("[data-face='1']") == "1", "numbers are those of --indices"
    only = by_command(server, twins, tmp_path / "one.png", "--select", "index", "--indices", "0")
    assert looks_like(download(page, "#download", tmp_path / "got.png"), only)

    sizes = page.locator("#stage .picture img").evaluate_all("all => all.map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[512, 256]] * 2
    after = page.locator("#stage img.after")
    page.focus("#stage .split")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert "40%" in after.get_attribute("style")
    box = page.locator("#stage .picture").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] - 20, steps=4)
    page.mouse.up()
    shown = float(re.search(r"inset\(0px 0px 0px ([\d.]+)%", after.get_attribute("style")).group(1))  # type: ignore[union-attr]
    assert shown == pytest.approx(25, abs=3)

    page.keyboard.press("Tab")
    page.focus("[data-face='1']")
    page.keyboard.press("Enter")  # by keyboard, and without the network: it has seen the face
    text_of(page, "#told", "2 of 2 faces restored")
    both = by_command(server, twins, tmp_path / "two.png")
    assert looks_like(download(page, "#download", tmp_path / "got.png"), both)
    page.get_by_label("number input for Strength").first.fill("0")
    text_of(page, "#told", "No face is changed: the strength is 0")
    assert download(page, "#download", tmp_path / "got.png").read_bytes() == twins.read_bytes()
    page.get_by_label("number input for Strength").first.fill("1")
    page.locator("#at-once input").check()  # from now on a photo that is dropped needs no click
    with page.expect_download() as saved:
        page.set_input_files("#stage .chooser", twins)
    saved.value.save_as(tmp_path / "got.png")
    assert looks_like(tmp_path / "got.png", both)
    page.locator("#at-once input").uncheck()
    for chosen in (PHOTO, twins, PHOTO, twins):  # a second thought: the last one counts, however quick
        page.set_input_files("#stage .chooser", chosen)
    text_of(page, "#told", "2 of 2 faces restored", "512 x 256")
    page.wait_for_timeout(1500)
    text_of(page, "#told", "2 of 2 faces restored", "512 x 256")
    assert page.locator("#download").is_visible() and not page.locator("#stop").is_visible()
    page.get_by_role("button", name="More settings").first.click()
    threshold = page.get_by_label("range slider for Detection threshold").first
    threshold.focus()
    page.keyboard.press("End")  # a slider that is moved by keys searches, too
    text_of(page, "#told", "No face was found")
    page.keyboard.press("Home")
    text_of(page, "#told", "faces restored")
    page.get_by_role("button", name="More settings").first.click()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "wider than a phone"
    assert in_view(page, "#stage .picture", "#download"), "one has to scroll on a phone"


def in_view(page: Any, *places: str) -> bool:
    """Tell whether these are in the window, unscrolled."""
    page.evaluate("window.scrollTo(0, 0)")
    inside = "all => all.every(e => { const b = e.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight + 1; })"
    return all(page.locator(place).evaluate_all(inside) for place in places)


@pytest.mark.browser
def test_a_large_scan_is_shown_small_and_soon_again(server: Server, page: Any, tmp_path: Path) -> None:
    """What the browser gets for a move of a setting is bounded, however large the photo is."""
    scan = tmp_path / "scan.jpg"
    write_photo(scan, cv2.resize(read_photo(PHOTO).pixels, (1400, 1400)), quality=100)
    got: list[int] = []
    page.set_input_files("#stage .chooser", scan)
    page.locator("#download").wait_for()
    page.on("response", lambda answer: got.append(len(answer.body())) if "/after" in answer.url else None)
    page.get_by_label("number input for Strength").first.fill("0.5")
    page.wait_for_function("() => true", timeout=1000)
    deadline = time.monotonic() + 60
    while not got and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert got and max(got) < scan.stat().st_size / 2


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_the_page(server: Server, page: Any, theme: str) -> None:
    """axe-core finds no violation, in any tab, with a result and on a phone, where it can judge the tabs' contrast."""
    page.goto(f"{server.url}?__theme={theme}")
    page.locator("#choose").wait_for()
    found = {"empty": violations(page)}
    page.set_input_files("#stage .chooser", PHOTO)
    page.locator("#download").wait_for()
    page.wait_for_timeout(2000)  # until the progress has faded
    found["photo"] = violations(page)
    for tab in ("Batch", "Clip", "Compare", "Understand"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        found[tab] = violations(page)
    page.get_by_role("tab", name="Photo").click()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    found["phone"] = violations(page)
    for place in ("#told", "#batch-told", "#clip-told", "#compare-told", "#figures"):
        assert page.get_attribute(place, "role") == "status", f"what {place} says is not heard"
    assert {tab: each for tab, each in found.items() if each} == {}


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for each in Axe().run(page).response["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.browser
@pytest.mark.parametrize(("language", "word"), [("de-DE", "Foto auswählen"), ("zh-CN", "选择照片"), ("ja-JP", "写真を選ぶ")])
def test_the_page_speaks_one_language(browser: Any, server: Server, language: str, word: str) -> None:
    made = browser.new_context(locale=language).new_page()
    made.set_default_timeout(120_000)
    made.goto(server.url)
    text_of(made, "body", word)
    made.set_input_files("#stage .chooser", PHOTO)
    made.locator("#download").wait_for()
    seen = made.inner_text("#stage") + made.inner_text("#bar") + made.inner_text("#notice")  # notices and licences are English
    english = re.findall(
        r"\b(?:the|strength|download|settings|restored|photo)\b", re.sub("test weights, worth nothing", "", seen).lower()
    )
    assert not english, (english, seen)
    made.context.close()


@pytest.mark.browser
def test_a_batch_with_a_broken_file_in_the_browser(server: Server, page: Any, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "blank.png")
    blank = (tmp_path / "blank.png").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(PHOTO.read_bytes()[:5000])
    archive = make_zip(
        tmp_path / "album.zip", {"a/Größe 写真.jpg": PHOTO.read_bytes(), "../evil.jpg": b"", f"{'x' * 300}.png": blank}
    )
    bomb = make_zip(tmp_path / "bomb.zip", {"a.png": bytes(9_000_000)})
    page.get_by_role("tab", name="Batch").click()
    page.click("#batch-start")  # with nothing chosen: refused, and ready for the next try
    page.get_by_text("Choose some photos or a zip file first").first.wait_for()
    page.locator("#batch-start").wait_for(state="visible")
    page.set_input_files("#batch-files input[type=file]", [PHOTO, tmp_path / "broken.jpg", archive, bomb])
    text_of(page, "#batch-files", "astronaut", "broken", "album", "bomb", "KB")
    page.click("#batch-start")
    text_of(page, "#batch-told", "2 restored", "1 without a face", "3 failed")
    words = ["broken.jpg", "damaged, cut short", "../evil.jpg", "leads out", "bomb.zip", "more than 5 MB"]
    report = text_of(page, "#report", *words)
    assert report.count("1 face restored") == 2
    assert report.index("evil.jpg") < report.index("1 face"), "what failed is not on top"
    expected = by_command(server, PHOTO, tmp_path / "out.jpg")
    with zipfile.ZipFile(download(page, "#batch-zip", tmp_path / "all.zip")) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {
            "astronaut_degraded_restored.jpg": expected,
            "a/Größe 写真_restored.jpg": expected,
            f"{'x' * 200}.png": blank,
        }


@pytest.mark.browser
def test_a_clip_in_the_browser(server: Server, page: Any, tmp_path: Path) -> None:
    """Restored with its sound; stopped half-way; refused."""
    page.get_by_role("tab", name="Clip").click()
    choose_clip(page, make_clip(tmp_path / "short.mp4", 24))
    text_of(page, "#clip-facts", "3.0 s, 24 frames of 96 x 64 px, with sound")
    page.click("#clip-start")
    text_of(page, "#clip-told", "24 frames")
    got = download(page, "#clip-download", tmp_path / "got.mp4")
    assert pictures(got)[0] == pictures(tmp_path / "short.mp4")[0]

    choose_clip(page, make_clip(tmp_path / "long.mp4", 72, size=(640, 480)))
    text_of(page, "#clip-facts", "72 frames")
    page.click("#clip-start")
    page.set_viewport_size({"width": 390, "height": 844})
    text_of(page, "#clip-facts", "left")
    facts, stop = (page.locator(place).bounding_box() for place in ("#clip-facts", "#clip-stop"))
    assert stop["y"] - 100 < facts["y"] < stop["y"], "how far it is stands above the button that stops it"
    page.click("#clip-stop")
    text_of(page, "#clip-told", "Stopped")
    assert not [path for path in server.files() if "long_restored" in str(path)]

    choose_clip(page, make_clip(tmp_path / "old.avi", 8))
    text_of(page, "#clip-facts", "8 frames", "may not show")
    assert not page.get_by_text("not playable").count()

    for name, words in {"late.mp4": "the limit is 10 s", "empty.mp4": "the file is empty"}.items():
        path = tmp_path / name
        make_clip(path, 88) if name == "late.mp4" else path.touch()
        choose_clip(page, path)
        page.get_by_text(words).first.wait_for()


@pytest.mark.browser
def test_degrade_and_restore_in_the_browser(page: Any) -> None:
    page.get_by_role("tab", name="Understand").click()
    page.locator("button:has(img[src*='astronaut.jpg']) >> visible=true").first.click()
    page.locator("#good img").wait_for()
    page.click("#degrade-start")
    table = text_of(page, "#figures", "PSNR", "SSIM", "degraded", "restored")
    degraded, _ = (float(value) for value in re.findall(r"\t(\d+\.\d+)\t", table)[:2])
    assert 15 < degraded < 35
    assert page.locator("#degrade-gallery img").count() == 3


def test_no_file_is_left_behind(server: Server) -> None:
    """After all the visitors of the tests above, only the page's own examples are there."""
    deadline = time.monotonic() + 120
    own = {"astronaut.jpg", *NAMES, *(f"{Path(name).stem}_result.jpg" for name in NAMES)}
    while left := {path.name for path in server.files()} - own:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    assert not list(server.root.glob("session-*"))
