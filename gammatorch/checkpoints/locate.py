"""From what a user types to the files it means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gammatorch.checkpoints.base import ByteSource
from gammatorch.checkpoints.hub.patience import Patience
from gammatorch.checkpoints.hub.settings import importing_hub
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.shards import siblings
from gammatorch.checkpoints.weights import CONFIG, DCP_METADATA, DCP_SUFFIX, RANK_FOLDER, SUFFIXES
from gammatorch.errors import CheckpointNotFound, InvalidArgument, UnsupportedFormat

_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_SNAPSHOT = re.compile(r"models--(?P<org>.+?)--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})")


_ADDRESS = re.compile(
    r"(https?://[^/]+/|hf://)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(/?|@(?P<tag>[^@/\s]+)|/(tree|blob|resolve)/(?P<branch>[^/\s]+)(/.*)?)"
)
"""A repository as the address line of a browser has it."""


@dataclass(frozen=True)
class Location:
    """Where a checkpoint is.

    Attributes:
        model: The name it goes by.
        source: Its files.
        target: The one file the user named, None for a whole folder or repository.
        notes: What a reader of the results should know.
    """

    model: str
    source: ByteSource
    target: str | None = None
    notes: tuple[str, ...] = ()


def locate(
    model: str | os.PathLike[str],
    revision: str | None = None,
    token: str | None = None,
    *,
    cache: bool = True,
    patience: Patience | None = None,
) -> Location:
    """Find a folder, a file, an index, or a repository on the Hub.

    A path that exists wins. What looks like a path and does not exist is never sent to the Hub.

    Args:
        model: Folder, weight file, ``*.index.json``, ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the Hub.
        token: Access token for the Hub.
        cache: Whether what comes from the Hub is kept on disk, and what is there is used.
        patience: When to give up on the Hub; None for a few minutes.

    Raises:
        CheckpointNotFound: There is nothing of that name.
        UnreadableCheckpoint: There is, but it cannot be read.
        UnsupportedFormat: It is a file of another format.
        InvalidArgument: A revision was given for a local path, or twice.
    """
    if os.path.lexists(model):
        if revision is not None:
            raise InvalidArgument("is a local path, and revisions are the Hub's: leave --revision out", file=str(model))
        return _local(Path(model), str(model))
    match = _HUB_ID.fullmatch(str(model))
    if isinstance(model, os.PathLike) or match is None:
        raise CheckpointNotFound(f"no such file or folder{_hint(str(model))}", file=str(model))
    if revision is not None and match["revision"] is not None:
        raise InvalidArgument("names a revision already: leave --revision out", file=str(model))
    with importing_hub():
        from gammatorch.checkpoints.hub.repository import open_repository  # 0.1 s that a local run need not spend

    asked = revision or match["revision"]
    source, notes = open_repository(match["repo"], asked, token, cache=cache, patience=patience)
    return Location(f"{match['repo']}@{asked}" if asked else match["repo"], source, notes=notes)


def is_hub_id(model: str) -> bool:
    """Whether a name means a repository on the Hub: no such path exists, and it is written ``org/name[@revision]``.

    Example:
        >>> is_hub_id("Qwen/Qwen3-32B"), is_hub_id("./Qwen/Qwen3-32B")
        (True, False)
    """
    return _HUB_ID.fullmatch(model) is not None and not os.path.lexists(model)


def _hint(model: str) -> str:
    """What may have been meant by a name that is no path and no id of the Hub.

    Example:
        >>> _hint("https://huggingface.co/Qwen/Qwen3-32B/tree/main"), _hint("qwen3")
        (', for the Hub pass Qwen/Qwen3-32B@main', ', and a Hub id is written org/name')
    """
    address = _ADDRESS.fullmatch(model)
    if address is not None and ("://" in model or address["branch"]):
        revision = address["tag"] or address["branch"]
        return f", for the Hub pass {address['repo']}" + (f"@{revision}" if revision else "")
    if "://" in model:
        return ": download what stands at that address, or mount it, and pass its folder"
    return "" if "/" in model else ", and a Hub id is written org/name"


def _local(path: Path, name: str) -> Location:
    if os.path.isdir(path):
        snapshot = _SNAPSHOT.search(os.path.realpath(path)) if _may_be_commit(path) else None
        if snapshot is None:
            return Location(name, LocalSource(path, within=RANK_FOLDER))
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
    if path.name.endswith((DCP_METADATA, DCP_SUFFIX)):
        raise UnsupportedFormat("is one file of a torch.distributed checkpoint: pass its folder", file=name)
    if path.suffix not in SUFFIXES:
        raise UnsupportedFormat(f"is none of the files that are read ({', '.join(SUFFIXES)})", file=name)
    beside = [other for other in (CONFIG, *siblings(path.name)) if other != path.name and (folder / other).is_file()]
    return Location(name, LocalSource(folder, [path.name, *beside]), target=path.name)


def _may_be_commit(path: Path) -> bool:
    """Whether a folder, or what it is a link to, may bear the name of a commit: asked before links are followed."""
    return len(path.name) in (0, 2, 40) or path.is_symlink()  # 0 and 2: the name is "." or ".."
