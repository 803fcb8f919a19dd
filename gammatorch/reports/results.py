"""A result file read back, or one line that says why it is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from gammatorch.errors import ResultError
from gammatorch.reports.result_schema import FORMATS, SCHEMA_VERSIONS
from gammatorch.reports.schema import Misfit
from gammatorch.reports.text import size

DRAWN = "what `gammatorch run --out` or `compare --out` wrote, or the folder of a sweep"

LARGEST_BYTES = 1_000_000_000
"""A result of 4,000 layers. What is larger is no result, and would be held in memory before that shows."""

_HEAD_BYTES = 4096


def read_result(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Read what ``run --out`` or ``compare --out`` wrote, and check that it fits together.

    Args:
        path: A file, or a pipe.

    Returns:
        The format, a name of :data:`~gammatorch.reports.result_schema.FORMATS`, and the document.

    Raises:
        ResultError: It cannot be read, is no result, is one of a newer version, or has been changed.
    """
    document = _parse(_read(path), path)
    form = next((name for name in FORMATS if isinstance(document, dict) and name in document), None)
    version = document.get("schema_version") if form else None
    if form is None or not isinstance(version, int):
        _refuse(path, f"is JSON, but no result that can be drawn: pass {DRAWN}")
    if version != (read := SCHEMA_VERSIONS[form]):
        remedy = "upgrade gammatorch" if version > read else "make it again"
        _refuse(path, f"has schema_version {version}, this version reads {read}: {remedy}")
    try:
        FORMATS[form]({**document}, "", {})
    except Misfit as misfit:
        _refuse(path, f"is not as it was written: {misfit}: make it again")
    return form, document


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if not head.lstrip().startswith(b"{"):
                _refuse(path, f"is not JSON: pass {DRAWN}")
            content = head + file.read(LARGEST_BYTES)
    except FileNotFoundError:
        _refuse(path, f"no such file or folder: pass {DRAWN}")
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror or error})")
    if len(content) > LARGEST_BYTES:
        _refuse(path, f"is larger than {size(LARGEST_BYTES)}, which no result is")
    return content


def _parse(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"is not valid JSON ({error}): pass {DRAWN}")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON has not")


def _refuse(path: Path, message: str) -> NoReturn:
    raise ResultError(message, file=str(path)) from None
