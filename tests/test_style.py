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


def raises(node: ast.AST) -> bool:
    """Return whether a function raises something itself, functions inside it aside."""
    inner = [each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.FunctionDef | ast.Lambda | ast.ClassDef)]
    return any((isinstance(each, ast.Raise) and each.exc is not None) or raises(each) for each in inner)


def test_a_public_function_that_raises_says_so() -> None:
    """Where it has a docstring; private ones and tests may do without."""
    found = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees()
        if not name.startswith(("tests/", "benchmarks/", "examples/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and raises(node)
        if (text := ast.get_docstring(node)) and not re.search(r"\bRaises:|\braises as\b", text)
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


def test_plurals_have_one_home() -> None:
    """Which `plural` is, in `pfr_core/support/text.py`."""
    found = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant) and node.left.value == "s"
    }
    assert found == {"pfr_core/support/text.py"}


def test_markdown_tables_have_one_home() -> None:
    """Which `markdown` is, in `pfr_core/support/text.py`."""
    found = {
        name
        for name, tree in trees()
        if not name.startswith(("tests/", "benchmarks/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"^---|[| ]---", node.value)
    }
    assert found == {"pfr_core/support/text.py"}


def test_what_tells_progress_has_one_home() -> None:
    found = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        if any(isinstance(target, ast.Name) and target.id.endswith("Progress") for target in node.targets)
    }
    assert found == {"pfr_core/support/progress.py"}
