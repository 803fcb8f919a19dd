"""Bytes of a repository on the Hugging Face Hub, by HTTP range requests.

Four dependent rounds read a model of any size: the listing, which fixes the commit and tells every file's size;
the links to config.json and all shards; their heads; the gains.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily re-exported

from gammatorch.checkpoints.base import Advance, Read, Traffic
from gammatorch.checkpoints.hub.at_once import at_once
from gammatorch.checkpoints.hub.client import CONNECTIONS, HubClient, check_status, unreadable
from gammatorch.checkpoints.hub.listing import Listing, parse_listing
from gammatorch.checkpoints.hub.patience import Clock
from gammatorch.checkpoints.hub.ranges import FileRange, merge_reads
from gammatorch.checkpoints.hub.refusals import refusal
from gammatorch.checkpoints.weights import INDEX
from gammatorch.errors import CheckpointNotFound, UnreadableCheckpoint

HEAD_BYTES = (16_384, 4_000_000)
"""Least and most bytes read blindly from the head of a shard."""

DESCRIPTION_CAP = 100_000_000
"""Longest answer of the Hub's API that is read, in bytes."""

MOST_REDIRECTS = 6
"""Redirects that the question for a listing may take."""

MOST_PASSES = 8
"""Times that links are asked for and followed in one read: twice, and more where they have expired."""

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What a link answers when its signature is no longer good."""


def fetch_listing(client: HubClient, repo: str, revision: str | None, traffic: Traffic) -> Listing:
    """The files of a revision, and the commit that it means now.

    Args:
        client: The Hub.
        repo: ``org/name``.
        revision: Branch, tag or commit; None for the default branch.
        traffic: Where to count what this moves.

    Raises:
        CheckpointNotFound: No such repository or revision, or no right to see it.
        UnreadableCheckpoint: The Hub did not answer, or with something else.
    """
    where = f"{repo}@{revision}" if revision else repo
    path = f"/revision/{quote(revision, safe='')}" if revision else ""
    return parse_listing(fetch_description(client, repo, f"{path}?blobs=true", where, traffic), where)


def fetch_description(client: HubClient, repo: str, path: str, where: str, traffic: Traffic) -> bytes:
    """What the Hub's API says of a repository.

    Args:
        client: The Hub.
        repo: ``org/name``.
        path: What of it.
        where: How messages call it.
        traffic: Where to count what this moves.

    Raises:
        CheckpointNotFound: No such repository or revision, or no right to see it.
        UnreadableCheckpoint: The Hub did not answer.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise CheckpointNotFound("is neither a path that exists nor a Hub id org/name", file=where) from None
    url = f"{client.endpoint}/api/models/{repo}{path}"
    bodies: list[bytes] = []
    traffic.rounds += 1
    at_once(
        lambda url, clock: bodies.append(
            client.persist(lambda: _get(client, url, clock, where, traffic), clock, where)
        ),
        [url],
        threads=1,
        patience=client.patience,
        arrived=lambda url: None,
        overdue=lambda url, clock: unreadable("no whole answer", clock, where),
        waiting=lambda url, clock: client.watch(clock),
    )
    return bodies[0]


def _get(client: HubClient, url: str, clock: Clock, where: str, traffic: Traffic) -> bytes:
    """The body of the Hub's answer, in one try; a repository that was renamed redirects to its new name."""
    for _ in range(MOST_REDIRECTS):
        traffic.requests += 1
        body = bytearray()
        with client.ask(url, {"Accept-Encoding": "gzip"}) as response:
            if response.next_request is not None and client.is_home(str(response.next_request.url)):
                url = str(response.next_request.url)
                client.drain(response)
                continue
            check_status(response)
            if response.status_code >= 400:
                raise refusal(response.status_code, response.headers, where, file=False)
            for chunk in client.body(response.iter_bytes()):
                body += chunk
                clock.reach(len(body))
                if len(body) > DESCRIPTION_CAP:
                    raise UnreadableCheckpoint("what the Hub says of it never ends", file=where)
            traffic.bytes_read += response.num_bytes_downloaded
            return bytes(body)
    raise UnreadableCheckpoint("the Hub redirects in a circle", file=where)


class HubSource:
    """The files of one commit of a repository.

    Args:
        client: The Hub.
        repo: ``org/name``.
        listing: What :func:`fetch_listing` gave.
        traffic: What has been moved before; None for nothing.

    Attributes:
        hashes: What the Hub says the contents of each file hash to, where it does.
    """

    def __init__(self, client: HubClient, repo: str, listing: Listing, traffic: Traffic | None = None) -> None:
        self._client = client
        self._repo = repo
        self._lock = threading.Lock()
        self._links: dict[str, str] = {}
        self.traffic = traffic if traffic is not None else Traffic()
        self.name = f"{repo}@{listing.commit[:7]}"
        self.revision: str | None = listing.commit
        self.files: Mapping[str, int] = listing.files
        self.hashes: Mapping[str, str] = listing.hashes

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

        Raises:
            UnreadableCheckpoint: The Hub failed for longer than it may, or answers with something else than asked.
            CheckpointNotFound: The file or the right to read it is gone.
        """
        groups = merge_reads(reads)
        parts = [FileRange(group, self.files[group[0].file], self._links.get(group[0].file)) for group in groups]
        for _ in range(MOST_PASSES):
            parts = [part for part in parts if not part.is_filled]
            if not parts:
                return
            self.traffic.rounds += 1
            at_once(
                self._fetch,
                parts,
                threads=CONNECTIONS,
                patience=self._client.patience,
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
