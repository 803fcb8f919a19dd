"""Which annealing schedule the size of the gain follows over depth, if any."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gammatorch.analysis.correlations import Correlations, over_rows
from gammatorch.analysis.host import Array

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


def schedules(correlations: Correlations) -> Mapping[str, object] | None:
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
        correlations: Of one checkpoint.

    Returns:
        Name → ``{"parameters": {name: value}, "aicc": value, "r_squared": value, "rho": value,
        "chosen": bool}``, lowest AICc first; at most one is chosen. ``r_squared`` is 1 − Σe²/Σ(ln T − mean)², 0 where
        that is negative. None for fewer than six layers, and where RMS γ is the same in all that are fitted to the
        rounding of 32-bit gains. Zero gains are left out; ``k`` follows the layer index, so a gap counts.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> sizes = 0.9 ** torch.arange(16) * (1 + 0.01 * torch.randn(16, generator=torch.Generator().manual_seed(0)))
        >>> taken = moments(sizes[:, None] * torch.ones(16, 4)).home()[0]
        >>> fits = schedules(Correlations(taken, tuple(range(16))))
        >>> next(iter(fits)), round(fits["geometric"]["parameters"]["a"], 2), fits["geometric"]["chosen"]
        ('geometric', 0.9, True)
    """
    first, last = correlations.layers[0], correlations.layers[-1]
    return over_rows(lambda kept: _schedules(kept, first, last), correlations, correlations.directed)


def _schedules(correlations: Correlations, first: int, last: int) -> Mapping[str, object] | None:
    count = len(correlations.layers)
    if count < FEWEST_LAYERS:
        return None
    fitted = slice(1, -1) if count >= FEWEST_WITHOUT_ENDS else slice(None)
    heights = np.log(correlations.norms[fitted] / math.sqrt(correlations.moments.hidden))
    mean = heights.mean()
    heights -= mean
    if np.square(heights).mean() <= _ROUNDING**2:
        return None
    table = _table(correlations.layers[fitted], first, last)
    fit = _fit(heights, table)
    return _document(fit._replace(levels=(fit.levels + mean).clip(-_MOST_LEVEL, _MOST_LEVEL)), table)


def _document(fit: _Fit, table: _Table) -> Mapping[str, object]:
    """What is kept of the fits."""
    count = len(table.at)
    laws = zip(SCHEDULES, *(column.tolist() for column in fit), strict=True)
    by_aicc = sorted(laws, key=lambda law: law[3])
    aicc = {name: criterion for name, _, _, criterion, _, _ in by_aicc}
    best, following = [law for law in by_aicc if law[0] != NONE][:2]
    clear = aicc[NONE] - best[3] > CLEAR_OF_NONE
    clear = clear and following[3] - best[3] > CLEAR_OF_NEXT * count / (count - 5)
    clear = clear and best[5] <= MOST_LEFT
    return {
        name: {
            "parameters": SCHEDULES[name].named(math.exp(level), rate, table.reach),
            "aicc": criterion,
            "r_squared": share,
            "rho": rho,
            "chosen": clear and name == best[0],
        }
        for name, level, rate, criterion, share, rho in by_aicc
    }


class _Law(NamedTuple):
    """A course of ln T over k − 1: a level, an offset that is known, and a slope that has a rate to be fitted."""

    parameters: int
    named: Callable[[float, float, float], dict[str, float]]
    offset: Callable[[Array], Array] = np.zeros_like
    slope: Callable[[Array], Array] = np.zeros_like


