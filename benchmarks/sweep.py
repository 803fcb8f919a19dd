"""How many checkpoints a second a sweep does, beside loops that do one after the other.

    python benchmarks/sweep.py [--repeats 3] [--out FILE] [--parts local hub memory] [--items 200] [--revisions 154]

local: checkpoints of 12 × 768 to 64 × 5120 in 2 to 17 shards, full-size layouts in sparse files. The floor is bare
positioned reads of headers and gains that check nothing, plus the analysis in batches of one shape; it writes nothing.
The loop of the original's arithmetic opens each shard by safetensors' `safe_open` and keeps nothing either. A shell
loop of `gammatorch run` is timed on a few checkpoints and extrapolated. hub: revisions of one repository from a server
of its own process, with a round trip waited before every answer; the ideal is that of the 20 connections: as many round
trips as there are requests, 20 at a time. memory: largest resident size of a whole process by number of items.

Every number that a sweep stores is held against NumPy float64 before a time counts.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import parser, save
from extraction import KEY, bare_search, by_memmem, shards_of_keys
from hub_server import serve as serve_hub
from safetensors import safe_open

import gammatorch
from gammatorch.bench import reference
from gammatorch.bench.synthetic import SyntheticCheckpoint, write_checkpoint
from gammatorch.checkpoints.hub.client import CONNECTIONS
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import Plan, make_plan
from gammatorch.sweep.run import run_sweep
from gammatorch.sweep.store import read_items
from gammatorch.sweep.task import Task
from gammatorch.sweep.timeline import make_timeline

REPO = "org/model"
SHAPES = ((12, 768, 2), (24, 2048, 4), (36, 4096, 8), (64, 5120, 17))
SINGLE_RUNS = 5
ROUND_TRIP_SECONDS = 0.05


@dataclass(frozen=True)
class Made:
    """A checkpoint that was made."""

    checkpoint: SyntheticCheckpoint
    layers: int

    @property
    def gains(self) -> np.ndarray:
        """What was written, shape (layer, hidden)."""
        return np.stack([self.checkpoint.stored[KEY.format(layer)] for layer in range(self.layers)])


def write_runs(root: Path, count: int, shapes: Sequence[tuple[int, int, int]] = SHAPES) -> list[Made]:
    made = []
    for number, (layers, hidden, shards) in zip(range(count), itertools.cycle(shapes), strict=False):
        folder = root / f"run{number % len(shapes)}" / f"step{number}"
        folder.mkdir(parents=True)
        made.append(Made(write_checkpoint(folder, layers=layers, hidden=hidden, shards=shards, seed=number), layers))
    return made


def original(one: Made) -> None:
    """The original's arithmetic in float32 NumPy, its model load replaced by single tensors from a memory map."""
    rows: dict[int, np.ndarray] = {}
    for shard, layers in shards_of_keys(one.checkpoint.folder, one.layers).items():
        with safe_open(one.checkpoint.folder / shard, framework="pt") as file:
            rows |= {layer: file.get_tensor(KEY.format(layer)).float().numpy() for layer in layers}
    gains = np.stack([rows[layer] for layer in range(one.layers)])
    units = gains / np.linalg.norm(gains, axis=1)[:, None]
    cosine = units @ units.T
    _, values, axes = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
    projection = units @ axes[0]
    _ = values**2 / (values**2).sum(), np.sqrt(np.maximum(1 - projection**2, 0)), np.diagonal(cosine, 1)


def floor(made: Sequence[Made]) -> None:
    by_layers: dict[int, list[torch.Tensor]] = {}
    for one in made:
        by_layers.setdefault(one.layers, []).append(bare_search(one.checkpoint, one.layers, by_memmem))
    for batch in by_layers.values():
        gammatorch.analyze(torch.stack(batch))


def check(out: Path, written: Mapping[str, np.ndarray]) -> float:
    """Largest error of any stored cosine and length; every item must be there."""
    worst, seen = 0.0, set()
    for stored in read_items(out):
        gains = written[stored.item.name]
        seen.add(stored.item.name)
        np.testing.assert_array_equal(stored.gamma().numpy(), gains)
        found, truth = stored.document(), reference.analyze(gains)
        worst = max(worst, float(np.abs(np.array(found["cosine"]) - truth["cosine"]).max()))
        np.testing.assert_allclose(found["norms"], truth["norms"], rtol=1e-12)
        np.testing.assert_allclose(found["explained_var"][:8], truth["explained_var"][:8], atol=1e-9)
    assert seen == set(written) and worst < 1e-12, worst
    return worst


