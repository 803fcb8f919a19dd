"""The result of ``check``: the keys of its JSON, and how they are filled from an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gammatorch.results.base import Document, Figure, Number, Whole, build
from gammatorch.results.plain import plain

if TYPE_CHECKING:
    from gammatorch.analysis.audit import Finding
    from gammatorch.gains.stack import StoredWeights


class AuditedSite(Document, frozen=True, kw_only=True):
    """One site that was read: its shape, its offset, and the stored weights' mean and share ``negative``."""

    site: str
    layers: Whole
    hidden: Whole
    offset: Number
    mean: Figure
    negative: Number


class AuditFinding(Document, frozen=True):
    """Something that a reader of the gains should know: ``what`` it is in a word, and the sentence with its numbers."""

    level: Literal["error", "warning", "note"]
    what: str
    site: str
    text: str


class CheckDocument(Document, frozen=True, kw_only=True):
    """What ``check --out`` writes.

    Attributes:
        model: What was audited.
        against: The reference, if there was one.
        stack: Name of the stack whose sites were read.
        sites: The sites that were read.
        findings: What was found.
        errors: Number of findings that are errors.
    """

    schema_version: Literal[1] = 1
    model: str
    against: str | None
    stack: str
    sites: list[AuditedSite]
    findings: list[AuditFinding]
    errors: Whole


def check_document(
    model: str, against: str | None, stack: str, sites: Sequence[StoredWeights], findings: Sequence[Finding]
) -> CheckDocument:
    """The whole result of an audit.

    Args:
        model: What was audited.
        against: The reference, if there was one.
        stack: Name of the stack whose sites were read.
        sites: The weights of each site that was read.
        findings: The findings.
    """
    fields = {
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
        "findings": findings,
        "errors": sum(finding.level == "error" for finding in findings),
    }
    return build(fields, CheckDocument)
