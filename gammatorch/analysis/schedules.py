"""Which annealing schedule the size of the gain follows over depth, if any."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations, over_rows

FEWEST_LAYERS = 6
"""Layers below which no schedule is fitted: AICc of four parameters needs n > 5."""

FEWEST_WITHOUT_ENDS = 8
"""Layers from which the first and the last are left out of the fit."""

NONE = "none"
"""What a law has to beat: one level, and errors that persist from layer to layer."""

CLEAR_OF_NONE, CLEAR_OF_NEXT = 12.0, 4.0
"""How much lower than no law's, and n/(n − 5) times how much lower than the next law's, the AICc of a claimed law is.
Set on draws without a law and with one; the tests count on others."""

MOST_LEFT = 0.85
"""Largest ρ of the errors that a claimed law leaves: beyond it they have a course of their own."""

_RHOS, _MOST_RHO = 48, 0.99
"""The correlation of neighbouring errors is searched on 48 points from 0, evenly spaced in artanh ρ."""

_CHANGES, _LARGEST_CHANGE, _EVERY = 33, 4.0, 4
"""ln T(last)/T(first) of the linear law is searched on 33 points in ±4, first at every fourth ρ, then by Newton."""

_MOST_LEVEL = 300.0
"""Levels beyond e^±300 are no lengths, and would overflow."""

_ROUNDING = 1e-7
"""Relative rounding of 32-bit gains: residuals below it tell nothing."""


def schedules(correlations: Correlations) -> list[Mapping[str, object] | None]:
    """Fits of T(k) = RMS γ = ‖γ‖/√H to annealing schedules, k = 1 at the first layer, with errors that persist.

    ``geometric`` T₀ a^(k−1) (Kirkpatrick, Gelatt and Vecchi 1983), heating where a > 1; ``linear`` T₀ + b (k−1);
    ``logarithmic`` c / ln(1 + k) (Geman and Geman 1984); ``power`` T₀ k^(−p), heating where p < 0; and ``none``, a
    level T₀ without a law. ln T is fitted by maximum likelihood. Its errors are stationary and normal, those of layers
    d apart correlate by ρ^d, 0 ≤ ρ ≤ 0.99, as gains drift from layer to layer: with independent errors most drifts
    look like laws (Granger and Newbold 1974). Up to a constant, with n layers, d_t from one to the next and m
    parameters, ρ and the error's variance among them (Hurvich and Tsai 1989),

        AICc = n ln(Q/n) + Σ_t ln(1 − ρ^(2 d_t)) + 2m + 2m(m+1)/(n−m−1),
        Q = e_1² + Σ_t (e_t − ρ^(d_t) e_(t−1))² / (1 − ρ^(2 d_t)), e the residuals of ln T.

    From eight layers on the first and the last are left out, as they are often of another size: they decide nothing.
    A law is chosen if its AICc is below that of ``none`` by 12 and below that of every other law by 4 n/(n−5), and ρ
    of what it leaves is at most 0.85. On 12, 24 and 64 layers that follow no law (independent, persistent by 0.3 to
    0.9, random walks) one is chosen in less than 5 of 100 draws. Where RMS γ changes less than twofold, or there are
    but 12 layers, the laws differ too little for the true one to be told from the next, and mostly none is chosen. A
    smooth course of some other shape may be taken for a law.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        For each checkpoint name → ``{"parameters": {name: value}, "aicc": value, "r_squared": value, "rho": value,
        "chosen": bool}``, lowest AICc first; at most one is chosen. ``r_squared`` is 1 − Σe²/Σ(ln T − mean)², 0 where
        that is negative. None for fewer than six layers, and where RMS γ is the same in all that are fitted to the
        rounding of 32-bit gains. Zero gains are left out; ``k`` follows the layer index, so a gap counts.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> sizes = 0.9 ** torch.arange(16) * (1 + 0.01 * torch.randn(16, generator=torch.Generator().manual_seed(0)))
        >>> fits = schedules(Correlations(moments(sizes[:, None] * torch.ones(16, 4)), tuple(range(16))))[0]
        >>> next(iter(fits)), round(fits["geometric"]["parameters"]["a"], 2), fits["geometric"]["chosen"]
        ('geometric', 0.9, True)
    """
    first, last = correlations.layers[0], correlations.layers[-1]
    return over_rows(lambda kept: _schedules(kept, first, last), correlations, correlations.directed)


def _schedules(correlations: Correlations, first: int, last: int) -> list[Mapping[str, object] | None]:
    checkpoints, count = correlations.norms.shape
    if count < FEWEST_LAYERS:
        return [None] * checkpoints
    fitted = slice(1, -1) if count >= FEWEST_WITHOUT_ENDS else slice(None)
    size = correlations.norms / correlations.moments.hidden.sqrt()[:, None]
    heights = (
        size[:, fitted].detach().to("cpu", torch.float64).log()
    )  # small, and many steps: a GPU would wait for each
    means = heights.mean(dim=-1, keepdim=True)
    heights = heights - means
    same = (heights.square().mean(dim=-1) <= _ROUNDING**2).tolist()
    table = _table(correlations.layers[fitted], first, last)
    fit = _fit(heights, table)
    columns = fit._replace(levels=(fit.levels + means).clamp(-_MOST_LEVEL, _MOST_LEVEL))
    fits = zip(*(column.tolist() for column in columns), strict=True)
    return [None if flat else _document(*one, table=table) for flat, one in zip(same, fits, strict=True)]


def _document(
    levels: Sequence[float],
    rates: Sequence[float],
    criteria: Sequence[float],
    shares: Sequence[float],
    rhos: Sequence[float],
    *,
    table: _Table,
) -> Mapping[str, object]:
    """What is kept of one checkpoint's fits, each figure by law."""
    count = len(table.at)
    aicc = dict(zip(SCHEDULES, criteria, strict=True))
    best, following = sorted(SCHEDULES.keys() - {NONE}, key=lambda name: aicc[name])[:2]
    clear = aicc[NONE] - aicc[best] > CLEAR_OF_NONE
    clear = clear and aicc[following] - aicc[best] > CLEAR_OF_NEXT * count / (count - 5)
    clear = clear and dict(zip(SCHEDULES, rhos, strict=True))[best] <= MOST_LEFT
    documents = {
        name: {
            "parameters": law.named(math.exp(level), rate, table.reach),
            "aicc": aicc[name],
            "r_squared": share,
            "rho": rho,
            "chosen": clear and name == best,
        }
        for (name, law), level, rate, share, rho in zip(SCHEDULES.items(), levels, rates, shares, rhos, strict=True)
    }
    return {name: documents[name] for name in sorted(documents, key=lambda name: aicc[name])}


