"""What a sweep tells, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gammatorch.reports.console import print_table
from gammatorch.reports.text import plural, printable
from gammatorch.results.sweep import Noticed, SweepDocument, TimelineDocument

LONGEST_TABLE = 1000
"""Lines printed; JSON holds all."""

COLUMNS = {
    "rms_gamma": "RMS γ",
    "shared_energy": "shared",
    "effective_dimension": "part. ratio",
    "pearson_previous": "r previous",
    "pearson_last": "r last",
    "drift": "drift",
}
"""The figures of an item, and what they are called in a table."""


def print_timeline(told: TimelineDocument | SweepDocument, console: Console) -> None:
    """Print a sweep's items step by step, then what is odd about them.

    Args:
        told: What a sweep tells.
        console: Where to.
    """
    entries = told.timeline
    odd = {name for finding in told.anomalies for name in finding.items}
    rows = [
        [
            printable(entry.item),
            "-" if entry.step is None else str(entry.step),
            *(figure(name, getattr(entry, name)) for name in COLUMNS),
            "!" if entry.item in odd else "",
        ]
        for entry in entries[:LONGEST_TABLE]
    ]
    if rows:
        columns = ["<item", "step", *COLUMNS.values(), "<"]
        print_table(console, "Items by step", columns, rows, least=("part. ratio", "r last", "shared", "drift"))
    if len(entries) > LONGEST_TABLE:
        console.print(f"… {plural(len(entries) - LONGEST_TABLE, 'item')} more: --format json gives all")
    _print_findings("Anomalies", told.anomalies, console, "bold red")
    _print_findings("Notes", told.notes, console, "yellow")


def figure(name: str, value: float | None) -> str:
    """A figure in a table, with the digits that it needs.

    Args:
        name: One of :data:`COLUMNS`.
        value: The figure, None where it is undefined.
    """
    if value is None:
        return "-"
    return f"{value:.2e}" if name == "drift" else f"{value:.4f}"


def _print_findings(title: str, findings: Sequence[Noticed], console: Console, style: str) -> None:
    if findings:
        console.print()
        console.print(Text(title, style="bold"))
    for finding in findings:
        line = Text(f"{finding.kind}: ", style=style)
        console.print(line.append(printable(finding.text, None), style="default"))
