"""What a user types for a sweep, taken apart: list files, globs over local paths, patterns over branches and tags."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gammatorch.checkpoints.weights import SUFFIXES, find_weights, is_weights
from gammatorch.errors import CheckpointError, CheckpointNotFound, InvalidArgument
from gammatorch.sweep.item import natural, step_of
from gammatorch.sweep.place import is_items_folder

LIST_SUFFIXES = (".txt", ".list", ".jsonl")
"""How the names of list files end."""

_HUB = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_MAGIC = re.compile(r"[*?[]")
_COMMENT = re.compile(r"(^|\s+)#.*")


@dataclass(frozen=True)
class Spec:
    """One thing asked for.

    Attributes:
        model: A path, a glob, ``org/name``, or ``org/name@revision`` with or without a pattern.
        tags: What a list file said of it.
        origin: Line of the list file it came from; None if it was typed.
    """

    model: str
    tags: Mapping[str, Any] = field(default_factory=dict)
    origin: str | None = None


@dataclass(frozen=True)
class HubSpec:
    """Revisions of a repository that were asked for.

    Attributes:
        repo: ``org/name``.
        revision: Branch, tag, commit, or a pattern over branches and tags.
    """

    repo: str
    revision: str

    @property
    def pattern(self) -> bool:
        """Whether the revision is a pattern."""
        return has_magic(self.revision)


def read_specs(arguments: Iterable[str]) -> Iterator[Spec]:
    """Every spec that was typed, list files replaced by their lines.

    A list file (``.txt``, ``.list``, ``.jsonl``) has one spec a line; ``#`` begins a comment, at the start of a line or
    after a space. A line that begins with ``{`` is an object with ``model``, perhaps ``revision``, and whatever else is
    kept as tags.

    Args:
        arguments: What was typed.

    Raises:
        CheckpointNotFound: A list file cannot be read.
        InvalidArgument: A line of one is malformed.
    """
    for argument in arguments:
        path = Path(argument)
        if argument.endswith(LIST_SUFFIXES) and path.is_file():
            yield from _lines(path)
        else:
            yield Spec(argument)


def _lines(path: Path) -> Iterator[Spec]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointNotFound(f"cannot be read as a list ({error})", file=str(path)) from None
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line.startswith("{"):
            yield _object(line, f"{path}:{number}")
        elif spec := _COMMENT.sub("", line):
            yield Spec(spec, origin=f"{path}:{number}")


def _object(line: str, origin: str) -> Spec:
    try:
        tags = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"is not a JSON object ({error})", file=origin) from None
    model, revision = tags.pop("model", None), tags.pop("revision", None)
    if not isinstance(model, str) or not isinstance(revision, str | None) or not model:
        raise InvalidArgument('needs "model", and "revision" if there is one, as strings', file=origin)
    return Spec(f"{model}@{revision}" if revision else model, tags, origin)


def has_magic(text: str) -> bool:
    """Whether a text is a pattern (``*``, ``?``, ``[``).

    Args:
        text: A path or a revision.
    """
    return _MAGIC.search(text) is not None


def resolve(spec: Spec) -> list[str] | HubSpec:
    """The local paths that a spec means, in natural order, or what it means on the Hub; a path that exists wins.

    A folder without weights of its own stands for those of its subfolders that have some, or for its weight files, if
    they are no set and their names tell steps; of what a glob matches, only checkpoints count.

    Args:
        spec: What was asked for.

    Raises:
        CheckpointNotFound: There is no such path, and it is no Hub id.
    """
    if os.path.lexists(spec.model):
        return _inside(spec.model)
    matches = sorted(glob.glob(spec.model), key=natural) if has_magic(spec.model) else []
    if matches:
        found = [path for path in matches if looks_like_checkpoint(path)]
        if not found:
            raise CheckpointNotFound("matches no checkpoint, only other files and folders", file=spec.model)
        return found
    match = _HUB.fullmatch(spec.model)
    if match is None:
        what = (
            "matches nothing" if has_magic(spec.model) else "no such file or folder, and a Hub id is written org/name"
        )
        raise CheckpointNotFound(what, file=spec.model)
    return HubSpec(match["repo"], match["revision"] or "main")


def _inside(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path), key=natural)
    except OSError:
        return [path]  # reading it will say why
    if looks_like_checkpoint(path):
        steps = [name for name in names if name.endswith(SUFFIXES) and step_of(name) is not None]
        return [os.path.join(path, name) for name in steps] if len(steps) > 1 and not _is_one(names) else [path]
    return [
        inner for name in names if os.path.isdir(inner := os.path.join(path, name)) and looks_like_checkpoint(inner)
    ] or [path]


def _is_one(names: Sequence[str]) -> bool:
    """Whether the weights among these files are one checkpoint's."""
    try:
        find_weights(names, "")
    except CheckpointError:
        return False
    return True


def looks_like_checkpoint(path: str) -> bool:
    """Whether a path is a weight file, an index, or a folder with either; a sweep's own items are none.

    Args:
        path: An existing path.
    """
    if not os.path.isdir(path):
        return path.endswith(".index.json") or (path.endswith(SUFFIXES) and is_weights(os.path.basename(path)))
    try:
        held = any(is_weights(name) or name.endswith(".index.json") for name in os.listdir(path))
    except OSError:
        return False
    return held and not is_items_folder(path)
