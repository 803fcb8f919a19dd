"""Checkpoints side by side: as tables, and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.kinship import Evidence
from gammatorch.analysis.lineage import Comparison, Pair
from gammatorch.analysis.plain import plain
from gammatorch.gains.stack import Origin
from gammatorch.reports.console import Row, print_table
from gammatorch.reports.glossary.comparing import COMPARISONS
from gammatorch.reports.mapping import named_mapping
from gammatorch.reports.text import letter, moved, plural, printable, size
from gammatorch.version import __version__

SCHEMA_VERSION = 1

_PARTS = ("value", "low", "high")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison: the checkpoints, each layer against the first, every pair, the families.

    Args:
        comparison: What :func:`~gammatorch.analysis.lineage.compare` found.
        console: Where to.
    """
    _print_checkpoints(comparison, console)
    for pair in comparison.pairs:
        if pair.against == 0 and pair.evidence is not None:
            print_table(
                console,
                f"{letter(pair.model)} against {letter(0)}, layer by layer, with 95 % bounds over channels",
                ("layer", f"{letter(0)}'s", "cos", "pearson", "rank r", "low", "high", "‖Δ‖/‖γ‖", "‖Δ‖/spread"),
                layer_rows(pair, comparison),
            )
    print_table(
        console,
        "All layers together, with 95 % bounds over channels",
        ("<pair", "pearson", "rank r", "low", "high", "chance", "‖Δ‖/‖γ‖", "‖Δ‖/spread", "CKA", "<verdict"),
        map(pair_row, comparison.pairs),
    )
    console.print("rank r: of normal scores; the verdict rests on it. chance: unrelated checkpoints stay below it.")
    console.print(f"CKA {COMPARISONS['CKA'].reference}; those of unrelated checkpoints may, too.")
    console.print()
    for pair in comparison.pairs:
        if pair.against == 0:
            names = f"{letter(pair.model)} and {letter(pair.against)}"
            line = f"{names}: {pair.kinship.verdict}: {pair.kinship.sentence}."
            console.print(Text(line, style="bold"))
            if (named := named_mapping(pair_document(pair, comparison), letter(0))) is not None:
                console.print(f"{letter(pair.model)}'s {named}.")
    if len(comparison.gains) > 2:
        named = " · ".join(" ".join(map(letter, family)) for family in comparison.families)
        console.print(Text(f"Families: {named}", style="bold"))
    for bridge in comparison.bridges:
        one, other = map(letter, bridge.links)
        console.print(f"{letter(bridge.model)} links {one} and {other}, which are unrelated to each other.")
    console.print()
    read, cached, whole = (
        sum(getattr(one, name) for one in comparison.gains)
        for name in ("bytes_read", "bytes_cached", "checkpoint_bytes")
    )
    console.print(f"read {moved(read, cached)} of {size(whole)}")


def _print_checkpoints(comparison: Comparison, console: Console) -> None:
    first = comparison.gains[0]
    for number, one in enumerate(comparison.gains):
        commit = f" @ {one.revision[:7]}" if one.revision else ""
        console.print(Text(f"{letter(number)}  {printable(one.model)}{commit} · {one.stored_dtype}", style="bold"))
    console.print(f"site {first.site}: {first.site_reason} · {printable(first.pattern)}")
    shapes = [
        f"{plural(len(one.layers), 'layer')} × {hidden}"
        for one, hidden in zip(comparison.gains, comparison.widths, strict=True)
    ]
    console.print(shapes[0] if len(set(shapes)) == 1 else ", ".join(shapes))
    for note in _notes(comparison):
        console.print(Text(f"note: {printable(note, None)}", style="yellow"))


def layer_rows(pair: Pair, comparison: Comparison) -> Iterator[Row]:
    """One row per layer: its counterpart, cosine, correlations and drift."""
    found, document = pair.figures, pair_document(pair, comparison)
    rank = document["rank_correlation"]
    for row, (layer, other) in enumerate(zip(document["layers"], document["mapping"], strict=True)):
        yield (
            str(layer),
            "-" if other is None else str(other),
            *(_figure(float(part.value[row]), "+.4f") for part in (found.cosine, found.pearson)),
            *(_figure(rank[part][row], "+.4f") for part in _PARTS),
            *(_figure(float(part.value[row]), ".2e") for part in (found.drift, found.drift_of_spread)),
        )


def pair_row(pair: Pair) -> Row:
    """The figures of a pair over all layers: mean correlation, what chance gives, drift, likeness of structure."""
    found, rank = pair.figures, plain(_mean_rank(pair))
    return (
        f"{letter(pair.model)}-{letter(pair.against)}",
        _figure(float(found.mean_pearson.value), "+.4f"),
        *(_figure(rank[part], "+.4f") for part in _PARTS),
        _figure(rank["null_95"], ".4f"),
        *(_figure(float(part.value), ".2e") for part in (found.total_drift, found.total_drift_of_spread)),
        _figure(float(found.cka.value), "+.4f"),
        pair.kinship.verdict,
    )


