"""Which annealing schedule the size of the gain follows over depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations, over_rows

FEWEST_LAYERS = 6
"""Layers below which no schedule is fitted: AICc of three parameters needs n > 4."""

_POINTS, _STEEPEST = 65, 4.0
"""The exponent is searched on 65 points in ±4."""

_PARTS, _CUTS = 8, 14
"""Then between the neighbours of the best, by eighths: what they leave is below rounding."""

Fit = tuple[dict[str, Tensor], Tensor, int]
"""Parameters by name, residual sum of squares, number of parameters with the error's variance."""


def schedules(correlations: Correlations) -> list[Mapping[str, object] | None]:
    """Least-squares fits of T(k) = RMS γ = ‖γ‖/√H to annealing schedules, k = 1 at the first layer.

    ``constant`` T₀; ``geometric`` T₀ a^(k−1) (Kirkpatrick, Gelatt and Vecchi 1983), heating where a > 1; ``linear``
    T₀ + b (k−1); ``logarithmic`` c / ln(1 + k) (Geman and Geman 1984); ``power`` T₀ k^(−p), heating where p < 0. They
    are compared by AICc = n ln(RSS/n) + 2m + 2m(m+1)/(n−m−1) with n layers and m parameters, the error's variance
    among them (Hurvich and Tsai 1989): lowest is best, differences below 2 say nothing. Errors are taken as
    independent between layers, which drifting gains are not, so the differences are overstated. ``k`` follows the
    layer index, so a gap between layers counts.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        For each checkpoint name → ``{"parameters": {name: value}, "aicc": value}``, best first; None for fewer than
        six layers, and where RMS γ is the same in all layers to rounding. Zero gains are left out.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.ones(8, 4) * 0.9 ** torch.arange(8)[:, None] + 0.001 * torch.eye(8, 4)
        >>> fits = schedules(Correlations(moments(gains), tuple(range(8))))[0]
        >>> next(iter(fits)), round(fits["geometric"]["parameters"]["a"], 2)
        ('geometric', 0.9)
    """
    return over_rows(_schedules, correlations, correlations.directed)


def _schedules(correlations: Correlations) -> list[Mapping[str, object] | None]:
    size = correlations.norms / correlations.moments.hidden.sqrt()[:, None]
    checkpoints, count = size.shape
    if count < FEWEST_LAYERS:
        return [None] * checkpoints
    first = correlations.layers[0]
    k = torch.tensor([layer - first + 1 for layer in correlations.layers], dtype=size.dtype, device=size.device)
    fits = {name: fit(size, k) for name, fit in SCHEDULES.items()}
    floor = count * (32 * torch.finfo(size.dtype).eps * size.mean(dim=-1)).square()
    same = (fits["constant"][1] <= floor).tolist()
    criteria = {name: _aicc(torch.maximum(rss, floor), count, m).tolist() for name, (_, rss, m) in fits.items()}
    values = {name: {label: one.tolist() for label, one in fit[0].items()} for name, fit in fits.items()}
    found: list[Mapping[str, object] | None] = []
    for row in range(checkpoints):
        best = sorted(fits, key=lambda name: criteria[name][row])
        document = {
            name: {
                "parameters": {label: one[row] for label, one in values[name].items()},
                "aicc": criteria[name][row],
            }
            for name in best
        }
        found.append(None if same[row] else document)
    return found


def _aicc(rss: Tensor, count: int, parameters: int) -> Tensor:
    penalty = 2 * parameters + 2 * parameters * (parameters + 1) / (count - parameters - 1)
    return count * (rss / count).log() + penalty


def _constant(size: Tensor, k: Tensor) -> Fit:
    scale, rss = _scaled(size, torch.ones_like(k))
    return {"t0": scale}, rss, 2


def _geometric(size: Tensor, k: Tensor) -> Fit:
    rate, scale, rss = _search(size, (k - 1) / (k[-1] - 1))
    return {"t0": scale, "a": torch.exp(rate / (k[-1] - 1))}, rss, 3


def _linear(size: Tensor, k: Tensor) -> Fit:
    at, middle = k - k.mean(), size.mean(dim=-1, keepdim=True)
    slope, rss = _scaled(size - middle, at)
    return {"t0": middle[..., 0] - slope * (k.mean() - 1), "b": slope}, rss, 3


def _logarithmic(size: Tensor, k: Tensor) -> Fit:
    scale, rss = _scaled(size, 1 / torch.log1p(k))
    return {"c": scale}, rss, 2


def _power(size: Tensor, k: Tensor) -> Fit:
    rate, scale, rss = _search(size, -k.log())
    return {"t0": scale, "p": rate}, rss, 3


def _scaled(size: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """The best multiple of a shape, and the residual sum of squares."""
    scale = (size * shape).sum(dim=-1) / shape.square().sum(dim=-1)
    return scale, (size - scale[..., None] * shape).square().sum(dim=-1)


def _search(size: Tensor, course: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rate r whose shape exp(r · course) fits best: its value, the multiple of its shape, the residual's square."""
    rates = torch.linspace(-_STEEPEST, _STEEPEST, _POINTS, dtype=size.dtype, device=size.device)
    shapes = torch.exp(rates[:, None] * course)
    best = ((size @ shapes.mT).square() / shapes.square().sum(dim=-1)).argmax(dim=-1)
    rate, reach = rates[best], 2 * _STEEPEST / (_POINTS - 1)
    rate, width = rate - reach, 2 * reach
    weights = torch.stack([torch.ones_like(course), course], dim=-1)
    parts = torch.arange(1, _PARTS, dtype=size.dtype, device=size.device) / _PARTS
    for _ in range(_CUTS):
        shape = torch.exp((rate[:, None] + width * parts)[..., None] * course)
        (scale, turned), (square, turned_square) = (
            (of @ weights).unbind(-1) for of in (size[:, None] * shape, shape.square())
        )
        # Σ residual · ∂shape/∂r, times Σ shape²: above 0 the residual still falls with r
        falls = scale * (turned * square - scale * turned_square) > 0
        width /= _PARTS
        rate = rate + width * falls.sum(dim=-1)
    rate = rate + width / 2
    return rate, *_scaled(size, torch.exp(rate[:, None] * course))


SCHEDULES: Mapping[str, Callable[[Tensor, Tensor], Fit]] = {
    "constant": _constant,
    "geometric": _geometric,
    "linear": _linear,
    "logarithmic": _logarithmic,
    "power": _power,
}
"""By name: from RMS γ, shape (checkpoint, layer), and k, shape (layer), to the fit."""
