"""What every result can do for whoever holds it: show itself, become plain values or a table, be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gammatorch.errors import InvalidArgument

if TYPE_CHECKING:
    import os

    from pandas import DataFrame  # type: ignore[import-untyped]
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

    from gammatorch.results.base import Document

KINDS = {"layer": int, "step": int, "value": float}
"""What columns of tidy tables hold that are no texts."""


@dataclass(frozen=True)
class View:
    """A result as others see it.

    Attributes:
        summary: One line, safe to print.
        columns: Heads of the small table of a notebook; one that starts with ``<`` is of names.
        rows: Makes its cells.
        document: Makes the document that ``--out`` writes.
        names: Columns of the tidy table.
        figures: Makes its rows.
        page: Makes the HTML page.
        drawn: Makes the document that figures are drawn from, where that is another than the one that is written.
    """

    summary: str
    columns: Sequence[str]
    rows: Callable[[], Sequence[Sequence[str]]]
    document: Callable[[], Document]
    names: Sequence[str]
    figures: Callable[[], Iterable[Sequence[Any]]]
    page: Callable[[], str]
    drawn: Callable[[], Document] | None = None


class Result:
    """A result: its ``repr`` is a summary, a notebook shows a small table below."""

    def _view(self) -> View:
        """How this kind of result is seen."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._view().summary

    def _repr_html_(self) -> str:
        from gammatorch.reports.page.html import paragraph, table

        view = self._view()
        return paragraph(view.summary) + table(view.columns, view.rows())

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python values, ready for JSON: undefined numbers are None, never NaN."""
        from gammatorch.results.files import to_plain

        return to_plain(self._view().document())

    def to_dataframe(self) -> DataFrame:
        """The figures as a tidy pandas table, one row for each: ``layer`` is missing for figures of all layers.

        Raises:
            InvalidArgument: pandas is not installed.
        """
        from gammatorch.reports.views import frame

        view = self._view()
        return frame(view.names, view.figures())

    def plot(self, name: str, gains: Any = None) -> Figure:
        """A figure of the result, as Plotly's object: a notebook shows it, ``write_image`` and ``write_html`` save it.

        Args:
            name: The figure, as ``"rank_correlation"``; a wrong name lists those of this kind of result.
            gains: For the figures that show γ itself (``"gamma"``, ``"distribution"``, ``"massive"``), the gains that
                were analysed: an analysis keeps none, so that it stays small.

        Raises:
            InvalidArgument: There is no such figure, nothing to draw in it, or plotly is not installed.
        """
        from gammatorch.reports.figures.table import plot
        from gammatorch.results.documents import held_gains

        view = self._view()
        return plot((view.drawn or view.document)(), name, None if gains is None else held_gains(gains))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that ``--out`` of the command writes, whole or not at all.

        Args:
            path: Its suffix decides: ``.json``; ``.html`` for the page of ``gammatorch report``; ``.png``, ``.svg`` or
                ``.pdf`` for the first figure of that page; ``.csv``, ``.jsonl``, ``.parquet`` or ``.sqlite`` for the
                table of :meth:`to_dataframe`.

        Raises:
            InvalidArgument: The suffix is none of these, or what it takes is not installed.
            OutputError: It could not be written; an existing file is as it was.
        """
        from gammatorch.reports.document import SUFFIXES, check_writable, write_atomically
        from gammatorch.results.files import to_json

        target, view = Path(path), self._view()
        suffix = target.suffix.lower()
        if suffix not in SUFFIXES:
            raise InvalidArgument(
                f"{target}: a result is saved as {', '.join(SUFFIXES)}, not {suffix or 'a name without suffix'}"
            )
        check_writable(target)
        if suffix == ".json":
            write_atomically(target, to_json(view.document()))
        elif suffix == ".html":
            write_atomically(target, view.page())
        elif suffix in (".png", ".svg", ".pdf"):
            from gammatorch.reports.figures.table import first_figure, save_image

            save_image(first_figure((view.drawn or view.document)()), target)
        else:
            from gammatorch.reports.table_files import Table, write_table

            write_table(Table("figures", {name: KINDS.get(name, str) for name in view.names}, view.figures()), target)
