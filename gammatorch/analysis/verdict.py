"""The question the whole package asks: the verdict, how sure it is, and the sentence that gives its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from gammatorch.analysis.evidence import ORDERED, Evidence
from gammatorch.analysis.figures import ChanceInterval, Interval, Outliers, Statistics
from gammatorch.analysis.host import Array
from gammatorch.analysis.intervals import FEWEST_BLOCKS

SHARED = 0.5
"""Mean correlation from which on layers are said to share their direction: half of the variance over channels."""

OWN = 0.25
"""Correlation of the median layer with its closest below which each is said to have a direction of its own."""

DRIFT = 0.04
"""Correlation lost from near to far layers from which on the direction is said to drift."""

TURN = 0.025
"""What must be left of that loss where each layer's own noise is taken out."""

MISFIT = 0.08
"""Root mean square of the correlations that one direction leaves from which on there are several."""

SURE = 0.9
"""Support from which on a verdict is given."""

_SAMPLES, _MOVED = 512, 0.1
"""Samples, and the standard deviation by which conventions are moved, on a logarithmic scale."""

_CONVENTIONS = {"shared": SHARED, "own": OWN, "drift": DRIFT, "turn": TURN, "misfit": MISFIT, "jump": 1.0}
_ORDER_MOVED = 0.25
"""Standard deviation by which the least standard score of order is moved, in units of its own."""

VERDICTS = ("shared-direction", "drift", "phases", "several-directions", "layer-specific")


@dataclass(frozen=True)
class Support:
    """Verdicts by how often they come out.

    Attributes:
        shares: Verdict → share of the samples, the most frequent first.
    """

    shares: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """The verdict that comes out in nine samples of ten, or ``"undecided"``."""
        first = next(iter(self.shares))
        return first if self.shares[first] >= SURE else "undecided"


def support(found: Evidence) -> Support:
    """How often each verdict comes out.

    The 32 blocks of channels are drawn with replacement 512 times (bootstrap of blocks: Künsch 1989), each figure to
    first order: θ + Σ_b (w_b − 1) (B − 1)(θ − θ_b) / B with the weights w of a draw and θ_b the figure without block b.
    In each sample the conventions, :data:`SHARED` and the others, are moved too, by some 10 %, so that nothing hangs on
    whether a figure lies just above or just below one. The same samples for all, from a fixed seed.

    Args:
        found: The evidence of one checkpoint, with at least two layers that vary.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.evidence import evidence
        >>> from gammatorch.analysis.moments import moments
        >>> one = torch.randn(512, generator=torch.Generator().manual_seed(0)).expand(8, -1)
        >>> support(evidence(Correlations(moments(one).home()[0], tuple(range(8))))).shares
        {'shared-direction': 1.0}
    """
    verdicts = _verdicts(_figures(found), _moved(_CONVENTIONS))
    counts = np.bincount(verdicts, minlength=len(VERDICTS)).tolist()
    order = sorted(range(len(VERDICTS)), key=lambda verdict: -counts[verdict])
    return Support({VERDICTS[one]: counts[one] / _SAMPLES for one in order if counts[one]})


def _verdicts(figures: Mapping[str, Array], least: Mapping[str, Array]) -> NDArray[np.intp]:
    """The verdict of each sample, as its number in :data:`VERDICTS`: the first line that holds."""
    ordered = figures["order"] >= least["order"]
    several = figures["misfit"] >= least["misfit"]
    turns = (figures["loss"] >= least["drift"]) & (figures["turn"] >= least["turn"])
    ladder = (
        ("layer-specific", figures["closest"] < least["own"]),
        ("phases", ordered & (figures["jump"] >= least["jump"])),
        ("drift", ordered & (turns | (figures["own_misfit"] >= least["misfit"]))),
        ("several-directions", several),
        ("shared-direction", figures["mean"] >= least["shared"]),
    )
    verdicts = np.full(_SAMPLES, VERDICTS.index("layer-specific"))
    for verdict, holds in reversed(ladder):
        verdicts[holds] = VERDICTS.index(verdict)
    return verdicts


