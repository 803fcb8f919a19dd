"""A change of convention is told from gains that grow, and explains the jump that it makes."""

from __future__ import annotations

import pytest
import torch

from gammatorch.bench.training_runs import Kind, draw
from tests.trajectory.conftest import anomalies, names


@pytest.mark.parametrize("span", [range(30, 40), range(5, 6), range(0, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_change_of_convention_is_found_and_explains_the_jump(span, dtype):
    steps, stored = draw(Kind(drift=0.5, dtype=dtype), seed=7, count=40)
    for place in span:
        stored[place] = (stored[place].double() - 1).to(dtype)
    (found,) = anomalies(steps, stored)
    assert found.kind == "convention" and set(found.items) == names(steps, *span)
    assert found.text.endswith("w where the others hold 1 + w")


def changes_at_ten(mean, spread):
    """What is told of a run of 20 checkpoints whose second half is off by so much, and spread over channels."""
    gains = 1 + 0.3 * torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    change = torch.randn(6, 256, generator=torch.Generator().manual_seed(1))
    change = mean + spread * (change - change.mean(dim=-1, keepdim=True))
    stored = [gains + 0.001 * number + (change if number >= 10 else 0) for number in range(20)]
    return [one.kind for one in anomalies([*range(20)], stored)]


@pytest.mark.parametrize(("mean", "found"), [(1.0, True), (1.07, True), (0.93, True), (1.15, False), (0.85, False)])
def test_the_mean_moves_by_one_to_within_a_tenth(mean, found):
    assert changes_at_ten(mean, 0.01) == ["convention"] * found


@pytest.mark.parametrize(("spread", "found"), [(0.07, True), (0.14, False)])
def test_channels_move_alike_to_within_a_tenth(spread, found):
    assert changes_at_ten(1.0, spread) == ["convention"] * found
