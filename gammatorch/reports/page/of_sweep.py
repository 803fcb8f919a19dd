"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, takewhile

from gammatorch.reports.page.html import bullets, folded, page, paragraph, section, table
from gammatorch.reports.page.pictures import pictures
from gammatorch.reports.pictures.of_sweep import FIGURES
from gammatorch.reports.sweep import COLUMNS, LONGEST_TABLE, figure
from gammatorch.reports.text import plural
from gammatorch.results.comparison import letter
from gammatorch.results.sweep import Curve, CurveFigures, CurvesDocument


def sweep_page(document: CurvesDocument) -> str:
    """The page of a sweep.

    Args:
        document: As :func:`~gammatorch.sweep.curves.sweep_document` gives it.
    """
    count = sum(len(curve.item) for curve in _curves(document))
    anomalies = bullets(f"{one.kind}: {one.text}" for one in document.anomalies)
    shown = f", the first {LONGEST_TABLE} of {count}; `sweep --format json` tells all" if count > LONGEST_TABLE else ""
    folder = _folder(item for curve in _curves(document) for item in curve.item)
    within = f" in {folder}" if folder else ""
    return page(
        f"Sweep {document.out}",
        [
            paragraph(_answer(document, count), "answer"),
            section("Anomalies", anomalies or paragraph("None was found.")),
            section("Notes", bullets(f"{one.kind}: {one.text}" for one in document.notes)),
            section("Training runs", table(_RUN_COLUMNS, _run_rows(document))),
            section("Pictures", pictures(FIGURES, document)),
            section(
                "Items",
                folded(
                    f"The figures of every item{within}{shown}",
                    table(_ITEM_COLUMNS, islice(_item_rows(document, folder), LONGEST_TABLE)),
                ),
            ),
            section("Failed", bullets(f"{one.name}: {one.message}" for one in document.failures)),
        ],
    )


def _answer(document: CurvesDocument, count: int) -> str:
    runs, odd = len(document.curves), len(document.anomalies)
    found = f"{odd} anomal{'y' if odd == 1 else 'ies'}" if odd else "no anomalies"
    failed = f", {len(document.failures)} failed" if document.failures else ""
    unordered = len(document.unordered.item)
    if not runs:
        return f"{plural(count, 'item')} done{failed}: no steps of a training run; {found}."
    apart = f", {plural(unordered, 'item')} without a step" if unordered else ""
    return f"{plural(count, 'item')} done{failed}: {plural(runs, 'training run')}{apart}; {found}."


def _curves(document: CurvesDocument) -> list[CurveFigures]:
    return [*document.curves, document.unordered]


_RUN_COLUMNS = ("<", "<run", "<site", "<settings", "items", "steps", "layers × hidden")


def _run_rows(document: CurvesDocument) -> Iterator[list[str]]:
    for place, curve in enumerate(document.curves):
        steps = curve.steps
        shape = f"{len(curve.layers)} × {curve.hidden}"
        span = f"{steps[0]}-{steps[-1]}"
        yield [letter(place), curve.run, curve.site, curve.settings or "-", str(len(steps)), span, shape]


_ITEM_COLUMNS = ("<run", "<item", "step", *COLUMNS.values())


def _folder(items: Iterable[str]) -> str:
    """The folder that all items are in, with a slash at its end; empty where they have none in common."""
    parts = zip(*(item.split("/")[:-1] for item in items), strict=False)
    return "".join(f"{same[0]}/" for same in takewhile(lambda column: len(set(column)) == 1, parts))


def _item_rows(document: CurvesDocument, folder: str) -> Iterator[list[str]]:
    for place, curve in enumerate(_curves(document)):
        is_run = isinstance(curve, Curve)
        run = letter(place) if is_run else "-"
        for row, item in enumerate(curve.item):
            step = str(curve.steps[row]) if isinstance(curve, Curve) else "-"
            yield [run, item.removeprefix(folder), step, *(figure(name, getattr(curve, name)[row]) for name in COLUMNS)]
