"""What was read from the Hub, kept on disk, so that the next run moves no byte and works without a network.

Many processes may share the folder, on a network file system as well: an entry is written beside its place and renamed
into it, never changed, and bears a digest over its name and its bytes. What is damaged, cut short or in another's place
does not exist. Whatever goes wrong with the cache costs another read from the Hub, and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gammatorch.checkpoints.base import Advance, ByteSource, Read, WrappedSource
from gammatorch.checkpoints.hub.listing import Listing, dump_listing, is_commit, parse_listing
from gammatorch.errors import InvalidArgument, UnreadableCheckpoint

FOLDER, SIZE = "GAMMATORCH_CACHE", "GAMMATORCH_CACHE_GB"
"""Environment variables: where the cache is, and how large it may grow (0: there is none)."""

DEFAULT_GB = 2.0
_VERSION = "hub-1"
_DIGEST_BYTES = 20
_ENTRY = re.compile(rf"\.?[0-9a-f]{{{2 * _DIGEST_BYTES}}}(\.[0-9a-f]+)?")
_ABANDONED_SECONDS = 3600.0
_log = logging.getLogger("gammatorch")

_DEFAULT_BRANCH = "main"
LARGEST_ROUND = 20_000_000
"""Bytes up to which a round is kept, heads of files apart: gains are; wide tensors would push all else out."""


class Cache:
    """Bytes by name, in one folder of bounded size; the entries that were not used for longest go first."""

    def __init__(self, folder: str | os.PathLike[str], most_bytes: int) -> None:
        self.folder = Path(folder, _VERSION)
        self.most_bytes = most_bytes
        self._unchecked = most_bytes  # bytes written since its size was looked at
        self._works = True

    def get(self, name: str) -> bytes | None:
        """The bytes of an entry, None if there is no such entry, or not a whole one."""
        try:
            # O_NONBLOCK: a FIFO in an entry's place must not hang
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                stored = file.read()
            with suppress(OSError):  # another's file may be read without being ours to touch
                os.utime(self._path(name))
        except OSError:
            return None
        content = memoryview(stored)[_DIGEST_BYTES:]
        return bytes(content) if _digest(name, content) == stored[:_DIGEST_BYTES] else None

    def takes(self, count: int) -> bool:
        """Whether an entry of so many bytes would be kept."""
        return self._works and count <= self.most_bytes // 4

    def put(self, name: str, content: bytes) -> None:
        """Keep an entry, in place of an earlier one; where that fails, there is none."""
        if not self.takes(len(content)):
            return
        path = self._path(name)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with open(beside, "xb") as file:
                    file.write(_digest(name, content))
                    file.write(content)
                os.replace(beside, path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
            self._unchecked += len(content)
            if self._unchecked > self.most_bytes // 16:
                self._unchecked = 0
                self._trim()
        except OSError as error:
            self._works = False
            _log.info("nothing is kept in %s (%s)", self.folder, error.strerror)

    def _path(self, name: str) -> Path:
        return self.folder / hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()

    def _trim(self) -> None:
        """Remove the oldest entries until a tenth of the room is free, and what a killed process left behind."""
        held: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as found:
            for entry in found:
                if _ENTRY.fullmatch(entry.name):  # nothing that is not ours
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        held.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in held)
        excess = total - self.most_bytes * 9 // 10 if total > self.most_bytes else 0
        for used, size, path in sorted(held):
            abandoned = os.path.basename(path).startswith(".") and used < time.time() - _ABANDONED_SECONDS
            if excess > 0 or abandoned:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                excess -= size


def is_entry(path: Path) -> bool:
    """Whether a path is, by its name and its folder's, that of an entry of a cache."""
    return path.parent.name == _VERSION and _ENTRY.fullmatch(path.name) is not None


def find_cache() -> Cache | None:
    """The user's cache, one object for the whole process; None where there is to be none.

    It is in ``GAMMATORCH_CACHE``, else ``$XDG_CACHE_HOME/gammatorch``, else ``~/.cache/gammatorch``.
    """
    wanted = os.environ.get(SIZE) or DEFAULT_GB
    try:
        most_bytes = int(float(wanted) * 1e9)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{wanted!r} is not a number of gigabytes (0: no cache)", file=SIZE) from None
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = os.environ.get(FOLDER) or os.path.join(
        base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "gammatorch"
    )
    usable = most_bytes > 0 and (FOLDER in os.environ or os.path.isabs(folder))  # no home: "~" stays as it is
    return _shared(folder, most_bytes) if usable else None


_shared = functools.cache(Cache)


def _digest(name: str, content: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES)
    digest.update(b"\0")
    digest.update(content)
    return digest.digest()


def recall_listing(cache: Cache, repository: str, revision: str | None) -> Listing | None:
    """The listing of a revision as it was last seen, None if it never was."""
    commit = revision if is_commit(revision) else (cache.get(_revision(repository, revision)) or b"").decode()
    stored = cache.get(_listing(repository, commit)) if commit else None
    try:
        listing = parse_listing(stored, repository) if stored is not None else None
    except UnreadableCheckpoint:
        return None
    return listing if listing is not None and listing.commit == commit else None


def remember_listing(cache: Cache, repository: str, revision: str | None, listing: Listing) -> None:
    """Keep a listing, and the commit that the revision means now."""
    if not is_commit(revision):
        _keep(cache, _revision(repository, revision), listing.commit.encode())
    _keep(cache, _listing(repository, listing.commit), dump_listing(listing))


def recall_refs(cache: Cache, repository: str) -> dict[str, str]:
    """The commits of branches and tags as they were last listed, none if they never were."""
    found: dict[str, str] = json.loads(cache.get(_refs(repository)) or b"{}")
    return found


def remember_refs(cache: Cache, repository: str, refs: Mapping[str, str]) -> None:
    """Keep the commits of branches and tags."""
    _keep(cache, _refs(repository), json.dumps(dict(refs)).encode())


def _keep(cache: Cache, name: str, content: bytes) -> None:
    if cache.get(name) != content:
        cache.put(name, content)


def _revision(repository: str, revision: str | None) -> str:
    return json.dumps(["revision", repository, revision or _DEFAULT_BRANCH])


def _refs(repository: str) -> str:
    return json.dumps(["refs", repository])


def _listing(repository: str, commit: str | None) -> str:
    return json.dumps(["listing", repository, commit])


class CachedSource(WrappedSource):
    """A source whose rounds are kept: what was once read together is read again from the disk, at once."""

    def __init__(self, source: ByteSource, cache: Cache, repository: str, listing: Listing) -> None:
        super().__init__(source)
        self._cache = cache
        self._repository = repository
        self._listing = listing

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer, from the cache if it holds just these reads."""
        needed = sum(len(read.into) for read in reads)
        if sum(len(read.into) for read in reads if read.start) > LARGEST_ROUND:
            self._source.read(reads, advance)
            return
        name = self._name(reads)
        kept = memoryview(self._cache.get(name) or b"")
        if len(kept) != needed:
            self._source.read(reads, advance)
            if self._cache.takes(needed):
                self._cache.put(name, b"".join(read.into for read in reads))
            return
        start = 0
        for read in reads:
            read.into[:] = kept[start : start + len(read.into)]
            start += len(read.into)
        self.traffic.bytes_cached += needed
        if advance is not None:
            advance(needed)

    def _name(self, reads: Sequence[Read]) -> str:
        ranges = [(read.file, read.start, len(read.into)) for read in reads]
        files = {file: (self.files[file], self._listing.identity(file)) for file, _, _ in ranges}
        return json.dumps(["ranges", self._repository, files, ranges])
