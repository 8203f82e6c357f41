"""The rule in conftest.py: with ``PFR_REQUIRE_SHARED=1`` a skipped shared test fails, likewise for the browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.shared
def test_marked():
    pytest.skip("no weights")

def test_by_fixture(shared_dir):
    assert shared_dir.is_dir()

@pytest.mark.shared
@pytest.mark.xfail
def test_expected_to_fail():
    assert False

@pytest.mark.browser
def test_browser():
    pytest.skip("no browser")

def test_other():
    pytest.skip("not on this platform")
"""


@pytest.mark.parametrize(
    ("required", "closing_line"),
    [("1", "2 failed, 1 skipped, 1 xfailed, 1 error"), ("", "4 skipped, 1 xfailed")],
)
def test_a_skipped_test_fails_where_its_means_are_promised(tmp_path: Path, required: str, closing_line: str) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  shared\n  browser\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PFR_", "PYTEST_"))}
    env["PFR_REQUIRE_SHARED"] = env["PFR_REQUIRE_BROWSER"] = required
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert closing_line in done.stdout, done.stdout
    assert done.returncode == (1 if required else 0)
