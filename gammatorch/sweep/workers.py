"""Several workers on one machine, each a process of its own with a device of its own."""

from __future__ import annotations

import multiprocessing
import queue
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
        yield from work(replace(task, device=devices[0]), items)
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    results: Any = context.Queue()
    processes = [
        context.Process(
            target=_worker, args=(replace(task, device=device), items[number :: len(devices)], results), daemon=True
        )
        for number, device in enumerate(devices)
    ]
    for process in processes:
        process.start()
    try:
        yield from _collect(processes, results)
    finally:
        for process in processes:
            process.join(_PARTING_SECONDS)
            process.terminate()


def _devices(task: Task, items: int) -> list[str]:
    """A device for each worker: every GPU once, or as many on the same device as were asked for."""
    device = str(choose_device(task.device))
    every_gpu = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if device == "cuda" else []
    devices = every_gpu or [device]
    count = task.workers if task.workers is not None else len(devices)
    return [devices[number % len(devices)] for number in range(max(1, min(count, items)))]


def _worker(task: Task, items: Sequence[Item], results: Any) -> None:
    try:
        for outcome in work(task, items):
            results.put(outcome)
        results.put(None)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        results.put(error)


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
