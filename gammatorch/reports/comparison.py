"""Checkpoints side by side, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from gammatorch.analysis.lineage import Comparison, Pair
from gammatorch.reports.console import NARROWEST, Row, cut, print_table
from gammatorch.reports.glossary import GLOSSARY
from gammatorch.reports.mapping import named_mapping
from gammatorch.reports.text import moved, plural, printable, size
from gammatorch.results.comparison import ComparisonDocument, PairFigures, comparison_document, letter

_LAYERED = 4
"""Checkpoints up to which each has a table of its layers, and each pair a row: more of them are a matrix."""

_SIGNS = {
    "identical": "=",
    "permuted": "p",
    "fine-tuned": "f",
    "related": "r",
    "partly": "~",
    "unrelated": ".",
    "undetermined": "?",
}


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print one line for each site, where there are several, and the comparison at the first in full.

    Args:
        comparisons: Of the same checkpoints, one of each site.
        console: Where to.
    """
    if len(comparisons) > 1:
        print_table(
            console,
            f"{plural(len(comparisons), 'site')}, all layers together, against {letter(0)}",
            ("<site", "<pair", "rank r", "chance", "‖Δ‖/spread", "<verdict"),
            [row for one in comparisons for row in _site_rows(one)],
            least=("chance", "‖Δ‖/spread"),
        )
        console.print()
    print_comparison(comparisons[0], console)


def _site_rows(comparison: Comparison) -> Iterator[Row]:
    for pair, found in zip(comparison.pairs, comparison_document(comparison).pairs, strict=True):
        if pair.against == 0:
            rank = found.mean_rank_correlation
            yield (
                comparison.gains[0].site,
                f"{letter(pair.model)}-{letter(0)}",
                _figure(rank.value, "+.4f"),
                _figure(rank.null_95, ".4f"),
                _figure(found.total_drift_of_spread.value, ".2e"),
                found.verdict,
            )


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison: the checkpoints, each layer against the first, every pair, the families.

    Args:
        comparison: What :func:`~gammatorch.analysis.lineage.compare` found.
        console: Where to.
    """
    document = comparison_document(comparison)
    pairs = list(zip(comparison.pairs, document.pairs, strict=True))
    _print_checkpoints(comparison, document.notes, console)
    if len(comparison.gains) > _LAYERED:
        _print_matrix(comparison, document, console)
    else:
        _print_pairs(pairs, console)
    console.print()
    _print_lineage(comparison, document, console)
    console.print()
    from_ = document.provenance
    console.print(f"read {moved(from_.bytes_read, from_.bytes_cached)} of {size(from_.checkpoint_bytes)}")


def _print_pairs(pairs: Sequence[tuple[Pair, PairFigures]], console: Console) -> None:
    """Each layer against the first checkpoint's, and every pair."""
    for pair, found in pairs:
        if pair.against == 0 and pair.evidence is not None:
            print_table(
                console,
                f"{letter(pair.model)} against {letter(0)}, layer by layer, with 95 % bounds over channels",
                ("layer", f"{letter(0)}'s", "cos", "pearson", "rank r", "low", "high", "‖Δ‖/‖γ‖", "‖Δ‖/spread"),
                layer_rows(found),
                least=("cos", "‖Δ‖/spread", "pearson"),
            )
    print_table(
        console,
        "All layers together, with 95 % bounds over channels",
        ("<pair", "pearson", "rank r", "low", "high", "chance", "‖Δ‖/‖γ‖", "‖Δ‖/spread", "CKA", "<verdict"),
        (pair_row(f"{letter(pair.model)}-{letter(pair.against)}", found) for pair, found in pairs),
        least=("‖Δ‖/spread", "CKA", "pearson", "chance", "‖Δ‖/‖γ‖"),
    )
    console.print("rank r: of normal scores; the verdict rests on it. chance: unrelated checkpoints stay below it.")
    console.print(f"CKA {GLOSSARY['CKA'].reference}; those of unrelated checkpoints may, too.")


