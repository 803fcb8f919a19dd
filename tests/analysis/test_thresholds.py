"""The conventions a verdict rests on: a figure well below each gives one verdict, well above it another.

The numbers are written out, so that whoever moves a convention by half or twice is told.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import gammatorch
from gammatorch.analysis.change_points import Boundary, Transition
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.evidence import Evidence, evidence
from gammatorch.analysis.moments import moments
from gammatorch.analysis.shared import loadings
from gammatorch.analysis.verdict import answer, support
from gammatorch.bench.worlds import draw

SHARED: dict[str, Any] = {
    "closest": 0.9,
    "overall": 0.8,
    "mean": 0.8,
    "near": 0.8,
    "far": 0.8,
    "loss": 0.0,
    "turn": 0.0,
    "misfit": 0.0,
    "own_misfit": 0.0,
    "order": 0.0,
}
ORDERED = {"order": 6.0}
TURNING = {**ORDERED, "loss": 0.3, "turn": 0.3}


def found(**figures: float) -> Evidence:
    """What one shared direction gives, but for some figures; no channels move any."""
    constant = {name: np.full(33, value) for name, value in {**SHARED, **figures}.items()}
    rest = {"boundaries": [], "transitions": [], "outliers": [], "count": 24, "profile": np.zeros(23)}
    return Evidence(**constant, true_loss=0.0, **rest)


@pytest.mark.parametrize(
    ("figure", "below", "above", "beside", "verdicts"),
    [
        ("closest", 0.18, 0.35, {}, ("layer-specific", "shared-direction")),
        ("mean", 0.35, 0.7, {}, ("layer-specific", "shared-direction")),
        ("misfit", 0.057, 0.112, {}, ("shared-direction", "several-directions")),
        ("own_misfit", 0.057, 0.112, ORDERED, ("shared-direction", "drift")),
        ("loss", 0.028, 0.056, {**TURNING}, ("shared-direction", "drift")),
        ("turn", 0.0175, 0.035, {**TURNING}, ("shared-direction", "drift")),
        ("order", 1.6, 3.4, {**TURNING}, ("shared-direction", "drift")),
    ],
)
def test_each_convention_lies_where_it_is_said_to(figure, below, above, beside, verdicts):
    for value, verdict in zip((below, above), verdicts, strict=True):
        assert support(found(**{**beside, figure: value})).verdict == verdict


@pytest.mark.parametrize(
    ("jump", "verdict"), [(Boundary(12, 0.035, 0.0), "shared-direction"), (Boundary(12, 0.07, 0.0), "phases")]
)
def test_a_jump_counts_from_a_twentieth_on(jump, verdict):
    assert support(dataclasses.replace(found(**ORDERED), boundaries=[jump])).verdict == verdict


@pytest.mark.parametrize(("loss", "verdict"), [(0.056, "shared-direction"), (0.112, "phases")])
def test_a_turn_of_several_layers_counts_from_a_twelfth_on(loss, verdict):
    turn = Transition(10, 14, loss, 0.0)
    assert support(dataclasses.replace(found(**ORDERED), transitions=[turn])).verdict == verdict


def test_no_convention_has_a_hard_edge():
    """On the edge itself either verdict comes out about as often; a quarter of a standard score moves that of order."""
    shares = support(found(closest=0.25)).shares
    assert 0.4 < shares["layer-specific"] < 0.6
    beside = support(found(**{**TURNING, "order": 2.75})).shares["drift"]
    assert 0.75 < beside < 0.92  # one standard deviation above


@pytest.mark.parametrize(("pearson", "named"), [(0.73, False), (0.66, True)])
def test_pearson_is_named_where_it_differs_by_a_tenth(pearson, named):
    statistics = {
        "mean_pearson": {"value": pearson},
        "mean_rank_correlation": {"value": 0.8, "low": None, "high": None},
        "shared_energy": {"value": 0.9},
        "rank_correlation": object(),
        "period": {"period": None},
        "odd_layers": [],
        "depth_order": 0.0,
        "outliers": {"channels": [], "sizes": []},
    }
    told = answer(statistics, range(24), copies=False, found=support(found()))
    assert ("Pearson's mean correlation" in told.sentence) == named


def drifting(layers: int) -> torch.Tensor:
    return torch.from_numpy(draw("drift", 0, layers, 512))


def test_from_six_layers_on_their_order_can_be_told():
    told = [gammatorch.analyze(drifting(layers)).statistics["depth_order"] is not None for layers in (5, 6)]
    assert told == [False, True]


def test_from_twenty_layers_that_are_no_outliers_their_own_noise_can_be_taken_out():
    falls = [gammatorch.analyze(drifting(layers)).statistics["depth_contrast"] for layers in (19, 20)]
    assert [fall["disattenuated"] is not None for fall in falls] == [False, True]


def test_what_faint_layers_share_is_not_blown_up():
    """What is lost with depth is divided by the loadings of both layers, none of which counts as less than .15."""
    rng = np.random.default_rng(0)
    shares = np.where(np.arange(12) % 2, 0.1, 0.22)
    gains = shares[:, None] * rng.standard_normal(4096) + rng.standard_normal((12, 4096))
    correlations = Correlations(moments(torch.from_numpy(gains)).home()[0], tuple(range(12)))
    r, lag = correlations.filled, np.abs(np.subtract.outer(range(12), range(12)))
    scale = np.maximum(loadings(r), 0.15)
    assert (loadings(r) < 0.12).any() and (scale < 0.25).all()
    turned = r / np.outer(scale, scale)
    by_hand = turned[(lag > 0) & (lag <= 2)].mean() - turned[lag >= 6].mean()
    assert evidence(correlations).turn[0] == pytest.approx(by_hand, rel=1e-9)
