"""The findings of gain audits, as lines and tables."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.text import Text

from gammatorch.reports.console import print_table
from gammatorch.reports.text import plural, printable
from gammatorch.results.audit import CheckDocument, ChecksDocument

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
    _print_findings(document, console)
    counts = _counts(document)
    console.print(Text(", ".join(plural(counts[level], level) for level in STYLES), style="bold"))


def print_audits(document: ChecksDocument, console: Console) -> None:
    """Print one row for each model, worst first, and below it the findings of those that have errors or warnings.

    Args:
        document: What was found.
        console: Where to.
    """
    against = f" against {printable(document.against)}" if document.against else ""
    console.print(Text(f"{plural(len(document.models), 'model')}{against}", style="bold"))
    print_table(
        console, "Models, worst first", ("<model", "errors", "warnings", "<worst finding"), map(_row, document.models)
    )
    for one in document.models:
        if any(finding.level != "note" for finding in one.findings):
            console.print()
            console.print(Text(printable(one.model), style="bold"))
            _print_findings(one, console)


def _row(document: CheckDocument) -> tuple[str, ...]:
    counts, worst = _counts(document), document.findings[0] if document.findings else None
    told = f"{worst.site}: {worst.what}" if worst is not None else "-"
    return printable(document.model), str(counts["error"]), str(counts["warning"]), printable(told, 60)


def _counts(document: CheckDocument) -> Counter[str]:
    return Counter(finding.level for finding in document.findings)


def _print_findings(document: CheckDocument, console: Console) -> None:
    for finding in document.findings:
        text = f"{finding.level}: {finding.site}: {finding.what}: {finding.text}"
        console.print(Text(printable(text, None), style=STYLES[finding.level]))
