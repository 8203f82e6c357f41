"""The pack in a real ComfyUI, on the CPU.

Runs where ``COMFYUI_PATH`` names a ComfyUI checkout:

    COMFYUI_PATH=~/ComfyUI COMFYUI_PYTHON=~/ComfyUI/.venv/bin/python PFR_WEIGHTS_DIR=... \
        python -m pytest tests/nodes/test_comfyui.py

``COMFYUI_PYTHON`` is the interpreter that ComfyUI runs with (default: the one that runs the tests), with ComfyUI's requirements;
``install.py`` was run with it. ``PFR_WEIGHTS_DIR`` has the face detector's weights. The tests of the page need playwright and
Chromium (``PFR_CHROMIUM``, default: the one on the PATH). With ``PFR_COMFYUI_OUT=FOLDER`` results and screenshots are kept there
to be looked at; ``PFR_UPDATE_PICTURES=1`` writes the pictures of ``example_workflows`` anew from the results.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pfr_core import load_face_model
from pfr_core.cli import main as pfr
from pfr_core.faces.detect import Detector
from pfr_core.models.disk import on_disk
from tests.clip_files import make_clip
from tests.models.test_gpen import in_gpen_layout, random_gpen
from tests.models.test_kinds import Files, network
from tests.nodes.comfyui_server import (
    PACK,
    NodeError,
    Prompt,
    Server,
    nearest_upscaler,
    pixels,
    python_with_comfyui,
    saved,
    to_prompt,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
OLDER_WORKFLOWS = sorted((ROOT / "tests" / "fixtures" / "older" / "workflows").glob("*.json"))
DETECTOR = "detection_mobilenet0.25_Final.pth"
WIDTH, HEIGHT = 1280, 720  # of the long video

comfyui_only = pytest.mark.skipif(
    not os.environ.get("COMFYUI_PATH"), reason="COMFYUI_PATH is not set; see the top of tests/nodes/test_comfyui.py"
)
pytestmark = [comfyui_only, pytest.mark.slow]


@pytest.fixture(scope="module")
def out() -> Iterator[Path]:
    """Where results to be looked at go."""
    if kept := os.environ.get("PFR_COMFYUI_OUT"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, out: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("comfyui")
    detector = on_disk("retinaface_mobile0.25")
    assert detector is not None, f"the face detector's weights ({DETECTOR}) are not in PFR_WEIGHTS_DIR"
    server = Server(Path(os.environ["COMFYUI_PATH"]), python_with_comfyui(), folder, ROOT)
    try:
        models = folder / "models"
        for name in ("facedetection", "facerestore_models", "upscale_models"):
            (models / name).mkdir(exist_ok=True)
        shutil.copy(detector, models / "facedetection" / DETECTOR)
        (models / "facerestore_models" / "broken.safetensors").write_bytes(b"no model")
        save_file(nearest_upscaler(), models / "upscale_models" / "stand-in.safetensors")
        for path in EXAMPLES.iterdir():
            if path.suffix in (".jpg", ".mp4"):
                server.upload(path)
        with Image.open(EXAMPLES / "degraded.jpg") as photo:
            wide = Image.new("RGB", (WIDTH, HEIGHT), "gray")
            wide.paste(photo, (300, 100))
            wide.save(folder / "input" / "wide.png")
        # Cores decode a JPEG's chroma each in its own way, so what is compared pixel by pixel is a PNG.
        Image.fromarray(pixels(EXAMPLES / "two_faces.jpg")).save(folder / "input" / "two_faces.png")
        Image.new("RGB", (200, 150), "gray").save(folder / "input" / "no_face.png")
        yield server
    finally:
        server.close()
        shutil.copy(server.log, out / "server.log")


def load(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = json.loads((ROOT / "example_workflows" / name).read_text())
    return workflow


def prompt_of(server: Server, workflow: dict[str, Any]) -> Prompt:
    return on_this_machine(to_prompt(workflow, server.get("/object_info")))


def on_this_machine(prompt: Prompt) -> Prompt:
    """Name the upscaler that is here."""
    for node in prompt.values():
        if node["class_type"] == "UpscaleModelLoader":
            node["inputs"]["model_name"] = "stand-in.safetensors"
    return prompt


def graph(*, source: str = "wide.png", repeat: int = 1, **options: Any) -> Prompt:
    """Load + restore, of a picture that is repeated; only the last frame is saved."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": source}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": repeat}},
        "3": {"class_type": "PFRLoadModel", "inputs": {"model": "default", "device": "auto", "dtype": "auto"}},
        "4": {"class_type": "PFRRestoreFaces", "inputs": {**DEFAULTS, "model": ["3", 0], "image": ["2", 0], **options}},
        "5": {"class_type": "ImageFromBatch", "inputs": {"image": ["4", 0], "batch_index": repeat - 1, "length": 1}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "test"}},
    }


