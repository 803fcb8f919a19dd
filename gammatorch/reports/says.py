"""What an analysis says, figure by figure, for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from gammatorch.reports.console import Row
from gammatorch.reports.glossary import GLOSSARY, entries_of
from gammatorch.reports.text import printable
from gammatorch.results.base import Interval
from gammatorch.results.statistics import Outliers, Schedule, Statistics


def says_rows(found: Statistics, layers: int, *, ranked: bool, digits: int = 4) -> Iterator[Row]:
    """One row per figure that bears on the question: its value, its bounds, what to hold it against.

    Args:
        found: The statistics of a result.
        layers: Number of layers.
        ranked: Whether the gains have ranks; the rank correlation is Pearson's where they have none.
        digits: Decimals of the figures and their bounds; what chance gives is often smaller, and keeps four.
    """
    shown, bounded = partial(plainly, digits=digits), partial(_bounded, digits=digits)
    mean, ranks, lost = found.mean_pearson, found.mean_rank_correlation, found.depth_contrast
    if ranked:
        yield bounded("mean rank correlation", ranks, f"chance stays within ±{plainly(ranks.null_95)}")
    yield bounded("mean pearson", mean, f"chance stays within ±{plainly(mean.null_95)}")
    yield bounded("shared energy", found.shared_energy, GLOSSARY["shared energy"].reference)
    yield bounded("participation ratio", found.effective_dimension, f"of {layers}; 1: one direction")
    first = found.first_eigenvalue
    chance = "undefined" if first.value is None else f"chance stays below {plainly(first.null_95)}"
    yield ("first eigenvalue", shown(first.value), "-", "-", chance)
    yield ("shared directions", _whole(found.shared_directions), "", "", GLOSSARY["shared directions"].reference)
    yield bounded("misfit of one direction", found.misfit, GLOSSARY["misfit of one direction"].reference)
    yield bounded("loss with depth", lost, f"near {plainly(lost.near)}, far {plainly(lost.far)}")
    if lost.disattenuated is not None:
        reference = GLOSSARY["loss, noise removed"].reference
        yield ("loss, noise removed", shown(lost.disattenuated), "", "", reference)
    yield ("order of layers", shown(found.depth_order), "", "", GLOSSARY["order of layers"].reference)
    if found.correlation_length is not None:
        yield ("correlation length", f"{found.correlation_length:.1f}", "", "", "layers")
    for contrast in found.phase_contrasts:
        if contrast.value is not None:
            name = printable(contrast.name, 24)
            yield bounded(f"phase {name}", contrast, GLOSSARY["phase contrast"].reference)
    starts, outlying, kinds, outliers = found.change_points, found.odd_layers, found.period, found.outliers
    turns = found.transitions
    if starts is not None:
        named = [*map(str, starts), *(f"{turn.first} to {turn.last}" for turn in turns)]
        yield ("phases found", str(len(named) + 1 if named else 0), "", "", ", ".join(named))
    if outlying:
        yield ("outlier layers", str(len(outlying)), "", "", ", ".join(map(str, outlying)))
    if kinds.period is not None:
        yield bounded(f"every {kinds.period} layers", kinds, GLOSSARY["period"].reference)
    if outliers.channels:
        yield _outlier_row(outliers)
    for name, value in (found.more or {}).items():
        label, references = name.replace("_", " "), [entry.reference for entry in entries_of(name).values()]
        if isinstance(value, Interval):
            yield bounded(label, value, "".join(references[:1]))
        elif not isinstance(value, list):
            yield (label, shown(value), "", "", "".join(references[:1]))
    if found.schedules:
        yield from _schedule_rows(found.schedules)


def _outlier_row(outliers: Outliers) -> Row:
    """How many channels stand out, and the largest."""
    most = max(zip(outliers.sizes or (), outliers.channels or (), strict=True), key=lambda one: one[0] or 0)
    largest = f"largest: {most[1]}, {most[0]:.3g} × the median" if most[0] else ""
    return ("massive channels", str(len(outliers.channels or ())), "", "", largest)


def _schedule_rows(schedules: Mapping[str, Schedule]) -> Iterator[Row]:
    """The schedule that is chosen, if any, how far the AICc of each is above the lowest, and the R² of each."""
    fits = sorted(schedules.items(), key=lambda fit: float(fit[1].aicc))
    named = [(printable(name, 24), fit) for name, fit in fits]
    (name, best), *others = named
    above = ", ".join(f"{other} +{fit.aicc - best.aicc:.3g}" for other, fit in others)
    yield ("RMS γ over depth", name if best.chosen else "no law", "", "", f"AICc {name} 0, {above}")
    if best.chosen:
        parameters = ", ".join(f"{printable(label, 24)} {value:.4g}" for label, value in best.parameters.items())
        yield (f"{name} law", "", "", "", parameters)
    yield ("R² of ln RMS γ", "", "", "", ", ".join(f"{other} {fit.r_squared:.2f}" for other, fit in named))


def _bounded(name: str, figure: Interval, reference: str, digits: int) -> Row:
    figures = (plainly(part, digits) for part in (figure.value, figure.low, figure.high))
    return (name, *figures, "undefined" if figure.value is None else reference)


def _whole(count: int | None) -> str:
    return "-" if count is None else str(count)


def plainly(value: float | None, digits: int = 4) -> str:
    """A figure with so many decimals, ``-`` where it is undefined."""
    return "-" if value is None else f"{value:z.{digits}f}"
