"""The Hub as the cache remembers it: listings by commit, commits by branch, and rounds of reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gammatorch.checkpoints.base import Advance, ByteSource, Read
from gammatorch.checkpoints.hub.cache import Cache
from gammatorch.checkpoints.hub.listing import Listing, dump_listing, is_commit, parse_listing
from gammatorch.checkpoints.wrapped import WrappedSource
from gammatorch.errors import UnreadableCheckpoint

_DEFAULT_BRANCH = "main"

LARGEST_ROUND = 20_000_000
"""Bytes up to which a round is kept, heads of files apart: gains are; wide tensors would push all else out."""


def recall_listing(cache: Cache, repository: str, revision: str | None) -> Listing | None:
    """The listing of a revision as it was last seen, None if it never was.

    Args:
        cache: Where it would be.
        repository: The Hub's address and ``org/name``.
        revision: Branch, tag or commit; None for the default branch.
    """
    commit = revision if is_commit(revision) else (cache.get(_revision(repository, revision)) or b"").decode()
    stored = cache.get(_listing(repository, commit)) if commit else None
    try:
        listing = parse_listing(stored, repository) if stored is not None else None
    except UnreadableCheckpoint:
        return None
    return listing if listing is not None and listing.commit == commit else None


def remember_listing(cache: Cache, repository: str, revision: str | None, listing: Listing) -> None:
    """Keep a listing, and the commit that the revision means now.

    Args:
        cache: Where.
        repository: The Hub's address and ``org/name``.
        revision: What it was asked for by.
        listing: What the Hub answered.
    """
    if not is_commit(revision):
        _keep(cache, _revision(repository, revision), listing.commit.encode())
    _keep(cache, _listing(repository, listing.commit), dump_listing(listing))


def recall_refs(cache: Cache, repository: str) -> dict[str, str]:
    """The commits of branches and tags as they were last listed, none if they never were.

    Args:
        cache: Where they would be.
        repository: The Hub's address and ``org/name``.
    """
    found: dict[str, str] = json.loads(cache.get(_refs(repository)) or b"{}")
    return found


def remember_refs(cache: Cache, repository: str, refs: Mapping[str, str]) -> None:
    """Keep the commits of branches and tags.

    Args:
        cache: Where.
        repository: The Hub's address and ``org/name``.
        refs: Commit by name.
    """
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
    """A source whose rounds are kept: what was once read together is read again from the disk, at once.

    Args:
        source: Where the bytes come from.
        cache: Where they are kept.
        repository: Whose files they are: the Hub's address and ``org/name``.
        listing: What these are.

    Attributes:
        hashes: What the Hub says the contents of each file hash to, where it does.
    """

    def __init__(self, source: ByteSource, cache: Cache, repository: str, listing: Listing) -> None:
        super().__init__(source)
        self._cache = cache
        self._repository = repository
        self._listing = listing
        self.hashes: Mapping[str, str] = listing.hashes

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer, from the cache if it holds just these reads.

        Raises:
            UnreadableCheckpoint: It does not, and the underlying source failed.
        """
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