def sweep(plan: Plan, folder: Path, **options: Any) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    summary = run_sweep(plan, Task(folder, Settings(), device="cpu", **options))
    assert summary.done == len(plan.items), summary
    return time.perf_counter() - started


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def local(count: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        made = write_runs(Path(root, "runs"), count)
        plan = make_plan([f"{root}/runs/*/*"], Settings())
        written = {str(one.checkpoint.folder): one.gains for one in made}
        out = Path(root, "out")
        sweep(plan, out)
        worst = check(out, written)
        candidates: dict[str, Callable[[], object]] = {
            "floor: bare reads and batched analysis": lambda: floor(made),
            "original's arithmetic over safe_open": lambda: [original(one) for one in made],
        }
        seconds = {name: [] for name in (*candidates, "sweep, 1 worker", "sweep, 2 workers", "table and anomalies")}
        for _ in range(repeats):
            for name, call in candidates.items():
                seconds[name].append(timed(call))
            seconds["sweep, 1 worker"].append(sweep(plan, out))
            seconds["table and anomalies"].append(timed(lambda: make_timeline(out)))
            seconds["sweep, 2 workers"].append(sweep(plan, out, workers=2))
        single = [timed(lambda one=one: _single_run(one)) for one in made[:SINGLE_RUNS]]
    found = {name: median(times) for name, times in seconds.items()}
    found["loop of `gammatorch run` (extrapolated)"] = median(single) * count
    return {"items": count, "largest_error": worst, "seconds": found, "single_runs_timed": SINGLE_RUNS}


def _single_run(one: Made) -> None:
    command = [sys.executable, "-m", "gammatorch", "run", str(one.checkpoint.folder), "--device", "cpu", "-q"]
    subprocess.run([*command, "--out", os.devnull], check=True, stdout=subprocess.DEVNULL)


def serve(pipe: Connection, folders: Mapping[str, Path]) -> None:
    """The server's process: a repository with a branch for each folder."""
    with serve_hub(REPO, next(iter(folders.values()))) as hub:
        for number, (name, folder) in enumerate(folders.items()):
            commit = f"{number + 1:040x}"
            hub.commits[name], hub.folders[commit] = commit, folder
        hub.delay_seconds = ROUND_TRIP_SECONDS
        pipe.send(hub.url)
        while pipe.recv() is not None:
            pipe.send({"requests": len(hub.requests), "bytes": hub.sent})
            hub.forget()


@contextlib.contextmanager
def served(folders: Mapping[str, Path]) -> Iterator[Callable[[], dict[str, int]]]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, folders), daemon=True)
    process.start()
    os.environ["HF_ENDPOINT"] = url = ours.recv()
    from huggingface_hub import constants

    constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE = (
        url,
        f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )

    def count() -> dict[str, int]:
        ours.send("count")
        return ours.recv()

    try:
        yield count
    finally:
        ours.send(None)
        process.join()


def hub(revisions: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        made = write_runs(Path(root, "runs"), revisions, ((12, 768, 1),))
        folders = {one.checkpoint.folder.name: one.checkpoint.folder for one in made}
        written = {f"{REPO}@{one.checkpoint.folder.name}": one.gains for one in made}
        out = Path(root, "out")
        with served(folders) as count:
            plan = make_plan([f"{REPO}@step*"], Settings())
            plan_counts = count()
            sweep(plan, out, cache=False)
            counts = count()
            worst = check(out, written)
            seconds: dict[str, list[float]] = {"1": [], "2": []}
            alone = []
            for _ in range(repeats):
                for workers in (1, 2):
                    seconds[str(workers)].append(sweep(plan, out, cache=False, workers=workers))
                alone += [_alone(plan, number, out) for number in range(3)]
    ideal = counts["requests"] * ROUND_TRIP_SECONDS / CONNECTIONS
    return {
        "revisions": revisions,
        "round_trip_seconds": ROUND_TRIP_SECONDS,
        "largest_error": worst,
        "requests_to_plan": plan_counts["requests"],
        "requests_each": counts["requests"] / revisions,
        "bytes_each": counts["bytes"] / revisions,
        "one_alone_seconds": median(alone),
        "ideal_seconds": ideal,
        "seconds_by_workers": {workers: median(times) for workers, times in seconds.items()},
    }


def _alone(plan: Plan, number: int, out: Path) -> float:
    """One revision, when others have been read before: connections are open."""
    from gammatorch.sweep.reading import load

    task = Task(out, Settings(), device="cpu", cache=False)
    load(plan.items[-1], task)
    return timed(lambda: load(plan.items[number], task))


def memory(counts: Sequence[int]) -> dict[str, Any]:
    """Largest resident megabytes of `gammatorch sweep`, by number of items of one shape."""
    found = {}
    with tempfile.TemporaryDirectory() as root:
        write_runs(Path(root, "runs"), max(counts), ((24, 2048, 4),))
        for count in counts:
            command = [sys.executable, "-m", "gammatorch", "sweep", f"{root}/runs/*/*", "--limit", str(count)]
            command += ["--out", f"{root}/out{count}", "--device", "cpu", "--format", "json"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            found[str(count)] = _peak_mb(process)
            assert process.returncode == 0, process.returncode
    return {"resident_mb_by_items": found}


def _peak_mb(process: subprocess.Popen[bytes]) -> float:
    """Highest resident memory of a process until it ends: ``ru_maxrss`` would begin with its parent's peak."""
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                peak = int(found[1]) / 1024
        time.sleep(0.02)
    return peak


def show(results: Mapping[str, Any]) -> None:
    if "local" in results:
        part = results["local"]
        print(f"\n{part['items']} local checkpoints; largest error of a cosine {part['largest_error']:.0e}")
        base = part["seconds"]["sweep, 1 worker"]
        for name, seconds in part["seconds"].items():
            print(
                f"  {name:<42} {seconds:>8.2f} s {part['items'] / seconds:>8.1f}/s {seconds / base:>7.2f} × the sweep"
            )
    for name in ("hub", "memory"):
        if name in results:
            print(f"\n{name}\n{json.dumps(results[name], indent=2)}")


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(repeats=3)
    options.add_argument("--parts", nargs="+", choices=("local", "hub", "memory"), default=["local", "hub", "memory"])
    options.add_argument("--items", type=int, default=200)
    options.add_argument("--revisions", type=int, default=154)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "local": lambda: local(chosen.items, chosen.repeats),
        "hub": lambda: hub(chosen.revisions, chosen.repeats),
        "memory": lambda: memory([chosen.items // 8, chosen.items // 4, chosen.items // 2, chosen.items]),
    }
    results = {part: measure[part]() for part in chosen.parts}
    show(results)
    save(chosen.out, results)


if __name__ == "__main__":
    main()
