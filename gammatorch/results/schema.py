"""The one contract of JSON: every document that the program prints, writes or reads, and their JSON Schema.

``python -m gammatorch.results.schema > gammatorch/results/schema.json`` writes the schema that the package carries.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from gammatorch.results.audit import CheckDocument, ChecksDocument
from gammatorch.results.base import Document
from gammatorch.results.comparison import ComparisonDocument
from gammatorch.results.documents import BenchDocument, GainsDocument, InspectionDocument
from gammatorch.results.run import Provenance, RunDocument, Summary
from gammatorch.results.sweep import FailureRecord, ItemHeader, PlanDocument, SweepDocument

Drawn: TypeAlias = RunDocument | ComparisonDocument | CheckDocument
"""What a page can be made of."""

DRAWN: Mapping[str, type[Drawn]] = {"norms": RunDocument, "pairs": ComparisonDocument, "findings": CheckDocument}
"""By the key that tells the format of a result file."""

DOCUMENTS: Mapping[str, type[Document]] = {
    "run": RunDocument,
    "compare": ComparisonDocument,
    "check": CheckDocument,
    "check A B": ChecksDocument,
    "inspect": InspectionDocument,
    "bench": BenchDocument,
    "Gains.save": GainsDocument,
    "sweep": SweepDocument,
    "sweep --dry-run": PlanDocument,
    "items/*.safetensors: item": ItemHeader,
    "items/*.safetensors: analysis": Summary,
    "items/*.safetensors: provenance": Provenance,
    "failures/*.json": FailureRecord,
}
"""By the command that prints it, or by its place in the folder of a sweep."""


def json_schema() -> str:
    """JSON Schema (2020-12) of every document: ``documents`` says where each is met, ``$defs`` what it holds."""
    references, definitions = msgspec.json.schema_components(DOCUMENTS.values())
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "documents": dict(zip(DOCUMENTS, references, strict=True)),
        "$defs": definitions,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode("utf-8") + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema())