DEFAULTS: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def defaults(server: Server) -> None:
    DEFAULTS.update(defaults_of(server, "PFRRestoreFaces"))


def defaults_of(server: Server, node: str) -> dict[str, Any]:
    required = server.get(f"/object_info/{node}")[node]["input"]["required"]
    return {name: options["default"] for name, (_, options) in required.items() if "default" in options}


def test_the_pack_loads_beside_another_one_and_serves_its_pages(server: Server) -> None:
    info = server.get("/object_info")
    ours = {name for name, node in info.items() if node["python_module"] == f"custom_nodes.{PACK}"}
    assert ours == {path.stem for path in (ROOT / "web" / "js" / "docs").glob("*.md")} and "NeighbourNode" in info
    assert "IMPORT FAILED" not in server.log.read_text()
    assert sorted(server.get("/workflow_templates")[PACK]) == [path.stem for path in WORKFLOWS]
    scripts = [each for each in server.get("/extensions") if each.startswith("/extensions/pfr/")]
    assert len(scripts) == len(list((ROOT / "web" / "js").glob("*.js")))
    assert all(b"app.registerExtension" in server.request(each) for each in scripts)
    for name in ours:
        assert all(name in server.get("/i18n")[language]["nodeDefs"] for language in ("en", "zh", "ja", "de"))


def test_help_and_workflows_are_served_under_a_plain_folder_name(tmp_path: Path) -> None:
    """ComfyUI itself cannot serve these from a folder with a space in its name."""
    server = Server(Path(os.environ["COMFYUI_PATH"]), python_with_comfyui(), tmp_path / "comfyui", ROOT, "ComfyUI-PFR")
    try:
        scripts = {each for each in server.get("/extensions") if each.startswith("/extensions/ComfyUI-PFR/")}
        assert scripts == {f"/extensions/ComfyUI-PFR/{path.name}" for path in (ROOT / "web" / "js").glob("*.js")}
        docs = ROOT / "web" / "js" / "docs"
        for page in docs.rglob("*.md"):
            assert server.request(f"/extensions/ComfyUI-PFR/docs/{page.relative_to(docs).as_posix()}") == page.read_bytes()
        for path in WORKFLOWS:
            for each in (path, path.with_suffix(".jpg")):
                assert server.request(f"/api/workflow_templates/ComfyUI-PFR/{each.name}") == each.read_bytes()
    finally:
        server.close()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_example_workflow_runs(server: Server, out: Path, path: Path) -> None:
    outputs = server.run(prompt_of(server, load(path.name)))
    (item,) = saved(outputs)
    (out / f"{path.stem}{Path(item['filename']).suffix}").write_bytes(server.file(item))
    (shown,) = (shown for shown in outputs.values() if "pfr_before" in shown)
    before, after = (pixels(server.file(shown[name][0])) for name in ("pfr_before", "pfr_after"))
    before = np.array(Image.fromarray(before).resize(after.shape[1::-1]))
    face = max(Detector().detect(after), key=lambda face: face.center[0])  # the right one is picked where there are two
    left, top = (max(0, round(middle - face.size)) for middle in face.center)
    around = np.s_[top : top + round(2 * face.size), left : left + round(2 * face.size)]
    pair = np.concatenate([before[around], after[around]], axis=1)
    picture = Image.fromarray(pair).resize((800, 400), Image.Resampling.BICUBIC)
    picture.save(out / f"{path.stem}_before_after.png")
    if os.environ.get("PFR_UPDATE_PICTURES"):
        picture.save(path.with_suffix(".jpg"), quality=88)


