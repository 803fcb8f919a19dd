"""What is told of drawn runs."""

from __future__ import annotations

import pytest

from gammatorch.bench.training_runs import measure
from gammatorch.gains.device import one_thread
from gammatorch.trajectory.anomalies import find_anomalies


@pytest.fixture(autouse=True, scope="module")
def as_in_a_sweep():
    """With one thread."""
    with one_thread():
        yield


def anomalies(steps, stored, files=None):
    return [found for found in find_anomalies(measure(steps, stored, files)) if found.severity == "anomaly"]


def accused(steps, stored):
    return {item for found in anomalies(steps, stored) for item in found.items}


def names(steps, *places):
    return {f"step{steps[place]}" for place in places}
