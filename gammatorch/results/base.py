"""What all documents have in common: their numbers, plain values, and the checks that types cannot express."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, ValidationError, convert

from gammatorch.errors import OutputError

LARGEST = 1e60
"""Beyond it a number is no length or correlation, and would overflow when it is drawn."""

Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
"""A finite number."""

Figure = Number | None
"""A number, or null where it is undefined."""

Whole = Annotated[int, Meta(ge=0, lt=2**53)]
"""A number that counts something or points at something."""

Size = Annotated[int, Meta(ge=1, lt=2**53)]
"""A count that is not 0."""

Matrix = list[list[Figure]]


class Document(Struct, frozen=True):
    """A JSON object whose keys are the attributes.

    NaN, infinity, missing keys and values of another type are refused when a document is read or built. Keys that are
    not known are passed over, so that files with more figures stay readable.
    """


Built = TypeVar("Built", bound=Document)


def build(fields: object, kind: type[Built]) -> Built:
    """A document from its fields, checked as one that is read is: what is written can be read.

    Args:
        fields: Values by key; dataclasses and tuples within stand for objects and lists.
        kind: Which document.

    Raises:
        OutputError: A number that is always defined is NaN, infinite or beyond 1e60, or something is missing.
    """
    try:
        return convert(fields, kind, from_attributes=True)
    except ValidationError as error:
        raise OutputError(f"the result cannot be written ({located(error)}): please report it") from None


def located(error: ValidationError) -> str:
    """msgspec's message with its place in front.

    Example:
        >>> located(ValidationError("Expected `float`, got `str` - at `$.norms[2]`"))
        'norms[2]: expected `float`, got `str`'
    """
    what, _, place = str(error).partition(" - at `$")
    place, what = place.strip("`."), what[:1].lower() + what[1:]
    return f"{place}: {what}" if place else what


class Interval(Document, frozen=True, kw_only=True):
    """A figure with its 95 % bounds over channels."""

    value: Figure
    low: Figure
    high: Figure


class ChanceInterval(Interval, frozen=True, kw_only=True):
    """A figure with its bounds, and what 95 of 100 unrelated layers stay within: ``null_95``."""

    null_95: Figure


def check_length(name: str, found: Sized | None, wanted: int) -> None:
    """Check that a list is as long as another one asks for; null has any length.

    Raises:
        ValueError: It is longer or shorter.
    """
    if found is not None and len(found) != wanted:
        raise ValueError(f"`{name}` has {len(found)} entries, not {wanted}")


def check_matrix(name: str, rows: Matrix | None, wanted: int) -> None:
    """Check that a matrix is square.

    Raises:
        ValueError: It has another shape.
    """
    check_length(name, rows, wanted)
    for place, row in enumerate(rows or ()):
        check_length(f"{name}[{place}]", row, wanted)


def check_layers(layers: Sequence[int], num_layers: int | None = None) -> None:
    """Check that layer indices ascend, and that there are as many as their count says.

    Raises:
        ValueError: They do not.
    """
    if not layers:
        raise ValueError("`layers` is empty")
    if any(one >= following for one, following in pairwise(layers)):
        raise ValueError("`layers` is not in ascending order")
    if num_layers is not None and num_layers != len(layers):
        raise ValueError(f"`num_layers` is {num_layers}, not {len(layers)}")


def plain(value: Any) -> Any:
    """Tensors and arrays as nested lists, NaN and infinity as None, mappings and lists likewise within.

    Args:
        value: A tensor or array, mapping, list, or what JSON holds.

    Example:
        >>> import torch
        >>> plain({"gains": torch.tensor([1.0, float("nan")])})
        {'gains': [1.0, None]}
    """
    if isinstance(value, float):  # the most by far, so they come first
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):  # a tensor or an array, told without importing either
        return value.tolist() if math.isfinite(value.sum()) else plain(value.tolist())
    return value
