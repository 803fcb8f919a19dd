"""Threads that read ahead of whoever takes the results, and no further than they are told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_LOOK_SECONDS = 0.2


class Readers(Generic[_Item, _Read]):
    """Results of a slow function of many items, in whatever order they come.

    The threads are daemons: neither an interrupt nor an error waits for a server that does not answer.

    Args:
        items: Items, and whether the function is to be called at all; taken one by one, by whichever thread is free.
        read: The function.
        threads: How many calls are in flight.
        ahead: Results that may wait to be taken.

    Example:
        >>> with_none = Readers(iter([(2, True), (3, False)]), lambda number: number * number, threads=1)
        >>> [item for batch in with_none.batches(1) for item in batch]
        [(2, 4), (3, None)]
    """

    def __init__(
        self, items: Iterator[tuple[_Item, bool]], read: Callable[[_Item], _Read], threads: int, ahead: int = 8
    ) -> None:
        self._items, self._read = items, read
        self._taking = threading.Lock()
        self._stopped = threading.Event()
        self._results: queue.Queue[tuple[_Item, _Read | Exception | None] | Exception | None] = queue.Queue(ahead)
        self._threads = [
            threading.Thread(target=self._work, name="gammatorch-read", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def batches(self, most: int) -> Iterator[list[tuple[_Item, _Read | Exception | None]]]:
        """Each item with its result, the error it raised, or None where the function was not to be called.

        Args:
            most: Items that come together, where so many are there: none waits for others.
        """
        running = len(self._threads)
        while running:
            ready = [self._results.get()]
            while len(ready) < most and not self._results.empty():
                ready.append(self._results.get())
            running -= ready.count(None)
            for error in ready:
                if isinstance(error, Exception):
                    raise error
            yield [result for result in ready if isinstance(result, tuple)]

    def close(self) -> None:
        """Read no further; calls in flight are left to themselves."""
        self._stopped.set()

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                with self._taking:
                    item, wanted = next(self._items, (None, False))
                if item is None:
                    break
                self._put((item, self._attempt(item) if wanted else None))
        except Exception as error:  # of the walk over the items, not of one of them
            self._put(error)
        self._put(None)

    def _attempt(self, item: _Item) -> _Read | Exception:
        try:
            return self._read(item)
        except Exception as error:
            return error

    def _put(self, result: tuple[_Item, _Read | Exception | None] | Exception | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._results.put(result, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
