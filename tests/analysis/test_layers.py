"""Outlier layers, kinds that alternate, jumps: on layers whose correlations are exactly those that were chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gammatorch.analysis.change_points import boundaries
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.host import Array
from gammatorch.analysis.moments import moments
from gammatorch.analysis.outliers import massive_channels, outlier_rows


def correlated(wanted: Array, hidden: int = 16_384) -> Correlations:
    """Layers that correlate as wanted, to rounding."""
    drawn = np.random.default_rng(0).standard_normal((hidden, len(wanted)))
    independent, _ = np.linalg.qr(drawn - drawn.mean(axis=0))
    gains = np.linalg.cholesky(wanted) @ independent.T * np.sqrt(hidden)
    found = Correlations(moments(torch.from_numpy(gains)).home()[0], tuple(range(len(wanted))))
    np.testing.assert_allclose(found.filled, wanted, atol=1e-9)
    return found


def alike(layers: int, usual: float, apart: dict[int, float]) -> Array:
    """All layers correlate by the same, some by less with all others."""
    loads = np.array([apart.get(layer, np.sqrt(usual)) for layer in range(layers)])
    wanted = np.outer(loads, loads)
    np.fill_diagonal(wanted, 1)
    return wanted


@pytest.mark.parametrize(
    ("usual", "own", "is_outlier"),
    [(0.8, 0.5, True), (0.8, 0.7, False), (0.35, 0.1, True), (0.18, 0.05, False)],
)
def test_an_outlier_is_less_like_any_other_than_three_quarters_of_what_is_usual(usual, own, is_outlier):
    """And where even the usual is below a quarter, none is."""
    found = outlier_rows(correlated(alike(12, usual, {5: own / np.sqrt(usual)})))
    assert found.nonzero()[0].tolist() == ([5] if is_outlier else [])


@pytest.mark.parametrize(("apart", "found"), [((3, 9, 17), [3, 9, 17]), ((3, 9, 17, 21), [])])
def test_more_than_one_layer_in_eight_are_no_outliers(apart, found):
    assert outlier_rows(correlated(alike(24, 0.8, dict.fromkeys(apart, 0.0)))).nonzero()[0].tolist() == found


@pytest.mark.parametrize(("deviations", "channels"), [(7, []), (14, [100])])
def test_a_massive_channel_stands_ten_robust_deviations_out(deviations, channels):
    gains = torch.from_numpy(np.random.default_rng(0).normal(1, 0.1, (1, 6, 4096)))
    gains[:, :, 100] = 1 + 0.1 * deviations
    assert massive_channels(gains)[0]["channels"] == channels


@pytest.mark.parametrize(("contrast", "period"), [(0.035, None), (0.07, 2)])
def test_kinds_alternate_from_a_contrast_of_a_twentieth_on(contrast, period):
    lag = np.subtract.outer(range(24), range(24))
    wanted = np.where(lag % 2 == 0, 0.5 + contrast, 0.5)
    np.fill_diagonal(wanted, 1)
    assert correlated(wanted).period["period"] == period


@pytest.mark.parametrize("every", [2, 5, 8])
def test_kinds_up_to_eight_layers_apart_are_found(every):
    lag = np.subtract.outer(range(32), range(32))
    wanted = np.where(lag % every == 0, 0.8, 0.3)
    np.fill_diagonal(wanted, 1)
    assert correlated(wanted).period["period"] == every


@pytest.mark.parametrize(("beyond", "found"), [(0.08, []), (0.18, [12])])
def test_a_jump_is_larger_than_three_steps_beside_it(beyond, found):
    """Each layer loses .04 against the next, two in the middle more by what is said."""
    depth = 0.04 * np.arange(24) + beyond * (np.arange(24) >= 12)
    wanted = np.exp(-np.abs(np.subtract.outer(depth, depth)))
    assert [one.layer for one in boundaries(correlated(wanted)) or ()] == found


@pytest.mark.parametrize(("phases", "found"), [(12, 11), (14, 11)])
def test_at_most_twelve_phases_are_found(phases, found):
    place = np.repeat(np.arange(phases), 3)
    wanted = np.where(place[:, None] == place, 0.9, 0.1)
    np.fill_diagonal(wanted, 1)
    assert len(boundaries(correlated(wanted, 4096)) or ()) == found
