"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, takewhile

from gammatorch.reports.figures.steps import MOST_MAPS, matrices_by_step, named
from gammatorch.reports.figures.sweep import FIGURES
from gammatorch.reports.page.html import bullets, folded, page, paragraph, section, table
from gammatorch.reports.page.pictures import picture, pictures
from gammatorch.reports.sweep import COLUMNS, LONGEST_TABLE, figure
from gammatorch.reports.text import plural
from gammatorch.results.comparison import letter
from gammatorch.results.sweep import Curve, CurveFigures, CurvesDocument


def sweep_page(document: CurvesDocument, matrices: Mapping[str, bytes] | None = None) -> str:
    """The page of a sweep.

    Args:
        document: As :func:`~gammatorch.sweep.curves.sweep_document` gives it.
        matrices: Correlations between the layers of each item by name, as little-endian 32-bit floats, row by row.
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
            section("What happened in training", bullets(map(_course, range(len(document.curves)), document.curves))),
            section("Anomalies", anomalies or paragraph("None was found.")),
            section("Notes", bullets(f"{one.kind}: {one.text}" for one in document.notes)),
            section("Training runs", table(_RUN_COLUMNS, _run_rows(document))),
            section("Figures", pictures(FIGURES, document)),
            section("Layers step by step", _sliders(document, matrices or {})),
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


def _course(place: int, curve: Curve) -> str:
    """What happened over the steps of a run, in a sentence."""
    first, last = curve.steps[0], curve.steps[-1]
    told = [
        f"{title} {_arrow(values, form)}"
        for name, title, form in _COURSE
        if len(values := [value for value in getattr(curve, name) if value is not None]) > 1
    ]
    nearest = [(value, row) for row, value in enumerate(curve.pearson_previous) if value is not None]
    if nearest and (row := min(nearest)[1]) > 0:
        told.append(
            f"the pattern changed most from step {curve.steps[row - 1]} to {curve.steps[row]} (r {min(nearest)[0]:.3f})"
        )
    return f"{named(place, curve)}, steps {first} to {last}: {'; '.join(told) or 'a single item'}."


_COURSE = (
    ("rms_gamma", "RMS γ", ".3g"),
    ("shared_energy", "shared energy", ".3f"),
    ("effective_dimension", "participation ratio", ".3g"),
)


def _arrow(values: list[float], form: str) -> str:
    first, last = format(values[0], form), format(values[-1], form)
    return (
        f"stays at {first}"
        if first == last
        else f"{'rises' if values[-1] > values[0] else 'falls'} from {first} to {last}"
    )


def _sliders(document: CurvesDocument, matrices: Mapping[str, bytes]) -> str:
    """Correlations between layers with a slider over the steps, a training run each."""
    drawn = [
        picture(f"matrix{place}", named(place, curve), _SLIDER, figure_, len(figure_["layout"]["meta"]["steps"]))
        for place, curve in enumerate(document.curves[:MOST_MAPS])
        if (figure_ := matrices_by_step(curve, matrices)) is not None
    ]
    return f'<div class="pictures">{"".join(drawn)}</div>' if drawn else ""


_SLIDER = (
    "Rank correlation between every two layers at one step; the slider moves it. Of long runs every Nth step is here. "
    "Colours are the same at all steps."
)


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
