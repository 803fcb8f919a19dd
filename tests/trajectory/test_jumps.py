"""Checkpoints far from both neighbours jump; along the run's own way that is a note."""

from __future__ import annotations

import pytest
import torch

from gammatorch.bench.training_runs import HONEST, NASTY, Kind, draw, measure
from gammatorch.trajectory.anomalies import find_anomalies
from tests.trajectory.conftest import anomalies


def jumps(steps, stored):
    return [(one.kind, one.severity, one.items, one.layers) for one in find_anomalies(measure(steps, stored))]


@pytest.mark.parametrize("count", [30, 41])
@pytest.mark.parametrize("name", [name for name in HONEST | NASTY if name.startswith("resumed")])
def test_a_lone_checkpoint_of_a_second_warm_up_is_a_note(name, count):
    found = jumps(*draw((HONEST | NASTY)[name], 2, count, 24, 256))
    assert [(kind, severity) for kind, severity, _, _ in found] == [("jump", "note")]


@pytest.mark.parametrize("count", [40, 400])
def test_a_checkpoint_of_another_run_jumps(count):
    """In a long run of few channels, too, whose steps lie in as many directions as there are."""
    shape = (count, 12, 256) if count == 40 else (count, 2, 40)
    kind = Kind(drift=0.5, wander=0.1, schedule="constant")
    steps, stored = draw(kind, 2, *shape)
    stored[30] = stored[30] + torch.randn(shape[1:], generator=torch.Generator().manual_seed(0))
    assert jumps(steps, stored) == [("jump", "anomaly", ("step30000",), ())]


def test_layers_of_another_run_are_named_and_one_alone_may_be_chance():
    steps, stored = draw(Kind(schedule="constant"), 2, 40, 12, 256)
    for place, layers in ((20, range(3)), (30, range(1))):
        stored[place][list(layers)] += 0.5 * torch.randn(len(layers), 256, generator=torch.Generator().manual_seed(0))
    assert jumps(steps, stored) == [("jump", "anomaly", ("step20000",), (0, 1, 2))]


@pytest.mark.parametrize(("own", "severity"), [(0.7, "anomaly"), (0.97, "note")])
def test_a_jump_is_the_runs_own_where_nine_tenths_of_it_go_its_way(own, severity):
    """Of its square, along a straight way."""
    drawn = torch.Generator().manual_seed(0)
    way, off = torch.randn(2, 4, 256, generator=drawn)
    stored = list(1 + torch.arange(30)[:, None, None] * way / 100)
    stored[15] = stored[15] + 0.2 * (own**0.5 * way + (1 - own) ** 0.5 * off)
    assert jumps(list(range(30)), stored) == [("jump", severity, ("step15",), ())]


def test_a_checkpoint_from_a_step_that_is_not_there_is_a_note():
    steps, stored = draw(Kind(schedule="constant"), seed=6, count=61)
    stored[20] = stored.pop(45)
    del steps[45]
    assert not anomalies(steps, stored)
    assert [one[:3] for one in jumps(steps, stored)] == [("jump", "note", ("step20000",))]
