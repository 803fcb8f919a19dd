"""What an analysis says, figure by figure: for the terminal and for pages, so it takes plain numbers and no tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gammatorch.reports.console import Row
from gammatorch.reports.glossary.statistics import STATISTICS
from gammatorch.reports.text import printable


def says_rows(found: Mapping[str, Any], layers: int) -> Iterator[Row]:
    """One row per figure that bears on the question: its value, its bounds, what to hold it against.

    Args:
        found: The statistics of an analysis, or those that a result file holds.
        layers: Number of layers.
    """
    mean, ranks, lost = found["mean_pearson"], found["mean_rank_correlation"], found["depth_contrast"]
    if found["rank_correlation"] is not None:
        yield _bounded("mean rank correlation", ranks, f"chance stays within ±{plainly(ranks['null_95'])}")
    yield _bounded("mean pearson", mean, f"chance stays within ±{plainly(mean['null_95'])}")
    yield _bounded("shared energy", found["shared_energy"], STATISTICS["shared energy"].reference)
    yield _bounded("participation ratio", found["effective_dimension"], f"of {layers}; 1: one direction")
    first = found["first_eigenvalue"]
    yield _bounded("first eigenvalue", first, f"chance stays below {plainly(first['null_95'])}")
    yield ("shared directions", _whole(found["shared_directions"]), "", "", STATISTICS["shared directions"].reference)
    yield _bounded("misfit of one direction", found["misfit"], STATISTICS["misfit of one direction"].reference)
    yield _bounded("loss with depth", lost, f"near {plainly(lost['near'])}, far {plainly(lost['far'])}")
    if lost["disattenuated"] is not None:
        reference = STATISTICS["loss, noise removed"].reference
        yield ("loss, noise removed", plainly(lost["disattenuated"]), "", "", reference)
    yield ("order of layers", plainly(found["depth_order"]), "", "", STATISTICS["order of layers"].reference)
    if found["correlation_length"] is not None:
        yield ("correlation length", f"{found['correlation_length']:.1f}", "", "", "layers")
    for contrast in found["phase_contrasts"]:
        if contrast["value"] is not None:
            name = printable(contrast["name"], 24)
            yield _bounded(f"phase {name}", contrast, STATISTICS["phase contrast"].reference)
    starts, outlying, kinds, outliers = found["change_points"], found["odd_layers"], found["period"], found["outliers"]
    turns = found["transitions"]
    if starts is not None:
        named = [*map(str, starts), *(f"{turn['first']} to {turn['last']}" for turn in turns)]
        yield ("phases found", str(len(named) + 1 if named else 0), "", "", ", ".join(named))
    if outlying:
        yield ("outlier layers", str(len(outlying)), "", "", ", ".join(map(str, outlying)))
    if kinds["period"] is not None:
        yield _bounded(f"every {kinds['period']} layers", kinds, STATISTICS["period"].reference)
    if outliers["channels"]:
        yield _outlier_row(outliers)
    if found["schedules"]:
        yield from _schedule_rows(found["schedules"])


def _outlier_row(outliers: Mapping[str, Any]) -> Row:
    """How many channels stand out, and the largest."""
    most = max(zip(outliers["sizes"], outliers["channels"], strict=True), key=lambda one: one[0] or 0)
    largest = f"largest: {most[1]}, {most[0]:.3g} × the median" if most[0] else ""
    return ("massive channels", str(len(outliers["channels"])), "", "", largest)


def _schedule_rows(schedules: Mapping[str, Any]) -> Iterator[Row]:
    """The schedule that is chosen, if any, how far the AICc of each is above the lowest, and the R² of each."""
    fits = sorted(schedules.items(), key=lambda fit: float(fit[1]["aicc"]))
    named = [(printable(name, 24), fit) for name, fit in fits]
    (name, best), *others = named
    above = ", ".join(f"{other} +{fit['aicc'] - best['aicc']:.3g}" for other, fit in others)
    yield ("RMS γ over depth", name if best["chosen"] else "no law", "", "", f"AICc {name} 0, {above}")
    if best["chosen"]:
        parameters = ", ".join(f"{printable(label, 24)} {value:.4g}" for label, value in best["parameters"].items())
        yield (f"{name} law", "", "", "", parameters)
    yield ("R² of ln RMS γ", "", "", "", ", ".join(f"{other} {fit['r_squared']:.2f}" for other, fit in named))


def _bounded(name: str, figure: Mapping[str, Any], reference: str) -> Row:
    figures = [figure.get(part) for part in ("value", "low", "high")]
    return (name, *map(plainly, figures), "undefined" if figures[0] is None else reference)


def _whole(count: int | None) -> str:
    return "-" if count is None else str(count)


def plainly(value: float | None) -> str:
    """A figure with four decimals, ``-`` where it is undefined."""
    return "-" if value is None else f"{value:.4f}"
