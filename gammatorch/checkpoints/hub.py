"""Bytes of a repository on the Hugging Face Hub, by HTTP range requests.

Three dependent rounds read a model of any size: the listing, which fixes the commit and tells every file's size;
config.json and the heads of all shards; the gains. Nothing is written to disk.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from typing import Any, TypeVar

from huggingface_hub import HfApi, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # lazily re-exported

from gammatorch.checkpoints.base import Advance, Read, Traffic
from gammatorch.checkpoints.weights import INDEX
from gammatorch.errors import CheckpointNotFound, GammatorchError, UnreadableCheckpoint

CONNECTIONS = 16
"""Requests in flight at once."""

MERGE_GAP = 32_768
"""Two ranges with at most this many bytes between them travel as one request."""

HEAD_BYTES = (16_384, 4_000_000)
"""Least and most bytes read blindly from the head of a shard."""

DEADLINE_SECONDS = 120.0
"""Time after which a read that keeps failing gives up."""

MOST_CONNECTION_TRIES = 4
"""Failures without any answer (no network, say) after which it gives up sooner than at the deadline."""

TIMEOUT_SECONDS = 15.0
"""Longest silence of a connection."""

RETRIED = frozenset({408, 429, 500, 502, 503, 504})

# huggingface_hub 1 speaks httpx and 2 speaks httpx2: the transport's own base class is the one that both derive from
_TRANSPORT_ERROR: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
_Result = TypeVar("_Result")


class _Retry(Exception):
    """Worth another try: the message says why, ``wait`` how many seconds the server asks for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class HubSource:
    """The files of one commit of a repository.

    Args:
        repo: ``org/name``.
        revision: Branch, tag or commit; None for the default branch.
        token: Access token; None for the one huggingface_hub knows.

    Raises:
        CheckpointNotFound: No such repository or revision, or no right to see it.
        UnreadableCheckpoint: The Hub did not answer.
    """

    def __init__(self, repo: str, revision: str | None = None, token: str | None = None) -> None:
        self._repo = repo
        self._token = token
        self._lock = threading.Lock()
        self._final_urls: dict[str, str] = {}
        self.traffic = Traffic(rounds=1)
        self.name = f"{repo}@{revision}" if revision else repo
        listing = self._persist(lambda: self._listing(revision))
        self.revision: str | None = listing.sha
        self.name = f"{repo}@{(listing.sha or revision or 'main')[:7]}"
        self.files: Mapping[str, int] = {
            sibling.rfilename: sibling.size for sibling in listing.siblings or [] if sibling.size is not None
        }

    def speculate(self, file: str) -> int:
        """Twice a shard's part of the index, which grows with the headers; else enough for a dense model."""
        shards = sum(name.endswith(".safetensors") for name in self.files)
        if INDEX not in self.files:
            return 4 * HEAD_BYTES[0]
        least, most = HEAD_BYTES
        return max(least, min(2 * self.files[INDEX] // max(shards, 1), most))

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer; all requests go out at once, neighbouring ranges as one.

        Raises:
            UnreadableCheckpoint: The Hub failed for longer than it may, or answers with something else than asked.
            CheckpointNotFound: The file or the right to read it is gone.
        """
        self.traffic.rounds += 1
        with ThreadPoolExecutor(CONNECTIONS, "gammatorch-hub") as pool:
            groups = {pool.submit(self._fetch, group): group for group in merge_reads(reads)}
            try:
                for future in as_completed(groups):
                    future.result()
                    if advance is not None:
                        advance(sum(len(read.into) for read in groups[future]))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def close(self) -> None:
        """Nothing to let go of: the connections belong to huggingface_hub's session."""

    def _listing(self, revision: str | None) -> Any:
        self._count(requests=1)
        api = HfApi(token=self._token)
        return api.model_info(self._repo, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS)

    def _fetch(self, group: Sequence[Read]) -> None:
        """One request for a run of neighbouring reads of one file."""
        file, start = group[0].file, group[0].start
        stop = max(read.start + len(read.into) for read in group)
        if start == stop:
            return
        exact = len(group) == 1
        buffer = group[0].into if exact else memoryview(bytearray(stop - start))
        self._persist(lambda: self._get_range(file, start, buffer), file)
        if not exact:
            for read in group:
                read.into[:] = buffer[read.start - start :][: len(read.into)]

    def _get_range(self, file: str, start: int, into: memoryview) -> None:
        stop, size = start + len(into), self.files[file]
        url = remembered = self._final_urls.get(file)
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        if url is None:  # the token goes to the Hub's own address; on the way to another one the session drops it
            url = hf_hub_url(self._repo, file, revision=self.revision)
            headers |= build_hf_headers(token=self._token)
        self._count(requests=1)
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as response:
            if remembered is not None and response.status_code in (401, 403, 404, 410):
                self._final_urls.pop(file, None)
                raise _Retry("the link to the file expired", wait=0.0)
            if response.status_code >= 400:
                response.read()
                hf_raise_for_status(response)
            expected = f"bytes {start}-{stop - 1}/{size}"
            whole = response.status_code == 200 and len(into) == size
            if not whole and (response.status_code != 206 or response.headers.get("Content-Range") != expected):
                raise UnreadableCheckpoint(  # hanging up here, before a whole shard arrives
                    f"the server answered {response.status_code} "
                    f"({response.headers.get('Content-Range', 'no Content-Range')}) to a request for {expected}: "
                    "a proxy in between ignores ranges, go around it or download the model",
                    file=f"{self.name}/{file}",
                )
            filled = 0
            for chunk in response.iter_raw():
                if filled + len(chunk) > len(into):
                    raise _Retry("more bytes came than were asked for")
                into[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
                self._count(bytes_read=len(chunk))
            if filled < len(into):
                raise _Retry(f"{filled} of {len(into)} bytes came")
            if response.history and _origin(response.url) != _origin(response.history[0].url):
                self._final_urls[file] = str(response.url)

    def _persist(self, attempt: Callable[[], _Result], file: str | None = None) -> _Result:
        """Try until it works, cannot work, or the deadline has passed."""
        where = f"{self.name}/{file}" if file else self.name
        deadline = time.monotonic() + DEADLINE_SECONDS
        for tries, pause in enumerate(_pauses(), start=1):
            try:
                return attempt()
            except (_Retry, _TRANSPORT_ERROR, OSError) as error:
                wait = _wait(error, where)
                if wait is None:
                    wait = pause
                unreachable = not isinstance(error, (_Retry, HfHubHTTPError)) and tries >= MOST_CONNECTION_TRIES
                if unreachable or time.monotonic() + wait > deadline:
                    raise UnreadableCheckpoint(
                        f"the Hub cannot be read ({_plain(error)}): check the network, or try again later", file=where
                    ) from error
                time.sleep(wait)
            except HFValidationError:
                raise CheckpointNotFound("is neither a path that exists nor a Hub id org/name", file=where) from None
        raise AssertionError("the pauses never end")

    def _count(self, *, requests: int = 0, bytes_read: int = 0) -> None:
        with self._lock:
            self.traffic.requests += requests
            self.traffic.bytes_read += bytes_read


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


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _pauses() -> Iterator[float]:
    """Seconds to wait before each further try: doubling, with jitter so that many readers do not march in step."""
    pause = 0.5
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, 10.0)


def _wait(error: Exception, where: str) -> float | None:
    """Seconds the server asks to wait, None if it does not say; raises what no repetition can mend."""
    if isinstance(error, _Retry):
        return error.wait
    if isinstance(error, OfflineModeIsEnabled):
        raise UnreadableCheckpoint("is not in the local cache, and HF_HUB_OFFLINE is set", file=where) from None
    if isinstance(error, HfHubHTTPError):
        response = getattr(error, "response", None)
        status = response.status_code if response is not None else None
        if status not in RETRIED:
            raise _refusal(error, status, where) from None
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        return min(float(asked), DEADLINE_SECONDS) if re.fullmatch(r"\d+(\.\d+)?", asked) else None
    return None


def _refusal(error: HfHubHTTPError, status: int | None, where: str) -> GammatorchError:
    if isinstance(error, GatedRepoError):
        return CheckpointNotFound(
            "is gated: accept its terms on the Hub, then pass --token or run `hf auth login`", file=where
        )
    if isinstance(error, RevisionNotFoundError):
        return CheckpointNotFound("no such branch, tag or commit in that repository", file=where)
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointNotFound(
            "no such path here, and no such repository on the Hub (or a private one: "
            "pass --token or run `hf auth login`)",
            file=where,
        )
    if isinstance(error, EntryNotFoundError) or status == 404:
        return CheckpointNotFound("is not on the Hub", file=where)
    if status in (401, 403):
        return CheckpointNotFound(f"the Hub refuses access ({status}): check the token and its rights", file=where)
    return UnreadableCheckpoint(f"the Hub answered {status}", file=where)


def _plain(error: Exception) -> str:
    """What failed in a few words; never a URL, which may carry a signature."""
    if isinstance(error, HfHubHTTPError) and getattr(error, "response", None) is not None:
        return f"status {error.response.status_code}"
    return str(error) if isinstance(error, _Retry) else type(error).__name__
