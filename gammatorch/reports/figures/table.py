"""All figures as one table, and one of them as Plotly's object or as a picture file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gammatorch.errors import InvalidArgument
from gammatorch.reports.document import replacing
from gammatorch.reports.figures import comparison, gains, run, sweep
from gammatorch.reports.figures.figure import Figure
from gammatorch.reports.figures.gains import GainsOf
from gammatorch.reports.needed import need_kaleido, need_plotly
from gammatorch.results.comparison import ComparisonDocument
from gammatorch.results.documents import GainsDocument
from gammatorch.results.run import RunDocument
from gammatorch.results.sweep import CurvesDocument

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

FIGURES: Mapping[type, Mapping[str, Figure[Any]]] = {
    RunDocument: run.FIGURES,
    GainsOf: gains.FIGURES,
    ComparisonDocument: comparison.FIGURES,
    CurvesDocument: sweep.FIGURES,
}
"""By what they are drawn from: figures by name."""


def plot(document: object, name: str, held: GainsDocument | None = None) -> go.Figure:
    """A figure of a result.

    Args:
        document: The result.
        name: A name of :data:`FIGURES`.
        held: Its gains, for the figures that show γ itself.

    Raises:
        InvalidArgument: There is no figure of that name, or nothing to draw in it; or plotly is not installed.
    """
    given = {type(document): document} if type(document) in FIGURES else {}
    if isinstance(document, GainsDocument):
        given = {GainsOf: GainsOf(document)}
    elif isinstance(document, RunDocument):
        given[GainsOf] = GainsOf(held, document.statistics.outliers) if held else None
    known = {one: kind for kind in given for one in FIGURES[kind]}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise InvalidArgument(f"no figure {name!r}: {meant}there are {', '.join(known) or 'none of this result'}")
    source, figure = given[known[name]], FIGURES[known[name]][name]
    if source is None:
        raise InvalidArgument(f"figure {name!r} shows γ itself: pass the gains, as in plot({name!r}, gains)")
    if why := figure.why_left_out(source):
        raise InvalidArgument(f"figure {name!r} cannot be drawn, since {why}")
    need_plotly()
    import plotly.graph_objects as go

    return go.Figure(figure.draw(source)).update_layout(title=figure.title, margin={"t": 90})


def first_figure(document: object) -> go.Figure:
    """The figure that stands for a result where there is room for one.

    Args:
        document: The result.

    Raises:
        InvalidArgument: As :func:`plot`; there is no figure of such a result.
    """
    of_gains = isinstance(document, GainsDocument)
    names = FIGURES.get(GainsOf if of_gains else type(document))
    if not names:
        raise InvalidArgument("an audit has no figures: pass .json, .html or a table's suffix")
    return plot(document, next(iter(names)))


def save_image(figure: go.Figure, out: Path) -> None:
    """Write a figure as a picture, whole or not at all.

    Args:
        figure: The figure.
        out: Its suffix tells the format.

    Raises:
        InvalidArgument: kaleido, which draws it, is not installed.
        OutputError: It could not be written.
    """
    need_kaleido()
    image = figure.to_image(format=out.suffix[1:].lower(), width=900, height=600)
    with replacing(out) as part:
        part.write_bytes(image)
