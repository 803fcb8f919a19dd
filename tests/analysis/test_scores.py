"""Normal scores: the ranks of each layer's gains as quantiles of a normal law."""

from __future__ import annotations

import bisect
import math
from statistics import NormalDist

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gammatorch.analysis.scores import normal_scores, score_step


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


def products(scores: Tensor) -> Tensor:
    return scores @ scores.mT


def test_products_of_scores_have_the_same_bits_in_any_order_of_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = normal_scores(torch.randn(8, 5120, generator=generator))
    shuffled = scores[:, torch.randperm(5120, generator=generator)]
    in_parts = sum((products(part) for part in shuffled.split(777, dim=1)), torch.zeros(8, 8, dtype=torch.float64))
    assert torch.equal(products(scores), in_parts)
