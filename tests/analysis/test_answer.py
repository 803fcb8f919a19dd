"""The answer in worlds of which one verdict is right, with what real checkpoints have beside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch.analysis.depth import correlation_length, disattenuated, order_weights
from gammatorch.analysis.shared import loadings
from gammatorch.analysis.verdict import SURE, VERDICTS, Support, answer
from gammatorch.bench.worlds import WORLDS, draw, fits

DRESSES = (None, "tails, ends, bfloat16", "tails, ends, bfloat16, massive channels")
FIGURES = ("shared_energy", "mean_pearson", "mean_rank_correlation", "effective_dimension", "depth_contrast", "misfit")


def drawn(world, seed, layers, hidden, dress=None):
    return torch.from_numpy(draw(world, seed, layers, hidden, dress))


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_gets_its_verdict_in_every_dress(world):
    for dress in DRESSES:
        found = gammatorch.analyze(drawn(world, 7, 64, 2048, dress), method="gram").answer
        assert found.verdict == WORLDS[world].verdict, (dress, found)
        assert found.support >= SURE


def test_with_fewer_layers_most_are_right_and_what_is_sure_is_right():
    sure, right = [], []
    for world in WORLDS:
        if fits(world, 24):
            found = gammatorch.analyze(drawn(world, 3, 24, 1024, DRESSES[2]), method="gram").answer
            right.append(found.verdict == WORLDS[world].verdict)
            if found.verdict != "undecided":
                sure.append(right[-1])
    assert np.mean(right) >= 0.9 and np.mean(sure) >= 0.95


def rotated(angles, seed, hidden=2048, own=0.3):
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal((2, 1, hidden))
    turned = np.cos(angles)[:, None] * one + np.sin(angles)[:, None] * other
    return torch.from_numpy(np.exp(0.2 * (turned + own * rng.standard_normal((len(angles), hidden)))))


@pytest.mark.parametrize("width", [3, 5, 8])
def test_a_soft_boundary_is_found_with_its_width(width):
    for seed in range(3):
        done = np.clip((np.arange(48) - 24) / width + 0.5, 0, 1)
        found = gammatorch.analyze(rotated(done * np.pi / 3, seed), method="gram")
        (turn,) = found.statistics["transitions"]
        assert found.answer.verdict == "phases" and found.statistics["change_points"] == []
        assert abs(turn["first"] - (24 - width / 2)) <= 2 and abs(turn["last"] - (24 + width / 2)) <= 2
        assert turn["loss"] == pytest.approx(0.5, abs=0.1)  # 1 − cos 60°
        assert f"turns from layer {turn['first']} to {turn['last']}" in found.answer.sentence
        assert [phase.last for phase in found.phases][:1] == [turn["first"]]
        assert [phase.first for phase in found.phases][1:] == [turn["last"]]


COURSES = {
    "steady turn": lambda depth, rng: depth * np.pi / 2,
    "turn that ends": lambda depth, rng: np.pi / 2 * (1 - np.exp(-depth * rng.uniform(3, 8))),
    "turn that begins late": lambda depth, rng: np.pi / 2 * depth**3,
    "swing": lambda depth, rng: np.pi / 3 * np.sin(2 * np.pi * (depth * rng.uniform(0.5, 1.5) + rng.uniform())),
}


@pytest.mark.parametrize("course", COURSES)
def test_courses_without_a_boundary_have_none(course):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = gammatorch.analyze(rotated(COURSES[course](np.linspace(0, 1, 64), rng), seed, 1024), method="gram")
        assert found.statistics["change_points"] == found.statistics["transitions"] == []


@pytest.mark.parametrize("length", [0.05, 0.2])
def test_walks_and_decays_have_no_boundary(length):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((64, 1024))
        kept = math.exp(-1 / (64 * length))
        for layer in range(1, 64):
            x[layer] = kept * x[layer - 1] + math.sqrt(1 - kept**2) * x[layer]
        found = gammatorch.analyze(torch.from_numpy(np.exp(0.3 * x)), method="gram")
        assert found.statistics["change_points"] == found.statistics["transitions"] == []
        assert found.answer.verdict == "drift"
        assert found.statistics["correlation_length"] == pytest.approx(64 * length, rel=0.4)


@pytest.mark.parametrize("ends", [(0.2, 1.1), (1.1, 0.2)])
def test_noise_that_differs_over_depth_is_no_drift(ends):
    rng = np.random.default_rng(0)
    noise = np.linspace(*ends, 48)[:, None] * rng.standard_normal((48, 2048))
    found = gammatorch.analyze(torch.from_numpy(np.exp(0.2 * (rng.standard_normal(2048) + noise))), method="gram")
    fall = found.statistics["depth_contrast"]
    assert found.answer.verdict == "shared-direction"
    assert fall["value"] > 0.015 and abs(fall["disattenuated"]) < 0.01


def test_the_number_of_shared_directions_is_that_which_was_planted():
    for count in (1, 2, 3, 5):
        rng = np.random.default_rng(count)
        weights = rng.standard_normal((48, count))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        x = weights @ rng.standard_normal((count, 4096)) + 0.4 * rng.standard_normal((48, 4096))
        found = gammatorch.analyze(torch.from_numpy(np.exp(0.2 * x)), method="gram")
        assert found.statistics["shared_directions"] == count


def test_between_two_verdicts_both_are_named_with_their_support():
    """A mean correlation of one half is the convention itself."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(2048) + rng.standard_normal((32, 2048))
    found = gammatorch.analyze(torch.from_numpy(np.exp(0.1 * x)), method="gram").answer
    assert found.verdict == "undecided" and set(found.between) == {"shared-direction", "layer-specific"}
    assert found.support < SURE and "a shared direction" in found.sentence and "layer's own" in found.sentence


