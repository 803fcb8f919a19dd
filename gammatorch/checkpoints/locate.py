"""From what a user types to the files it means."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gammatorch.checkpoints.base import ByteSource
from gammatorch.checkpoints.foreign import RENAME, foreign_file, strange_file
from gammatorch.checkpoints.hub.retry import RetryPolicy
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.shards import siblings
from gammatorch.checkpoints.weights import (
    ADAPTER_CONFIG,
    CONFIG,
    CONFIG_YAML,
    DCP_METADATA,
    DCP_SUFFIX,
    FOLDER_SUFFIXES,
    RANK_FOLDER,
    SUFFIXES,
    is_weights,
)
from gammatorch.errors import CheckpointNotFound, InvalidArgument, UnreadableCheckpoint, UnsupportedFormat

_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_SNAPSHOT = re.compile(r"models--(?P<org>.+?)--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})")

_ADDRESS = re.compile(
    r"(https?://[^/]+/|hf://)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(/?|@(?P<tag>[^@/\s]+)|/(tree|blob|resolve)/(?P<branch>[^/\s]+)(/.*)?)"
)
"""A repository as the address line of a browser has it."""

_HEAD_BYTES = 16

_WITHIN_RUN = re.compile(
    rf"(global_step|iter_|step[-_]?|checkpoint-)\d+|pytorch_model(_fsdp)?_\d+|model_and_optim|{RANK_FOLDER.pattern}"
)
"""Folders that trainers make within that of a run, where config.json stands."""

_DIGITS = re.compile(r"[0-9]+")
_ITERATION = re.compile(r"\d{1,12}", re.ASCII)
_POINTER_BYTES = 100_000

_HIGHEST = 3
"""Folders above the weights in which config.json is looked for."""


@dataclass(frozen=True)
class Location:
    """Where a checkpoint is.

    Attributes:
        model: The name it goes by.
        source: Its files.
        target: The one file the user named, None for a whole folder or repository.
        notes: What a reader of the results should know.
        suffix: How the name of that file would end if it told its format; None where it does.
        above: A folder above, which holds the config.json of files that have none beside them; None if there is none.
    """

    model: str
    source: ByteSource
    target: str | None = None
    notes: tuple[str, ...] = ()
    suffix: str | None = None
    above: ByteSource | None = None


def locate(
    model: str | os.PathLike[str],
    revision: str | None = None,
    token: str | None = None,
    *,
    cache: bool = True,
    retry: RetryPolicy | None = None,
) -> Location:
    """Find a folder, a file, an index, or a repository on the Hub.

    A path that exists wins. What looks like a path and does not exist is never sent to the Hub.

    Args:
        model: Folder, weight file, ``*.index.json``, ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the Hub.
        token: Access token for the Hub.
        cache: Whether what comes from the Hub is kept on disk, and what is there is used.
        retry: When to give up on the Hub; None for a few minutes.

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
    source, notes = open_repository(match["repo"], asked, token, cache=cache, retry=retry)
    return Location(f"{match['repo']}@{asked}" if asked else match["repo"], source, notes=notes)


def is_hub_id(model: str) -> bool:
    """Whether a name means a repository on the Hub: no such path exists, and it is written ``org/name[@revision]``.

    Example:
        >>> is_hub_id("Qwen/Qwen3-32B"), is_hub_id("./Qwen/Qwen3-32B")
        (True, False)
    """
    return _HUB_ID.fullmatch(model) is not None and not os.path.lexists(model)


def is_local_model(model: str) -> bool:
    """Whether a name means weights on disk: a folder that holds some, a weight file, or an index, by its name.

    Args:
        model: Any name.
    """
    if os.path.isdir(model):
        return _holds_weights(model) or pointed_folder(model) is not None
    return os.path.isfile(model) and model.endswith((*SUFFIXES, ".index.json"))


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
    suffix = None if path.suffix in SUFFIXES else _suffix_by_content(path, name)
    others = (CONFIG, CONFIG_YAML, ADAPTER_CONFIG, *siblings(path.name))
    beside = [other for other in others if other != path.name and (folder / other).is_file()]
    if CONFIG not in beside:
        _check_no_config(folder)
    above, notes = _config_above(folder) if CONFIG not in beside else (None, ())
    return Location(name, LocalSource(folder, [path.name, *beside]), path.name, notes, suffix, above)


def _folder(path: Path, name: str) -> Location:
    snapshot = _SNAPSHOT.search(os.path.realpath(path)) if _may_be_commit(path) else None
    if snapshot is None:
        source, model = LocalSource(path, within=RANK_FOLDER), name
    else:
        model = f"{snapshot['org']}/{snapshot['name']}"
        source = LocalSource(path, name=f"{model}@{snapshot['commit'][:7]}", revision=snapshot["commit"])
    if CONFIG not in source.files:
        _check_no_config(path)
    above, notes = _config_above(path) if CONFIG not in source.files else (None, ())
    return Location(model, source, notes=notes, above=above)


def _config_above(folder: Path) -> tuple[ByteSource | None, tuple[str, ...]]:
    """The config.json above a folder that a trainer made within that of a run, and a note that names it."""
    within = Path(os.path.abspath(folder))
    for _ in range(_HIGHEST):
        if _WITHIN_RUN.fullmatch(within.name) is None:
            break
        within = within.parent
        if (within / CONFIG).is_file():
            return LocalSource(within, [CONFIG]), (f"{within / CONFIG} was used, there is none beside the weights",)
    return None, ()


def pointed_folder(folder: str | os.PathLike[str]) -> tuple[str, str] | None:
    """The folder that a file, or the layout of a folder without weights, says is meant, and a note; None if none does,
    or several are.
    """
    path = Path(folder)
    if not path.is_dir():
        return None
    told = {inner: by for by, inner in _pointers(path) if _is_within(path, inner)}
    if len(told) != 1:
        return None
    ((inner, by),) = told.items()
    return str(path / inner), f"{inner} was read, {by}"


