"""House rules that ruff has no rule for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield every source file of the project as its name and its syntax tree."""
    for folder in ("pfr_core", "nodes", "trainer", "web", "tests", "examples", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_no_conditional_inside_another() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.IfExp) and any(isinstance(each, ast.IfExp) for each in (node.test, node.body, node.orelse))
    ]
    assert found == []


def test_what_is_raised_stands_under_a_heading() -> None:
    """Ask for Google's heading with a line for each exception, not for a sentence."""
    found = [
        f"{name}: {getattr(node, 'name', 'module')}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and re.search(r"\bRaises(?!:)", ast.get_docstring(node) or "")
    ]
    assert found == []
