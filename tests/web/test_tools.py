"""Endpoints as tools over MCP: addresses of uploads for uploads, and the end of work that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from web.door import Door, Hosts
from web.guard import _name_by_path
from web.limits import Limits
from web.sessions import CALL, Job, Sessions

HOST = "127.0.0.1:7860"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (f"http://{HOST}/gradio_api/file=/tmp/a%20b.jpg", "/tmp/a b.jpg"),
        (f"https://{HOST}/below/gradio_api/file=/tmp/a.jpg", "/tmp/a.jpg"),
        ("http://evil.example/gradio_api/file=/tmp/a.jpg", None),
        (f"http://{HOST}@evil.example/gradio_api/file=/tmp/a.jpg", None),
        (f"ftp://{HOST}/gradio_api/file=/tmp/a.jpg", None),
        (f"http://{HOST}/photo.jpg", None),
    ],
)
def test_only_an_address_of_this_server_stands_for_an_upload(given: str, path: str | None) -> None:
    value = {"path": given, "url": given}
    _name_by_path(value, {"host": HOST})
    assert value == ({"path": given, "url": given} if path is None else {"path": path})


def test_a_tool_works_no_longer_than_its_caller_waits(tmp_path: Path) -> None:
    """The session is Gradio's client's and goes on; the call ends."""
    sessions = Sessions(tmp_path, keep=60)
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"{}"
        call = dict(scope["headers"])[CALL.encode()].decode()
        with sessions.use("gradio") as session, sessions.listening("gradio"):
            job = Job(session, None, 60, lambda: sessions.has_hung_up(call))
            seen.append(job.should_stop())
            await receive()
            seen.append(job.should_stop())

    messages = iter([{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None: ...

    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/mcp/", "query_string": b"", "client": ("10.0.0.1", 1),
        "headers": [(b"host", HOST.encode())],
    }  # fmt: skip
    queue: dict[str, Any] = {"places": lambda: [], "line": lambda *_: None}
    asyncio.run(Door(app, sessions=sessions, limits=Limits(), hosts=Hosts("127.0.0.1"), **queue)(scope, receive, send))
    assert seen == [False, True]


def test_what_a_program_sent_long_ago_counts_no_more(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, keep=0.2, max_mb=0.0015)
    sessions.close()  # its sweeper would take a file that is not held yet
    for number in range(3):
        (folder := tmp_path / str(number)).mkdir()
        (folder / "a.jpg").write_bytes(bytes(1000))
        sessions.hold("program", [str(folder / "a.jpg")])
        time.sleep(0.3)