def _is_within(folder: Path, inner: str) -> bool:
    """Whether there is such a folder, and no link that leads back to where it stands."""
    try:
        target = os.path.realpath(folder / inner)
        return os.path.isdir(target) and os.path.commonpath([target, os.path.realpath(folder)]) != target
    except ValueError:  # no name of a file
        return False


def _pointers(folder: Path) -> Iterator[tuple[str, str]]:
    """What tells which folder within is meant, and its name: DeepSpeed's, Megatron-LM's, sentence-transformers' files,
    and the Hub's cache where it holds one commit."""
    texts = {name: _small(folder / name) for name in ("latest", "latest_checkpointed_iteration.txt", "modules.json")}
    latest, iteration, modules = (text.strip() for text in texts.values())
    if latest and "/" not in latest:
        yield "which latest names", latest
    if iteration and "/" not in iteration:
        folder_of_it = f"iter_{int(iteration):07d}" if _ITERATION.fullmatch(iteration) else iteration
        yield "which latest_checkpointed_iteration.txt names", folder_of_it
    try:
        first = json.loads(modules)[0]["path"] if modules else ""
    except (ValueError, LookupError, TypeError, RecursionError):
        first = ""
    if isinstance(first, str) and first and "/" not in first:
        yield "the first of modules.json", first
    commits = os.listdir(folder / "snapshots") if (folder / "snapshots").is_dir() else []
    if len(commits) == 1 and folder.name.startswith("models--"):
        yield "the only commit there", f"snapshots/{commits[0]}"


def _small(path: Path) -> str:
    """The text of a small file; nothing where there is none."""
    try:
        if not path.is_file() or path.stat().st_size > _POINTER_BYTES:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _check_no_config(folder: Path) -> None:
    """Refuse what bears the name of config.json and is no file: without it, offsets would be others."""
    if strange := strange_file(folder / CONFIG):
        raise UnreadableCheckpoint(strange, file=str(folder / CONFIG))


def strange_weights(model: str | os.PathLike[str]) -> tuple[str, str] | None:
    """What bears a weight file's name and is none, and what is wrong with it; None where there are weight files too."""
    try:
        names = sorted(os.listdir(model))
    except OSError:
        return None
    places = [*(os.path.join(model, name) for name in names), os.fspath(model)]
    named = [place for place in places if is_weights(os.path.basename(place)) or place.endswith(".index.json")]
    told = [(place, strange) for place in named if (strange := strange_file(place))]
    return told[0] if told and len(told) == len(named) else None


def _suffix_by_content(path: Path, name: str) -> str:
    """How the name of a file would end if it told its format."""
    if strange := strange_file(path):
        raise UnsupportedFormat(strange, file=name)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UnreadableCheckpoint(f"cannot be read ({error.strerror})", file=name) from error
    found = foreign_file(path.name, head)
    if found is None:
        raise UnsupportedFormat(
            f"is none of the files that are read ({', '.join(SUFFIXES)}): pass one of them, or the folder of a model",
            file=name,
        )
    what, remedy = found
    if remedy.startswith(RENAME):
        return remedy.removeprefix(RENAME)
    raise UnsupportedFormat(f"is {what}, which gammatorch does not read: {remedy}", file=name)


def _may_be_commit(path: Path) -> bool:
    """Whether a folder, or what it is a link to, may bear the name of a commit: asked before links are followed."""
    return len(path.name) in (0, 2, 40) or path.is_symlink()  # 0 and 2: the name is "." or ".."


def folders_with_weights(folder: str | os.PathLike[str]) -> list[str]:
    """Names of a folder's own folders that hold weights, where it holds none: a trainer's, a pipeline's, or those of
    the Hub's cache, which has a folder for each commit in ``snapshots``."""
    try:
        if _holds_weights(folder):
            return []
        return [
            f"{within}{name}"
            for within in ("", "snapshots/")
            if os.path.isdir(parent := os.path.join(folder, within))
            for name in sorted(os.listdir(parent))
            if os.path.isdir(path := os.path.join(parent, name)) and _holds_weights(path)
        ]
    except OSError:  # not a folder, or not to be listed
        return []


def steps_within(folder: str | os.PathLike[str]) -> list[str]:
    """The folders of a training run's steps in order, where a folder holds no weights but several that are named alike.

    Args:
        folder: Any name or path.

    Returns:
        Their paths; none where it is something else, a pipeline's folder of models, say.
    """
    names = folders_with_weights(folder)
    alike = {_DIGITS.sub("#", name) for name in names}
    if len(names) < 2 or len(alike) > 1 or "#" not in next(iter(alike)):
        return []
    names.sort(key=lambda name: [int(number) for number in _DIGITS.findall(name)])
    return [os.path.join(folder, name) for name in names]


def _holds_weights(folder: str | os.PathLike[str], within: bool = True) -> bool:
    """Whether weights stand in a folder, or in folders of ranks in it."""
    with os.scandir(folder) as held:
        return any(
            entry.name.endswith(FOLDER_SUFFIXES)
            or (within and RANK_FOLDER.fullmatch(entry.name) and entry.is_dir() and _holds_weights(entry.path, False))
            for entry in held
        )


@contextmanager
def importing_hub() -> Iterator[None]:
    """Imports that bring huggingface_hub along, and nothing else: it takes numbers from the environment.

    Raises:
        InvalidArgument: One of them is none.
    """
    try:
        yield
    except ValueError as error:
        raise InvalidArgument(
            f"huggingface_hub does not take a setting of the environment ({error}): look at those that begin with HF_"
        ) from None
