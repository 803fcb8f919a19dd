"""Bytes of a repository on the Hugging Face Hub, by HTTP range requests.

Four dependent rounds read a model of any size: the listing, which fixes the commit and tells every file's size;
the links to config.json and all shards; their heads; the gains. Neighbouring reads are filled by one request, or by
several that go on where the last one broke off.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from huggingface_hub import hf_hub_url

from gammatorch.checkpoints.base import Advance, ByteSource, Read, Traffic
from gammatorch.checkpoints.hub.client import CONNECTIONS, HubClient
from gammatorch.checkpoints.hub.listing import Listing
from gammatorch.checkpoints.hub.parallel import in_parallel
from gammatorch.checkpoints.hub.retry import Clock, TryAgain, check_status, refusal, unreadable
from gammatorch.checkpoints.weights import INDEX
from gammatorch.errors import UnreadableCheckpoint

MERGE_GAP = 32_768
"""Two ranges with at most this many bytes between them travel as one request."""

HEAD_BYTES = (16_384, 4_000_000)
"""Least and most bytes read blindly from the head of a shard."""

MOST_PASSES = 8
"""Times that links are asked for and followed in one read: twice, and more where they have expired."""

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What a link answers when its signature is no longer good."""


def merge_reads(reads: Sequence[Read]) -> list[list[Read]]:
    """Group the reads of each file so that neighbours share a request.

    Example:
        >>> reads = [Read("a", start, memoryview(bytearray(8))) for start in (0, 100_000, 8)]
        >>> [[read.start for read in group] for group in merge_reads(reads)]
        [[0, 8], [100000]]
    """
    groups: list[list[Read]] = []
    ordered = sorted(reads, key=lambda read: (read.file, read.start))
    for _, of_file in groupby(ordered, key=lambda read: read.file):
        stop = None
        for read in of_file:
            if stop is not None and read.start - stop <= MERGE_GAP:
                groups[-1].append(read)
            else:
                groups.append([read])
            stop = max(stop or 0, read.start + len(read.into))
    return groups


class FileRange:
    """A range of a file that arrives from the network.

    Attributes:
        file: Name of the file.
        link: Where the Hub says it is to be had, None if it has to be asked.
        filled: Bytes of it that are there.
    """

    def __init__(self, reads: Sequence[Read], file_bytes: int, link: str | None = None) -> None:
        self.file = reads[0].file
        self.link = link
        self._reads = reads
        self._file_bytes = file_bytes
        self._start = reads[0].start
        self._stop = max(read.start + len(read.into) for read in reads)
        self._buffer = reads[0].into if len(reads) == 1 else memoryview(bytearray(self._stop - self._start))
        self.filled = 0

    @property
    def is_filled(self) -> bool:
        """Whether nothing is missing."""
        return self.filled == len(self._buffer)

    @property
    def headers(self) -> dict[str, str]:
        """How to ask for what is missing."""
        return {"Range": f"bytes={self._start + self.filled}-{self._stop - 1}", "Accept-Encoding": "identity"}

    def accept(self, status: int, headers: Mapping[str, str], where: str) -> None:
        """Make sure that an answer is what was asked for, before its body is read.

        Raises:
            UnreadableCheckpoint: It is something else.
            TryAgain: It contradicts itself.
        """
        asked = f"bytes {self._start + self.filled}-{self._stop - 1}/{self._file_bytes}"
        if status == 200 and len(self._buffer) == self._file_bytes:
            self.filled = 0  # the whole file is what the range is
            answered = f"bytes 0-{self._file_bytes - 1}/{self._file_bytes}"
            asked = answered
        else:
            answered = headers.get("Content-Range", "no Content-Range") if status == 206 else f"status {status}"
        if answered != asked:  # hanging up here, before a whole shard arrives
            raise UnreadableCheckpoint(
                f"the server answered {answered} to a request for {asked}: "
                "a proxy in between ignores ranges, go around it or download the model",
                file=where,
            )
        encoding = headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise UnreadableCheckpoint(
                f"the server sends it as {encoding}, which was not asked for: a proxy in between changes "
                "what it passes on, go around it or download the model",
                file=where,
            )
        missing = str(len(self._buffer) - self.filled)
        if headers.get("Content-Length", missing) != missing:
            raise TryAgain("an answer of another length than was asked for")

    def take(self, chunk: bytes, where: str) -> None:
        """The next bytes of the body."""
        if self.filled + len(chunk) > len(self._buffer):
            raise UnreadableCheckpoint("more bytes came than were asked for: try again later", file=where)
        self._buffer[self.filled : self.filled + len(chunk)] = chunk
        self.filled += len(chunk)

    def finish(self) -> None:
        """The body has ended.

        Raises:
            TryAgain: Too early.
        """
        if not self.is_filled:
            raise TryAgain(f"{self.filled} of {len(self._buffer)} bytes came")

    def hand_over(self, advance: Advance | None) -> None:
        """Give every read its bytes, once all are there; ``advance`` is told how many these are."""
        if not self.is_filled:
            return
        if len(self._reads) > 1:
            for read in self._reads:
                read.into[:] = self._buffer[read.start - self._start :][: len(read.into)]
        if advance is not None:
            advance(sum(len(read.into) for read in self._reads))


