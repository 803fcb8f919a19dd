"""Single layers that do not fit a smooth course over depth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gammatorch.analysis.correlations import Correlations

SHORTEST = 3
"""Layers in the shortest run that counts as a phase; fewer cannot show how alike its own layers are."""

_FAINT = 0.25
"""Where the median layer's closest relative correlates less than this, no layer is odd: all are."""

_ODD = 0.75
"""Share of the median layer's closest correlation below which a layer is odd."""


_FEW = 8
"""More than two, and than one in so many, are no outliers: then layers belong to several directions."""


def odd_rows(correlations: Correlations) -> Tensor:
    """Which layers stand apart from all others, singly or in pairs: often the first, beside the embedding, or the last.

    A layer is odd if the layer most like it correlates with it less than three quarters as much as is so for the
    median layer, and it does not stand in a run of three such or more, which would be a phase.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        Shape (checkpoint, layer); none where the median layer's closest correlation is below 0.25, nor among fewer
        than six layers.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))[[0, 1, 1, 1, 1, 1]]
        >>> odd_rows(Correlations(moments(gains), tuple(range(6))))
        tensor([[ True, False, False, False, False, False]])
    """
    closest = torch.where(correlations.pairs, correlations.filled, -1).amax(dim=-1)
    usual = torch.where(correlations.varied, closest, torch.nan).nanmedian(dim=-1, keepdim=True).values
    odd = correlations.varied & (closest < _ODD * usual) & (usual >= _FAINT)
    if odd.shape[-1] < 2 * SHORTEST:
        return torch.zeros_like(odd)
    runs = odd.unfold(-1, SHORTEST, 1).all(dim=-1)
    for shift in range(SHORTEST):
        odd = odd & ~pad(runs, (shift, SHORTEST - 1 - shift))
    few = odd.sum(dim=-1, keepdim=True) <= max(2, odd.shape[-1] // _FEW)
    return odd & few


def odd_layers(correlations: Correlations) -> list[list[int]]:
    """The layer indices of :func:`odd_rows`, for each checkpoint.

    Args:
        correlations: Of one checkpoint or several.
    """
    return [
        [layer for layer, is_odd in zip(correlations.layers, odd, strict=True) if is_odd]
        for odd in odd_rows(correlations).tolist()
    ]
