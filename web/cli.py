"""``python -m web`` and ``pfr-demo``."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pfr_core.errors import InputError, PFRError, WeightsError
from pfr_core.models.disk import on_disk
from pfr_core.models.registry import REGISTRY, obtainable
from pfr_core.options import Setup
from pfr_core.support.arguments import Parser, add_options, chosen, file_path, program
from pfr_core.support.choices import DetectorName
from pfr_core.support.files import lock
from pfr_core.video import check_av

from .limits import Limits
from .memory import share_pools

if TYPE_CHECKING:
    from .engine import Engine

FOLDER = ("pfr-demo-", "-held")
"""How the names of servers' private folders begin and end."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog=program("pfr-demo", __package__ or ""),
        description="A web page that restores faces in photos and clips. "
        "A restored face is synthesised detail: it is no evidence of identity.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every one (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--model", nargs="+", default=obtainable(),
        metavar="MODEL", dest="models",
        help="models to offer, the first is preset: files, or names of `pfr weights list` (default: all that come with pfr or "
        "are on this machine; with --downloads, all that can be downloaded)",
    )  # fmt: skip
    add_options(parser, Setup, only=("detector", "device", "dtype"))
    parser.add_argument("--share", action="store_true", help="also publish the page through Gradio's tunnel (default: off)")
    parser.add_argument("--auth", type=file_path, metavar="FILE", help="ask for a login; a line of FILE is user:password")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="a name under which visitors reach the server, such as a reverse proxy's; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--root-path", type=lambda path: f"/{path.strip('/')}".rstrip("/"), metavar="PATH",
        help="the path under which a proxy shows the page, such as /faces (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--downloads", action="store_true", help="fetch missing weights when a visitor asks for what needs them (default: never)"
    )
    parser.add_argument("--mcp", action="store_true", help="also serve the endpoints as tools over MCP (needs the package mcp)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--verbose", action="store_true", help="tell what happens")
    add_options(parser.add_argument_group("limits"), Limits)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until interrupted; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING, format="%(message)s")
    share_pools()
    try:
        auth = _read_auth(arguments.auth) if arguments.auth else None
        limits = Limits(**chosen(arguments, Limits))
        _check_port(arguments.port)
        asked_for = arguments.models is not parser.get_default("models")
        sources = _available(arguments.models, arguments.downloads, tell=asked_for)
        with _private_folder() as folder:
            return _serve(arguments, sources, limits, auth, folder)
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 0


def _check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise InputError(f"--port is {port}; it must be from 1 to 65535.")


def _available(sources: Sequence[str], downloads: bool, *, tell: bool) -> list[str]:
    """Return those of the models that are on this machine or may be downloaded, and those that would be of no use then, either.

    Args:
        sources: the models.
        downloads: whether anything may be downloaded.
        tell: say which are left out.

    Raises:
        InputError: there is none.
    """
    here = [source for source in sources if downloads or not _has_address(source) or _is_here(source)]
    if not here:
        raise InputError(f"None of the models {', '.join(sources)} is on this machine; --downloads fetches them when used.")
    for source in sources if tell else ():
        if source not in here:
            why = f"it is not on this machine; pfr weights download {source} fetches it, and so does --downloads when it is used."
            print(f"The model {source} is not offered: {why}", file=sys.stderr)
    return here


def _has_address(source: str) -> bool:
    return source in REGISTRY and bool(REGISTRY[source].urls)


def _is_here(source: str) -> bool:
    try:
        return on_disk(source) is not None
    except WeightsError:  # a file of another content: what is wrong with it is told beside the models that can be used
        return True


def _fetch_detector(detector: DetectorName, downloads: bool) -> None:
    """See to it that faces can be found, before the first visitor waits for a download or finds out that they cannot.

    Raises:
        InputError: the detector is not on this machine, and nothing may be downloaded.
        WeightsError: its file is another one, or not to be had.
    """
    from pfr_core.cli.common import fetch_around

    if detector in REGISTRY and not downloads and on_disk(detector) is None:
        raise InputError(
            f"--detector {detector} is not on this machine; pfr weights download {detector} fetches it, and so does --downloads."
        )
    fetch_around(detector)


def _check_models(engine: Engine) -> None:
    """Take models that cannot be used off the menus, and tell why, before a visitor finds out.

    Raises:
        PFRError: none can.
    """
    wrong = dict[str, PFRError]()
    for model in engine.models:
        try:
            engine.facts(model)
        except PFRError as error:
            wrong[model] = error
    if len(wrong) == len(engine.models):
        raise next(iter(wrong.values()))
    for model, why in wrong.items():
        del engine.models[model]
        print(f"The model {model} is not offered: {why}", file=sys.stderr)


