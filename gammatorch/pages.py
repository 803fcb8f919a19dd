"""The page of anything that has one: a result, a result file, the folder of a sweep, or a model, which is analysed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gammatorch.checkpoints.locate import is_hub_id
from gammatorch.errors import InvalidArgument, ResultError
from gammatorch.reports.document import check_writable, write_atomically
from gammatorch.reports.needed import need_plotly
from gammatorch.reports.page.of_result import result_page
from gammatorch.result import Result
from gammatorch.results.files import PASSED, read_result
from gammatorch.sweep.specs import looks_like_checkpoint
from gammatorch.sweep.store import is_sweep


def report(source: Any, out: str | os.PathLike[str]) -> None:
    """Write the page of a result: one HTML file that needs no network and no other file.

    Args:
        source: An analysis, a comparison, an audit, a sweep; the path of a JSON file that ``--out`` wrote, or of
            a sweep's folder; or gains or a model, as :func:`~gammatorch.analyze` takes them, which is analysed first.
        out: The page.

    Raises:
        InvalidArgument: plotly is not installed, or the source is nothing of these.
        ResultError: The file is no result.
        CheckpointError: The model cannot be opened or read.
        OutputError: The page could not be written; an existing file is as it was.

    Example:
        >>> import tempfile, torch
        >>> page = Path(tempfile.mkdtemp()) / "page.html"
        >>> report(torch.rand(4, 32), page)
        >>> page.read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    target = Path(out)
    check_writable(target, [source] if isinstance(source, str | os.PathLike) else [])
    write_atomically(target, page_of(source))


def page_of(source: Any) -> str:
    """The page as a text; see :func:`report`.

    Args:
        source: As there.
    """
    if not isinstance(source, str | os.PathLike):
        return _analysed(source)
    path = Path(source)
    if path.is_dir():
        is_model = not is_sweep(path) and looks_like_checkpoint(str(path))
        return _analysed(source) if is_model else sweep_folder_page(path)
    is_file = path.exists() and looks_like_checkpoint(str(path))
    if is_file or (not path.exists() and is_hub_id(str(source))):
        return _analysed(source)
    return result_page(read_result(path))


def sweep_folder_page(folder: Path) -> str:
    """The page of a sweep.

    Args:
        folder: Its folder.

    Raises:
        ResultError: It is no sweep's folder, or keeps no items.
    """
    if not is_sweep(folder):
        raise ResultError(f"is not the folder of a sweep: pass {PASSED}", file=str(folder))
    need_plotly()
    from gammatorch.reports.page.of_sweep import sweep_page
    from gammatorch.sweep.curves import sweep_document

    return sweep_page(sweep_document(folder), _matrices(folder))


def _matrices(folder: Path) -> dict[str, bytes]:
    """Rank correlations between the layers of every item, Pearson's where it has no ranks, as 32-bit floats."""
    from gammatorch.sweep.api import read_sweep

    found = {}
    for item in read_sweep(folder):
        stored = item.stored()
        matrix = stored.pearson if stored.rank_correlation is None else stored.rank_correlation
        if matrix is not None:
            found[item.name] = matrix.float().numpy().tobytes()
    return found


def _analysed(source: Any) -> str:
    """The page of a result, or of the analysis of gains or a model."""
    from gammatorch.analysis.analyze import analyze
    from gammatorch.analysis.result import Analysis
    from gammatorch.gains.stack import Gains

    if isinstance(source, Result) and not isinstance(source, Gains):
        page: str = source._view().page()
        return page
    need_plotly()
    from gammatorch.gains.accept import as_gains
    from gammatorch.reports.page.of_run import run_page
    from gammatorch.results.documents import held_gains
    from gammatorch.results.run import run_document

    gains = as_gains(source)
    analysed: Analysis | list[Analysis] = analyze(gains)
    if isinstance(analysed, list):
        raise InvalidArgument("a page is of one checkpoint: pass one of the batch")
    return run_page(run_document(analysed), held_gains(gains))


def figure_of(source: Any, name: str) -> Any:
    """A figure of a result, as Plotly's object.

    Args:
        source: A result file, the folder of a sweep, or a model, which is analysed first.
        name: Of the figure.

    Raises:
        InvalidArgument: There is no such figure, nothing to draw in it, or plotly is not installed.
    """
    from gammatorch.reports.figures.table import plot

    path = Path(source)
    if is_sweep(path):
        from gammatorch.sweep.curves import sweep_document

        return plot(sweep_document(path), name)
    if path.is_file() and not looks_like_checkpoint(str(path)):
        return plot(read_result(path), name)
    from gammatorch.analysis.analyze import analyze
    from gammatorch.gains.accept import as_gains

    gains = as_gains(source)
    analysed = analyze(gains)
    if isinstance(analysed, list):
        raise InvalidArgument("a figure is of one checkpoint: pass one of the batch")
    return analysed.plot(name, gains)
