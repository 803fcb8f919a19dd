"""The first and last checkpoints of a run, which have nothing beyond them to be held against."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from gammatorch.sweep.contrasts import AROUND, LEAST, NEIGHBOURS_SURE
from gammatorch.sweep.course import Course, Pair, cosine, step_lengths, to_and_fro

_NOISE = 3.0
"""Noise at an end that is so many times that of the checkpoints before is none, but an exchange."""

_FEWEST = 6
"""Checkpoints before the last two that tell what is usual."""

_BENT, _LONG, _LATELY = 0.2, 1.25, 4
"""Put right, the cosines between the last steps leave the range of those before by no more than this, and no step is
longer than the longest of so many lately by more than this: else a jump is being forgotten."""

_BETTER, _FEW = 0.4, 0.3
"""In each other's places two are at most so many times as far from what is beside; where steps go to and fro in ten
directions or fewer, they may be so by chance."""

_WINDOW, _FEWEST_WAYS, _STRANGE, _TYPICAL = 24, 10, 4.0, 1.0
"""Of so many ways before, the end is further off than their range is wide, four times and more; and put right at most
once."""


def exchanged_ends(course: Course, off: Collection[int]) -> Iterator[Pair]:
    """The last two and the first two where they are exchanged.

    Args:
        course: The training run.
        off: Places that tell nothing of how the run goes.
    """
    for number, outward in enumerate(course.outwards()):
        outward = [place for place in outward[:-3] if place not in off] + outward[-3:]
        pair = min(outward[-2:]), max(outward[-2:])
        turns = (number == 0 or not course.first_is_initial) and _turns_back(course, outward)
        if turns or _is_strange(course.flat(), outward):
            yield pair


def with_an_end(path: Tensor) -> list[Pair]:
    """The first or last and one that is far from it, each of which lies far better in the other's place.

    Args:
        path: Checkpoints in their order, shape (n, layer, dim).
    """
    n, found = len(path), []
    flat = path.flatten(1)
    step = step_lengths(flat)
    for end, near in ((0, 1), (n - 1, n - 2)):
        to_end, to_near = (torch.linalg.vector_norm(flat - flat[at], dim=-1) for at in (end, near))
        for place in range(2, n - 2):
            better = to_end[place - 1] + to_end[place + 1] < _BETTER * (step[place - 1] + step[place])
            if bool(better) and bool(to_near[place] < _BETTER * to_near[end]) and _go_on(path, (end, place)):
                found.append((min(end, place), max(end, place)))
    return found


def _go_on(path: Tensor, pair: Pair) -> bool:
    """Whether the steps around two, these left out, do not go to and fro in a few directions."""
    windows = (range(max(0, place - AROUND), min(len(path), place + AROUND + 1)) for place in pair)
    return all(to_and_fro(path[[at for at in window if at not in pair]]) < _FEW for window in windows)


def _turns_back(course: Course, outward: list[int]) -> bool:
    """Whether the last step goes back on the one before, in a run that does not.

    Of b, c, d at the end, (b − d)·(c − d) is the noise of d squared, and the last step squared where the path goes on.
    It is negative only where the path turns back: after an exchange of steps that drift. If it is nothing, the last
    step was short and c's noise, (b − c)·(d − c), is all there is between them, as at the end of a cool-down; or steps
    that wander were exchanged, and that noise is a multiple of what it was before.
    """
    if len(outward) < _FEWEST + 2:
        return False
    path = course.flat()
    before = path[outward[-AROUND - 4 : -2]].double()
    b, c, d = path[outward[-3:]].double()
    back, back_error = cosine(b - d, c - d)
    noise, noise_error = cosine(b - c, d - c)
    turned = back < -max(LEAST, NEIGHBOURS_SURE * back_error)
    nothing = back + 3 * back_error < 2 * LEAST and noise > max(4 * LEAST, NEIGHBOURS_SURE * noise_error)
    if not turned and not (nothing and _is_unusual(before, float((b - c) @ (d - c)))):
        return False
    if torch.linalg.vector_norm(b - d) < 0.6 * torch.linalg.vector_norm(d - c):
        return False  # c alone is far from both
    put_right = path[[*outward[-4:-2], *outward[:-3:-1]]].double()
    around = path[[*outward[-AROUND - 1 : -2], *outward[:-3:-1]]]
    return _goes_on(before, put_right) and -course.alike * to_and_fro(around) > min(back, -noise)


def _is_unusual(before: Tensor, squared_noise: float) -> bool:
    """Whether a checkpoint's squared noise is a multiple of that of all before, and of what is uncertain about it.

    Of three in a row it is −δ·δ' with the two steps between them, but for what the path has of each direction; steps
    two apart, which share no noise, tell that.
    """
    steps = before.diff(dim=0)
    products = steps @ steps.T
    here, apart = -products.diagonal(1), products.diagonal(2)
    estimates = here[1:-1] + (apart[:-1] + apart[1:]) / 2
    return squared_noise > _NOISE * float(estimates.max())


def _goes_on(before: Tensor, put_right: Tensor) -> bool:
    """Whether the last steps, put right, are about as long as lately, and go on as all before."""
    usual, found = _ways(before)[:, :3], _ways(put_right)[0, :3]
    lately = torch.linalg.vector_norm(before.diff(dim=0), dim=-1)[-_LATELY:].max()
    length = torch.linalg.vector_norm(put_right[1:].diff(dim=0), dim=-1).max()
    inside = (found >= usual.amin(dim=0) - _BENT) & (found <= usual.amax(dim=0) + _BENT)
    return bool(inside.all() and length <= _LONG * lately)


def _is_strange(path: Tensor, outward: list[int]) -> bool:
    """Whether the way over the last two is like none before, and like all before once they are exchanged."""
    places = outward[-_WINDOW - 5 :]
    if len(places) < _FEWEST_WAYS + 5:
        return False
    ways = _ways(path[places].double())[:-2]
    low, high = ways.amin(dim=0), ways.amax(dim=0)
    stands, put_right = (_ways(path[[*places[-4:-2], *last]].double())[0] for last in (places[-2:], places[:-3:-1]))
    off = [float((torch.maximum(low - way, way - high) / (high - low)).max()) for way in (stands, put_right)]
    return off[0] > _STRANGE and off[1] < _TYPICAL


def _ways(path: Tensor) -> Tensor:
    """Of each four in a row the cosines between their three steps and the logarithms of the ratios of their lengths.

    A run whose rate changes slowly has much the same all along, whatever it does.

    Args:
        path: Checkpoints in their order, shape (n, dim).

    Returns:
        Cosines of the first step with the second, the second with the third, the first with the third, and the two
        logarithms, shape (n - 3, 5); NaN where nothing moves.
    """
    steps = path.diff(dim=0)
    products = steps @ steps.T
    length = products.diagonal().sqrt()
    cosines, ratio = products / (length[:, None] * length), (length[1:] / length[:-1]).log()
    angles = [cosines.diagonal(1)[:-1], cosines.diagonal(1)[1:], cosines.diagonal(2)]
    return torch.stack([*angles, ratio[:-1], ratio[1:]], dim=1)
