"""Several workers on one machine, each a process of its own with a device of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from gammatorch.errors import GammatorchError
from gammatorch.gains.device import choose_device
from gammatorch.sweep.item import Item
from gammatorch.sweep.outcome import Outcome
from gammatorch.sweep.pipeline import work
from gammatorch.sweep.task import Task

_LOOK_SECONDS, _PARTING_SECONDS = 0.5, 5.0


def run_workers(task: Task, items: Sequence[Item]) -> Generator[Outcome, None, None]:
    """Share items among the devices of this machine; a single worker is this process itself.

    Args:
        task: What to do.
        items: With what.

    Raises:
        GammatorchError: What a worker ended with, or that it died; the others have ended then.
    """
    devices = _devices(task, len(items))
    if len(devices) == 1:
        yield from work(task, items)
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    results: Any = context.Queue()
    processes = [
        context.Process(
            target=_worker, args=(replace(task, device=device), items[number :: len(devices)], results), daemon=True
        )
        for number, device in enumerate(devices)
    ]
    with _interrupts_ignored():
        for process in processes:
            process.start()
    finished = False
    try:
        yield from _collect(processes, results)
        finished = True
    finally:
        for process in processes:
            if not finished:
                process.terminate()
        for process in processes:
            process.join(_PARTING_SECONDS)
            process.kill()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes begun meanwhile leave Ctrl-C, which a terminal sends to all, to this one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _devices(task: Task, items: int) -> list[str]:
    """A device for each worker: every GPU once, or as many on the same device as were asked for."""
    device = str(choose_device(task.device, try_it=False))
    every_gpu = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if device == "cuda" else []
    devices = every_gpu or [device]
    count = task.workers if task.workers is not None else len(devices)
    return [devices[number % len(devices)] for number in range(max(1, min(count, items)))]


def _worker(task: Task, items: Sequence[Item], results: Any) -> None:
    """One process: ends when it is done, told to, or left alone; what it is writing is written, and its claims go."""
    signal.signal(signal.SIGTERM, _end)
    logging.getLogger("gammatorch").addHandler(logging.NullHandler())  # the process that began it speaks for all
    parent = multiprocessing.parent_process()
    try:
        for outcome in work(task, items):
            results.put(outcome)
            if parent is not None and not parent.is_alive():
                return
        results.put(None)
    except KeyboardInterrupt:
        results.cancel_join_thread()  # nobody takes them any more
    except Exception as error:
        results.put(error)


def _end(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _collect(processes: Sequence[Any], results: Any) -> Iterator[Outcome]:
    running = len(processes)
    while running:
        try:
            result = results.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            if any(process.exitcode not in (0, None) for process in processes):
                raise GammatorchError("a worker process died: run the sweep again, what is done is kept") from None
            continue
        if isinstance(result, Exception):
            raise result
        if result is None:
            running -= 1
        else:
            yield result
