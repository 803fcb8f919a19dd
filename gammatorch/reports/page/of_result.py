"""Which page a result file gets."""

from __future__ import annotations

from gammatorch.reports.needed import need_plotly
from gammatorch.reports.page.of_check import check_page
from gammatorch.results.audit import CheckDocument
from gammatorch.results.run import RunDocument
from gammatorch.results.schema import Drawn


def result_page(document: Drawn) -> str:
    """The page of a result file.

    Args:
        document: What a command wrote.

    Raises:
        InvalidArgument: It has pictures, and plotly is not installed.
    """
    if isinstance(document, CheckDocument):
        return check_page(document)
    need_plotly()
    from gammatorch.reports.page.of_comparison import comparison_page
    from gammatorch.reports.page.of_run import run_page

    return run_page(document) if isinstance(document, RunDocument) else comparison_page(document)
