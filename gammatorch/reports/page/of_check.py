"""The page of an audit."""

from __future__ import annotations

from gammatorch.reports.page.html import bullets, facts, page, paragraph, section, table
from gammatorch.reports.text import plural
from gammatorch.results.audit import CheckDocument


def check_page(document: CheckDocument) -> str:
    """The page of an audit.

    Args:
        document: What ``gammatorch check --out`` wrote.
    """
    sites = [(one.site, f"{one.layers} × {one.hidden}", f"{one.offset:g}") for one in document.sites]
    return page(
        f"Check of {document.model}",
        [
            paragraph(f"{counted(document)}.", "answer"),
            facts([("stack", document.stack), ("reference", document.against or "")]),
            section(
                "Findings", bullets(f"{one.level}: {one.site}: {one.what}: {one.text}" for one in document.findings)
            ),
            section("Sites", table(("<site", "layers × hidden", "offset"), sites)),
        ],
    )


def counted(document: CheckDocument) -> str:
    """How many findings there are of each level."""
    levels = [one.level for one in document.findings]
    return ", ".join(plural(levels.count(level), level) for level in ("error", "warning", "note"))
