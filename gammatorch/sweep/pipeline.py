"""One worker of a sweep: many reads in flight while one device analyses and a few threads write.

::

    items → claim → [threads: read] → bounded queue → analyse on the device → [threads: write, flush] → outcomes

Memory is bounded by the queue and by the bytes of gains in flight, not by the number of items.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial

import torch

from gammatorch.checkpoints.local import is_remote
from gammatorch.gains.device import choose_device, one_thread
from gammatorch.sweep.analysing import alike, analyse, batch_size
from gammatorch.sweep.item import Item
from gammatorch.sweep.outcome import Failure, Outcome
from gammatorch.sweep.readers import Readers
from gammatorch.sweep.reading import Loaded, load
from gammatorch.sweep.store import Store, StoredItem
from gammatorch.sweep.task import Task

LOCAL_READERS, SPARE_READERS, HUB_READERS, REMOTE_READERS = 1, 1, 8, 16
"""Items read at the same time: on a local disk one, since two would wait for each other and the analysis for both, and
a spare one where that does not keep up; from the Hub as many as keep its connections busy; elsewhere many that wait for
a server."""

WRITERS = 4
"""Items written at the same time; a flush of a network file system takes its time."""

AHEAD, UNWRITTEN = 16, 8
"""Items that may wait between reading and analysis: a batch of them; and between analysis and writing: few, as what
another process of the sweep does not see yet it does again."""


def work(task: Task, items: Sequence[Item]) -> Iterator[Outcome]:
    """Do items, one worker on one device, and tell of each as it is done.

    An item is looked up in the store right before it is read, and again before it is analysed. Those that another
    process has claimed come last, and are done then, unless they have become done meanwhile: claims order the work of
    several processes, and what a killed one has left behind forbids nothing.

    Args:
        task: What to do.
        items: With what.

    Raises:
        OutputError: The store cannot be written to.
        DeviceError: The device is not there, cannot be used, or has failed.
    """
    device = choose_device(task.device)
    task = replace(task, device=str(device))
    store, claimed = Store(task.folder), set[str]()
    readers = Readers(_walk(store, items, claimed), partial(load, task=task), *_reader_counts(items), AHEAD)
    writers = _writers()
    writing: set[Future[Outcome]] = set()
    try:
        with one_thread():
            for read in readers.batches(lambda one: (alike(one), batch_size(one, device))):
                missing = []
                for item, result in read:
                    if result is None or store.has(item.key):
                        yield Outcome(item.key, "present")
                    else:
                        missing.append((item, result))
                for item, kept in _analyse(missing, task, device):
                    if len(writing) >= UNWRITTEN:
                        ready, writing = wait(writing, return_when=FIRST_COMPLETED)
                        yield from _outcomes(ready, claimed)
                    writing.add(writers.submit(_write, store, item, kept))
                ready, writing = wait(writing, 0)
                yield from _outcomes(ready, claimed)
            yield from _outcomes(wait(writing).done, claimed)
    finally:
        readers.close()
        writers.shutdown()
        for key in claimed:
            store.release(key)


def _writers() -> ThreadPoolExecutor:
    """All threads begun: a pool begins them as work comes, which fails where the interpreter has begun to end."""
    pool, all_there = ThreadPoolExecutor(WRITERS, "gammatorch-write"), threading.Barrier(WRITERS)
    wait([pool.submit(all_there.wait) for _ in range(WRITERS)])
    return pool


def _walk(store: Store, items: Sequence[Item], claimed: set[str]) -> Iterator[tuple[Item, bool]]:
    """Items and whether they are still to do: the unclaimed first, then those that others have claimed."""
    theirs = []
    for item in items:
        if store.has(item.key):
            yield item, False
        elif store.claim(item.key):
            claimed.add(item.key)
            yield item, True
        else:
            theirs.append(item)
    for item in reversed(theirs):  # the other process goes the other way
        yield item, not store.has(item.key)


def _outcomes(written: set[Future[Outcome]], claimed: set[str]) -> Iterator[Outcome]:
    for future in written:
        outcome = future.result()
        claimed.discard(outcome.key)
        yield outcome


def _analyse(
    read: Sequence[tuple[Item, Loaded | Exception]], task: Task, device: torch.device
) -> list[tuple[Item, StoredItem | Exception]]:
    """What is to be kept of each item that was read, or the error that it ended with."""
    loaded = [result for _, result in read if isinstance(result, Loaded)]
    failed = [(item, result) for item, result in read if isinstance(result, Exception)]
    return [*zip((one.item for one in loaded), analyse(loaded, task.settings, device), strict=True), *failed]


def _write(store: Store, item: Item, result: StoredItem | Exception) -> Outcome:
    if isinstance(result, StoredItem):
        store.put(result)
        return Outcome(item.key, "done", result.provenance.bytes_read or 0)
    failure = Failure.of(item.key, item.name, result)
    store.fail(failure)
    return Outcome(item.key, "failed", failure=failure)


def _reader_counts(items: Sequence[Item]) -> tuple[int, int]:
    """Threads that read from the start, and those that may join them."""
    folders = {item.source.rpartition("/")[0] or "/" for item in items if item.commit is None}
    if any(map(is_remote, folders)):
        return REMOTE_READERS, 0
    return (LOCAL_READERS, SPARE_READERS) if all(item.commit is None for item in items) else (HUB_READERS, 0)
