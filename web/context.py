"""What every tab needs, and how errors reach the person in front of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from pfr_core.errors import InputError, PFRError
from pfr_core.network.inference import is_out_of_memory
from pfr_core.photo.photo import Photo
from pfr_core.photo.read import read_photo
from pfr_core.support.notice import Notice

from .engine import Engine
from .limits import Limits
from .sessions import Session, Sessions

GPU_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}
"""For every event that runs a network: one at a time, the others wait in sight."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For events of the page that are no part of the documented API."""


@dataclass(frozen=True)
class Context:
    """Networks, visitors and limits of one running page."""

    engine: Engine
    sessions: Sessions
    limits: Limits

    @contextmanager
    def visit(self, request: gr.Request) -> Iterator[Session]:
        """Yield the visitor's session; what goes wrong inside becomes a message on the page."""
        with self.page_errors(), self.sessions.use(request.session_hash) as session:
            yield session

    @contextmanager
    def page_errors(self) -> Iterator[None]:
        """Turn our errors into Gradio's, without the folders of this machine's temporary files."""
        try:
            yield
        except gr.Error:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                text = "Not enough memory for this. Use a smaller picture, a smaller scale or a smaller detection size."
            elif isinstance(error, PFRError):
                text = self.without_folders(str(error))
            else:
                raise  # a defect: Gradio prints its traceback on the server
            raise gr.Error(text, duration=60, print_exception=False) from error

    def fetch(self, model: str, session: Session, progress: gr.Progress | None = None) -> None:
        """Download a published model when it is first used, with the page's progress bar."""

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress((done // 1_000_000, total // 1_000_000), desc=f"Downloading {model}", unit="MB")

        self.engine.fetch(model, report, session.stop.is_set)

    def without_folders(self, text: str) -> str:
        """Return ``text`` with file names in place of the paths of temporary files and models."""
        for model in self.engine.models.values():
            text = text.replace(model, Path(model).name)
        return re.sub(re.escape(str(self.sessions.root)) + r"(/[^/\s:]+)*/", "", text)

    def told(self, notices: Iterable[Notice]) -> str:
        """Return the notices as paragraphs for the page; each kind once, however many faces or frames it is about."""
        kinds: dict[str, list[str]] = {}
        for notice in notices:
            kinds.setdefault(notice.kind, []).append(self.without_folders(notice.text))
        more = {kind: f" (and {len(texts) - 1} more like it)" if len(texts) > 1 else "" for kind, texts in kinds.items()}
        return "".join(f"\n\n*Note: {texts[0]}{more[kind]}.*" for kind, texts in kinds.items())

    def hold(self, request: gr.Request, upload: str | list[str] | None, *others: Any, **more: Any) -> Any:
        """Keep an event's first input until the visitor leaves: for ``validator=``, which runs when it joins the queue."""
        uploads = upload if isinstance(upload, list) else [upload]
        paths = [path for path in uploads if path is not None]
        with self.page_errors():
            self.sessions.hold(request.session_hash, paths)
        valid = [gr.validate(True, "")] * (1 + len(others) + len(more))  # one for each input
        return valid if len(valid) > 1 else valid[0]

    def read(self, path: str | Path | None) -> Photo:
        """Read a photo within the limits of the page; programs may send no photo at all."""
        if path is None:
            raise InputError("There is no photo. Send one.")
        return read_photo(path, max_pixels=self.limits.max_pixels)
