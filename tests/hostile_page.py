"""A hostile visitor of the page: tries everything that a shared server must refuse, and says what it did not.

python tests/hostile_page.py http://127.0.0.1:7860/ [--photo examples/two_faces.jpg]

Run it against a server of your own only: it asks for far more than is allowed. It needs httpx, Pillow and, for clips, PyAV. The
exit status is the number of attacks that got through.
"""

from __future__ import annotations

import argparse
import http.server
import io
import json
import re
import secrets
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

PATHS = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|var|opt|mnt|srv|etc)/[\w.-]+/|[A-Z]:\\")
"""What no answer may hold: a path of the server."""
PATIENCE = 120.0


@dataclass
class Visitor:
    """One session of the page, by plain HTTP.

    Attributes:
        url: of the page.
        said: everything that the server answered, to be searched for paths.
    """

    url: str
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url.rstrip("/"), timeout=PATIENCE)
        self.config = self.http.get("/config").json()

    def post(self, path: str, **settings: Any) -> httpx.Response:
        answer = self.http.post(f"/gradio_api/{path}", **settings)
        self.said.append(answer.text)
        return answer

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        (path,) = self.post("upload", files={"files": (name, content)}).json()
        return self.file(path)

    @staticmethod
    def file(path: str) -> dict[str, Any]:
        return {"path": path, "orig_name": path.rsplit("/", 1)[-1], "meta": {"_type": "gradio.FileData"}}

    def events(self) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Yield every event of the page that has inputs, and the values that its inputs have at first."""
        values = {each["id"]: each["props"].get("value") for each in self.config["components"]}
        for event in self.config["dependencies"]:
            if event["backend_fn"] and event["inputs"]:
                yield event, [values.get(block) for block in event["inputs"]]

    def event(self, name: str) -> tuple[dict[str, Any], list[Any]]:
        return next(each for each in self.events() if each[0]["api_name"] == name)

    def ask(self, event: dict[str, Any], values: list[Any]) -> tuple[bool, str]:
        """Send an event and wait for its end: whether it was done, and the error."""
        body = {"fn_index": event["id"], "data": values, "session_hash": self.session, "trigger_id": None}
        if not event["queue"]:
            answer = self.post("run/predict", json=body)
            return answer.status_code == 200, answer.text
        answer = self.post("queue/join", json=body)
        return (False, answer.text) if answer.status_code != 200 else self.listen(answer.json()["event_id"])

    def listen(self, event_id: str) -> tuple[bool, str]:
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ") or "{}")
                if message.get("msg") == "process_completed" and message.get("event_id") == event_id:
                    self.said.append(line)
                    return bool(message["success"]), json.dumps(message["output"])
        return False, "the stream ended"

    def call(self, endpoint: str, **given: Any) -> str:
        """Send a request as a program does; the id to listen with. Nobody has to."""
        answer = self.post(f"call/v2/{endpoint}", json=given)
        return str(answer.json()["event_id"]) if answer.status_code == 200 else answer.text

    def result(self, endpoint: str, event_id: str) -> tuple[bool, str]:
        text = self.http.get(f"/gradio_api/call/{endpoint}/{event_id}").text
        self.said.append(text)
        return "event: complete" in text, text


@contextmanager
def canary() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a web server here, and the requests that it got."""
    got: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 100_000)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/canary.jpg", got
        server.shutdown()


def addresses_in_every_input(visitor: Visitor, photo: bytes) -> str:
    with canary() as (address, got):
        tried = 0
        for event, values in visitor.events():
            for place in range(len(values)):
                for given in (visitor.file(address), [{"video": visitor.file("/etc/passwd")}]):
                    done, text = visitor.ask(event, [*values[:place], given, *values[place + 1 :]])
                    tried += 1
                    if done:
                        return f"event {event['api_name']}, input {place} took {given}: {text[:200]}"
        if tried < 20:
            return f"only {tried} inputs were found to try"
        return f"{len(got)} requests came to the canary" if got else _fine(f"{tried} tries")


def other_peoples_files(visitor: Visitor, photo: bytes) -> str:
    other = Visitor(visitor.url)
    done, text = other.result("restore", other.call("restore", photo=other.upload("mine.jpg", photo)))
    found = re.search(r'"path": "([^"]+)"', text)
    if not done or not found:
        return f"no result to steal: {text[:300]}"
    event, values = visitor.event("restore")
    done, text = visitor.ask(event, [visitor.file(found.group(1)), *values[1:]])
    return "another visitor's result was taken" if done else _fine(text[:100])


def files_of_the_machine(visitor: Visitor, photo: bytes) -> str:
    tries = ["/etc/passwd", "../../etc/passwd", "/proc/self/environ", "C:/Windows/win.ini", "%2e%2e/%2e%2e/etc/passwd"]
    got = {path: visitor.http.get(f"/gradio_api/file={path}").status_code for path in tries}
    served = [path for path, status in got.items() if status == 200]
    return f"served: {served}" if served else _fine(str(got))


