"""Correlations between layers as they would be without what each layer has to itself."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gammatorch.analysis.host import Array, Rows

FEWEST_LAYERS = 24
"""Below, the few triads at hand say too little."""

_REACH = 3
"""Neighbours on either side from which a layer's reliability is taken."""

_LEAST = 0.05
"""No reliability, and no correlation of two neighbours that is divided by, is taken to be less."""


def disattenuated(correlation: Array) -> Array:
    """Correlations divided by what each layer's own noise takes off them (Spearman 1904).

    ``r_ij / √(ρ_i ρ_j)`` with ρ_l, the reliability of layer l, the (lower) median over its neighbours a and b of
    ``r_la r_lb / r_ab``: what a layer shares with those on both sides of it, one to three layers away. Layers of one
    direction that differ in their noise alone come out as 1, a walk keeps what it loses with depth.

    Args:
        correlation: Between layers in the order of depth, shape (…, layer, layer).

    Returns:
        Same shape; noise can take them beyond 1.

    Example:
        >>> noise = np.linspace(0.5, 1, 24)
        >>> observed = np.outer(noise, noise)
        >>> np.fill_diagonal(observed, 1)
        >>> disattenuated(observed)[0, 1:3].round(3)
        array([1., 1.])
    """
    layer, one, other, middle = _triads(correlation.shape[-1])
    between = correlation[..., one, other].clip(min=_LEAST)
    shares = correlation[..., layer, one] * correlation[..., layer, other] / between
    shares[..., one == other] = np.inf  # a place that is not filled
    shares.sort(axis=-1)
    reliability = shares[..., np.arange(len(middle)), middle].clip(_LEAST, 1)
    scale = 1 / np.sqrt(reliability)
    return np.asarray(correlation * scale[..., :, None] * scale[..., None, :])


@lru_cache
def _triads(layers: int) -> tuple[Rows, Rows, Rows, Rows]:
    """Each layer with pairs of its neighbours, on both sides where it has both: three of shape (layer, pair); and the
    place of the median in each row."""
    pairs = []
    for layer in range(layers):
        before = range(max(0, layer - _REACH), layer)
        after = range(layer + 1, min(layers, layer + 1 + _REACH))
        around = [(one, other) for one in before for other in after]
        beside = list(before or after)
        pairs.append(around or [(one, other) for n, one in enumerate(beside) for other in beside[n + 1 :]])
    filled = np.array([[*of_one, *[(0, 0)] * (_REACH**2 - len(of_one))] for of_one in pairs])
    middle = np.array([(len(of_one) - 1) // 2 for of_one in pairs])
    return np.arange(layers)[:, None], filled[..., 0], filled[..., 1], middle
