"""Result files, made once, and a copy for each test."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
import torch

import gammatorch
from gammatorch.analysis.lineage import compare
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.bench.worlds import draw
from gammatorch.results.comparison import ComparisonDocument, comparison_document
from gammatorch.results.files import to_json
from gammatorch.results.run import RunDocument, run_document
from gammatorch.results.sweep import CurvesDocument


def as_run(document: dict[str, Any]) -> RunDocument:
    return msgspec.convert(document, RunDocument)


def as_comparison(document: dict[str, Any]) -> ComparisonDocument:
    return msgspec.convert(document, ComparisonDocument)


def as_sweep(document: dict[str, Any]) -> CurvesDocument:
    return msgspec.convert(document, CurvesDocument)


def analysed_as(layers: int, hidden: int) -> dict[str, Any]:
    """A result with phases and one odd layer, as it comes back from its file."""
    gains = torch.from_numpy(draw("phases", 0, layers, hidden))
    gains[0] = torch.exp(0.3 * torch.randn(hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    return json.loads(to_json(run_document(gammatorch.analyze(gains))))


@pytest.fixture(scope="session")
def analysed() -> dict[str, Any]:
    return analysed_as(24, 512)


@pytest.fixture
def document(analysed) -> dict[str, Any]:
    return copy.deepcopy(analysed)


@pytest.fixture(scope="session")
def compared(tmp_path_factory) -> dict[str, Any]:
    """A checkpoint beside its copy and a stranger, as they come back from a file."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "copy", "stranger")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        write_checkpoint(folder, layers=4, hidden=64, shards=1, seed=seed)
    return json.loads(to_json(comparison_document(compare([gammatorch.read_gains(folder) for folder in folders]))))


@pytest.fixture
def comparison(compared) -> dict[str, Any]:
    return copy.deepcopy(compared)


@pytest.fixture
def copies(comparison) -> dict[str, Any]:
    """The checkpoint beside its copy alone."""
    for name in ("models", "revisions", "stored_dtypes", "offsets"):
        del comparison[name][2]
    comparison["pairs"] = comparison["pairs"][:1]
    comparison["families"] = [comparison["models"]]
    for name in ("widths", "layer_counts"):
        del comparison[name][2]
    return comparison


@pytest.fixture
def told() -> dict[str, Any]:
    """A sweep of two runs that are alike, with one anomaly, and three items without a step."""
    return sweep_told("run")


def sweep_told(name: str) -> dict[str, Any]:
    """What is told of a sweep in which every text is the name."""
    figures = {name: [1.0, 0.5, 0.25] for name in ("rms_gamma", "shared_energy", "effective_dimension")}
    figures |= {name: [None, 0.5, 0.25] for name in ("pearson_previous", "pearson_last", "drift")}
    items = [f"{name}{step}" for step in range(3)]
    curve = {
        **{"run": name, "settings": name, "site": name, "layers": [0, 1], "hidden": 8, "steps": [0, 1, 2]},
        **{"item": items, "rms_by_layer": [[1.0, 2.0]] * 3, **figures},
    }
    finding = {"kind": name, "severity": "anomaly", "items": [items[1]], "text": name, "layers": []}
    return {
        "out": name,
        "curves": [curve, copy.deepcopy(curve)],
        "unordered": {"item": items, **figures},
        "anomalies": [finding],
        "notes": [finding],
        "failures": [{"key": name, "name": name, "kind": name, "message": name}],
    }
