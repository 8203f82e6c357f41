"""What ComfyUI's page shows of the pack besides its nodes: workflows, help, translations, registry metadata."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
LANGUAGES = ("en", "zh", "ja", "de")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")


def declared(node: Any) -> dict[str, Any]:
    """All inputs of a node class, by name."""
    groups = node.INPUT_TYPES()
    return {**groups["required"], **groups.get("optional", {})}


def ours(path: Path, nodes: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the nodes of a workflow that are ours, with their classes."""
    for node in json.loads(path.read_text())["nodes"]:
        assert not node["type"].startswith("PFR") or node["type"] in nodes, f"{node['type']} does not exist any more"
        if node["type"] in nodes:
            yield node, nodes[node["type"]]


def test_there_are_workflows_and_they_show_every_node(pack: Any) -> None:
    seen = {node["type"] for path in WORKFLOWS for node, _ in ours(path, pack.NODE_CLASS_MAPPINGS)}
    assert len(WORKFLOWS) == 5 and seen == set(pack.NODE_CLASS_MAPPINGS) - {
        "PFRDegrade",
        "PFRCompareModels",
        "PFRRestoreVideo",
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_a_picture_and_fits_the_nodes_of_today(pack: Any, path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.width >= 400
    assert "no evidence of anyone's identity" in path.read_text()
    for node, kind in ours(path, pack.NODE_CLASS_MAPPINGS):
        widgets = {name: each for name, each in declared(kind).items() if isinstance(each[0], list) or each[0] in WIDGETS}
        assert len(node["widgets_values"]) == len(widgets), f"{node['type']} has other widgets: save the workflow again"
        for (name, (type_, options)), value in zip(widgets.items(), node["widgets_values"], strict=True):
            if isinstance(type_, list):
                assert value in type_, name
            else:
                assert isinstance(value, type(options["default"])), name
        for socket in node["inputs"]:
            type_ = declared(kind)[socket["name"]][0]
            assert socket["type"] == ("COMBO" if isinstance(type_, list) else type_)
        assert tuple(output["type"] for output in node["outputs"]) == kind.RETURN_TYPES[: len(node["outputs"])]
        sys.modules[f"{pack.__name__}.nodes.inputs"].options(dict(zip(widgets, node["widgets_values"], strict=True)))


def test_links_join_sockets_of_one_type() -> None:
    for path in WORKFLOWS:
        workflow = json.loads(path.read_text())
        nodes = {node["id"]: node for node in workflow["nodes"]}
        for number, source, out, target, into, kind in workflow["links"]:
            socket = nodes[target]["inputs"][into]
            assert number in nodes[source]["outputs"][out]["links"] and socket["link"] == number
            assert nodes[source]["outputs"][out]["type"] == socket["type"] == kind


def test_every_node_has_a_help_page_that_is_honest(pack: Any) -> None:
    pages = {path.stem: path.read_text() for path in (ROOT / "web" / "js" / "docs").glob("*.md")}
    assert set(pages) == set(pack.NODE_CLASS_MAPPINGS)
    for name, text in pages.items():
        assert "no evidence of anyone's identity" in text and "non-commercial" in text, name
        assert text.startswith(f"# {pack.NODE_DISPLAY_NAME_MAPPINGS[name].removesuffix(' (PFR)')}\n")


@pytest.mark.parametrize(
    ("language", "honest"),
    [("zh", "不能作为任何人身份的证据"), ("ja", "本人確認の証拠にはなりません"), ("de", "kein Beweis für die Identität")],
)
def test_help_is_translated(pack: Any, language: str, honest: str) -> None:
    """ComfyUI's page asks for NODE/LANGUAGE.md first."""
    names = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text())
    pages = {path.parent.name: path.read_text() for path in (ROOT / "web" / "js" / "docs").glob(f"*/{language}.md")}
    assert set(pages) == set(pack.NODE_CLASS_MAPPINGS)
    for name, text in pages.items():
        assert text.startswith(f"# {names[name]['display_name'].removesuffix(' (PFR)')}\n") and honest in text, name
        assert text.count("\n## ") == (ROOT / "web" / "js" / "docs" / f"{name}.md").read_text().count("\n## "), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_name_is_translated_and_none_is_left_over(pack: Any, language: str) -> None:
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text())
    assert set(texts) == set(pack.NODE_CLASS_MAPPINGS)
    for name, node in pack.NODE_CLASS_MAPPINGS.items():
        assert set(texts[name]["inputs"]) == set(declared(node)), name
        outputs = len(node.RETURN_TYPES)
        assert list(texts[name]["outputs"]) == [str(number) for number in range(outputs)], name
        if language == "en":
            assert texts[name]["display_name"] == pack.NODE_DISPLAY_NAME_MAPPINGS[name]
        else:
            entries = [*texts[name]["inputs"].values(), *texts[name]["outputs"].values()]
            assert texts[name]["description"] and all(entry["name"] and entry["tooltip"] for entry in entries)


def test_the_face_picker_knows_every_widget_that_gives_faces_their_numbers(pack: Any) -> None:
    (listed,) = re.findall(r"const NUMBERING = (\[.*\]);", (ROOT / "web" / "js" / "face_picker.js").read_text("utf-8"))
    node = declared(pack.NODE_CLASS_MAPPINGS["PFRDetectFaces"])
    widgets = {name for name, each in node.items() if isinstance(each[0], list) or each[0] in WIDGETS}
    assert {*json.loads(listed)} == widgets - {"select", "indices", "count", "only_bad_faces"}, "those choose among the numbers"


def test_comfyui_serves_nothing_but_our_page(pack: Any) -> None:
    web_directory = sys.modules[f"{pack.__name__}.nodes.runtime"].web_directory
    served = [path for path in (ROOT / web_directory("/custom_nodes/pfr")).rglob("*") if path.is_file()]
    assert {path.suffix for path in served} == {".js", ".md"}


def test_the_registry_is_told_what_it_asks_for() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    comfy = project["tool"]["comfy"]
    assert comfy["PublisherId"] == "pfr" and comfy["DisplayName"] and comfy["requires-comfyui"] and "web" not in comfy
    assert "comfyui" not in project["project"]["name"].lower() and project["project"]["urls"]["Repository"]
    assert "non-commercial" in project["project"]["description"]
    for name in ("Icon", "Banner"):
        assert (ROOT / "examples" / comfy[name].rsplit("/", 1)[1]).is_file(), name
    ignored = (ROOT / ".comfyignore").read_text().split()
    needed = {"nodes/", "pfr_core/", "web/", "locales/", "example_workflows/", "examples/", "*.md", "requirements.txt"}
    assert "tests/" in ignored and not needed & set(ignored)
