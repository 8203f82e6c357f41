"""What is installed, what ComfyUI loads, and what `import pfr_core` drags in."""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


def not_source(folder: str, names: list[str]) -> set[str]:
    """Leave out of a copy of the clone what git ignores: `data` only at the top, where it is a training set."""
    everywhere = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")(folder, names)
    top = {"build", "dist", "runs", "output", "data"} if Path(folder) == ROOT else set()
    return everywhere | (top & set(names))


def run_python(code: str, *args: object) -> None:
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources that also has the folders which must stay out of what is built from it."""
    source = tmp_path_factory.mktemp("source") / "pfr"
    shutil.copytree(ROOT, source, ignore=not_source)
    for name in ("nodes", "web", "tests", "examples"):
        (source / name).mkdir(exist_ok=True)
        (source / name / "__init__.py").touch()
    return source


@pytest.fixture(scope="module", params=["clone", "sdist"])
def wheel(request: pytest.FixtureRequest, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel, built offline: straight from the sources, or from the sdist that is built from them."""
    out = tmp_path_factory.mktemp("wheel")
    source = clone
    if request.param == "sdist":
        build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
        subprocess.run([sys.executable, "-c", build, str(out)], cwd=clone, check=True, capture_output=True)
        (source,) = out.iterdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--wheel-dir", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_installs_only_our_names(wheel: zipfile.ZipFile) -> None:
    top_level = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"pfr_core", "pfr_trainer", "pfr_demo"}
    assert any(name.endswith(".dist-info/licenses/LICENSE-WEIGHTS.md") for name in wheel.namelist())


