"""A sweep's plan, its summary, its items by step and their anomalies, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gammatorch.reports.console import cut, print_table
from gammatorch.reports.text import plural, printable, size
from gammatorch.results.sweep import Failure, Noticed, PlanDocument, SweepDocument, TimelineDocument

_NAMED = 3
"""Other items that failed for the same reason which a table names."""


def print_summary(summary: SweepDocument, console: Console) -> None:
    """Print what a sweep did, and what failed."""
    part = f", shard {summary.shard}" if summary.shard else ""
    console.print()
    planned = f": {plural(summary.planned, 'item')} planned{part}"
    console.print(Text(cut(printable(summary.out), console.width - len(planned)) + planned))
    rate = f", {summary.done / summary.seconds:.1f} items/s" if summary.done and summary.seconds else ""
    console.print(
        f"{summary.done} done in {summary.seconds:.1f} s{rate}, {size(summary.bytes_read)} read; "
        f"{summary.present} were there; {summary.failed} failed"
    )
    if summary.failures:
        print_failures(summary.failures, console)


def print_failures(failures: Sequence[Failure], console: Console) -> None:
    """Print what failed and why, each reason once; the next run tries it again."""
    reasons: dict[str, list[Failure]] = {}
    for failure in failures:
        reasons.setdefault(_reason(failure), []).append(failure)
    rows = [_failed_row(reason, group) for reason, group in reasons.items()]
    print_table(console, "Failed; the same command tries them again", ["<item", "<why"], rows, folded=("why",))


def _reason(failure: Failure) -> str:
    """What is wrong, without the path of the item where that stands in front."""
    where, _, reason = failure.message.partition(": ")
    return reason if reason and where.endswith(failure.name) else failure.message


def _failed_row(reason: str, group: Sequence[Failure]) -> list[str]:
    """The first item that failed for a reason, how many others did, and some of their names."""
    names = [printable(failure.name) for failure in group]
    if len(names) == 1:
        return [names[0], printable(group[0].message, 1000)]
    more = f" and {len(names) - _NAMED - 1} more" if len(names) > _NAMED + 1 else ""
    same = f"{plural(len(names), 'item')}, the others: {', '.join(names[1 : _NAMED + 1])}{more}"
    return [names[0], f"{printable(reason, 1000)} ({same})"]


def print_plan(plan: PlanDocument, console: Console) -> None:
    """Print the items that a sweep would read, and how many bytes of each."""
    rows = []
    for one in plan.items:
        shape = f"{one.layers} × {one.width}" if one.layers is not None else "-"
        read = "-" if one.done else size(one.bytes_to_read)
        state = "done" if one.done else printable(one.problem or "to do", 1000)
        step = "-" if one.step is None else str(one.step)
        rows.append([printable(one.item), step, shape, read, size(one.checkpoint_bytes), state])
    columns = ["<item", "step", "shape", "to read", "of", "<state"]
    print_table(console, "Items", columns, rows, least=("of", "step", "shape"), folded=("state",))
    broken = sum(not one.done and one.problem is not None for one in plan.items)
    unreadable = f" ({broken} of them cannot be read)" if broken else ""
    console.print(
        f"{plural(len(rows), 'item')}, {plan.missing} to do{unreadable}, {size(plan.bytes_to_read)} to read "
        f"of {size(plan.checkpoint_bytes)}"
    )


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
    """Print a sweep's items step by step, then what is odd about them."""
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
    """A figure in a table, with the digits that it needs."""
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