def _has_ranks(pair: Pair) -> bool:
    return pair.evidence is not None and pair.evidence.basis != "pearson"


def _mean_rank(pair: Pair) -> dict[str, Any]:
    """Mean rank correlation of a pair and what chance gives; None where there are no ranks."""
    if pair.evidence is None or not _has_ranks(pair):
        return dict.fromkeys((*_PARTS, "null_95"))
    return {**_interval(pair.evidence.mean), "null_95": pair.evidence.match.null_95}


def _rank(pair: Pair) -> dict[str, Any]:
    """The same by layer, without chance."""
    if pair.evidence is None or not _has_ranks(pair):
        return dict.fromkeys(_PARTS, [None] * pair.figures.cosine.value.shape[-1])
    return _interval(pair.evidence.correlation)


def _notes(comparison: Comparison) -> list[str]:
    """What is noted of the checkpoints, under their letter where it is not noted of all."""
    notes: dict[str, list[str]] = {}
    for number, one in enumerate(comparison.gains):
        for note in one.notes:
            notes.setdefault(note, []).append(letter(number))
    everyone = len(comparison.gains)
    return [note if len(of) == everyone else f"{', '.join(of)}: {note}" for note, of in notes.items()]


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain values, ready for JSON; undefined numbers are None."""
    first = comparison.gains[0]
    names = [one.model for one in comparison.gains]
    return {
        "schema_version": SCHEMA_VERSION,
        "models": names,
        "revisions": [one.revision for one in comparison.gains],
        "stored_dtypes": [one.stored_dtype for one in comparison.gains],
        "offsets": [one.offset for one in comparison.gains],
        "num_layers": len(first.layers),
        "hidden": comparison.hidden,
        "layers": list(first.layers),
        "site": first.site,
        "site_reason": first.site_reason,
        "stack": first.stack,
        "widths": list(comparison.widths),
        "layer_counts": [len(one.layers) for one in comparison.gains],
        "pairs": [pair_document(pair, comparison) for pair in comparison.pairs],
        "families": [[names[one] for one in family] for family in comparison.families],
        "bridges": [
            {"model": names[bridge.model], "links": [names[one] for one in bridge.links]}
            for bridge in comparison.bridges
        ],
        "notes": _notes(comparison),
        "provenance": {
            "gammatorch": __version__,
            "device": comparison.device,
            "bytes_read": sum(one.bytes_read for one in comparison.gains),
            "bytes_cached": sum(one.bytes_cached for one in comparison.gains),
            "checkpoint_bytes": sum(one.checkpoint_bytes for one in comparison.gains),
            "seconds": sum(one.seconds for one in comparison.gains),
        },
    }


def pair_document(pair: Pair, comparison: Comparison) -> dict[str, Any]:
    """One pair as plain values; what is by layer runs over the layers of ``model``.

    Args:
        pair: The pair.
        comparison: What it is of.
    """
    found, evidence = pair.figures, pair.evidence
    one, other = comparison.gains[pair.model], comparison.gains[pair.against]
    document = {
        "model": one.model,
        "against": other.model,
        "layers": list(one.layers),
        **_matched(evidence, one, other),
        "cosine": _interval(found.cosine),
        "pearson": _interval(found.pearson),
        "rank_correlation": _rank(pair),
        "drift": _interval(found.drift),
        "drift_of_spread": _interval(found.drift_of_spread),
        "mean_pearson": {**_interval(found.mean_pearson), "null_95": found.null_95},
        "mean_rank_correlation": _mean_rank(pair),
        "total_drift": _interval(found.total_drift),
        "total_drift_of_spread": _interval(found.total_drift_of_spread),
        "cka": _interval(found.cka),
        "largest_change": found.largest_change,
        "verdict": pair.kinship.verdict,
        "sentence": pair.kinship.sentence,
    }
    return {name: plain(value) for name, value in document.items()}


def _matched(evidence: Evidence | None, one: Origin, other: Origin) -> dict[str, Any]:
    if evidence is None:
        none, false = [None] * len(one.layers), [False] * len(one.layers)
        rest = {"share_beyond": None, "basis": None, "p_value": None, "p_adjusted": None}
        return {"mapping": none, "beyond": false, "foreign": false, **rest}
    match = evidence.match
    counted = int(match.counted.sum())
    return {
        "mapping": [other.layers[row] for row in match.partners.tolist()],
        "beyond": match.beyond.tolist(),
        "foreign": match.foreign.tolist(),
        "share_beyond": int(match.beyond.sum()) / counted if counted else None,
        "basis": evidence.basis,
        "p_value": match.p_value,
        "p_adjusted": evidence.p_adjusted,
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None or value != value or abs(value) == float("inf") else format(value, form)
