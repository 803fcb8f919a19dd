"""What is kept of each checkpoint, and that it says what the gains themselves say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gammatorch.bench.training_runs import Kind, draw, measure
from gammatorch.trajectory.measure import Snapshot, trace


def test_figures_are_those_of_numpy():
    steps, stored = draw(Kind(drift=0.5, wander=0.5, dtype=torch.bfloat16), seed=10, count=8)
    run = measure(steps, stored)
    gains = [one.double().numpy() for one in stored]
    assert run.drift[0].isnan() and run.pearson_previous[:2].isnan().all(), "step 0 is constant"
    for place in range(2, 8):
        one, before = gains[place], gains[place - 1]
        pearson = [np.corrcoef(x, y)[0, 1] for x, y in zip(one, before, strict=True)]
        moved = np.linalg.norm(one - before, axis=1) / np.linalg.norm(before, axis=1)
        assert float(run.pearson_previous[place]) == pytest.approx(np.mean(pearson), abs=1e-12)
        assert float(run.drift[place]) == pytest.approx(moved.mean(), rel=1e-12)
        np.testing.assert_allclose(run.spread[place], (one - before).std(axis=1))
        np.testing.assert_allclose(run.shift[place], (one - before).mean(axis=1), atol=1e-12)


def test_distances_survive_the_projection():
    steps, stored = draw(Kind(drift=0.5, wander=0.5), seed=11, count=6, layers=24, hidden=1000)
    run = measure(steps, stored)
    gains = torch.stack(stored).double().flatten(1)
    near = torch.cdist(run.points.double().flatten(1), run.points.double().flatten(1))
    torch.testing.assert_close(near, torch.cdist(gains, gains), rtol=0.06, atol=1e-6)


@pytest.mark.parametrize(("layers", "hidden", "dims"), [(4, 5000, 4096), (400, 80, 64), (4, 100, 100)])
def test_a_checkpoint_takes_64_kilobytes_and_a_row_64_numbers_at_least(layers, hidden, dims):
    gains = torch.rand(layers, hidden)
    run = trace([Snapshot("a", 0, gains)], Snapshot("a", 0, gains), tuple(range(layers)))
    assert run.points.shape == (1, layers, dims)


def test_one_step_alone_is_measured_too():
    one = Snapshot("step0", 0, torch.randn(2, 64), digest="0")
    run = trace([one], one, (0, 1))
    assert len(run) == 1 and run.drift.isnan().all()
