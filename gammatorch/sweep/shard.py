"""One of several runs that share a sweep without knowing of each other: a job of a cluster's array, say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gammatorch.errors import InvalidArgument
from gammatorch.sweep.item import Item


@dataclass(frozen=True)
class Shard:
    """Which part of the items, counted from 0.

    Attributes:
        index: This part.
        count: Number of parts.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, items: Iterable[Item]) -> list[Item]:
        """The items of this part. An item's part depends on its key alone, so runs that planned at different times,
        while branches were added, agree on it.
        """
        return [item for item in items if int(item.key, 16) % self.count == self.index]


def parse_shard(text: str) -> Shard:
    """The part that ``i/n`` means, with i from 0 to n − 1.

    Args:
        text: What was typed.

    Raises:
        InvalidArgument: It is not written so.

    Example:
        >>> parse_shard("3/8")
        Shard(index=3, count=8)
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise InvalidArgument(f"a shard is written i/n, with i from 0 to n - 1 (0/4, 1/4, 2/4, 3/4), not {text!r}")
    return Shard(int(match[1]), int(match[2]))


def slurm_shard(environment: Mapping[str, str]) -> Shard | None:
    """The part of a task of a Slurm job array, None outside of one.

    Args:
        environment: Variables of the process.

    Raises:
        InvalidArgument: The array's numbers are not evenly spaced, so which part this is cannot be told.

    Example:
        >>> array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"}
        >>> slurm_shard({**array, "SLURM_ARRAY_TASK_COUNT": "4"})
        Shard(index=3, count=4)
    """
    task, count = environment.get("SLURM_ARRAY_TASK_ID"), environment.get("SLURM_ARRAY_TASK_COUNT")
    if not task or not count:
        return None
    first, step = environment.get("SLURM_ARRAY_TASK_MIN") or "0", environment.get("SLURM_ARRAY_TASK_STEP") or "1"
    try:
        index, left = divmod(int(task) - int(first), int(step))
        if left == 0 and 0 <= index < int(count):
            return Shard(index, int(count))
    except (ValueError, ZeroDivisionError):
        pass
    raise InvalidArgument(
        f"SLURM_ARRAY_TASK_ID={task} of {count} tasks from {first} in steps of {step} does not tell which part "
        "this is: pass --shard i/n"
    )