def _figures(found: Evidence) -> dict[str, Array]:
    """Samples of every figure, shape (sample)."""
    names = ("closest", "mean", "loss", "turn", "misfit", "own_misfit", "order")
    values = np.nan_to_num(np.stack([getattr(found, name) for name in names], axis=-1))
    blocks = len(values) - 1
    if blocks >= FEWEST_BLOCKS:
        influence = (values[:1] - values[1:]) * (blocks - 1) / blocks
        samples = values[0] + (_weights(blocks) - 1) @ influence
    else:
        samples = np.broadcast_to(values[0], (_SAMPLES, len(names)))
    jump, error = found.jump
    return {
        **dict(zip(names, samples.T, strict=True)),
        "jump": jump + error * _normal(len(_CONVENTIONS) + 2)[:, -1],
    }


def _moved(conventions: Mapping[str, float]) -> dict[str, Array]:
    """Every convention in every sample."""
    moves = _normal(len(conventions) + 2)
    moved = {name: value * np.exp(_MOVED * moves[:, n]) for n, (name, value) in enumerate(conventions.items())}
    return moved | {"order": ORDERED + _ORDER_MOVED * moves[:, -2]}


@lru_cache
def _weights(blocks: int) -> Array:
    """How often each block is drawn, shape (sample, block)."""
    drawn = torch.randint(blocks, (_SAMPLES, blocks), generator=torch.Generator().manual_seed(0)).numpy()
    return np.stack([np.bincount(row, minlength=blocks) for row in drawn]).astype(np.float64)


