"""What strangers share is taken out of the scores, and nothing else; waves; chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gammatorch.analysis.comparable import (
    MASSIVE,
    beyond_smooth,
    comparable_scores,
    cosine_transform,
    cosines,
    inverse_transform,
    whitened,
)
from gammatorch.analysis.matching import Sides, adjusted
from gammatorch.analysis.scores import normal_scores


@pytest.mark.parametrize("count", [5, 64, 127])
def test_waves_are_those_of_the_definition_and_go_back(count):
    place, wave = torch.arange(count).double()[:, None], torch.arange(count).double()
    by_definition = torch.cos(torch.pi * (place + 0.5) * wave / count)
    torch.testing.assert_close(cosines(count), by_definition / by_definition.norm(dim=0))
    rows = torch.randn(3, count, dtype=torch.float64)
    torch.testing.assert_close(inverse_transform(cosine_transform(rows)), rows)


def test_whitened_rows_have_the_same_power_at_all_waves():
    waves = torch.randn(200, 64, dtype=torch.float64) / torch.arange(1, 65)
    power, before = whitened(waves).square().mean(dim=0), waves.square().mean(dim=0)
    assert float(power[4:].max() / power[4:].min()) < 2.5 and float(before[4] / before[-1]) > 50


def test_massive_channels_count_as_usual_ones():
    gains = torch.linspace(0.5, 1.5, 64, dtype=torch.float64)[None].clone()
    gains[0, 3], gains[0, 60] = MASSIVE + 0.5, MASSIVE - 0.5
    scores, plain = comparable_scores(gains)[0], normal_scores(gains)[0]
    assert float(scores[3]) == pytest.approx(0, abs=0.05) and float(plain[3]) > 2
    assert float(scores[60]) == pytest.approx(float(plain[60]), abs=0.05)


@pytest.mark.parametrize("width", [16, 18, 64, 80, 128, 256])
def test_what_is_smooth_over_rotary_frequency_is_taken_out_in_both_layouts(width):
    axes, half = beyond_smooth(width), cosines(width // 2)
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1], dtype=torch.float64))
    waves = min(4, width // 16)
    for wave, kept in ((waves - 1, False), (waves, True)):
        halves = torch.cat([half[:, wave], -2 * half[:, wave]])
        by_turns = torch.stack([half[:, wave], 3 * half[:, wave]], dim=1).flatten()
        for profile in (halves, by_turns):
            assert (float((profile @ axes).norm()) > 0.3) is kept


def test_a_profile_that_all_layers_share_is_taken_out():
    generator = torch.Generator().manual_seed(0)
    own, profile = torch.randn(12, 128, generator=generator).double(), torch.randn(128, generator=generator).double()
    one = comparable_scores(torch.exp(0.2 * own + 0.4 * profile), rotary=True)
    assert abs(float(torch.corrcoef(torch.stack([one.mean(0), profile]))[0, 1])) < 0.3


def test_a_profile_that_repeats_with_every_head_is_taken_out():
    generator = torch.Generator().manual_seed(0)
    profile = torch.randn(64, generator=generator).double().repeat(16)
    scores = comparable_scores(
        torch.exp(profile + 0.1 * torch.randn(1, 1024, generator=generator).double()), rotary=True
    )
    assert abs(float(scores[0] @ profile)) < 1e-9


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_strangers_stay_below_chance_19_times_of_20(shared):
    above, layers, rng = [], torch.arange(6), np.random.default_rng(0)
    for _ in range(600):
        rows = torch.from_numpy(rng.standard_normal((2, 6, 256)) + shared * rng.standard_normal((2, 1, 256)))
        rows = torch.nn.functional.normalize(rows - rows.mean(-1, keepdim=True), dim=-1)
        sides = Sides(tuple(cosine_transform(rows)[..., 1:]), tuple(rows))
        mean, error = sides.mean(layers, layers)
        above.append([mean > 1.645 * error, mean > 1.645 * sides.chance(layers, layers)])
    shares = np.mean(above, axis=0)
    assert 0.02 <= shares.min() <= shares.max() <= 0.07, shares


def test_chance_is_as_small_for_relatives_as_for_strangers():
    generator, layers = torch.Generator().manual_seed(0), torch.arange(8)
    rows = torch.nn.functional.normalize(torch.randn(3, 8, 2048, generator=generator).double(), dim=-1)
    waves = cosine_transform(rows)[..., 1:]
    own, others = (Sides((waves[0], waves[one]), (rows[0], rows[one])) for one in (0, 1))
    assert own.chance(layers, layers) < 0.03 and others.chance(layers, layers) < 0.03


def test_p_values_are_adjusted_as_benjamini_and_hochberg_do():
    p_values = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    for share in (0.05, 0.2):
        ordered = p_values.sort().values
        below = ordered <= share * torch.arange(1, 21) / 20
        largest = float(ordered[below][-1]) if bool(below.any()) else -1.0
        assert torch.equal(adjusted(p_values) <= share, p_values <= largest)
