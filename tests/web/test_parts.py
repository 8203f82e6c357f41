"""The parts of the web page that need no browser and no server: zip files, sessions, results."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pfr_core.errors import ImageError, InputError
from pfr_core.photo.photo import Photo, Provenance
from pfr_core.photo.read import read_photo
from pfr_core.photo.restored import own_suffix, write_restored
from pfr_core.photo.write import write_photo

ClientDisconnect = pytest.importorskip("starlette.requests").ClientDisconnect

from web.archive import Entry, Unbuffered, opened, pack, unpack  # noqa: E402
from web.cli import _others_reach, _private_folder, _read_auth, build_parser, main  # noqa: E402
from web.door import Door, Hosts, Place  # noqa: E402
from web.limits import Limits  # noqa: E402
from web.pictures import save_shown  # noqa: E402
from web.sessions import ASKED, LATE, LEFT, NEVER_HEARD, Job, Sessions  # noqa: E402

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# --- Zip files -------------------------------------------------------------------------------------------------------


def make_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


def entries(archive: Path, limits: Limits | None = None) -> list[Entry]:
    folder = archive.parent / "out"
    folder.mkdir(exist_ok=True)
    return list(unpack(archive, folder, limits or Limits()))


def test_photos_come_out_of_a_zip_file_and_nothing_leaves_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    evil = ["../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
    names = ["a.jpg", "album/a.jpg", *evil, "notes.txt", "__MACOSX/._a.jpg", "."]
    names += ["@eaDir/a.jpg/thumb.jpg", ".thumbnails/a.png", "album/desktop.ini"]
    found = entries(make_zip(inside / "photos.zip", {name: name.encode() for name in names}))
    assert [(entry.name, entry.path is not None) for entry in found][:2] == [("a.jpg", True), ("album/a.jpg", True)]
    assert [entry.path.read_bytes() for entry in found if entry.path] == [b"a.jpg", b"album/a.jpg"]
    refused = [(entry.name, entry.problem) for entry in found if not entry.path]
    assert ["out of the zip file's folder" in text for _, text in refused] == [True] * 4 + [False, True]
    assert refused[4] == ("notes.txt", "not a photo; left out.")
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"photos.zip", "0.jpg", "1.jpg"}


def test_names_in_a_zip_file_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """Many programs write UTF-8 and do not say so; a name may be longer than this disk takes."""
    archive = make_zip(tmp_path / "a.zip", {"Gr__e/1.jpg": b"1", f"{'y' * 300}.jpg": b"2"})
    archive.write_bytes(archive.read_bytes().replace(b"Gr__e", "Gräe".encode()))
    found = entries(archive)
    assert [entry.name for entry in found] == ["Gräe/1.jpg", f"{'y' * 300}.jpg"]
    assert [entry.path.read_bytes() for entry in found if entry.path] == [b"1", b"2"]


def test_a_zip_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {f"{number}.png": bytes(4_000_000) for number in range(3)})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(ImageError, match=r"bomb.zip: it unpacks to more than 5 MB"):
        entries(bomb, Limits(max_unpacked_mb=5))
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.png")) <= 5_000_000
    with pytest.raises(ImageError, match="3 files in it; the limit is 2"):
        entries(bomb, Limits(max_files=2))


def test_a_zip_file_of_very_many_entries_is_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes half a kilobyte of memory, and 46 bytes of an upload; folders are no photos, but there may be some."""
    archive = make_zip(tmp_path / "many.zip", {f"{number}/": b"" for number in range(1000)})
    with opened(archive, Limits(max_files=1)) as content:
        assert len(content.namelist()) == 1000
    assert entries(archive, Limits(max_files=1)) == []
    make_zip(archive, {f"{number:0>50}/": b"" for number in range(11_000)})
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("an entry is read"))
    with pytest.raises(ImageError, match=r"many.zip: its list of files is longer than 100 photos need \(max_files\)"):
        entries(archive)


