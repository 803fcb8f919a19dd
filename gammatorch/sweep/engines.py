"""ENGINES: who does the items of a sweep. Each is a function of a task and its items that tells of every item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from gammatorch.sweep.item import Item
from gammatorch.sweep.outcome import Outcome
from gammatorch.sweep.task import Task


def local(task: Task, items: Sequence[Item]) -> Iterator[Outcome]:
    """This machine: one worker on each GPU, or one on the CPU.

    Args:
        task: What to do.
        items: With what.
    """
    from gammatorch.sweep.workers import run_workers

    return run_workers(task, items)


Engine = Callable[[Task, Sequence[Item]], Iterator[Outcome]]

ENGINES: Mapping[str, Engine] = {
    "local": local,
}
"""By name. An engine calls :func:`~gammatorch.sweep.pipeline.work` on parts of the items wherever it pleases, and
passes on what that yields."""
