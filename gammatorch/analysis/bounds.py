"""Bounds about the value itself, on the scale on which a figure's errors are even: it never lies outside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.analysis.intervals import FEWEST_BLOCKS, Interval, student_t

_LARGEST = 700.0
"""Above, an exponential is taken for infinite."""


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
    there: Callable[[float], float]
    back: Callable[[float], float]


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
    blocks, on = without.shape[-1], SCALES[scale]
    parts = without.reshape(-1, blocks).tolist()
    bounds = [_of_one(one, of_one, on) for one, of_one in zip(value.flatten().tolist(), parts, strict=True)]
    low, high = torch.tensor(bounds, dtype=value.dtype, device=value.device).reshape(*value.shape, 2).unbind(-1)
    return Interval(value, low, high)


def _of_one(value: float, without: list[float], on: Scale) -> tuple[float, float]:
    """The bounds of one figure."""
    if len(without) < FEWEST_BLOCKS or not all(map(math.isfinite, (value, *without))):
        return math.nan, math.nan
    inside, parts = _within(value, on), [_within(part, on) for part in without]
    scaled = [on.there(part) for part in (inside, *parts)]
    there, back = (on.there, on.back) if all(map(math.isfinite, scaled)) else (float, float)
    middle, half = there(inside), _half([there(part) for part in parts])
    return min(_within(back(middle - half), on), value), max(_within(back(middle + half), on), value)


def _within(value: float, on: Scale) -> float:
    return min(max(value, on.least), on.most)


def _half(parts: list[float]) -> float:
    """Half the width: Student's quantile times the jackknife's standard error."""
    blocks = len(parts)
    mean = math.fsum(parts) / blocks
    squares = math.fsum((part - mean) ** 2 for part in parts)
    return student_t(0.975, blocks - 1) * math.sqrt(squares * (blocks - 1) / blocks)


def _atanh(value: float) -> float:
    return math.atanh(value) if abs(value) < 1 else math.copysign(math.inf, value)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < _LARGEST else math.inf


def _logit(value: float) -> float:
    return _log(value) - _log(1 - value)


def _expit(value: float) -> float:
    return 1 / (1 + _exp(-value))


SCALES: Mapping[str, Scale] = {
    "fisher": Scale(-1.0, 1.0, _atanh, math.tanh),
    "log": Scale(0.0, math.inf, _log, _exp),
    "logit": Scale(0.0, 1.0, _logit, _expit),
    "plain": Scale(-math.inf, math.inf, float, float),
}
"""By name: one line here adds a scale."""