def test_a_damaged_zip_file_and_a_damaged_entry_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK but no more")
    with pytest.raises(ImageError, match=r"broken\.zip: not a zip file"):
        entries(broken)
    archive = make_zip(tmp_path / "half.zip", {"bad.jpg": os.urandom(2000), "good.jpg": b"good"})
    data = bytearray(archive.read_bytes())
    data[600:700] = bytes(100)
    archive.write_bytes(data)
    odd = make_zip(tmp_path / "odd.zip", {"\xe4.jpg": b"1"})  # a name that says that it is UTF-8
    odd.write_bytes(odd.read_bytes().replace("\xe4.jpg".encode(), b"\xff\xff.jpg"))
    with pytest.raises(ImageError, match=r"odd\.zip: not a zip file, or damaged"):
        entries(odd)
    bad, good = entries(archive)
    assert bad.path is None and "damaged" in bad.problem and good.path and good.path.read_bytes() == b"good"


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit of size there")
def test_a_zip_file_without_room_for_a_result_keeps_the_others(tmp_path: Path) -> None:
    import resource

    sizes = {"a": 50_000, "b": 80_000, "c": 20_000}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Unbuffered(tmp_path / "all.zip", "w+") as stream, zipfile.ZipFile(stream, "w") as archive:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            pack(archive, stream, tmp_path / "a", "a")
            with pytest.raises(OSError, match="too large"):
                pack(archive, stream, tmp_path / "b", "b")
            assert (tmp_path / "all.zip").stat().st_size < 51_000, "the half of it takes room"
            pack(archive, stream, tmp_path / "c", "c")
            archive.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {
            name: (tmp_path / name).read_bytes() for name in ("a", "c")
        }


# --- Sessions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    made = Sessions(tmp_path, keep=3600)
    made.close()  # the sweeper: the tests sweep themselves
    return made


def upload(root: Path, name: str = "a.jpg", age: float = 0) -> Path:
    path = root / ("f" * 64) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_files_go_when_nobody_holds_them_any_more(sessions: Sessions) -> None:
    path = upload(sessions.root)
    sessions.hold("one", [str(path)])
    sessions.hold("two", [str(path)])
    with sessions.present("one"):
        sessions.page_opened("one")
        sessions.page_closed("two")
        with sessions.use("two") as second:
            result = second.new_folder() / "result.png"
            result.write_bytes(b"x")
            sessions.keep = -1  # everything is old now
            sessions.sweep()
            assert result.exists() and path.exists(), "the session was at work"
        sessions.sweep()
        assert not result.exists() and path.exists(), "the open page needs the upload"
        sessions.page_closed("one")
        with sessions.use("one") as first:
            assert first.ended.is_set(), "a closed page's jobs must end"
        sessions.sweep()
        assert path.exists(), "another connection of the page is open"
    sessions.sweep()
    assert list(sessions.root.iterdir()) == []


def test_a_folder_whose_upload_is_on_its_way_stays(sessions: Sessions) -> None:
    """Gradio makes the folder, and moves the file there later."""
    folder = sessions.root / ("f" * 64)
    folder.mkdir()
    sessions.sweep()
    assert folder.exists()
    sessions.keep = -1
    sessions.sweep()
    assert not folder.exists()


def test_a_page_is_there_as_long_as_it_says_so(sessions: Sessions) -> None:
    """By the connection that it keeps open, not by a word that anybody can send; and by nothing that is left behind."""
    sessions.keep = -1
    seen = list[bool]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sessions.page_opened("page")
        sessions.page_opened("liar")
        sessions.sweep()
        seen.extend([sessions.know("page"), sessions.know("liar")])
        sessions.page_closed("page")

    served = Served(sessions)
    served.door.app = app
    with pytest.raises(IndexError):  # it answers nothing
        served.ask("GET", "/gradio_api/heartbeat/page")
    sessions.sweep()
    assert seen == [True, False] and not sessions.know("page")
    with sessions.present("stranger"):
        sessions.page_closed("stranger")
    assert not sessions.know("stranger")


