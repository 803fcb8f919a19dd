"""A sweep from its plan to its summary: what is in the store already is left out, the rest goes to an engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gammatorch.errors import InvalidArgument
from gammatorch.results.sweep import Failure, SweepDocument, TimelineDocument
from gammatorch.sweep.engines import ENGINES
from gammatorch.sweep.outcome import Outcome
from gammatorch.sweep.place import check_place
from gammatorch.sweep.plan import Plan
from gammatorch.sweep.shard import Shard
from gammatorch.sweep.store import Store
from gammatorch.sweep.task import Task


@dataclass(frozen=True)
class Summary:
    """What a sweep did.

    Attributes:
        folder: Where its items are.
        planned: Items that were asked for, lines that mean nothing included.
        shard: The part that fell to this run, None for all.
        present: Items that were done before, or by another process meanwhile.
        done: Items done by this run.
        failures: Items that could not be done.
        bytes_read: Bytes moved by this run.
        seconds: Time it took, planning excluded.
    """

    folder: Path
    planned: int
    shard: Shard | None
    present: int
    done: int
    failures: tuple[Failure, ...]
    bytes_read: int
    seconds: float

    def document(self, told: TimelineDocument) -> SweepDocument:
        """As it is written, with what the sweep tells.

        Args:
            told: The items by step, and what is odd about them.
        """
        return SweepDocument(
            out=str(self.folder),
            planned=self.planned,
            shard=str(self.shard) if self.shard else None,
            present=self.present,
            done=self.done,
            failed=len(self.failures),
            failures=list(self.failures),
            bytes_read=self.bytes_read,
            seconds=self.seconds,
            timeline=told.timeline,
            anomalies=told.anomalies,
            notes=told.notes,
        )


def run_sweep(
    plan: Plan,
    task: Task,
    *,
    engine: str = "local",
    shard: Shard | None = None,
    begin: Callable[[int, int], object] = lambda total, present: None,
    watch: Callable[[Outcome], object] = lambda outcome: None,
) -> Summary:
    """Do what of a plan is not done.

    Args:
        plan: The items.
        task: What to do with each, and where to keep it.
        engine: Who does it, a name of :data:`~gammatorch.sweep.engines.ENGINES`.
        shard: Do this part only.
        begin: Called once with the number of items and how many of them are done already.
        watch: Called with every outcome.

    Raises:
        InvalidArgument: There is no such engine.
        OutputError: The store cannot be written to, or would mix with a model's files.
        DeviceError: The device is not there.
    """
    if engine not in ENGINES:
        raise InvalidArgument(f"there is no engine {engine!r}: pass {', '.join(ENGINES)}")
    started = time.perf_counter()
    items = shard.of(plan.items) if shard else list(plan.items)
    check_place(task.folder)
    store = Store(task.folder)
    store.sweep_up()
    store.forgive({item.name for item in items} | {failure.name for failure in plan.failures})
    for failure in plan.failures:
        store.fail(failure)
    there = store.keys()
    missing = [item for item in items if item.key not in there]
    begin(len(items), len(items) - len(missing))
    counts = {"done": 0, "present": len(items) - len(missing)}
    failures, bytes_read = list(plan.failures), 0
    work = contextlib.closing(ENGINES[engine](task, missing)) if missing else contextlib.nullcontext(())
    with work as outcomes:  # an interrupt ends its workers at once
        for outcome in outcomes:
            bytes_read += outcome.bytes_read
            if outcome.failure is not None:
                failures.append(outcome.failure)
            else:
                counts[outcome.status] += 1
            watch(outcome)
    return Summary(
        folder=task.folder,
        planned=len(plan.items) + len(plan.failures),
        shard=shard,
        failures=tuple(failures),
        bytes_read=bytes_read,
        seconds=time.perf_counter() - started,
        **counts,
    )
