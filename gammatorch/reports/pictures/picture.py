"""One picture: what it is called, what it shows, which figures it needs, and who draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from gammatorch.reports.pictures.canvas import styled, to_svg
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
    """

    title: str
    caption: str
    draw: Callable[[Mapping[str, Any]], Figure]
    of: tuple[str, ...]
    matrix: bool = False

    def has_figures(self, document: Mapping[str, Any]) -> bool:
        """Whether any of its figures is a number."""
        found = [_find(document, name.split(".")) for name in self.of]
        if self.matrix:
            found = [[row[:place] + row[place + 1 :] for place, row in enumerate(rows)] for rows in found]
        return _any_number(found)

    def figure(self, document: Mapping[str, Any]) -> Figure:
        """The figure, drawn in the style of all pictures."""
        with styled():
            return self.draw(document)

    def svg(self, document: Mapping[str, Any], name: str) -> str:
        """The figure as an ``svg`` element, with a text alternative read from it.

        Args:
            document: Where its figures are.
            name: Of the picture in its table.
        """
        with styled():
            figure = self.draw(document)
            return to_svg(figure, name, in_html(f"{self.title}. {'; '.join(described(figure))}", 1000))


def described(figure: Figure) -> Iterator[str]:
    """What is drawn, for those who do not see it: each curve and matrix with its range."""
    for axes in figure.axes:
        across = " ".join((axes.get_xlabel() or "position").split())
        for line in axes.get_lines():
            name = str(line.get_label())
            if not name.startswith("_"):
                yield f"{name} by {across}: {_range(line.get_ydata())}"
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


def _any_number(value: Any) -> bool:
    """Whether there is a number in nested lists and mappings."""
    if isinstance(value, Mapping):
        return any(map(_any_number, value.values()))
    if isinstance(value, list):
        return any(map(_any_number, value))
    return isinstance(value, int | float)
