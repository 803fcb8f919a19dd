"""No honest run is accused, and several faults in one run do not hide each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gammatorch.bench.training_runs import HONEST, NASTY, Kind, draw
from gammatorch.trajectory.anomalies import Print, find_same
from tests.trajectory.conftest import accused, anomalies, names


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("seed", range(2))
def test_two_hundred_honest_checkpoints_are_not_accused(name, seed):
    assert not anomalies(*draw(HONEST[name], seed, count=200))


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("seed", range(3))
def test_short_runs_of_few_layers_are_not_accused(name, seed):
    assert not anomalies(*draw(HONEST[name], seed, count=14, layers=3, hidden=64))


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize(("seed", "shape"), [(0, (80, 6, 128)), (1, (80, 6, 128)), (3, (14, 3, 64)), (5, (14, 3, 64))])
def test_spikes_pauses_and_missing_checkpoints_are_no_anomalies(name, seed, shape):
    assert not anomalies(*draw(NASTY[name], seed, *shape))


def plant_several(stored, seed, times):
    """Copies, exchanges and mixed halves, so many of each, before the rate has decayed; the positions of each by kind."""
    places = iter(np.random.default_rng(seed).permutation(np.arange(2, 160)).tolist())
    true, half, planted = list(stored), len(stored[0]) // 2, []
    for _ in range(times):
        one, other = next(places), next(places)
        stored[one] = true[other].clone()
        planted.append(("copy", {one}))
        one, other = next(places), next(places)
        stored[one], stored[other] = true[other], true[one]
        planted.append(("swapped", {one, other}))
        one, other = next(places), next(places)
        stored[one] = torch.cat([true[one][:half], true[other][half:]])
        planted.append(("mixed", {one}))
    return planted


@pytest.mark.parametrize("name", ["drift", "drift, bf16", "wandering", "wandering, restarts", "wandering, bursts"])
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_copies_exchanges_and_mixtures_in_one_run_do_not_hide_each_other(name, seed):
    steps, stored = draw(HONEST[name], seed, 200, 8, 256)
    planted = plant_several(stored, seed, 3)
    found = [(one.kind, set(one.items)) for one in anomalies(steps, stored)]
    for kind, places in planted:
        assert any(kind == told and names(steps, *places) <= items for told, items in found), (kind, places)
    everything = set().union(*(places for _, places in planted))
    assert set().union(*(items for _, items in found)) == names(steps, *everything)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(2))
def test_faults_in_a_run_along_a_straight_line_do_not_hide_each_other(dtype, seed):
    rng = np.random.default_rng(seed)
    first, last = np.exp(0.1 * rng.standard_normal((2, 8, 256)))
    share = np.linspace(0, 1, 200)[:, None, None]
    stored = [gains.to(dtype) for gains in torch.from_numpy(first * (1 - share) + last * share)]
    steps = list(range(200))
    assert not anomalies(steps, stored)
    planted = plant_several(stored, seed, 3)
    assert accused(steps, stored) == names(steps, *set().union(*(places for _, places in planted)))


def test_a_layer_that_dies_is_found_and_one_that_begins_with_zero_is_not():
    steps, stored = draw(Kind(), seed=8, count=20)
    stored[0][1] = 0
    assert not anomalies(steps, stored)
    for gains in stored[12:]:
        gains[3] = 0
    (found,) = [one for one in anomalies(steps, stored) if one.kind == "dead"]
    assert found.layers == (3,) and found.items == tuple(f"step{step}" for step in steps[12:])


def test_constant_gains_tell_nothing_of_where_they_come_from():
    one, other = (Print(name, name, "9f", None, constant=True) for name in ("base", "tuned"))
    assert not find_same([one, other])
