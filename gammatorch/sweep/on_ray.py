"""The engine for many machines: parts of the items as tasks of a Ray cluster.

The workers write what they do into the store themselves, a folder that all nodes share; only what became of each item
travels. A part that is lost with its worker or node is done again by Ray elsewhere, and leaves out what is in the store
by then. One that keeps killing its workers is taken apart until the item that does it stands alone, and fails.
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from gammatorch.errors import DeviceError, GammatorchError, InvalidArgument, OutputError
from gammatorch.reports.text import plural
from gammatorch.sweep.item import Item
from gammatorch.sweep.outcome import Failure, Outcome
from gammatorch.sweep.pipeline import work
from gammatorch.sweep.store import Store
from gammatorch.sweep.task import Task

PART_ITEMS = 16
"""Items of a part at most: what a lost worker costs, and what one has in flight from a server."""

_PARTS_PER_SLOT = 4
"""Parts that each slot gets at least, where there are enough items, so that all end at about the same time."""

_PARTS_PER_GPU = 4
"""Parts that share a GPU where nothing else is asked for, if there are CPUs for so many: reading, writing and what is
small are done by the CPU, so one part does not keep a GPU busy."""

_IN_FLIGHT = 2
"""Parts in flight for each slot: one at work, one that waits."""

_RETRIES = 3
"""Times that Ray begins a lost part again."""

_PARTING_SECONDS = 5.0
"""Time that parts which were cancelled have to end."""

_ANSWER_SECONDS = 10.0
"""Time that a cluster has to take a connection; Ray itself would go on trying for minutes."""


def run_on_ray(task: Task, items: Sequence[Item]) -> Generator[Outcome, None, None]:
    """Share items among the nodes of a Ray cluster; begin one on this machine where none is told.

    Args:
        task: What to do; ``address`` and ``gpus_per_task`` say where.
        items: With what.

    Raises:
        InvalidArgument: Ray is not installed.
        GammatorchError: There is no cluster at that address.
        DeviceError: The cluster has no such resource.
        OutputError: A node does not see the store, or cannot write to it.
    """
    ray = _import_ray()
    connected = ray.is_initialized()
    if not connected:
        _connect(ray, task.address)
    try:
        yield from _run(ray, task, items)
    finally:
        if not connected:
            ray.shutdown()


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise InvalidArgument("--engine ray needs Ray: pip install 'gammatorch[ray]'") from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of clusters begun here: a sweep tells nobody of itself
    begins = {} if address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    try:
        if address and (named := re.fullmatch(r"(?:ray://)?(\[?[\w.:-]+\]?):(\d{1,5})", address)):
            socket.create_connection((named[1].strip("[]"), int(named[2])), _ANSWER_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level="error", **begins)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].strip() or type(error).__name__
        place = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise GammatorchError(
            f"no Ray cluster at {place} ({reason}): begin one with `ray start --head`, or leave --address out"
        ) from None


def _run(ray: Any, task: Task, items: Sequence[Item]) -> Iterator[Outcome]:
    resources, task = _resources(ray, task)
    remote = ray.remote(_do_part).options(max_retries=_RETRIES, **resources)
    waiting = deque(_parts(items, _slots(ray, resources)))
    flying: dict[Any, list[Item]] = {}
    try:
        while waiting or flying:
            while waiting and len(flying) < _IN_FLIGHT * _slots(ray, resources):
                part = waiting.popleft()
                flying[remote.remote(task, part)] = part
            (ready, *_), _ = ray.wait(list(flying), num_returns=1)
            part = flying.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayError as error:
                if len(part) > 1:
                    waiting.extend([item] for item in part)
                    continue
                result = [_lost(task, part[0], error)]
            if isinstance(result, Exception):
                raise result
            yield from result
    finally:
        _cancel(ray, flying, Store(task.folder))


def _cancel(ray: Any, flying: Mapping[Any, Sequence[Item]], store: Store) -> None:
    """End the parts in flight; what they were at is nobody's then."""
    if not flying:
        return
    for reference in flying:
        ray.cancel(reference)
    ray.wait(list(flying), num_returns=len(flying), timeout=_PARTING_SECONDS)
    for part in flying.values():
        for item in part:
            store.release(item.key)


def _resources(ray: Any, task: Task) -> tuple[dict[str, float], Task]:
    """What each part asks of a node, and the task with the device that this gives it."""
    there = ray.cluster_resources()
    wanted = task.gpus_per_task
    if wanted is None:
        wanted = 0.0 if task.device == "cpu" or not there.get("GPU") else _share(there.get("CPU", 0.0), there["GPU"])
    resources = {"num_cpus": 1.0, "num_gpus": wanted}
    remedies = {"GPU": "pass a smaller --gpus-per-task, 0 for CPUs", "CPU": "begin its nodes with --num-cpus"}
    for name, amount in (("GPU", wanted), ("CPU", 1.0)):
        most = max((node["Resources"].get(name, 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
        if amount > most:
            raise DeviceError(f"no node of the Ray cluster has {amount:g} {name} (at most {most:g}): {remedies[name]}")
    return resources, replace(task, device=_device_there(task.device) if wanted else "cpu")


def _share(cpus: float, gpus: float) -> float:
    """The part of a GPU for each part of the items.

    Example:
        >>> _share(64, 8), _share(8, 8)
        (0.25, 1.0)
    """
    return 1 / min(_PARTS_PER_GPU, max(1, int(cpus / gpus)))


def _device_there(device: str) -> str:
    """The device by the name that it has in a worker, to which Ray shows the GPU that it has chosen and no other."""
    return "cuda" if device.startswith("cuda:") else device


def _slots(ray: Any, resources: dict[str, float]) -> int:
    """Parts that the cluster, as it is now, can be at together."""
    there = ray.cluster_resources()
    slots = there.get("CPU", 0.0) / resources["num_cpus"]
    if resources["num_gpus"]:
        slots = min(slots, there.get("GPU", 0.0) / resources["num_gpus"])
    return max(1, int(slots))


def _parts(items: Sequence[Item], slots: int) -> list[list[Item]]:
    size = max(1, min(PART_ITEMS, len(items) // (slots * _PARTS_PER_SLOT)))
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _do_part(task: Task, items: Sequence[Item]) -> list[Outcome] | Exception:
    """Runs on a worker; errors that end the sweep come back as values, which need no unpacking from Ray's own."""
    if not (task.folder / "items").is_dir():
        where = f"is not there on node {os.uname().nodename}"
        return OutputError(f"{where}: --out must be a folder that all nodes share", file=str(task.folder))
    try:
        return list(work(task, items))
    except Exception as error:
        return error


def _lost(task: Task, item: Item, error: Exception) -> Outcome:
    reason = str(error).partition("\n")[0].strip()
    lost = GammatorchError(f"its worker died {plural(_RETRIES + 1, 'time')} ({reason})", file=item.name)
    failure = Failure.of(item.key, item.name, lost)
    Store(task.folder).fail(failure)
    return Outcome(item.key, "failed", failure=failure)