def addresses_as_files(visitor: Visitor, photo: bytes) -> str:
    """Have the server fetch for a stranger: no answer may depend on what is there."""
    with canary() as (address, got):
        tries = [address, "https://example.com/", "HTTP://example.com/", "//example.com/", "ftp://example.com/"]
        paths = [f"{way}{each}" for each in tries for way in ("file=", "file/", "proxy=")]
        paths += [each.replace(":", "%3A").replace("/", "%2F") for each in paths]
        answers = {path: visitor.http.get(f"/gradio_api/{path}").status_code for path in paths}
        asked = [path for path, status in answers.items() if status != 404]
        return f"looked at: {asked}, {len(got)} requests came to the canary" if asked or got else _fine(f"{len(paths)} tries")


def foreign_names_and_sites(visitor: Visitor, photo: bytes) -> str:
    foreign = visitor.http.get("/", headers={"Host": "evil.example"}).status_code
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        status = visitor.post("upload", files={"files": ("a.jpg", photo)}, headers=headers).status_code
        if status < 400:
            return f"an upload with {headers} got {status}"
    got = visitor.http.get("/").headers
    framed = "x-frame-options" not in got or "frame-ancestors" not in got.get("content-security-policy", "")
    if foreign < 400 or framed:
        return f"a foreign host got {foreign}; headers {dict(got)}"
    return _fine("refused")


def too_much_at_once(visitor: Visitor, photo: bytes) -> str:
    """Announce an upload of 10 TB; send a request of 20 MB."""
    host, port = visitor.http.base_url.host, visitor.http.base_url.port or 80
    with socket.create_connection((host, port), timeout=PATIENCE) as raw:
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        raw.sendall(f"{head}Content-Length: 10000000000000\r\n\r\n--x\r\n".encode())
        status = raw.recv(100).decode(errors="replace").split(" ")[1]
    body = visitor.post("queue/join", json={"data": ["x" * 20_000_000], "session_hash": "x", "fn_index": 0}).status_code
    return _fine(f"{status}, {body}") if status in ("413", "507") and body == 413 else f"upload {status}, request {body}"


def all_places(visitor: Visitor, photo: bytes) -> str:
    upload = visitor.upload("p.jpg", photo)
    event, values = visitor.event("restore")
    body = {"fn_index": event["id"], "data": [upload, *values[1:]], "session_hash": visitor.session}
    answers = [visitor.post("queue/join", json=body) for _ in range(30)]
    taken = [answer.json()["event_id"] for answer in answers if answer.status_code == 200]
    for event_id in taken:
        visitor.post("cancel", json={"session_hash": visitor.session, "fn_index": event["id"], "event_id": event_id})
    return f"one session took {len(taken)} places" if len(taken) > 10 else _fine(f"{len(taken)} places, then {answers[-1].text}")


def next_visitor_waits(visitor: Visitor, photo: bytes) -> str:
    """Ask for a picture full of faces and leave; another visitor must soon be served."""
    other, big = Visitor(visitor.url), tiled(photo, 8)
    small = other.upload("small.jpg", photo)
    started = time.monotonic()
    other.result("detect", other.call("detect", photo=small))
    alone = time.monotonic() - started
    upload = visitor.upload("crowd.jpg", big)
    event_id = visitor.call("restore", photo=upload)
    try:
        with visitor.http.stream("GET", f"/gradio_api/call/restore/{event_id}", timeout=3) as stream:
            for _ in stream.iter_lines():
                pass
    except httpx.TimeoutException:
        pass  # gone
    started = time.monotonic()
    other.result("detect", other.call("detect", photo=small))
    waited = time.monotonic() - started
    return (
        f"the next visitor waited {waited:.1f} s, {alone:.1f} s when alone"
        if waited > 3 * alone + 10
        else _fine(f"{waited:.1f} s")
    )