def _serve(
    arguments: argparse.Namespace, sources: list[str], limits: Limits, auth: list[tuple[str, str]] | None, folder: Path
) -> int:
    extra, needed = ("mcp", ("gradio", "skimage", "mcp")) if arguments.mcp else ("demo", ("gradio", "skimage"))
    if missing := [name for name in needed if find_spec(name) is None]:  # without mcp Gradio would go on, without a word
        raise PFRError(f'The web page needs {" and ".join(missing)}, missing here: python -m pip install ".[{extra}]"')
    check_av()
    from starlette.middleware import Middleware

    from .context import Context
    from .door import Door, Hosts, line_of, places_of
    from .engine import Engine
    from .gallery import examples, make_results
    from .page import CSS, HEAD, THEME, build_page
    from .sessions import Sessions
    from .texts import translations

    if not arguments.downloads:
        os.environ["PFR_OFFLINE"] = "1"
    if not arguments.allow_host and not arguments.share:
        # What a request says of the address that it came from is a proxy's word, to be believed only where there is one.
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    setup = chosen(arguments, Setup)
    _fetch_detector(Setup(**setup).detector, arguments.downloads)
    engine = Engine(named(sources), downloads=arguments.downloads, closest=limits.closest_detection, **setup)
    _check_models(engine)
    sessions = Sessions(folder, limits.keep_minutes * 60, limits.max_session_mb, limits.max_job_seconds)
    shown = examples(folder / "own")
    page = build_page(Context(engine, sessions, limits), shown)
    sessions.keep_forever([*folder.rglob("*"), *(each.result for each in shown)])  # Gradio's copies of the examples among them
    page.queue(api_open=False)  # how many may wait is the door's to say: Gradio would count all lines as one
    hosts = Hosts(arguments.host, [*arguments.allow_host, *(["*.gradio.live"] if arguments.share else [])])
    places, line = partial(places_of, page), partial(line_of, page)
    door = Middleware(Door, sessions=sessions, limits=limits, hosts=hosts, places=places, line=line)
    try:
        _, address, _ = page.launch(
            server_name=arguments.host, server_port=arguments.port, share=arguments.share, auth=auth, inbrowser=arguments.open,
            root_path=arguments.root_path,
            max_file_size=int(limits.max_upload_mb * 1e6), show_error=True, quiet=True, prevent_thread_lock=True,
            theme=THEME, css=CSS, head=HEAD, i18n=translations(limits.closest_detection),
            app_kwargs={"middleware": [door]}, mcp_server=arguments.mcp,
            footer_links=["api"], run_history=False, ssr_mode=False,
            _frontend=False,  # or Gradio gives up where the first answer takes three seconds, as on a busy machine
            enable_monitoring=False,  # or any visitor may ask how often which function ran
            # Gradio's own state of a visitor takes 0.2 MB and is never freed: nothing may depend on it.
            state_session_capacity=50,
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"{arguments.host}, port {arguments.port}, cannot be listened on: another program does, or this machine has no such "
            "address. Choose another --port or --host."
        ) from error
    if auth is None and _others_reach(arguments):
        print("Anyone who can reach the page can use it; --auth FILE asks for a login.", file=sys.stderr)
    threading.Thread(target=make_results, args=(engine, shown), name="pfr-demo-gallery", daemon=True).start()
    print(f"Open {address} (Ctrl+C ends it)", flush=True)
    try:
        page.block_thread()
    finally:
        sessions.close()
        page.close(verbose=False)
    return 0


def _others_reach(arguments: argparse.Namespace) -> bool:
    """Tell whether the page is meant for others than this machine's users."""
    from .door import LOOPBACK

    return bool(arguments.host not in LOOPBACK or arguments.share or arguments.allow_host)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield where Gradio and the sessions keep files; only this user can read it, and it is gone afterwards."""
    # So that the folder also goes when a service manager or a closed terminal ends us; Windows has one of them.
    ends = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]

    def end(*_: object) -> None:
        for number in ends:  # a terminal that closes tells it twice
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in ends:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has us ignore one
            signal.signal(number, end)
    _remove_abandoned()
    folder, claim = _claimed_folder()
    # Before Gradio is imported, which reads them then.
    os.environ |= {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if claim is not None:
            os.close(claim)


def _claimed_folder() -> tuple[Path, int | None]:
    """Return a new folder and what :func:`_claim` returned for it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER[0], suffix=FOLDER[1])).resolve()
        with suppress(FileNotFoundError):  # another server that starts took it for one that was left
            claim = _claim(folder)
            if folder.is_dir():
                return folder, claim


def _claim(folder: Path) -> int | None:
    """Lock a folder until the handle that is returned is closed or this process has ended, however it did.

    Returns:
        None if another holds it, or where folders cannot be locked.
    """
    if sys.platform == "win32":  # no folder can be opened there
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    if lock(handle):
        return handle
    os.close(handle)
    return None


def _remove_abandoned() -> None:
    """Remove what servers of this user left that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("*".join(FOLDER)):
        with suppress(OSError):  # another user's, no folder, or gone just now
            claim = _claim(folder)
            if claim is not None:
                if os.fstat(claim).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
                os.close(claim)


def named(sources: Sequence[str]) -> dict[str, str]:
    """Return models by what visitors see: known names as they are, of files neither folder nor ending.

    Raises:
        InputError: two of them have one name.
    """
    found: dict[str, str] = {}
    for source in sources:
        name = source if source in REGISTRY else Path(source).stem
        if found.setdefault(name, source) != source:
            raise InputError(f"{found[name]} and {source} would both be called {name}; rename one of the files.")
    return found


def _read_auth(path: Path) -> list[tuple[str, str]]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]  # Windows' editors begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); --auth takes a text file.") from error
    pairs = [tuple(line.split(":", 1)) for line in lines if line and not line.startswith("#")]
    if not pairs or any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise InputError(f"{path}: each line must be user:password.")
    return pairs  # type: ignore[return-value]
