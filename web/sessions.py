"""What belongs to one visitor, and how it is deleted.

Everything lies in one private folder. Gradio puts uploads there, ``HASH/NAME``, equal files of several visitors in one place;
results lie in a folder for each visitor whose name cannot be guessed. Gradio serves files of this folder to whoever knows
their address, and of no other folder.

A visitor's results and state are deleted once the page has been closed, or the client silent, for ``keep``, and each result of
a client once it is that old; an upload once no visitor holds it and it is older than ``keep``. Not at once: a phone drops the
connection of a page whenever its owner looks elsewhere, which is all that a closed page is known by.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pfr_core.errors import InputError

from .memory import give_back

if TYPE_CHECKING:
    from .photo import OpenPhoto
    from .video import Followed

log = logging.getLogger(__name__)

PREFIX = "session-"
CALL, ASKED = "x-pfr-call", "x-pfr-asked"
"""Headers that our door gives a request: to which call of a tool it belongs, and when it came (of ``time.monotonic``)."""
LEFT, LATE, NEVER_HEARD = 2.0, 15.0, 60.0
"""Seconds until a job ends to whose result nobody listens any more, to which nobody does yet, for a browser opens the connection
anew after some requests, or whose visitor never listened (ours)."""
MOST_CANCELLED = 100
"""Requests of a visitor that are to end and may still run (ours)."""


@dataclass(eq=False)
class Session:
    """One visitor.

    Attributes:
        folder: for results; made when first asked for.
        lock: held while ``photo`` is worked on.
        ended: asks all jobs of this visitor to end, for the page was closed.
        cancelled: the last requests whose client asked for their end.
        wanted: the upload that the photo tab is to open.
        openings: how many uploads were dropped there that neither were opened since nor failed.
        photo: what the photo tab works on.
        clip: the faces of the clip that the clip tab works on.
        uploads: files that must stay.
        listeners: connections on which the visitor waits for results.
        heard: when the last of them ended; None if there never was one.
        has_page: whether it is a page's and no program's.
    """

    folder: Path
    lock: threading.RLock = field(default_factory=threading.RLock)
    ended: threading.Event = field(default_factory=threading.Event)
    cancelled: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_CANCELLED))
    wanted: Path | None = None
    openings: int = 0
    photo: OpenPhoto | None = None
    clip: Followed | None = None
    uploads: set[Path] = field(default_factory=set)
    listeners: int = 0
    heard: float | None = None
    has_page: bool = False
    busy: int = 0
    last_used: float = field(default_factory=time.time)
    _armed: dict[str, float] = field(default_factory=dict)
    _stopped: set[str] = field(default_factory=set)
    _stopped_before: dict[str, float] = field(default_factory=dict)
    _results: dict[str, list[Path]] = field(default_factory=dict)

    def arm(self, button: str) -> None:
        """Make the Stop button of that name ready for the next job; what was stopped ends all the same, even if it waits yet."""
        now = self._armed[button] = time.monotonic()
        if button in self._stopped:
            self._stopped_before[button] = now
            self._stopped.discard(button)
        self.ended.clear()

    def disarm(self, button: str) -> None:
        """Expect no job beside that button any more."""
        self._armed.pop(button, None)

    def begin(self, button: str, asked: float) -> None:
        """Note that the last job begins that was asked for then: the one that the button was made ready for, or an earlier."""
        if asked >= self._armed.get(button, math.inf):
            self.disarm(button)

    def expects(self, button: str) -> bool:
        """Tell whether the job is still to begin for which the button was made ready."""
        return button in self._armed

    def stop(self, button: str) -> None:
        """Ask all jobs beside that button to end, those that wait among them."""
        self._stopped.add(button)

    def is_stopped(self, button: str, asked: float) -> bool:
        """Tell whether a job beside that button is to end that was asked for then (of ``time.monotonic``)."""
        return button in self._stopped or asked < self._stopped_before.get(button, -math.inf)

    def has_left(self, since: float) -> bool:
        """Tell whether nobody waits for the result of a job that began at ``since`` (of ``time.monotonic``)."""
        if self.listeners:
            return False
        now = time.monotonic()
        if self.heard is None:
            return now - since > NEVER_HEARD
        return now - self.heard > LEFT if self.heard > since else now - since > LATE

    def expect_fewer(self) -> None:
        """Expect one opening less; a session that was made anew meanwhile expects none."""
        self.openings = max(0, self.openings - 1)

    def new_folder(self, what: str = "") -> Path:
        """Return a fresh folder for the files of one result.

        Args:
            what: the result is; the last two of a kind stay, for the browser may still be loading the older one. Those of no
                kind stay as long as the session.
        """
        path = self.folder / secrets.token_hex(4)
        path.mkdir(parents=True)
        if what:
            *old, last = [*filter(Path.is_dir, self._results.get(what, [])), path]  # those of failed jobs are gone
            for folder in old[:-1]:
                shutil.rmtree(folder, ignore_errors=True)
            self._results[what] = [*old[-1:], last]
        return path


class Job:
    """One piece of work.

    Args:
        session: the visitor's.
        request: the id of the request that asked for it.
        seconds: how long it may take.
        hung_up: tells whether the caller has left, where the session is that of many.
        button: name of the Stop button beside it; empty if there is none.
        asked: when it was asked for (of ``time.monotonic``); now if it is not known.
    """

    def __init__(
        self,
        session: Session,
        request: str | None,
        seconds: float,
        hung_up: Callable[[], bool] = lambda: False,
        button: str = "",
        asked: float | None = None,
    ) -> None:
        self.session, self.request, self.seconds, self._hung_up, self._button = session, request, seconds, hung_up, button
        self._started = time.monotonic()
        self.asked = self._started if asked is None else asked

    @property
    def is_late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() - self._started > self.seconds

    def should_stop(self) -> bool:
        """Tell whether it must end: for ``should_stop=`` of everything that takes long."""
        return (
            self.session.ended.is_set()
            or self.session.is_stopped(self._button, self.asked)
            or self.request in self.session.cancelled
            or self.is_late
            or self._hung_up()
            or self.session.has_left(self._started)
        )

    @property
    def why(self) -> str:
        """What to say of a job that was ended."""
        if self.is_late:
            return f"This took longer than the {self.seconds:g} seconds that a job may (max_job_seconds). Give it less to do."
        return "Stopped."


class Sessions:
    """All visitors, by Gradio's session hash, and the sweeper that deletes what is left over.

    Args:
        root: the folder where Gradio puts uploads.
        keep: seconds, see the module's text.
        max_mb: what one visitor may upload, in MB.
        longest: seconds that a job may take.
    """

    def __init__(self, root: Path, keep: float, max_mb: float = math.inf, longest: float = math.inf) -> None:
        self.root, self.keep, self.max_mb, self.longest = root, keep, max_mb, longest
        self._sessions: dict[str, Session] = {}
        self._present = Counter[str]()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._permanent: set[Path] = set()
        self._calls: set[str] = set()
        threading.Thread(target=self._sweep_regularly, name="pfr-demo-sweeper", daemon=True).start()

    def keep_forever(self, paths: Iterable[Path]) -> None:
        """Keep files that belong to the page itself, such as examples."""
        self._permanent |= set(paths)

    @contextmanager
    def use(self, key: str | None) -> Iterator[Session]:
        """Yield the visitor's session, kept at least until the end of the block."""
        with self._lock:
            session = self._get(key)
            session.busy += 1
        try:
            yield session
        finally:
            with self._lock:
                session.busy -= 1
                session.last_used = time.time()

    def hold(self, key: str | None, uploads: Iterable[str]) -> None:
        """Keep these uploads as long as the visitor is here.

        Raises:
            InputError: one is gone, another visitor's result or no upload at all, or they are more than ``max_mb``.
        """
        with self._lock:
            session = self._get(key)
            for upload in uploads:
                path = Path(upload)
                if ".." in path.parts or not path.is_relative_to(self.root):
                    raise InputError(f"{path.name}: this file was not uploaded; upload it.")
                if not path.is_file():
                    raise InputError(f"{path.name}: this file is not here any more; upload it again.")
                place = self.root / path.relative_to(self.root).parts[0]
                if place.name.startswith(PREFIX) and place != session.folder:
                    raise InputError(f"{path.name}: this file is not yours; upload a file of your own.")
                if not session.has_page:  # a program may go on for days: what it sent long ago may go
                    session.uploads = {each for each in session.uploads if _is_younger(each, time.time() - self.keep)}
                total = sum(each.stat().st_size for each in {*session.uploads, path} if each.is_file())
                if total > self.max_mb * 1e6:
                    raise InputError(
                        f"{path.name}: with it you have uploaded {total / 1e6:.0f} MB; the limit is {self.max_mb:g} MB "
                        "(max_session_mb). Open the page anew for more."
                    )
                session.uploads.add(path)

    @contextmanager
    def listening(self, key: str) -> Iterator[None]:
        """Know that the visitor waits for results as long as the block lasts."""
        with self._lock:
            session = self._get(key)
            session.listeners += 1
        try:
            yield
        finally:
            with self._lock:
                session.listeners -= 1
                session.heard = time.monotonic()
                session.last_used = time.time()

    @contextmanager
    def present(self, key: str) -> Iterator[None]:
        """Know that a page is open, or a client there, as long as the block lasts."""
        with self._lock:
            self._present[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._present[key] -= 1
                if not self._present[key]:
                    del self._present[key]
                if key in self._sessions:
                    self._get(key)

    @contextmanager
    def calling(self) -> Iterator[str]:
        """Yield a name for the call of a tool, which lasts as long as the block or until :meth:`hang_up`."""
        call = secrets.token_hex(16)
        self._calls.add(call)
        try:
            yield call
        finally:
            self.hang_up(call)

    def hang_up(self, call: str) -> None:
        """Note that nobody waits for the result of a call any more."""
        self._calls.discard(call)

    def has_hung_up(self, call: str | None) -> bool:
        """Tell whether the caller of a tool has left; whoever is none has not."""
        return call is not None and call not in self._calls

    def know(self, key: str) -> bool:
        """Tell whether there is such a visitor."""
        with self._lock:
            return key in self._sessions

    def cancel(self, key: str, request: str) -> None:
        """End one request of a visitor that waits or runs."""
        with self._lock:
            if key in self._sessions:
                self._sessions[key].cancelled.append(request)

    def touch(self, uploads: Iterable[str]) -> None:
        """Let uploads begin their time anew: a request that names them waits."""
        for upload in uploads:
            path = Path(upload)
            if ".." not in path.parts and path.is_relative_to(self.root) and not path.is_symlink():
                with suppress(OSError):  # gone; the request will be told
                    os.utime(path)

    def bytes_on_disk(self) -> int:
        """Return the size of everything that visitors left here."""
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                with suppress(OSError):  # deleted meanwhile
                    total += os.lstat(os.path.join(folder, name)).st_size
        return total

    def page_opened(self, key: str | None) -> None:
        """Keep the state of a page as long as it is present."""
        with self._lock:
            self._get(key).has_page = True

    def page_closed(self, key: str | None) -> None:
        """End the jobs of a page or client that was closed or lost. If it is used again, ``keep`` starts anew."""
        with self._lock:
            if (key or "") in self._sessions:
                self._get(key).ended.set()

    def sweep(self) -> None:
        """Delete what has had its time."""
        now = time.time()
        with self._lock:
            for key, session in list(self._sessions.items()):
                patience = math.inf if session.has_page and key in self._present else self.keep
                if not session.busy and not session.listeners and session.last_used < now - patience:
                    del self._sessions[key]
                    shutil.rmtree(session.folder, ignore_errors=True)
                elif not session.has_page and session.folder.is_dir():  # a program may go on for days
                    _delete_old(session.folder, set(), now - self.keep - (self.longest if session.busy else 0))
            kept = {session.folder for session in self._sessions.values()}
            held = set[Path]().union(self._permanent, *(session.uploads for session in self._sessions.values()))
            for place in self.root.iterdir():
                if place not in kept:
                    _delete_old(place, held, now - self.keep)

    def close(self) -> None:
        """Stop all jobs and the sweeper."""
        self._ended.set()
        with self._lock:
            for session in self._sessions.values():
                session.ended.set()

    def _get(self, key: str | None) -> Session:
        # Calls without a session hash are plain HTTP requests that cannot come back to their state.
        session = self._sessions.setdefault(key or "", Session(self.root / f"{PREFIX}{secrets.token_hex(16)}"))
        session.last_used = time.time()
        return session

    def _sweep_regularly(self) -> None:
        while not self._ended.wait(min(30.0, self.keep / 2)):
            give_back()
            try:
                self.sweep()
            except OSError as error:  # a file that vanished or is in use; the next sweep tries again
                log.warning("could not delete temporary files: %s", error)


def _is_younger(file: Path, limit: float) -> bool:
    try:
        return file.lstat().st_ctime >= limit
    except OSError:  # gone
        return False


def _delete_old(place: Path, held: set[Path], limit: float) -> None:
    """Delete the file, or the files of a folder of uploads and the folder, that nobody holds and that are older than ``limit``.

    A young folder stays if it is empty, too: the file that it was made for is on its way.
    """
    old = place.lstat().st_ctime < limit
    for file in list(place.iterdir()) if place.is_dir() else [place]:
        if file not in held and file.lstat().st_ctime < limit:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    if old and place.is_dir():
        with suppress(OSError):  # not empty
            place.rmdir()
