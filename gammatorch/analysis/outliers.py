"""What stands out: single layers that no other is like, and massive channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.host import Flags
from gammatorch.analysis.scores import Ranked, rank_layers

SHORTEST = 3
"""Layers in the shortest run that counts as a phase; fewer cannot show how alike its own layers are."""

_FAINT = 0.25
"""Where the median layer's closest relative correlates less than this, no layer is an outlier: all are."""

_APART = 0.75
"""Share of the median layer's closest correlation below which a layer is an outlier."""

_FEW = 8
"""More than two, and than one in so many, are no outliers: then layers belong to several directions."""


def outlier_rows(correlations: Correlations) -> Flags:
    """Which layers stand apart from all others, singly or in pairs: often the first, beside the embedding, or the last.

    A layer is an outlier if the layer most like it correlates with it less than three quarters as much as is so for the
    median layer, and it does not stand in a run of three such or more, which would be a phase.

    Args:
        correlations: Of one checkpoint.

    Returns:
        Shape (layer); none where the median layer's closest correlation is below 0.25, nor among fewer than six layers.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> gains = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))[[0, 1, 1, 1, 1, 1]]
        >>> outlier_rows(Correlations(moments(gains).home()[0], tuple(range(6))))
        array([ True, False, False, False, False, False])
    """
    varied = correlations.varied
    if len(varied) < 2 * SHORTEST or not varied.any():
        return np.zeros_like(varied)
    closest = np.where(correlations.pairs, correlations.filled, -1).max(axis=-1)
    usual = _lower_median(closest[varied])
    if usual < _FAINT:
        return np.zeros_like(varied)
    apart = varied & (closest < _APART * usual)
    runs = np.convolve(apart, np.ones(SHORTEST), "valid") == SHORTEST
    in_run = np.convolve(runs, np.ones(SHORTEST)) > 0
    apart &= ~in_run
    return apart if np.count_nonzero(apart) <= max(2, len(apart) // _FEW) else np.zeros_like(apart)


def _lower_median(values: np.ndarray) -> float:
    """The lower of the two middle values, where there are two."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])


FAR = 10.0
"""Robust standard deviations from the median beyond which a gain stands out."""

_QUARTILES_APART = 1.349
"""Distance between the quartiles of a normal law, in standard deviations."""


def massive_channels(gains: Tensor, ranked: Ranked | None = None) -> list[dict[str, list[Any]]]:
    """Channels whose gain stands out in at least half of the layers that vary.

    A gain stands out if ``|γ_h − median γ| > 10 (q₃ − q₁) / 1.349``, with the quartiles over the channels of its layer:
    unlike a standard deviation they are not widened by what stands out (Hampel 1974). Where half of the gains are
    equal, as early in training, ten standard deviations stand for it.

    Args:
        gains: Gain vectors γ, shape (checkpoint, layer, hidden).
        ranked: The same in order, where that is known already.

    Returns:
        For each checkpoint ``channels``, their indices, ascending; ``layers``, in how many layers each stands out;
        ``sizes``, the median over those of |γ| in units of the layer's median |γ|.

    Example:
        >>> gains = torch.linspace(0.9, 1.1, 64).repeat(1, 4, 1)
        >>> gains[0, :3, 5] = 20
        >>> massive_channels(gains)
        [{'channels': [5], 'layers': [3], 'sizes': [19.9]}]
    """
    least, low, median, high, most = (ranked or rank_layers(gains)).quartiles.to(gains).unbind(-1)
    reach = FAR * (high - low) / _QUARTILES_APART
    if not bool((reach > 0).all()):
        reach = torch.where(reach > 0, reach, FAR * gains.std(dim=-1, correction=0))
    needed = ((most > least).sum(dim=-1) + 1) // 2
    layers_out = ((most - median > reach) | (median - least > reach)).sum(dim=-1)
    possible = ((layers_out >= needed) & (layers_out > 0)).tolist()  # most checkpoints have no layer with any
    return [
        _massive(gains[row], median[row, :, None], reach[row, :, None], needed[row]) if possible[row] else _none()
        for row in range(len(gains))
    ]


def _massive(gains: Tensor, median: Tensor, reach: Tensor, needed: Tensor) -> dict[str, list[Any]]:
    """The massive channels of one checkpoint."""
    out = (gains - median).abs_() > reach
    counts = out.sum(dim=0)
    channels = ((counts >= needed) & (counts > 0)).nonzero()[:, 0]
    sizes = torch.where(out[:, channels], gains[:, channels].abs() / median.abs(), torch.nan).nanmedian(dim=0).values
    rounded = [round(float(f"{size:.3g}"), 6) for size in sizes.tolist()]
    return {"channels": channels.tolist(), "layers": counts[channels].tolist(), "sizes": rounded}


def _none() -> dict[str, list[Any]]:
    return {"channels": [], "layers": [], "sizes": []}


def none_known() -> Mapping[str, None]:
    """What is said of gains that are read in column blocks, which are never all there to be put in order."""
    return dict.fromkeys(("channels", "layers", "sizes"))
