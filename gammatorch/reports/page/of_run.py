"""The page of one analysis."""

from __future__ import annotations

from collections.abc import Iterator

from gammatorch.reports.figures.gains import FIGURES as OF_GAINS
from gammatorch.reports.figures.gains import GainsOf
from gammatorch.reports.figures.run import FIGURES
from gammatorch.reports.page.html import bullets, facts, page, paragraph, section, table
from gammatorch.reports.page.pictures import pictures, saved
from gammatorch.reports.says import says_rows
from gammatorch.reports.text import moved, plural, size
from gammatorch.results.documents import GainsDocument
from gammatorch.results.run import RunDocument


def run_page(document: RunDocument, gains: GainsDocument | None = None) -> str:
    """The page of a result file.

    Args:
        document: What ``gammatorch run --out`` wrote.
        gains: The gains, which result files do not hold; without them γ itself is not drawn.
    """
    of_gains = pictures(OF_GAINS, GainsOf(gains, document.statistics.outliers)) if gains else ""
    statistics = says_rows(
        document.statistics, document.num_layers, ranked=document.statistics.rank_correlation is not None
    )
    return page(
        document.model or "Gains of a tensor",
        [
            paragraph(f"{document.answer.sentence} Support {document.answer.support:.2f}.", "answer"),
            facts(_head(document)),
            section("Notes", bullets(document.notes)),
            section("The gains", of_gains or paragraph(_NO_GAINS)),
            section("Figures", pictures(FIGURES, document)),
            section(
                "What it says, with 95 % bounds over channels",
                table(["<figure", "value", "low", "high", "<reference"], statistics),
            ),
            section("Directions by phase", table(_PHASE_COLUMNS, _phase_rows(document))),
            section("Where it comes from", facts(_provenance(document)), saved(document)),
        ],
    )


_NO_GAINS = (
    "A result file holds no gains: `gammatorch report MODEL` and `report(gains, out)` in Python draw γ itself as well."
)


def _head(document: RunDocument) -> Iterator[tuple[str, str]]:
    offset = document.offset
    formula = None if offset is None else (f"γ = {offset:g} + w" if offset else "γ = w")
    keys = document.keys
    yield "site", ": ".join(filter(None, (document.site, document.site_reason)))
    yield "stack", document.stack or ""
    yield "shape", f"{plural(document.num_layers, 'layer')} × {document.hidden}"
    yield "gain", ", ".join(filter(None, (formula, document.provenance.stored_dtype)))
    yield "tensors", "" if not keys else keys[0] if len(keys) == 1 else f"{keys[0]} … {keys[-1]}"
    yield "revision", document.provenance.commit or ""


_PHASE_COLUMNS = ("<phase", "layers", "N", "‖γ‖ mean", "‖γ‖ std", "intra_cos", "vs_other_cos")


def _phase_rows(document: RunDocument) -> Iterator[list[str]]:
    for phase in document.phases:
        first, last = phase.first, phase.last
        layers = f"{first}-{last}" if last != first else str(first)
        lengths = [_figure(size, ".3f") for size in (phase.norm_mean, phase.norm_std)]
        cosines = [_figure(cosine, "+.4f") for cosine in (phase.intra_cos, phase.vs_other_cos)]
        yield [phase.name, layers, str(phase.n), *lengths, *cosines]


def _provenance(document: RunDocument) -> Iterator[tuple[str, str]]:
    from_ = document.provenance
    yield "versions", f"gammatorch {from_.gammatorch}, torch {from_.torch}, Python {from_.python}"
    error = f"{document.error_estimate:.0e}"
    yield "computed", f"{document.method} in {from_.dtype} on {from_.device}, ± {error}"
    if from_.bytes_read is not None:
        whole = "" if from_.checkpoint_bytes is None else f" of {size(from_.checkpoint_bytes)}"
        shards = "" if from_.shards is None else f" in {plural(from_.shards, 'shard')}"
        yield "read", f"{moved(from_.bytes_read, from_.bytes_cached or 0)}{whole}{shards}"
    yield "took", f"{from_.seconds:.2f} s"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
