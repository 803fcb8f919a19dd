"""What a norm adds to its weight is found whatever it normalises, and not where it does not multiply by it alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.verify.alone import acting_offset


class Norm(nn.Module):
    def __init__(self, give, width=8):
        super().__init__()
        self.weight, self.give = nn.Parameter(torch.zeros(width)), give

    def forward(self, x, *others):
        return self.give(self.weight, x, *others)


def normed(x, dim=-1):
    return x * (x.square().mean(dim, keepdim=True) + 1e-6).rsqrt()


@pytest.mark.parametrize(
    ("module", "offset"),
    [
        (nn.LayerNorm(8), 0),
        (nn.GroupNorm(2, 8), 0),
        (nn.BatchNorm2d(8).eval(), 0),
        (nn.Linear(8, 8), 0),
        (Norm(lambda w, x: normed(x) * w), 0),
        (Norm(lambda w, x: normed(x) * (1 + w)), 1),
        (Norm(lambda w, x: normed(x) * (0.2 + w)), 0.2),
        (Norm(lambda w, x: normed(x * (1 + w))), 1),
        (Norm(lambda w, x, gate: normed(x) * (1 + w) * gate.sigmoid()), 1),
        (Norm(lambda w, x: normed(x, 1) * (1 + w)[:, None, None]), 1),
        (Norm(lambda w, x: normed(x) * w.exp()), None),
        (Norm(lambda w, x: normed(x) * 2 * w), None),
        (Norm(lambda w, x: x + normed(x, 1) * w), None),
    ],
)
def test_what_a_norm_adds_is_found(module, offset):
    found = acting_offset(module, "weight")
    assert found == offset if offset is None else abs(found - offset) < 1e-4
