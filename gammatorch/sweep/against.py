"""Ways that go against each other where a stretch of checkpoints stands in a wrong place.

Let a and d be what lies before and after a stretch. Its mean noise-free product is (d − a)·(c − b), as in order.py, of
any b and c of the stretch, b before c; in none of the products below is the noise of a checkpoint squared:

* **Backwards**: from the first to the last against the way from a to the middle, and against that from there to d, for
  a rate that leaps up and decays is near one of them only; so in each third; and both lie beyond the mean.
* **Two pieces beside each other**, each as long as the other: from the first of one to the first of the other, and from
  the last to the last; what is inside them goes on, and the first and last of each lie beyond the mean of the other.
* **One moved round**, past p … q: from it to all of them; and it lies before p. It lies before them in the second half
  of the way, too, which one that is off as the first of a run were, as when a learning rate begins anew, does not. And
  nothing is left out where it stands, as there is where a checkpoint of another step or run has taken one's place.
* **Two pieces apart**: the way from one to the other goes against that of what is left of each, where they begin, and
  against that of what is right of each, where they end; the first and last of each lie beyond the mean of the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gammatorch.sweep.contrasts import NEIGHBOURS_SURE, SURE
from gammatorch.sweep.course import cosine, mean
from gammatorch.sweep.junctions import Stretch

ALSO_SURE = 3.0
"""So many standard errors the other products must be below zero where the first is by six: each of n² / 2 stretches is
told by the first alone by chance with odds of 2e-8. Where two are asked for, they are by five: 1e-11 for each of the
n³ / 12 pairs of pieces apart."""

Product = tuple[Tensor, Tensor, float]
"""Two ways that go against each other, and by how many standard errors they must."""


def products_of(path: Tensor, stretch: Stretch, reach: int) -> list[Product]:
    """All that must be below zero for a stretch to be wrong; the first, of which most is asked, comes first.

    Args:
        path: Checkpoints in their order, shape (n, layer, dim).
        stretch: What may be wrong.
        reach: How many neighbours are taken together on each side.
    """
    pieces = stretch.pieces()
    if len(pieces) == 3:
        return _apart(path, pieces[0], pieces[2], min(reach, len(pieces[0])))
    start, stop = stretch.cuts[0], stretch.cuts[-1]
    a, d = _mean(path, range(start - reach, start)), _mean(path, range(stop, stop + reach))
    if len(pieces) == 1:
        return _backwards(path, pieces[0], a, d, reach)
    one, other = pieces
    if len(one) == len(other):
        return _beside(path, one, other, d - a, reach)
    lone = _last_is_first(path, one, a, d, reach) if len(other) == 1 else _first_is_last(path, other, a, d, reach)
    left = _nothing_left_out(path, other.start if len(other) == 1 else one.start)
    return [(d - a, _mean(path, other) - _mean(path, one), SURE), *lone, *left]


def _beside(path: Tensor, one: range, other: range, axis: Tensor, reach: int) -> list[Product]:
    few = min(reach, len(one) // 2)
    begins = _mean(path, other[:few]) - _mean(path, one[:few])
    ends = _mean(path, other[-few:]) - _mean(path, one[-few:])
    inside = _way(path, one, len(one)) + _way(path, other, len(one))
    both = [(axis, begins, NEIGHBOURS_SURE), (axis, ends, NEIGHBOURS_SURE)]
    return [*both, (axis, -inside, ALSO_SURE), *_beyond(path, one, other, axis)]


def _last_is_first(path: Tensor, passed: range, a: Tensor, d: Tensor, reach: int) -> list[Product]:
    """Of x after p, q …: it lies before the end also on the way from the middle to d; and before p, from a to q."""
    near, far = _halves(_halves(passed)[1] if len(passed) > 3 else passed)
    x, p = path[passed.stop].double(), path[passed.start].double()
    q = _mean(path, passed[1 : 1 + reach])
    return [(d - _mean(path, near), x - _mean(path, far), ALSO_SURE), (q - a, x - p, ALSO_SURE)]


def _first_is_last(path: Tensor, passed: range, a: Tensor, d: Tensor, reach: int) -> list[Product]:
    """Of x before … p, q: it lies after the start also on the way from a to the middle; and after q, from p to d."""
    near, far = _halves(_halves(passed)[0] if len(passed) > 3 else passed)
    x, q = path[passed.start - 1].double(), path[passed.stop - 1].double()
    p = _mean(path, passed[:-1][-reach:])
    return [(_mean(path, far) - a, _mean(path, near) - x, ALSO_SURE), (d - p, q - x, ALSO_SURE)]


def _nothing_left_out(path: Tensor, place: int) -> list[Product]:
    """The way over a place is no longer than those beside it, so that nothing but what stands there is missing there.

    Of a, b and c, d around it that is (d − a)·(c − b), of which no noise is squared. Were the true one left out, it
    would be twice as much as of others, where the run wanders or drifts; half as much again is between.
    """
    at = [place + away for away in (-3, -2, -1, 1, 2, 3)]
    if at[0] < 0 or at[-1] >= len(path):
        return [(path[0].double(), path[0].double(), ALSO_SURE)]
    a, b, c, d, e, f = path[at].double()
    more = (d - c) * (e - b) - 0.75 * ((c - b) * (d - a) + (e - d) * (f - c))
    return [(torch.ones_like(more), more, ALSO_SURE)]


def _backwards(path: Tensor, piece: range, a: Tensor, d: Tensor, reach: int) -> list[Product]:
    third, short = max(2, len(piece) // 3), len(piece) // 3
    at = (len(piece) - third) // 2
    middle, whole = _mean(path, piece[short : len(piece) - short]), _mean(path, piece)
    way = _mean(path, piece[len(piece) - min(short, reach) :]) - _mean(path, piece[: min(short, reach)])
    outer = _way(path, piece[:third], reach) + _way(path, piece[-third:], reach)
    ways = [outer, _way(path, piece[at : at + third], reach)]
    ways += [whole - path[piece[0]].double(), path[piece[-1]].double() - whole]
    both = [(middle - a, way, NEIGHBOURS_SURE), (d - middle, way, NEIGHBOURS_SURE)]
    return both + [(d - a, way, ALSO_SURE) for way in ways]


def _apart(path: Tensor, one: range, other: range, reach: int) -> list[Product]:
    left = [_mean(path, range(piece.start - reach, piece.start)) for piece in (one, other)]
    right = [_mean(path, range(piece.stop, piece.stop + reach)) for piece in (one, other)]
    begins = _mean(path, other[:reach]) - _mean(path, one[:reach])
    ends = _mean(path, other[-reach:]) - _mean(path, one[-reach:])
    crossed = [(left[1] - left[0], begins, NEIGHBOURS_SURE), (right[1] - right[0], ends, NEIGHBOURS_SURE)]
    return [*crossed, *_beyond(path, one, other, left[1] + right[1] - left[0] - right[0])]


def _beyond(path: Tensor, one: range, other: range, axis: Tensor) -> list[Product]:
    """The first and last of each piece against the mean of the other."""
    near, far = _mean(path, one), _mean(path, other)
    ways = [far - path[at].double() for at in (one[0], one[-1])] + [
        path[at].double() - near for at in (other[0], other[-1])
    ]
    return [(axis, way, ALSO_SURE) for way in ways]


def _mean(path: Tensor, places: range) -> Tensor:
    return mean(path, [*places])


def _halves(piece: range) -> tuple[range, range]:
    """The first and the second half, without the one in the middle."""
    half = len(piece) // 2
    return piece[:half], piece[len(piece) - half :]


def _way(path: Tensor, piece: range, reach: int) -> Tensor:
    """From the first to the last of a piece, so many taken together, half of it at most."""
    near, far = _halves(piece)
    return _mean(path, far[-reach:]) - _mean(path, near[:reach])


def goes_along(path: Tensor, stretch: Stretch, between: Tensor, reach: int) -> bool:
    """Whether the run goes on beside a stretch as in it, so that what is at its ends is off, and not the stretch.

    A learning rate that decays and leaps up again, time after time, has gains that follow it lie in each decay as if
    they were in reverse order; and so does a jump that is forgotten.

    Args:
        path: Checkpoints in their order, shape (n, layer, dim).
        stretch: What may be wrong.
        between: The way in it that goes against what is beside it, shape (layer, dim).
        reach: How many neighbours are taken together at least.
    """
    start, stop = stretch.cuts[0], stretch.cuts[-1]
    away = reach
    while away <= max(stop - start, 4 * reach):
        width = max(reach, min(away, (stop - start) // 3))
        ways = []
        if start - away >= 1:
            ways.append(
                _mean(path, range(start - width, start)) - _mean(path, range(start - away - width, start - away))
            )
        if stop + away < len(path):
            ways.append(_mean(path, range(stop + away, stop + away + width)) - _mean(path, range(stop, stop + width)))
        for found, error in (cosine(way, between) for way in ways):
            if found > ALSO_SURE * error:
                return True
        away *= 2
    return False