class HubSource(ByteSource):
    """The files of one commit of a repository."""

    def __init__(self, client: HubClient, repo: str, listing: Listing, traffic: Traffic | None = None) -> None:
        self._client = client
        self._repo = repo
        self._lock = threading.Lock()
        self._links: dict[str, str] = {}
        self.traffic = traffic if traffic is not None else Traffic()
        self.name = f"{repo}@{listing.commit[:7]}"
        self.revision = listing.commit
        self.files = listing.files
        self.hashes = listing.hashes

    def speculate(self, file: str) -> int:
        """Twice a shard's part of the index, which grows with the headers; else enough for a dense model."""
        shards = sum(name.endswith(".safetensors") for name in self.files)
        if INDEX not in self.files:
            return 4 * HEAD_BYTES[0]
        least, most = HEAD_BYTES
        return max(least, min(2 * self.files[INDEX] // max(shards, 1), most))

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer; all requests go out at once, neighbouring ranges as one.

        For most files the Hub answers with a link, to another origin where they are large. Links are followed once all
        are there: a connection that idles while its link is followed would be closed as one too many.
        """
        groups = merge_reads(reads)
        parts = [FileRange(group, self.files[group[0].file], self._links.get(group[0].file)) for group in groups]
        for _ in range(MOST_PASSES):
            parts = [part for part in parts if not part.is_filled]
            if not parts:
                return
            self.traffic.rounds += 1
            in_parallel(
                self._fetch,
                parts,
                threads=CONNECTIONS,
                retry=self._client.policy,
                arrived=lambda part: part.hand_over(advance),
                overdue=lambda part, clock: unreadable("no whole answer", clock, self._where(part)),
                waiting=lambda part, clock: self._client.watch(clock, part.link),
            )
        for part in parts:
            if not part.is_filled:
                raise UnreadableCheckpoint(
                    "the links that the Hub gives lead nowhere: look for a proxy in between, or try again later",
                    file=self._where(part),
                )

    def close(self) -> None:
        """Nothing to let go of: the connections belong to huggingface_hub's session."""

    def _fetch(self, part: FileRange, clock: Clock) -> None:
        """Fill what is missing of a range, or learn where it is to be had, or that its link has expired."""
        self._client.persist(lambda: self._attempt(part, clock), clock, self._where(part))

    def _attempt(self, part: FileRange, clock: Clock) -> None:
        if part.is_filled:  # and the try before ended badly all the same
            return
        link = part.link
        url = link or hf_hub_url(self._repo, part.file, revision=self.revision, endpoint=self._client.endpoint)
        with self._lock:
            self.traffic.requests += 1
        with self._client.ask(url, part.headers) as response:
            if response.next_request is not None:
                self._links[part.file] = part.link = str(response.next_request.url)
                self._client.drain(response)
            elif link is not None and response.status_code in _EXPIRED:
                if self._links.get(part.file) == link:
                    self._links.pop(part.file, None)
                part.link = None  # it asks for its own: one that it shared could be used up before its turn
                self._client.drain(response)
            else:
                self._receive(part, response, clock)

    def _receive(self, part: FileRange, response: Any, clock: Clock) -> None:
        check_status(response)
        if response.status_code >= 400:
            raise refusal(response.status_code, response.headers, self._where(part), file=True)
        part.accept(response.status_code, response.headers, self._where(part))
        for chunk in self._client.body(response.iter_raw()):
            part.take(chunk, self._where(part))
            clock.reach(part.filled)
            with self._lock:
                self.traffic.bytes_read += len(chunk)
        part.finish()

    def _where(self, part: FileRange) -> str:
        return f"{self.name}/{part.file}"
