"""A Hub on 127.0.0.1: listings of commits, files by links to a second origin, ranges, round trips, and faults."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "9216db5" + "0" * 33
LARGE = (".safetensors", ".bin", ".pt", ".gguf")
"""Files that the Hub does not send itself."""

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Request:
    """One request as the server saw it."""

    origin: str
    path: str
    range: str | None
    token: str | None

    @property
    def file(self) -> str:
        """The file that it is about."""
        return parse_qs(urlsplit(self.path).query).get("file", [self.path.rpartition("/")[2]])[0]

    @property
    def bounds(self) -> tuple[int, int]:
        """First byte, and one past the last."""
        start, stop = map(int, (self.range or "").removeprefix("bytes=").split("-"))
        return start, stop + 1


@dataclass
class FakeHub:
    """What the server serves, how it misbehaves, and what it has seen.

    Attributes:
        repo: ``org/name``.
        folder: Its files, at the commit that main means at first.
        folders: Its files by commit.
        commits: Commit by branch.
        requests: Every request, in order of arrival.
        connections: Connections that were opened.
        sent: Bytes of bodies sent.
        token: The token that it asks for, None for a public repository.
        gated: Whether access was not granted.
        delay_seconds: Round-trip time, waited before every answer and at the start of every connection.
        fault: Called with each request; may return an answer to give instead, or a function that gives one by hand.
    """

    repo: str
    folder: Path
    folders: dict[str, Path] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    sent: int = 0
    token: str | None = None
    gated: bool = False
    delay_seconds: float = 0.0
    fault: Callable[[Request], Answer | Callable[[Handler], None] | None] = lambda request: None
    url: str = ""
    cdn_url: str = ""

    def listing(self, commit: str) -> dict[str, object]:
        top = self.folders[commit]
        files = sorted(path for path in top.rglob("*") if path.is_file())
        siblings = [sibling(path) | {"rfilename": path.relative_to(top).as_posix()} for path in files]
        return {"id": self.repo, "sha": commit, "siblings": siblings}

    def forget(self) -> None:
        """Count from here."""
        self.requests.clear()
        self.sent = self.connections = 0


def sibling(path: Path) -> dict[str, object]:
    """A file as the Hub lists it; the digests stand for its contents, which may be 4 GB of nothing."""
    status = path.stat()
    identity = f"{path.name} {status.st_size} {status.st_mtime_ns}".encode()
    listed = {"rfilename": path.name, "size": status.st_size, "blobId": hashlib.sha1(identity).hexdigest()}
    if path.name.endswith(LARGE):
        listed["lfs"] = {
            "sha256": hashlib.sha256(identity).hexdigest(),
            "size": status.st_size,
            "pointerSize": 135,
        }
    return listed


def entry(sibling: dict[str, object]) -> dict[str, object]:
    """The same as an entry of a tree."""
    return {"type": "file", "path": sibling["rfilename"], "size": sibling["size"], "oid": sibling["blobId"]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that hang up in mid-answer are part of the game."""


@contextmanager
def serve(repo: str, folder: Path) -> Iterator[FakeHub]:
    """Serve a folder as a repository, until the block ends."""
    hub = FakeHub(repo, folder, {COMMIT: folder})
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


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: FakeHub
    origin: str
    lock: threading.Lock
    signatures: Iterator[int]  # each link is another one, also when many are asked for at once

    def log_message(self, *_: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        with self.lock:
            self.hub.connections += 1
        time.sleep(self.hub.delay_seconds)

    def do_GET(self) -> None:
        hub = self.hub
        self.seen = Request(self.origin, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        with self.lock:
            hub.requests.append(self.seen)
        time.sleep(hub.delay_seconds)
        fault = hub.fault(self.seen)
        place = urlsplit(self.path).path
        if callable(fault):
            fault(self)
        elif fault is not None:
            self.answer(*fault)
        elif self.origin == "cdn":
            query = parse_qs(urlsplit(self.path).query)
            self.send_file(hub.folders[query["commit"][0]] / query["file"][0])
        elif hub.token is not None and self.seen.token != f"Bearer {hub.token}":
            self.answer(401, {"X-Error-Code": "RepoNotFound"}, b"")
        elif place.startswith("/api/models/"):
            self.send_listing(place.removeprefix("/api/models/"))
        elif place.startswith("/api/resolve-cache/"):
            commit, _, file = place.removeprefix(f"/api/resolve-cache/models/{hub.repo}/").partition("/")
            self.send_file(hub.folders[commit] / file)
        else:
            self.resolve(place)

    def send_listing(self, asked: str) -> None:
        if asked == f"{self.hub.repo}/refs":
            branches = [{"name": name, "targetCommit": commit} for name, commit in self.hub.commits.items()]
            self.send_json({"branches": branches, "tags": [], "converts": []})
            return
        if asked.startswith(f"{self.hub.repo}/tree/"):
            self.send_json([entry(file) for file in self.hub.listing(COMMIT)["siblings"]])
            return
        repo, _, revision = asked.partition("/revision/")
        commit = {**self.hub.commits, **{commit: commit for commit in self.hub.folders}}.get(
            unquote(revision) or "main"
        )
        if repo != self.hub.repo:
            self.answer(404, {"X-Error-Code": "RepoNotFound"}, b"")
        elif commit is None:
            self.answer(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        else:
            self.send_json(self.hub.listing(commit))

    def do_POST(self) -> None:
        """What huggingface_hub's own file system asks: sizes and hashes of some paths."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        with self.lock:
            self.hub.requests.append(Request(self.origin, self.path, None, self.headers.get("Authorization")))
        time.sleep(self.hub.delay_seconds)
        folder = self.hub.folders[self.hub.commits.get(self.path.rpartition("/")[2], COMMIT)]
        files = [sibling(folder / name) for name in asked["paths"] if (folder / name).is_file()]
        self.send_json([entry(file) for file in files])

    def send_json(self, document: object) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def resolve(self, place: str) -> None:
        """Small files by a relative link to the Hub's own cache, large ones by a signed link to the second origin."""
        repo, _, rest = place.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        commit = self.hub.commits.get(revision, revision)
        if self.hub.gated:
            self.answer(403, {"X-Error-Code": "GatedRepo"}, b"")
        elif repo != self.hub.repo or commit not in self.hub.folders or not (self.hub.folders[commit] / file).is_file():
            self.answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
        elif not file.endswith(LARGE):
            self.answer(307, {"Location": f"/api/resolve-cache/models/{repo}/{commit}/{file}"}, b"")
        else:
            listed = sibling(self.hub.folders[commit] / file)
            link = f"{self.hub.cdn_url}/blob?commit={commit}&file={file}&Signature=secret{next(self.signatures)}"
            headers = {"Location": link, "X-Repo-Commit": commit, "X-Linked-Size": str(listed["size"])}
            self.answer(302, {**headers, "X-Linked-ETag": f'"{listed["lfs"]["sha256"]}"'}, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_file(self, path: Path) -> None:
        size = path.stat().st_size
        start, stop = self.seen.bounds if self.seen.range else (0, size)
        stop = min(stop, size)
        with open(path, "rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        ranged = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if self.seen.range else {}
        described = {"ETag": '"blob"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        self.answer(206 if ranged else 200, {**ranged, **described}, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with self.lock:  # before it is sent, since the client may be done before this thread goes on
                self.hub.sent += len(body)
            self.wfile.write(body)


def _handler(hub: FakeHub, origin: str) -> type[Handler]:
    shared = {"hub": hub, "origin": origin, "lock": threading.Lock(), "signatures": itertools.count()}
    return type("BoundHandler", (Handler,), shared)
