"""A throw-away ComfyUI for the tests: its own folders, a free port, our pack and a neighbour as the only custom nodes."""

from __future__ import annotations

import io
import json
import mimetypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

PACK = "ComfyUI-PFR.v1 copy"
NEIGHBOUR = """
import sys
from . import nodes  # packs have modules of the same names
NODE_CLASS_MAPPINGS = {"NeighbourNode": nodes.NeighbourNode, "NeighbourProbe": nodes.NeighbourProbe}
"""
NEIGHBOUR_NODES = """
import ctypes, gc, json, os
import torch
import comfy.model_management

class NeighbourProbe:
    # Tells, after a picture is made, which of our networks are in memory, how many models ComfyUI holds, and the resident bytes.
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "tell", "neighbour", True
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 0})}, "optional": {"image": ("IMAGE",)}}
    def tell(self, number, image=None):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free already, but kept by the C library
        kinds = [type(each) for each in gc.get_objects() if isinstance(each, torch.nn.Module)]
        ours = [kind.__name__ for kind in kinds if "FaceModel" in [base.__name__ for base in kind.__mro__]]
        resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
        held = len(comfy.model_management.current_loaded_models)
        return {"ui": {"text": [json.dumps({"networks": ours, "held": held, "resident": resident})]}}

class NeighbourNode:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "one", "neighbour"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
    def one(self):
        return (1,)
"""

WIDGETS = ("COMBO", "COMFY_DYNAMICCOMBO_V3", "INT", "FLOAT", "STRING", "BOOLEAN")
"""Types of inputs that are widgets; the second in newer cores."""

Prompt = dict[str, dict[str, Any]]


class NodeError(Exception):
    """A node, or the check before the run, said no."""


class Server:
    """Starts ``main.py`` of a ComfyUI checkout on the CPU; ``close`` ends it.

    Args:
        comfy: the checkout.
        python: an interpreter with its requirements.
        folder: an empty folder for models, inputs, outputs and custom nodes.
        pack: the folder of our pack, copied in.
        name: under which name.
    """

    def __init__(self, comfy: Path, python: str, folder: Path, pack: Path, name: str = PACK) -> None:
        self.folder = folder
        for part in ("custom_nodes", "input", "output", "models", "user"):
            (folder / part).mkdir(parents=True)
        skip = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "tests", "trainer", "output", "runs", "data")
        shutil.copytree(pack, folder / "custom_nodes" / name, ignore=skip)
        neighbour = folder / "custom_nodes" / "neighbour"
        neighbour.mkdir()
        (neighbour / "__init__.py").write_text(NEIGHBOUR)
        (neighbour / "nodes.py").write_text(NEIGHBOUR_NODES)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "server.log"
        command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
        command += ["--base-directory", str(folder), "--database-url", f"sqlite:///{folder}/user/comfyui.db"]
        command += ["--disable-api-nodes"]
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("PFR_")}
        environment = {**kept, "PFR_CACHE_DIR": str(folder / "cache"), "PFR_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=comfy, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 600  # a machine may be busy
        while True:
            try:
                self.get("/system_stats")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError(f"ComfyUI did not start; the end of its log:\n{self.log.read_text()[-3000:]}") from None
                time.sleep(0.2)

    def close(self) -> None:
        """End the server and everything it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def request(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """Return the answer to GET, or to POST if there is a body; urllib's errors are OSErrors."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind} if body is not None else {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        """Return a JSON answer."""
        return json.loads(self.request(path))

    def post(self, path: str, value: Any) -> Any:
        """Send JSON; a JSON answer, or none."""
        answer = self.request(path, json.dumps(value).encode())
        return json.loads(answer) if answer.strip() else None

    def upload(self, path: Path) -> None:
        """Put a file into the input folder as the page does."""
        mark = uuid.uuid4().hex
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\nContent-Type: {kind}\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        self.request("/upload/image", body, f"multipart/form-data; boundary={mark}")

    def queue(self, prompt: Prompt) -> str:
        """Queue a graph in API format; its number.

        Raises:
            NodeError: the check before the run refuses it.
        """
        try:
            return str(self.post("/prompt", {"prompt": prompt})["prompt_id"])
        except urllib.error.HTTPError as error:
            raise NodeError(error.read().decode()) from error

    def wait(self, number: str, seconds: float = 1800) -> dict[str, Any]:
        """Return the history entry of a run that is over, well or not."""
        deadline = time.monotonic() + seconds
        while number not in (history := self.get(f"/history/{number}")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the run did not end; the end of the log:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)
        entry: dict[str, Any] = history[number]
        return entry

    def run(self, prompt: Prompt) -> dict[str, Any]:
        """Queue a graph and wait: what its nodes showed, by node.

        Raises:
            NodeError: a node failed.
        """
        entry = self.wait(self.queue(prompt))
        if entry["status"]["status_str"] != "success":
            raise NodeError(json.dumps(entry["status"]["messages"][-1]))
        outputs: dict[str, Any] = entry["outputs"]
        return outputs

    def file(self, reference: dict[str, str]) -> bytes:
        """Return a file that an output names."""
        return self.request("/view?" + urllib.parse.urlencode(reference))

    def peak_memory(self, *, reset: bool = False) -> int:
        """Return the most memory the server has held, in bytes, since the start or the last reset (Linux)."""
        proc = Path(f"/proc/{self.process.pid}")
        if reset:
            (proc / "clear_refs").write_text("5")
        line = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """Return a workflow as the page saves it -> the API format that ``/prompt`` takes, as the page itself makes it."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote"):
            continue
        declared = object_info[node["type"]]["input"]
        values, inputs = iter(node.get("widgets_values", [])), {}
        for name, (kind, *more) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
            options = more[0] if more else {}
            if isinstance(kind, list) or kind in WIDGETS:
                # A newer core may have widgets that a saved workflow lacks.
                if (value := next(values, options.get("default"))) is not None:
                    inputs[name] = value
                if options.get("control_after_generate") or (kind == "INT" and name in ("seed", "noise_seed")):
                    next(values, None)  # what the page does with a seed after a run
        for socket_ in node.get("inputs", []):
            if socket_.get("link") is not None:
                inputs[socket_["name"]] = sources[socket_["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def python_with_comfyui() -> str:
    """Return the interpreter named by ``COMFYUI_PYTHON``, else the one that runs the tests."""
    return os.environ.get("COMFYUI_PYTHON", sys.executable)


def saved(outputs: dict[str, Any]) -> list[dict[str, str]]:
    """Return the files in the output folder that a run made."""
    return [
        item
        for shown in outputs.values()
        for items in shown.values()
        for item in items
        if isinstance(item, dict) and item.get("type") == "output"
    ]


def pixels(data: bytes | Path) -> npt.NDArray[np.uint8]:
    with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def nearest_upscaler() -> dict[str, torch.Tensor]:
    """Stands in for realesr-general-x4v3: the same kind of network, whose residual is zero, so that it only repeats pixels."""
    width, layers, scale = 8, 2, 4
    state = {"body.0.weight": torch.zeros(width, 3, 3, 3), "body.0.bias": torch.zeros(width), "body.1.weight": torch.zeros(width)}
    for number in range(2, 2 * layers + 2, 2):
        state[f"body.{number}.weight"] = torch.zeros(width, width, 3, 3)
        state[f"body.{number}.bias"] = torch.zeros(width)
        state[f"body.{number + 1}.weight"] = torch.zeros(width)
    state[f"body.{2 * layers + 2}.weight"] = torch.zeros(3 * scale**2, width, 3, 3)
    state[f"body.{2 * layers + 2}.bias"] = torch.zeros(3 * scale**2)
    return state