@lru_cache
def _normal(count: int) -> Array:
    drawn: Array = torch.randn(_SAMPLES, count, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy()
    return drawn


CARRIED = 0.1
"""Difference between the mean correlations of gains and of their ranks from which on it is named."""

_NAMED = 4
"""Massive channels that a sentence names."""

_NAMES = {
    "shared-direction": "a shared direction",
    "drift": "a drift",
    "phases": "phases",
    "several-directions": "several directions",
    "layer-specific": "directions of each layer's own",
}


@dataclass(frozen=True)
class Answer:
    """Is γ one direction that all layers share, or does each have its own?

    Attributes:
        verdict: ``"shared-direction"`` (one direction times a magnitude),
            ``"drift"`` (it turns steadily with depth), ``"phases"`` (it holds over runs of layers and turns between),
            ``"several-directions"`` (layers belong to several, which depth does not order), ``"layer-specific"`` (each
            layer has its own), ``"undecided"`` or ``"degenerate"`` (there is nothing to tell).
        support: How often the verdict comes out when channels are drawn again and the conventions it rests on are moved
            a little, see :func:`~gammatorch.analysis.verdict.support`; 1 where there is nothing to tell.
        between: The two verdicts that come out most often, where it is undecided.
        sentence: The verdict with its numbers.
    """

    verdict: str
    support: float
    between: tuple[str, str] | None
    sentence: str


def answer(statistics: Statistics, layers: Sequence[int], copies: bool, found: Support | None) -> Answer:
    """The verdict of one checkpoint in words.

    Args:
        statistics: All but the answer.
        layers: Layer index of each row.
        copies: Whether all layers are equal to rounding, length included.
        found: How often each verdict comes out; None where fewer than two layers vary.

    Example:
        >>> answer(Statistics(), [0], copies=False, found=None).verdict
        'degenerate'
    """
    if len(layers) < 2:
        return _degenerate("one layer has no other to be compared with.")
    if found is None:
        return _degenerate("fewer than two gains vary over channels, so no directions can be compared.")
    if copies:
        return _degenerate("all layers have the same gain to rounding, as before training.")
    sentence = " ".join((SENTENCES[found.verdict](statistics, found), *_reservations(statistics)))
    (first, share), *others = found.shares.items()
    between = (first, others[0][0]) if found.verdict == "undecided" else None
    return Answer(found.verdict, share, between, sentence)


def _degenerate(why: str) -> Answer:
    return Answer("degenerate", 1.0, None, f"Degenerate: {why}")


def _shared(statistics: Statistics, _: Support) -> str:
    return (
        "Shared direction: all layers share one direction and differ only in magnitude, the isotropic case of the "
        f"original study ({_mean(statistics)}; "
        f"{statistics['shared_energy']['value']:.1%} of the energy lies in one direction)."
    )


def _drift(statistics: Statistics, _: Support) -> str:
    fall = statistics["depth_contrast"]
    without_noise = fall["disattenuated"]
    true = f" ({without_noise:.3f} without each layer's own noise)" if without_noise is not None else ""
    return (
        "Drift: the direction turns steadily with depth, without jumps: correlation "
        f"{fall['near']:.3f} between layers one or two apart, {fall['far']:.3f} between "
        f"those half the depth apart, a loss of {_with_bounds(fall)}{true}."
    )


def _phases(statistics: Statistics, _: Support) -> str:
    starts, turns = statistics["change_points"] or (), statistics["transitions"]
    sharp = f"jumps at {_layers(starts)}" if starts else ""
    wide = " and ".join(f"turns from layer {turn['first']} to {turn['last']}" for turn in turns)
    where = " and ".join(filter(None, (sharp, wide)))
    return f"Phases: the direction {where} and is stable in between ({_mean(statistics)} over all layers)."


def _several(statistics: Statistics, _: Support) -> str:
    return (
        f"Several directions: the layers share {statistics['shared_directions']} directions that depth does not put in "
        f"order: {_mean(statistics)}, and one direction would leave correlations of "
        f"{_with_bounds(statistics['misfit'])} (root mean square)."
    )


def _specific(statistics: Statistics, _: Support) -> str:
    chance = _mean_figure(statistics)["null_95"]
    return (
        f"Layer-specific: each layer has a direction of its own: {_mean(statistics)}, where unrelated layers stay "
        f"within ±{chance:.4f}; the {statistics['shared_energy']['value']:.1%} of the energy in one direction is what "
        "gains of one sign have in common anyway."
    )


def _undecided(statistics: Statistics, found: Support) -> str:
    (first, share), (second, other), *_ = found.shares.items()
    fall = statistics["depth_contrast"]
    lost = f", a loss of {_with_bounds(fall)} with depth" if fall["value"] is not None else ""
    return (
        f"Undecided between {_NAMES[first]} and {_NAMES[second]} (support {share:.2f} and {other:.2f}): "
        f"{_mean(statistics)}{lost}."
    )


SENTENCES = {
    "shared-direction": _shared,
    "drift": _drift,
    "phases": _phases,
    "several-directions": _several,
    "layer-specific": _specific,
    "undecided": _undecided,
}
"""By verdict: from the statistics to its first sentence."""


def _reservations(statistics: Statistics) -> Iterator[str]:
    """What the verdict alone would hide."""
    kinds, odd = statistics["period"], statistics["odd_layers"]
    if kinds["period"] is not None:
        yield (
            f"Kinds of layers alternate: correlation {kinds['within']:.3f} between layers a multiple of "
            f"{kinds['period']} apart, {kinds['across']:.3f} between others."
        )
    if odd:
        names = ", ".join(map(str, odd))
        yield f"Layer {names} is an outlier." if len(odd) == 1 else f"Layers {names} are outliers."
    if statistics["depth_order"] is None:
        yield "With fewer than six layers neither a drift nor several directions can be detected."
    pearson, ranks = statistics["mean_pearson"]["value"], statistics["mean_rank_correlation"]["value"]
    if statistics["rank_correlation"] is not None and None not in (pearson, ranks) and abs(pearson - ranks) > CARRIED:
        yield f"Pearson's mean correlation is {pearson:.3f} instead: {_carriers(statistics['outliers'])}."


def _carriers(outliers: Outliers) -> str:
    """What makes Pearson's correlation another one."""
    channels, sizes = outliers["channels"], [size for size in outliers["sizes"] if size is not None]
    if not channels:
        return "the few largest gains of each layer count for more there"
    names = ", ".join(map(str, channels[:_NAMED]))
    more = f" and {len(channels) - _NAMED} more" if len(channels) > _NAMED else ""
    size = f", up to {max(sizes):.3g} times the median gain" if sizes else ""
    carry = "channel carries" if len(channels) == 1 else "channels carry"
    return f"{len(channels)} massive {carry} it ({names}{more}{size})"


def _mean_figure(statistics: Statistics) -> ChanceInterval:
    figure: ChanceInterval = statistics["mean_rank_correlation"]
    return figure


def _mean(statistics: Statistics) -> str:
    ranks = "rank " if statistics["rank_correlation"] is not None else ""
    return f"mean {ranks}correlation {_with_bounds(_mean_figure(statistics))}"


def _layers(found: Sequence[int]) -> str:
    return f"{'layer' if len(found) == 1 else 'layers'} {', '.join(map(str, found))}"


def _with_bounds(figure: Interval) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
