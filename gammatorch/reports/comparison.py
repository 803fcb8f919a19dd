"""Checkpoints side by side: as tables, and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.lineage import Comparison, Pair
from gammatorch.analysis.plain import plain
from gammatorch.reports.console import Row, print_table
from gammatorch.reports.text import letter, moved, plural, printable, size
from gammatorch.version import __version__

SCHEMA_VERSION = 1


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison: the checkpoints, each layer against the first, every pair, the families.

    Args:
        comparison: What :func:`~gammatorch.analysis.lineage.compare` found.
        console: Where to.
    """
    first = comparison.gains[0]
    layers, hidden = len(first.layers), comparison.hidden
    for number, one in enumerate(comparison.gains):
        commit = f" @ {one.revision[:7]}" if one.revision else ""
        console.print(Text(f"{letter(number)}  {printable(one.model)}{commit} · {one.stored_dtype}", style="bold"))
    console.print(f"site {first.site}: {first.site_reason} · {printable(first.pattern)}")
    console.print(f"{plural(layers, 'layer')} × {hidden}")
    for note in _notes(comparison):
        console.print(Text(f"note: {printable(note, None)}", style="yellow"))
    for pair in comparison.pairs:
        if pair.against == 0:
            print_table(
                console,
                f"{letter(pair.model)} against {letter(0)}, layer by layer, with 95 % bounds over channels",
                ("layer", "cos", "pearson", "low", "high", "‖Δ‖/‖γ‖", "low", "high"),
                layer_rows(pair, first.layers),
            )
    print_table(
        console,
        "All layers together, with 95 % bounds over channels",
        ("<pair", "pearson", "low", "high", "±chance", "‖Δ‖/‖γ‖", "low", "high", "CKA", "<verdict"),
        map(pair_row, comparison.pairs),
    )
    console.print("±chance: unrelated checkpoints stay within. CKA: 1 where layers are related to each other alike,")
    console.print("which strangers of one architecture may be too.")
    console.print()
    for pair in comparison.pairs:
        if pair.against == 0:
            names = f"{letter(pair.model)} and {letter(pair.against)}"
            line = f"{names}: {pair.kinship.verdict}: {pair.kinship.sentence}."
            console.print(Text(line, style="bold"))
    if len(comparison.gains) > 2:
        named = " · ".join(" ".join(map(letter, family)) for family in comparison.families)
        console.print(Text(f"Families: {named}", style="bold"))
    console.print()
    read, cached, whole = (
        sum(getattr(one, name) for one in comparison.gains)
        for name in ("bytes_read", "bytes_cached", "checkpoint_bytes")
    )
    console.print(f"read {moved(read, cached)} of {size(whole)}")


def layer_rows(pair: Pair, layers: Sequence[int]) -> Iterator[Row]:
    """One row per layer: cosine, correlation and drift with their bounds."""
    found = pair.figures
    for row, layer in enumerate(layers):
        yield (
            str(layer),
            _figure(float(found.cosine.value[0, row]), "+.4f"),
            *(_figure(float(part[0, row]), "+.4f") for part in _parts(found.pearson)),
            *(_figure(float(part[0, row]), ".2e") for part in _parts(found.drift)),
        )


def pair_row(pair: Pair) -> Row:
    """The figures of a pair over all layers: mean correlation, what chance gives, drift, likeness of structure."""
    found = pair.figures
    return (
        f"{letter(pair.model)}-{letter(pair.against)}",
        *(_figure(float(part[0]), "+.4f") for part in _parts(found.mean_pearson)),
        _figure(float(found.null_95[0]), ".4f"),
        *(_figure(float(part[0]), ".2e") for part in _parts(found.total_drift)),
        _figure(float(found.cka.value[0]), "+.4f"),
        pair.kinship.verdict,
    )


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
        "pairs": [_pair_document(pair, names) for pair in comparison.pairs],
        "families": [[names[one] for one in family] for family in comparison.families],
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


def _pair_document(pair: Pair, names: Sequence[str]) -> dict[str, Any]:
    found = pair.figures
    document = {
        "model": names[pair.model],
        "against": names[pair.against],
        "cosine": _interval(found.cosine),
        "pearson": _interval(found.pearson),
        "drift": _interval(found.drift),
        "mean_pearson": {**_interval(found.mean_pearson), "null_95": found.null_95[0]},
        "total_drift": _interval(found.total_drift),
        "cka": _interval(found.cka),
        "largest_change": found.largest_change[0],
        "verdict": pair.kinship.verdict,
        "sentence": pair.kinship.sentence,
    }
    return {name: plain(value) for name, value in document.items()}


def _interval(interval: Interval) -> dict[str, Any]:
    return dict(zip(("value", "low", "high"), (part[0] for part in _parts(interval)), strict=True))


def _parts(interval: Interval) -> tuple[Any, Any, Any]:
    return interval.value, interval.low, interval.high


def _figure(value: float, form: str) -> str:
    return "-" if value != value or abs(value) == float("inf") else format(value, form)
