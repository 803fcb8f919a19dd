"""A repository on the Hub: its listing and branches, and its files from where they cost least."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily re-exported

from gammatorch.checkpoints.base import ByteSource, Traffic
from gammatorch.checkpoints.hub.cache import (
    CachedSource,
    find_cache,
    recall_listing,
    recall_refs,
    remember_listing,
    remember_refs,
)
from gammatorch.checkpoints.hub.client import HubClient
from gammatorch.checkpoints.hub.listing import Listing, is_commit, parse_listing
from gammatorch.checkpoints.hub.parallel import in_parallel
from gammatorch.checkpoints.hub.retry import NOT_KEPT, Clock, RetryPolicy, check_status, refusal, unreadable
from gammatorch.checkpoints.hub.source import HubSource
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.shards import index_suffix, some
from gammatorch.checkpoints.weights import (
    CONFIG,
    DCP_METADATA,
    DCP_SUFFIX,
    INDEX,
    SINGLE,
    TORCH_INDEX,
    TORCH_SINGLE,
    find_weights,
)
from gammatorch.errors import CheckpointNotFound, GammatorchError, UnreadableCheckpoint

DESCRIPTION_CAP = 100_000_000
"""Longest answer of the Hub's API that is read, in bytes."""

MOST_REDIRECTS = 6
"""Redirects that the question for a listing may take."""


def open_repository(
    repo: str,
    revision: str | None = None,
    token: str | None = None,
    *,
    cache: bool = True,
    retry: RetryPolicy | None = None,
) -> tuple[ByteSource, tuple[str, ...]]:
    """The files of a revision, and what a reader of the results should know.

    A branch costs one request, which tells the commit that it means now; a full commit whose listing is in the cache
    costs none. With HF_HUB_OFFLINE nothing is asked, and a branch is as it was last seen.
    """
    client, traffic = HubClient(token, retry), Traffic()
    notes: tuple[str, ...] = ()
    kept = find_cache() if cache else None
    repository = f"{client.endpoint}/{repo}"
    offline = constants.HF_HUB_OFFLINE
    listing = recall_listing(kept, repository, revision) if kept and (offline or is_commit(revision)) else None
    if offline:
        snapshot = _downloaded(repo, revision)
        if snapshot is not None and (listing is None or _covers(snapshot, listing.files)):
            return snapshot, ()
        if listing is None:
            asked = f"{repo}@{revision}" if revision else repo
            raise CheckpointNotFound(NOT_KEPT, file=asked)
        if not is_commit(revision):
            notes = (f"offline: {revision or 'the default branch'} is taken as last seen, {listing.commit[:7]}",)
    if listing is None:
        try:
            listing = fetch_listing(client, repo, revision, traffic)
        except UnreadableCheckpoint as error:
            if kept and recall_listing(kept, repository, revision):
                hint = f"{error.message}; HF_HUB_OFFLINE=1 reads what was kept of it"
                raise UnreadableCheckpoint(hint, file=error.file) from None
            raise
        if kept:
            remember_listing(kept, repository, revision, listing)
    if folders := listing.folders_with_weights:
        raise CheckpointNotFound(
            f"holds no weights at its top, but its folders do ({some(folders)}): download it and pass one of them",
            file=f"{repo}@{listing.commit[:7]}",
        )
    snapshot = _downloaded(repo, listing.commit)
    if snapshot is not None and _covers(snapshot, listing.files):
        snapshot.traffic = traffic
        return snapshot, notes
    remote = HubSource(client, repo, listing, traffic)
    return (CachedSource(remote, kept, repository, listing) if kept else remote), notes


def _downloaded(repo: str, revision: str | None) -> LocalSource | None:
    """The folder in huggingface_hub's cache that holds this revision, if any of it was ever downloaded."""
    for name in (CONFIG, SINGLE, INDEX, TORCH_SINGLE, TORCH_INDEX, DCP_METADATA):
        found = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(found, str):
            folder = Path(found).parent
            return LocalSource(folder, name=f"{repo}@{folder.name[:7]}", revision=folder.name)
    return None


