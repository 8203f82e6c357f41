"""The whole pipeline on the example photograph that comes with the repository; needs nothing downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pfr_core import Face, FaceRestorer, load_model
from pfr_core.photo.read import read_photo

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "examples" / "astronaut.jpg"
# What RetinaFace finds in the photograph; given here so that no detector is needed.
FACE = Face((177.6, 56.4, 270.0, 176.2), 0.9997, ((203.8, 102.8), (245.0, 104.3), (224.4, 129.1), (202.6, 138.9), (244.8, 140.1)))


def test_the_shipped_model_restores_the_example_photograph() -> None:
    photo = read_photo(PHOTO).pixels
    result = FaceRestorer(device="cpu").restore(photo, faces=[FACE])
    assert result.faces == [FACE] and result.image.dtype == np.uint8
    inside = result.mask > 0
    assert 0.1 < inside.mean() < 0.4
    assert np.array_equal(result.image[~inside], photo[~inside])
    change = result.image[inside].astype(float) - photo[inside]
    assert np.abs(change).mean() > 0.5, "the face was not restored at all"
    assert np.abs(change).mean() < 12, "a clean face should change little"
    assert np.abs(change.mean(axis=0)).max() < 4, "colour cast"


def test_the_shipped_model_says_where_it_comes_from() -> None:
    from pfr_core.models.checkpoint import read_checkpoint
    from pfr_core.models.download import obtain

    checkpoint = read_checkpoint(obtain("default"))
    assert "on-commercial" in checkpoint.licence
    assert checkpoint.provenance["data_licences"] and checkpoint.provenance["iterations"] > 0
    assert obtain("default").stat().st_size <= 24e6
    assert not load_model("default").training


NO_NETWORK = """
import runpy, socket, sys

def refuse(*arguments, **keywords):
    raise OSError("the network is unplugged")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_example_script_makes_its_pictures_without_a_network_in_an_empty_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ours = ("PFR_", "XDG_", "HOME", "TORCH_HOME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {"HOME": str(home)}
    command = [sys.executable, "-c", NO_NETWORK, str(ROOT / "examples" / "restore_example.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 face restored" in done.stdout and not [path for path in home.rglob("*") if "pfr" in path.name]
    assert str(tmp_path / "before_after.png") in done.stdout
    degraded, restored = (read_photo(tmp_path / f"{name}.png").pixels.astype(float) for name in ("degraded", "restored"))
    original = read_photo(PHOTO).pixels.astype(float)
    face = np.s_[56:176, 178:270]
    before, after = (np.square(image[face] - original[face]).mean() for image in (degraded, restored))
    assert after < before, "the restored face is further from the original than the degraded one"
