"""One worker of a sweep: many reads in flight while one device analyses and a few threads write.

::

    items → claim → [threads: read] → bounded queue → analyse on the device → [threads: write, flush] → outcomes

Memory is bounded by the queue and by the bytes of gains in flight, not by the number of items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gammatorch.checkpoints.mounts import is_remote
from gammatorch.gains.device import choose_device
from gammatorch.sweep.analysing import analyse
from gammatorch.sweep.item import Item, Settings
from gammatorch.sweep.outcome import Failure, Outcome
from gammatorch.sweep.readers import Readers
from gammatorch.sweep.reading import Loaded, load
from gammatorch.sweep.store import Store, StoredItem

LOCAL_READERS, REMOTE_READERS = 2, 16
"""Items read at the same time: on a local disk one to read and one to parse, elsewhere many that wait for a server."""

WRITERS = 4
"""Items written at the same time; a flush of a network file system takes its time."""

AHEAD = 8
"""Items that may wait between reading and analysis, and between analysis and writing."""


@dataclass(frozen=True)
class Task:
    """What an engine is to do, whatever the items.

    Attributes:
        folder: The store's folder.
        settings: What is read of each item, and how it is analysed.
        device: Where it is analysed.
        workers: Processes; None for one on each GPU, or one on the CPU.
        token: Access token for the Hub.
    """

    folder: Path
    settings: Settings
    device: str = "auto"
    workers: int | None = None
    token: str | None = field(default=None, repr=False)


def work(task: Task, items: Sequence[Item]) -> Iterator[Outcome]:
    """Do items, one worker on one device, and tell of each as it is done.

    An item is looked up in the store right before it is read. Those that another process has claimed come last, and
    are done then, unless they have become done meanwhile: claims order the work of several processes, and what a
    killed one has left behind forbids nothing.

    Args:
        task: What to do.
        items: With what.

    Raises:
        OutputError: The store cannot be written to.
        DeviceError: The device is not there.
    """
    device = choose_device(task.device)
    store, claimed = Store(task.folder), set[str]()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    readers = Readers(
        _walk(store, items, claimed), lambda item: load(item, task.settings, task.token), _reader_count(items)
    )
    writers = ThreadPoolExecutor(WRITERS, "gammatorch-write")
    writing: set[Future[Outcome]] = set()
    try:
        for item, read in readers:
            if read is None:
                yield Outcome(item.key, "present")
                continue
            writing.add(writers.submit(_write, store, item, _analyse(read, task.settings, device)))
            ready, writing = wait(writing, 0 if len(writing) < AHEAD else None, FIRST_COMPLETED)
            yield from _outcomes(ready, claimed)
        yield from _outcomes(wait(writing).done, claimed)
    finally:
        readers.close()
        writers.shutdown()
        for key in claimed:
            store.release(key)
        torch.set_num_threads(threads)


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


def _analyse(read: Loaded | BaseException, settings: Settings, device: torch.device) -> StoredItem | BaseException:
    if isinstance(read, BaseException):
        return read
    try:
        return analyse(read, settings, device)
    except Exception as error:
        return error


def _write(store: Store, item: Item, result: StoredItem | BaseException) -> Outcome:
    if isinstance(result, StoredItem):
        store.put(result)
        return Outcome(item.key, "done", int(result.provenance["bytes_read"]))
    failure = Failure.of(item.key, item.name, result)
    store.fail(failure)
    return Outcome(item.key, "failed", failure=failure)


def _reader_count(items: Sequence[Item]) -> int:
    remote = any(item.commit is not None for item in items) or any(
        is_remote(folder) for folder in {item.source.rpartition("/")[0] or "/" for item in items}
    )
    return REMOTE_READERS if remote else LOCAL_READERS
