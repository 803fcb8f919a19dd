"""What transformers, asked by behaviour, says of the headers and the table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

import msgspec
from rich.console import Console

from gammatorch.architectures.base import PLACES
from gammatorch.reports.console import Row, print_table
from gammatorch.reports.text import plural, printable
from gammatorch.results.inspection import InspectionDocument, VerifiedNorm
from gammatorch.verify.oracle import Finding

_WIDTH = 80
_NAME_WIDTH = 26
_COLUMNS = ("<verdict", "<place", "offset", "observed", "<input", "<norm")


def with_verification(
    document: InspectionDocument, findings: Sequence[Finding], doubt: str | None
) -> InspectionDocument:
    """An inspection's document with what transformers says.

    Args:
        document: The inspection.
        findings: What was found.
        doubt: Why nothing could be found, None if something was.
    """
    norms = msgspec.convert(findings, list[VerifiedNorm], from_attributes=True)
    return msgspec.structs.replace(document, verification=norms, verification_doubt=doubt)


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
    console.print("\nVerified on a tiny model built by transformers")
    for stack in dict.fromkeys(finding.stack for finding in findings):
        rows = finding_rows([finding for finding in findings if finding.stack == stack])
        print_table(console, printable(stack, _WIDTH) or "(top)", _COLUMNS, rows, least=("input", "offset"))
    for finding in findings:
        if finding.verdict == "differ":
            said = (
                f"{printable(finding.name)}: the table says {finding.place} with offset {finding.offset:g}; it acts "
                f"with offset {finding.observed_offset:g}{' on the block input' if finding.on_input else ''}: "
                "gammatorch/architectures/families.py needs an entry"
            )
            console.print("\n".join(wrap(said, min(_WIDTH, console.width))))
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("agree", "differ")}
    unsure = len(findings) - sum(counts.values())
    agree = f"{plural(counts['agree'], 'norm')} agree{'s' if counts['agree'] == 1 else ''}"
    console.print(f"{agree}, {counts['differ']} differ, {unsure} cannot tell")


def finding_rows(findings: Sequence[Finding]) -> Iterator[Row]:
    """Rows of a table that is 80 columns wide: a long name goes on in rows that hold nothing else."""
    for finding in findings:
        first, *others = _pieces(printable(finding.name))
        yield (
            finding.verdict,
            finding.place if finding.place in PLACES else "-",
            f"{finding.offset:.4g}",
            "-" if finding.observed_offset is None else f"{finding.observed_offset:.4g}",
            "yes" if finding.on_input else "no",
            first,
        )
        for piece in others:
            yield ("", "", "", "", "", piece)


def _pieces(name: str) -> list[str]:
    """A name in lines that fit the last column, broken after a dot where there is one."""
    pieces = [""]
    for part in re.findall(rf"[^.]{{1,{_NAME_WIDTH - 1}}}\.?|\.", name):
        if len(pieces[-1]) + len(part) > _NAME_WIDTH:
            pieces.append("")
        pieces[-1] += part
    return pieces
