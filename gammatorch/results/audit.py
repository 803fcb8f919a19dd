"""The result of ``check``: the keys of its JSON, and how they are filled from an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gammatorch.results.base import Document, Figure, Number, Whole, build, plain

if TYPE_CHECKING:
    from gammatorch.analysis.against import LayerVerdict
    from gammatorch.analysis.checkup import Audit


class AuditedSite(Document, frozen=True, kw_only=True):
    """One site that was read: its shape, its offset, and the stored weights' mean and share ``negative``."""

    site: str
    layers: Whole
    hidden: Whole
    offset: Number
    mean: Figure
    negative: Number


class AuditFinding(Document, frozen=True):
    """Something that a reader of the gains should know: ``what`` it is in a word, and the sentence with its numbers.

    ``site`` names several where they agree, joined by commas; ``layers`` is empty where the whole site is meant.
    """

    level: Literal["error", "warning", "note"]
    what: str
    site: str
    text: str
    layers: list[Whole]


class LayerRecord(Document, frozen=True, kw_only=True):
    """What one layer of one site is to the reference's.

    Attributes:
        site: The site.
        layer: The layer.
        verdict: A word: ``"same"``, ``"tuned"``, ``"shifted"`` …
        drift: How far it is from the reference's, in units of the spread over channels; null where the two have none.
        detail: The number or name that the verdict needs: the shift, the factor, the type; null where it needs none.
        other_site: Site of the reference that it is instead, if it is another's.
        other_layer: The layer of it.
    """

    site: str
    layer: Whole
    verdict: str
    drift: Figure
    detail: str | None
    other_site: str | None
    other_layer: Whole | None


class CheckDocument(Document, frozen=True, kw_only=True):
    """What ``check --out`` writes of one model.

    Attributes:
        model: What was audited.
        against: The reference, if there was one.
        stack: Name of the stack whose sites were read.
        sites: The sites that were read.
        findings: What was found, worst first.
        verdicts: Of every layer of every site; empty without a reference.
        errors: Number of findings that are errors.
    """

    schema_version: Literal[1] = 1
    model: str
    against: str | None
    stack: str
    sites: list[AuditedSite]
    findings: list[AuditFinding]
    verdicts: list[LayerRecord]
    errors: Whole


class ChecksDocument(Document, frozen=True, kw_only=True):
    """What ``check --out`` writes of several models.

    Attributes:
        against: The reference, if there was one.
        models: What was found in each, worst first.
        errors: Number of findings that are errors, in all of them.
    """

    schema_version: Literal[1] = 1
    against: str | None
    models: list[CheckDocument]
    errors: Whole


def check_document(audited: Audit) -> CheckDocument:
    """The whole result of an audit."""
    fields = {
        "model": audited.model,
        "against": audited.against,
        "stack": audited.stack,
        "sites": [
            {
                "site": stored.site,
                "layers": len(stored.layers),
                "hidden": stored.weights.shape[1],
                "offset": stored.offset,
                "mean": plain(stored.mean),
                "negative": stored.negative,
            }
            for stored in audited.sites
        ],
        "findings": audited.findings,
        "verdicts": [_record(one) for one in audited.verdicts],
        "errors": sum(finding.level == "error" for finding in audited.findings),
    }
    return build(fields, CheckDocument)


def _record(one: LayerVerdict) -> dict[str, object]:
    site, layer = one.other if one.other is not None else (None, None)
    return {
        "site": one.site,
        "layer": one.layer,
        "verdict": one.verdict,
        "drift": plain(one.drift),
        "detail": one.detail,
        "other_site": site,
        "other_layer": layer,
    }


def checks_document(documents: Sequence[CheckDocument], against: str | None) -> ChecksDocument:
    """The results of several audits, worst first.

    Args:
        documents: Of each model.
        against: The reference, if there was one.
    """

    def badness(one: CheckDocument) -> tuple[int, int]:
        return -one.errors, -sum(finding.level == "warning" for finding in one.findings)

    errors = sum(one.errors for one in documents)
    return ChecksDocument(against=against, models=sorted(documents, key=badness), errors=errors)
