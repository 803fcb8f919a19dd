"""The findings of a gain audit: as lines, and as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gammatorch.analysis.audit import Finding
from gammatorch.analysis.plain import plain
from gammatorch.gains.stack import StoredWeights
from gammatorch.reports.console import print_table
from gammatorch.reports.text import plural, printable

STYLES = {"error": "red", "warning": "yellow", "note": ""}


def print_audit(document: dict[str, Any], findings: Sequence[Finding], console: Console) -> None:
    """Print what was audited, its findings, and their count.

    Args:
        document: What :func:`audit_document` made.
        findings: The findings.
        console: Where to.
    """
    against = f" against {printable(document['against'])}" if document["against"] else ""
    stack = f" · stack {printable(document['stack']) or '(top)'}"
    console.print(Text(f"{printable(document['model'])}{stack}{against}", style="bold"))
    print_table(
        console,
        "Sites that were read",
        ("<site", "layers", "hidden", "<γ", "mean w", "below zero"),
        [
            (
                printable(site["site"], 40),
                str(site["layers"]),
                str(site["hidden"]),
                f"{site['offset']:g} + w" if site["offset"] else "w",
                "-" if site["mean"] is None else f"{site['mean']:.4f}",
                f"{site['negative']:.1%}",
            )
            for site in document["sites"]
        ],
    )
    console.print()
    for finding in findings:
        text = f"{finding.level}: {finding.site}: {finding.what}: {finding.text}"
        console.print(Text(printable(text, None), style=STYLES[finding.level]))
    counts = Counter(finding.level for finding in findings)
    console.print(Text(", ".join(plural(counts[level], level) for level in STYLES), style="bold"))


def audit_document(
    model: str, against: str | None, stack: str, sites: Sequence[StoredWeights], findings: Sequence[Finding]
) -> dict[str, Any]:
    """The audit as plain values.

    Args:
        model: What was audited.
        against: The reference, if there was one.
        stack: Name of the stack whose sites were read.
        sites: The weights of each site that was read.
        findings: The findings.
    """
    return {
        "schema_version": 1,
        "model": model,
        "against": against,
        "stack": stack,
        "sites": [
            {
                "site": stored.site,
                "layers": len(stored.layers),
                "hidden": stored.weights.shape[1],
                "offset": stored.offset,
                "mean": plain(stored.mean),
                "negative": stored.negative,
            }
            for stored in sites
        ],
        "findings": [asdict(finding) for finding in findings],
        "errors": sum(finding.level == "error" for finding in findings),
    }
