"""Imports go one way, from a later part to an earlier one, also inside functions: docs/architecture.md draws the order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfr_core import _HOMES

ROOT = Path(__file__).resolve().parent.parent

# First to last. A file belongs to the longest entry that begins its dotted name: `run.loop` is not in `run`.
ORDER = {
    "pfr_core": (
        "errors support photo network models faces degradation options resume find compose work session restorer compare bench"
        " video bulk __init__ cli __main__"
    ),
    "trainer": (
        "__init__ run.config run.randomness data losses run judge stages"
        " run.steps judge.validate run.loop run.export judge.benchmark cli __main__"
    ),
}


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the dotted name, in parts, of everything that a file imports, relative ones from the root of the repository."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(each.name.split(".")) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            yield from ((*base, *(node.module or "").split("."), each.name) for each in node.names)


def entry(name: tuple[str, ...], order: list[str]) -> str | None:
    """Return the longest entry of the order that begins the name."""
    found = [each for each in order if name[: each.count(".") + 1] == tuple(each.split("."))]
    return max(found, key=len, default=None)


def home_of(name: tuple[str, ...]) -> tuple[str, ...]:
    """Return where a name of `pfr_core` itself is defined, which its root imports when it is asked for."""
    return tuple(_HOMES[name[0]].removeprefix(".").split(".")) if len(name) == 1 and name[0] in _HOMES else name


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_one_way(package: str) -> None:
    order = ORDER[package].split()
    upwards = set()
    for path in sorted((ROOT / package).rglob("*.py")):
        file = path.relative_to(ROOT)
        own = entry(file.with_suffix("").parts[1:], order)
        assert own, f"say in ORDER where {file} belongs"
        for top, *rest in imports(path):
            other = entry(home_of(tuple(part for part in rest if part)), order) if top == package else None
            if other and order.index(other) > order.index(own):
                upwards.add((file.as_posix(), other))
    assert not upwards


@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("pfr_core", {"trainer", "web", "nodes", "pfr_trainer", "pfr_demo", "comfy", "folder_paths", "gradio"}),
        ("trainer", {"web", "nodes", "pfr_demo"}),
        ("web", {"trainer", "nodes", "pfr_trainer"}),
        ("nodes", {"trainer", "web", "pfr_trainer", "pfr_demo"}),
    ],
)
def test_doors_know_the_core_and_not_each_other(package: str, strangers: set[str]) -> None:
    found = {(path.name, name[0]) for path in (ROOT / package).rglob("*.py") for name in imports(path) if name[0] in strangers}
    assert found == set()


@pytest.mark.parametrize(
    ("package", "others"),
    [("pfr_core", {"pfr_core"}), ("nodes", {"nodes", "pfr_core"}), ("trainer", {"trainer"}), ("web", {"web"})],
)
def test_what_is_installed_together_is_imported_relatively(package: str, others: set[str]) -> None:
    """ComfyUI loads the folder under a name of its own, and the wheel has two of them under other names."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            found |= {(path.name, name) for name in names if name.split(".")[0] in others}
    assert found == set()
