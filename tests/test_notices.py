"""What the core notices reaches the user at every door."""

from __future__ import annotations

import html
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from pfr_core import FaceRestorer
from pfr_core.cli import main
from pfr_core.errors import InputError
from pfr_core.faces.align import TEMPLATE
from pfr_core.models import disk
from pfr_core.options import RestoreOptions, Setup
from pfr_core.photo.read import read_photo
from pfr_core.support.notice import Notice

ROOT = Path(__file__).resolve().parent.parent
gr = pytest.importorskip("gradio")

from web.api import Api  # noqa: E402
from web.batch import BatchTab  # noqa: E402
from web.compare import CompareTab  # noqa: E402
from web.context import Context  # noqa: E402
from web.degrade import DegradeTab  # noqa: E402
from web.engine import Engine  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.photo import PhotoTab  # noqa: E402
from web.sessions import Sessions  # noqa: E402
from web.texts import say  # noqa: E402

NONE = "no face found; a lower threshold may find one"
VISITOR: Any = SimpleNamespace(session_hash="visitor", headers={})


@pytest.fixture
def print_photo(tmp_path: Path) -> Path:
    """Return a photograph without faces whose reading has something to tell."""
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (64, 48)).save(path)
    return path


@pytest.fixture
def sentence(print_photo: Path, tiny_model: Path, tmp_path: Path) -> str:
    """Return what the core says of it."""
    restorer = FaceRestorer(tiny_model, "builtin", device="cpu")
    notice, none = restorer.restore_file(print_photo, tmp_path / "out.png").notices
    assert notice.kind == "cmyk" and none.kind == "no_face"
    return notice.text.removeprefix(f"{print_photo}: ")


@pytest.fixture
def context(tiny_model: Path, tmp_path: Path) -> Iterator[Context]:
    """Return what the tabs of a page share."""
    sessions = Sessions(tmp_path / "visitors", 60)
    with gr.Blocks(), sessions.listening("visitor"):
        yield Context(Engine({"tiny": str(tiny_model)}, detector="builtin", device="cpu"), sessions, Limits())


@pytest.fixture
def portrait(print_photo: Path, sentence: str) -> Path:
    """Return the same with a face."""
    with Image.open(ROOT / "examples" / "astronaut.jpg") as image:
        image.convert("CMYK").save(print_photo)
    return print_photo


@pytest.mark.parametrize("command", ["restore", "detect", "degrade", "compare"])
def test_the_command_line(
    command: str, print_photo: Path, tiny_model: Path, sentence: str, caplog: pytest.LogCaptureFixture, request: Any
) -> None:
    more = {"restore": ["--model", str(tiny_model)], "compare": ["--models", str(tiny_model)]}.get(command, [])
    if command == "compare":
        request.getfixturevalue("portrait")
    target = [] if command == "detect" else ["-o", str(print_photo.with_name("new.png"))]
    assert main([command, str(print_photo), *target, *more]) == 0
    assert sentence in caplog.text
    assert caplog.text.count(NONE) == (command in ("restore", "detect"))


