"""Which page a result file gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gammatorch.reports.page.of_comparison import comparison_page
from gammatorch.reports.page.of_run import run_page

PAGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"norms": run_page, "pairs": comparison_page}
"""By the name of a format of ``FORMATS`` in ``reports/result_schema.py``: from a document that it takes to the page."""
