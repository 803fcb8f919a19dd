"""One figure: what it is called, what it shows, which numbers it needs, and who draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gammatorch.reports.figures.look import Spec

Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Figure(Generic[Drawn]):
    """A line of a table of figures.

    Attributes:
        title: Its heading.
        caption: What it shows and how to read it, one or two sentences.
        draw: From the document to the figure as a dictionary.
        of: From the document to its numbers, in lists within each other; it is left out where all are null.
        matrix: Whether they are a matrix, whose diagonal tells nothing.
        log: Whether it has a logarithmic axis, on which 0 has no place.
    """

    title: str
    caption: str
    draw: Callable[[Drawn], Spec]
    of: Callable[[Drawn], Sequence[object] | None]
    matrix: bool = False
    log: bool = False

    def why_left_out(self, document: Drawn) -> str | None:
        """What is the matter with its numbers where there is nothing to draw, as a clause; None where there is."""
        numbers = _numbers(self.of(document), self.matrix)
        if (first := next(numbers, None)) is None:
            return "there are no figures for it"
        none_above = self.log and first <= 0 and all(number <= 0 for number in numbers)
        return "none of its figures is above 0" if none_above else None


def _numbers(value: Any, is_matrix: bool = False) -> Iterator[float]:
    """The numbers in nested lists; of a matrix those off the diagonal."""
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _numbers(inner[:place] + inner[place + 1 :] if is_matrix else inner)
    elif isinstance(value, int | float):
        yield value
