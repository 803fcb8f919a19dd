"""One picture: what it is called, what it shows, which figures it needs, and who draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from matplotlib.figure import Figure

from gammatorch.reports.pictures.canvas import styled, to_svg, widen_level
from gammatorch.reports.text import in_html


@dataclass(frozen=True)
class Picture:
    """A line of a table of pictures.

    Attributes:
        title: Its heading.
        caption: What it shows and how to read it, one or two sentences.
        draw: From the document to the figure.
        of: Where the document has its figures, parts of a name joined by dots, ``*`` for every entry of a list; it is
            left out where all are null.
        matrix: Whether they are a matrix, whose diagonal tells nothing.
        log: Whether it has a logarithmic axis, on which 0 has no place.
    """

    title: str
    caption: str
    draw: Callable[[Mapping[str, Any]], Figure]
    of: tuple[str, ...]
    matrix: bool = False
    log: bool = False

    def has_figures(self, document: Mapping[str, Any]) -> bool:
        """Whether there is anything to draw."""
        return self.why_left_out(document) is None

    def why_left_out(self, document: Mapping[str, Any]) -> str | None:
        """What is the matter with its figures where there is nothing to draw, as a clause; None where there is."""
        found = [_find(document, name.split(".")) for name in self.of]
        if self.matrix:
            found = [[row[:place] + row[place + 1 :] for place, row in enumerate(rows)] for rows in found]
        numbers = list(_numbers(found))
        if not numbers:
            return "there are no figures for it"
        return "none of its figures is above 0" if self.log and max(numbers) <= 0 else None

    def figure(self, document: Mapping[str, Any]) -> Figure:
        """The figure, drawn in the style of all pictures."""
        with styled():
            figure = self.draw(document)
            for axes in figure.axes:
                widen_level(axes)
            return figure

    def svg(self, document: Mapping[str, Any], name: str) -> str:
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


def _find(document: Any, parts: Sequence[str]) -> Any:
    if not parts or document is None:
        return document
    if parts[0] == "*":
        return [_find(one, parts[1:]) for one in document]
    return _find(document[parts[0]], parts[1:])


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in nested lists and mappings."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        yield from chain.from_iterable(map(_numbers, value))
    elif isinstance(value, int | float):
        yield value
