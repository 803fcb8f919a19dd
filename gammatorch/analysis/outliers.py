"""Massive channels: those whose gain stands far from that of all others, in most layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.scores import Ranked, rank_layers

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