def _covers(snapshot: LocalSource, listed: Mapping[str, int]) -> bool:
    """Whether a downloaded snapshot holds all that a run would read."""
    try:
        weights = find_weights(listed, snapshot.name)
    except GammatorchError:
        return False
    needed = (
        set(weights.files)
        if weights.index is None
        else {name for name in listed if name.endswith(index_suffix(weights.index))}
    )
    if weights.files and weights.files[0].endswith(DCP_SUFFIX):
        needed.add(DCP_METADATA)
    needed |= {name for name in (weights.index, CONFIG) if name in listed and name is not None}
    return all(snapshot.files.get(name) == listed[name] for name in needed)


def fetch_listing(client: HubClient, repo: str, revision: str | None, traffic: Traffic) -> Listing:
    """The files of a revision, and the commit that it means now."""
    where = f"{repo}@{revision}" if revision else repo
    path = f"/revision/{quote(revision, safe='')}" if revision else ""
    return parse_listing(fetch_description(client, repo, f"{path}?blobs=true", where, traffic), where)


def fetch_description(client: HubClient, repo: str, path: str, where: str, traffic: Traffic) -> bytes:
    """What the Hub's API says of a repository."""
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise CheckpointNotFound("is neither a path that exists nor a Hub id org/name", file=where) from None
    url = f"{client.endpoint}/api/models/{repo}{path}"
    bodies: list[bytes] = []
    traffic.rounds += 1
    in_parallel(
        lambda url, clock: bodies.append(
            client.persist(lambda: _get_description(client, url, clock, where, traffic), clock, where)
        ),
        [url],
        threads=1,
        retry=client.policy,
        arrived=lambda url: None,
        overdue=lambda url, clock: unreadable("no whole answer", clock, where),
        waiting=lambda url, clock: client.watch(clock),
    )
    return bodies[0]


def _get_description(client: HubClient, url: str, clock: Clock, where: str, traffic: Traffic) -> bytes:
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


def list_refs(
    repo: str, token: str | None = None, retry: RetryPolicy | None = None, cache: bool = True
) -> Mapping[str, str]:
    """Commit of each branch and tag; where both have a name, the branch's.

    With ``HF_HUB_OFFLINE`` these are the ones that were listed last, and those whose snapshots huggingface_hub has in
    its cache.

    Args:
        repo: ``org/name``.
        token: Access token; None for the one huggingface_hub knows.
        retry: When to give up; None for the client's own.
        cache: Whether to keep what was listed for when there is no network, and to use what was kept.

    Raises:
        CheckpointNotFound: No such repository, or no right to see it.
        UnreadableCheckpoint: The Hub did not answer.
    """
    client, kept = HubClient(token, retry), find_cache() if cache else None
    repository = f"{client.endpoint}/{repo}"
    if constants.HF_HUB_OFFLINE:
        found = (recall_refs(kept, repository) if kept else {}) | _downloaded_refs(repo)
        if not found:
            raise CheckpointNotFound(NOT_KEPT, file=repo)
        return found
    refs = _parse_refs(fetch_description(client, repo, "/refs", repo, Traffic()), repo)
    if kept:
        remember_refs(kept, repository, refs)
    return refs


def _parse_refs(raw: bytes, where: str) -> dict[str, str]:
    try:
        described = json.loads(raw)
        refs = {ref["name"]: ref["targetCommit"] for kind in ("tags", "branches") for ref in described[kind]}
        if not all(isinstance(name, str) and is_commit(commit) for name, commit in refs.items()):
            raise ValueError("no commit")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnreadableCheckpoint(
            "the answer is no list of branches: a login page or proxy may stand in between, or HF_ENDPOINT is no Hub",
            file=where,
        ) from None
    return refs


def _downloaded_refs(repo: str) -> dict[str, str]:
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "refs")
    return {
        path.relative_to(folder).as_posix(): path.read_text().strip()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
