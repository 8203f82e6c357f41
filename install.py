"""What ComfyUI's managers run after ``requirements.txt``, and what a person runs by hand.

It adds OpenCV where there is none, and puts the inputs of the workflow templates into ComfyUI's input folder.

No installed package changes: pip is held to the versions that are there, and where OpenCV is installed in any build, nothing is
installed beside it. That condition is why OpenCV is not in ``requirements.txt``.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path

OPENCV = "opencv-python-headless"
PEP_440 = re.compile(r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[A-Za-z0-9.]+)?")
"""Versions that pip can hold to; those of an operating system's own packages it refuses, and would install nothing."""


def main() -> int:
    """Install what is missing; return the exit status."""
    here = Path(__file__).parent
    missing = [name for name in (here / "requirements.txt").read_text().split("\n") if name and not name.startswith("#")]
    # Leftovers of broken installations have no name.
    installed = {name.lower().replace("_", "-"): each.version for each in distributions() if (name := each.metadata["Name"])}
    missing = [name for name in missing if name.lower() not in installed]
    try:
        import_module("cv2")
    except ImportError as error:
        builds = [name for name in installed if name.startswith("opencv-")]
        if builds:
            print(f"PFR: {builds[0]} is installed but does not load: {error}. Mend it; a second one would harm.", file=sys.stderr)
            return 1
        missing.append(OPENCV)
    copy_examples(here / "examples", here.parent.parent / "input")
    return install(missing, installed) if missing else 0


def copy_examples(source: Path, target: Path) -> None:
    """Copy the example pictures and the clip, unless files of these names are there or ComfyUI's input folder is elsewhere."""
    if target.is_dir():
        for path in source.iterdir():
            if path.suffix in (".jpg", ".mp4") and not (target / path.name).exists():
                shutil.copy(path, target)


def install(names: list[str], installed: dict[str, str]) -> int:
    """Install packages, with those that are there held at their versions; return the installer's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "installed.txt"
        known = {name: version for name, version in installed.items() if version and PEP_440.fullmatch(version)}
        held.write_text("".join(f"{name}=={version}\n" for name, version in known.items()))
        if importlib.util.find_spec("pip"):
            command = [sys.executable, "-m", "pip", "install"]
        elif uv := shutil.which("uv"):
            command = [uv, "pip", "install", "--python", sys.executable]
        else:
            print(f"PFR: neither pip nor uv is there to install {', '.join(names)} for {sys.executable}.", file=sys.stderr)
            return 1
        return subprocess.run([*command, "--constraint", str(held), *names], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
