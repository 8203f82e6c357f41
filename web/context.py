"""What every tab needs, and how errors reach the person in front of the page."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from pfr_core.errors import Cancelled, InputError, PFRError, WeightsError
from pfr_core.options import RestoreOptions
from pfr_core.photo.photo import Photo
from pfr_core.photo.read import read_photo
from pfr_core.support.choices import MaskKind
from pfr_core.support.files import is_of_disk, unwritable
from pfr_core.support.memory import is_out_of_memory
from pfr_core.support.notice import Notice, Tally

from .controls import controls
from .engine import Engine
from .limits import Limits
from .sessions import ASKED, CALL, Job, Session, Sessions
from .texts import choices, language_of, say, translated, words

log = logging.getLogger(__name__)

GPU_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}
"""For every event that runs a network: one at a time, the others wait in sight."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For events of the page that are no part of the documented API."""
SHOWN_SECONDS = 10
"""How long a message covers the corner of the page."""
OWN_WORDS = frozenset({"magnified", "better_detector", "opaque"})
"""Kinds of notices that the core words for its commands; a visitor has none of these, and reads ``noticed_KIND``."""

_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?(?:[/\\][^/\\\s:'\"()]+)+[/\\](?=\S)")


@dataclass(frozen=True)
class Context:
    """Networks, visitors and limits of one running page."""

    engine: Engine
    sessions: Sessions
    limits: Limits
    menus: dict[Any, Callable[[gr.Request], list[tuple[str, str]]]] = field(default_factory=dict)
    """Components with choices, and what gives the choices in the words of a visitor."""
    logged: Tally = field(default_factory=Tally)
    """What was said to whoever runs the server."""

    @contextmanager
    def visit(self, request: gr.Request) -> Iterator[Session]:
        """Yield the visitor's session."""
        with self.sessions.use(request.session_hash) as session:
            yield session

    @contextmanager
    def job(self, request: gr.Request, button: str = "", *, last: bool = True) -> Iterator[Job]:
        """Yield a job of the visitor, which ends when he leaves, asks for it, or the time is up.

        Args:
            request: the visitor's.
            button: the Stop button that was made ready for this job, so that what asked for its end while it waited is meant
                for it; a job without one is asked by none.
            last: no other job follows that the button is meant for, too.

        Raises:
            InputError: it was ended so and the block let :class:`Cancelled` through.
        """
        with self.visit(request) as session:
            if not button:
                session.ended.clear()
            hung_up = partial(self.sessions.has_hung_up, request.headers.get(CALL))
            asked = float(request.headers[ASKED]) if ASKED in request.headers else None
            job = Job(session, LocalContext.event_id.get(None), self.limits.max_job_seconds, hung_up, button, asked)
            if last:
                session.begin(button, job.asked)
            try:
                yield job
            except Cancelled as error:
                raise InputError(job.why) from error

    def page_error(self, error: Exception, request: gr.Request | None = None) -> gr.Error:
        """Return what a visitor is told of an error: PFR's in its words, a full disk, of others that there was one; never a path.

        Args:
            error: what happened.
            request: the visitor's; without one the words are English.
        """
        if isinstance(error, gr.Error):
            return error
        headers = getattr(request, "headers", None)
        if is_out_of_memory(error):
            text = "Not enough memory for this. Use a smaller picture, a smaller scale or a smaller detection size."
        elif isinstance(error, WeightsError):
            log.error("%s", error)
            text = "This needs weights that are not on this server. Choose something else, or tell whoever runs it."
        elif isinstance(error, PFRError):
            text = self.without_folders(str(error))
        elif isinstance(error, OSError) and is_of_disk(error):
            log.error("%s", error)
            text = unwritable(words(language_of(headers))["column_result"], error)
        else:
            log.error("a defect", exc_info=error)
            text = "Something went wrong on the server. Whoever runs it finds the cause in its log."
        return gr.Error(translated(headers, text), duration=SHOWN_SECONDS, print_exception=False)

    def fetch(
        self, request: gr.Request, model: str, job: Job, progress: gr.Progress | None = None, mask: MaskKind = "box"
    ) -> None:
        """Download a published model, and what the mask needs, when it is first used, with the page's progress bar.

        Raises:
            InputError: the model cannot be had.
            WeightsError: what the mask needs cannot.
        """

        def report(name: str, done: int, total: int) -> None:
            if progress is not None:
                progress((done // 1_000_000, total // 1_000_000), desc=say(request, "downloading", name=name), unit="MB")

        try:
            self.engine.fetch(model, report, job.should_stop)
        except WeightsError as error:
            log.error("%s", error)  # names folders
            raise InputError(
                f"{model} cannot be had on this server, and its log says why. Choose another model, or tell whoever runs it."
            ) from error
        self.engine.fetch_around(mask, report, job.should_stop)

    def without_folders(self, text: str) -> str:
        """Return ``text`` with file names in place of paths."""
        for model in self.engine.models.values():
            text = text.replace(model, Path(model).name)
        text = re.sub(re.escape(str(self.sessions.root)) + r"(/[^/\s:]+)*/", "", text)
        return _FOLDERS.sub("", text)

    def told(self, request: gr.Request, notices: Iterable[Notice] | Tally) -> str:
        """Return the notices as paragraphs for the page; each kind once, however many faces or frames it is about."""
        if not isinstance(notices, Tally):
            (tally := Tally()).add(notices)
            notices = tally
        lines = []
        for notice, count in notices:
            more = f" ({say(request, 'more_like_it', count=count)})" if count else ""
            lines.append(f"\n\n*{say(request, 'note')}: {self.noticed(request, notice)}{more}{say(request, 'full_stop')}*")
        return "".join(lines)

    def noticed(self, request: gr.Request, notice: Notice) -> str:
        """Return a notice in the visitor's language, without a full stop; what only the operator can do is in the log, too."""
        self.for_operator(notice)
        if notice.kind == "sharp_faces":  # how many were restored is said beside it
            return say(request, "left_sharp", count=int(notice.numbers["left"])).rstrip(".。")
        if notice.kind in OWN_WORDS:
            return say(request, f"noticed_{notice.kind}", **notice.numbers)
        return translated(request.headers, self.without_folders(notice.text).removesuffix("."))

    def for_operator(self, notice: Notice) -> None:
        """Log a notice of what whoever runs the server can do, once."""
        if notice.kind == "better_detector" and self.logged.add([notice]):
            log.warning("%s", notice.text)

    def controls(self, *names: str, by_number: bool = False) -> dict[str, Any]:
        """Return the components of several options by name, without what this server cannot do.

        Args:
            names: of the options.
            by_number: whether there are ``indices`` to choose faces by.
        """
        made = controls(*names, without=() if by_number else ("index",), masks=self.engine.masks)
        if "detection_size" in made:
            made["detection_size"].maximum = self.limits.max_detection_size
            made["detection_size"].value = self.limits.detection_size
        for name, each in made.items():
            if isinstance(each, gr.Dropdown):
                self.menus[each] = partial(choices, name=name, values=[value for _, value in each.choices])
        return made

    def options(self, given: dict[str, Any]) -> RestoreOptions:
        """Return what a visitor chose, as far as this server does it; the rest as usual, within the limits.

        Raises:
            InputError: a value that is refused; the message has its name, it and what it may be.
        """
        wanted = {"detection_size": self.limits.detection_size, **given}
        if isinstance(indices := given.get("indices"), list):
            wanted["indices"] = tuple(indices)
        options = RestoreOptions(**wanted)
        self.limits.check_options(options)
        self.engine.check_options(options)
        return options

    def read(self, path: str | Path | None) -> Photo:
        """Read a photo within the limits of the page; programs may send no photo at all.

        Raises:
            InputError: there is no photo, or it is larger than the limits allow.
        """
        if path is None:
            raise InputError("photo is missing; upload one.")
        return read_photo(path, max_pixels=self.limits.max_pixels)
