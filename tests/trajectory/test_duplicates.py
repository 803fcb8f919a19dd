"""Copies and mixtures are found by their bits, and told from what stands still or comes back by chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gammatorch.bench.training_runs import HONEST, NASTY, Kind, draw, measure
from gammatorch.trajectory.anomalies import find_anomalies
from tests.trajectory.conftest import anomalies, names

CLEAR = {
    name: kind
    for name, kind in HONEST.items()
    if not (kind.shiver or kind.settle or kind.returning or kind.directions)
    and not name.startswith(("slow", "hardly"))
    and name != "drift, log-spaced, bf16"
}
"""Runs whose checkpoints differ by more than noise and rounding, the first ones too."""


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(("place", "origin"), [(8, 25), (30, 14), (20, 21), (38, 3)])
def test_a_checkpoint_with_the_gains_of_another_step_is_found(name, place, origin):
    steps, stored = draw(CLEAR[name], seed=1, count=40)
    stored[place] = stored[origin]
    (found,) = anomalies(steps, stored)
    assert found.kind == "copy"
    assert names(steps, place) <= set(found.items) and f"step{steps[origin]}" in found.text


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(("place", "origin"), [(8, 25), (30, 14)])
def test_mixed_shards_are_found_with_their_layers(name, place, origin):
    steps, stored = draw(CLEAR[name], seed=4, count=40)
    mixed = stored[place].clone()
    mixed[2:5] = stored[origin][2:5]
    stored[place] = mixed
    (found,) = anomalies(steps, stored)
    assert found.kind == "mixed" and found.layers == (2, 3, 4)
    assert names(steps, place) == set(found.items) and f"step{steps[origin]}" in found.text


def creeping(changed, count=40, layers=12, hidden=64):
    """Gains in bfloat16 of which so many entries of each layer move by a spacing from each checkpoint to the next."""
    drawn = torch.Generator().manual_seed(0)
    moved = torch.rand(count, layers, hidden, generator=drawn).argsort(dim=-1) < changed
    return [*range(count)], [*(1 + moved.cumsum(dim=0) / 128).to(torch.bfloat16)]


def test_layers_that_move_little_each_are_found_to_be_mixed_by_all_together():
    """Twelve entries of a layer in all, of eight layers."""
    steps, stored = creeping(3)
    assert not anomalies(steps, stored)
    stored[20] = torch.cat([stored[20][:4], stored[24][4:]])
    (found,) = anomalies(steps, stored)
    assert found.kind == "mixed" and found.items == ("step20",) and found.layers == tuple(range(4, 12))


@pytest.mark.parametrize(("changed", "found"), [(20, []), (45, ["copy"])])
def test_32_entries_do_not_come_back_by_chance(changed, found):
    """So many move from a checkpoint to the next, and the one after it holds the gains of the first."""
    steps, stored = creeping(changed, count=8, layers=1, hidden=2048)
    stored[5] = stored[3]
    assert [one.kind for one in anomalies(steps, stored)] == found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_of_the_next_step_are_found_among_layers_that_move(dtype):
    steps, stored = draw(Kind(schedule="constant", dtype=dtype), seed=4, count=40)
    stored[20] = torch.cat([stored[20][:3], stored[21][3:]])
    (found,) = anomalies(steps, stored)
    assert found.kind == "mixed" and found.layers == (3, 4, 5) and found.items == ("step20000", "step21000")


@pytest.mark.parametrize(("times", "told"), [(3, 3), (5, 0), (16, 0)])
def test_layers_that_stand_still_at_a_tenth_of_the_steps_are_a_habit_and_no_anomaly(times, told):
    steps, stored = draw(Kind(schedule="constant"), seed=9, count=40 if times < 10 else 60)
    for place in range(5, 5 + 3 * times, 3):
        stored[place + 1][place % 6] = stored[place][place % 6]
    assert len(anomalies(steps, stored)) == told


def test_gains_that_never_move_are_a_note():
    steps, stored = draw(Kind(initial="drawn"), seed=9, count=10)
    (note,) = find_anomalies(measure(steps, [stored[0]] * 10))
    assert (note.kind, note.severity) == ("same gains", "note")


def test_most_branches_that_serve_the_final_model_are_one_finding():
    steps, stored = draw(HONEST["drift, bf16"], seed=5, count=154)
    wrong = sorted(np.random.default_rng(0).choice(np.arange(1, 153), 86, replace=False).tolist())
    files: list[str | None] = [f"sha{step}" for step in steps]
    for place in wrong:
        stored[place], files[place] = stored[153], files[153]
    (found,) = anomalies(steps, stored, files)
    assert set(found.items) == names(steps, *wrong)
    assert found.text.endswith("(86 in all) serve the file of step153000")


def test_of_two_with_the_same_gains_the_earlier_is_home_where_later_ones_are_nearer_as_noise_decays():
    steps, stored = draw(HONEST["shivering, decaying"], 0, 200, 8, 256)
    stored[196] = stored[137].clone()
    (found,) = anomalies(steps, stored)
    assert found.text == "step196000 holds the gains of step137000"


def test_where_noise_hides_which_of_two_is_at_home_both_are_named():
    steps, stored = draw(HONEST["plateau, nothing but noise"], 0)
    stored[40] = stored[20]
    (found,) = anomalies(steps, stored)
    assert found.items == ("step20000", "step40000") and found.text.endswith("hold the same gains, bit for bit")
    stored[40] = torch.cat([draw(HONEST["plateau, nothing but noise"], 0)[1][40][:2], stored[20][2:]])
    (found,) = anomalies(steps, stored)
    assert found.items == ("step20000", "step40000") and found.text.endswith("though they moved in between")


def test_home_is_told_though_what_stands_before_the_copy_is_an_outlier_beyond_it():
    steps, stored = draw(Kind(schedule="constant"), seed=4, count=60)
    true = list(stored)
    stored[19], stored[20], stored[40] = true[40], true[25], true[19]
    copied = [one.text for one in anomalies(steps, stored) if one.kind == "copy"]
    assert copied == ["step20000 holds the gains of step25000"]


def test_a_mixture_beside_outliers_is_placed():
    """What it holds is at home at step 30, though on both sides of there stands another's."""
    steps, stored = draw(Kind(schedule="constant"), seed=4, count=60)
    true = list(stored)
    stored[10] = torch.cat([true[10][:3], true[30][3:]])
    stored[29], stored[31] = true[55], true[58]
    (found,) = [one for one in anomalies(steps, stored) if one.kind == "mixed"]
    assert found.items == ("step10000",) and "of step30000" in found.text


