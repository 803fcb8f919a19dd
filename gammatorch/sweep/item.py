"""One checkpoint of a sweep, and the settings it is analysed with; together they make the key it is stored under."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 2
"""Changes whenever the same checkpoint and settings would be stored otherwise: then all items are new."""

_STEP = re.compile(r"(?:^|[^a-z])(?:step|checkpoint|ckpt|iteration|iter)[-_=]?(\d+)", re.IGNORECASE)

_STEP_DIGITS = 15
"""Digits of a step at most: a longer number is a date with a time, a hash or a mistake, and no axis has room for it."""

_BESIDE = re.compile(r"(?P<word>tokens?|epochs?|(?:[a-z]+_)?loss|ppl)[-_=]?\d+(?:\.\d+)?[kmbt]?", re.IGNORECASE)
"""What names of branches and files tell beside the step, and what changes with it."""


@dataclass(frozen=True)
class Settings:
    """What is read of each checkpoint, and how it is analysed; the device is no part of it.

    Attributes:
        site: Place of the norm, ``"auto"`` for the block's input or its nearest analogue.
        stack: Stack, where there are several.
        pattern: Keys to read instead of a site.
        raw: Whether the stored weights are taken without offset.
        dtype: Precision of the arithmetic.
        method: How principal axes are found; ``"auto"`` is ``"gram"`` here, as for any batch.
        dims: Numbers kept of each layer by ``project``, and by the sketch of wide tensors.
        seed: Seed of both.
        phases: Runs of layers to compare.
    """

    site: str = "auto"
    stack: str | None = None
    pattern: str | None = None
    raw: bool = False
    dtype: str = "float64"
    method: str = "auto"
    dims: int = 4096
    seed: int = 0
    phases: str = "auto"


@dataclass(frozen=True)
class Item:
    """One checkpoint of a sweep.

    Attributes:
        name: The name it goes by: a path, or ``org/name@revision``.
        source: Where it is: an absolute path, or ``org/name``.
        identity: What tells it from what stood there before: the commit, or size and time of each local file.
        revision: Branch, tag or commit it was asked for by; None for a local path.
        commit: The commit, None for a local path.
        step: Training step, where the name or a tag tells it.
        tags: Whatever a list file said of it.
        key: Under which it is stored.
    """

    name: str
    source: str
    identity: str
    revision: str | None = None
    commit: str | None = None
    step: int | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return {**vars(self), "tags": dict(self.tags)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Item:
        """The item that :meth:`to_dict` wrote."""
        return cls(**document)


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


def is_step(value: Any) -> bool:
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
