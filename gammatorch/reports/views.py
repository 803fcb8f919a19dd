"""Each kind of result as others see it: its summary, its small table, its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from gammatorch.errors import InvalidArgument
from gammatorch.reports.page.html import bullets, facts, page, section, table
from gammatorch.reports.page.of_check import check_page, counted
from gammatorch.reports.page.of_result import result_page
from gammatorch.reports.text import plural, printable
from gammatorch.result import View
from gammatorch.results.comparison import letter
from gammatorch.results.tidy import COLUMNS, figure_rows, pair_rows

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]

    from gammatorch.analysis.checkup import Audit
    from gammatorch.analysis.lineage import Comparison
    from gammatorch.analysis.result import Analysis
    from gammatorch.gains.stack import Gains
    from gammatorch.results.documents import GainsDocument

_FEW = 12
"""Pairs or findings that a summary or a notebook's table names."""


def analysis_view(analysis: Analysis) -> View:
    """An analysis: its verdict, and the figures that bear on the question with their bounds."""
    from gammatorch.reports.says import says_rows
    from gammatorch.results.run import run_document, run_statistics

    layers, ranked = analysis.num_layers, analysis.statistics["rank_correlation"] is not None
    origin, answer = analysis.gains, analysis.answer
    of = f"{printable(origin.model)}, site {origin.site}" if origin else "a tensor"
    return View(
        summary=f"Analysis of {of}, {plural(layers, 'layer')} × {analysis.hidden}: "
        f"{answer.verdict}, support {answer.support:.2f}",
        columns=("<figure", "value", "low", "high", "<reference"),
        rows=lambda: list(says_rows(run_statistics(analysis), layers, ranked=ranked)),
        document=partial(run_document, analysis),
        names=COLUMNS,
        figures=lambda: figure_rows(run_document(analysis)),
        page=lambda: result_page(run_document(analysis)),
    )


def comparison_view(comparison: Comparison) -> View:
    """A comparison: the verdict on each pair."""
    from gammatorch.reports.comparison import pair_row
    from gammatorch.results.comparison import comparison_document

    names = [f"{letter(pair.model)}-{letter(pair.against)}" for pair in comparison.pairs]
    told = [f"{name} {pair.kinship.verdict}" for name, pair in zip(names, comparison.pairs, strict=True)]
    more = f" and {len(told) - _FEW} more" if len(told) > _FEW else ""
    document = cache(partial(comparison_document, comparison))
    first = comparison.gains[0]
    return View(
        summary=f"Comparison of {plural(len(comparison.gains), 'checkpoint')}, site {first.site}, "
        f"{plural(len(first.layers), 'layer')} × {comparison.hidden}: {', '.join(told[:_FEW])}{more}",
        columns=("<pair", "pearson", "rank r", "low", "high", "chance", "‖Δ‖/‖γ‖", "‖Δ‖/spread", "CKA", "<verdict"),
        rows=lambda: [pair_row(name, pair) for name, pair in zip(names, document().pairs, strict=True)],
        document=document,
        names=("model", "against", *COLUMNS),
        figures=lambda: pair_rows(document()),
        page=lambda: result_page(document()),
    )


def audit_view(audit: Audit) -> View:
    """What ``check`` found: how many errors, and each finding."""
    from gammatorch.results.audit import check_document

    document = check_document(audit)
    found = ("level", "what", "site", "text")
    return View(
        summary=f"Audit of {printable(audit.model)}, {plural(len(audit.sites), 'site')} of stack "
        f"{printable(audit.stack)}: {counted(document)}",
        columns=("<level", "<site", "<finding"),
        rows=lambda: [(one.level, one.site, f"{one.what}: {one.text}") for one in audit.findings],
        document=lambda: document,
        names=found,
        figures=lambda: [[getattr(one, name) for name in found] for one in audit.findings],
        page=lambda: check_page(document),
    )


def gains_view(gains: Gains) -> View:
    """Gains: where they are from, and the size of each layer's."""
    from gammatorch.results.documents import gains_document

    layers, hidden = gains.gamma.shape
    summary = (
        f"Gains of {printable(gains.model)}, site {gains.site}, {plural(layers, 'layer')} × {hidden}, "
        f"{str(gains.gamma.dtype).removeprefix('torch.')} on {gains.gamma.device}"
    )
    columns, sizes = ("layer", *(f"{name} γ" for name in SIZES)), cache(lambda: list(_sizes(gains)))

    def cells() -> list[tuple[str, ...]]:
        return [(str(layer), *(f"{value:.4f}" for value in values)) for layer, *values in sizes()]

    return View(
        summary=summary,
        columns=columns,
        rows=cells,
        document=partial(gains_document, gains),
        names=COLUMNS,
        figures=lambda: [(layer, *one) for layer, *values in sizes() for one in zip(SIZES, values, strict=True)],
        page=lambda: gains_page(gains_document(gains), table(columns, cells())),
    )


SIZES = ("rms", "mean", "std", "min", "max")
"""What is told of the gain of each layer."""


def _sizes(gains: Gains) -> Iterator[tuple[int, *tuple[float, ...]]]:
    """The layer, and RMS, mean, standard deviation, least and greatest value of its gain."""
    gamma = gains.gamma.detach().double() if gains.gamma.device.type != "mps" else gains.gamma.detach().cpu().double()
    found = ((gamma**2).mean(1).sqrt(), gamma.mean(1), gamma.std(1, correction=0), gamma.amin(1), gamma.amax(1))
    for layer, *values in zip(gains.layers, *(one.tolist() for one in found), strict=True):
        yield layer, *values


def gains_page(document: GainsDocument, sizes: str) -> str:
    """The page of gains."""
    shape = f"{plural(document.num_layers, 'layer')} × {document.hidden}"
    told = [
        ("site", f"{document.site}: {document.site_reason}"),
        ("stack", document.stack or ""),
        ("shape", shape),
        ("stored", document.stored_dtype),
    ]
    return page(document.model, [facts(told), section("Notes", bullets(document.notes)), section("Layers", sizes)])


TYPES: Mapping[str, str] = {"layer": "Int64", "step": "Int64", "value": "float64"}
"""Columns that are not of texts; ``Int64`` holds whole numbers of which some are missing."""


def frame(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> DataFrame:
    """Rows as a table whose whole numbers are whole, also where some are missing.

    Raises:
        InvalidArgument: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InvalidArgument(f"to_dataframe needs pandas ({error}): pip install pandas") from None
    table = pandas.DataFrame(list(rows), columns=list(names), dtype=object)
    return table.astype({name: TYPES.get(name, "str") for name in names})