def test_a_stop_button_ends_the_job_beside_it_alone(sessions: Sessions) -> None:
    with sessions.use("one") as session, sessions.listening("one"):
        clip, photo, slider = (Job(session, None, 100, button=button) for button in ("clip", "photo", ""))
        session.stop("clip")
        assert clip.should_stop() and not photo.should_stop() and not slider.should_stop()
        session.arm("photo")
        assert clip.should_stop(), "another job begins, and this one is still to end"
        waited = time.monotonic() - 1
        session.arm("clip")
        assert session.expects("clip") and clip.should_stop()
        assert Job(session, None, 100, button="clip", asked=waited).should_stop(), "it was stopped while it waited"
        session.begin("clip", waited)
        job = Job(session, None, 100, button="clip")
        assert session.expects("clip") and not job.should_stop()
        session.begin("clip", job.asked)
        assert not session.expects("clip"), "the job that it was made ready for has begun"
        sessions.page_closed("one")
        assert clip.should_stop() and photo.should_stop() and slider.should_stop()


def test_results_of_a_client_that_stays_go_when_they_are_old(sessions: Sessions) -> None:
    sessions.longest = 100
    with sessions.use("client") as client, sessions.use("page") as page:
        sessions.page_opened("page")
        results = [session.new_folder() for session in (client, page)]
        for keep, there in ((3600, True), (-99, True), (-101, False)):  # a job that may take 100 s is at work
            sessions.keep = keep
            sessions.sweep()
            assert results[0].exists() is there and results[1].exists()
        assert client.new_folder().is_dir()


def test_a_page_keeps_the_last_two_results_of_a_kind_whatever_failed_since(sessions: Sessions) -> None:
    with sessions.use("page") as page:
        shown = [page.new_folder("clip") for _ in range(3)]
        other = page.new_folder("batch")
        assert [folder.exists() for folder in shown] == [False, True, True]
        for _ in range(3):  # jobs that fail take their folders along
            page.new_folder("clip").rmdir()
        assert shown[2].exists() and other.exists()


def test_a_client_that_listens_is_kept_and_a_silent_one_goes(sessions: Sessions) -> None:
    path = upload(sessions.root)
    sessions.hold("one", [str(path)])
    sessions.keep = -1
    with sessions.listening("one"):
        sessions.sweep()
        assert path.exists(), "it waits for its result"
    sessions.sweep()
    assert not path.exists()


def test_a_job_ends_when_its_visitor_leaves_cancels_or_is_late(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("web.sessions.time.monotonic", lambda: now[0])
    with sessions.use("one") as session:
        job, other = Job(session, "request", 100), Job(session, "other", 100)
        with sessions.listening("one"):
            now[0] += NEVER_HEARD + 1
            assert not job.should_stop(), "somebody listens"
            sessions.cancel("one", "other")
            assert other.should_stop() and not job.should_stop()
            now[0] += 100
            assert job.should_stop() and "max_job_seconds" in job.why
        later = Job(session, "later", 100)
        now[0] += LEFT + 0.1
        assert not later.should_stop(), "the stream is opened anew between two requests"
        with sessions.listening("one"):
            now[0] += LATE + 1
        assert not later.should_stop()
        now[0] += LEFT + 0.1
        assert later.should_stop()
        unheard = Job(session, "unheard", 100)
        now[0] += LATE + 0.1
        assert unheard.should_stop()
    with sessions.use("two") as session:
        never = Job(session, None, 100)
        assert not never.should_stop()
        now[0] += NEVER_HEARD + 1
        assert never.should_stop(), "nobody ever listened"


def test_uploads_have_a_limit_for_each_visitor(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, keep=3600, max_mb=1)
    sessions.close()
    paths = []
    for name in ("a", "b"):
        paths.append(upload(tmp_path, name))
        paths[-1].write_bytes(bytes(600_000))
    assert sessions.bytes_on_disk() == 1_200_000
    sessions.hold("one", [str(paths[0])])
    with pytest.raises(InputError, match=r"b: with it you have uploaded 1 MB; the limit is 1 MB \(max_session_mb\)"):
        sessions.hold("one", [str(paths[1])])
    sessions.hold("two", [str(paths[1])])


def test_what_a_killed_server_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "environ", {**os.environ})
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, which stays so
    left, other = tmp_path / "pfr-demo-left-held", tmp_path / "pfr-demo-of-mine"
    for folder in (left, other):
        folder.mkdir()
        (folder / "photo.jpg").touch()
    try:
        with _private_folder() as first, _private_folder() as second:
            assert first.is_dir() and second.is_dir(), "servers that run keep theirs"
            assert other.is_dir() and not left.exists()
            assert signal.getsignal(signal.SIGHUP) not in (signal.SIG_DFL, signal.SIG_IGN), "a terminal that is closed"
        assert list(tmp_path.iterdir()) == [other]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- The door ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listens_on", "known", "strange"),
    [
        (
            "127.0.0.1",
            ["localhost:7860", "127.0.0.1", "[::1]:80"],
            ["evil.example", "192.168.0.7:7860", "", "localhost.evil.example"],
        ),
        ("0.0.0.0", ["192.168.0.7:7860", "[fe80::1]:80", "localhost"], ["evil.example", "0x7f.1", "127.0.0.1.nip.io"]),
        ("photos.example", ["photos.example:443", "PHOTOS.example."], ["evil.example"]),
    ],
)
def test_a_request_must_name_this_server(listens_on: str, known: list[str], strange: list[str]) -> None:
    hosts = Hosts(listens_on, ["proxy.example", "*.tunnel.example"])
    assert [hosts.know(host) for host in [*known, "proxy.example", "a.tunnel.example"]] == [True] * (len(known) + 2)
    assert [hosts.know(host) for host in strange] == [False] * len(strange)


