"""The page of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from gammatorch.reports.figures.comparison import FIGURES
from gammatorch.reports.mapping import named_mapping
from gammatorch.reports.page.html import bullets, facts, page, section, table
from gammatorch.reports.page.pictures import pictures, saved
from gammatorch.reports.text import moved, plural, size
from gammatorch.results.comparison import ComparisonDocument, letter


def comparison_page(document: ComparisonDocument) -> str:
    """The page of a comparison.

    Args:
        document: What ``gammatorch compare --out`` wrote.
    """
    pairs = list(combinations(range(len(document.models)), 2))
    sentences = [
        f"{letter(other)} and {letter(one)}: {pair.verdict}: {pair.sentence}."
        for (one, other), pair in zip(pairs, document.pairs, strict=True)
        if one == 0
    ]
    for (one, other), pair in zip(pairs, document.pairs, strict=True):
        if (named := named_mapping(pair, letter(one))) is not None:
            sentences.append(f"{letter(other)}'s {named}.")
    return page(
        f"{len(document.models)} checkpoints compared",
        [
            table(["<", "<checkpoint", "<commit", "<stored", "<gain"], _model_rows(document)),
            section("What it says", bullets(sentences), facts(_families(document))),
            section("Notes", bullets(document.notes)),
            section("Figures", pictures(FIGURES, document)),
            section("Every pair, with 95 % bounds over channels", table(_PAIR_COLUMNS, _pair_rows(document))),
            section("Where it comes from", facts(_provenance(document)), saved(document)),
        ],
    )


def _model_rows(document: ComparisonDocument) -> Iterator[list[str]]:
    columns = (document.models, document.revisions, document.stored_dtypes, document.offsets)
    for place, (model, revision, dtype, offset) in enumerate(zip(*columns, strict=True)):
        formula = f"γ = {offset:g} + w" if offset else "γ = w"
        yield [letter(place), model, (revision or "-")[:7], dtype, formula]


def _families(document: ComparisonDocument) -> Iterator[tuple[str, str]]:
    models = document.models
    called = {model: letter(place) for place, model in enumerate(models)}
    if len(called) < len(models):  # two revisions have one name
        called = {}
    yield "families", " · ".join(", ".join(called.get(model, model) for model in one) for one in document.families)
    for bridge in document.bridges:
        links = " and ".join(called.get(model, model) for model in bridge.links)
        name = called.get(bridge.model, bridge.model)
        yield "bridge", f"{name} links {links}, which are unrelated to each other"


_PAIR_COLUMNS = (
    *("<pair", "pearson", "rank r", "low", "high", "chance", "‖Δ‖/‖γ‖", "low", "high", "‖Δ‖/spread", "CKA"),
    "<verdict",
)


def _pair_rows(document: ComparisonDocument) -> Iterator[list[str]]:
    pairs = combinations(range(len(document.models)), 2)
    for (one, other), pair in zip(pairs, document.pairs, strict=True):
        mean, drift = pair.mean_rank_correlation, pair.total_drift
        yield [
            f"{letter(other)}-{letter(one)}",
            _figure(pair.mean_pearson.value, "+.4f"),
            *(_figure(part, "+.4f") for part in (mean.value, mean.low, mean.high)),
            _figure(mean.null_95, ".4f"),
            *(_figure(part, ".2e") for part in (drift.value, drift.low, drift.high)),
            _figure(pair.total_drift_of_spread.value, ".2e"),
            _figure(pair.cka.value, "+.4f"),
            pair.verdict,
        ]


def _provenance(document: ComparisonDocument) -> Iterator[tuple[str, str]]:
    from_ = document.provenance
    yield "site", f"{document.site}: {document.site_reason}"
    yield "stack", document.stack or ""
    yield "shape", f"{plural(document.num_layers, 'layer')} × {document.hidden}"
    yield "versions", f"gammatorch {from_.gammatorch}, on {from_.device}"
    yield "read", f"{moved(from_.bytes_read, from_.bytes_cached)} of {size(from_.checkpoint_bytes)}"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
