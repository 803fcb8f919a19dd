"""What the benchmarks share: options, the table, the result file."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from gammatorch.bench.timing import Timing, machine

PEERS = ("fastsafetensors", "runai-model-streamer", "mergekit", "scikit-learn")
LIBRARIES = ("gammatorch", "torch", "numpy", "safetensors", "huggingface_hub", *PEERS)

Result = TypeVar("Result")


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=15, help="counted calls of each candidate")
    made.add_argument("--device", default="auto", help="cpu, cuda, or auto: the CPU and CUDA where there is one")
    made.add_argument(
        "--cpu-time",
        action="store_const",
        dest="clock",
        const=time.process_time,
        default=time.perf_counter,
        help="count CPU seconds of one thread, for a machine that others use meanwhile; not for CUDA",
    )
    made.add_argument("--out", type=Path, help="write the results as JSON to this file")
    return made


def devices() -> list[str]:
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def settle(chosen: argparse.Namespace) -> None:
    """One thread where CPU seconds are counted: those of a pool include what it waits for."""
    if chosen.clock is time.process_time:
        torch.set_num_threads(1)
        alone = os.environ.get("OPENBLAS_NUM_THREADS") == "1"
        assert alone, "set OPENBLAS_NUM_THREADS=1, so that NumPy too takes one thread"


def chosen_devices(device: str) -> list[str]:
    return devices() if device == "auto" else [device]


def peak_bytes(candidate: Callable[[], Result]) -> tuple[Result, int]:
    """What a call returns, and how much the memory of host and device grew meanwhile at most."""
    done, page, seen = threading.Event(), os.sysconf("SC_PAGE_SIZE"), []

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(_resident_pages() * page)

    before = _resident_pages() * page
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = candidate()
    finally:
        done.set()
        watcher.join()
    on_device = torch.cuda.max_memory_allocated() - held if torch.cuda.is_available() else 0
    return result, max([0, *(resident - before for resident in seen)]) + on_device


def _resident_pages() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def print_times(title: str, times: Mapping[str, Timing], remarks: Mapping[str, str] | None = None) -> None:
    """Medians, and each candidate's multiple of the first."""
    print(f"\n{title}")
    base = next(iter(times.values())).median_seconds
    for name, timing in times.items():
        remark = (remarks or {}).get(name, "")
        print(f"  {name:<34} {timing.median_seconds * 1e3:>10.3f} ms  {timing.median_seconds / base:>8.2f} ×  {remark}")


def save(out: Path | None, results: Mapping[str, Any]) -> None:
    """Results with the machine and the libraries they were taken on."""
    if out is None:
        return
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    document = {
        "machine": {**machine(), "gpu": gpu, "threads": torch.get_num_threads()},
        "versions": versions,
        "results": results,
    }
    out.write_text(json.dumps(document, indent=2, default=_as_dict) + "\n")
    print(f"\nsaved {out}")


def _as_dict(value: object) -> Any:
    if isinstance(value, Timing):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