class Served:
    """The door with an application behind it that answers ``status``."""

    def __init__(self, sessions: Sessions, status: int = 200, **limits: float) -> None:
        self.passed: list[bytes] = []
        self.places: list[Place] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.root_path = ""
        self.line: str | None = "networks"

        async def app(scope: Any, receive: Any, send: Any) -> None:
            body, more = b"", scope["method"] == "POST"
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body, more = body + message["body"], message["more_body"]
            self.passed.append(body)
            self.headers = list(scope["headers"])
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        known = Limits(**limits)  # type: ignore[arg-type]
        self.door = Door(
            app, sessions=sessions, limits=known, hosts=Hosts("127.0.0.1"), places=lambda: self.places, line=lambda *_: self.line
        )

    def ask(
        self, method: str, path: str, body: bytes = b"", client: str = "10.0.0.1", query: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str]]:
        """Status and headers of an answer."""
        given = {
            "host": "127.0.0.1:7860",
            "content-length": str(len(body)),
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query, "client": (client, 1),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()], "root_path": self.root_path,
        }  # fmt: skip
        pieces = [{"type": "http.request", "body": body, "more_body": False}]
        said: list[Any] = []

        async def receive() -> Any:
            return pieces.pop(0) if pieces else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        asyncio.run(self.door(scope, receive, send))
        return said[0]["status"], {name.decode(): value.decode() for name, value in said[0]["headers"]}


def test_the_door_refuses_foreign_names_and_sites_and_forbids_frames(sessions: Sessions) -> None:
    served = Served(sessions)
    status, headers = served.ask("GET", "/")
    assert (
        status == 200 and headers["x-frame-options"] == "SAMEORIGIN" and "frame-ancestors" in headers["content-security-policy"]
    )
    assert served.ask("GET", "/", host="evil.example")[0] == 421
    for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/login"):
        assert served.ask("POST", path, b"{}", origin="http://evil.example")[0] == 403
        assert served.ask("POST", path, b"{}", sec_fetch_site="cross-site")[0] == 403
    assert (
        served.ask("POST", "/gradio_api/queue/join", b"{}", origin="http://127.0.0.1:7860", sec_fetch_site="same-origin")[0]
        == 200
    )
    assert served.ask("GET", "/gradio_api/proxy=http://evil.example")[0] == 404
    assert [served.ask("GET", f"/monitoring{more}")[0] for more in ("", "/summary", "/key")] == [404] * 3
    for path in ("file=https://evil.example/x", "file/https://evil.example/x", "file=//evil.example/x", "file=/etc/passwd"):
        assert served.ask("GET", f"/gradio_api/{path}")[0] == served.ask("HEAD", f"/gradio_api/{path}")[0] == 404, path
    assert served.ask("GET", f"/gradio_api/file={sessions.root / 'a' / 'photo.jpg'}")[0] == 200
    served.root_path = "/faces"
    for path in ("/faces/gradio_api/proxy=http://evil.example", "/gradio_api/proxy=http://evil.example"):
        assert served.ask("GET", path)[0] == 404, "whether the proxy passes on the path under which it shows the page or not"


