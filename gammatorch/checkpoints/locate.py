"""From what a user types to the files it means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gammatorch.checkpoints.base import ByteSource
from gammatorch.checkpoints.foreign import foreign_file
from gammatorch.checkpoints.hub.patience import Patience
from gammatorch.checkpoints.hub.settings import importing_hub
from gammatorch.checkpoints.local import LocalSource, strange_file
from gammatorch.checkpoints.shards import siblings
from gammatorch.checkpoints.weights import CONFIG, DCP_METADATA, DCP_SUFFIX, RANK_FOLDER, SUFFIXES, is_weights
from gammatorch.errors import (
    CheckpointError,
    CheckpointNotFound,
    InvalidArgument,
    UnreadableCheckpoint,
    UnsupportedFormat,
)

_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_SNAPSHOT = re.compile(r"models--(?P<org>.+?)--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})")


_ADDRESS = re.compile(
    r"(https?://[^/]+/|hf://)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(/?|@(?P<tag>[^@/\s]+)|/(tree|blob|resolve)/(?P<branch>[^/\s]+)(/.*)?)"
)
"""A repository as the address line of a browser has it."""

_HEAD_BYTES = 16


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
        return _folder(path, name)
    if path.is_symlink() and not os.path.exists(path):
        raise CheckpointNotFound(strange_file(path) or "has changed", file=name)
    folder = path.parent
    if path.name.endswith(".index.json"):
        if not path.name.endswith((".safetensors.index.json", ".bin.index.json")):
            raise UnsupportedFormat("is the index of a format that is not read", file=name)
        if strange := strange_file(path):
            raise UnreadableCheckpoint(strange, file=name)
        return Location(name, LocalSource(folder), target=path.name)
    if path.name.endswith((DCP_METADATA, DCP_SUFFIX)):
        raise UnsupportedFormat("is one file of a torch.distributed checkpoint: pass its folder", file=name)
    if path.suffix not in SUFFIXES:
        raise _unread(path, name)
    beside = [other for other in (CONFIG, *siblings(path.name)) if other != path.name and (folder / other).is_file()]
    if CONFIG not in beside:
        _check_no_config(folder)
    return Location(name, LocalSource(folder, [path.name, *beside]), target=path.name)


def _folder(path: Path, name: str) -> Location:
    snapshot = _SNAPSHOT.search(os.path.realpath(path)) if _may_be_commit(path) else None
    if snapshot is None:
        source, model = LocalSource(path, within=RANK_FOLDER), name
    else:
        model = f"{snapshot['org']}/{snapshot['name']}"
        source = LocalSource(path, name=f"{model}@{snapshot['commit'][:7]}", revision=snapshot["commit"])
    if CONFIG not in source.files:
        _check_no_config(path)
    return Location(model, source)


def _check_no_config(folder: Path) -> None:
    """Refuse what bears the name of config.json and is no file: without it, offsets would be others."""
    if strange := strange_file(folder / CONFIG):
        raise UnreadableCheckpoint(strange, file=str(folder / CONFIG))


def strange_weights(model: str | os.PathLike[str]) -> tuple[str, str] | None:
    """What bears a weight file's name and is none, and what is wrong with it; None where there are weight files too.

    Args:
        model: A folder in which no weights were found, or anything else.
    """
    try:
        names = sorted(os.listdir(model))
    except OSError:
        return None
    places = [*(os.path.join(model, name) for name in names), os.fspath(model)]
    named = [place for place in places if is_weights(os.path.basename(place)) or place.endswith(".index.json")]
    told = [(place, strange) for place in named if (strange := strange_file(place))]
    return told[0] if told and len(told) == len(named) else None


def _unread(path: Path, name: str) -> CheckpointError:
    """What to raise for a file whose name is no weight file's."""
    if strange := strange_file(path):
        return UnsupportedFormat(strange, file=name)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return UnreadableCheckpoint(f"cannot be read ({error.strerror})", file=name)
    found = foreign_file(path.name, head)
    if found is None:
        return UnsupportedFormat(
            f"is none of the files that are read ({', '.join(SUFFIXES)}): pass one of them, or the folder of a model",
            file=name,
        )
    what, remedy = found
    unread = "" if remedy.startswith("let its name end") else ", which gammatorch does not read"
    return UnsupportedFormat(f"is {what}{unread}: {remedy}", file=name)


def _may_be_commit(path: Path) -> bool:
    """Whether a folder, or what it is a link to, may bear the name of a commit: asked before links are followed."""
    return len(path.name) in (0, 2, 40) or path.is_symlink()  # 0 and 2: the name is "." or ".."
