"""Shared fixtures, and the rule that keeps CI honest about tests that need real photos and weights."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real photos, golden data and detector weights (``PFR_SHARED_DIR``); skips where there is none."""
    value = os.environ.get("PFR_SHARED_DIR")
    if not value:
        pytest.skip("PFR_SHARED_DIR is not set")
    return Path(value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for ``shared_dir`` is a shared test, marked or not."""
    for item in items:
        if "shared_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the shared material or a browser is promised (``PFR_REQUIRE_SHARED=1``, ``PFR_REQUIRE_BROWSER=1``), a skipped test
    that needs it is a failed one."""
    report = yield
    for mark in ("shared", "browser"):
        promise = f"PFR_REQUIRE_{mark.upper()}"
        required = os.environ.get(promise) == "1" and item.get_closest_marker(mark)
        if required and report.skipped and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"a test marked `{mark}` was skipped although {promise}=1: {report.longrepr}"
    return report
