"""Names of items: the key that one is stored under, the step and the training run that its name tells."""

from __future__ import annotations

import hashlib
import json
import re

from msgspec.structs import asdict

from gammatorch.results.sweep import Item, Settings

__all__ = ["Item", "Settings", "is_step", "item_key", "natural", "run_of", "step_of"]

SCHEMA_VERSION = 2
"""Changes whenever the same checkpoint and settings would be stored otherwise: then all items are new."""

_STEP = re.compile(r"(?:^|[^a-z])(?:step|checkpoint|ckpt|iteration|iter)[-_=]?(\d+)", re.IGNORECASE)

_STEP_DIGITS = 15
"""Digits of a step at most: a longer number is a date with a time, a hash or a mistake, and no axis has room for it."""

_BESIDE = re.compile(r"(?P<word>tokens?|epochs?|(?:[a-z]+_)?loss|ppl)[-_=]?\d+(?:\.\d+)?[kmbt]?", re.IGNORECASE)
"""What names of branches and files tell beside the step, and what changes with it."""


def item_key(source: str, identity: str, settings: Settings) -> str:
    """The key of a checkpoint under some settings: 32 hexadecimal digits of a SHA-256.

    Args:
        source: Absolute path, or ``org/name``.
        identity: Commit, or state of the local files.
        settings: What is read of it, and how it is analysed.

    Example:
        >>> one = item_key("a/b", "9216db5", Settings())
        >>> one == item_key("a/b", "9216db5", Settings()), one == item_key("a/b", "1f00d00", Settings())
        (True, False)
    """
    text = json.dumps([SCHEMA_VERSION, source, identity, asdict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def step_of(name: str) -> int | None:
    """The training step that a branch or a folder's name tells.

    Args:
        name: A branch, tag, or path.

    Example:
        >>> step_of("runs/checkpoint-500"), step_of("stage1-step140000-tokens294B"), step_of("main")
        (500, 140000, None)
    """
    found = _STEP.findall(name.replace("global_step", "step"))
    digits = found[-1].lstrip("0") if found else None
    return None if digits is None or len(digits) > _STEP_DIGITS else int(digits or "0")


def is_step(value: object) -> bool:
    """Whether a value can be a training step.

    Args:
        value: What a list file says.

    Example:
        >>> is_step(500), is_step(-1), is_step("500")
        (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**_STEP_DIGITS


def run_of(item: Item) -> str | None:
    """The training run that an item is a step of: where it is, with the step left out; None without a step.

    A tag ``run`` of a list file goes before. Where only a tag tells the step, a run is a repository or a folder.

    Args:
        item: The item.

    Example:
        >>> run_of(Item("a/b@step3000", "a/b", "9216db5", "step3000", "9216db5", 3000))
        'a/b@step*'
        >>> run_of(Item("c", "/runs/one/checkpoint-500", "", step=500))
        '/runs/one/checkpoint-*'
        >>> run_of(Item("d", "/runs/two/epoch=3-step=300-val_loss=2.31.ckpt", "", step=300))
        '/runs/two/epoch*-step=*-val_loss*.ckpt'
    """
    if item.step is None:
        return None
    if isinstance(item.tags.get("run"), str):
        return str(item.tags["run"])
    place = item.source if item.revision is None else f"{item.source}@{item.revision}"
    found = list(_STEP.finditer(place))
    if not found:
        return item.source if item.revision is not None else item.source.rpartition("/")[0]
    start, stop = found[-1].span(1)
    return _BESIDE.sub(r"\g<word>*", f"{place[:start]}*{place[stop:]}")


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key under which numbers in names count as numbers.

    Args:
        name: Any name.

    Example:
        >>> sorted(["step10", "step2", "step1"], key=natural)
        ['step1', 'step2', 'step10']
    """
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)
