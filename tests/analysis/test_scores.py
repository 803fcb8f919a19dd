"""Normal scores: the ranks of each layer's gains as quantiles of a normal law."""

from __future__ import annotations

import bisect
import math
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gammatorch.analysis.scores import normal_scores, rank_layers, score_step


def one_by_one(row: list[float]) -> list[float]:
    """The definition, gain by gain, by counting which are lower and which are equal."""
    ordered = sorted(row)
    ranks = [1 + (bisect.bisect_left(ordered, gain) + bisect.bisect_right(ordered, gain) - 1) / 2 for gain in row]
    return [NormalDist().inv_cdf(rank / (len(row) + 1)) for rank in ranks]


@given(st.lists(st.floats(-1024, 1024, width=32), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_scores_are_the_quantiles_of_mean_ranks(row: list[float]) -> None:
    scores = normal_scores(torch.tensor([row], dtype=torch.float64))[0].tolist()
    assert all(math.isclose(a, b, abs_tol=score_step(len(row))) for a, b in zip(scores, one_by_one(row), strict=True))


@given(st.integers(0, 2**31), st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
@settings(deadline=None, max_examples=20)
def test_any_growing_function_of_the_gains_leaves_their_scores(seed: int, dtype: torch.dtype) -> None:
    gains = torch.randn(3, 40, generator=torch.Generator().manual_seed(seed)).to(dtype)
    assert torch.equal(normal_scores(gains), normal_scores(gains.double().exp().mul(7)))


def test_one_channel_of_fifty_times_the_others_moves_no_other_score_by_more_than_a_rank() -> None:
    gains = torch.linspace(0.9, 1.1, 101, dtype=torch.float64)[None]
    louder = gains.clone()
    louder[0, 50] = 50
    assert float((normal_scores(louder) - normal_scores(gains))[0, :50].abs().max()) == 0
    assert float(normal_scores(louder)[0, 50]) == float(normal_scores(gains).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("lowest", [-1.0, 0.5], ids=["of both signs", "positive"])
def test_scores_and_quartiles_are_those_of_numbers_with_all_digits(dtype: torch.dtype, lowest: float) -> None:
    """Few values are counted, more are sorted with their places packed in, and those with all digits indirectly."""
    gains = torch.rand(16, 5120, generator=torch.Generator().manual_seed(0)).add(lowest).to(dtype)
    gains[0, 0], gains[0, 1], gains[1] = 0.0, -0.0, 1.0
    ranked, stretched = rank_layers(gains), rank_layers(gains.double() / 3)
    assert torch.equal(ranked.scores, stretched.scores)
    torch.testing.assert_close(ranked.quartiles / 3, stretched.quartiles)
    inner = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    truth = gains.double().quantile(inner, dim=-1, interpolation="higher").T
    assert torch.equal(
        ranked.quartiles,
        torch.cat(
            [gains.double().aminmax(dim=-1).min[:, None], truth, gains.double().aminmax(dim=-1).max[:, None]], dim=-1
        ),
    )


def products(scores: Tensor) -> Tensor:
    return scores @ scores.mT


def test_products_of_scores_have_the_same_bits_in_any_order_of_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = normal_scores(torch.randn(8, 5120, generator=generator))
    shuffled = scores[:, torch.randperm(5120, generator=generator)]
    in_parts = sum((products(part) for part in shuffled.split(777, dim=1)), torch.zeros(8, 8, dtype=torch.float64))
    assert torch.equal(products(scores), in_parts)
