"""The original script's arithmetic in NumPy float64, step by step and slow: what our results are held against.

Imports nothing of the rest of the package, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def analyze(gains: npt.ArrayLike, phases: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
    """Every figure of the analysis, by its JSON name.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).
        phases: Row numbers of each phase.

    Returns:
        Arrays: ``norms, cosine, cos_adjacent, singular_values, explained_var, proj_top1, residual_top1, pearson,
        cos_ones, shared_projection``; ``shared_energy``; ``phases`` as a list of dicts. The sign of an axis makes
        the entry of its left vector that is largest in magnitude positive.

    Example:
        >>> analyze([[3.0, 4.0], [4.0, 3.0]])["norms"]
        array([5., 5.])
    """
    x: Array = np.asarray(gains, dtype=np.float64)
    norms = np.sqrt((x * x).sum(axis=1))
    units = x / norms[:, None]
    cosine = units @ units.T
    left, singular_values, right = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
    proj_top1 = units @ right[0] * _sign(left[:, 0])
    left_all, shared_values, right_all = np.linalg.svd(units, full_matrices=False)
    shared_projection = units @ right_all[0] * _sign(left_all[:, 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        explained_var = singular_values**2 / (singular_values**2).sum()
        pearson = np.atleast_2d(np.corrcoef(x))
    return {
        "norms": norms,
        "cosine": cosine,
        "cos_adjacent": np.diagonal(cosine, 1),
        "singular_values": singular_values,
        "explained_var": explained_var,
        "proj_top1": proj_top1,
        "residual_top1": np.sqrt(np.maximum(1 - proj_top1**2, 0)),
        "pearson": pearson,
        "cos_ones": units.sum(axis=1) / np.sqrt(x.shape[1]),
        "shared_energy": float(shared_values[0] ** 2 / len(x)),
        "shared_projection": shared_projection,
        "phases": [_phase(name, list(rows), norms, units) for name, rows in (phases or {}).items()],
    }


def _sign(left: Array) -> float:
    """Makes the entry of largest magnitude positive, the first of those within 1e-6 of it."""
    size = np.abs(left)
    return float(np.sign(left[np.argmax(size >= size.max() * (1 - 1e-6))]))


def _phase(name: str, rows: list[int], norms: Array, units: Array) -> dict[str, Any]:
    others = [row for row in range(len(units)) if row not in rows]
    inside = units[rows] @ units[rows].T
    pairs = inside[np.triu_indices(len(rows), k=1)]
    return {
        "name": name,
        "n": len(rows),
        "norm_mean": float(norms[rows].mean()),
        "norm_std": float(norms[rows].std()),
        "intra_cos": float(pairs.mean()) if len(pairs) else None,
        "vs_other_cos": float((units[rows] @ units[others].T).mean()) if others else None,
    }


def statistics(gains: npt.ArrayLike, blocks: int = 32, t: float = 2.0395134464) -> dict[str, Any]:
    """The statistics of the analysis, from the gains themselves, runs of channels left out by leaving them out.

    Args:
        gains: Gain vectors γ, shape (layer, hidden), none constant.
        blocks: Runs of channels of the jackknife.
        t: Student's quantile for ``blocks - 1`` degrees of freedom.

    Returns:
        ``shared_energy, mean_pearson, effective_dimension`` as ``value, low, high``; ``depth_profile,
        first_eigenvalue, effective_rank, schedules``; of normal scores ``rank_correlation`` and ``depth_contrast``.

    Example:
        >>> gains = np.arange(64.0) + np.random.default_rng(0).standard_normal((8, 64))
        >>> round(statistics(gains)["mean_pearson"]["value"], 2)
        1.0
    """
    x: Array = np.asarray(gains, dtype=np.float64)
    layers, hidden = x.shape[0], x.shape[1]
    edges = [0, *np.cumsum([len(run) for run in np.array_split(np.arange(hidden), blocks)])]
    left_out = [np.delete(x, np.s_[start:stop], axis=1) for start, stop in itertools.pairwise(edges)]
    pearson: Array = np.asarray(np.corrcoef(x), dtype=np.float64)
    share = np.maximum(np.linalg.eigvalsh(pearson), 0) / layers
    profile = [float(np.diagonal(pearson, lag).mean()) for lag in range(1, layers)]
    ranks: Array = np.asarray(np.corrcoef(normal_scores(x)), dtype=np.float64)
    lag = np.abs(np.subtract.outer(np.arange(layers), np.arange(layers)))
    near, far = ranks[(lag > 0) & (lag <= 2)].mean(), ranks[lag >= max(2, -(-layers // 2))].mean()
    axis = np.linalg.eigh(_cosine(x))[1][:, -1]
    bounds = {
        "shared_energy": (lambda y: axis @ _cosine(y) @ axis / layers, 1 / layers, 1.0),
        "effective_dimension": (_participation, 1.0, float(layers)),
    }
    means = [np.corrcoef(part)[np.triu_indices(layers, 1)].mean() for part in (x, *left_out)]
    excess = {"effective_dimension": _counted_twice(pearson, left_out)}
    return {
        **{
            name: _jackknife(figure, x, left_out, t, least, most, excess.get(name, 0.0))
            for name, (figure, least, most) in bounds.items()
        },
        "mean_pearson": _on_fishers_scale(np.array(means), t),
        "depth_profile": np.array(profile),
        "first_eigenvalue": float(np.linalg.eigvalsh(ranks)[-1]),
        "rank_correlation": ranks,
        "effective_rank": float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())),
        "depth_contrast": {"near": near, "far": far, "value": near - far},
        "schedules": _schedules(np.log(np.sqrt((x * x).mean(axis=1)))),
    }


def _cosine(x: Array) -> Array:
    units = x / np.sqrt((x * x).sum(axis=1))[:, None]
    return np.asarray(units @ units.T)


def _participation(x: Array) -> float:
    layers, hidden = x.shape
    squares = np.atleast_2d(np.corrcoef(x))[np.triu_indices(layers, 1)] ** 2
    adjusted = (1 - (1 - squares) * (hidden - 1) / (hidden - 2)).mean()
    return float(layers / (1 + (layers - 1) * adjusted))


def normal_scores(gains: npt.ArrayLike) -> Array:
    """Normal quantile of r / (H + 1) of each gain's rank r within its layer, the mean rank of those that are equal.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Example:
        >>> normal_scores([[5.0, 1.0, 900.0, 1.0]]).round(3)
        array([[ 0.253, -0.524,  0.842, -0.524]])
    """
    x: Array = np.asarray(gains, dtype=np.float64)
    quantile = np.vectorize(NormalDist().inv_cdf)
    scores = np.empty_like(x)
    for row, layer in enumerate(x):
        _, which, counts = np.unique(layer, return_inverse=True, return_counts=True)
        ranks = np.cumsum(counts) - (counts - 1) / 2
        scores[row] = quantile(ranks / (len(layer) + 1))[which]
    return scores


def _on_fishers_scale(values: Array, t: float) -> dict[str, float]:
    """A mean correlation, then without each run of channels, with its bounds about itself."""
    value, without = np.arctanh(values[0]), np.arctanh(values[1:])
    blocks = len(without)
    half = t * np.sqrt((blocks - 1) / blocks * ((without - without.mean()) ** 2).sum())
    return {"value": float(values[0]), "low": float(np.tanh(value - half)), "high": float(np.tanh(value + half))}


def _counted_twice(pearson: Array, left_out: list[Array]) -> float:
    """What the jackknife counts twice of the variance of the effective dimension, run by run."""
    layers, hidden = len(pearson), sum(part.shape[1] for part in left_out) // (len(left_out) - 1)
    upper = np.triu_indices(layers, 1)
    moved = np.array([np.atleast_2d(np.corrcoef(part))[upper] for part in left_out])
    moved -= moved.mean(axis=0)
    twice = sum(2 * (b @ c / len(upper[0])) ** 2 for n, b in enumerate(moved) for m, c in enumerate(moved) if n != m)
    adjusted = (1 - (1 - pearson[upper] ** 2) * (hidden - 1) / (hidden - 2)).mean()
    slope = layers * (layers - 1) / (1 + (layers - 1) * adjusted) ** 2
    return float(twice * slope**2)


def _jackknife(
    figure: Callable[[Array], float],
    x: Array,
    left_out: list[Array],
    t: float,
    least: float,
    most: float,
    excess: float,
) -> dict[str, float]:
    value, without = float(figure(x)), np.array([figure(part) for part in left_out])
    blocks = len(without)
    variance = (blocks - 1) / blocks * ((without - without.mean()) ** 2).sum()
    half = t * np.sqrt(max(variance - excess, variance / 2))
    value = float(np.clip(value, least, most))
    low, high = np.clip([value - half, value + half], least, most)
    return {"value": value, "low": float(low), "high": float(high)}


def _schedules(heights: Array) -> dict[str, dict[str, float]]:
    """AICc of each schedule of eight layers or more, by generalised least squares on ln RMS γ without its ends."""
    reach = len(heights) - 1.0
    at, y = np.arange(1.0, reach), heights[1:-1]
    n, one = len(y), np.ones_like(y)
    changes = np.linspace(-4, 4, 161)
    laws = {
        "none": ([one], [0 * at], 3),
        "geometric": ([one, at], [0 * at], 4),
        "linear": ([one], [np.log(1 + np.expm1(change) / reach * at) for change in changes], 4),
        "logarithmic": ([one], [-np.log(np.log(at + 2))], 3),
        "power": ([one, np.log(at + 1)], [0 * at], 4),
    }
    lowest = dict.fromkeys(laws, np.inf)
    for rho in np.tanh(np.linspace(0, np.arctanh(0.99), 48)):
        factor = np.linalg.cholesky(rho ** np.abs(at[:, None] - at))
        determinant = 2 * np.log(np.diagonal(factor)).sum()
        for name, (columns, offsets, _) in laws.items():
            x = np.linalg.solve(factor, np.stack(columns, axis=1))
            rss = _residuals(x, np.linalg.solve(factor, (y - np.array(offsets)).T))
            place, width = int(rss.argmin()), float(changes[1] - changes[0])
            centre = float(changes[place])
            while len(offsets) > 1 and width > 1e-9:  # a finer grid about the best, and again
                finer = np.clip(np.linspace(centre - width, centre + width, 21), -4, 4)
                courses = np.log(1 + np.expm1(finer)[:, None] / reach * at)
                rss = _residuals(x, np.linalg.solve(factor, (y - courses).T))
                centre, width = float(finer[rss.argmin()]), width / 10
            lowest[name] = min(lowest[name], float(n * np.log(rss.min() / n) + determinant))
    return {name: {"aicc": lowest[name] + 2 * m + 2 * m * (m + 1) / (n - m - 1)} for name, (_, _, m) in laws.items()}


def _residuals(columns: Array, heights: Array) -> Array:
    """Sum of squares that least squares leave of each column of heights."""
    left = heights - columns @ np.linalg.lstsq(columns, heights, rcond=None)[0]
    return np.asarray((left**2).sum(axis=0))