def test_an_archive_s_manifest(
    print_photo: Path, tiny_model: Path, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_extra_folders", [])  # a worker of an archive adds one
    pytest.importorskip("pyarrow")
    from pfr_core.bulk.plan import Task
    from pfr_core.bulk.stages import Job, Recipe, Restorer, Weights, read, write

    recipe = Recipe(Setup(model=str(tiny_model), device="cpu"), RestoreOptions())
    job = read(Job.of(Task(str(print_photo), str(tmp_path / "bulk.png"))), recipe)
    (done,) = Restorer(recipe, Weights.gather(recipe))([job])
    row = write(done, recipe, recipe.choices())
    assert row.status == "done" and row.faces == 0
    assert any(sentence in notice for notice in row.notices)
    assert not any("no face" in notice for notice in row.notices), "of each landscape: that is the row's count of faces"


def test_a_clip(context: Context, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """By command, and on the page, to whose result a notice is added."""
    pytest.importorskip("av")
    import web.video
    from pfr_core.video.restore import restore_clip

    from .clip_files import make_clip

    clip, target = str(make_clip(tmp_path / "a.mp4", 3)), str(tmp_path / "b.mp4")
    assert main(["restore", clip, "-o", target, "--model", str(tiny_model), "--select", "index", "--indices", "9"]) == 0
    assert "9" in "".join(record.getMessage() for record in caplog.records if record.name.startswith("pfr_core.cli"))

    def noticing(*arguments: Any, **more: Any) -> Any:
        result = restore_clip(*arguments, **more)
        result.notices.add([Notice("opaque", "it is not transparent any more")] * 3)
        return result

    monkeypatch.setattr(web.video, "restore_clip", noticing)
    told = web.video.VideoTab(context).run_clip(VISITOR, clip, [], "tiny", lambda *done, **more: None)[1]
    assert "What is transparent becomes opaque in the result (and 2 more like it)" in told


def test_the_pages_other_tabs(context: Context, portrait: Path, sentence: str) -> None:
    compared = CompareTab(context).run_comparison(VISITOR, str(portrait), ["tiny"], lambda *done, **more: None)[1]
    assert sentence.rstrip(".") in compared and compared.count("Note:") == 2, "a large face is one, too"
    settings: dict[str, Any] = {"blur": "isotropic", "sigma": 2.0, "scale": 2.0, "noise": 5.0, "quality": 50.0, "seed": 0}
    assert sentence.rstrip(".") in DegradeTab(context, portrait).run(VISITOR, str(portrait), "tiny", **settings)[1]


def test_the_pages_api(context: Context, print_photo: Path, sentence: str) -> None:
    api = Api(context)
    for facts in (api.detect(VISITOR, str(print_photo)), api.restore(VISITOR, str(print_photo), "tiny", scale=2)[1]):
        notice, none = facts["notices"]
        assert notice["kind"] == "cmyk" and sentence in notice["text"]
        assert none["kind"] == "no_face" and none["text"] == NONE


def test_a_number_that_no_face_has_is_to_the_endpoint_what_it_is_to_the_command(context: Context, portrait: Path) -> None:
    api = Api(context)
    _, facts = api.restore(VISITOR, str(portrait), "tiny", select="index", indices=[0, 5])
    assert len(facts["faces"]) == 1 and "missing_face" in {notice["kind"] for notice in facts["notices"]}
    with pytest.raises(InputError, match="there is no face 5 among the 1 found, numbered from 0; choose another"):
        api.restore(VISITOR, str(portrait), "tiny", select="index", indices=[5])
    Image.new("RGB", (64, 48)).save(portrait)
    file, facts = api.restore(VISITOR, str(portrait), "tiny", select="index", indices=[0])
    assert Path(file).read_bytes() == portrait.read_bytes() and not facts["changed"]
    assert [notice["kind"] for notice in facts["notices"]] == ["missing_face"], "a photo without faces stays as it is"


def test_the_page_and_its_batch(context: Context, print_photo: Path, sentence: str) -> None:
    with context.visit(VISITOR) as session:
        session.wanted = print_photo
    told = PhotoTab(context, []).open(VISITOR, "tiny")[1]
    assert sentence in told and say(VISITOR, "no_face", sideways=say(VISITOR, "option_sideways")) in told and NONE not in told
    report = BatchTab(context).run_batch(VISITOR, [str(print_photo)], "tiny", lambda *done, **more: None, scale=2)[-1]
    assert "print.jpg" in report and html.escape(sentence.rstrip(".")) in report
    assert NONE in report and report.count("no face found") == 1


MOTION = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"/></rdf:RDF></x:xmpmeta>'
)


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (64, 48)).save(stream, kind, **options)
    return stream.getvalue()


