"""The documentation is true of the code: links, paths, names, commands, generated pages, examples."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, get_origin, get_type_hints

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = {"build", "dist", "output", "runs", "data"}


def pages() -> list[Path]:
    """Every Markdown file of the repository."""
    found = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return [
        ROOT / path for path in found if not NOT_OURS & set(path.parts) and not any(part.startswith(".") for part in path.parts)
    ]


PAGES = pages()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(
    r"(?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml|json|jpg|png|mp4|safetensors)|(?:pfr_core|trainer|web|nodes|tests)/[\w/]+/?"
)
MADE = re.compile(r"^(?:runs|models|custom_nodes|output)/")  # by a run, or ComfyUI's folders
NAME = re.compile(r"((?:[\w.-]+/)*[\w-]+\.py)::([\w.]+)")
PROGRAMS = ("pfr", "pfr-train", "pfr-demo", "python -m trainer", "python -m web", "python -m pfr_core")


def words(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings; one that comes again gets a number."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", words(page), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        times = sum(re.sub(r"-\d+$", "", each) == anchor for each in found)
        found.append(f"{anchor}-{times}" if times else anchor)
    return set(found)


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


@each(PAGES)
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip().splitlines()
        if len(lines) > 1 and re.fullmatch(r"\|(?: *:?-+:? *\|)+", lines[1].strip()):
            for line in lines:
                assert len(cells(line)) == len(cells(lines[0])), line


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", CODE.sub("", line))


@each(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for pair in LINK.findall(words(page)):
        link = pair[0] or pair[1]
        if re.match(r"[a-z]+:", link):
            continue  # other sites: no network here
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{link}: not there"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading; there are {sorted(anchors(target))}"


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines, those in its classes with a dot."""

    def names(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name
                if isinstance(node, ast.ClassDef):
                    yield from (f"{node.name}.{name}" for name in names(node.body))
            elif isinstance(node, ast.Assign):
                yield from (each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id

    return set(names(tree.body))


@each(PAGES)
def test_paths_and_names_in_code_exist(page: Path) -> None:
    """`pfr_core/x.py` is a file, and `x.py::name` is defined in it."""
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    for text in CODE.findall(words(page)):
        if named := NAME.fullmatch(text):
            path, name = named.groups()
            (found,) = [file for file in files if file == path] or [file for file in files if f"/{file}".endswith(f"/{path}")]
            assert name in defined(ast.parse((ROOT / found).read_text(encoding="utf-8"))), f"{found} defines no {name}"
        elif FILE.fullmatch(text) and not MADE.match(text):
            assert (ROOT / text).exists() or (page.parent / text).exists(), f"{text}: not there"


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Our own programs as the page's blocks call them: name and arguments."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^torchrun \S+ (\S+ )*?-m trainer ", "python -m trainer ", line.split("  #")[0].strip())
            for program in PROGRAMS:
                if line.startswith(f"{program} ") or line == program:
                    yield program, shlex.split(line.removeprefix(program))


def parse(program: str, arguments: list[str]) -> None:
    """Parse a command line with the program's own parser."""
    if program in ("pfr", "python -m pfr_core"):
        from pfr_core.cli import build_parser as build
    elif program in ("pfr-demo", "python -m web"):
        from web.cli import build_parser as build
    else:
        from trainer.cli import build_parser as build
    build().parse_args(arguments)


@each(PAGES)
def test_commands_are_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program, arguments in commands(page):
        if arguments == ["--help"] or "..." in arguments:
            continue
        try:
            parse(program, arguments)
        except SystemExit as error:
            pytest.fail(f"{program} {shlex.join(arguments)}: {error}\n{capsys.readouterr().err}")


def blocks() -> list[Any]:
    """Python examples of all pages."""
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        examples = [block for language, block in FENCE.findall(page.read_text(encoding="utf-8")) if language == "python"]
        found += [pytest.param(block, id=f"{name}-{number}") for number, block in enumerate(examples)]
    return found


def kind_of(called: ast.expr, names: dict[str, Any]) -> Any:
    """Return what a call gives, of our classes and of functions and methods that say it."""
    found = None
    if isinstance(called, ast.Name):
        found = names.get(called.id)
    elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        found = getattr(names.get(called.value.id), called.attr, None)
    given = found
    if isinstance(found, FunctionType):
        result = SimpleNamespace(__annotations__={"return": found.__annotations__["return"]})  # names of the others may not exist
        given = get_type_hints(result, found.__globals__)["return"]
    return get_origin(given) or given


def has(owner: Any, name: str) -> bool:
    """Whether a class or what it makes has an attribute of that name."""
    return (
        hasattr(owner, name) or re.search(rf"^    (?:    self\.)?{name}:? ", inspect.getsource(owner), re.MULTILINE) is not None
    )


@pytest.mark.parametrize("block", blocks())
def test_python_examples_name_what_exists(block: str) -> None:
    """They parse, what they import is there, and so are the attributes of our own classes."""
    tree = ast.parse(block)
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("pfr_core", "trainer", "web"):
            module = importlib.import_module(node.module)
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = kind_of(node.value.func, names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(names.get(node.value.id), type):
            assert has(names[node.value.id], node.attr), f"{names[node.value.id]}: no {node.attr}"


def test_the_generated_pages_are_fresh() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "tools" / "options.py"))["pages"]
    for path, content in pages().items():
        assert path.read_text(encoding="utf-8") == content, f"{path.relative_to(ROOT)} is stale: run `make docs`"


def test_the_papers_title_is_the_same_everywhere() -> None:
    title = re.search(r'title: "(Enhancing.*?)"', (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert title is not None
    for name in ("README.md", "docs/paper.md"):
        assert title[1] in (ROOT / name).read_text(encoding="utf-8"), f"{name} does not name the paper"


def test_every_file_with_a_choice_of_ours_is_in_the_papers_table() -> None:
    """What the code marks as ours and not the paper's stands in docs/paper.md with its reason."""
    told = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    mark = re.compile(r"\(ours\b(?! is)|\bOurs\b(?! is)|: ours\b|\b(?:is|are|values) ours\b(?! to)|\bours come\b")
    files = [path for folder in ("pfr_core", "trainer", "web") for path in (ROOT / folder).rglob("*.py")]
    marked = {path.relative_to(ROOT).as_posix() for path in files if mark.search(path.read_text(encoding="utf-8"))}
    assert len(marked) > 20
    assert {file for file in marked if file not in told} == set()
