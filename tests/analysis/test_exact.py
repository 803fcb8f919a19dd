"""Sums that do not round: gains of 16 bits have the same moments in whatever order their channels are added up."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import gammatorch
from gammatorch.analysis.across import PairSums
from gammatorch.analysis.moments import Accumulator, Moments, moments, pivot_of, run_edges, side_by_side
from gammatorch.bench.worlds import TROUBLES, draw

STORED = [torch.bfloat16, torch.float16]
SOME_TROUBLES = [None, "outlier channels", "heavy tails", "scales"]


def world(dtype: torch.dtype, trouble: str | None = None, seed: int = 0, hidden: int = 3001) -> Tensor:
    return torch.from_numpy(draw("drift", seed, 12, hidden, trouble)).to(dtype)


def added(blocks: list[Tensor]) -> Moments:
    accumulator = Accumulator(len(blocks[0]), sum(block.shape[-1] for block in blocks))
    for block in blocks:
        accumulator.add(block[None])
        block.zero_()  # as where the next block comes in the same place
    return accumulator.finish()


def assert_same_bits(one: Moments, other: Moments) -> None:
    for name in ("products", "totals", "pivot", "channels"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def bits_needed(gains: Tensor) -> float:
    """Of a sum of products over all channels, for the worst layer."""
    mantissa, exponent = torch.frexp(gains)
    whole = (mantissa * 2**53).long()
    lowest = torch.where(gains == 0, 9999, (whole & -whole).double().log2() - 53 + exponent).amin(-1)
    highest = torch.frexp(torch.maximum(gains.abs(), (gains - pivot_of(gains)[:, None]).abs()).amax(-1))[1]
    return float(2 * (highest - lowest).max() + math.log2(gains.shape[-1]))


@pytest.mark.parametrize("trouble", SOME_TROUBLES)
@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("offset", [0, 1])
def test_any_order_of_the_channels_gives_the_same_bits(dtype, trouble, offset):
    gains = (world(dtype, trouble) - offset).double() + offset  # the stored weight, and what the model adds to it
    assert bits_needed(gains) <= 53
    whole, edges = moments(gains), run_edges(gains.shape[1])
    shuffled = gains.clone()
    seeded = torch.Generator().manual_seed(0)
    for start, stop in pairwise(edges):
        start = max(start, 64)  # the pivot is that of the first channels
        if start < stop:
            shuffled[:, start:stop] = gains[:, start + torch.randperm(stop - start, generator=seeded)]
    assert_same_bits(moments(shuffled), whole)
    anywhere = gains[:, torch.randperm(gains.shape[1], generator=seeded)]
    (found,), (expected,) = moments(anywhere).home(), whole.home()
    assert np.array_equal(found.gram(), expected.gram()) and np.array_equal(found.sums(), expected.sums())


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("width", [1, 63, 64, 777, 2048])
def test_blocks_of_any_width_give_the_same_bits(dtype, width):
    gains = world(dtype)
    assert_same_bits(added(list(gains.clone().split(width, dim=1))), moments(gains))


@pytest.mark.parametrize("width", [1, 63, 64, 2048])
def test_the_pivot_does_not_depend_on_the_width_of_the_blocks(width):
    gains = world(torch.float64)
    assert torch.equal(added(list(gains.clone().split(width, dim=1))).pivot, moments(gains).pivot)


@pytest.mark.parametrize("dtype", STORED)
def test_a_batch_of_any_size_gives_the_same_bits(dtype):
    stack = torch.stack([world(dtype, seed=seed) for seed in range(5)]).double()
    together, alone = moments(stack), side_by_side(stack)
    assert_same_bits(together, alone)
    (single,) = moments(stack[3]).home()
    assert np.array_equal(single.products, alone.home()[3].products)


def test_trained_gains_add_up_without_rounding(smollm2_norms):
    gains = gammatorch.read_gains(smollm2_norms, site="input", device="cpu").gamma
    assert bits_needed(gains) <= 53
    backwards = gains.flip(1)
    assert np.array_equal(moments(gains).home()[0].gram(), moments(backwards).home()[0].gram())


def test_few_channels_and_none_to_spare_have_a_pivot():
    gains = torch.tensor([[4.0, 1.0, 3.0], [0.0, 0.0, 9.0]])
    assert added(list(gains.clone().split(1, dim=1))).pivot.tolist() == moments(gains).pivot.tolist() == [[3, 0]]


@pytest.mark.parametrize("width", [1, 50, 700])
def test_pairs_may_arrive_in_blocks_of_any_width(width):
    one, other = world(torch.bfloat16), world(torch.float16, seed=1)
    whole, streamed = (PairSums(2, 12, one.shape[1], [(1, 0)]) for _ in range(2))
    whole.add([one, other])
    for blocks in zip(one.split(width, dim=1), other.split(width, dim=1), strict=True):
        streamed.add(blocks)
    (expected,), (found,) = whole.finish(), streamed.finish()
    assert np.array_equal(found.cosine.value, expected.cosine.value)
    assert np.array_equal(found.pearson.value, expected.pearson.value)


@pytest.mark.parametrize("dtype", [*STORED, torch.float32, torch.float64])
def test_a_channel_that_stands_out_does_not_move_the_pivot(dtype):
    gains = world(dtype)
    gains[:, 0] = 1000
    assert torch.allclose(pivot_of(gains), gains.double().median(dim=-1).values, rtol=0.2)


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("trouble", [None, *TROUBLES])
def test_what_is_said_of_a_checkpoint_is_the_same_to_the_last_bit_in_any_batch(dtype, trouble):
    batch = torch.stack([torch.from_numpy(draw("drift", seed, 14, 300, trouble)) for seed in range(5)]).to(dtype)
    together = [said(one) for one in gammatorch.analyze(batch)]
    assert together == [said(gammatorch.analyze(one, method="gram")) for one in batch]
    assert together[:1] == [said(one) for one in gammatorch.analyze(batch[:1], method="gram")]


def said(analysis):
    document = analysis.to_dict()
    del document["provenance"]
    return document
