"""Which page a result file gets."""

from __future__ import annotations

from gammatorch.reports.page.of_comparison import comparison_page
from gammatorch.reports.page.of_run import run_page
from gammatorch.results.run import RunDocument
from gammatorch.results.schema import Drawn


def result_page(document: Drawn) -> str:
    """The page of a result file.

    Args:
        document: What a command wrote.
    """
    return run_page(document) if isinstance(document, RunDocument) else comparison_page(document)
