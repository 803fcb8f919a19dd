"""Outlier channels of gains in column blocks: those of gains in memory, or none named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import gammatorch
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.gram import moments
from gammatorch.analysis.outlier_scan import OutlierScan
from gammatorch.analysis.outliers import sampled_channels, without_outliers
from gammatorch.bench.worlds import draw
from gammatorch.gains import wide


def scanned(gamma, widths, dtype=torch.float64):
    scan = OutlierScan(*gamma.shape)
    for block in gamma.to(dtype).split(widths, dim=1):
        scan.add(block)
    return scan.finish(correlations(gamma))


def correlations(gamma):
    return Correlations(moments(gamma), tuple(range(len(gamma))))


def planted(seed, layers=12, hidden=3000, tails=False):
    """Gains with a few channels that stand out, in all layers, in just over or just under half of them, or in one."""
    rng = np.random.default_rng(seed)
    gamma = rng.standard_t(2, (layers, hidden)) if tails else 1 + 0.1 * rng.standard_normal((layers, hidden))
    for share in (1, 0.75, 0.5, 0.4, 1 / layers):
        rows = rng.permutation(layers)[: round(share * layers)]
        gamma[np.ix_(rows, rng.permutation(hidden)[:3])] += 50 * rng.choice([-1, 1])
    return torch.from_numpy(gamma).bfloat16().double()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.lists(st.integers(1, 900), min_size=1, max_size=9), st.booleans(), st.booleans())
def test_blocks_of_any_width_name_the_channels_of_the_whole(seed, widths, tails, narrow):
    gamma = planted(seed, tails=tails)
    widths = [max(widths[0], 64), *widths[1:]]  # fewer channels guess no range
    left = gamma.shape[1] - sum(widths)
    while left < 0:
        left += widths.pop()
    found = scanned(gamma, [*widths, left] if left else widths, torch.bfloat16 if narrow else torch.float64)
    whole = without_outliers(gamma[None], correlations(gamma))
    if found is None:
        assert tails or widths[0] < 256  # from so few channels the guess may be too wide
        return
    assert found.channels == whole.channels
    if whole.rest is not None:
        torch.testing.assert_close(found.rest.filled, whole.rest.filled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tails", [False, True])
def test_blocks_of_the_usual_width_always_tell(tails):
    for seed in range(20):
        gamma = planted(seed, tails=tails)
        assert scanned(gamma, 1000).channels == without_outliers(gamma[None], correlations(gamma)).channels


def test_gains_of_which_most_are_equal_have_outliers_too():
    gamma = torch.ones(8, 4000, dtype=torch.float64)
    gamma[:, ::3] += 0.01 * torch.randn(8, 1334, generator=torch.Generator().manual_seed(0))
    gamma[:, [70, 3003]] = 30
    whole = without_outliers(gamma[None], correlations(gamma))
    assert whole.channels == [[70, 3003]] and scanned(gamma, 1500).channels == whole.channels


@pytest.mark.parametrize("constant", [1, 4, 8])
def test_constant_layers_have_no_say(constant):
    gamma = planted(0, layers=8)
    gamma[:constant] = 2
    found, whole = scanned(gamma, 700), without_outliers(gamma[None], correlations(gamma))
    assert found is None or found.channels == whole.channels
    assert found is not None or constant == 4


def test_a_first_block_that_misleads_leaves_the_outliers_unknown():
    gamma = planted(0)
    gamma[:, :500] *= 100
    assert scanned(gamma, 500) is None


def test_more_suspects_than_can_be_kept_leave_them_unknown():
    gamma = torch.randn(4, 20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gamma[:, 2000:] *= 50
    assert scanned(gamma, 2000) is None


def test_the_sample_is_small_however_wide_the_gains_are():
    for hidden in (100, 5120, 65_537, 10**12):
        channels = sampled_channels(hidden)
        assert len(channels) == min(hidden, 256) and bool((channels.diff() >= 0).all())
        assert int(channels[0]) >= 0 and int(channels[-1]) < hidden


def test_matrices_that_are_streamed_say_the_same_of_outliers_as_in_memory(tmp_path, monkeypatch, device):
    monkeypatch.setattr(wide, "BUFFER_BYTES", 1)
    pattern = "model.layers.{layer}.self_attn.q_proj.weight"
    gamma = torch.from_numpy(draw("layer-specific", 0, 12, 10_000, "outlier channels")).float()
    rows = {pattern.replace("{layer}", str(n)): row.reshape(100, 100).clone() for n, row in enumerate(gamma)}
    save_file(rows, tmp_path / "model.safetensors")
    streamed = gammatorch.analyze(gammatorch.scan_gains(tmp_path, pattern=pattern, device=device)).to_dict()
    held = gammatorch.analyze(gammatorch.read_gains(tmp_path, pattern=pattern, device=device), method="gram").to_dict()
    ours, theirs = (one["statistics"]["outliers"] for one in (streamed, held))
    assert ours["channels"] == theirs["channels"] and len(theirs["channels"]) == 6
    assert ours["mean_pearson"] == pytest.approx(theirs["mean_pearson"], abs=1e-12)
    assert ours["verdict"] == theirs["verdict"] == "layer-specific"
    assert streamed["answer"] == held["answer"] and "6 outlier channels carry" in held["answer"]["sentence"]
