"""The question the whole package asks, answered in one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gammatorch.analysis.support import Support

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
        verdict: ``"shared-direction"`` (one direction times a magnitude: the original study's isotropic case),
            ``"drift"`` (it turns steadily with depth), ``"phases"`` (it holds over runs of layers and turns between),
            ``"several-directions"`` (layers belong to several, which depth does not order), ``"layer-specific"`` (each
            layer has its own), ``"undecided"`` or ``"degenerate"`` (there is nothing to tell).
        support: How often the verdict comes out when channels are drawn again and the conventions it rests on are moved
            a little, see :func:`~gammatorch.analysis.support.support`; 1 where there is nothing to tell.
        between: The two verdicts that come out most often, where it is undecided.
        sentence: The verdict with its numbers.
    """

    verdict: str
    support: float
    between: tuple[str, str] | None
    sentence: str


def answer(statistics: Mapping[str, Any], layers: Sequence[int], copies: bool, found: Support | None) -> Answer:
    """The verdict of one checkpoint in words.

    Args:
        statistics: Plain values by name, as in JSON.
        layers: Layer index of each row.
        copies: Whether all layers are equal to rounding, length included.
        found: How often each verdict comes out; None where fewer than two layers vary.

    Example:
        >>> answer({}, [0], copies=False, found=None).verdict
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


def _shared(statistics: Mapping[str, Any], _: Support) -> str:
    return (
        "Shared direction: all layers have one direction, times a magnitude (the isotropic case of the original "
        f"study): {_mean(statistics)}, {statistics['shared_energy']['value']:.1%} of the energy in one direction."
    )


def _drift(statistics: Mapping[str, Any], _: Support) -> str:
    fall = statistics["depth_contrast"]
    without_noise = fall["disattenuated"]
    true = f" ({without_noise:.3f} without each layer's own noise)" if without_noise is not None else ""
    return (
        f"Drift: the direction turns with depth and jumps nowhere: correlation {fall['near']:.3f} between layers one "
        f"or two apart, {fall['far']:.3f} between those half the depth apart, a loss of {_with_bounds(fall)}{true}."
    )


def _phases(statistics: Mapping[str, Any], _: Support) -> str:
    starts, turns = statistics["change_points"] or (), statistics["transitions"]
    sharp = f"jumps at {_layers(starts)}" if starts else ""
    wide = " and ".join(f"turns from layer {turn['first']} to {turn['last']}" for turn in turns)
    where = " and ".join(filter(None, (sharp, wide)))
    return f"Phases: the direction {where} and holds between ({_mean(statistics)} over all layers)."


def _several(statistics: Mapping[str, Any], _: Support) -> str:
    return (
        f"Several directions: the layers share {statistics['shared_directions']} directions that depth does not put in "
        f"order: {_mean(statistics)}, and one direction would leave correlations of "
        f"{_with_bounds(statistics['misfit'])} (root mean square)."
    )


def _specific(statistics: Mapping[str, Any], _: Support) -> str:
    chance = _mean_figure(statistics)["null_95"]
    return (
        f"Layer-specific: each layer has a direction of its own: {_mean(statistics)}, where unrelated layers stay "
        f"within ±{chance:.4f}; the {statistics['shared_energy']['value']:.1%} of the energy in one direction is what "
        "gains of one sign share anyway."
    )


def _undecided(statistics: Mapping[str, Any], found: Support) -> str:
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


def _reservations(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What the verdict alone would hide."""
    kinds, odd = statistics["period"], statistics["odd_layers"]
    if kinds["period"] is not None:
        yield (
            f"Kinds of layers alternate: correlation {kinds['within']:.3f} between layers a multiple of "
            f"{kinds['period']} apart, {kinds['across']:.3f} between others."
        )
    if odd:
        names = ", ".join(map(str, odd))
        yield f"Layer {names} stands apart from all others." if len(odd) == 1 else f"Layers {names} stand apart."
    if statistics["depth_order"] is None:
        yield "With fewer than six layers neither a drift nor several directions could be told."
    pearson, ranks = statistics["mean_pearson"]["value"], statistics["mean_rank_correlation"]["value"]
    if statistics["rank_correlation"] is not None and None not in (pearson, ranks) and abs(pearson - ranks) > CARRIED:
        yield f"Pearson's mean correlation is {pearson:.3f} instead: {_carriers(statistics['outliers'])}."


def _carriers(outliers: Mapping[str, Any]) -> str:
    """What makes Pearson's correlation another one."""
    channels, sizes = outliers["channels"], [size for size in outliers["sizes"] if size is not None]
    if not channels:
        return "the few largest gains of each layer count for more there"
    names = ", ".join(map(str, channels[:_NAMED]))
    more = f" and {len(channels) - _NAMED} more" if len(channels) > _NAMED else ""
    size = f", up to {max(sizes):.3g} times the median gain" if sizes else ""
    carry = "channel carries" if len(channels) == 1 else "channels carry"
    return f"{len(channels)} massive {carry} it ({names}{more}{size})"


def _mean_figure(statistics: Mapping[str, Any]) -> Mapping[str, Any]:
    figure: Mapping[str, Any] = statistics["mean_rank_correlation"]
    return figure


def _mean(statistics: Mapping[str, Any]) -> str:
    ranks = "rank " if statistics["rank_correlation"] is not None else ""
    return f"mean {ranks}correlation {_with_bounds(_mean_figure(statistics))}"


def _layers(found: Sequence[int]) -> str:
    return f"{'layer' if len(found) == 1 else 'layers'} {', '.join(map(str, found))}"


def _with_bounds(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
