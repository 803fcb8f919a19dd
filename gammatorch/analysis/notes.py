"""What a reader of an analysis should know: undefined figures, and doubtful ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gammatorch.gains.stack import Gains
from gammatorch.gains.stream import STORED_DTYPES

CLEAR_GAP = 0.01
"""Below this relative gap between the first two singular values the first axis is not identified."""


def undefined(explained: Tensor | None, statistics: Mapping[str, Any], layers: Sequence[int]) -> list[str]:
    """What could not be computed, and why.

    Args:
        explained: Shares of the principal axes, None if undefined.
        statistics: The statistics, undefined figures None.
        layers: Layer index of each row.

    Example:
        >>> undefined(None, {"pearson": torch.ones(1, 1), "change_points": None}, [0])
        ['one layer only: principal axes, phases and neighbours are undefined']
    """
    notes = []
    if len(layers) == 1:
        notes.append("one layer only: principal axes, phases and neighbours are undefined")
    elif explained is None:
        notes.append(
            "all layers point the same way to rounding (an untrained checkpoint?): explained_var and proj_top1 "
            "would be rounding noise and are left undefined"
        )
    constant = int(statistics["pearson"].diagonal().isnan().sum())
    if not constant and len(layers) > 1 and statistics["mean_pearson"]["low"] is None:
        notes.append("fewer than 8 channels: intervals and change_points are undefined")
    if 1 < len(layers) < 6:
        notes.append(f"{len(layers)} layers: change_points and schedules are undefined below 6")
    if constant:
        notes.append(f"{constant} of {len(layers)} layers have a constant gain, whose correlation is undefined")
    return notes


def doubtful(gap: float | None, cosine: Tensor, gains: Gains | None) -> list[str]:
    """What was computed and may be less than it seems: an axis that is tied, differences as small as rounding.

    Args:
        gap: Relative gap of the first two singular values.
        cosine: Cosines between layers, shape (layer, layer).
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
        distance = float((1 - cosine.diagonal(1)).median())
        if distance < floor:
            notes.append(
                f"neighbours differ by 1 - cos = {distance:.1e}, no more than storing them as {gains.stored_dtype} "
                f"does ({floor:.1e}): axes and phases may be rounding"
            )
    return notes
