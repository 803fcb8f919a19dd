"""Bounds about the value itself, on the scale on which a figure's errors are even: it never lies outside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.analysis.intervals import FEWEST_BLOCKS, Interval, standard_error, student_t


@dataclass(frozen=True)
class Scale:
    """A scale on which a figure is spread evenly.

    Attributes:
        least: Smallest value the figure can have.
        most: Largest.
        there: From the figure to the scale; infinite at the ends of the range, unless that is endless.
        back: The inverse.
    """

    least: float
    most: float
    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


def about_value(value: Tensor, without: Tensor, scale: str) -> Interval:
    """95 % bounds of a figure from its values with one run of channels left out each, about the figure.

    ``f⁻¹(f(θ) ± t √((B−1)/B Σ (f(θ_b) − mean f(θ_b))²))``: the delete-block jackknife (Tukey 1958; runs: Künsch 1989)
    on a scale f that makes the spread the same for all values, Fisher's z for correlations (Fisher 1921), with
    Student's t of B − 1 degrees of freedom. No bias is taken out, so ``low ≤ value ≤ high`` always; where the figure
    or one of its parts lies at the end of its range, f is infinite, and the bounds are taken on the plain scale.

    Args:
        value: The figure, shape (…).
        without: The same with each run left out, shape (…, block).
        scale: ``"fisher"`` for correlations and cosines, ``"log"`` for what is positive, ``"logit"`` for shares,
            ``"plain"``.

    Returns:
        The figure with its bounds; these are NaN where one of the parts is, and with fewer than eight runs.

    Example:
        >>> without = torch.linspace(0.945, 0.955, 32, dtype=torch.float64)
        >>> bounds = about_value(torch.tensor(0.95, dtype=torch.float64), without, "fisher")
        >>> bounds.low.round(decimals=3), bounds.high.round(decimals=3)
        (tensor(0.9020, dtype=torch.float64), tensor(0.9750, dtype=torch.float64))
    """
    blocks = without.shape[-1]
    if blocks < FEWEST_BLOCKS:
        undefined = torch.full_like(value, math.nan)
        return Interval(value, undefined, undefined)
    on, quantile = SCALES[scale], student_t(0.975, blocks - 1)
    inside, parts = value.clamp(on.least, on.most), without.clamp(on.least, on.most)
    scaled, half = on.there(inside), quantile * standard_error(on.there(parts))
    plain_half = quantile * standard_error(parts)
    usable = scaled.isfinite() & on.there(parts).isfinite().all(dim=-1)
    low = torch.where(usable, on.back(scaled - half), (inside - plain_half).clamp(on.least, on.most))
    high = torch.where(usable, on.back(scaled + half), (inside + plain_half).clamp(on.least, on.most))
    return Interval(value, torch.minimum(low, value), torch.maximum(high, value))


SCALES: Mapping[str, Scale] = {
    "fisher": Scale(-1.0, 1.0, torch.atanh, torch.tanh),
    "log": Scale(0.0, math.inf, torch.log, torch.exp),
    "logit": Scale(0.0, 1.0, torch.logit, torch.sigmoid),
    "plain": Scale(-math.inf, math.inf, torch.clone, torch.clone),
}
"""By name: one line here adds a scale."""
