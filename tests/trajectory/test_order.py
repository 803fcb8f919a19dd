"""Two checkpoints in each other's place are told, and where the order does not show, nothing is."""

from __future__ import annotations

import pytest
import torch

from gammatorch.bench.training_runs import HONEST, NASTY, Kind, draw
from gammatorch.trajectory.order import find_exchanged
from tests.trajectory.conftest import accused, anomalies, names
from tests.trajectory.test_duplicates import CLEAR


def swapped(name, pair, seed=2, shape=(40, 12, 512)):
    steps, stored = draw((HONEST | NASTY)[name], seed, *shape)
    one, other = pair
    stored[one], stored[other] = stored[other], stored[one]
    return steps, stored


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize("pair", [(8, 25), (20, 24), (3, 33), (12, 13)])
def test_exchanged_checkpoints_are_found(name, pair):
    steps, stored = swapped(name, pair)
    (found,) = anomalies(steps, stored)
    assert found.kind == "swapped" and set(found.items) == names(steps, *pair)


@pytest.mark.parametrize("places", [(20, 21, 22), (13, 30, 47)])
def test_three_in_each_others_places_are_told_together(places):
    one, other, third = places
    steps, stored = draw(HONEST["wandering"], 0)
    stored[one], stored[other], stored[third] = stored[other], stored[third], stored[one]
    (found,) = anomalies(steps, stored)
    assert found.kind == "swapped" and set(found.items) == names(steps, *places)


SHIVERING = [name for name, kind in HONEST.items() if kind.shiver and kind.drift >= 0.2 and kind.schedule != "annealed"]


@pytest.mark.parametrize("name", SHIVERING)
def test_exchanged_checkpoints_are_found_under_noise_larger_than_a_step(name):
    steps, stored = swapped(name, (10, 26))
    assert accused(steps, stored) == names(steps, 10, 26)


def noisy(noise, seed, pair=(20, 40)):
    """A straight way with steps of length 2, and noise of so much in each of 256 channels."""
    drawn = torch.Generator().manual_seed(seed)
    way, shaken = torch.randn(4, 64, generator=drawn) / 8, torch.randn(60, 4, 64, generator=drawn)
    path = torch.arange(60)[:, None, None] * way + noise * shaken
    path[list(pair)] = path[list(pair[::-1])]
    return path


@pytest.mark.parametrize("seed", range(6))
def test_sixteen_on_each_side_tell_where_noise_is_24_times_a_step(seed):
    assert find_exchanged(noisy(3.0, seed)) == [(20, 40)]


@pytest.mark.parametrize("seed", range(6))
def test_what_may_be_chance_is_not_told(seed):
    """It lies four standard errors off: one in 30,000, and there are 1,770 pairs."""
    assert not find_exchanged(noisy(5.0, seed))


@pytest.mark.parametrize("name", [name for name, kind in HONEST.items() if not (kind.drift or kind.wander)])
def test_the_order_of_nothing_but_noise_cannot_be_told(name):
    assert not anomalies(*swapped(name, (10, 26)))


@pytest.mark.parametrize(("layers", "found"), [(4, []), (5, []), (6, [(10, 30)])])
def test_most_layers_must_be_exchanged(layers, found):
    """Of eight."""
    way = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
    path = torch.arange(40)[:, None, None] * way
    true = path.clone()
    path[10, :layers], path[30, :layers] = true[30, :layers], true[10, :layers]
    assert find_exchanged(path) == found


@pytest.mark.parametrize(("beyond", "found"), [(0.07, []), (0.15, [(20, 21)])])
def test_both_must_lie_on_the_wrong_side_of_the_middle(beyond, found):
    """One that is before it by more than the other is beyond it may be wrong alone."""
    at = torch.arange(-20.5, 20)
    at[20:22] = torch.tensor([beyond, beyond - 1])
    at[:20] += 0.5
    at[22:] -= 0.5
    way = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    assert find_exchanged(at[:, None, None] * way) == found


def test_exchanged_checkpoints_are_found_where_steps_go_back_and_forth_in_ten_directions():
    steps, stored = swapped("wandering in ten directions, bf16", (20, 41), 0, (100, 12, 256))
    assert accused(steps, stored) == names(steps, 20, 41)


@pytest.mark.parametrize("seed", range(3))
def test_in_two_directions_checkpoints_lie_in_each_others_place_by_chance(seed):
    assert not anomalies(*draw(NASTY["wandering little, in two directions, bf16"], seed, 60, 6, 128))


def test_a_learning_rate_that_is_low_twice_is_no_exchange():
    """Gains follow the rate, so that the lone checkpoint of a second warm-up lies where those of the first should."""
    name = "resumed with a short warm-up, slow drift, settling"
    assert not anomalies(*draw(NASTY[name], 0, 60, 6, 128))


def test_spikes_that_are_forgotten_step_by_step_are_no_exchange():
    drawn = torch.Generator().manual_seed(0)
    path = torch.randn(40, 4, 64, generator=drawn).cumsum(dim=0)
    for place, left in zip(range(20, 28), 0.6 ** torch.arange(8), strict=True):
        path[place] += 40 * left * torch.ones(4, 64)
    assert not find_exchanged(path)


@pytest.mark.parametrize("schedule", ["decay", "constant"])
def test_a_checkpoint_of_another_run_is_exchanged_with_none(schedule):
    steps, stored = draw(Kind(schedule=schedule), 2, 40, 12, 256)
    stored[30] = draw(Kind(schedule=schedule), 3, 40, 12, 256)[1][30]
    (found,) = anomalies(steps, stored)
    assert found.kind == "jump" and found.items == ("step30000",)
