"""The documents that are written and read."""

from __future__ import annotations

from tests.results.documents import analysed, compared, comparison, document

__all__ = ["analysed", "compared", "comparison", "document"]