LITTLE = NASTY["wandering little, in two directions, bf16"]


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_gains_that_go_back_and_forth_in_two_directions_come_back_by_chance(seed):
    assert not anomalies(*draw(LITTLE, seed, 120, 12, 256))


@pytest.mark.parametrize("seed", range(3))
def test_in_sixty_directions_nothing_comes_back_by_chance(seed):
    """A copy of a checkpoint near by is one, though no step to it is long."""
    kind = Kind(drift=0.0, wander=0.5, schedule="constant", directions=60, dtype=torch.bfloat16)
    steps, stored = draw(kind, seed, 60, 6, 128)
    stored[30] = stored[33]
    assert [one.kind for one in anomalies(steps, stored)] == ["copy"]


@pytest.mark.parametrize("origin", [14, 70])
def test_mixed_shards_are_found_in_runs_whose_layers_come_back_to_the_same_bits(origin):
    steps, stored = draw(NASTY["wandering in two directions, bf16"], 3, 80, 12, 256)
    stored[40] = torch.cat([stored[40][:5], stored[origin][5:]])
    (found,) = [one for one in anomalies(steps, stored) if one.kind == "mixed"]
    assert found.items == ("step40000",) and found.layers == tuple(range(5, 12))


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_checkpoints_are_looked_at_too(count, dtype):
    steps, stored = draw(Kind(schedule="constant", dtype=dtype), seed=4, count=max(count, 2))
    steps, stored = steps[:count], stored[:count]
    assert not anomalies(steps, stored)
    if count > 3:
        stored[1] = stored[-1]
        assert [one.kind for one in anomalies(steps, stored)] == ["copy"]
