"""Times that can be compared: taken in turn in one run, after a warm-up, as medians."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Wall-clock times of one candidate.

    Attributes:
        median_seconds: Median over the repeats.
        least_seconds: Shortest repeat.
        repeats: Number of repeats.
    """

    median_seconds: float
    least_seconds: float
    repeats: int


def compare(
    candidates: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 15,
    synchronize: Callable[[], None] = lambda: None,
    settle_seconds: float = 0.0,
    warm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time the candidates in turn, A B C A B C …, so that a machine that drifts drifts for all.

    Args:
        candidates: What to time, by name; each is called once before anything is counted.
        repeats: Counted calls of each.
        synchronize: Waits for the device; called before and after each call.
        clock: Gives seconds; ``time.process_time`` where other programs take the processor in between.
        settle_seconds: Pause before each call, for thread pools of one candidate that spin on into the next.
        warm: Whether a call of its own goes before each counted one, so that the caches hold what the candidate needs
            and not what the one before it left.

    Returns:
        Times by name.

    Example:
        >>> compare({"nothing": lambda: None}, repeats=3)["nothing"].repeats
        3
    """
    for candidate in candidates.values():
        candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            time.sleep(settle_seconds)
            if warm:
                candidate()
            synchronize()
            started = clock()
            candidate()
            synchronize()
            seconds[name].append(clock() - started)
    return {name: Timing(statistics.median(taken), min(taken), repeats) for name, taken in seconds.items()}


def machine() -> dict[str, str | int]:
    """What the times were taken on: processor, cores, system and Python."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or no such line
        return platform.processor() or platform.machine()
