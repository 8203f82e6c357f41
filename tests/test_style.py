"""What the linter cannot say about the code's style."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_no_conditional_expression_holds_another() -> None:
    """`a if b else c if d else e` is read twice; an `if` statement, a dictionary or a name is not."""
    nested = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(ROOT.rglob("*.py"))
        if not {part for part in path.relative_to(ROOT).parts if part.startswith(".")} and "build" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.IfExp) and sum(isinstance(each, ast.IfExp) for each in ast.walk(node)) > 1
    ]
    assert nested == []
