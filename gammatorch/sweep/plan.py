"""PLAN: from what a user types to the items of a sweep, each with its key; no weights are opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from gammatorch.checkpoints.base import JsonObject
from gammatorch.checkpoints.hub.listing import is_commit
from gammatorch.checkpoints.hub.retry import LONG_RETRIES
from gammatorch.checkpoints.locate import importing_hub
from gammatorch.checkpoints.weights import CONFIG, FOLDER_SUFFIXES
from gammatorch.errors import CheckpointNotFound, GammatorchError
from gammatorch.sweep.item import Item, Settings, is_step, item_key, natural, step_of
from gammatorch.sweep.outcome import Failure
from gammatorch.sweep.specs import HubSpec, Spec, read_specs, resolve

THREADS = 16
"""Repositories or folders looked at together: each waits for a server, or for a network file system."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Plan:
    """The items of a sweep.

    Attributes:
        items: In the order asked for; patterns in natural order.
        failures: Lines of list files that mean nothing.
        aliases: Items left out because they are there already under another name, each with the one that is kept.
    """

    items: tuple[Item, ...]
    failures: tuple[Failure, ...] = ()
    aliases: tuple[tuple[Item, Item], ...] = ()


def make_plan(
    arguments: Sequence[str],
    settings: Settings,
    *,
    every: int = 1,
    limit: int | None = None,
    token: str | None = None,
    cache: bool = True,
) -> Plan:
    """Find the items that specs mean.

    Costs one request for each repository, whatever the number of its revisions, and a look at the sizes and times of
    local files.

    Args:
        arguments: Names, folders, files, globs, ``org/name@pattern``, list files.
        settings: What will be read of each, and how it will be analysed.
        every: Of what a pattern or a folder of checkpoints gives, every so manieth, the first one included.
        limit: Most items.
        token: Access token for the Hub.
        cache: Whether to keep on disk what branches mean, for when there is no network.

    Raises:
        CheckpointNotFound: Something that was typed does not exist, or nothing is left.
        InvalidArgument: A line of a list file is malformed.
        UnreadableCheckpoint: The Hub did not answer.
    """
    specs = list(read_specs(arguments))
    resolved = [_attempt(resolve, spec, spec) for spec in specs]
    repos = list(dict.fromkeys(one.repo for one in resolved if isinstance(one, HubSpec) and not _is_commit(one)))
    refs = dict(zip(repos, _at_once(lambda repo: _refs(repo, token, cache), repos), strict=True))
    found: list[Item | Failure] = []
    for spec, one in zip(specs, resolved, strict=True):
        found += _items(spec, one, refs, settings, every)
    return _gather(found, limit)


def local_identity(path: str) -> str:
    """State of a local checkpoint: size and time of change of each file that a run might read.

    Args:
        path: A folder or a file.

    Raises:
        CheckpointNotFound: It is gone, or cannot be listed.
    """
    folder, names = (path, None) if os.path.isdir(path) else (os.path.dirname(path), [os.path.basename(path), CONFIG])
    try:
        if names is None or path.endswith(".index.json"):
            names = sorted(name for name in os.listdir(folder) if name.endswith((*FOLDER_SUFFIXES, ".json")))
        stats = {name: os.stat(where) for name in names if os.path.exists(where := os.path.join(folder, name))}
    except OSError as error:
        raise CheckpointNotFound(f"cannot be looked at ({error.strerror})", file=path) from None
    return ";".join(f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in stats.items())


def _attempt(task: Callable[[_In], _Out], argument: _In, spec: Spec) -> _Out | GammatorchError:
    """The result, or the error where a list file is to blame; what was typed wrongly ends the sweep at once."""
    try:
        return task(argument)
    except GammatorchError as error:
        if spec.origin is None:
            raise
        return error


def _at_once(task: Callable[[_In], _Out], arguments: Sequence[_In]) -> list[_Out]:
    with ThreadPoolExecutor(THREADS, "gammatorch-plan") as pool:
        return list(pool.map(task, arguments))


def _is_commit(spec: HubSpec) -> bool:
    return is_commit(spec.revision)


def _refs(repo: str, token: str | None, cache: bool) -> Mapping[str, str] | GammatorchError:
    with importing_hub():
        from gammatorch.checkpoints.hub.repository import list_refs  # 0.1 s that a local sweep need not spend

    try:
        return list_refs(repo, token, LONG_RETRIES, cache)
    except GammatorchError as error:
        return error


def _items(
    spec: Spec,
    resolved: list[str] | HubSpec | GammatorchError,
    refs: Mapping[str, Mapping[str, str] | GammatorchError],
    settings: Settings,
    every: int,
) -> Iterable[Item | Failure]:
    try:
        if isinstance(resolved, GammatorchError):
            raise resolved
        if isinstance(resolved, HubSpec):
            return _hub_items(spec, resolved, refs.get(resolved.repo, {}), settings, every)
        paths = resolved[::every] if len(resolved) > 1 else resolved
        return _at_once(lambda path: _local_item(path, spec.tags, settings), paths)
    except GammatorchError as error:
        if spec.origin is None:
            raise
        return [Failure.of(item_key(spec.model, "", settings), spec.model, error)]


def _hub_items(
    spec: Spec, asked: HubSpec, refs: Mapping[str, str] | GammatorchError, settings: Settings, every: int
) -> list[Item]:
    if isinstance(refs, GammatorchError):
        raise refs
    if asked.pattern:
        names = sorted((name for name in refs if fnmatchcase(name, asked.revision)), key=natural)[::every]
    else:
        names = [asked.revision] if asked.revision in refs or _is_commit(asked) else []
    if not names:
        known = ", ".join(sorted(refs, key=natural)[:8]) + (" …" if len(refs) > 8 else "")
        raise CheckpointNotFound(f"no branch or tag {asked.revision!r} (there are {known})", file=asked.repo)
    items = []
    for name in names:
        commit = refs.get(name, name)
        shown = asked.repo if spec.model == asked.repo else f"{asked.repo}@{name}"
        items.append(
            Item(
                name=shown,
                source=asked.repo,
                identity=commit,
                revision=name,
                commit=commit,
                step=_step(name, spec.tags),
                tags=spec.tags,
                key=item_key(asked.repo, commit, settings),
            )
        )
    return items


def _local_item(path: str, tags: JsonObject, settings: Settings) -> Item:
    folder, name = (path, "") if os.path.isdir(path) else os.path.split(path)
    source = os.path.join(os.path.realpath(folder), name).rstrip(
        "/"
    )  # a link to a file keeps its name, which tells the format
    identity = local_identity(source)
    return Item(
        name=path,
        source=source,
        identity=identity,
        step=_step(path, tags),
        tags=tags,
        key=item_key(source, identity, settings),
    )


def _step(name: str, tags: JsonObject) -> int | None:
    step = tags.get("step")
    return step if is_step(step) else step_of(name)


def _gather(found: Iterable[Item | Failure], limit: int | None) -> Plan:
    """Items without repetition, the first name for each counts; no more than the limit."""
    items: dict[str, Item] = {}
    failures: dict[str, Failure] = {}
    aliases: list[tuple[Item, Item]] = []
    for one in found:
        if isinstance(one, Failure):
            failures[one.key] = one
        elif one.key in items:
            aliases.append((one, items[one.key]))
        else:
            items[one.key] = one
    if not items and not failures:
        raise CheckpointNotFound("nothing to sweep: the lists are empty")
    return Plan(tuple(items.values())[:limit], tuple(failures.values()), tuple(aliases))