@pytest.mark.parametrize(("folder", "package"), [("pfr_core", "pfr_core"), ("trainer", "pfr_trainer"), ("web", "pfr_demo")])
def test_wheel_has_every_module_and_shipped_model(wheel: zipfile.ZipFile, folder: str, package: str) -> None:
    files = [
        path for pattern in ("*.py", "py.typed", "*.safetensors", "examples/*.jpg") for path in (ROOT / folder).rglob(pattern)
    ]
    assert files
    expected = {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    assert expected - set(wheel.namelist()) == set()


def test_wheel_runs_outside_the_clone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(target), str(wheel.filename)]
    subprocess.run(pip, check=True, capture_output=True)
    code = """
import importlib.metadata, sys
import pfr_core, pfr_demo.cli, pfr_trainer.cli
for module in (pfr_core, pfr_demo, pfr_trainer):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
for script in importlib.metadata.distribution("pfr").entry_points.select(group="console_scripts"):
    assert callable(script.load())
pfr_core.load_model("default")
"""
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def closure(names: list[str]) -> set[str]:
    """All packages that pip would install for these names here, extras not asked for."""
    seen: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name not in seen:
            seen.add(name)
            found = [Requirement(text) for text in importlib.metadata.requires(name) or []]
            names += [each.name for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    return seen


def test_requirements_for_comfyui_touch_no_torch_numpy_or_opencv() -> None:
    lines = [line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    # ComfyUI-Manager hands each line to pip by itself and knows comments only as whole lines.
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", line) for line in wanted), "plain names only: nothing pinned"
    installed = closure(wanted)
    banned = {"torch", "torchvision", "torchaudio", "numpy", "scipy", "numba", "facexlib", "gradio", "tensorboard"}
    assert installed & banned == set()
    assert not [name for name in installed if name.startswith("opencv")]


def run_install(tmp_path: Path, *installed: str, loads: bool) -> tuple[int, list[str], str]:
    """Run ``install.py`` where these packages are installed; its status, what it asked pip to install, and what it said."""
    for name in (*installed, "torch"):
        about = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (tmp_path / "distro_info-1.1build1.dist-info").mkdir()
    (tmp_path / "distro_info-1.1build1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: distro-info\nVersion: 1.1build1\n"
    )
    (tmp_path / "cv2.py").write_text("" if loads else "raise ImportError('libGL.so.1')")
    (tmp_path / "pip.py").touch()
    code = """
import pathlib, runpy, subprocess, sys
sys.path[:] = [sys.argv[1], *(each for each in sys.path if "site-packages" not in each)]
def run(command, check):
    print(*command[command.index("--constraint") + 2:])
    held = pathlib.Path(command[command.index("--constraint") + 1]).read_text()
    assert "torch==1.0" in held and "distro" not in held, "pip refuses such a version, and installs nothing"
    return subprocess.CompletedProcess(command, 0)
subprocess.run = run
runpy.run_path(sys.argv[2], run_name="__main__")
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(ROOT / "install.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    return done.returncode, done.stdout.split(), done.stderr


CORE = ("einops", "safetensors", "Pillow", "tqdm")
"""Of what the nodes need, what a stock ComfyUI has."""


def test_install_adds_an_opencv_only_where_there_is_none(tmp_path: Path) -> None:
    """The rest is held at its versions."""
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    assert run_install(folders[0], *CORE, loads=False)[:2] == (0, ["opencv-python-headless"])
    assert run_install(folders[1], *CORE, "opencv-contrib-python", loads=True)[:2] == (0, [])
    assert run_install(folders[2], loads=True)[:2] == (0, list(CORE))
    status, asked, said = run_install(folders[3], *CORE, "opencv-python", loads=False)
    assert status == 1 and not asked and "opencv-python is installed but does not load: libGL" in said


def test_install_puts_the_templates_inputs_where_comfyui_looks(tmp_path: Path) -> None:
    """And replaces no file of the user's."""
    copy = runpy.run_path(str(ROOT / "install.py"))["copy_examples"]
    copy(ROOT / "examples", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "degraded.jpg").write_text("the user's")
    copy(ROOT / "examples", tmp_path)
    assert (tmp_path / "degraded.jpg").read_text() == "the user's" and (tmp_path / "clip.mp4").stat().st_size > 1000
    assert not list(tmp_path.glob("*.py"))


STAND_INS = ROOT / "tests" / "comfy_stand_ins"


def test_comfyui_is_told_the_remedy_where_a_package_is_missing(tmp_path: Path) -> None:
    code = """
import importlib.util, sys
sys.path[:] = [each for each in sys.path if "site-packages" not in each]
spec = importlib.util.spec_from_file_location(sys.argv[1], sys.argv[1] + "/__init__.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT)], cwd=tmp_path, capture_output=True, text=True)
    assert f'"{sys.executable}" "{ROOT / "install.py"}"' in done.stderr and "PFR needs cv2" in done.stderr


def test_comfyui_can_load_the_folder_under_any_name(tmp_path: Path) -> None:
    """As ComfyUI does: by absolute path, dots in the name replaced, the folder not on sys.path."""
    pack = tmp_path / "ComfyUI-PFR.v1 copy"
    shutil.copytree(ROOT, pack, ignore=not_source)
    code = """
import importlib, importlib.util, sys
folder = sys.argv[1]
sys.path.append(sys.argv[2])  # where the stand-ins for ComfyUI's modules are
import folder_paths
folder_paths.models_dir = folder + "/models"
name = folder.replace(".", "_x_")
path_before = list(sys.path)
spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert module.NODE_CLASS_MAPPINGS and set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
core = importlib.import_module(name + ".pfr_core")
assert core.__file__.startswith(folder), core.__file__
assert sys.path == path_before
loaded = {each.split(".")[0] for each in sys.modules if not each.startswith(folder.replace(".", "_x_"))}
unwanted = loaded & {"pfr_core", "pfr_trainer", "trainer", "tests", "gradio", "facexlib", "torchvision"}
assert not unwanted, unwanted
import nodes
assert nodes.__file__.startswith(sys.argv[2]), "ComfyUI's own module, not ours"
assert module.WEB_DIRECTORY is None and nodes.EXTENSION_WEB_DIRS["pfr"].startswith(folder), "a name with a space"
"""
    # From elsewhere than the clone, which `python -c` would put on sys.path.
    done = subprocess.run([sys.executable, "-c", code, str(pack), str(STAND_INS)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_root_package_is_inert_under_other_names() -> None:
    code = "import runpy, sys; found = runpy.run_path(sys.argv[1] + '/__init__.py', run_name='pfr_root')\n"
    run_python(code + "assert 'NODE_CLASS_MAPPINGS' not in found", ROOT)


def test_import_is_light() -> None:
    run_python("""
import sys
import pfr_core
unwanted = {"gradio", "facexlib", "torchvision", "matplotlib", "torch", "cv2"} & set(sys.modules)
assert not unwanted, unwanted
for name in pfr_core.__all__:
    assert getattr(pfr_core, name) is not None and name in dir(pfr_core)
unwanted = {"gradio", "facexlib", "torchvision", "matplotlib"} & set(sys.modules)
assert not unwanted, unwanted
try:
    pfr_core.nonsense
except AttributeError as error:
    assert "nonsense" in str(error)
""")