def test_a_video_keeps_its_length_and_the_frames_without_a_face(server: Server) -> None:
    workflow = prompt_of(server, load("3_video_frames.json"))
    number = {node["class_type"]: number for number, node in workflow.items()}
    for name, source in (("before", "GetVideoComponents"), ("after", "PFRRestoreClip")):
        workflow[name] = {"class_type": "SaveImage", "inputs": {"images": [number[source], 0], "filename_prefix": name}}
    outputs = server.run(workflow)
    before, after = ([pixels(server.file(item)) for item in outputs[name]["images"]] for name in ("before", "after"))
    assert len(before) == len(after) == 16
    same = [bool(np.array_equal(*pair)) for pair in zip(before, after, strict=True)]
    assert not same[0] and same[-1], "the first frame has a face, the last has none"


def test_core_s_video_keeps_its_times_its_sound_and_the_frames_without_a_face(server: Server, tmp_path: Path) -> None:
    """From core's Load Video to its Save Video."""
    source = server.folder / "input" / "beep.mp4"
    files = [av.open(str(path)) for path in (EXAMPLES / "clip.mp4", make_clip(tmp_path / "a.mp4"))]
    with files[0], files[1], av.open(str(source), "w") as both:
        streams = [files[0].streams.video[0], files[1].streams.audio[0]]
        added = [both.add_stream_from_template(stream) for stream in streams]
        for file, stream, target in zip(files, streams, added, strict=True):
            for packet in file.demux(stream):
                if packet.dts is not None:
                    packet.stream = target
                    both.mux(packet)
    outputs = server.run(
        {
            "1": {"class_type": "LoadVideo", "inputs": {"file": "beep.mp4"}},
            "2": {"class_type": "PFRLoadModel", "inputs": {"model": "default", "device": "auto", "dtype": "auto"}},
            "3": {
                "class_type": "PFRRestoreVideo",
                "inputs": {**defaults_of(server, "PFRRestoreVideo"), "model": ["2", 0], "video": ["1", 0]},
            },
            "4": {
                "class_type": "SaveVideo",
                "inputs": {"video": ["3", 0], "filename_prefix": "video", "format": "auto", "codec": "auto"},
            },
        }
    )
    (reference,) = saved(outputs)
    (result := tmp_path / "result.mp4").write_bytes(server.file(reference))
    with av.open(str(source)) as before, av.open(str(result)) as after:
        assert len(after.streams.audio) == 1
        frames = [[(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)] for file in (before, after)]
    assert [time for time, _ in frames[0]] == pytest.approx([time for time, _ in frames[1]])
    change = [float(np.abs(old.astype(float) - new).mean()) for (_, old), (_, new) in zip(*frames, strict=True)]
    assert change[0] > 1.5 * change[-1], "the first frame has a face, the last has none"