def test_every_verdict_has_a_sentence_and_its_share():
    found = gammatorch.analyze(drawn("drift", 0, 24, 512))
    for verdict in VERDICTS:
        said = answer(found.statistics, found.layers, copies=False, found=Support({verdict: 1.0}))
        assert said.verdict == verdict and said.support == 1.0 and said.sentence.endswith(".")


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 14),
    st.sampled_from([1, 3, 9, 32, 40, 97]),
    st.sampled_from(["normal", "cauchy", "ties", "massive", "copies", "two values"]),
    st.integers(0, 10_000),
)
def test_every_figure_lies_within_its_own_bounds(layers, hidden, kind, seed):
    rng = np.random.default_rng(seed)
    gains = {
        "normal": lambda: rng.standard_normal((layers, hidden)),
        "cauchy": lambda: rng.standard_cauchy((layers, hidden)),
        "ties": lambda: rng.integers(0, 3, (layers, hidden)).astype(float),
        "massive": lambda: 1 + 0.1 * rng.standard_normal((layers, hidden)) * (1 + 500 * (np.arange(hidden) % 31 == 0)),
        "copies": lambda: rng.standard_normal((1, hidden)) + 1e-7 * rng.standard_normal((layers, hidden)),
        "two values": lambda: rng.choice([-1.0, 1.0], (layers, hidden)),
    }[kind]()
    found = gammatorch.analyze(torch.from_numpy(gains))
    figures = [found.statistics[name] for name in FIGURES] + found.statistics["phase_contrasts"]
    for figure in [*figures, found.statistics["period"]]:
        if figure["low"] is not None:
            assert figure["low"] <= figure["value"] <= figure["high"], figure
    found.to_dict()


def test_loadings_are_those_of_the_factor_that_was_planted():
    rng = np.random.default_rng(0)
    planted = rng.uniform(0.2, 0.95, 20)
    correlation = np.outer(planted, planted)
    np.fill_diagonal(correlation, 1)
    np.testing.assert_allclose(loadings(correlation), planted, rtol=0, atol=1e-4)


def test_the_score_of_order_is_that_of_all_orders():
    """Mean and deviation over every permutation of five layers, one by one."""
    from itertools import permutations

    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 5))
    correlation, near = x + x.T, np.abs(np.subtract.outer(range(5), range(5))) == 1
    sums = [correlation[np.ix_(order, order)][near].sum() for order in permutations(range(5))]
    expected = (correlation[near].sum() - np.mean(sums)) / np.std(sums)
    found = order_weights(correlation, near.astype(float))
    assert (found * correlation).sum() == pytest.approx(expected, rel=1e-9)


def test_disattenuation_takes_the_noise_out_of_a_walk_and_leaves_the_walk():
    steps = np.arange(40.0)
    true = np.exp(-np.abs(steps[:, None] - steps) / 30)
    kept = np.sqrt(np.linspace(0.6, 1, 40))
    observed = true * np.outer(kept, kept)
    np.fill_diagonal(observed, 1)
    inner = ~np.eye(38, dtype=bool)
    np.testing.assert_allclose(disattenuated(observed)[1:-1, 1:-1][inner], true[1:-1, 1:-1][inner], rtol=1e-9)


def test_a_correlation_length_is_that_of_the_decay():
    for length in (1.0, 4.0, 12.0):
        profile = 0.1 + 0.8 * np.exp(-np.arange(1, 64) / length)
        assert correlation_length(profile) == pytest.approx(length, rel=0.03)
    assert correlation_length(1 - np.arange(1, 64) / 100) is None


def test_neighbouring_channels_that_are_alike_widen_what_chance_gives():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, 4096 + 63))
    alike = np.stack([np.convolve(row, np.ones(64) / 8, "valid") for row in noise])
    found = [gammatorch.analyze(torch.from_numpy(np.exp(0.2 * x))) for x in (noise[:, :4096], alike)]
    apart, together = (one.statistics["mean_rank_correlation"]["null_95"] for one in found)
    assert 4 < together / apart < 12  # 64 alike are worth one, 8 times the deviation


def test_gains_too_wide_to_be_put_in_order_are_told_by_pearson_and_say_so():
    rng = np.random.default_rng(0)
    gains = 1 + 0.1 * (rng.standard_normal(70_000) + 0.5 * rng.standard_normal((8, 70_000)))
    found = gammatorch.analyze(torch.from_numpy(gains))
    assert found.answer.verdict == "shared-direction" and "mean correlation" in found.answer.sentence
    assert found.statistics["rank_correlation"] is None and found.statistics["outliers"]["channels"] is None
    assert any("have no ranks" in note for note in found.notes)
    json = found.to_dict()["statistics"]
    assert json["mean_rank_correlation"]["value"] == pytest.approx(json["mean_pearson"]["value"], rel=1e-6)
