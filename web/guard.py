"""Gradio's page, guarded: it takes plain values and a visitor's own uploads, and tells nothing but messages meant for visitors.

Gradio follows everything that looks like a file in every input, addresses too, whatever the input is for; and it shows the text
of any exception. Both are settled here for every event there is, so that no tab has to think of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr

from pfr_core.errors import InputError

from .context import Context
from .door import PREFIX

UPLOADS = (gr.File, gr.Image, gr.Video)
"""Components to which a visitor may give a file."""


class GuardedBlocks(gr.Blocks):  # type: ignore[misc]  # Gradio is not looked into by mypy
    """See the module's text."""

    def __init__(self, context: Context, **settings: Any) -> None:
        super().__init__(**settings)
        self.context = context

    async def process_api(
        self, block_fn: Any, inputs: list[Any], state: Any = None, request: Any = None, **settings: Any
    ) -> dict[str, Any]:
        """Run an event, see Gradio's own; here its inputs are looked at first and its errors last."""
        try:
            function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
            if not settings.get("explicit_call"):
                self._check(function.inputs, inputs, request)
            return await super().process_api(block_fn, inputs, state, request, **settings)
        except Exception as error:
            raise self.context.page_error(error, request) from error

    def _check(self, blocks: list[Any], values: list[Any], request: Any) -> None:
        """Refuse file data that is no upload, or where no upload belongs.

        Raises:
            InputError: it is so.
        """
        for block, value in zip(blocks, values, strict=False):
            files = list(_files(value))
            takes = isinstance(block, UPLOADS)
            name = getattr(block, "label", None) or "This input"
            if takes:
                _name_by_path(value, getattr(request, "headers", None) or {})
                files = list(_files(value))
            if files and not takes:
                raise InputError(f"{name}: a file is given where a value belongs.")
            if takes and not _is_upload(value):
                raise InputError(f"{name}: upload a file and give what the upload returned.")
            if any("://" in file for file in files):
                raise InputError(f"{name}: upload a file; addresses are not fetched.")
            self.context.sessions.hold(getattr(request, "session_hash", None), files)


def _name_by_path(value: Any, headers: Mapping[str, str]) -> None:
    """Put the path of an upload in place of its address on this server, which is what tools get of it."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and isinstance(item.get("path"), str):
            address = urlsplit(item["path"])
            _, shown, path = address.path.partition(f"{PREFIX}/file=")
            if shown and address.scheme in ("http", "https") and address.netloc == headers.get("host"):
                item["path"] = unquote(path)
                item.pop("url", None)


def _is_upload(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(item is None or (isinstance(item, dict) and len(list(_files(item))) == 1) for item in items)


def _files(value: Any) -> Iterator[str]:
    """Yield the path or address of everything that Gradio might take for a file."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for key in ("path", "url") if "path" not in item else ("path",):
                if item.get(key) is not None or (key == "path" and "meta" in item):
                    yield str(item.get(key))
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
