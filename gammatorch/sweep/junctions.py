"""Stretches of a run that may stand in the wrong place, and how much shorter the run is once they are put right.

A run is cut into pieces that come back in another order. At a cut c let L be what is left of it and R what is right.
What is put together anew changes the sum of the squared lengths of all steps, and as every checkpoint stands between
two both before and after, the squares of its noise fall out: of twice the products Σ L·R over the junctions as they
would be, less those as they are, the mean is that of the path alone. L and R may be means of several, where no two that
are multiplied share any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

WARM_UP = 8
"""No single checkpoint is told to lie among so many first ones: a learning rate that begins anew may take it there."""

Span = tuple[Tensor, Tensor]
"""Where checkpoints begin and end (exclusive) whose mean is taken, for every stretch."""


@dataclass(frozen=True)
class Stretch:
    """Pieces of a run whose order is turned round: one piece is read backwards, of two or three the outer ones change
    places.

    Attributes:
        cuts: Where they begin, and the last one ends.
    """

    cuts: tuple[int, ...]

    def pieces(self) -> list[range]:
        """The pieces, as they stand."""
        return [range(start, stop) for start, stop in pairwise(self.cuts)]

    def order(self) -> list[int]:
        """The places from the first cut to the last in the order in which they should stand."""
        pieces = self.pieces()
        return [*reversed(pieces[0])] if len(pieces) == 1 else [at for piece in reversed(pieces) for at in piece]

    def places(self) -> list[int]:
        """Those that stand wrong; not what lies between two, nor what is in the middle of what is read backwards."""
        stand = [at for piece in self.pieces() for at in piece]
        return [at for at, should in zip(stand, self.order(), strict=True) if at != should]

    def told(self, names: list[str]) -> str:
        """What is the matter, in a sentence.

        Args:
            names: Of all checkpoints.

        Example:
            >>> Stretch((1, 3, 4)).told(["step0", "step1", "step2", "step3", "step4"])
            'step1 to step3 are moved round by one: step3 lies before step1'
        """
        ends = [f"{names[piece[0]]} to {names[piece[-1]]}" for piece in self.pieces()]
        first, last = names[self.cuts[0]], names[self.cuts[-1] - 1]
        if len(ends) == 1:
            return f"{ends[0]} lie in reverse order"
        if self.cuts[-1] - self.cuts[-2] == 1:
            return f"{first} to {last} are moved round by one: {last} lies before {first}"
        if self.cuts[1] - self.cuts[0] == 1:
            return f"{first} to {last} are moved round by one: {first} lies after {last}"
        return f"{ends[0]} and {ends[-1]} stand in each other's place"


class Junctions:
    """Products between means of checkpoints, of which all that can be gained follows.

    Args:
        gram: Products of all checkpoints, shape (n, n), float64.
        reach: How many checkpoints on each side of a cut.
    """

    def __init__(self, gram: Tensor, reach: int) -> None:
        self._n, self._reach = len(gram), reach
        self._sums = torch.nn.functional.pad(gram.cumsum(0).cumsum(1), (1, 0, 1, 0))

    def clearest(self, count: int) -> list[tuple[float, Stretch]]:
        """What would shorten the run most, and by how much, the most first.

        Args:
            count: Of each sort, and of all.
        """
        start, stop = torch.arange(self._n)[:, None], torch.arange(self._n)
        length = stop - start
        inside = (start > 0) & (length > 2)
        middles = [
            (start + 1, inside),
            (stop - 1, inside & (start > WARM_UP)),
            ((start + stop) // 2, inside & (length % 2 == 0)),
        ]
        backwards = _most(self._backwards(start, stop), inside & (length > 3), count)
        found = [(gain, Stretch((one, other))) for gain, one, other in backwards]
        for middle, allowed in middles:
            cuts = middle.expand(length.shape)
            for gain, one, other in _most(self._beside(start, middle, stop), allowed, count):
                found.append((gain, Stretch((one, int(cuts[one, other]), other))))
        found += self._apart(count)
        return sorted(found, key=lambda one: -one[0])[:count]

    def _backwards(self, start: Tensor, stop: Tensor) -> Tensor:
        """(d − a)·(b − c), of a, b, c, d left and right of the first cut and left and right of the last."""
        half = ((stop - start) // 2).clamp(1, self._reach)
        a, d, b, c = self._left(start), self._right(stop), (start, start + half), (stop - half, stop)
        return self._of(d, b) + self._of(a, c) - self._of(d, c) - self._of(a, b)

    def _beside(self, start: Tensor, middle: Tensor, stop: Tensor) -> Tensor:
        """Two pieces next to each other."""
        one, other = (middle - start).clamp(1, self._reach), (stop - middle).clamp(1, self._reach)
        a, d = self._left(start), self._right(stop)
        b, c, e, f = (start, start + one), (middle - one, middle), (middle, middle + other), (stop - other, stop)
        new = self._of(a, e) + self._of(f, b) + self._of(c, d)
        return new - self._of(a, b) - self._of(c, e) - self._of(f, d)

    def _apart(self, count: int) -> Iterator[tuple[float, Stretch]]:
        """Two pieces of one length, others between: one crossing over where they begin, another where they end."""
        crossed: dict[int, Tensor] = {}
        for length in range(2, (self._n - 2) // 2):
            reach = min(length, self._reach)
            if reach not in crossed:
                crossed[reach] = self._crossing(reach)
            gain = crossed[reach][1 : -1 - length, 1 : -1 - length] + crossed[reach][1 + length : -1, 1 + length : -1]
            away = torch.arange(len(gain)) - torch.arange(len(gain))[:, None]
            for value, one, other in _most(gain, away >= length + reach, count):
                one, other = one + 1, other + 1
                yield value, Stretch((one, one + length, other, other + length))

    def _crossing(self, reach: int) -> Tensor:
        """(R − R')·(L' − L) of every two cuts, those at the ends of the run included."""
        cut = torch.arange(self._n + 1)
        ahead, behind = (cut, (cut + reach).clamp(max=self._n)), ((cut - reach).clamp(min=0), cut)
        of = self._of((behind[0][:, None], behind[1][:, None]), ahead)
        return of + of.T - of.diagonal()[:, None] - of.diagonal()

    def _left(self, cut: Tensor) -> Span:
        return (cut - self._reach).clamp(min=0), cut

    def _right(self, cut: Tensor) -> Span:
        return cut, (cut + self._reach).clamp(max=self._n)

    def _of(self, one: Span, other: Span) -> Tensor:
        (a, b), (c, d) = one, other
        b, d = b.clamp(max=self._n), d.clamp(max=self._n)
        a, c = a.clamp(min=0), c.clamp(min=0)
        sums = self._sums
        return (sums[b, d] - sums[a, d] - sums[b, c] + sums[a, c]) / ((b - a) * (d - c)).clamp(min=1)


def _most(table: Tensor, allowed: Tensor, count: int) -> Iterator[tuple[float, int, int]]:
    """The largest entries of a table that are above zero, with their row and column."""
    values, places = torch.where(allowed & (table > 0), table, 0).flatten().topk(min(count, table.numel()))
    for value, flat in zip(values.tolist(), places.tolist(), strict=True):
        if value > 0:
            yield value, flat // table.shape[1], flat % table.shape[1]
