"""Bounds about the value: laws that hold for any figure, and how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gammatorch.analysis.intervals import SCALES, interval

RANGES = {"fisher": (-1.0, 1.0), "log": (0.0, 1e12), "logit": (0.0, 1.0), "plain": (-1e12, 1e12)}


@st.composite
def figures(draw, scale):
    values = st.one_of(st.floats(*RANGES[scale]), st.sampled_from(RANGES[scale]))
    return draw(values), draw(st.lists(values, min_size=8, max_size=32))


@pytest.mark.parametrize("scale", SCALES)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_figure_lies_within_its_bounds_and_they_within_its_range(scale, data):
    value, without = data.draw(figures(scale))
    found = interval(value, np.array(without), scale)
    assert SCALES[scale].least <= float(found.low) <= value <= float(found.high) <= SCALES[scale].most


@pytest.mark.parametrize(("scale", "end"), [("fisher", 1.0), ("fisher", -1.0), ("log", 0.0), ("logit", 1.0)])
def test_copies_have_bounds_without_width(scale, end):
    found = interval(end, np.full(32, end), scale)
    assert float(found.low) == float(found.high) == end


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_undefined_has_no_bounds_and_disturbs_no_other(scale):
    without = np.full((3, 32), 0.5)
    without[1, 4] = math.nan
    found = interval([0.5, 0.5, math.nan], without, scale)
    assert np.isnan(found.low).tolist() == np.isnan(found.high).tolist() == [False, True, True]
    assert np.isnan(interval(0.5, np.full(7, 0.5), scale).low)


def test_on_each_scale_the_bounds_are_the_jackknifes_of_the_transformed():
    without = np.random.default_rng(0).random(32)
    for scale, (there, back) in {"fisher": (math.atanh, math.tanh), "log": (math.log, math.exp)}.items():
        parts = [there(float(part)) for part in without]
        half = 2.0395 * math.sqrt(31 / 32 * sum((part - sum(parts) / 32) ** 2 for part in parts))
        found = interval(0.6, without, scale)
        assert float(found.low) == pytest.approx(back(there(0.6) - half), rel=1e-3)
        assert float(found.high) == pytest.approx(back(there(0.6) + half), rel=1e-3)


@pytest.mark.parametrize("truth", [0.0, 0.8, 0.98])
def test_bounds_of_a_correlation_cover_it(truth):
    generator = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 1000, 512, dtype=torch.float64, generator=generator)
    y = truth * x + math.sqrt(1 - truth**2) * noise
    kept = 1 - torch.eye(32, dtype=torch.float64).repeat_interleave(16, dim=1)
    parts = torch.stack([((x - x @ one[:, None] / 496) * (y - y @ one[:, None] / 496)) @ one for one in kept], dim=-1)
    for gains in (x, y):
        spread = torch.stack([(gains - gains @ one[:, None] / 496).square() @ one for one in kept], dim=-1)
        parts = parts / spread.sqrt()
    value = torch.stack([torch.corrcoef(pair)[0, 1] for pair in torch.stack([x, y], dim=1)])
    found = interval(value.numpy(), parts.numpy(), "fisher")
    assert 0.93 <= ((found.low <= truth) & (truth <= found.high)).mean() <= 0.97