class _Law(NamedTuple):
    """A course of ln T over k − 1: a level, an offset that is known, and a slope that has a rate to be fitted."""

    parameters: int
    named: Callable[[float, float, float], dict[str, float]]
    offset: Callable[[Tensor], Tensor] = torch.zeros_like
    slope: Callable[[Tensor], Tensor] = torch.zeros_like


SCHEDULES: Mapping[str, _Law] = {
    NONE: _Law(3, lambda level, rate, reach: {"t0": level}),
    "geometric": _Law(4, lambda level, rate, reach: {"t0": level, "a": math.exp(rate)}, slope=torch.clone),
    # its rate is ln T(last)/T(first), on which its offset depends: searched
    "linear": _Law(4, lambda level, rate, reach: {"t0": level, "b": level * math.expm1(rate) / reach}),
    "logarithmic": _Law(3, lambda level, rate, reach: {"c": level}, offset=lambda at: -(at + 2).log().log()),
    "power": _Law(4, lambda level, rate, reach: {"t0": level, "p": rate}, slope=lambda at: -at.log1p()),
}
"""By name: number of parameters with ρ and the error's variance; from e^level, rate and k − 1 at the last layer to the
parameters by name; offset and slope over k − 1."""

_LINEAR = list(SCHEDULES).index("linear")


class _Errors(NamedTuple):
    """Errors that persist, for each ρ of the grid.

    Attributes:
        rho: Shape (ρ).
        weight: 1/√(1 − ρ^2d), 1 in the first layer, shape (ρ, layer).
        carried: ρ^d times the weight, from the second layer on, shape (ρ, layer − 1).
        own: What Q holds of the square of each residual, shape (ρ, layer).
        shared: And of its product with the next, shape (ρ, layer − 1).
        spread: Σ ln(1 − ρ^2d), shape (ρ).
        rounding: What rounding adds to Q, shape (ρ).
    """

    rho: Tensor
    weight: Tensor
    carried: Tensor
    own: Tensor
    shared: Tensor
    spread: Tensor
    rounding: Tensor

    def white(self, values: Tensor) -> Tensor:
        """Independent errors of variance one from errors, shape (…, layer), for each ρ: (…, ρ, layer)."""
        return _white(values[..., None, :], self.weight, self.carried)

    def squares(self, values: Tensor) -> Tensor:
        """Σ white², shape (…, ρ)."""
        return values.square() @ self.own.mT + (values[..., 1:] * values[..., :-1]) @ self.shared.mT

    def turned(self, white: Tensor) -> Tensor:
        """The transpose of :meth:`white` at each ρ, shape (…, ρ, layer)."""
        turned = white * self.weight
        turned[..., :-1] -= self.carried * white[..., 1:]
        return turned


