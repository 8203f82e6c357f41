"""Makes the pictures of the README from the example photograph (NASA, public domain) and from the running page.

python docs/tools/pictures.py [--graph SCREENSHOT]

Needs the `dev` and `demo` extras and a `chromium` command. The screenshot of a graph is one that `tests/nodes/test_comfyui.py`
keeps (`picker_1_second_face.png` in the folder that `PFR_COMFYUI_OUT` names); it is cut to the nodes and stored as JPEG here.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
HEAD = (104, 10, 344, 250)  # of the example photograph
NODES = (42, 80, 1272, 816)  # of the screenshot of a graph
SIDE, GAP = 320, 10
VIEWS = {"page_start": (1440, 900, "light"), "page": (1280, 900, "light"), "page_phone": (390, 844, "dark")}
"""Screenshots of the page: width, height, theme."""
SHOWN = "() => [...document.querySelectorAll('.example img')].filter(i => i.naturalWidth > i.naturalHeight).length > 2"
"""Whether the examples' results, each before and after side by side, have been made and have come."""
SETTLES = 3000
"""Milliseconds until nothing on the page moves any more."""


def front(target: Path) -> None:
    """Write degraded | restored | original, as `make example` makes them, cut to the head and enlarged."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, ROOT / "examples" / "restore_example.py", "--out", folder], check=True)
        parts = [Image.open(Path(folder) / f"{name}.png") for name in ("degraded", "restored")]
        parts.append(Image.open(ROOT / "examples" / "astronaut.jpg"))
        whole = Image.new("RGB", (3 * SIDE + 2 * GAP, SIDE), "white")
        for number, part in enumerate(parts):
            whole.paste(part.crop(HEAD).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (number * (SIDE + GAP), 0))
    whole.save(target, quality=88)


def pages(folder: Path) -> None:
    """Write screenshots of the web page into a folder: as it starts, and with the degraded example photograph restored."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "web", "--port", "7861", "--device", "cpu"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as temporary:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for name, (width, height, theme) in VIEWS.items():
                view = browser.new_page(viewport={"width": width, "height": height})
                view.set_default_timeout(180_000)
                view.goto(f"{address}?__theme={theme}")
                view.wait_for_timeout(SETTLES)
                while not view.evaluate(SHOWN):
                    view.reload()
                    view.wait_for_timeout(SETTLES)
                if name != "page_start":
                    view.set_input_files("#stage .chooser", ROOT / "web" / "examples" / "astronaut_degraded.jpg")
                    view.locator("#download").wait_for()
                view.wait_for_timeout(SETTLES)  # until the progress has faded
                view.evaluate("window.scrollTo(0, 0)")
                shot = Path(temporary) / f"{name}.png"
                view.screenshot(path=shot)
                store(shot, folder / f"{name}.jpg")
            browser.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def store(screenshot: Path, target: Path, box: tuple[int, int, int, int] | None = None) -> None:
    """Write a screenshot, or the part of it within ``box``, as JPEG of moderate size."""
    with Image.open(screenshot) as picture:
        picture.convert("RGB").crop(box).save(target, quality=82, optimize=True)


def main() -> None:
    """Write the pictures into docs/pictures."""
    parser = argparse.ArgumentParser(description="Make the pictures of the README.")
    parser.add_argument("--graph", type=Path, metavar="SCREENSHOT", help="also store this screenshot of ComfyUI")
    screenshot: Path | None = parser.parse_args().graph
    front(PICTURES / "front.jpg")
    pages(PICTURES)
    if screenshot is not None:
        store(screenshot, PICTURES / "graph.jpg", NODES)
    for path in sorted(PICTURES.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
