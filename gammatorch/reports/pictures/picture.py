"""One picture: what it is called, what it shows, which figures it needs, and who draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from gammatorch.reports.pictures.canvas import styled, to_svg, widen_level
from gammatorch.reports.text import in_html
from gammatorch.results.base import Document

Drawn = TypeVar("Drawn", bound=Document)


@dataclass(frozen=True)
class Picture(Generic[Drawn]):
    """A line of a table of pictures.

    Attributes:
        title: Its heading.
        caption: What it shows and how to read it, one or two sentences.
        draw: From the document to the figure.
        of: From the document to its figures, in lists within each other; it is left out where all are null.
        matrix: Whether they are a matrix, whose diagonal tells nothing.
        log: Whether it has a logarithmic axis, on which 0 has no place.
    """

    title: str
    caption: str
    draw: Callable[[Drawn], Figure]
    of: Callable[[Drawn], Sequence[object] | None]
    matrix: bool = False
    log: bool = False

    def has_figures(self, document: Drawn) -> bool:
        """Whether there is anything to draw."""
        return self.why_left_out(document) is None

    def why_left_out(self, document: Drawn) -> str | None:
        """What is the matter with its figures where there is nothing to draw, as a clause; None where there is."""
        numbers = list(_numbers(self.of(document), self.matrix))
        if not numbers:
            return "there are no figures for it"
        return "none of its figures is above 0" if self.log and max(numbers) <= 0 else None

    def figure(self, document: Drawn) -> Figure:
        """The figure, drawn in the style of all pictures."""
        with styled():
            figure = self.draw(document)
            for axes in figure.axes:
                widen_level(axes)
            return figure

    def svg(self, document: Drawn, name: str) -> str:
        """The figure as an ``svg`` element, with a text alternative read from it.

        Args:
            document: Where its figures are.
            name: Of the picture in its table.
        """
        figure = self.figure(document)
        with styled():
            return to_svg(figure, name, in_html(f"{self.title}. {'; '.join(described(figure))}", 1000))


def described(figure: Figure) -> Iterator[str]:
    """What is drawn, for those who do not see it: each curve and matrix with its range."""
    for axes in figure.axes:
        downwards = axes.yaxis_inverted()  # as a list of items goes, with values across
        by = "item" if downwards else " ".join((axes.get_xlabel() or "position").split())
        for line in axes.get_lines():
            name = str(line.get_label())
            if not name.startswith("_"):
                yield f"{name} by {by}: {_range(line.get_xdata() if downwards else line.get_ydata())}"
        for image in axes.get_images():
            yield f"{image.get_label()} by colour: {_range(image.get_clim())}"


def _range(values: Any) -> str:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return f"from {min(finite):.4g} to {max(finite):.4g}" if finite else "undefined"


def _numbers(value: object, is_matrix: bool = False) -> Iterator[float]:
    """The numbers in nested lists; of a matrix those off the diagonal."""
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _numbers(inner[:place] + inner[place + 1 :] if is_matrix else inner)
    elif isinstance(value, int | float):
        yield value
