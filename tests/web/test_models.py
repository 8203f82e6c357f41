"""The page's menu of models, its downloads and the comparison, called as the page calls them."""

from __future__ import annotations

import errno
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pfr_core import PFR, PFRConfig, PhotoSession, save_model
from pfr_core.compare import CELL, HEADER
from pfr_core.errors import Cancelled, CheckpointError, InputError, NotFiniteError, WeightsError, check_stop
from pfr_core.find import Found
from pfr_core.models.registry import REGISTRY, restorers
from pfr_core.options import RestoreOptions

gr = pytest.importorskip("gradio")

from web.api import Api  # noqa: E402
from web.archive import pack  # noqa: E402
from web.batch import BatchTab  # noqa: E402
from web.cli import _available, _check_models, _fetch_detector, build_parser, named  # noqa: E402
from web.compare import CompareTab  # noqa: E402
from web.context import GPU_QUEUE, Context  # noqa: E402
from web.degrade import DegradeTab  # noqa: E402
from web.door import line_of  # noqa: E402
from web.engine import Engine  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.models import ModelMenu, licence, summary  # noqa: E402
from web.photo import ASSETS, OpenPhoto, PhotoTab  # noqa: E402
from web.pictures import save_shown  # noqa: E402
from web.sessions import ASKED, Session, Sessions  # noqa: E402
from web.texts import say  # noqa: E402

VISITOR: Any = SimpleNamespace(session_hash="visitor", headers={})
PHOTO = Path(__file__).resolve().parents[2] / "examples" / "two_faces.jpg"


@pytest.fixture
def context(tiny_model: Path, tmp_path: Path) -> Iterator[Context]:
    """Return what the tabs of a page share; one model is a file, the others are published."""
    models = {"tiny": str(tiny_model), "codeformer": "codeformer", "gfpgan-1.4": "gfpgan-1.4"}
    sessions = Sessions(tmp_path / "visitors", 60)
    with gr.Blocks(), sessions.listening("visitor"):
        yield Context(Engine(models, detector="builtin", device="cpu", downloads=True), sessions, Limits())
    sessions.close()


def opened(session: Session) -> OpenPhoto:
    assert session.photo is not None
    return session.photo


def quiet(*done: Any, **more: Any) -> None:
    """Stand in for a progress bar."""


def test_the_menu_tells_size_licence_and_download(context: Context) -> None:
    menu = ModelMenu(context)
    assert [value for _, value in menu.menu.choices] == ["tiny", "codeformer", "gfpgan-1.4"]
    assert summary(context, VISITOR, "tiny") == "16 px"
    assert summary(context, VISITOR, "codeformer") == "512 px, 377 MB, downloaded when first used"
    assert licence(context, VISITOR, "tiny") == "Weights `tiny`: none of note"
    assert REGISTRY["gfpgan-1.4"].licence in licence(context, VISITOR, "gfpgan-1.4")
    assert not menu.controls["fidelity"].visible
    told, fidelity = menu.choose(VISITOR, "codeformer")
    assert "S-Lab" in told and fidelity["visible"] and fidelity["value"] == 0.5
    assert not menu.choose(VISITOR, "gfpgan-1.4")[1]["visible"]


def test_without_an_argument_the_page_offers_all_that_can_be_had() -> None:
    offered = build_parser().parse_args([]).models
    assert offered == [weights.name for weights in restorers() if weights.embedded or weights.urls] and offered[0] == "default"


