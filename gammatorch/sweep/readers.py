"""Threads that read ahead of whoever takes the results, and no further than they are told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Iterator
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
        >>> [item for batch in with_none.batches(lambda square: (square, 1)) for item in batch]
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

    def batches(
        self, together: Callable[[_Read], tuple[Hashable, int]]
    ) -> Iterator[list[tuple[_Item, _Read | Exception | None]]]:
        """Each item with its result, the error it raised, or None where the function was not to be called; once.

        The threads begin here, where whoever iterates is ready to close.

        Args:
            together: What results that come together have in common, and how many of them do: while others are there
                to be taken some wait for more of their kind, two batches' worth at most; when nothing else is there,
                none does.
        """
        for thread in self._threads:
            thread.start()
        running = len(self._threads)
        waiting = dict[tuple[Hashable, int], list[tuple[_Item, _Read | Exception | None]]]()
        while running or waiting:
            while running and not (waiting and self._results.empty()):
                one = self._results.get()
                if one is None:
                    running -= 1
                elif isinstance(one, Exception):
                    raise one
                elif one[1] is None or isinstance(one[1], Exception):
                    yield [one]
                else:
                    kind = together(one[1])
                    waiting.setdefault(kind, []).append(one)
                    if len(waiting[kind]) == kind[1]:
                        yield waiting.pop(kind)
                if sum(len(some) / most for (_, most), some in waiting.items()) >= 2:
                    break
            if waiting:
                yield waiting.pop(next(iter(waiting)))

    def close(self) -> None:
        """Read no further: no item is taken after this; calls in flight are left to themselves."""
        self._stopped.set()
        with self._taking:
            pass

    def _work(self) -> None:
        try:
            while True:
                with self._taking:
                    item, wanted = (None, False) if self._stopped.is_set() else next(self._items, (None, False))
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
