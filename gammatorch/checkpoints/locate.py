"""From what a user types to the files it means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gammatorch.checkpoints.base import ByteSource
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.weights import (
    CONFIG,
    INDEX,
    SINGLE,
    SUFFIXES,
    TORCH_INDEX,
    TORCH_SINGLE,
    find_weights,
    index_suffix,
)
from gammatorch.errors import CheckpointNotFound, GammatorchError, InvalidArgument, UnsupportedFormat

_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_SNAPSHOT = re.compile(r"models--(?P<org>.+?)--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})")


@dataclass(frozen=True)
class Location:
    """Where a checkpoint is.

    Attributes:
        model: The name it goes by.
        source: Its files.
        target: The one file the user named, None for a whole folder or repository.
    """

    model: str
    source: ByteSource
    target: str | None = None


def locate(model: str | os.PathLike[str], revision: str | None = None, token: str | None = None) -> Location:
    """Find a folder, a file, an index, or a repository on the Hub.

    A path that exists wins. What looks like a path and does not exist is never sent to the Hub.

    Args:
        model: Folder, weight file, ``*.index.json``, ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the Hub.
        token: Access token for the Hub.

    Raises:
        CheckpointNotFound: There is nothing of that name.
        UnreadableCheckpoint: There is, but it cannot be read.
        UnsupportedFormat: It is a file of another format.
        InvalidArgument: A revision was given for a local path, or twice.
    """
    path = Path(model)
    if _exists(path):
        if revision is not None:
            raise InvalidArgument("is a local path, and revisions are the Hub's: leave --revision out", file=str(model))
        return _local(path, str(model))
    match = _HUB_ID.fullmatch(str(model))
    if isinstance(model, os.PathLike) or match is None:
        hint = "" if "/" in str(model) else ", and a Hub id is written org/name"
        raise CheckpointNotFound(f"no such file or folder{hint}", file=str(model))
    if revision is not None and match["revision"] is not None:
        raise InvalidArgument("names a revision already: leave --revision out", file=str(model))
    return _hub(match["repo"], revision or match["revision"], token)


def is_hub_id(model: str) -> bool:
    """Whether a name means a repository on the Hub: no such path exists, and it is written ``org/name[@revision]``.

    Example:
        >>> is_hub_id("Qwen/Qwen3-32B"), is_hub_id("./Qwen/Qwen3-32B")
        (True, False)
    """
    return _HUB_ID.fullmatch(model) is not None and not _exists(Path(model))


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):  # a name too long or with a NUL in it is no path
        return False


def _local(path: Path, name: str) -> Location:
    if path.is_dir():
        snapshot = _SNAPSHOT.search(path.resolve().as_posix())
        if snapshot is None:
            return Location(name, LocalSource(path))
        repo = f"{snapshot['org']}/{snapshot['name']}"
        source = LocalSource(path, name=f"{repo}@{snapshot['commit'][:7]}", revision=snapshot["commit"])
        return Location(repo, source)
    if path.is_symlink() and not path.exists():
        raise CheckpointNotFound("is a link to something that does not exist", file=name)
    folder = path.parent
    if path.name.endswith(".index.json"):
        if not path.name.endswith((".safetensors.index.json", ".bin.index.json")):
            raise UnsupportedFormat("is the index of a format that is not read", file=name)
        return Location(name, LocalSource(folder), target=path.name)
    if path.suffix not in SUFFIXES:
        raise UnsupportedFormat(f"is none of the files that are read ({', '.join(SUFFIXES)})", file=name)
    beside = [CONFIG] if (folder / CONFIG).is_file() else []
    return Location(name, LocalSource(folder, [path.name, *beside]), target=path.name)


def _hub(repo: str, revision: str | None, token: str | None) -> Location:
    from huggingface_hub import constants  # 0.1 s that a local run need not spend

    from gammatorch.checkpoints.hub import HubSource

    asked = f"{repo}@{revision}" if revision else repo
    if constants.HF_HUB_OFFLINE:
        cached = _cached_snapshot(repo, revision)
        if cached is None:
            raise CheckpointNotFound("is not in the local cache, and HF_HUB_OFFLINE is set", file=asked)
        return Location(asked, cached)
    remote = HubSource(repo, revision, token)
    cached = _cached_snapshot(repo, remote.revision)
    return Location(asked, cached if cached is not None and _covers(cached, remote) else remote)


def _cached_snapshot(repo: str, revision: str | None) -> LocalSource | None:
    """The folder in huggingface_hub's cache that holds this revision, if it was ever downloaded."""
    from huggingface_hub import try_to_load_from_cache

    for name in (CONFIG, SINGLE, INDEX, TORCH_SINGLE, TORCH_INDEX):
        found = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(found, str):
            folder = Path(found).parent
            return LocalSource(folder, name=f"{repo}@{folder.name[:7]}", revision=folder.name)
    return None


def _covers(cached: LocalSource, remote: ByteSource) -> bool:
    """Whether the cached snapshot holds all that a run would read."""
    try:
        weights = find_weights(remote.files, remote.name)
    except GammatorchError:
        return False
    needed = (
        set(weights.files)
        if weights.index is None
        else {name for name in remote.files if name.endswith(index_suffix(weights.index))}
    )
    needed |= {name for name in (weights.index, CONFIG) if name in remote.files and name is not None}
    return all(cached.files.get(name) == remote.files[name] for name in needed)
