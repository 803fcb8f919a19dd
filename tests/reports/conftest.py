"""The documents that pages and pictures are made of."""

from __future__ import annotations

from tests.results.documents import analysed, compared, comparison, copies, document, told

__all__ = ["analysed", "compared", "comparison", "copies", "document", "told"]