def test_a_video_made_of_frames_is_restored(server: Server, tmp_path: Path) -> None:
    """From core's Create Video, which has no file yet."""
    outputs = server.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "wide.png"}},
            "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 3}},
            "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 8.0}},
            "4": {"class_type": "PFRLoadModel", "inputs": {"model": "default", "device": "auto", "dtype": "auto"}},
            "5": {
                "class_type": "PFRRestoreVideo",
                "inputs": {**defaults_of(server, "PFRRestoreVideo"), "model": ["4", 0], "video": ["3", 0]},
            },
            "6": {
                "class_type": "SaveVideo",
                "inputs": {"video": ["5", 0], "filename_prefix": "created", "format": "auto", "codec": "auto"},
            },
        }
    )
    (reference,) = saved(outputs)
    (result := tmp_path / "result.mp4").write_bytes(server.file(reference))
    with av.open(str(result)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    before = pixels(server.folder / "input" / "wide.png")
    assert [frame.shape for frame in frames] == [before.shape] * 3
    detail = [float(np.abs(np.diff(image[100:612, 300:812].astype(float), axis=0)).mean()) for image in (before, frames[0])]
    assert detail[1] > detail[0], "a blurred face was restored; encoding alone takes detail away"


def test_one_node_the_steps_and_the_command_give_the_same_picture(server: Server, tmp_path: Path) -> None:
    whole, workflow = graph(source="two_faces.png"), prompt_of(server, load("2_step_by_step_one_face_picked.json"))
    for prompt in (whole, workflow):  # ComfyUI's process takes what its processor is fast in
        next(node for node in prompt.values() if node["class_type"] == "PFRLoadModel")["inputs"]["dtype"] = "fp32"
    (one,) = saved(server.run(whole))
    detect = next(node for node in workflow.values() if node["class_type"] == "PFRDetectFaces")
    detect["inputs"] |= {"select": "all", "indices": ""}
    next(node for node in workflow.values() if node["class_type"] == "LoadImage")["inputs"]["image"] = "two_faces.png"
    (steps,) = saved(server.run(workflow))
    image, again = pixels(server.file(one)), pixels(server.file(steps))
    assert np.array_equal(image, again)
    target = tmp_path / "command.png"
    assert pfr(["restore", str(server.folder / "input" / "two_faces.png"), "-o", str(target), "--device", "cpu"]) == 0
    # ComfyUI cuts 8-bit values off where we round them.
    difference = pixels(target).astype(int) - image
    assert difference.min() >= 0 and difference.max() <= 1
    assert not np.array_equal(image, pixels(EXAMPLES / "two_faces.jpg"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"3": {"model": "broken.safetensors"}}, "broken.safetensors"),
        ({"3": {"model": "gone.pth"}}, "not in models/facerestore_models on this machine"),
        ({"3": {"model": "GFPGANv1.4.pth"}}, "Choose gfpgan-1.4, which is downloaded when it is first used"),
        ({"3": {"device": "cpu", "dtype": "fp16"}}, "fp16 on a CPU"),
        ({"4": {"detector": "retinaface_resnet50"}}, "detection_Resnet50_Final.pth"),
        ({"4": {"select": "index", "indices": "first"}}, "write numbers from 0 on"),
    ],
)
def test_bad_input_is_a_readable_node_error(server: Server, changes: Prompt, words: str) -> None:
    prompt = graph()
    for number, values in changes.items():
        prompt[number]["inputs"] |= values
    with pytest.raises(NodeError, match=words):
        server.run(prompt)
    assert server.get("/system_stats")


def test_no_face_passes_through_the_steps(server: Server) -> None:
    workflow = prompt_of(server, load("2_step_by_step_one_face_picked.json"))
    for node in workflow.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "no_face.png"
    (item,) = saved(server.run(workflow))
    assert np.array_equal(pixels(server.file(item)), pixels(server.folder / "input" / "no_face.png"))


def test_crops_that_are_not_one_for_each_face_are_refused(server: Server) -> None:
    workflow = prompt_of(server, load("2_step_by_step_one_face_picked.json"))
    paste = next(node for node in workflow.values() if node["class_type"] == "PFRPasteFaces")
    workflow["99"] = {"class_type": "RepeatImageBatch", "inputs": {"image": paste["inputs"]["crops"], "amount": 3}}
    paste["inputs"]["crops"] = ["99", 0]
    with pytest.raises(NodeError, match="1 faces, but 3 crops"):
        server.run(workflow)


def free(server: Server) -> None:
    """Twice: ComfyUI does not hear a request that comes between its looks at flags and queue, until the next one."""
    for _ in range(2):
        server.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(2)


def test_the_model_is_loaded_once_and_given_back_even_after_a_stop(server: Server) -> None:
    def loads() -> int:
        return server.log.read_text().count("Requested to load ")

    server.run(graph(strength=0.9))
    before = loads()
    server.run(graph(strength=0.8))
    assert loads() == before, "a second run finds the model where it is"
    number = server.queue(graph(repeat=200, strength=0.7))
    while not server.get("/queue")["queue_running"]:
        time.sleep(0.1)
    time.sleep(3)  # into the frames
    server.post("/interrupt", {})
    messages = [message[0] for message in server.wait(number)["status"]["messages"]]
    assert messages[-1] == "execution_interrupted"
    free(server)
    assert saved(server.run(graph(strength=0.6)))
    assert loads() == before + 1, "it had been given back"
    assert "Traceback" not in server.log.read_text().split("Processing interrupted")[-1]


