"""Single layers that do not fit a smooth course over depth."""

from __future__ import annotations

import numpy as np

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.host import Flags

SHORTEST = 3
"""Layers in the shortest run that counts as a phase; fewer cannot show how alike its own layers are."""

_FAINT = 0.25
"""Where the median layer's closest relative correlates less than this, no layer is odd: all are."""

_ODD = 0.75
"""Share of the median layer's closest correlation below which a layer is odd."""

_FEW = 8
"""More than two, and than one in so many, are no outliers: then layers belong to several directions."""


def odd_rows(correlations: Correlations) -> Flags:
    """Which layers stand apart from all others, singly or in pairs: often the first, beside the embedding, or the last.

    A layer is odd if the layer most like it correlates with it less than three quarters as much as is so for the
    median layer, and it does not stand in a run of three such or more, which would be a phase.

    Args:
        correlations: Of one checkpoint.

    Returns:
        Shape (layer); none where the median layer's closest correlation is below 0.25, nor among fewer than six layers.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))[[0, 1, 1, 1, 1, 1]]
        >>> odd_rows(Correlations(moments(gains).home()[0], tuple(range(6))))
        array([ True, False, False, False, False, False])
    """
    varied = correlations.varied
    if len(varied) < 2 * SHORTEST or not varied.any():
        return np.zeros_like(varied)
    closest = np.where(correlations.pairs, correlations.filled, -1).max(axis=-1)
    usual = _lower_median(closest[varied])
    if usual < _FAINT:
        return np.zeros_like(varied)
    odd = varied & (closest < _ODD * usual)
    runs = np.convolve(odd, np.ones(SHORTEST), "valid") == SHORTEST
    in_run = np.convolve(runs, np.ones(SHORTEST)) > 0
    odd &= ~in_run
    return odd if np.count_nonzero(odd) <= max(2, len(odd) // _FEW) else np.zeros_like(odd)


def _lower_median(values: np.ndarray) -> float:
    """The lower of the two middle values, where there are two."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])
