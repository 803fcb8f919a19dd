"""What transformers, asked by behaviour, says of the headers and the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from gammatorch.reports.console import Row, print_table
from gammatorch.reports.text import plural, printable
from gammatorch.verify.oracle import Finding


def verification_document(findings: Sequence[Finding], doubt: str | None) -> dict[str, Any]:
    """The findings as plain values, ready for JSON."""
    return {"verification": [asdict(finding) for finding in findings], "verification_doubt": doubt}


def print_verification(findings: Sequence[Finding], doubt: str | None, console: Console) -> None:
    """Print a line per norm and, where the table is wrong, what to change in it.

    Args:
        findings: What was found.
        doubt: Why nothing could be found, None if something was.
        console: Where to.
    """
    if doubt is not None:
        console.print(f"\nVerification cannot tell: {printable(doubt, None)}")
        return
    columns = ("<norm", "<place", "offset", "observed", "<on the input", "<verdict")
    print_table(console, "Verified on a tiny model built by transformers", columns, finding_rows(findings))
    for finding in findings:
        if finding.verdict == "differ":
            console.print(
                f"{printable(finding.name)}: the table says {finding.place} with offset {finding.offset:g}; it acts "
                f"with offset {finding.observed_offset:g}{' on the block input' if finding.on_input else ''}: "
                "gammatorch/architectures/families.py needs an entry"
            )
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("agree", "differ")}
    unsure = len(findings) - sum(counts.values())
    agree = f"{plural(counts['agree'], 'norm')} agree{'s' if counts['agree'] == 1 else ''}"
    console.print(f"{agree}, {counts['differ']} differ, {unsure} cannot tell")


def finding_rows(findings: Sequence[Finding]) -> Iterator[Row]:
    """One row per norm: name, place, offset of the table, offset observed, whether it is on the input, verdict."""
    for finding in findings:
        yield (
            printable(finding.name if finding.place == "final" else f"{finding.stack}.*.{finding.name}", 72),
            printable(finding.place, 24),
            f"{finding.offset:g}",
            "-" if finding.observed_offset is None else f"{finding.observed_offset:g}",
            "yes" if finding.on_input else "no",
            finding.verdict,
        )
