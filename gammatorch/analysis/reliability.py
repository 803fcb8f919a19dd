"""Correlations between layers as they would be without what each layer has to itself."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

FEWEST_LAYERS = 24
"""Below, the few triads at hand say too little."""

_REACH = 3
"""Neighbours on either side from which a layer's reliability is taken."""

_LEAST = 0.05
"""No reliability, and no correlation of two neighbours that is divided by, is taken to be less."""


def disattenuated(correlation: Tensor) -> Tensor:
    """Correlations divided by what each layer's own noise takes off them (Spearman 1904).

    ``r_ij / √(ρ_i ρ_j)`` with ρ_l, the reliability of layer l, the median over its neighbours a and b of
    ``r_la r_lb / r_ab``: what a layer shares with those on both sides of it, one to three layers away. Layers of one
    direction that differ in their noise alone come out as 1, a walk keeps what it loses with depth.

    Args:
        correlation: Between layers in the order of depth, shape (…, layer, layer).

    Returns:
        Same shape; noise can take them beyond 1.

    Example:
        >>> noise = torch.linspace(0.5, 1, 24)
        >>> observed = noise[:, None] * noise
        >>> disattenuated(observed.fill_diagonal_(1))[0, 1:3].round(decimals=3)
        tensor([1., 1.])
    """
    layers = correlation.shape[-1]
    layer, one, other = (index.to(correlation.device) for index in _triads(layers))
    between = correlation[..., one, other].clamp(min=_LEAST)
    shares = correlation[..., layer, one] * correlation[..., layer, other] / between
    shares = torch.where(one == other, torch.nan, shares)  # a place that is not filled
    reliability = shares.nanmedian(dim=-1).values.clamp(_LEAST, 1).rsqrt()
    return correlation * reliability[..., :, None] * reliability[..., None, :]


@lru_cache
def _triads(layers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each layer with pairs of its neighbours, on both sides where it has both: three of shape (layer, pair)."""
    pairs = []
    for layer in range(layers):
        before = range(max(0, layer - _REACH), layer)
        after = range(layer + 1, min(layers, layer + 1 + _REACH))
        around = [(one, other) for one in before for other in after]
        beside = list(before or after)
        pairs.append(around or [(one, other) for n, one in enumerate(beside) for other in beside[n + 1 :]])
    filled = torch.tensor([[*of_one, *[(0, 0)] * (_REACH**2 - len(of_one))] for of_one in pairs])
    return torch.arange(layers)[:, None].expand(-1, _REACH**2), filled[..., 0], filled[..., 1]
