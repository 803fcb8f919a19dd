"""What a judge could tell of the order of checkpoints who knew how their training run was drawn.

The runs of tests/sweep/runs.py are Gaussian: gains less those at the start, each layer divided by its pace, have the
same covariance C between checkpoints in every channel; along the directions of wandering, where these are few, another.
Rounding counts as noise of its variance, spacing² / 12, of each checkpoint's own. By the lemma of Neyman and Pearson no
test of "two are exchanged" against "none is" does better than log p(put right | C) − log p(as it stands | C), and an
honest run lets it exceed t with odds of no more than exp(−t) for each pair.

Two judges:

* who knows **all**, the learning rate at every checkpoint included;
* who knows **all but the rates**, and must hold an exchange against honest runs under any schedule: max over rates of
  log p(put right | C of the rates) − max over rates of log p(as it stands | C of the rates). What this one does not
  see looks like an honest run of the same kind under another schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.sweep.runs import Begun, Kind, begin, covariances

Pair = tuple[int, int]

_ITERATIONS = 100
"""Of the search for the rates under which an honest run is likeliest."""


@dataclass(frozen=True, eq=False)
class Judge:
    """One who knows how a run was drawn.

    Attributes:
        kind: How it trains.
        run: As it was begun.
        products: Of the gains of each part between checkpoints, the first left out, shape (part, n - 1, n - 1).
        channels: Number of channels in each part, shape (part).
        wandering: How far each wanders, squared, in units of its kind's, shape (part).
        rounding: Variance of what rounding does to each, shape (part).
    """

    kind: Kind
    run: Begun
    products: Tensor
    channels: Tensor
    wandering: Tensor
    rounding: Tensor

    def log_odds(self) -> Tensor:
        """Of every exchange against the order in which the checkpoints stand, all known, shape (n, n)."""
        covariance = self._covariance(torch.from_numpy(self.run.rates))
        inverse = _levels(torch.linalg.inv(_increments(covariance)))
        odds = torch.zeros(len(self.run.steps), len(self.run.steps), dtype=torch.float64)
        odds[1:, 1:] = -sum(map(_exchange, inverse, self.products)) / 2
        return odds

    def log_odds_without_rates(self, pair: Pair) -> float:
        """Of an exchange under the rates that suit it best, against the honest run of the rates that suit it best."""
        rates = torch.from_numpy(self.run.rates).clamp(min=1e-6)
        put_right = _exchanged(self.products, *(place - 1 for place in pair))
        honest = max(self._likeliest(start, self.products) for start in (rates, _swapped(rates, pair)))
        return float(self._likeliest(rates, put_right) - honest)

    def _likeliest(self, start: Tensor, products: Tensor) -> Tensor:
        logs = start.log().requires_grad_()
        search = torch.optim.LBFGS(
            [logs], max_iter=_ITERATIONS, history_size=50, line_search_fn="strong_wolfe", tolerance_change=1e-8
        )

        def loss() -> Tensor:
            search.zero_grad()
            value = -self._log_likelihood(logs.exp(), products) / self.channels.sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        search.step(loss)
        with torch.no_grad():
            return self._log_likelihood(logs.exp(), products)

    def _log_likelihood(self, rates: Tensor, products: Tensor) -> Tensor:
        """Of increments, which are alike in size where levels are not; the two have the same density."""
        covariance = _increments(self._covariance(rates))
        scale = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        square = scale[:, :, None] * scale[:, None, :]
        factor = torch.linalg.cholesky(covariance / square)
        distance = torch.cholesky_solve(_increments(products) / square, factor).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        spread = (factor.diagonal(dim1=-2, dim2=-1).log() + scale.log()).sum(dim=-1)
        return -(distance / 2 + self.channels * spread).sum()

    def _covariance(self, rates: Tensor) -> Tensor:
        """Between checkpoints, the first left out, shape (part, n - 1, n - 1)."""
        common, wandering = covariances(self.kind, self.run.steps, rates)
        own = torch.eye(len(rates) - 1, dtype=torch.float64)
        parts = self.wandering[:, None, None] * wandering[1:, 1:] + self.rounding[:, None, None] * own
        return common[1:, 1:] + parts


def judge(kind: Kind, seed: int, stored: list[Tensor]) -> Judge:
    """The judge of a run.

    Args:
        kind: How it trains.
        seed: It was drawn with.
        stored: Its gains as they stand, in whatever order.
    """
    run = begin(kind, seed, len(stored), *stored[0].shape)
    gains = torch.stack(stored[1:]).double()
    spacing = torch.finfo(kind.dtype).eps * 2 ** gains[0].abs().log2().floor()
    pace = torch.from_numpy(run.pace)
    rounding = (spacing / pace).square().mean(dim=-1) / 12
    gains = (gains - torch.from_numpy(run.gamma)) / pace
    products = torch.einsum("nlc,mlc->lnm", gains, gains)
    channels = torch.full(run.pace.shape[:1], float(gains.shape[-1]), dtype=torch.float64)
    if not kind.directions:
        return Judge(kind, run, products, channels, torch.ones_like(rounding), rounding)
    _, lengths, axes = np.linalg.svd(run.axes.reshape(kind.directions, -1), full_matrices=False)
    along = gains.flatten(1) @ torch.from_numpy(axes.T)
    beside = gains - (along @ torch.from_numpy(axes)).reshape(gains.shape)
    products = torch.cat([torch.einsum("nlc,mlc->lnm", beside, beside), torch.einsum("nk,mk->knm", along, along)])
    few, squares = torch.ones(kind.directions, dtype=torch.float64), torch.from_numpy(lengths**2)
    channels = torch.cat([channels - kind.directions / len(channels), few])
    wandering = torch.cat([torch.zeros_like(rounding), squares])
    return Judge(kind, run, products, channels, wandering, torch.cat([rounding, rounding.mean() * few]))


def _increments(products: Tensor) -> Tensor:
    """Products between the steps from each checkpoint to the next, from those between checkpoints."""
    return torch.nn.functional.pad(products, (1, 0, 1, 0)).diff(dim=-1).diff(dim=-2)


def _levels(inverse: Tensor) -> Tensor:
    """Inverse of products between checkpoints, from that of products between steps."""
    return torch.nn.functional.pad(inverse, (0, 1, 0, 1)).diff(dim=-1).diff(dim=-2)


def _exchange(inverse: Tensor, products: Tensor) -> Tensor:
    """By how much tr(A S) grows where rows and columns i and j of S are exchanged, for all i and j.

    An exchange is the reflection P = 1 − u uᵀ with u = e_i − e_j, so tr(A P S P) − tr(A S) = uᵀS u · uᵀA u − 2 uᵀS A u.
    """
    return _squares(products) * _squares(inverse) - 2 * _squares(products @ inverse)


def _squares(matrix: Tensor) -> Tensor:
    """uᵀ M u of all u = e_i − e_j."""
    own = matrix.diagonal()
    return own[:, None] + own - matrix - matrix.T


def _exchanged(products: Tensor, one: int, other: int) -> Tensor:
    order = list(range(products.shape[-1]))
    order[one], order[other] = other, one
    return products[:, order][:, :, order]


def _swapped(rates: Tensor, pair: Pair) -> Tensor:
    swapped = rates.clone()
    swapped[list(pair)] = rates[list(pair[::-1])]
    return swapped
