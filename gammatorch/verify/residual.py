"""On which side of a sub-layer a norm stands, told by the sums that the residual stream is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BEGINNING = 64
"""Numbers that are compared before all are: most flows differ in the first few."""


@dataclass(frozen=True, eq=False)
class Flow:
    """What went in and out of a module in its first call.

    Attributes:
        fed: Its first tensor argument.
        given: The first tensor that it returns.
        called: Position in the order in which calls ended.
    """

    fed: Tensor
    given: Tensor
    called: int


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two flows are the same numbers, whatever their shape."""
    if one.numel() != other.numel():
        return False
    one, other = one.reshape(-1), other.reshape(-1)
    return _close(one[:_BEGINNING], other[:_BEGINNING]) and _close(one, other)


def side_of(norm: Flow, block: Flow, norms: Sequence[Flow], others: Sequence[Flow]) -> str | None:
    """``"before"`` a sub-layer or ``"after"`` one, None if neither shows or both do.

    Before: what it is fed with, x, goes on past the sub-layer S, its norm included: a later sum is x + S(…). After: it
    is fed with what S gives, alone or on the residual r, and what it gives, y, goes on: a later sum is r + y or
    y + S'(…), or is y itself.

    Args:
        norm: The norm.
        block: Its block.
        norms: All norms of the block.
        others: All its other modules, the sub-layers among them.
    """
    # a residual that is itself a norm of the block's input (MiniMax) is both: the norm on it stands on either side
    earlier = [flow for flow in norms if flow.called < norm.called and not same(flow.fed, block.fed)]
    residuals = [block.fed, *(tensor for flow in earlier for tensor in (flow.fed, flow.given))]
    sums = [*(flow.fed for flow in norms if flow.called > norm.called), block.given]
    before_it = [flow.given for flow in others if flow.called < norm.called]
    after_it = [flow.given for flow in [*others, *norms] if flow.called > norm.called]
    goes_past = _any_sum(sums, [norm.fed], after_it)
    on_output = any(same(norm.fed, given) for given in before_it)
    on_sum = _any_sum([norm.fed], residuals, before_it)
    goes_on = any(same(norm.given, total) for total in sums) or is_residual(norm, block, norms, others)
    after = (on_output and _any_sum(sums, residuals, [norm.given])) or (on_sum and goes_on)
    return None if goes_past == after else "before" if goes_past else "after"


def is_residual(norm: Flow, block: Flow, norms: Sequence[Flow], others: Sequence[Flow]) -> bool:
    """Whether what a norm gives goes on as the residual: a later sum is y + S(…)."""
    sums = [*(flow.fed for flow in norms if flow.called > norm.called), block.given]
    return _any_sum(sums, [norm.given], [flow.given for flow in others if flow.called > norm.called])


def _any_sum(totals: Iterable[Tensor], ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return any(
        _is_sum(total.reshape(-1), one.reshape(-1), other.reshape(-1))
        for total in totals
        for one in ones
        if one.numel() == total.numel()
        for other in others
        if other.numel() == total.numel()
    )


def _is_sum(total: Tensor, one: Tensor, other: Tensor) -> bool:
    begins = _close(total[:_BEGINNING], one[:_BEGINNING] + other[:_BEGINNING])
    return begins and _close(total, one + other)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=1e-5, atol=1e-6)
