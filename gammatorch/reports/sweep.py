"""A sweep's plan and its summary, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gammatorch.reports.console import print_table
from gammatorch.reports.text import plural, printable, size
from gammatorch.results.sweep import Failure, PlanDocument, SweepDocument


def print_summary(summary: SweepDocument, console: Console) -> None:
    """Print what a sweep did, and what failed.

    Args:
        summary: What it did.
        console: Where to.
    """
    part = f", shard {summary.shard}" if summary.shard else ""
    console.print()
    console.print(Text(f"{printable(summary.out)}: {plural(summary.planned, 'item')} planned{part}"))
    rate = f", {summary.done / summary.seconds:.1f} items/s" if summary.done and summary.seconds else ""
    console.print(
        f"{summary.done} done in {summary.seconds:.1f} s{rate}, {size(summary.bytes_read)} read; "
        f"{summary.present} were there; {summary.failed} failed"
    )
    if summary.failures:
        print_failures(summary.failures, console)


def print_failures(failures: Sequence[Failure], console: Console) -> None:
    """Print what failed and why; the next run tries it again.

    Args:
        failures: What failed.
        console: Where to.
    """
    rows = [[printable(failure.name), printable(failure.message, 1000)] for failure in failures]
    print_table(console, "Failed; the same command tries them again", ["<item", "<why"], rows)


def print_plan(plan: PlanDocument, console: Console) -> None:
    """Print the items that a sweep would read, and how many bytes of each.

    Args:
        plan: What it would read.
        console: Where to.
    """
    rows = []
    for one in plan.items:
        shape = f"{one.layers} × {one.width}" if one.layers is not None else "-"
        read = "-" if one.done else size(one.bytes_to_read)
        state = "done" if one.done else printable(one.problem or "to do", 1000)
        step = "-" if one.step is None else str(one.step)
        rows.append([printable(one.item), step, shape, read, size(one.checkpoint_bytes), state])
    print_table(console, "Items", ["<item", "step", "shape", "to read", "of", "<state"], rows)
    broken = sum(not one.done and one.problem is not None for one in plan.items)
    unreadable = f" ({broken} of them cannot be read)" if broken else ""
    console.print(
        f"{plural(len(rows), 'item')}, {plan.missing} to do{unreadable}, {size(plan.bytes_to_read)} to read "
        f"of {size(plan.checkpoint_bytes)}"
    )