def test_a_model_that_was_asked_for_and_is_not_here_is_told(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that no download would bring."""
    for module in ("cli", "engine"):
        monkeypatch.setattr(f"web.{module}.on_disk", lambda name: None)
    asked = [str(tiny_model), "gfpgan-1.4", "gpen-512"]
    assert _available(asked, False, tell=False) == [str(tiny_model), "gpen-512"] and not capsys.readouterr().err
    assert _available(asked, False, tell=True) == [str(tiny_model), "gpen-512"]
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("The model gfpgan-1.4 is not offered: ") and "pfr weights download gfpgan-1.4" in told
    assert _available(asked, True, tell=True) == asked and not capsys.readouterr().err
    engine = Engine(named(asked), detector="builtin", device="cpu", downloads=True)
    _check_models(engine)
    assert [*engine.models] == ["tiny", "gfpgan-1.4"]
    assert re.search("gpen-512 is not offered: .* does not download .* put it into", capsys.readouterr().err)


def test_models_keep_their_names_and_files_lose_folder_and_ending() -> None:
    known = [weights.name for weights in restorers()]
    assert named([*known, "models/mine.v2.safetensors"]) == {
        **{name: name for name in known},
        "mine.v2": "models/mine.v2.safetensors",
    }
    with pytest.raises(InputError, match=r"a/mine\.pth and b/mine\.pth would both be called mine"):
        named(["a/mine.pth", "b/mine.pth"])


def test_a_model_is_downloaded_when_it_is_first_used(
    context: Context, tiny_model: Path, publish: Callable[[str, Path], Any], tmp_path: Path
) -> None:
    publish("gfpgan-1.4", tiny_model)
    tab, seen = PhotoTab(context, []), []
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
    tab.open(VISITOR, "tiny")
    context.engine.downloads = False
    with pytest.raises(InputError, match=r"model is 'gfpgan-1\.4'; it is not on this server"):
        tab.restore(VISITOR, "gfpgan-1.4", quiet)
    context.engine.downloads = True
    progress: Any = lambda done, **more: seen.append((done, more["desc"]))  # noqa: E731
    _, told, *_ = tab.restore(VISITOR, "gfpgan-1.4", progress)
    assert (tmp_path / "cache" / tiny_model.name).is_file() and seen[0][1] == "Downloading gfpgan-1.4"
    assert summary(Context(Engine({"gfpgan-1.4": "gfpgan-1.4"}), context.sessions, Limits()), VISITOR, "gfpgan-1.4") == "512 px"
    assert "2 of 2 faces restored" in told


def test_a_precision_that_a_model_does_not_bear_is_refused_before_its_download(
    publish: Callable[[str, Path], Any], tiny_model: Path, tmp_path: Path
) -> None:
    publish("codeformer", tiny_model)
    engine = Engine({"codeformer": "codeformer"}, detector="builtin", device="cpu", dtype="bf16", downloads=True)
    with pytest.raises(InputError, match="this network does not bear it; use fp32"):
        engine.fetch("codeformer", lambda name, done, total: None, lambda: False)
    assert not (tmp_path / "cache").exists()


def test_a_model_that_cannot_run_here_is_told_at_the_start_and_not_offered(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether its file is there or not: without its package, or in a precision that its network does not bear."""
    models = {"tiny": str(tiny_model), "codeformer": "codeformer", "gfpgan-1.4": "gfpgan-1.4"}
    for here in (None, PHOTO):
        monkeypatch.setattr("web.engine.on_disk", lambda name, here=here: here)
        engine = Engine(models, detector="builtin", device="cpu", dtype="bf16", downloads=True)
        _check_models(engine)
        assert [*engine.models] == ["tiny", "gfpgan-1.4"]
        assert re.search("codeformer is not offered: .* does not bear it", capsys.readouterr().err)
        with monkeypatch.context() as patch:
            patch.setattr("pfr_core.models.registry.find_spec", lambda name: None)
            engine = Engine(models, detector="builtin", device="cpu", downloads=True)
            _check_models(engine)
        assert [*engine.models] == ["tiny", "gfpgan-1.4"]
        assert "codeformer is not offered: codeformer's code is a package" in capsys.readouterr().err
        with pytest.raises(InputError, match="does not bear it"):
            _check_models(Engine({"codeformer": "codeformer"}, detector="builtin", device="cpu", dtype="bf16"))


def test_a_model_that_is_not_to_be_had_is_named(context: Context, publish: Callable[[str, Path], Any], tiny_model: Path) -> None:
    publish("gfpgan-1.4", tiny_model)
    tiny_model.write_bytes(b"another file by now")
    tab = CompareTab(context)
    with pytest.raises(InputError, match=r"^gfpgan-1\.4 cannot be had on this server.*Choose another model"):
        tab.run_comparison(VISITOR, str(PHOTO), ["gfpgan-1.4"], quiet)


def test_a_model_that_cannot_be_read_is_offered_without_facts(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "visitors", 60)
    models = {"default": "default", "gone": str(tmp_path / "gone.pth")}
    with gr.Blocks():
        context = Context(Engine(models, detector="builtin", device="cpu"), sessions, Limits())
        for menu in (ModelMenu(context).menu, CompareTab(context).models):
            assert context.menus[menu](VISITOR) == [("default (512 px)", "default"), ("gone", "gone")]


def test_the_comparison(context: Context) -> None:
    tab, ignored = CompareTab(context), lambda done, **more: None
    sheet, told = tab.run_comparison(VISITOR, str(PHOTO), ["tiny"], ignored, strength=1.0)
    with Image.open(sheet) as picture:
        assert picture.size == (2 * CELL, HEADER + 2 * CELL)
    assert "2 faces" in told
    with pytest.raises(InputError, match="at least one model"):
        tab.run_comparison(VISITOR, str(PHOTO), [], ignored)
    with pytest.raises(InputError, match="fidelity: none of these models has such an option"):
        tab.run_comparison(VISITOR, str(PHOTO), ["tiny"], ignored, fidelity=0.9)


def test_a_photo_is_the_visitor_s_as_soon_as_it_is_uploaded(context: Context) -> None:
    """Any event that takes it holds it; the button beside it may come long after."""
    uploads = [CompareTab(context).upload, DegradeTab(context, PHOTO).upload]
    taken = [event.targets for event in gr.context.Context.root_block.fns.values()]
    assert all([(each._id, "change")] in taken for each in uploads)


def test_a_setting_of_a_photo_that_is_kept_no_more_says_so(context: Context) -> None:
    tab = PhotoTab(context, [])
    skipped = tab.change(VISITOR, {})
    assert skipped == tab.change(VISITOR) == [gr.skip()] * 2, "there was none yet"
    with pytest.raises(InputError, match="no photo here any more"):
        tab.change(VISITOR, {"before": "before.webp", "faces": []})


@pytest.mark.parametrize("downloads", [False, True])
def test_a_mask_whose_package_is_missing_is_not_offered(downloads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfr_core.faces.mask.on_disk", lambda name: PHOTO)
    assert "parse" in Engine({}, device="cpu", downloads=downloads).masks or find_spec("facexlib") is None
    monkeypatch.setattr("pfr_core.faces.mask.find_spec", lambda name: None)
    assert "parse" not in Engine({}, device="cpu", downloads=downloads).masks


def test_what_a_mask_needs_is_downloaded_before_the_networks_are_lent(
    context: Context, publish: Callable[[str, Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the page's progress bar, and to be stopped, while another visitor works."""
    path = tmp_path / "parser.pth"
    path.write_bytes(b"no network")
    publish("parsenet", path)
    monkeypatch.setattr("pfr_core.models.registry.find_spec", lambda name: PHOTO)
    engine, tab, seen = context.engine, PhotoTab(context, []), list[str]()
    engine.masks = ["box", "parse"]
    with engine.finding(), pytest.raises(Cancelled, match="download of"):
        engine.fetch_around("parse", quiet, lambda: True)
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
    tab.open(VISITOR, "tiny")

    def progress(done: Any, **more: Any) -> None:
        if "Downloading" in more["desc"]:
            seen.append(more["desc"])
            assert not engine._lock.locked()

    both: list[Callable[[], Any]] = [
        lambda: tab.restore(VISITOR, "tiny", progress, mask="parse"),
        lambda: BatchTab(context).run_batch(VISITOR, [str(PHOTO)], "tiny", progress, mask="parse"),
    ]
    for number, restore in enumerate(both):
        with suppress(WeightsError):  # what was published is no parser
            restore()
        assert seen == ["Downloading parsenet"] * (number + 1)
        (tmp_path / "cache" / path.name).unlink()
    said: list[str] = []
    monkeypatch.setattr("web.photo.gr.Info", lambda text, **how: said.append(text))
    with suppress(WeightsError):
        tab.change(VISITOR, mask="parse")
    assert said == ["Downloading parsenet"], "without a restoration, too"


def test_a_detector_that_the_server_was_started_with_is_there_before_the_first_visitor(
    publish: Callable[[str, Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "detector.pth"
    path.write_bytes(bytes(1000))
    publish("retinaface_resnet50", path)
    with pytest.raises(InputError, match="--downloads"):
        _fetch_detector("retinaface_resnet50", downloads=False)
    _fetch_detector("retinaface_resnet50", downloads=True)
    assert (tmp_path / "cache" / path.name).is_file()


def test_a_photo_that_was_put_aside_can_be_searched_again(context: Context) -> None:
    """While memory is short, too: what it was before is given up, and not put aside once more."""
    tab = PhotoTab(replace(context, limits=Limits(max_memory_mb=1)), [])
    progress: Any = lambda done, **more: None  # noqa: E731
    for visitor in (VISITOR, SimpleNamespace(session_hash="other", headers={})):
        with context.sessions.use(visitor.session_hash) as session, context.sessions.listening(visitor.session_hash):
            session.wanted = PHOTO
            tab.open(visitor, "tiny")
            tab.restore(visitor, "tiny", progress)
    with context.sessions.use("visitor") as session:
        assert opened(session).nbytes == 0, "it is still in memory"
    tab.open(VISITOR, "tiny", threshold=0.7)
    assert "2 of 2 faces restored" in tab.restore(VISITOR, "tiny", progress)[1]


def test_a_stopped_search_leaves_the_photo_before(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tab = PhotoTab(context, [])
    other = tmp_path / "other.jpg"
    other.write_bytes(PHOTO.read_bytes())
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
    tab.open(VISITOR, "tiny")
    tab.restore(VISITOR, "tiny", quiet)

    def stopped(*given: Any) -> None:
        raise Cancelled("stopped")

    monkeypatch.setattr(context.engine, "find", stopped)
    with context.sessions.use("visitor") as session:
        session.wanted = other
    with pytest.raises(InputError, match="Stopped"):
        tab.open(VISITOR, "tiny")
    told, _, download, stop = tab.give_up(VISITOR)
    assert "2 of 2 faces restored" in told and download.visible and not stop.visible


def test_what_changes_nothing_does_nothing(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model chosen before there is a photo; a visit to a slider of the search, which tells of it as of a change."""
    tab, skipped = PhotoTab(context, []), [gr.skip()] * 4
    progress: Any = lambda done, **more: None  # noqa: E731
    assert tab.restore(VISITOR, "tiny", progress) == skipped and tab.look(VISITOR)[0] == gr.skip()
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
    assert tab.look(VISITOR)[0] != gr.skip()
    tab.open(VISITOR, "tiny", threshold=0.7)
    with context.sessions.use("visitor") as session:
        opened(session).included = {1}
    assert tab.open_again(VISITOR, "tiny", threshold=0.7) == skipped
    assert "1 of 2 faces" in tab.restore(VISITOR, "tiny", progress)[1]
    assert tab.open_again(VISITOR, "tiny", threshold=0.6) != skipped
    with context.sessions.use("visitor") as session:
        assert opened(session).included == {0, 1}


def test_a_full_disk_does_not_fail_the_next_visitor(context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another's photo cannot be put aside then: it stays in memory, and the log says so."""
    tab = PhotoTab(replace(context, limits=Limits(max_memory_mb=1)), [])
    progress: Any = lambda done, **more: None  # noqa: E731
    visitors = (VISITOR, SimpleNamespace(session_hash="other", headers={}))
    (tmp_path / "file").touch()
    with context.sessions.use("visitor") as first, context.sessions.use("other") as second:
        with context.sessions.listening("visitor"), context.sessions.listening("other"):
            for visitor, session in zip(visitors, (first, second), strict=True):
                session.wanted = PHOTO
                tab.open(visitor, "tiny")
                assert "2 of 2 faces restored" in tab.restore(visitor, "tiny", progress)[1]
                opened(session).folder = tmp_path / "file"  # no folder: nothing can be written into it
        assert opened(first).nbytes > 0
    assert "A photo stays in memory" in caplog.text


def test_a_photo_for_which_memory_is_short_leaves_the_one_before(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = PhotoTab(context, [])

    def short(path: Path, **how: Any) -> None:
        raise MemoryError

    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr("web.context.read_photo", short)
            tab.open(VISITOR, "tiny")
        assert session.wanted is None
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        session.wanted = PHOTO.with_name("degraded.jpg")
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr("web.context.read_photo", short)
            tab.open(VISITOR, "tiny")
        assert session.wanted == PHOTO


def test_which_faces_are_sharp_is_judged_for_the_model_that_is_chosen(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the command; what was clicked stays, but where the judgement is another one."""
    larger = tmp_path / "larger.safetensors"
    save_model(PFR(PFRConfig(size=32, narrow=1 / 32, style_dim=16, n_mlp=2)), larger, provenance={}, licence="none of note")
    context.engine.models["larger"] = str(larger)
    judged = list[int]()

    def is_sharp(image: Any, face: Any, *, side: int, scale: float) -> bool:
        judged.append(side)
        return bool(side == 16 and face.box[0] > image.shape[1] / 2)  # the right one, to the smaller model

    monkeypatch.setattr("pfr_core.find.is_sharp", is_sharp)
    tab = PhotoTab(context, [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        told = tab.open(VISITOR, "tiny")[1]
        state = opened(session)
        assert (state.included, state.sharp) == ({0}, {1}) and say(VISITOR, "left_sharp", count=1) in told
        assert "1 of 2 faces restored" in tab.restore(VISITOR, "tiny", quiet)[1]
        state.included = set()  # clicked out
        stage, told, *_ = tab.restore(VISITOR, "larger", quiet)
        assert [face["included"] for face in stage["faces"]] == [False, True] and "1 of 2 faces restored" in told
        tab.ask_to_stop(VISITOR)
        with pytest.raises(InputError, match="Stopped"):
            tab.restore(VISITOR, "tiny", quiet)
        assert state.included == {1}, "what is on the page stays"
        tab.arm(VISITOR)
        assert "None of 2 faces restored" in tab.restore(VISITOR, "tiny", quiet)[1]
    assert {*judged} == {16, 32}


def test_faces_are_numbered_as_everywhere(context: Context) -> None:
    tab = PhotoTab(context, [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
    tab.open(VISITOR, "tiny")
    *_, pairs = tab.restore(VISITOR, "tiny", quiet)
    assert [name for _, name in pairs] == ["Face 0", "Face 1"]
    assert "number + 1" not in (ASSETS / "stage.js").read_text("utf-8")


def test_a_batch_goes_on_whatever_an_error_is_about(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is packed already is not to be lost, also where a command would end, for the same came of every photo."""
    errors = iter([NotFiniteError("0.jpg: no numbers"), CheckpointError("no model"), KeyError("a defect"), MemoryError()])
    uploads, real = [str(tmp_path / f"{number}.jpg") for number in range(5)], PhotoSession.restore
    for upload in uploads:
        shutil.copy(PHOTO, upload)

    def restore(self: Any, *given: Any, **how: Any) -> Any:
        for error in errors:
            raise error
        return real(self, *given, **how)

    monkeypatch.setattr(PhotoSession, "restore", restore)
    told, *_, report = BatchTab(context).run_batch(VISITOR, uploads, "tiny", quiet)
    assert told == "**4 failed, 1 restored**"
    for word in ("<td>no numbers", "no model", "Something went wrong on the server", say(VISITOR, "row_memory")):
        assert report.count(word) == 1, word


def test_a_batch_tells_how_many_photos_there_are(context: Context, tmp_path: Path) -> None:
    """Folders of a zip file, and what programs leave in it, are none; nor are those beyond the limit."""
    names = ["album/", "album/a.txt", "b.txt", "__MACOSX/._b.txt", ".DS_Store", "c.txt"]
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as content:
        for name in names:
            content.writestr(name, b"")
    for most, totals in ((100, [3, 3, 3]), (2, [2])):  # of a zip file with more nothing is taken
        seen: list[int] = []

        def progress(done: Any, seen: list[int] = seen, **more: Any) -> None:
            seen.append(done[1])

        tab = BatchTab(replace(context, limits=Limits(max_files=most)))
        tab.run_batch(VISITOR, [str(tmp_path / "album.zip")], "tiny", progress)
        assert seen == totals


def test_a_full_disk_leaves_what_is_done_of_a_batch(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, uploads = OSError(errno.ENOSPC, "No space left on device"), [str(tmp_path / f"{number}.jpg") for number in range(4)]
    for upload in uploads:
        shutil.copy(PHOTO, upload)

    def failing(do: Callable[..., Any], which: int) -> Callable[..., Any]:
        calls = iter(range(len(uploads)))

        def act(*given: Any) -> Any:
            if next(calls) == which:
                raise full
            return do(*given)

        return act

    monkeypatch.setattr("web.batch.pictures.save_shown", failing(save_shown, 1))
    monkeypatch.setattr("web.batch.pack", failing(pack, 1))  # of the third, as the second does not come so far
    told, packed, gallery, report = BatchTab(context).run_batch(VISITOR, uploads, "tiny", quiet)
    assert told == "**2 restored, 2 failed**" and len(gallery.value) == 2
    assert report.count("cannot be written (No space left on device); free some space") == 2
    with zipfile.ZipFile(packed.value["path"]) as content:
        assert content.namelist() == ["0_restored.jpg", "3_restored.jpg"] and content.testzip() is None
    with context.sessions.use("visitor") as session:
        kept = [file.name for file in session.folder.rglob("*") if file.is_file()]
    assert "restored.zip" in kept and not [name for name in kept if "_restored" in name], "they would take room"


def test_a_full_disk_is_no_defect(context: Context) -> None:
    german: Any = SimpleNamespace(headers={"accept-language": "de"})
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "result: cannot be written (No space left on device); free some space" in context.page_error(full).message
    assert "Ergebnis: Kann auf dem Server nicht gespeichert werden" in context.page_error(full, german).message
    assert "Something went wrong" in context.page_error(FileNotFoundError(errno.ENOENT, "No such file")).message


@pytest.mark.parametrize("seed", [None, -1, 0.5])
def test_what_is_no_seed_is_named(context: Context, seed: object) -> None:
    """By us, in the visitor's language: Gradio would do it in English."""
    tab = DegradeTab(context, PHOTO)
    (field,) = [each for each in gr.context.Context.root_block.blocks.values() if isinstance(each, gr.Number)]
    settings: dict[str, Any] = {"blur": "none", "sigma": 2.0, "scale": 2.0, "noise": 5.0, "quality": 50.0}
    with pytest.raises(InputError, match="Seed must be a whole number"):
        tab.run(VISITOR, str(PHOTO), "tiny", **settings, seed=field.preprocess(seed))


def test_of_too_many_faces_the_largest_are_restored_and_no_more(context: Context) -> None:
    tab = PhotoTab(replace(context, limits=Limits(max_faces=1)), [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        told = tab.open(VISITOR, "tiny")[1]
        sizes = [face.size for face in opened(session).faces]
        assert opened(session).included == {sizes.index(max(sizes))} and say(VISITOR, "too_many", most=1) in told
        assert "1 of 2 faces restored" in tab.restore(VISITOR, "tiny", quiet)[1]
        tab.toggle(VISITOR, SimpleNamespace(_data={"index": 9}))  # there is no such face
        tab.toggle(VISITOR, SimpleNamespace(_data={"index": sizes.index(max(sizes)), "photo": "the one before"}))
        assert len(opened(session).included) == 1
        tab.toggle(VISITOR, SimpleNamespace(_data={"index": sizes.index(min(sizes))}))
        with pytest.raises(InputError, match="max_faces"):
            tab.restore(VISITOR, "tiny", quiet)


def test_a_click_that_fails_leaves_the_face_as_it_was(context: Context) -> None:
    """The page shows it so again."""
    tab = PhotoTab(replace(context, limits=Limits(max_pixels=1_000_000)), [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        tab.restore(VISITOR, "tiny", quiet)
        with pytest.raises(InputError, match="smaller scale"):
            tab.toggle(VISITOR, SimpleNamespace(_data={"index": 0}), scale=4.0)
        assert opened(session).included == {0, 1}


def test_of_several_photos_at_once_the_first_is_opened_and_it_is_said(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("web.photo.gr.Info", said.append)
    upload = context.sessions.root / "uploads" / "a.jpg"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(PHOTO.read_bytes())
    PhotoTab(context, []).take(VISITOR, SimpleNamespace(_data={"path": str(upload), "of": 2}))
    assert said == [say(VISITOR, "first_of_several")]


def test_a_stopped_restoration_can_be_begun_again(context: Context) -> None:
    tab = PhotoTab(context, [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        tab.ask_to_stop(VISITOR)
        with pytest.raises(InputError, match="Stopped"):
            tab.restore(VISITOR, "tiny", quiet)
        told, _, _, stop = tab.give_up(VISITOR)
        assert told == say(VISITOR, "not_restored") and not stop.visible
        with pytest.raises(InputError, match="Nothing is restored yet"):
            tab.save(VISITOR)
        tab.arm(VISITOR)
        assert "2 of 2 faces restored" in tab.restore(VISITOR, "tiny", quiet)[1]


def test_a_photo_whose_opening_was_refused_is_wanted_no_more(context: Context) -> None:
    """A full queue refuses before the opening begins: the photo before is what the page is about; or the one that waits yet."""
    tab = PhotoTab(context, [])
    uploads = [context.sessions.root / "uploads" / f"{number}.jpg" for number in range(3)]
    uploads[0].parent.mkdir(parents=True)

    def drop(upload: Path) -> None:
        shutil.copy(PHOTO, upload)
        tab.take(VISITOR, SimpleNamespace(_data={"path": str(upload)}))

    with context.sessions.use("visitor") as session:
        drop(uploads[0])
        tab.open_dropped(VISITOR, "tiny")
        tab.restore(VISITOR, "tiny", quiet)
        drop(uploads[1])
        told, _, download, stop = tab.give_up_dropped(VISITOR)
        assert "2 of 2 faces restored" in told and download.visible and not stop.visible
        drop(uploads[1])
        drop(uploads[2])
        told, _, download, stop = tab.give_up_dropped(VISITOR)
        assert told == say(VISITOR, "looking") and stop.visible
        tab.open_dropped(VISITOR, "tiny")
        assert opened(session).path == uploads[2]
        drop(uploads[1])
        tab.give_up_dropped(VISITOR)
        assert session.wanted == uploads[2]


def test_another_model_that_is_stopped_leaves_the_result_before(context: Context) -> None:
    tab = PhotoTab(context, [])
    context.engine.models["other"] = context.engine.models["tiny"]
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        tab.restore(VISITOR, "tiny", quiet)
        before = opened(session).work
        tab.ask_to_stop(VISITOR)
        with pytest.raises(InputError, match="Stopped"):
            tab.restore(VISITOR, "other", quiet)
        assert opened(session).work is before and "2 of 2 faces restored" in tab.save(VISITOR)[1]
        tab.arm(VISITOR)
        tab.restore(VISITOR, "other", quiet)
        assert opened(session).work is not before


def test_a_face_left_out_while_the_network_s_options_change_is_restored_anew(context: Context) -> None:
    tab = PhotoTab(context, [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        tab.restore(VISITOR, "tiny", quiet)
        state = opened(session)
        state.included = {0}
        assert state.work is not None
        state.take(state.work, state.how)
        state.included = {0, 1}
        assert state.complete, "as before: nothing to do"
        state.included = {0}
        state.take(state.work, ("tiny", 0.9))
        state.included = {0, 1}
        assert not state.complete


def test_a_search_that_this_server_refuses_leaves_the_photo_before(context: Context, tmp_path: Path) -> None:
    tab = PhotoTab(context, [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        session.wanted = Path(shutil.copy(PHOTO, tmp_path / "another.jpg"))
        with pytest.raises(InputError, match="detection_size is 8192"):
            tab.open(VISITOR, "tiny", detection_size=8192)
        assert session.wanted == PHOTO and session.photo is not None


@pytest.mark.parametrize(("limit", "usual"), [(64, 64), (1000, 1000), (1280, 1280), (8192, 1280)])
def test_a_limit_below_the_usual_size_becomes_the_usual_size_of_every_tab(
    context: Context, monkeypatch: pytest.MonkeyPatch, limit: int, usual: int
) -> None:
    limited = replace(context, limits=Limits(max_detection_size=limit))
    control = limited.controls("detection_size")["detection_size"]
    assert (control.value, control.maximum) == (usual, limit)
    assert limited.options({"strength": 0.5}).detection_size == usual
    assert limited.options({"detection_size": 64}).detection_size == 64
    asked = list[int]()

    def find(image: Any, options: RestoreOptions, should_stop: Any) -> Found:
        asked.append(options.detection_size)
        return Found([], [])

    monkeypatch.setattr(limited.engine, "find", find)
    settings: dict[str, Any] = {"blur": "none", "sigma": 2.0, "scale": 2.0, "noise": 5.0, "quality": 50.0, "seed": 0}
    with pytest.raises(InputError, match="No face was found"):
        DegradeTab(limited, PHOTO).run(VISITOR, str(PHOTO), "tiny", **settings)
    assert asked == [usual]


def test_the_detector_of_the_page_goes_no_further_than_it_is_told() -> None:
    assert Engine({}, device="cpu", closest=1000)._detector.closest == 1000


def test_what_was_refused_for_its_scale_begins_with_another(context: Context) -> None:
    tab = PhotoTab(replace(context, limits=Limits(max_pixels=1_000_000)), [])
    arm = tab.arm_if(lambda session, photo: photo.too_large)
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        with pytest.raises(InputError, match="scale"):
            tab.restore(VISITOR, "tiny", quiet, scale=4.0)
        assert arm(VISITOR)[0] == "Restoring ..."
        assert "2 of 2 faces restored" in tab.restore(VISITOR, "tiny", quiet, scale=1.0)[1]
        with pytest.raises(gr.Error) as nothing:  # which ends Gradio's chain without a word
            arm(VISITOR)
        assert not nothing.value.visible


def test_a_restoration_that_is_still_to_come_can_be_stopped(context: Context) -> None:
    """Another model was chosen meanwhile: the older result is not what Download is to give."""
    tab = PhotoTab(context, [])
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
        tab.open(VISITOR, "tiny")
        earlier: Any = SimpleNamespace(session_hash="visitor", headers={ASKED: repr(time.monotonic() - 1)})
        tab.arm(VISITOR)
        tab.restore(earlier, "tiny", quiet)
        _, _, download, stop = tab.disarm(VISITOR)
        assert not download.visible and stop.visible
        tab.restore(VISITOR, "tiny", quiet)
        _, _, download, stop = tab.disarm(VISITOR)
        assert download.visible and not stop.visible


def test_no_change_is_lost_while_another_is_on_its_way(context: Context) -> None:
    """Gradio's own mode drops it, also of an event that follows another."""
    PhotoTab(context, [])
    modes = {(event.name, event.trigger_mode) for event in gr.context.Context.root_block.fns.values()}
    assert {mode for name, mode in modes if name in ("look", "open_again", "change")} == {"always_last"}
    assert {mode for name, mode in modes if name in ("take", "open_dropped", "toggle")} == {"multiple"}
    assert ("restore", "always_last") in modes


def test_a_request_s_line_is_that_of_its_event(context: Context) -> None:
    """Of the networks' events one; what names none as Gradio's clients do has none."""
    Api(context)
    PhotoTab(context, [])
    page = gr.context.Context.root_block
    numbers = {event.name: number for number, event in page.fns.items()}
    assert line_of(page, "queue/join", {"fn_index": numbers["open_dropped"]}) == GPU_QUEUE["concurrency_id"]
    assert line_of(page, "call/restore", {}) == line_of(page, "call/v2/detect", {}) == GPU_QUEUE["concurrency_id"]
    quick = {line_of(page, "queue/join", {"fn_index": numbers[name]}) for name in ("save", "change", "toggle")}
    assert len(quick) == 3 and not quick & {GPU_QUEUE["concurrency_id"], None}
    strange: list[Any] = [None, "0", -1, 10**9, [0]]
    assert {line_of(page, "queue/join", {"fn_index": each}) for each in strange} == {line_of(page, "call/nothing", {})} == {None}


def test_who_waits_for_the_networks_keeps_nobody_else_waiting(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as another's clip is restored, a mask that needs a network waits; other changes do not."""
    tab, others = PhotoTab(context, []), [SimpleNamespace(session_hash=str(number), headers={}) for number in range(3)]
    with context.sessions.use("visitor") as session:
        session.wanted = PHOTO
    tab.open(VISITOR, "tiny")
    tab.restore(VISITOR, "tiny", quiet)
    monkeypatch.setattr(context.engine, "masks", ["box", "parse"])
    monkeypatch.setattr("web.engine.ASKED_EVERY", 0.01)
    monkeypatch.setattr("web.engine.around", lambda *given: [])  # nothing is downloaded before it
    waits = threading.Semaphore(0)

    def asked(should_stop: Callable[[], bool]) -> None:
        waits.release()
        check_stop(should_stop)

    monkeypatch.setattr("web.engine.check_stop", asked)
    with ThreadPoolExecutor() as pool, context.engine.finding():
        waiting = [pool.submit(tab.change, other, mask="parse") for other in others]
        assert all(waits.acquire(timeout=60) for _ in others)
        changed = pool.submit(tab.change, VISITOR, strength=0.5)
        assert "2 of 2 faces restored" in changed.result(timeout=60)[1]
        for other in others:
            context.sessions.page_closed(other.session_hash)
        for each in waiting:
            with pytest.raises(InputError, match="Stopped"):
                each.result(timeout=60)
