"""A Hub on 127.0.0.1: the model listing, resolve URLs that redirect to a second origin, range requests, and faults."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

COMMIT = "9216db5" + "0" * 33


@dataclass
class Request:
    """One request as the server saw it."""

    origin: str
    path: str
    range: str | None
    token: str | None


@dataclass
class FakeHub:
    """What the server serves, how it misbehaves, and what it has seen.

    Attributes:
        repo: ``org/name``.
        folder: Its files.
        requests: Every request, in order of arrival.
        sent: Bytes of bodies sent.
        commits: Commit by branch.
        token: The token that it asks for, None for a public repository.
        gated: Whether access was not granted.
        fault: Called with each request; may return a status, headers and a body to answer instead.
    """

    repo: str
    folder: Path
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str | None = None
    gated: bool = False
    fault: Callable[[Request], tuple[int, dict[str, str], bytes] | None] = lambda request: None
    url: str = ""
    cdn_url: str = ""

    def listing(self) -> dict[str, object]:
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        return {
            "id": self.repo,
            "sha": COMMIT,
            "siblings": [{"rfilename": path.name, "size": path.stat().st_size, "blobId": "0"} for path in files],
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that hang up in mid-answer are part of the game."""


@contextmanager
def serve(repo: str, folder: Path) -> Iterator[FakeHub]:
    """Serve a folder as a repository, until the block ends."""
    hub = FakeHub(repo, folder)
    servers = [_Server(("127.0.0.1", 0), _handler(hub, origin)) for origin in ("hub", "cdn")]
    hub.url, hub.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(hub: FakeHub, origin: str) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()
    signatures = itertools.count()  # each link is another one, also when many are asked for at once

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            seen = Request(origin, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
            with lock:
                hub.requests.append(seen)
            fault = hub.fault(seen)
            if fault is not None:
                self.answer(*fault)
            elif origin == "cdn":
                self.send_file(parse_qs(urlsplit(self.path).query)["file"][0])
            elif hub.token is not None and seen.token != f"Bearer {hub.token}":
                self.answer(401, {"X-Error-Code": "RepoNotFound"}, b"")
            elif self.path.startswith("/api/models/"):
                self.send_listing(urlsplit(self.path).path.removeprefix("/api/models/"))
            else:
                self.redirect()

        def send_listing(self, asked: str) -> None:
            repo, _, revision = asked.partition("/revision/")
            if repo != hub.repo:
                self.answer(404, {"X-Error-Code": "RepoNotFound"}, b"")
            elif (revision or "main") not in {**hub.commits, COMMIT: COMMIT}:
                self.answer(404, {"X-Error-Code": "RevisionNotFound"}, b"")
            else:
                self.answer(200, {"Content-Type": "application/json"}, json.dumps(hub.listing()).encode())

        def redirect(self) -> None:
            repo, _, rest = self.path.lstrip("/").partition("/resolve/")
            commit, _, file = rest.partition("/")
            if hub.gated:
                self.answer(403, {"X-Error-Code": "GatedRepo"}, b"")
            elif repo != hub.repo or commit != COMMIT or not (hub.folder / file).is_file():
                self.answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
            else:
                self.answer(
                    302, {"Location": f"{hub.cdn_url}/blob?file={file}&Signature=secret{next(signatures)}"}, b""
                )

        def send_file(self, name: str) -> None:
            start, stop = map(int, (self.headers["Range"] or "").removeprefix("bytes=").split("-"))
            size = (hub.folder / name).stat().st_size
            with open(hub.folder / name, "rb") as file:
                file.seek(start)
                body = file.read(stop + 1 - start)
            self.answer(206, {"Content-Range": f"bytes {start}-{stop}/{size}"}, body)

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            with lock:
                hub.sent += len(body)

    return Handler