def probe(server: Server, number: int) -> dict[str, Any]:
    """Return what the neighbour's node tells of memory."""
    outputs = server.run({"1": {"class_type": "NeighbourProbe", "inputs": {"number": number}}})
    told: dict[str, Any] = json.loads(outputs["1"]["text"][0])
    return told


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_models_of_others_restore_switch_and_give_memory_back(server: Server, tmp_path: Path) -> None:
    """Where an extra is not installed, its node says so."""
    files, folder = Files(tmp_path), server.folder / "models" / "facerestore_models"
    made = {files[kind]: kind for kind in ("gfpgan", "codeformer", "restoreformer", "restoreformer++")}
    made |= {tmp_path / "my-gpen.pth": "gpen", tmp_path / "my.onnx": "onnx"}
    torch.save(in_gpen_layout(random_gpen()), tmp_path / "my-gpen.pth")
    torch.onnx.export(network("restoreformer"), (torch.zeros(1, 3, 64, 64),), tmp_path / "my.onnx", dynamo=False)
    classes = {"gfpgan": "GFPGAN", "codeformer": "CodeFormer", "gpen": "PFR", "onnx": "OnnxModel"}
    extras = {"codeformer": "spandrel_extra_arches", "onnx": "onnxruntime"}
    (folder / "damaged.onnx").write_bytes(b"no model")
    for path in made:
        (folder / path.name).symlink_to(path)
    before = probe(server, 1)
    for path, kind in (*made.items(), *list(made.items())[:1]):
        prompt = graph(source="degraded.jpg", detector="builtin", only_bad_faces=False)
        prompt["3"]["inputs"]["model"] = path.name
        prompt["7"] = {"class_type": "NeighbourProbe", "inputs": {"number": 0, "image": ["4", 0]}}
        try:
            outputs = server.run(prompt)
        except NodeError as error:
            assert f"pip install {extras[kind]}" in str(error)
            continue
        told = json.loads(outputs["7"]["text"][0])
        assert told["networks"] == [classes.get(kind, "RestoreFormer")] and told["held"] == 1, "the one before is gone"
        assert not np.array_equal(pixels(server.file(saved(outputs)[0])), pixels(EXAMPLES / "degraded.jpg"))
    prompt["3"]["inputs"]["model"] = "damaged.onnx"
    with pytest.raises(NodeError, match=r"damaged\.onnx: (damaged or no ONNX file|ONNX files need onnxruntime)"):
        server.run(prompt)
    free(server)
    after = probe(server, 2)
    assert after["networks"] == [] and after["held"] == 0
    # The libraries that the networks need stay; they take less than 100 MB.
    assert after["resident"] - before["resident"] < max(path.stat().st_size for path in made) / 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_a_long_video_takes_the_memory_of_its_outputs_and_no_more(server: Server, out: Path) -> None:
    """With a small network, whose own memory is the same for any length."""
    path = server.folder / "models" / "facerestore_models" / "small.pth"
    torch.save(in_gpen_layout(random_gpen()), path)
    peaks = {}
    for repeat in (20, 200):
        free(server)
        server.peak_memory(reset=True)
        prompt = graph(repeat=repeat, detection_size=640, only_bad_faces=False)
        prompt["3"]["inputs"]["model"] = path.name
        server.run(prompt)
        peaks[repeat] = server.peak_memory()
    crop = 2 * 4 * 3 * load_face_model(path).size ** 2  # before and after
    frame = 4 * WIDTH * HEIGHT * (3 + 3 + 1)  # input, result and mask, in float32
    (out / "memory.json").write_text(json.dumps({"peaks": peaks, "outputs_and_input_of_a_frame": frame + crop}))
    assert peaks[200] - peaks[20] < 180 * (frame + crop) * 1.02


# --- the page, in a real browser ---------------------------------------------------------------------------------------------