def test_a_proxy_may_pass_on_another_host(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    """As nginx does unless it is told otherwise; but only for a page under a name that the operator gave in full."""
    served = Served(sessions)
    served.door.hosts = Hosts("127.0.0.1", ["photos.example", "*.tunnel.example"])

    def asked(origin: str, site: str = "none") -> int:  # which says nothing, as older browsers do
        return served.ask("POST", "/gradio_api/queue/join", b"{}", origin=origin, sec_fetch_site=site)[0]

    ours = ["https://photos.example", "http://PHOTOS.example:8080"]
    strange = ["https://evil.example", "https://a.tunnel.example", "https://photos.example.evil.example", "null", "http://[", ""]
    assert [asked(each, "same-origin") for each in ours] == [200] * len(ours)
    assert [asked(each) for each in strange] == [403] * len(strange)
    assert asked(ours[0], "same-site") == 403, "another page on that machine"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(ours) + len(strange), "each once"
    assert "'https://photos.example' asks for '127.0.0.1:7860'" in told[0] and "pass on Host" in told[0]
    for number in range(100):
        asked(f"https://{number}.example")
    assert len(caplog.records) < 20, "nobody fills the log so"


def test_the_door_counts_uploads_and_requests(sessions: Sessions) -> None:
    served = Served(sessions, max_session_mb=1, max_server_mb=3, max_waiting_each=2)
    assert served.ask("POST", "/gradio_api/upload", bytes(900_000))[0] == 200
    assert served.ask("POST", "/gradio_api/upload", bytes(1_100_000))[0] == 413
    assert served.ask("POST", "/gradio_api/upload", bytes(1_100_000), content_length="5")[0] == 413, "it said less than it sent"
    upload(sessions.root, "big").write_bytes(bytes(2_500_000))
    assert served.ask("POST", "/gradio_api/upload", bytes(900_000))[0] == 507
    assert served.ask("POST", "/gradio_api/queue/join", bytes(1_100_000))[0] == 413
    body = b'{"session_hash": "one", "data": []}'
    assert served.ask("POST", "/gradio_api/queue/join", body)[0] == 200 and served.passed[-1] == body
    served.places = [Place("one", "10.0.0.2", "a"), Place("one", "10.0.0.2", "b"), Place("two", "10.0.0.1", "c")]
    assert served.ask("POST", "/gradio_api/queue/join", body)[0] == 429
    assert served.ask("POST", "/gradio_api/call/restore", b'{"data": []}')[0] == 200, "another address has but one"
    assert served.ask("POST", "/gradio_api/call/restore", body)[0] == 429, "a program may have a session, too"


def test_a_line_is_full_for_those_who_would_wait_in_it(sessions: Sessions) -> None:
    """A download needs no network, and waits for nobody's; what names no event there is finds the lines all one."""
    served = Served(sessions, max_waiting=2)
    lines = "networks", "networks", "", "other"
    served.places = [Place(str(number), "", str(number), line) for number, line in enumerate(lines)]
    body = b'{"session_hash": "one", "data": []}'
    for served.line, status in (("networks", 429), ("other", 200), ("empty", 200), (None, 429)):
        assert served.ask("POST", "/gradio_api/queue/join", body)[0] == status, served.line
    served.places.pop(0)
    served.line = "networks"
    assert served.ask("POST", "/gradio_api/queue/join", body)[0] == 200, "what runs waits no more"


def test_only_a_request_that_waits_or_runs_can_be_cancelled(sessions: Sessions) -> None:
    served = Served(sessions)
    served.places = [Place("one", "10.0.0.1", "mine"), Place("two", "10.0.0.1", "other's")]
    with sessions.use("one") as session:
        for request in ('"mine"', '"other\'s"', '"' + "x" * 100_000 + '"', '["mine"]', "null"):
            served.ask("POST", "/gradio_api/cancel", f'{{"session_hash": "one", "event_id": {request}}}'.encode())
        assert [*session.cancelled] == ["mine"]
        for number in range(1000):
            served.places = [Place("one", "10.0.0.1", str(number))]
            served.ask("POST", "/gradio_api/cancel", f'{{"session_hash": "one", "event_id": "{number}"}}'.encode())
        assert len(session.cancelled) < 1000 and Job(session, "999", 100).should_stop(), "the last ones count"


def test_nobody_is_known_who_asked_for_nothing_or_was_refused(sessions: Sessions) -> None:
    path = upload(sessions.root)
    served, refused = Served(sessions), Served(sessions, 401)
    body = f'{{"session_hash": "stranger", "data": [{{"path": "{path}"}}]}}'.encode()
    refused.ask("POST", "/gradio_api/queue/join", body)
    served.ask("GET", "/gradio_api/queue/data", query=b"session_hash=stranger")
    served.ask("GET", "/gradio_api/call/restore/stranger")
    assert not sessions.know("stranger")
    served.ask("POST", "/gradio_api/queue/join", body)
    assert sessions.know("stranger")


def test_the_door_knows_who_listens(sessions: Sessions) -> None:
    """By the session, or by a request of it: one that has a session hash of its own, or is its own session."""
    served = Served(sessions)
    served.places = [Place("program", "10.0.0.1", "request"), Place("alone", "10.0.0.1", "alone")]
    for key, path, query in (
        ("program", "call/restore/request", b""),
        ("alone", "call/restore/alone", b""),
        ("page", "queue/data", b"session_hash=page"),
    ):
        with sessions.use(key) as session:
            assert session.heard is None
            served.ask("GET", f"/gradio_api/{path}", query=query)
            assert session.heard is not None, key


def test_the_door_alone_says_when_a_request_came(sessions: Sessions) -> None:
    served, before = Served(sessions), time.monotonic()
    served.ask("POST", "/gradio_api/queue/join", b"{}", x_pfr_asked="1e9")
    (asked,) = (float(value) for name, value in served.headers if name == ASKED.encode())
    assert before <= asked <= time.monotonic()


def test_wrong_passwords_are_tried_ever_more_slowly(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("web.door.time.monotonic", lambda: now[0])
    served = Served(sessions, 400)
    assert [served.ask("POST", "/login", b"x")[0] for _ in range(6)] == [400] * 3 + [429] * 3
    now[0] += 1.1
    assert [served.ask("POST", "/login", b"x")[0] for _ in range(2)] == [400, 429]
    now[0] += 1.1
    status, headers = served.ask("POST", "/login", b"x")
    assert status == 429 and headers["retry-after"] == "1", "the pause doubles"
    now[0] += 5000
    assert served.ask("POST", "/login", b"x")[0] == 400, "forgotten"
    same_network = [served.ask("POST", "/login", b"x", client=f"2001:db8::{number}")[0] for number in range(1, 6)]
    assert same_network == [400] * 3 + [429] * 2 and served.ask("POST", "/login", b"x", client="2001:db8:0:1::1")[0] == 400


def test_young_uploads_and_the_pages_own_files_stay(sessions: Sessions) -> None:
    waiting, example = upload(sessions.root), upload(sessions.root, "example.jpg")
    sessions.sweep()
    assert waiting.exists(), "an upload just made, whose request is not here yet"
    sessions.keep_forever([example])
    sessions.keep = -1
    sessions.sweep()
    assert example.exists() and not waiting.exists()


def test_nobody_gets_at_another_visitors_results(sessions: Sessions) -> None:
    with sessions.use("one") as session:
        result = session.new_folder() / "result.png"
        result.touch()
    sessions.hold("one", [str(result)])
    with pytest.raises(InputError, match=r"result.png: this file is not yours"):
        sessions.hold("two", [str(result)])
    for gone in (result.with_name("gone.png"), sessions.root):
        with pytest.raises(InputError, match="upload it again"):
            sessions.hold("two", [str(gone)])


# --- Results, command line, limits ---------------------------------------------------------------------------------


def test_results_keep_the_photos_own_format(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    mark = Provenance("model", "0" * 64)
    for name, suffix in {"a.JPG": ".JPG", "b.tif": ".tif", "c.webp": ".webp"}.items():
        write_photo(tmp_path / name, pixels)
        photo = read_photo(tmp_path / name)
        assert own_suffix(photo) == suffix
        target = tmp_path / f"new{suffix}"
        write_restored(target, photo, photo.pixels, changed=False, provenance=mark)
        assert target.read_bytes() == (tmp_path / name).read_bytes(), "nothing changed: a copy"
        write_restored(target, photo, photo.pixels[::-1], changed=True, provenance=mark)
        assert read_photo(target).format == photo.format
        assert b"compositeWithTrainedAlgorithmicMedia" in (read_photo(target).xmp or b"")
    (tmp_path / "a.JPG").rename(tmp_path / "liar.png")
    assert own_suffix(read_photo(tmp_path / "liar.png")) == ".jpg"


@pytest.mark.parametrize("profile", [None, SRGB[:16] + b"GRAY" + SRGB[20:]], ids=["none", "of gray"])
def test_a_gray_photo_that_got_colour_is_shown_in_colour(tmp_path: Path, profile: bytes | None) -> None:
    pixels = np.full((32, 48, 3), 90, np.uint8)
    photo = Photo(pixels, tmp_path / "a.jpg", "JPEG", gray=True, icc=profile)
    with Image.open(save_shown(tmp_path / "gray", pixels, photo)) as shown:
        assert shown.mode == "L" and shown.info.get("icc_profile") == profile
    pixels[..., 2] = 30
    with Image.open(save_shown(tmp_path / "coloured", pixels, photo)) as shown:
        assert shown.mode == "RGB" and np.abs(np.asarray(shown).astype(int) - pixels).max() < 5
        assert not shown.info.get("icc_profile")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--auth", "missing.txt"], "missing.txt: cannot be read"),
        (["--max-files", "0"], "max_files is 0; it must be"),
        (["--port", "99999"], "--port is 99999; it must be from 1 to 65535"),
        (["--model", "nosuch"], "nosuch: no such model file"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PFR_OFFLINE", "FORWARDED_ALLOW_IPS"):
        monkeypatch.setenv(name, "")  # what the command sets goes with the test
    monkeypatch.setattr("web.page.build_page", lambda *_: pytest.fail("it serves"))
    assert main(arguments) > 0
    assert words in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_a_login_file_may_be_one_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "logins.txt"
    path.write_bytes("\ufeffanna:gehe:im\r\n\r\n# nobody\r\nbert:x\r\n".encode())
    assert _read_auth(path) == [("anna", "gehe:im"), ("bert", "x")]


@pytest.mark.parametrize(
    ("arguments", "reached"),
    [
        ("", False),
        ("--host localhost", False),
        ("--host 0.0.0.0", True),
        ("--share", True),
        ("--allow-host photos.example", True),
    ],
)
def test_who_may_reach_the_page_is_known(arguments: str, reached: bool) -> None:
    assert _others_reach(build_parser().parse_args(arguments.split())) is reached


def test_limits_say_what_to_do(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", np.zeros((200, 300, 3), np.uint8))
    photo = read_photo(tmp_path / "a.png")
    Limits(max_pixels=240_000).check_scale(photo, 2)
    with pytest.raises(InputError, match=r"enlarged 2 times, 300 x 200 pixels become more .* smaller scale"):
        Limits(max_pixels=239_999).check_scale(photo, 2)