def _white(values: Tensor, weight: Tensor, carried: Tensor) -> Tensor:
    white = values * weight
    white[..., 1:] -= carried * values[..., :-1]
    return white


class _Table(NamedTuple):
    """What the fits to the same layers have in common.

    Attributes:
        errors: Of the grid.
        at: k − 1, shape (layer).
        reach: k − 1 at the last layer, whether fitted or not.
        offsets: Shape (law, layer).
        slopes: Shape (law, layer), 0 where there is none.
        bases: Orthonormal white courses of level and slope, turned back, shape (law, ρ, 2, layer).
        solved: From ln T to level and rate by generalised least squares, shape (law, ρ, 2, layer).
        penalties: What AICc adds for the parameters, shape (law).
        changes: ln T(last)/T(first) of the linear law, shape (change).
        crossed: Its courses, white, less their level and turned back, at every fourth ρ, shape (ρ, change, layer).
        squares: And their squares, shape (ρ, change).
    """

    errors: _Errors
    at: Tensor
    reach: float
    offsets: Tensor
    slopes: Tensor
    bases: Tensor
    solved: Tensor
    penalties: Tensor
    changes: Tensor
    crossed: Tensor
    squares: Tensor


@lru_cache(maxsize=8)
def _table(layers: tuple[int, ...], first: int, last: int) -> _Table:
    at, reach = torch.tensor(layers, dtype=torch.float64, device="cpu") - first, float(last - first)
    errors, laws = _errors(at.diff()), SCHEDULES.values()
    slopes = torch.stack([law.slope(at) for law in laws])
    level, level_length = _unit(errors.white(torch.ones_like(at)))
    along = errors.white(slopes)
    on_level = (along * level).sum(dim=-1, keepdim=True)
    along, length = _unit(along - on_level * level)
    bases = torch.stack([errors.turned(level).expand_as(along), errors.turned(along)], dim=2)
    rate = bases[:, :, 1] / length
    changes = torch.linspace(-_LARGEST_CHANGE, _LARGEST_CHANGE, _CHANGES, dtype=at.dtype, device=at.device)
    courses = errors.white(_linear(changes, at, reach))
    courses = courses - (courses * level).sum(dim=-1, keepdim=True) * level
    m = torch.tensor([law.parameters for law in laws], dtype=at.dtype, device=at.device)
    return _Table(
        errors=errors,
        at=at,
        reach=reach,
        offsets=torch.stack([law.offset(at) for law in laws]),
        slopes=slopes,
        bases=bases,
        solved=torch.stack([(bases[:, :, 0] - on_level * rate) / level_length, rate], dim=2),
        penalties=2 * m + 2 * m * (m + 1) / (len(at) - m - 1),
        changes=changes,
        crossed=errors.turned(courses).transpose(0, 1)[::_EVERY].contiguous(),
        squares=courses.square().sum(dim=-1).mT[::_EVERY].contiguous(),
    )


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of length one, and their lengths; 0 and infinity for those without a direction."""
    length = vectors.square().sum(dim=-1, keepdim=True).sqrt()
    length = torch.where(length > 0, length, torch.inf)
    return vectors / length, length


def _errors(gaps: Tensor) -> _Errors:
    rho = torch.linspace(0, math.atanh(_MOST_RHO), _RHOS, dtype=gaps.dtype, device=gaps.device).tanh()
    carried = torch.nn.functional.pad(rho[:, None] ** gaps, (1, 0))
    left = 1 - carried.square()
    weight = left.rsqrt()
    carried = carried * weight
    return _Errors(
        rho=rho,
        weight=weight,
        carried=carried[:, 1:],
        own=weight.square() + torch.nn.functional.pad(carried.square()[:, 1:], (0, 1)),
        shared=-2 * (weight * carried)[:, 1:],
        spread=left.log().sum(dim=-1),
        rounding=_ROUNDING**2 * (weight.square() + carried.square()).sum(dim=-1),
    )


class _Fit(NamedTuple):
    """Of each law, shape (checkpoint, law)."""

    levels: Tensor
    rates: Tensor
    criteria: Tensor
    r_squared: Tensor
    rho: Tensor


def _fit(heights: Tensor, table: _Table) -> _Fit:
    """All laws.

    Args:
        heights: ln T less its mean, shape (checkpoint, layer).
        table: Of these layers.
    """
    change = _change(heights, table)
    left = heights[:, None] - table.offsets
    left[:, _LINEAR] -= _linear(change, table.at, table.reach)
    score, row = _scores(left, table.bases, table).min(dim=-1)
    solved = table.solved[torch.arange(len(SCHEDULES), device=row.device), row] @ left[..., None]
    levels, rates = solved[:, :, 0, 0], solved[:, :, 1, 0]
    residual = left - levels[..., None] - rates[..., None] * table.slopes
    rates[:, _LINEAR] = change
    whole = heights.square().sum(dim=-1, keepdim=True).clamp(min=_ROUNDING**2)
    r_squared = (1 - residual.square().sum(dim=-1) / whole).clamp(0, 1)
    return _Fit(levels, rates, score + table.penalties, r_squared, table.errors.rho[row])


def _scores(left: Tensor, bases: Tensor, table: _Table) -> Tensor:
    """AICc without the penalty, shape (checkpoint, law, ρ).

    Args:
        left: ln T less the offsets, shape (checkpoint, law, layer).
        bases: Of these laws.
        table: Of these layers.
    """
    on = (bases.flatten(1, 2) @ left[..., None]).view(*left.shape[:2], *bases.shape[1:3])
    rss = table.errors.squares(left) - on.square().sum(dim=-1)
    return _criterion(rss, table.errors.spread, table.errors.rounding, len(table.at))


def _criterion(rss: Tensor, spread: Tensor, rounding: Tensor, count: int) -> Tensor:
    return ((rss.clamp(min=0) + rounding) / count).log() * count + spread


def _linear(change: Tensor, at: Tensor, reach: float) -> Tensor:
    """ln T/T₀ of the linear law by ln T(last)/T(first)."""
    return torch.log1p(change.expm1()[:, None] / reach * at)


def _change(heights: Tensor, table: _Table) -> Tensor:
    """ln T(last)/T(first) of the linear law that fits best, shape (checkpoint): on the grid, then by Newton."""
    errors, bases = table.errors, table.bases[_LINEAR, None]
    own = errors.squares(heights)[:, ::_EVERY] - (heights @ bases[0, ::_EVERY, 0].mT).square()
    both = (heights @ table.crossed.flatten(0, 1).mT).view(-1, *table.squares.shape)
    rss = own[..., None] - 2 * both + table.squares
    spread, rounding = errors.spread[::_EVERY, None], errors.rounding[::_EVERY, None]
    best = _criterion(rss, spread, rounding, len(table.at)).flatten(1).argmin(dim=-1)
    change, row = table.changes[best % _CHANGES], best // _CHANGES * _EVERY
    for again in (False, True):  # the second time at the ρ that fits best once the change is known
        weight, carried = errors.weight[row, None], errors.carried[row, None]
        for _ in range(2):
            change = _newton(heights, change, weight, carried, table)
        if not again:
            left = heights - _linear(change, table.at, table.reach)
            row = _scores(left[:, None], bases, table)[:, 0].argmin(dim=-1)
    return change


def _newton(heights: Tensor, change: Tensor, weight: Tensor, carried: Tensor, table: _Table) -> Tensor:
    """One step: the least squares fit of the level and of the course's derivative."""
    height = 1 + change.expm1()[:, None] / table.reach * table.at
    derivative = change.exp()[:, None] / table.reach * table.at / height
    white = _white(torch.stack([heights - height.log(), derivative, torch.ones_like(height)], dim=1), weight, carried)
    (_, xd, xl), (_, dd, dl), (_, _, ll) = ((row.unbind(-1)) for row in (white @ white.mT).unbind(-2))
    return (change + (xd * ll - xl * dl) / (dd * ll - dl * dl)).clamp(-_LARGEST_CHANGE, _LARGEST_CHANGE)