def _print_matrix(comparison: Comparison, document: ComparisonDocument, console: Console) -> None:
    """Every checkpoint against every other: mean rank correlations, or signs of the verdicts where there are many."""
    count, width = len(comparison.gains), max(console.width if console.is_terminal else 80, NARROWEST)
    figures = {(pair.model, pair.against): found for pair, found in zip(comparison.pairs, document.pairs, strict=True)}
    names = [letter(number) for number in range(count)]
    is_wide = 5 + 6 * count > width
    cell = max(2, len(names[-1])) if is_wide else 5
    title = "Verdicts on all pairs" if is_wide else "Mean rank correlation of every pair, over all layers"
    console.print()
    console.print(Text(title, style="bold"))
    shown = min(count, (width - 5) // (cell + 1))
    console.print("    " + "".join(f" {name:>{cell}}" for name in names[:shown]))
    for row in range(count):
        cells = []
        for column in range(min(row, shown)):
            pair = figures[row, column]
            rank = pair.mean_rank_correlation.value
            cells.append(_SIGNS[pair.verdict] if is_wide else _figure(rank, "+.2f"))
        console.print(f"{names[row]:>4}" + "".join(f" {one:>{cell}}" for one in cells))
    if is_wide:
        console.print(" · ".join(f"{sign} {verdict}" for verdict, sign in _SIGNS.items()))
    if shown < count - 1:
        console.print(f"the columns of {names[shown]} and later ones do not fit: --format json has every pair")


def _print_checkpoints(comparison: Comparison, notes: Sequence[str], console: Console) -> None:
    first = comparison.gains[0]
    for number, one in enumerate(comparison.gains):
        commit = f" @ {one.revision[:7]}" if one.revision else ""
        facts = f"{commit} · {one.stored_dtype}"
        name = cut(printable(one.model), console.width - len(facts) - 3)
        console.print(Text(f"{letter(number)}  {name}{facts}", style="bold"))
    console.print(f"site {first.site}: {first.site_reason} · {printable(first.pattern)}")
    shapes = [
        f"{plural(len(one.layers), 'layer')} × {hidden}"
        for one, hidden in zip(comparison.gains, comparison.widths, strict=True)
    ]
    console.print(shapes[0] if len(set(shapes)) == 1 else ", ".join(shapes))
    for note in notes:
        console.print(Text(f"note: {printable(note, None)}", style="yellow"))


def _print_lineage(comparison: Comparison, document: ComparisonDocument, console: Console) -> None:
    """The verdict on each checkpoint beside the first, families and bridges."""
    for pair, found in zip(comparison.pairs, document.pairs, strict=True):
        if pair.against != 0:
            continue
        name = letter(pair.model)
        console.print(Text(f"{name} and {letter(0)}: {found.verdict}: {found.sentence}.", style="bold"))
        if (named := named_mapping(found, letter(0))) is not None:
            console.print(f"{name}'s {named}.")
    if len(comparison.gains) > 2:
        named = " · ".join(" ".join(map(letter, family)) for family in comparison.families)
        console.print(Text(f"Families: {named}", style="bold"))
    for bridge in comparison.bridges:
        one, other = map(letter, bridge.links)
        console.print(f"{letter(bridge.model)} links {one} and {other}, which are unrelated to each other.")


def layer_rows(pair: PairFigures) -> Iterator[Row]:
    """One row per layer: its counterpart, cosine, correlations and drift."""
    rank = pair.rank_correlation
    for row, (layer, other) in enumerate(zip(pair.layers, pair.mapping, strict=True)):
        yield (
            str(layer),
            "-" if other is None else str(other),
            *(_figure(part[row], "+.4f") for part in (pair.cosine.value, pair.pearson.value)),
            *(_figure(part[row], "+.4f") for part in (rank.value, rank.low, rank.high)),
            *(_figure(part[row], ".2e") for part in (pair.drift.value, pair.drift_of_spread.value)),
        )


def pair_row(names: str, pair: PairFigures) -> Row:
    """The figures of a pair over all layers: mean correlation, what chance gives, drift, likeness of structure."""
    rank = pair.mean_rank_correlation
    return (
        names,
        _figure(pair.mean_pearson.value, "+.4f"),
        *(_figure(part, "+.4f") for part in (rank.value, rank.low, rank.high)),
        _figure(rank.null_95, ".4f"),
        *(_figure(part.value, ".2e") for part in (pair.total_drift, pair.total_drift_of_spread)),
        _figure(pair.cka.value, "+.4f"),
        pair.verdict,
    )


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
