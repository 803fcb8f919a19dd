"""ENGINES: who does the items of a sweep. Each is a function of a task and its items that tells of every item."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

from gammatorch.sweep.item import Item
from gammatorch.sweep.outcome import Outcome
from gammatorch.sweep.task import Task


def local(task: Task, items: Sequence[Item]) -> Generator[Outcome, None, None]:
    """This machine: one worker on each GPU, or one on the CPU.

    Args:
        task: What to do.
        items: With what.
    """
    from gammatorch.sweep.workers import run_workers

    return run_workers(task, items)


def ray(task: Task, items: Sequence[Item]) -> Generator[Outcome, None, None]:
    """The nodes of a Ray cluster.

    Args:
        task: What to do.
        items: With what.
    """
    from gammatorch.sweep.on_ray import run_on_ray

    return run_on_ray(task, items)


Engine = Callable[[Task, Sequence[Item]], Generator[Outcome, None, None]]

ENGINES: Mapping[str, Engine] = {
    "local": local,
    "ray": ray,
}
"""By name. An engine calls :func:`~gammatorch.sweep.pipeline.work` on parts of the items wherever it pleases, and
passes on what that yields. It is closed early when the sweep is interrupted, and ends its workers then."""
