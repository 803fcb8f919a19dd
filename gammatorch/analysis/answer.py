"""The question the whole package asks, answered in one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHARED = 0.5
"""Correlation from which on layers are said to share their direction: half of the variance over channels."""

OWN = 0.25
"""Correlation of near layers below which each is said to have a direction of its own."""

CARRIED = 0.1
"""Change of the mean correlation without outlier channels from which on they are named."""

DRIFT = 0.05
"""Correlation lost from near to far layers from which on the direction is said to drift."""

READS = ("mean_pearson", "shared_energy", "depth_contrast", "change_points", "period", "odd_layers")
"""The statistics of the table from which the answer is given."""


@dataclass(frozen=True)
class Answer:
    """Is γ one direction that all layers share, or does each have its own?

    Attributes:
        verdict: ``"isotropic"`` (one direction times a magnitude), ``"drift"`` (it turns steadily with depth),
            ``"phases"`` (it jumps between runs of layers), ``"layer-specific"`` (each layer has its own) or
            ``"degenerate"`` (there is nothing to tell).
        sentence: The same with its numbers.
    """

    verdict: str
    sentence: str


def answer(statistics: Mapping[str, Any], layers: Sequence[int], copies: bool) -> Answer:
    """The verdict from the statistics of one checkpoint.

    In this order: degenerate where fewer than two layers vary or all are equal; phases where change points were
    found; layer-specific where near layers correlate below 0.25 or the mean lies within what chance gives; drift
    where near layers correlate by 0.05 more than far ones, and by more than 0 with 95 %; isotropic from a mean
    correlation of 0.5 on, where kinds of layers alternate between the kinds; layer-specific below. The bounds are
    conventions, and their numbers stand in the sentence. Odd layers, kinds that alternate, and a few channels that
    carry the correlation are named in further sentences.

    Args:
        statistics: Plain values by name, as in JSON: ``mean_pearson``, ``depth_contrast``, ``change_points``,
            ``shared_energy``, ``odd_layers``, ``period``, ``outliers``.
        layers: Layer index of each row.
        copies: Whether all layers are equal to rounding, length included.

    Example:
        >>> answer({"mean_pearson": {"value": None}}, [0], copies=False).verdict
        'degenerate'
    """
    mean = statistics["mean_pearson"]
    if len(layers) < 2:
        return Answer("degenerate", "Degenerate: one layer has no other to be compared with.")
    if mean["value"] is None:
        return Answer(
            "degenerate", "Degenerate: fewer than two gains vary over channels, so no directions can be compared."
        )
    if copies:
        return Answer("degenerate", "Degenerate: all layers have the same gain to rounding, as before training.")
    verdict, sentence = _verdict(statistics)
    return Answer(verdict, " ".join((sentence, *_reservations(statistics))))


def _verdict(statistics: Mapping[str, Any]) -> tuple[str, str]:
    mean = statistics["mean_pearson"]
    figure = f"mean correlation {_with_bounds(mean)}"
    energy = f"{statistics['shared_energy']['value']:.1%} of the energy in one direction"
    fall = statistics["depth_contrast"]
    near, far, lost = fall["near"], fall["far"], fall["value"]
    if starts := statistics["change_points"]:
        where = ", ".join(map(str, starts))
        return (
            "phases",
            f"Phases: the direction jumps at {'layer' if len(starts) == 1 else 'layers'} {where} "
            f"and holds between ({figure} over all layers).",
        )
    chance = abs(mean["value"]) <= mean["null_95"] or (near is not None and near < OWN)
    if not chance and lost is not None and lost >= DRIFT and (fall["low"] is None or fall["low"] > 0):
        return (
            "drift",
            f"Drift: the direction turns with depth, without phases: correlation {near:.3f} between near layers, "
            f"{far:.3f} between far ones, a loss of {_with_bounds(fall)}.",
        )
    kinds = statistics["period"]
    if not chance and (mean["value"] if kinds["period"] is None else kinds["across"]) >= SHARED:
        return "isotropic", f"Isotropic: one direction shared by all layers, times a magnitude: {figure}, {energy}."
    if kinds["period"] is not None:
        return "layer-specific", f"Layer-specific: each kind of layer has directions of its own: {figure}, {energy}."
    return (
        "layer-specific",
        f"Layer-specific: each layer has a direction of its own: {figure}, where unrelated layers stay within "
        f"±{mean['null_95']:.4f}; the {energy} is what gains of one sign share anyway.",
    )


def _reservations(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What the verdict alone would hide."""
    kinds, odd, outliers = statistics["period"], statistics["odd_layers"], statistics["outliers"]
    if kinds["period"] is not None:
        yield (
            f"Kinds of layers alternate: correlation {kinds['within']:.3f} between layers a multiple of "
            f"{kinds['period']} apart, {kinds['across']:.3f} between others."
        )
    if odd:
        names = ", ".join(map(str, odd))
        yield f"Layer {names} stands apart from all others." if len(odd) == 1 else f"Layers {names} stand apart."
    left = outliers["mean_pearson"] if outliers else None
    if left is not None and abs(left - statistics["mean_pearson"]["value"]) > CARRIED:
        count = len(outliers["channels"])
        yield (
            f"{count} outlier {'channel carries' if count == 1 else 'channels carry'} the correlation: without "
            f"{'it' if count == 1 else 'them'} its mean is {left:.3f} and the verdict {outliers['verdict']}."
        )


def _with_bounds(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
