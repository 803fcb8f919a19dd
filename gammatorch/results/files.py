"""Documents as JSON text, and read back from it; or one line that says what is wrong with a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from gammatorch.errors import OutputError, ResultError
from gammatorch.results.base import Document, located
from gammatorch.results.schema import DRAWN, Drawn

PASSED = "what `gammatorch run --out`, `compare --out` or `check --out` wrote, the folder of a sweep, or a model"
"""What a reader can be given."""

_SEVERAL = re.compile(rb"\s*\[\s*\{\s*\"schema_version\"")
"""How the results of several sites begin, which ``run --site all`` writes."""

LARGEST_BYTES = 1_000_000_000
"""A result of 4,000 layers. What is larger is no result, and would be held in memory before that shows."""

_HEAD_BYTES = 4096

_Read = TypeVar("_Read", bound=Document)


class Misfit(Exception):
    """A text is not the document it should be; the message says where and why."""


def to_json(document: Document) -> str:
    """The document as JSON text in ASCII, each top-level key on a line of its own.

    Raises:
        OutputError: It holds NaN, infinity or something else that would not be read back.

    Example:
        >>> from gammatorch.results.statistics import Transition
        >>> print(to_json(Transition(first=7, last=9, loss=0.25)), end="")
        {
          "first": 7,
          "last": 9,
          "loss": 0.25
        }
    """
    named = ((name, getattr(document, name)) for name in document.__struct_fields__)
    lines = (f'  "{name}": {encode(value)}' for name, value in named if value is not msgspec.UNSET)
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    try:
        decode(text, type(document))  # NaN is null by now, which a number that is always defined cannot be
    except Misfit as misfit:
        raise OutputError(f"the result cannot be written ({misfit}): please report it") from None
    return text


def to_plain(document: Document) -> dict[str, Any]:
    """The document as dictionaries, lists, texts and numbers, as :func:`json.loads` gives it back."""
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain


def encode(value: Any) -> str:
    """A document or a part of one as JSON text in ASCII, on one line.

    Args:
        value: Structs, dataclasses, lists, mappings, texts, numbers.

    Example:
        >>> encode(["γ", 1.5, None])
        '["\\\\u03b3",1.5,null]'
    """
    try:
        text = msgspec.json.encode(value).decode("utf-8")
    except UnicodeEncodeError:  # names of files may hold what is no text, which JSON can write and UTF-8 cannot
        return json.dumps(msgspec.to_builtins(value), allow_nan=False)
    return text if text.isascii() else re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)


def decode(content: bytes | str, kind: type[_Read]) -> _Read:
    """The document that a JSON text holds.

    Raises:
        Misfit: It is no JSON, or another document; the message names the field.
    """
    try:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # half of a surrogate pair is JSON all the same; and json tells line and column
            return _convert(json.loads(content, parse_constant=_no_number), kind)
    except msgspec.ValidationError as error:
        raise Misfit(located(error)) from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise Misfit(f"not valid JSON ({error})") from None


def read_result(path: Path) -> Drawn:
    """Read what ``run --out``, ``compare --out`` or ``check --out`` wrote, and check that it fits together.

    Args:
        path: A file, or a pipe.

    Raises:
        ResultError: It cannot be read, is no result, is one of another version, or has been changed.
    """
    content = _read(path)
    try:
        kind = _kind(decode(content, _Head), path)
    except Misfit as misfit:
        _refuse(path, f"is {misfit}: pass {PASSED}")
    try:
        return decode(content, kind)
    except Misfit as misfit:
        _refuse(path, f"is not as it was written: {misfit}: make it again")


class _Head(Document, frozen=True):
    """What tells a format and its version."""

    schema_version: Any = msgspec.UNSET
    norms: Any = msgspec.UNSET
    pairs: Any = msgspec.UNSET
    findings: Any = msgspec.UNSET


def _kind(head: _Head, path: Path) -> type[Drawn]:
    form = next((name for name in DRAWN if getattr(head, name) is not msgspec.UNSET), None)
    version = head.schema_version
    if form is None and head.findings is not msgspec.UNSET:
        _refuse(path, f"is what `check` wrote, of which there is no page: pass {PASSED}")
    if form is None or not isinstance(version, int):
        _refuse(path, f"is JSON, but no result that can be drawn: pass {PASSED}")
    kind = DRAWN[form]
    (read,) = {field.default for field in msgspec.structs.fields(kind) if field.name == "schema_version"}
    if version != read:
        remedy = "upgrade gammatorch" if version > read else "make it again"
        _refuse(path, f"has schema_version {version}, this version reads {read}: {remedy}")
    return kind


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if _SEVERAL.match(head):
                _refuse(path, "holds the results of several sites: write one, with `gammatorch run --site NAME --out`")
            if not head.lstrip().startswith(b"{"):
                _refuse(path, f"is not JSON: pass {PASSED}")
            content = head + file.read(LARGEST_BYTES)
    except FileNotFoundError:
        _refuse(path, f"no such file or folder: pass {PASSED}")
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror or error})")
    if len(content) > LARGEST_BYTES:
        _refuse(path, f"is larger than {LARGEST_BYTES / 1e9:.0f} GB, which no result is")
    return content


def _convert(parsed: object, kind: type[_Read]) -> _Read:
    """The document, whose texts may hold halves of surrogate pairs."""
    try:
        return msgspec.convert(parsed, kind)
    except UnicodeEncodeError:  # one stands where no text belongs: with a question mark there, the place is told
        text = json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace")
        return msgspec.json.decode(text, type=kind)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON has not")


def _refuse(path: Path, message: str) -> NoReturn:
    raise ResultError(message, file=str(path)) from None
