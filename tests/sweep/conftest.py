"""A training run of small checkpoints, and sweeps of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.run import Summary, run_sweep
from gammatorch.sweep.store import read_items
from gammatorch.sweep.task import Task
from tests.cli.conftest import call

__all__ = ["USUAL", "call", "checkpoints", "numbers", "sweep"]

USUAL = Settings()


@pytest.fixture
def checkpoints(tmp_path) -> Callable[..., Path]:
    """Folder ``runs`` with a checkpoint ``step<N>`` for each number."""

    def write(*steps: int, layers: int = 4, hidden: int = 32, shards: int = 2) -> Path:
        for step in steps:
            folder = tmp_path / "runs" / f"step{step}"
            folder.mkdir(parents=True)
            write_checkpoint(folder, layers=layers, hidden=hidden, shards=shards, seed=step)
        return tmp_path / "runs"

    return write


def sweep(*specs: object, out: Path, settings: Settings = USUAL, device: str = "cpu", **options: object) -> Summary:
    """Plan and run a sweep in this process."""
    planning = {name: options.pop(name) for name in ("every", "limit") if name in options}
    plan = make_plan([str(spec) for spec in specs], settings, **planning)
    how = {name: options.pop(name) for name in ("workers", "cache") if name in options}
    return run_sweep(plan, Task(out, settings, device, **how), **options)


def numbers(out: Path) -> Mapping[str, str]:
    """Of each item that is stored, a hash of every bit of its numbers: tensors and analysis."""
    found = {}
    for stored in read_items(out):
        digest = hashlib.sha256(repr(stored.analysis).encode())
        for tensor in (stored.weights, stored.gram, stored.pearson, stored.sketch):
            digest.update(b"-" if tensor is None else bytes(tensor.untyped_storage()))
        found[stored.item.name] = digest.hexdigest()
    return found


def assert_close(found, wanted):
    """That two documents say the same, numbers but for their last digits."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert_close(found[name], wanted[name])
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)
    elif isinstance(wanted, float) and not isinstance(found, str):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-10)
    else:
        assert found == wanted
