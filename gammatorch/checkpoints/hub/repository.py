"""A repository on the Hub, from where it costs least: a downloaded snapshot, the cache, the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from gammatorch.checkpoints.base import ByteSource, Traffic
from gammatorch.checkpoints.hub.cache import find_cache
from gammatorch.checkpoints.hub.cached import CachedSource, recall_listing, remember_listing
from gammatorch.checkpoints.hub.client import HubClient
from gammatorch.checkpoints.hub.listing import is_commit
from gammatorch.checkpoints.hub.patience import Patience
from gammatorch.checkpoints.hub.refusals import NOT_KEPT
from gammatorch.checkpoints.hub.source import HubSource, fetch_listing
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


def open_repository(
    repo: str,
    revision: str | None = None,
    token: str | None = None,
    *,
    cache: bool = True,
    patience: Patience | None = None,
) -> tuple[ByteSource, tuple[str, ...]]:
    """The files of a revision, and what a reader of the results should know.

    A branch costs one request, which tells the commit that it means now; a full commit whose listing is in the cache
    costs none. With HF_HUB_OFFLINE nothing is asked, and a branch is as it was last seen.

    Args:
        repo: ``org/name``.
        revision: Branch, tag or commit; None for the default branch.
        token: Access token; None for the one that huggingface_hub knows.
        cache: Whether to use the cache.
        patience: When to give up; None for the client's own.

    Raises:
        CheckpointNotFound: No such repository or revision, no right to see it, offline and never seen, or its weights
            are in folders.
        UnreadableCheckpoint: The Hub did not answer.
        InvalidArgument: The environment makes no sense.
    """
    client, traffic = HubClient(token, patience), Traffic()
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
