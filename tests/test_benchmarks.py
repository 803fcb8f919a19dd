"""Every benchmark runs as its page says, tiny: each holds its results against a reference before it tells a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = {
    "anomalies": "--items 60 --layers 2 --hidden 32 --honest 1 --planted 1 --kinds drift",
    "callback": "--steps 4",
    "device": "--columns 2000 --repeats 1 --device cpu",
    "extraction": "--repeats 1 --layouts Qwen3-32B",
    "fuzz": "--seconds 1 --target all",
    "hub": "--repeats 1 --delays 0 --layouts all-MiniLM-L6-v2",
    "picture": "",
    "projection": "--repeats 1 --columns 20000 --device cpu --no-peers",
    "spectra": "--repeats 1 --sizes 4x64 2x4x64 --device cpu",
    "sweep": "--repeats 1 --items 8 --revisions 4 --parts hub memory",
    "trained": "--steps 60 --every 1 --planted 1 --runs 1",
    "wide": "--repeats 1 --layers 4 --columns 20000 --device cpu",
    "worlds": "--seeds 1 --coverage 2",
}
"""The smallest that each can be asked for."""

PARTS = {"__init__", "common", "device_jobs", "hub_server", "pretend_device"}
"""What benchmarks share."""

pytestmark = pytest.mark.slow


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **alone}, timeout=900
    )


def test_every_benchmark_is_in_the_table():
    assert {path.stem for path in FOLDER.glob("*.py")} == TINY.keys() | PARTS


@pytest.mark.parametrize("name", TINY)
def test_help_is_shown_without_measuring(name, tmp_path):
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ") and all(word in done.stdout for word in TINY[name].split()[:1])


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_one_ends_well_and_writes_its_results(name, tmp_path):
    out = tmp_path / ("out.svg" if name == "picture" else "out")
    if name == "picture" and shutil.which("chromium") is None:
        pytest.skip("no Chromium, with which kaleido draws")
    done = run(name, *TINY[name].split(), *(["--out", str(out)] if name != "fuzz" else []))
    assert done.returncode == 0, done.stderr
    if name == "picture":
        assert out.read_text(encoding="utf-8").lstrip().startswith("<svg")
    elif name != "fuzz":
        assert json.loads(out.read_text())["results"]
