"""What a reader of an analysis should know: undefined figures, and doubtful ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gammatorch.gains.stack import Origin
from gammatorch.gains.stored import STORED_DTYPES

_NAMED = 8
"""Layers that a note names."""

CLEAR_GAP = 0.01
"""Below this relative gap between the first two singular values the first axis is not identified."""


def undefined(explained: object | None, statistics: Mapping[str, Any], layers: Sequence[int]) -> list[str]:
    """What could not be computed, and why.

    Args:
        explained: Shares of the principal axes, None if undefined.
        statistics: The statistics, undefined figures None.
        layers: Layer index of each row.

    Example:
        >>> one = {"pearson": torch.ones(1, 1), "cos_ones": torch.ones(1), "mean_pearson": {"value": None, "low": None}}
        >>> undefined(None, one, [0])
        ['one layer only: principal axes, phases and neighbours are undefined']
    """
    zero = _listed(statistics["cos_ones"].isnan(), layers)
    constant = _listed(statistics["pearson"].diagonal().isnan() & statistics["cos_ones"].isfinite(), layers)
    notes = []
    if zero:
        notes.append(f"zero gain in {zero}: no direction, and left out of all figures but the lengths")
    if constant:
        notes.append(f"constant gain in {constant}: no correlation, and left out of what is made of correlations")
    if len(layers) == 1:
        notes.append("one layer only: principal axes, phases and neighbours are undefined")
    elif int(statistics["cos_ones"].isfinite().sum()) < 2:
        notes.append("fewer than two layers have a direction: principal axes and correlations are undefined")
    elif explained is None:
        notes.append(
            "all layers point the same way to rounding (an untrained checkpoint?): explained_var and proj_top1 "
            "would be rounding noise and are left undefined"
        )
    mean = statistics["mean_pearson"]
    if mean["value"] is not None and mean["low"] is None:
        notes.append("fewer than 8 channels: intervals and change_points are undefined")
    if 1 < len(layers) < 6:
        notes.append(f"{len(layers)} layers: change_points and schedules are undefined below 6")
    elif mean["low"] is not None and statistics["change_points"] is None:
        notes.append("fewer than 6 layers have correlations: change_points are undefined")
    return notes


def unranked(ranked: bool) -> list[str]:
    """That the gains have no ranks, where they have none.

    Args:
        ranked: Whether they were put in order of size.

    Example:
        >>> unranked(True)
        []
    """
    if ranked:
        return []
    return [
        "wider than 65,536 channels, read in column blocks or sketched, the gains have no ranks: all figures are of "
        "Pearson's correlation, which a few massive channels may carry"
    ]


def _listed(chosen: Tensor, layers: Sequence[int]) -> str:
    """The layers that are chosen, in words: all of them, or the first few and how many."""
    found = [layer for layer, is_chosen in zip(layers, chosen.tolist(), strict=True) if is_chosen]
    if len(found) > 1 and len(found) == len(layers):
        return "every layer"
    names = ", ".join(map(str, found[:_NAMED]))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{'layer' if len(found) == 1 else 'layers'} {names}{more}" if found else ""


def doubtful(gap: float | None, cosine: Tensor, gains: Origin | None) -> list[str]:
    """What was computed and may be less than it seems: an axis that is tied, differences as small as rounding.

    Args:
        gap: Relative gap of the first two singular values.
        cosine: Cosines between layers, shape (layer, layer), NaN for those without direction.
        gains: Where they came from.

    Example:
        >>> doubtful(0.001, torch.eye(2), None)
        ['the first two singular values differ by 0.10%: the first axis, and so proj_top1, is not identified']
    """
    notes = []
    if gap is not None and gap < CLEAR_GAP:
        notes.append(
            f"the first two singular values differ by {gap:.2%}: the first axis, and so proj_top1, is not identified"
        )
    if gap is not None and gains is not None and gains.offset == 0 and "+" not in gains.stored_dtype:
        # rounding to a type of relative step ε moves a direction by ε/√12 rms, and 1 - cos of two by ε²/12
        floor = torch.finfo(STORED_DTYPES[gains.stored_dtype]).eps ** 2 / 12
        distance = float((1 - cosine.diagonal(1)).nanmedian())
        if distance < floor:
            notes.append(
                f"neighbours differ by 1 - cos = {distance:.1e}, no more than storing them as {gains.stored_dtype} "
                f"does ({floor:.1e}): axes and phases may be rounding"
            )
    return notes
