"""The door of the server: what every HTTP request must pass before Gradio sees it, and what is known of those who listen.

A page on a private address is reached by every web site that its owner visits, so a request must name a host that is ours and
come from no other site. Uploads, requests and logins are counted here, because Gradio asks nobody before it takes them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pfr_core.errors import InputError

from .limits import Limits
from .sessions import ASKED, CALL, Sessions
from .texts import translated

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PREFIX = "/gradio_api"
HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
CLOSED = (
    "process_recording", "proxy=", "file/", "component_server", "vibe-", "undo-vibe", "run-history", "runs", "dev/", "profiling",
    "monitoring",
)  # fmt: skip
"""Paths of Gradio's that this page does not use, and that fetch, keep or run what a stranger sends, or tell of other visitors."""
FILE = "file="
"""Begins the path of a file; Gradio fetches what follows it if that is an address."""
PRESENT = "heartbeat/"
"""Begins the path of what a page or client keeps open as long as it is there."""
LARGEST_BODY = 1_000_000
"""Bytes of a request that is no upload: settings and names of files (ours)."""
FREE_LOGINS, LONGEST_PAUSE, FORGOTTEN = 3, 60.0, 3600.0
"""Wrong passwords without a pause, the longest pause in seconds, and seconds until an address begins anew (ours)."""
MOST_MISFITS = 10
"""Pairs of names that do not fit of which the log tells (ours)."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine that only it can reach."""


