"""Branches and tags of a repository on the Hub, with the commits they stand for: one request for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from gammatorch.checkpoints.base import Traffic
from gammatorch.checkpoints.hub.cache import find_cache
from gammatorch.checkpoints.hub.cached import recall_refs, remember_refs
from gammatorch.checkpoints.hub.client import HubClient
from gammatorch.checkpoints.hub.listing import is_commit
from gammatorch.checkpoints.hub.patience import Patience
from gammatorch.checkpoints.hub.refusals import NOT_KEPT
from gammatorch.checkpoints.hub.source import fetch_description
from gammatorch.errors import CheckpointNotFound, UnreadableCheckpoint


def list_refs(
    repo: str, token: str | None = None, patience: Patience | None = None, cache: bool = True
) -> Mapping[str, str]:
    """Commit of each branch and tag; where both have a name, the branch's.

    With ``HF_HUB_OFFLINE`` these are the ones that were listed last, and those whose snapshots huggingface_hub has in
    its cache.

    Args:
        repo: ``org/name``.
        token: Access token; None for the one huggingface_hub knows.
        patience: When to give up; None for the client's own.
        cache: Whether to keep what was listed for when there is no network, and to use what was kept.

    Raises:
        CheckpointNotFound: No such repository, or no right to see it.
        UnreadableCheckpoint: The Hub did not answer.
    """
    client, kept = HubClient(token, patience), find_cache() if cache else None
    repository = f"{client.endpoint}/{repo}"
    if constants.HF_HUB_OFFLINE:
        found = (recall_refs(kept, repository) if kept else {}) | _downloaded_refs(repo)
        if not found:
            raise CheckpointNotFound(NOT_KEPT, file=repo)
        return found
    refs = _parse(fetch_description(client, repo, "/refs", repo, Traffic()), repo)
    if kept:
        remember_refs(kept, repository, refs)
    return refs


def _parse(raw: bytes, where: str) -> dict[str, str]:
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