READ_AS_LESS = {
    "cmyk": encoded("JPEG", "CMYK"),
    "further_pictures": encoded("JPEG", xmp=MOTION),
    "damaged_exif": encoded("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "mended": encoded("PNG")[:-12],
}


@pytest.mark.parametrize("kind", READ_AS_LESS)
def test_what_is_lost_in_reading_is_not_said_of_a_copy(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    data = READ_AS_LESS[kind]
    source = tmp_path / ("a.png" if kind == "mended" else "a.jpg")
    source.write_bytes(data)
    assert [notice.kind for notice in read_photo(source).notices] == [kind]
    file = FaceRestorer(tiny_model, "builtin", device="cpu").restore_file(source, tmp_path)
    assert file.copied and file.path.read_bytes() == data and [notice.kind for notice in file.notices] == ["no_face"]


def test_the_page_says_of_a_copy_alone_that_it_is_the_visitors_own_file(context: Context, portrait: Path, sentence: str) -> None:
    """A result that is enlarged is none, though no face was put back."""
    tab = PhotoTab(context, [])
    with context.visit(VISITOR) as session:
        session.wanted = portrait
    tab.open(VISITOR, "tiny")
    tab.restore(VISITOR, "tiny", lambda *done, **more: None)
    for scale in (1.0, 2.0):
        stage, told = tab.save(VISITOR, strength=0.0, scale=scale)
        own = Path(stage["save"]).read_bytes() == portrait.read_bytes()
        assert own == (scale == 1)
        assert (say(VISITOR, "saved_unchanged") in told) == own and (sentence in told) == (not own), scale


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_batch_says_what_is_a_copy_and_names_each_file_by_its_format(context: Context, scale: float, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.gif")
    Image.new("RGB", (64, 48)).save(tmp_path / "b.jpg")
    Image.new("RGB", (64, 48)).save(tmp_path / "c.png", "JPEG")  # a copy keeps its name, whatever it says
    uploads = [str(tmp_path / name) for name in ("a.gif", "b.jpg", "c.png")]
    _, packed, _, report = BatchTab(context).run_batch(VISITOR, uploads, "tiny", lambda *done, **more: None, scale=scale)
    with zipfile.ZipFile(packed.value["path"]) as file:
        results = {name: file.read(name) for name in file.namelist()}
    assert [*results] == ["a.png", "b.jpg", "c.png" if scale == 1 else "c.jpg"]
    assert results["a.png"].startswith(b"\x89PNG")
    copies = sum(data == Path(upload).read_bytes() for data, upload in zip(results.values(), uploads, strict=True))
    assert copies == (2 if scale == 1 else 0)
    assert report.count(say(VISITOR, "row_unchanged")) == copies and report.count(say(VISITOR, "row_anew")) == 3 - copies


def test_the_nodes(pack: Any) -> None:
    """They get pixels, of which only finding and pasting have something to tell."""
    image = torch.full((1, 48, 64, 3), 0.5)
    model, _ = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]().load("small.safetensors", "cpu", "fp32")["result"]
    for name, inputs in {"DetectFaces": {}, "RestoreFaces": {"model": model}}.items():
        node = pack.NODE_CLASS_MAPPINGS[f"PFR{name}"]()
        widgets = {key: given["default"] for key, (_, given) in node.INPUT_TYPES()["required"].items() if "default" in given}
        shown = getattr(node, node.FUNCTION)(**{**widgets, **inputs, "image": image, "select": "index", "indices": "9"})
        assert any("9" in text for text in shown["ui"]["text"]), name
        shown = getattr(node, node.FUNCTION)(**{**widgets, **inputs, "image": image})
        told = " ".join(shown["ui"]["text"])
        assert told.count("No face was found") == 1 and "no face found" not in told, "in a graph's words"


def test_the_nodes_for_clips_and_for_models(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A face much larger than the network's crop is told of."""
    core = f"{pack.__name__}.pfr_core.faces"
    points = tuple((float(x), float(y)) for x, y in TEMPLATE)
    face = sys.modules[f"{core}.face"].Face((100, 100, 400, 450), 0.9, points)
    monkeypatch.setattr(sys.modules[f"{core}.detect"].Detector, "detect", lambda self, image, **how: [face])
    image = torch.rand(1, 512, 512, 3)
    model, _ = pack.NODE_CLASS_MAPPINGS["PFRLoadModel"]().load("small.safetensors", "cpu", "fp32")["result"]
    for name in ("RestoreClip", "CompareModels"):
        node = pack.NODE_CLASS_MAPPINGS[f"PFR{name}"]()
        widgets = {
            key: given["default"]
            for group in node.INPUT_TYPES().values()
            for key, (_, given) in group.items()
            if "default" in given
        }
        shown = getattr(node, node.FUNCTION)(**{**widgets, "model": model, "image": image})
        assert any("times larger than the model's" in text for text in shown["ui"]["text"]), name