SHOWN = "window.app.graph.nodes.find(node => node.type === 'PFRDetectFaces').widgets.map(widget => [widget.name, widget.value])"


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    """ComfyUI's page in headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("PFR_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("no Chromium: name it in PFR_CHROMIUM")
    shown = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False, "Comfy.Minimap.Visible": False}
    for name, value in shown.items():
        server.post(f"/settings/{name}", value)
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        arguments += ["--disable-component-update", "--disable-sync"]
        browser = started.chromium.launch(executable_path=chromium, headless=True, args=arguments)
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.route(lambda url: not url.startswith((server.url, "blob:", "data:")), lambda route: route.abort())
        page.set_default_timeout(240_000)  # a machine may be busy
        open_page(page, server)
        yield page
        browser.close()


def open_page(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/system_stats")  # of the same origin
    # A page that opens the graphs of before again, when it comes to it, would replace what a test has opened.
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.goto(server.url)
    page.wait_for_function("!!(window.app?.graph && window.LiteGraph?.registered_node_types.PFRDetectFaces)")
    # The page opens a graph of its own; what is opened before that would be lost.
    page.wait_for_function("window.app.graph.nodes.length > 0")
    page.wait_for_timeout(1000)


def show(page: Any, workflow: Any, *, x: int = 700, scale: float = 1.0) -> None:
    """Load a workflow and move the view so that ``x`` is at the left edge."""
    page.evaluate("async workflow => { await window.app.loadGraphData(workflow); }", workflow)
    page.evaluate("([x, scale]) => { const ds = window.app.canvas.ds; ds.scale = scale; ds.offset = [80 - x, 60]; }", [x, scale])
    page.evaluate("window.app.canvas.setDirty(true, true)")
    page.wait_for_timeout(500)


def run_page(page: Any, server: Server) -> dict[str, Any]:
    """Press run; what the nodes showed."""
    before = set(server.get("/history"))
    page.evaluate("window.app.queuePrompt(0, 1)")
    while not (new := set(server.get("/history")) - before):
        page.wait_for_timeout(200)
    entry = server.wait(new.pop())
    assert entry["status"]["status_str"] == "success", entry["status"]
    page.wait_for_timeout(1000)
    outputs: dict[str, Any] = entry["outputs"]
    return outputs


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_page_reads_every_example_workflow_as_we_do(server: Server, page: Any, out: Path, path: Path) -> None:
    show(page, load(path.name), x=0, scale=0.7)
    prompt = page.evaluate("window.app.graphToPrompt()")["output"]
    ours = to_prompt(load(path.name), server.get("/object_info"))
    for node in prompt.values():
        node["inputs"].pop("video-preview", None)  # the page's own
    assert {number: node["inputs"] for number, node in prompt.items()} == {n: node["inputs"] for n, node in ours.items()}
    page.screenshot(path=out / f"{path.stem}_page.png")


@pytest.mark.parametrize("path", OLDER_WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_of_an_earlier_version_opens_and_runs_with_its_values(server: Server, page: Any, path: Path) -> None:
    workflow = json.loads(path.read_text())
    show(page, workflow, x=0, scale=0.7)
    prompt = page.evaluate("window.app.graphToPrompt()")["output"]
    for node in workflow["nodes"]:
        if node["type"].startswith("PFR"):
            widgets = [item for item in node["inputs"] if item.get("widget")]
            values = zip(widgets, node["widgets_values"], strict=True)
            kept = {item["name"]: value for item, value in values if item["link"] is None}
            assert kept.items() <= prompt[str(node["id"])]["inputs"].items()
    assert len(saved(server.run(on_this_machine(prompt)))) == 1


def test_our_scripts_run_once(page: Any) -> None:
    names = page.evaluate("window.app.extensions.map(extension => extension.name)")
    assert sorted(name for name in names if name.startswith("PFR")) == [
        "PFR.Advanced",
        "PFR.BeforeAfter",
        "PFR.FacePicker",
        "PFR.Notices",
    ]


def test_a_click_picks_a_face_and_the_workflow_keeps_it(server: Server, page: Any, out: Path) -> None:
    faces = page.locator(".pfr-face-picker [role=checkbox]")

    def state() -> tuple[list[str], list[Any]]:
        checked = [face.get_attribute("aria-checked") for face in faces.all()]
        widgets = dict(page.evaluate(SHOWN))
        return checked, [widgets[name] for name in ("select", "indices", "count")]

    workflow = load("2_step_by_step_one_face_picked.json")
    next(node for node in workflow["nodes"] if node["type"] == "LoadImage")["widgets_values"][0] = "two_faces.png"
    show(page, workflow)
    assert faces.count() == 0, "nothing was found yet"
    before = pixels(server.file(saved(run_page(page, server))[0]))
    assert state() == (["false", "true"], ["index", "1", 0])
    page.screenshot(path=out / "picker_1_second_face.png")
    assert page.locator(".pfr-face-picker svg").bounding_box()["height"] >= 200, "its numbers can be read"
    faces.nth(0).click()
    assert state() == (["true", "true"], ["all", "", 0])
    faces.nth(1).click()
    assert state() == (["true", "false"], ["index", "0", 0])
    faces.nth(0).click()
    assert state() == (["false", "false"], ["index", "", 0]), "none may be kept"
    assert not pixels_changed(server, page), "and then nothing is restored"
    faces.nth(1).click()
    faces.nth(0).click(modifiers=["Shift"])
    assert state() == (["true", "false"], ["index", "0", 0]), "only this one"
    page.screenshot(path=out / "picker_2_first_face.png")
    page.locator(".pfr-face-picker button").first.click()
    assert state() == (["true", "true"], ["all", "", 0])
    page.locator(".pfr-face-picker button").last.click()
    assert state() == (["false", "false"], ["index", "", 0])
    faces.nth(0).click()
    page.evaluate("""() => {
        const { widgets } = window.app.graph.nodes.find(node => node.type === 'PFRDetectFaces');
        const select = widgets.find(widget => widget.name === 'select');
        select.value = 'largest';
        select.callback('largest');
    }""")
    assert state()[1] == ["largest", "", 0], "numbers of before would have no effect"
    faces.nth(0).click(modifiers=["Shift"])
    assert state() == (["true", "false"], ["index", "0", 0])

    kept = page.evaluate("JSON.stringify(window.app.graph.serialize())")  # as a file
    open_page(page, server)
    show(page, json.loads(kept))
    assert state() == (["true", "false"], ["index", "0", 0]), "after a reload"
    page.screenshot(path=out / "picker_3_reloaded.png")
    faces.nth(1).press("Enter")
    faces.nth(1).press(" ")
    assert state() == (["true", "false"], ["index", "0", 0]), "the keyboard does the same, twice is as before"
    faces.nth(1).press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.face") == "0", "arrow keys go from face to face"
    after = pixels(server.file(saved(run_page(page, server))[0]))
    source = pixels(EXAMPLES / "two_faces.jpg").astype(int)
    half = source.shape[1] // 2
    sides = (np.s_[:half], np.s_[half:])
    left, right = ([bool(np.abs(image - source)[:, side].max() > 1) for image in (before, after)] for side in sides)
    assert (left, right) == ([False, True], [True, False])


def test_a_choice_outlives_a_reload_and_can_be_undone(server: Server, page: Any) -> None:
    widgets = "Object.fromEntries(" + SHOWN + ").indices"
    open_page(page, server)
    show(page, load("2_step_by_step_one_face_picked.json"))
    run_page(page, server)
    page.locator(".pfr-face-picker [role=checkbox]").first.click(modifiers=["Shift"])
    page.wait_for_timeout(2000)  # the page keeps what it holds now and then
    page.reload()
    page.wait_for_function("window.app?.graph?.nodes.some(node => node.type === 'PFRDetectFaces')")
    page.wait_for_timeout(2000)
    assert page.evaluate(widgets) == "0"
    page.locator(".pfr-face-picker button").last.click()
    assert page.evaluate(widgets) == ""
    page.keyboard.press("Control+z")
    page.wait_for_function(widgets + " === '0'")


def test_faces_of_a_workflow_s_run_stay_out_of_another_that_is_open_when_they_are_found(server: Server, page: Any) -> None:
    found = "window.app.graph.nodes.find(node => node.type === 'PFRDetectFaces').properties.pfr_picker"
    open_page(page, server)
    free(server)
    workflow = load("2_step_by_step_one_face_picked.json")
    show(page, workflow)
    before = set(server.get("/history"))
    page.evaluate("window.app.queuePrompt(0, 1)")
    show(page, workflow)  # in a tab of its own, with the same ids
    while not (new := set(server.get("/history")) - before):
        page.wait_for_timeout(200)
    server.wait(new.pop())
    page.wait_for_timeout(1000)
    assert page.evaluate(found) is None
    free(server)  # a core says nothing of nodes whose results it still has
    run_page(page, server)
    assert page.evaluate(found) is not None


def pixels_changed(server: Server, page: Any) -> bool:
    """Run the graph on the page: whether its result differs from the example photo."""
    (item,) = saved(run_page(page, server))
    return bool(np.abs(pixels(server.file(item)).astype(int) - pixels(EXAMPLES / "two_faces.jpg")).max() > 1)


def test_before_and_after_are_compared_on_the_node(server: Server, page: Any, out: Path) -> None:
    free(server)  # a core shows a node's texts when the node runs
    show(page, load("1_restore_faces.json"))
    run_page(page, server)
    preview = page.locator(".pfr-before-after")
    sizes = preview.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert sizes[0] == sizes[1] and 0 < sizes[0] < 512, "the face, not the whole picture"
    box = preview.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert "25" in preview.locator("img").nth(1).evaluate("image => image.style.clipPath")
    page.screenshot(path=out / "before_after.png")
    page.evaluate("""() => {
        const { widgets } = window.app.graph.nodes.find(node => node.type === 'LoadImage');
        widgets.find(widget => widget.name === 'image').value = 'astronaut.jpg';
    }""")
    run_page(page, server)
    assert not preview.locator("img").first.is_visible(), "nothing of an earlier run is shown"
    assert page.locator(".pfr-notices", has_text="already sharp").count() == 1
    assert page.locator(".pfr-notices", has_text="Licence of default").count() == 1
    page.screenshot(path=out / "nothing_restored.png")


def test_options_that_few_need_are_folded_on_the_canvas(page: Any, out: Path) -> None:
    node = "window.app.graph.nodes.find(node => node.type === 'PFRRestoreFaces')"
    shown = (
        f"{node}.widgets.filter(widget => {node}.isWidgetVisible(widget)).map(each => [each.name, each.y, each.computedHeight])"
    )
    show(page, load("1_restore_faces.json"), x=360)
    fewer, height = page.evaluate(shown), page.evaluate(f"{node}.computeSize()[1]")
    page.screenshot(path=out / "folded.png")
    page.evaluate(f"{node}.widgets.find(widget => widget.type === 'button').callback()")
    page.wait_for_timeout(500)
    more = page.evaluate(shown)
    page.screenshot(path=out / "unfolded.png")
    own = page.evaluate(f"Object.keys({node}.widgets.find(widget => widget.name === 'threshold'))")
    assert not {"advanced", "computeSize"} & {*own}, "the page copies those to a subgraph, where there is no button"
    assert {"strength", "mask"} <= {name for name, *_ in fewer} and "threshold" in {name for name, *_ in more}
    for widgets in (fewer, more):
        for (_, top, own), (name, next_top, _) in pairwise(widgets):
            assert next_top == top + own, f"{name} stands right below"
    assert page.evaluate(f"{node}.size[1]") - height >= 20 * (len(more) - len(fewer))
    workflow = load("1_restore_faces.json")
    restore = next(each for each in workflow["nodes"] if each["type"] == "PFRRestoreFaces")
    names = [item["name"] for item in restore["inputs"] if item.get("widget")]
    restore["widgets_values"][names.index("threshold")] = 0.5
    show(page, workflow, x=360)
    assert "threshold" in {name for name, *_ in page.evaluate(shown)}, "a workflow has set it"


@pytest.mark.parametrize(
    ("language", "title"),
    [("zh", "修复人脸 (PFR)"), ("ja", "顔を復元 (PFR)"), ("de", "Gesichter restaurieren (PFR)")],
)
def test_the_page_speaks_the_user_s_language(server: Server, page: Any, out: Path, language: str, title: str) -> None:
    server.post("/settings/Comfy.Locale", language)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    try:
        open_page(page, server)
        if any(f'Locale "{language}" not shipped' in text for text in said):
            pytest.skip(f"this version of ComfyUI's page has no {language}")
        show(page, load("1_restore_faces.json"), x=360)
        assert title in page.evaluate("window.LiteGraph.registered_node_types.PFRRestoreFaces.title")
        page.screenshot(path=out / f"page_{language}.png")
    finally:
        server.post("/settings/Comfy.Locale", "en")
