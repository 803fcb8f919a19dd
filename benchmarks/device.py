"""What gammatorch asks of a device: kernels, waits and bytes, counted anywhere; times on a GPU where there is one.

    python benchmarks/device.py [--device cuda] [--columns 1000000] [--folder DIR] [--repeats 15] [--out FILE]

Counted on a device that is the CPU and does not let on (`benchmarks/pretend_device.py`): every operation that computes
there, every time the host waits for a result, and the bytes between them. That holds on any machine; how long it takes
does not follow from it.

Timed on the device: the same analyses of gains that are there, beside a copy of as many bytes on it, which no pass over
them can be faster than; and gains that are read from files of full size, beside `safe_open(device=…)` of the same
tensors, stacked and cast as ours are. What is on the device is held against the CPU before any time is reported. The
device `cpu` is for trying the script.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from common import devices, parser, print_times, save, settle, synchronize
from device_jobs import HIDDEN, LAYERS, TOGETHER, jobs
from safetensors import safe_open
from torch import Tensor

import gammatorch
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.bench.timing import Timing, compare

FULL_SIZE = {"layers": 64, "hidden": 5120, "shards": 17}


def count(columns: int) -> dict[str, dict[str, Any]]:
    """What each job asks of the device; in a process of its own, which takes it for its accelerator."""
    from pretend_device import DEVICE, Pretending, counted, register

    register()
    found = {}
    with Pretending():
        for name, job in jobs(DEVICE, columns).items():
            with counted() as counts:
                job()
            found[name] = {
                "kernels": counts.kernels.total(),
                "waits": counts.waits.total(),
                "bytes_sent": counts.sent,
                "bytes_fetched": counts.fetched,
                "most": dict(counts.kernels.most_common(5)),
                "most_waits": dict(counts.waits.most_common(5)),
            }
    return found


def print_counts(counts: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{'counted':<16}{'kernels':>8}{'waits':>7}{'sent':>10}{'fetched':>10}  most")
    for name, found in counts.items():
        most = ", ".join(f"{kernel} {times}" for kernel, times in found["most"].items())
        traffic = "".join(f"{found[way] / 1e6:>7.2f} MB" for way in ("bytes_sent", "bytes_fetched"))
        print(f"{name:<16}{found['kernels']:>8}{found['waits']:>7}{traffic}  {most}")


def nbytes(name: str, columns: int) -> int:
    """Of the gains that a job takes."""
    if name.startswith("wide"):
        return 2 * LAYERS * columns
    return 8 * LAYERS * HIDDEN * (TOGETHER if "together" in name else 1)


def check_resident(device: str, columns: int) -> None:
    there, here = jobs(device, columns), jobs("cpu", columns)
    for name, job in there.items():
        one, other = job(), here[name]()
        if isinstance(one, gammatorch.Sketch):
            assert torch.equal(one.values.cpu(), other.values), f"{name}: other bits than on the CPU"
            continue
        one, other = (found if isinstance(found, list) else [found] for found in (one, other))
        for ours, theirs in zip(one, other, strict=True):
            assert ours["answer"]["verdict"] == theirs["answer"]["verdict"], name
            torch.testing.assert_close(ours["cosine"], theirs["cosine"], rtol=0, atol=1e-12)


def measure_resident(device: str, columns: int, chosen: Any) -> dict[str, Any]:
    check_resident(device, columns)
    results = {}
    for name, job in jobs(device, columns).items():
        size = nbytes(name, columns)
        from_there, to_there = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))

        def copy(source: Tensor = from_there, target: Tensor = to_there) -> None:
            target.copy_(source)

        candidates: dict[str, Callable[[], Any]] = {"a copy of its bytes": copy, name: job}
        times = compare(candidates, repeats=chosen.repeats, synchronize=synchronize, clock=chosen.clock)
        results[name] = times
        print_times(f"{name}, {size / 1e6:.1f} MB on {device}", times, rates(times, size))
    return results


def rates(times: Mapping[str, Timing], size: int) -> dict[str, str]:
    return {name: f"{size / timing.median_seconds / 1e9:8.2f} GB/s" for name, timing in times.items()}


def by_safe_open(folder: Path, keys: Mapping[str, str], device: str) -> Tensor:
    """The same rows by safetensors, file by file."""
    rows: dict[str, Tensor] = {}
    for file in sorted(set(keys.values())):
        with safe_open(folder / file, "pt", device=device) as opened:
            rows |= {key: opened.get_tensor(key) for key in keys if keys[key] == file}
    return torch.stack([rows[key] for key in keys]).double()


def measure_reading(folder: Path, device: str, chosen: Any) -> dict[str, Any]:
    write_checkpoint(folder, **FULL_SIZE)
    with gammatorch.open_checkpoint(folder) as checkpoint:
        keys = {key: checkpoint.entries[key].file for key in gammatorch.read_gains(checkpoint, device=device).keys}
    candidates: dict[str, Callable[[], Tensor]] = {
        "safe_open(device=…), stacked, cast": lambda: by_safe_open(folder, keys, device),
        "read_gains": lambda: gammatorch.read_gains(folder, device=device).gamma,
    }
    first, second = (candidate() for candidate in candidates.values())
    assert torch.equal(first, second), "read_gains gives other numbers than safe_open"
    times = compare(candidates, repeats=chosen.repeats, synchronize=synchronize, clock=chosen.clock, warm=True)
    print_times(f"{LAYERS} × {HIDDEN} from 17 shards to {device}, warm page cache", times)
    return dict(times)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--columns", type=int, default=1_000_000, help="width of the wide gains")
    options.add_argument("--folder", type=Path, help="where the checkpoint is written")
    chosen = options.parse_args()
    settle(chosen)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        results: dict[str, Any] = {"counts": apart.submit(count, chosen.columns).result()}
    print_counts(results["counts"])
    for device in devices()[1:] if chosen.device == "auto" else [chosen.device]:
        results[device] = {"resident": measure_resident(device, chosen.columns, chosen)}
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            results[device]["reading"] = measure_reading(Path(folder), device, chosen)
    save(chosen.out, results)


if __name__ == "__main__":
    main()