SCHEDULES: Mapping[str, _Law] = {
    NONE: _Law(3, lambda level, rate, reach: {"t0": level}),
    "geometric": _Law(4, lambda level, rate, reach: {"t0": level, "a": math.exp(rate)}, slope=np.copy),
    # its rate is ln T(last)/T(first), on which its offset depends: searched
    "linear": _Law(4, lambda level, rate, reach: {"t0": level, "b": level * math.expm1(rate) / reach}),
    "logarithmic": _Law(3, lambda level, rate, reach: {"c": level}, offset=lambda at: -np.log(np.log(at + 2))),
    "power": _Law(4, lambda level, rate, reach: {"t0": level, "p": rate}, slope=lambda at: -np.log1p(at)),
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

    rho: Array
    weight: Array
    carried: Array
    own: Array
    shared: Array
    spread: Array
    rounding: Array

    def white(self, values: Array) -> Array:
        """Independent errors of variance one from errors, shape (…, layer), for each ρ: (…, ρ, layer)."""
        return _white(values[..., None, :], self.weight, self.carried)

    def squares(self, values: Array) -> Array:
        """Σ white², shape (…, ρ)."""
        return np.asarray(np.square(values) @ self.own.T + (values[..., 1:] * values[..., :-1]) @ self.shared.T)

    def turned(self, white: Array) -> Array:
        """The transpose of :meth:`white` at each ρ, shape (…, ρ, layer)."""
        turned = white * self.weight
        turned[..., :-1] -= self.carried * white[..., 1:]
        return turned


def _white(values: Array, weight: Array, carried: Array) -> Array:
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
    at: Array
    reach: float
    offsets: Array
    slopes: Array
    bases: Array
    solved: Array
    penalties: Array
    changes: Array
    crossed: Array
    squares: Array


@lru_cache(maxsize=8)
def _table(layers: tuple[int, ...], first: int, last: int) -> _Table:
    at, reach = np.array(layers, dtype=np.float64) - first, float(last - first)
    errors, laws = _errors(np.diff(at)), SCHEDULES.values()
    slopes = np.stack([law.slope(at) for law in laws])
    level, level_length = _unit(errors.white(np.ones_like(at)))
    along = errors.white(slopes)
    on_level = (along * level).sum(axis=-1, keepdims=True)
    along, length = _unit(along - on_level * level)
    bases = np.stack([np.broadcast_to(errors.turned(level), along.shape), errors.turned(along)], axis=2)
    rate = bases[:, :, 1] / length
    changes = np.linspace(-_LARGEST_CHANGE, _LARGEST_CHANGE, _CHANGES)
    courses = errors.white(_linear(changes[:, None], at, reach))
    courses = courses - (courses * level).sum(axis=-1, keepdims=True) * level
    m = np.array([law.parameters for law in laws])
    return _Table(
        errors=errors,
        at=at,
        reach=reach,
        offsets=np.stack([law.offset(at) for law in laws]),
        slopes=slopes,
        bases=bases,
        solved=np.stack([(bases[:, :, 0] - on_level * rate) / level_length, rate], axis=2),
        penalties=2 * m + 2 * m * (m + 1) / (len(at) - m - 1),
        changes=changes,
        crossed=errors.turned(courses).swapaxes(0, 1)[::_EVERY].copy(),
        squares=np.square(courses).sum(axis=-1).T[::_EVERY].copy(),
    )


def _unit(vectors: Array) -> tuple[Array, Array]:
    """Vectors of length one, and their lengths; 0 and infinity for those without a direction."""
    length = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    length = np.where(length > 0, length, np.inf)
    return vectors / length, length


def _errors(gaps: Array) -> _Errors:
    rho = np.tanh(np.linspace(0, math.atanh(_MOST_RHO), _RHOS))
    carried = np.pad(rho[:, None] ** gaps, ((0, 0), (1, 0)))
    left = 1 - np.square(carried)
    weight = 1 / np.sqrt(left)
    carried = carried * weight
    return _Errors(
        rho=rho,
        weight=weight,
        carried=carried[:, 1:],
        own=np.square(weight) + np.pad(np.square(carried)[:, 1:], ((0, 0), (0, 1))),
        shared=-2 * (weight * carried)[:, 1:],
        spread=np.log(left).sum(axis=-1),
        rounding=_ROUNDING**2 * (np.square(weight) + np.square(carried)).sum(axis=-1),
    )


class _Fit(NamedTuple):
    """Of each law, shape (law)."""

    levels: Array
    rates: Array
    criteria: Array
    r_squared: Array
    rho: Array


def _fit(heights: Array, table: _Table) -> _Fit:
    """All laws, for ln T less its mean, shape (layer)."""
    change = _change(heights, table)
    left = heights - table.offsets
    left[_LINEAR] -= _linear(change, table.at, table.reach)
    scores = _scores(left, table.bases, table)
    row, laws = scores.argmin(axis=-1), np.arange(len(SCHEDULES))
    levels, rates = np.matmul(table.solved[laws, row], left[..., None])[..., 0].T
    residual = left - levels[:, None] - rates[:, None] * table.slopes
    rates[_LINEAR] = change
    whole = max(float(np.vdot(heights, heights)), _ROUNDING**2)
    r_squared = (1 - np.square(residual).sum(axis=-1) / whole).clip(0, 1)
    return _Fit(levels, rates, scores[laws, row] + table.penalties, r_squared, table.errors.rho[row])


def _scores(left: Array, bases: Array, table: _Table) -> Array:
    """AICc without the penalty, shape (law, ρ), from ln T less the offsets, shape (law, layer)."""
    on = np.matmul(bases, left[:, None, :, None])[..., 0]
    rss = table.errors.squares(left) - np.square(on).sum(axis=-1)
    return _criterion(rss, table.errors.spread, table.errors.rounding, len(table.at))


def _criterion(rss: Array, spread: Array, rounding: Array, count: int) -> Array:
    return np.asarray(np.log((rss.clip(min=0) + rounding) / count) * count + spread)


def _linear(change: Array | float, at: Array, reach: float) -> Array:
    """ln T/T₀ of the linear law by ln T(last)/T(first)."""
    return np.log1p(np.expm1(change) / reach * at)


def _change(heights: Array, table: _Table) -> float:
    """ln T(last)/T(first) of the linear law that fits best: on the grid, then by Newton."""
    errors, bases = table.errors, table.bases[_LINEAR, None]
    own = errors.squares(heights)[::_EVERY] - np.square(bases[0, ::_EVERY, 0] @ heights)
    rss = own[:, None] - 2 * (table.crossed @ heights) + table.squares
    spread, rounding = errors.spread[::_EVERY, None], errors.rounding[::_EVERY, None]
    best, on_grid = divmod(int(_criterion(rss, spread, rounding, len(table.at)).argmin()), _CHANGES)
    change, row = float(table.changes[on_grid]), best * _EVERY
    for again in (False, True):  # the second time at the ρ that fits best once the change is known
        for _ in range(2):
            change = _newton(heights, change, errors.weight[row], errors.carried[row], table)
        if not again:
            left = heights - _linear(change, table.at, table.reach)
            row = int(_scores(left[None], bases, table)[0].argmin())
    return change


def _newton(heights: Array, change: float, weight: Array, carried: Array, table: _Table) -> float:
    """One step: the least squares fit of the level and of the course's derivative."""
    height = 1 + math.expm1(change) / table.reach * table.at
    derivative = math.exp(change) / table.reach * table.at / height
    white = _white(np.stack([heights - np.log(height), derivative, np.ones_like(height)]), weight, carried)
    (_, xd, xl), (_, dd, dl), (_, _, ll) = (white @ white.T).tolist()
    step: float = (xd * ll - xl * dl) / (dd * ll - dl * dl)
    return min(max(change + step, -_LARGEST_CHANGE), _LARGEST_CHANGE)
