"""Many requests in parallel, in threads that are left behind rather than waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from gammatorch.checkpoints.hub.retry import Clock, RetryPolicy

_Item = TypeVar("_Item")
_LOOK_SECONDS = 0.25


def in_parallel(
    task: Callable[[_Item, Clock], object],
    items: Sequence[_Item],
    *,
    threads: int,
    retry: RetryPolicy,
    arrived: Callable[[_Item], object],
    overdue: Callable[[_Item, Clock], Exception],
    waiting: Callable[[_Item, Clock], object],
) -> None:
    """Do a task for every item, so many at a time; the first error ends it all.

    The threads are daemons, so that neither an interrupt nor an error waits for a server. A clock that has run out
    ends the work even where its thread cannot notice, because a server drips header lines, say.
    """
    todo, done = deque(items), SimpleQueue[tuple[_Item, BaseException | None]]()
    clocks: dict[int, tuple[_Item, Clock]] = {}
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                item = todo.popleft()
            except IndexError:
                return
            clock = Clock(retry.deadline_seconds, retry.least_rate, stopped)
            clocks[threading.get_ident()] = (item, clock)
            try:
                task(item, clock)
                done.put((item, None))
            except BaseException as error:
                done.put((item, error))
            clocks.pop(threading.get_ident())

    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, name="gammatorch-hub", daemon=True).start()
    try:
        for _ in items:
            item, error = _next(done, clocks, overdue, waiting)
            if error is not None:
                raise error
            arrived(item)
    finally:
        stopped.set()


def _next(
    done: SimpleQueue[tuple[_Item, BaseException | None]],
    clocks: dict[int, tuple[_Item, Clock]],
    overdue: Callable[[_Item, Clock], Exception],
    waiting: Callable[[_Item, Clock], object],
) -> tuple[_Item, Any]:
    """The next item that is done, or an error for one that will not be; looks at the others while it waits."""
    while True:
        try:
            return done.get(timeout=_LOOK_SECONDS)
        except Empty:
            for item, clock in list(clocks.values()):
                if clock.left_seconds < 0:
                    raise overdue(item, clock) from None
                waiting(item, clock)