def pictures_that_explode(visitor: Visitor, photo: bytes) -> str:
    def saved(picture: Image.Image, kind: str) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind)
        return file.getvalue()

    segments = b"".join(b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65527) for _ in range(1000))
    bombs = {
        "metadata.jpg": photo[:2] + segments + photo[2:],
        "large.png": saved(Image.new("1", (40_000, 40_000)), "PNG"),
        "cut.jpg": photo[: len(photo) // 2],
        "text.jpg": b"not a picture",
        "empty.jpg": b"",
    }
    for name, content in bombs.items():
        started = time.monotonic()
        upload = visitor.upload(name, content)
        started = time.monotonic()
        done, text = visitor.result("detect", visitor.call("detect", photo=upload))
        if done or time.monotonic() - started > 20:
            return f"{name}: {'accepted' if done else 'refused'} after {time.monotonic() - started:.1f} s: {text[:200]}"
    return _fine(", ".join(bombs))


def archives_that_explode(visitor: Visitor, photo: bytes) -> str:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("../../evil.jpg", photo)
        for number in range(20):
            packed.writestr(f"{number}.png", bytes(100_000_000))
    event, values = visitor.event("run_batch")
    done, text = visitor.ask(event, [[visitor.upload("bomb.zip", file.getvalue())], *values[1:]])
    ok = "leads out" in text and "unpacks to more than" in text
    return _fine("refused in the report") if ok else f"{done}: {text[:300]}"


def clip_of_many_frames(visitor: Visitor, photo: bytes) -> str:
    try:
        import av
    except ImportError:
        return _fine("not tried: no PyAV here")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "many.mp4")
        with av.open(str(path), "w") as made:
            stream = made.add_stream("mpeg4", rate=2000)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame(16, 16, "yuv420p")
            for number in range(60_000):
                frame.pts = number
                made.mux(stream.encode(frame))
            made.mux(stream.encode())
        content = path.read_bytes()
    event, values = visitor.event("run_clip")
    done, text = visitor.ask(event, [visitor.upload("many.mp4", content), *values[1:]])
    return _fine(text[:100]) if not done and "max_video" in text else f"{done}: {text[:300]}"


def passwords(visitor: Visitor, photo: bytes) -> str:
    """Guess 60 times in a row, then as if from ever new addresses."""

    def guess(**headers: str) -> int:
        wrong = {"username": "admin", "password": secrets.token_hex(4)}
        return visitor.http.post("/login", data=wrong, headers=headers, follow_redirects=False).status_code

    answers = [guess() for _ in range(60)] + [guess(**{"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(60)]
    if set(answers) <= {302, 303, 307, 405}:
        return _fine("this server asks for none")
    looked_at = sum(answer != 429 for answer in answers)
    return _fine(f"{looked_at} of 120 were looked at") if looked_at < 20 else f"{looked_at} of 120 wrong logins were looked at"


def parameters_out_of_range(visitor: Visitor, photo: bytes) -> str:
    upload = visitor.upload("p.jpg", photo)
    wrong: list[tuple[str, Any]] = [
        ("strength", 2), ("strength", "a"), ("strength", None), ("mask", "round"), ("select", 7), ("scale", 9), ("model", "x"),
        ("detection_size", 1_000_000), ("detection_size", 1.5), ("threshold", -1), ("indices", "abc"), ("indices", [-1]),
        ("count", 0), ("max_face_size", "big"), ("sideways", "yes"), ("color_match", []), ("feather", {"a": 1}),
    ]  # fmt: skip
    for name, value in wrong:
        more = {"select": "index"} if name == "indices" else {}
        done, text = visitor.result("restore", visitor.call("restore", photo=upload, **{name: value}, **more))
        if done or name not in text:
            return f"{name}={value!r}: {'accepted' if done else text[:200]}"
    return _fine(f"{len(wrong)} refused by name")


def paths_of_the_server(visitor: Visitor, photo: bytes) -> str:
    """Look through all that the attacks before got for an answer."""
    leaks = [text for text in visitor.said if "process_completed" in text or "error" in text or "detail" in text]
    own = re.compile(r'"(?:path|url)": ?"[^"]*"')  # the visitor's own upload comes back to him by its path
    for text in leaks:
        if found := PATHS.search(own.sub("", text).replace("/etc/passwd", "")):
            return f"{found.group()} in {text[:300]}"
    return _fine(f"none in {len(leaks)} answers")


ATTACKS: tuple[Callable[[Visitor, bytes], str], ...] = (
    addresses_in_every_input, other_peoples_files, files_of_the_machine, addresses_as_files, foreign_names_and_sites,
    too_much_at_once, all_places, next_visitor_waits, pictures_that_explode, archives_that_explode, clip_of_many_frames,
    passwords, parameters_out_of_range, paths_of_the_server,
)  # fmt: skip


def attack(url: str, photo: bytes, tell: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Try all attacks; returns those that got through, with what was seen."""
    got, visitor = {}, Visitor(url)
    for each in ATTACKS:
        started = time.monotonic()
        seen = each(visitor, photo)
        tell(f"{each.__name__}: {seen} ({time.monotonic() - started:.1f} s)")
        if not seen.startswith("held"):
            got[each.__name__] = seen
    return got


def tiled(photo: bytes, times: int) -> bytes:
    """Return a photo repeated ``times`` x ``times``, each 200 px wide."""
    with Image.open(io.BytesIO(photo)) as image:
        small = image.convert("RGB").resize((200, round(200 * image.height / image.width)))
    whole = Image.new("RGB", (small.width * times, small.height * times))
    for number in range(times * times):
        whole.paste(small, (number % times * small.width, number // times * small.height))
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=85)
    return file.getvalue()


def _fine(text: str) -> str:
    return f"held: {text}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--photo", type=Path, default=Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg")
    arguments = parser.parse_args()
    sys.exit(len(attack(arguments.url, arguments.photo.read_bytes(), lambda text: print(text, flush=True))))
