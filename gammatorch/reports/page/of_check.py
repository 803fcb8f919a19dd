"""The page of an audit."""

from __future__ import annotations

from collections.abc import Iterator

from gammatorch.reports.page.html import facts, page, paragraph, section, table
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
            section("Findings, worst first", table(_FINDING_COLUMNS, _finding_rows(document))),
            section("Layers against the reference", table(_LAYER_COLUMNS, _layer_rows(document))),
            section("Sites", table(("<site", "layers × hidden", "offset"), sites)),
        ],
    )


_FINDING_COLUMNS = ("<level", "<site", "<finding", "<layers", "<text")


def _finding_rows(document: CheckDocument) -> Iterator[list[str]]:
    for one in document.findings:
        yield [one.level, one.site, one.what, ", ".join(map(str, one.layers)) or "all", one.text]


_LAYER_COLUMNS = ("<site", "layer", "<verdict", "drift", "<detail")


def _layer_rows(document: CheckDocument) -> list[list[str]]:
    """Layers that are not the reference's first, those that are farthest from it above."""
    ordered = sorted(document.verdicts, key=lambda one: (one.verdict == "same", -(one.drift or 0.0)))
    return [
        [one.site, str(one.layer), one.verdict, "-" if one.drift is None else f"{one.drift:.3g}", one.detail or "-"]
        for one in ordered
    ]


def counted(document: CheckDocument) -> str:
    """How many findings there are of each level."""
    levels = [one.level for one in document.findings]
    return ", ".join(plural(levels.count(level), level) for level in ("error", "warning", "note"))
