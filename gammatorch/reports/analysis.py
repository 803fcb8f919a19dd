"""An analysis on the terminal: lengths, axes, phases, neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text
from torch import Tensor

from gammatorch.analysis.result import Analysis
from gammatorch.gains.stack import Origin
from gammatorch.reports.console import Row, print_table
from gammatorch.reports.says import plainly, says_rows
from gammatorch.reports.text import moved, plural, printable, size
from gammatorch.results.run import run_statistics

MOST_AXES = 10


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Print an analysis: what was read, four tables, what they say, what it cost."""
    if analysis.gains is not None:
        _print_head(analysis, analysis.gains, console)
    for note in analysis.notes:
        console.print(Text(f"note: {printable(note, None)}", style="yellow"))
    print_table(
        console,
        "Layers: length ‖γ‖, and projections of the unit γ on the first principal axis and the shared direction",
        ("layer", "<phase", "‖γ‖", "proj_top1", "resid", "shared"),
        layer_rows(analysis),
        least=("resid",),
    )
    print_table(
        console,
        "Principal axes of the unit γ",
        ("<axis", "explained", "singular value"),
        axis_rows(analysis),
    )
    for line in summary_lines(analysis):
        console.print(line)
    if analysis.phases:
        print_table(
            console,
            "Directions by phase",
            ("<phase", "layers", "N", "‖γ‖ mean", "‖γ‖ std", "intra_cos", "vs_other_cos"),
            phase_rows(analysis),
            least=("N", "‖γ‖ std", "‖γ‖ mean"),
        )
    print_table(
        console,
        "Neighbouring layers: cosine, and Pearson's correlation, which removes the means",
        ("<layers", "<phase", "cos", "pearson"),
        neighbour_rows(analysis),
    )
    print_table(
        console,
        "Statistics, with 95 % bounds over channels",
        ("<figure", "value", "low", "high", "<reference"),
        says_rows(
            run_statistics(analysis), analysis.num_layers, ranked=analysis.statistics["rank_correlation"] is not None
        ),
        least=("reference",),
        folded=("reference",),
    )
    console.print()
    console.print(Text(f"{analysis.answer.sentence} Support {analysis.answer.support:.2f}.", style="bold"))
    if analysis.gains is not None:
        console.print()
        console.print(cost_line(analysis, analysis.gains))


def layer_rows(analysis: Analysis) -> Iterator[Row]:
    """One row per layer: index, phase, length, projections on the first axis and on the shared one."""
    shared = analysis.statistics["shared_projection"]
    for row, layer in enumerate(analysis.layers):
        yield (
            str(layer),
            phase_of(analysis, layer),
            f"{analysis.norms[row]:.3f}",
            _figure(analysis.proj_top1, row, "+.4f"),
            _figure(analysis.residual_top1, row, ".4f"),
            _figure(shared, row, "+.4f"),
        )


def axis_rows(analysis: Analysis) -> Iterator[Row]:
    """One row per leading principal axis: name, share of the variance, singular value."""
    for axis in range(min(MOST_AXES, len(analysis.singular_values))):
        yield (
            f"PC{axis}",
            _figure(analysis.explained_var, axis, ".4f"),
            f"{analysis.singular_values[axis]:.4f}",
        )


def summary_lines(analysis: Analysis) -> Iterator[str]:
    """What the leading axes explain together, and what the shared direction does."""
    if analysis.explained_var is not None:
        for count in (3, MOST_AXES):
            yield f"Top-{count} explain: {analysis.explained_var[:count].sum():.4f}"
    energy = plainly(analysis.statistics["shared_energy"]["value"])
    yield f"Shared direction (uncentred): {energy} of the energy; 1 would be one direction for all layers"


def phase_rows(analysis: Analysis) -> Iterator[Row]:
    """One row per phase: name, layers, count, mean and deviation of the lengths, cosines within and to the others."""
    for phase in analysis.phases:
        yield (
            printable(phase.name, 24),
            f"{phase.first}-{phase.last}" if phase.n > 1 else str(phase.first),
            str(phase.n),
            f"{phase.norm_mean:.3f}",
            f"{phase.norm_std:.3f}",
            _optional(phase.intra_cos),
            _optional(phase.vs_other_cos),
        )


def neighbour_rows(analysis: Analysis) -> Iterator[Row]:
    """One row per pair of neighbours: indices, phase, cosine, correlation."""
    pearson = analysis.statistics["pearson"]
    for row, (layer, following) in enumerate(zip(analysis.layers, analysis.layers[1:], strict=False)):
        yield (
            f"{layer}→{following}",
            phase_of(analysis, layer),
            _figure(analysis.cos_adjacent, row, "+.4f"),
            _figure(pearson.diagonal(1), row, "+.4f"),
        )


def phase_of(analysis: Analysis, layer: int) -> str:
    """Name of the phase that a layer belongs to, ``-`` for none."""
    return next((printable(phase.name, 24) for phase in analysis.phases if phase.first <= layer <= phase.last), "-")


def cost_line(analysis: Analysis, gains: Origin) -> str:
    """What was read, and how long it took."""
    seconds = analysis.seconds + gains.seconds
    read = moved(gains.bytes_read, gains.bytes_cached)
    return (
        f"read {read} of {size(gains.checkpoint_bytes)} in {plural(gains.shards, 'shard')}, "
        f"{plural(gains.requests, 'read')}, {seconds:.2f} s on {analysis.device}"
    )


def _print_head(analysis: Analysis, gains: Origin, console: Console) -> None:
    commit = f" @ {gains.revision[:7]}" if gains.revision else ""
    console.print(Text(f"{printable(gains.model)}{commit} · site {gains.site}: {gains.site_reason}", style="bold"))
    formula = f"γ = {gains.offset:g} + w" if gains.offset else "γ = w"
    console.print(
        f"{printable(gains.pattern)} · {plural(analysis.num_layers, 'layer')} × {analysis.hidden} · "
        f"{gains.stored_dtype} · {formula} · {analysis.method} in {analysis.dtype}, "
        f"± {analysis.error_estimate:.0e}"
    )


def _figure(values: Tensor | None, index: int, form: str) -> str:
    if values is None or math.isnan(figure := float(values[index])):
        return "-"
    return format(figure, form)


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
