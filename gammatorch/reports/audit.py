"""The findings of a gain audit, as lines."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.text import Text

from gammatorch.reports.console import print_table
from gammatorch.reports.text import plural, printable
from gammatorch.results.audit import CheckDocument

STYLES = {"error": "red", "warning": "yellow", "note": ""}


def print_audit(document: CheckDocument, console: Console) -> None:
    """Print what was audited, its findings, and their count.

    Args:
        document: What was found.
        console: Where to.
    """
    against = f" against {printable(document.against)}" if document.against else ""
    stack = f" · stack {printable(document.stack) or '(top)'}"
    console.print(Text(f"{printable(document.model)}{stack}{against}", style="bold"))
    print_table(
        console,
        "Sites that were read",
        ("<site", "layers", "hidden", "<γ", "mean w", "below zero"),
        [
            (
                printable(site.site, 40),
                str(site.layers),
                str(site.hidden),
                f"{site.offset:g} + w" if site.offset else "w",
                "-" if site.mean is None else f"{site.mean:.4f}",
                f"{site.negative:.1%}",
            )
            for site in document.sites
        ],
    )
    console.print()
    for finding in document.findings:
        text = f"{finding.level}: {finding.site}: {finding.what}: {finding.text}"
        console.print(Text(printable(text, None), style=STYLES[finding.level]))
    counts = Counter[str](finding.level for finding in document.findings)
    console.print(Text(", ".join(plural(counts[level], level) for level in STYLES), style="bold"))
