"""Branches and tags of a repository on the Hub, with the commits they stand for: one request for all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import repo_folder_name

from gammatorch.checkpoints.hub import _TRANSPORT_ERROR, DEADLINE_SECONDS, _pauses, _plain, _wait
from gammatorch.errors import CheckpointNotFound, UnreadableCheckpoint


def list_refs(repo: str, token: str | None = None) -> Mapping[str, str]:
    """Commit of each branch and tag; where both have a name, the branch's.

    With ``HF_HUB_OFFLINE`` these are the ones whose snapshots huggingface_hub has in its cache.

    Args:
        repo: ``org/name``.
        token: Access token; None for the one huggingface_hub knows.

    Raises:
        CheckpointNotFound: No such repository, or no right to see it.
        UnreadableCheckpoint: The Hub did not answer.
    """
    if constants.HF_HUB_OFFLINE:
        return _cached_refs(repo)
    deadline = time.monotonic() + DEADLINE_SECONDS
    for pause in _pauses():
        try:
            refs = HfApi(token=token).list_repo_refs(repo)
        except (_TRANSPORT_ERROR, OSError) as error:
            wait = _wait(error, repo)
            if time.monotonic() + (wait or pause) > deadline:
                raise UnreadableCheckpoint(
                    f"the Hub cannot be read ({_plain(error)}): check the network, or try again later", file=repo
                ) from error
            time.sleep(wait or pause)
        except HFValidationError:
            raise CheckpointNotFound("is neither a path that exists nor a Hub id org/name", file=repo) from None
        else:
            return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}
    raise AssertionError("the pauses never end")


def _cached_refs(repo: str) -> Mapping[str, str]:
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "refs")
    found = {
        path.relative_to(folder).as_posix(): path.read_text().strip()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if not found:
        raise CheckpointNotFound("is not in the local cache, and HF_HUB_OFFLINE is set", file=repo)
    return found
