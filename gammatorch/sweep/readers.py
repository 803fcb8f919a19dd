"""Threads that read ahead of whoever takes the results, and no further than they are told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_LOOK_SECONDS = 0.2

_MOMENT_SECONDS = 0.02
"""How long results wait for more of their kind before they are taken as few as they are: about what a batch takes, be
it full or not."""

_MOST_WAITING = 4
"""Batches' worth of results that wait for more of their kind: those of so many kinds in turn all become full."""


class Readers(Generic[_Item, _Read]):
    """Results of a slow function of many items, in whatever order they come.

    The threads are daemons: neither an interrupt nor an error waits for a server that does not answer.

    Args:
        items: Items, and whether the function is to be called at all; taken one by one, by whichever thread is free.
        read: The function.
        threads: How many calls are in flight.
        spare: How many more may be, where results are waited for: each time, one more.
        ahead: Results that may wait to be taken.

    Example:
        >>> with_none = Readers(iter([(2, True), (3, False)]), lambda number: number * number, threads=1)
        >>> [item for batch in with_none.batches(lambda square: (square, 1)) for item in batch]
        [(2, 4), (3, None)]
    """

    def __init__(
        self,
        items: Iterator[tuple[_Item, bool]],
        read: Callable[[_Item], _Read],
        threads: int,
        spare: int = 0,
        ahead: int = 8,
    ) -> None:
        self._items, self._read = items, read
        self._taking = threading.Lock()
        self._stopped = threading.Event()
        self._results: queue.Queue[tuple[_Item, _Read | Exception | None] | Exception | None] = queue.Queue(ahead)
        self._at_first = threads
        self._threads = [
            threading.Thread(target=self._work, name="gammatorch-read", daemon=True) for _ in range(threads + spare)
        ]

    def batches(
        self, together: Callable[[_Read], tuple[Hashable, int]]
    ) -> Iterator[list[tuple[_Item, _Read | Exception | None]]]:
        """Each item with its result, the error it raised, or None where the function was not to be called; once.

        The threads begin here, where whoever iterates is ready to close.

        Args:
            together: What results that come together have in common, and how many of them do. Some wait for more of
                their kind, four batches' worth at most, and only while others come one soon after the other.
        """
        waiting = dict[tuple[Hashable, int], list[tuple[_Item, _Read | Exception | None]]]()
        for one in self._arrivals():
            if one is None:
                if waiting:
                    yield waiting.pop(next(iter(waiting)))
                continue
            _, result = one
            if result is None or isinstance(result, Exception):
                yield [one]
                continue
            kind = together(result)
            waiting.setdefault(kind, []).append(one)
            if len(waiting[kind]) == kind[1]:
                yield waiting.pop(kind)
            elif sum(len(some) / most for (_, most), some in waiting.items()) >= _MOST_WAITING:
                yield waiting.pop(next(iter(waiting)))
        yield from waiting.values()

    def _arrivals(self) -> Iterator[tuple[_Item, _Read | Exception | None] | None]:
        """Results as they come, and None whenever none has come for a moment: then a spare thread joins, if the first
        result, which waits for what is imported, is there."""
        spare, running, has_begun = self._threads[self._at_first :], self._at_first, False
        for thread in self._threads[: self._at_first]:
            thread.start()
        while running:
            try:
                one = self._results.get(timeout=_MOMENT_SECONDS)
            except queue.Empty:
                if spare and has_begun:
                    spare.pop().start()
                    running += 1
                yield None
                continue
            if isinstance(one, Exception):
                raise one
            if one is None:
                running -= 1
            else:
                has_begun = True
                yield one

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