class Hosts:
    """The names that a request may give this server.

    Any address of digits is one: a foreign web site that wants to pass for ours (DNS rebinding) needs a name. Where the server
    listens on this machine only, only this machine's names are.

    Args:
        host: what the server listens on.
        others: names under which it is known besides, such as that of a reverse proxy; ``*.name`` is all that end so.
    """

    def __init__(self, host: str, others: Iterable[str] = ()) -> None:
        self._others = {name.lower() for name in others}
        self._names = {*LOOPBACK, host.lower(), *self._others}
        self._open = host not in LOOPBACK
        if self._open:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own.split('.')[0]}.local", socket.getfqdn().lower()}

    def know(self, host: str) -> bool:
        """Tell whether a Host header names this server.

        Example:
            >>> Hosts("127.0.0.1").know("localhost:7860"), Hosts("127.0.0.1").know("evil.example")
            (True, False)
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        known = name in self._names or any(name.endswith(each[1:]) for each in self._names if each.startswith("*."))
        return known or (self._open and _is_address(name))

    def own(self, origin: str, host: str) -> bool:
        """Tell whether an Origin header names one of ``others`` in full, and only the proxy has put another name for the Host.

        Of ``*.name`` strangers have some, too; where the Host is right, the Origin must be the very same.

        Example:
            >>> hosts = Hosts("127.0.0.1", ["photos.example", "*.tunnel.example"])
            >>> [hosts.own(f"https://{name}", "127.0.0.1:7860") for name in ("photos.example", "a.tunnel.example")]
            [True, False]
            >>> hosts.own("https://photos.example:8443", "photos.example")
            False
        """
        try:
            return urlsplit(origin).hostname in self._others and urlsplit(f"//{host}").hostname not in self._others
        except ValueError:
            return False


class Place(NamedTuple):
    """A request that waits or runs: of which session and address, its id, and the line in which it waits; empty if it runs."""

    session: str
    address: str
    request: str
    line: str = ""


@dataclass
class _Wrong:
    """Wrong logins of one address."""

    count: int = 0
    last: float = 0.0

    def pause(self, now: float) -> float:
        """Return the seconds until it may try again."""
        if now - self.last > FORGOTTEN:
            self.count = 0
        over = self.count - FREE_LOGINS
        return 0.0 if over < 0 else self.last + min(LONGEST_PAUSE, 2.0**over) - now


class Door:
    """ASGI middleware, see the module's text.

    Args:
        app: what is behind the door.
        sessions: the visitors.
        limits: what they may ask for.
        hosts: names of this server.
        places: gives every request that waits or runs.
        line: gives the line in which a request is to wait, by its path and content; None if no event is known by them.
    """

    def __init__(
        self,
        app: Callable[[Message, Receive, Send], Awaitable[None]],
        *,
        sessions: Sessions,
        limits: Limits,
        hosts: Hosts,
        places: Callable[[], Iterable[Place]],
        line: Callable[[str, dict[str, Any]], str | None],
    ) -> None:
        self.app = app
        self.sessions, self.limits, self.hosts, self.places, self.line = sessions, limits, hosts, places, line
        self._wrong: dict[str, _Wrong] = {}
        self._uploading = 0
        self._misfits = set[tuple[str, str]]()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != ASKED.encode()]
        scope = {**scope, "headers": [*headers, (ASKED.encode(), repr(time.monotonic()).encode())]}
        request = Request(scope)
        path = _inner_path(scope).removeprefix(PREFIX).strip("/")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        refusal = self._refusal(request, path)
        if refusal is not None:
            await refusal(scope, receive, answer)
        elif request.method == "POST" and path == "upload":
            await self._upload(request, receive, answer)
        elif request.method == "POST" and path == "login":
            await self._login(request, receive, answer)
        elif request.method == "POST" and path.startswith("mcp"):
            await self._tool(request, receive, answer)
        elif request.method == "POST":
            await self._post(request, path, receive, answer)
        elif request.method == "GET" and path.startswith(PRESENT):
            with self.sessions.present(path.removeprefix(PRESENT)):
                await self.app(scope, receive, answer)
        elif listens := self._listens(request, path):
            with self.sessions.listening(listens):
                await self.app(scope, receive, answer)
        else:
            await self.app(scope, receive, answer)

    def _refusal(self, request: Request, path: str) -> Response | None:
        host = request.headers.get("host", "")
        if not self.hosts.know(host):
            return _refused(request, 421, "This server does not go by that name; whoever runs it can allow it with --allow-host.")
        origin, foreign = (
            request.headers.get("origin"),
            request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"),
        )
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            self._tell_operator(origin, host)  # a proxy may pass on another Host than it was asked for
            if foreign or not self.hosts.own(origin, host):
                return _refused(request, 403, "Requests from other web sites are refused.")
        if request.method == "POST" and foreign:
            return _refused(request, 403, "Requests from other web sites are refused.")
        ours = not path.startswith(FILE) or Path(path.removeprefix(FILE)).is_relative_to(self.sessions.root)
        if path.startswith(CLOSED) or not ours:
            return _refused(request, 404, "Not found.")
        return None

    def _tell_operator(self, origin: str, host: str) -> None:
        """Log names that do not fit together, each pair once."""
        if (origin, host) not in self._misfits and len(self._misfits) < MOST_MISFITS:
            self._misfits.add((origin, host))
            log.warning(
                "A page at %.200r asks for %.200r. If that is your proxy, have it pass on Host and X-Forwarded-Proto, and name "
                "it with --allow-host; see docs/web.md.",
                origin, host,
            )  # fmt: skip

    def _listens(self, request: Request, path: str) -> str | None:
        """Return the session whose results this request waits for; none is made for whoever asked for nothing, or may not."""
        if path == "queue/data":
            session = request.query_params.get("session_hash", "")
        elif path.startswith("call/") and path.count("/") >= 2:
            asked = path.rsplit("/", 1)[1]  # without a session hash of its own, a request's session is the request
            session = next((place.session for place in self.places() if place.request == asked), asked)
        else:
            return None
        known = self.sessions.know(session) or any(place.session == session for place in self.places())
        return session if known else None

    async def _upload(self, request: Request, receive: Receive, send: Send) -> None:
        """Let an upload in as far as the limits of one visitor and of the server allow."""
        announced = int(request.headers.get("content-length") or 0) if request.headers.get("content-length", "0").isdigit() else 0
        one, all_of_them = self.limits.max_session_mb * 1e6, self.limits.max_server_mb * 1e6
        room = all_of_them - await asyncio.to_thread(self.sessions.bytes_on_disk) - self._uploading
        if announced > one:
            text = f"{announced / 1e6:.0f} MB at once; the limit is {self.limits.max_session_mb:g} MB (max_session_mb)."
            await _refused(request, 413, text)(request.scope, receive, send)
            return
        if announced > room or room <= 0:
            text = f"The server holds all the files it may ({self.limits.max_server_mb:g} MB, max_server_mb). Try again later."
            await _refused(request, 507, text)(request.scope, receive, send)
            return
        taken, answered = 0, False

        async def answer(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self._uploading += size
            if taken > min(one, room):
                raise ClientDisconnect
            return message

        try:
            await self.app(request.scope, counted, answer)
        except ClientDisconnect:
            if not answered:
                await _refused(request, 413, "More was sent than the server takes.")(request.scope, receive, send)
        finally:
            self._uploading -= taken

    async def _login(self, request: Request, receive: Receive, send: Send) -> None:
        """Let each address try passwords ever more slowly."""
        wrong = self._wrong.setdefault(_address(request), _Wrong())
        now = time.monotonic()
        pause = wrong.pause(now)
        if pause > 0:
            text = f"Too many wrong logins; try again in {math.ceil(pause)} s."
            await _refused(request, 429, text, {"Retry-After": str(math.ceil(pause))})(request.scope, receive, send)
            return
        # Counted before it is answered, or many at once would all pass.
        wrong.count, wrong.last = wrong.count + 1, now

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._wrong.pop(_address(request), None)
            await send(message)

        await self._limited(request, receive, seen)
        for address in [each for each, known in self._wrong.items() if now - known.last > FORGOTTEN]:
            del self._wrong[address]

    async def _post(self, request: Request, path: str, receive: Receive, send: Send) -> None:
        body = await self._limited_body(request, receive, send)
        if body is None:
            return
        content = _json(body)
        if path == "cancel":
            meant = content.get("session_hash"), content.get("event_id")
            for place in self.places():
                if (place.session, place.request) == meant:
                    self.sessions.cancel(*meant)
        elif path == "queue/join" or path.startswith("call/"):
            given = content.get("session_hash")
            session = given if isinstance(given, str) and given else None
            text = self._crowded(session, _address(request), self.line(path, content))
            if text is not None:
                await _refused(request, 429, text)(request.scope, receive, send)
                return
            await self.app(request.scope, _replay(body, receive), self._holding(session, [*_paths(content)], send))
            return
        await self.app(request.scope, _replay(body, receive), send)

    def _crowded(self, session: str | None, address: str, line: str | None) -> str | None:
        """Return why there is no place for a request, if so: who needs no network is not refused for those who wait for one."""
        places = [*self.places()]
        mine = [1 for place in places if place.session == session or (session is None and place.address == address)]
        if len(mine) >= self.limits.max_waiting_each:
            return (
                f"{len(mine)} of your requests wait or run already; the limit is {self.limits.max_waiting_each} "
                "(max_waiting_each). Wait for one of them."
            )
        waiting = [1 for place in places if place.line and line in (place.line, None)]
        if len(waiting) >= self.limits.max_waiting:
            return f"{len(waiting)} requests wait already; the limit is {self.limits.max_waiting} (max_waiting). Try again later."
        return None

    def _holding(self, session: str | None, paths: list[str], send: Send) -> Send:
        """Return a ``send`` that holds uploads once a request that names them was taken, as long as it waits."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self.sessions.touch(paths)
                if session is not None:
                    with suppress(InputError):  # what is wrong with them is said when it is its turn
                        self.sessions.hold(session, paths)
            await send(message)

        return answer

    async def _tool(self, request: Request, receive: Receive, send: Send) -> None:
        """Let a tool be called over MCP: Gradio's own client then asks for the work, and its request has the caller's headers."""
        body = await self._limited_body(request, receive, send)
        if body is None:
            return
        with self.sessions.calling() as call:

            async def watched() -> Message:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.sessions.hang_up(call)
                return message

            headers = [*request.scope["headers"], (CALL.encode(), call.encode())]
            await self.app({**request.scope, "headers": headers}, _replay(body, watched), send)

    async def _limited(self, request: Request, receive: Receive, send: Send) -> None:
        body = await self._limited_body(request, receive, send)
        if body is not None:
            await self.app(request.scope, _replay(body, receive), send)

    async def _limited_body(self, request: Request, receive: Receive, send: Send) -> bytes | None:
        """Return the body of a request that is no upload; one that is too large is answered here."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                await _refused(request, 413, f"A request may have {LARGEST_BODY:,} bytes.")(request.scope, receive, send)
                return None
        return body


def places_of(page: Any) -> Iterator[Place]:
    """Yield every request of a Gradio page that waits or runs."""
    queue = page._queue
    waiting = [(event, line) for line, each in queue.event_queue_per_concurrency_id.items() for event in each.queue]
    running = [(event, "") for job in queue.active_jobs if job for event in job]
    for event, line in (*waiting, *running):
        yield Place(event.session_hash, _address(event.request), event._id, line)


def line_of(page: Any, path: str, content: dict[str, Any]) -> str | None:
    """Return the line of a Gradio page in which a request is to wait; None if it names no event as Gradio's own clients do."""
    index, name = content.get("fn_index"), path.rsplit("/", 1)[1]
    for number, event in page.fns.items():
        if index == number if path == "queue/join" else event.api_name == name:
            return str(event.concurrency_id)
    return None


def _inner_path(scope: Message) -> str:
    """Return the path that the routes know: a proxy may pass on the one under which it shows the page, or leave it out."""
    path, outer = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(outer) :] if path.startswith(f"{outer}/") else path


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refused(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    told = translated(request.headers, text)
    return JSONResponse({"detail": told, "error": told}, status, headers)


def _address(request: Request) -> str:
    """Return who asks: of IPv6 the network of 64 bits, which one visitor has for himself."""
    host = request.client.host if request.client else ""
    known = ipaddress.ip_address(host) if _is_address(host) else None
    return str(ipaddress.ip_network((int(known), 64), strict=False)) if isinstance(known, ipaddress.IPv6Address) else host


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}  # Gradio says what is wrong with it
    return content if isinstance(content, dict) else {}


def _paths(content: Any) -> Iterator[str]:
    """Yield every file that a request names."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("path"), str):
                yield item["path"]
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
