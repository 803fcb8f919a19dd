"""What a result file must hold to be drawn: every list as long as the others ask for, numbers where numbers belong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from gammatorch.reports.text import printable

Sizes = dict[str, int]
"""Lengths of the axes by name; what :func:`axis` finds is added as it is met."""

Check = Callable[[Any, str, Sizes], None]
"""From a value, the name it goes by, and the sizes; raises what is wrong."""

LARGEST = 1e60
"""Beyond it a number is no length or correlation, and would overflow when it is drawn."""


class Misfit(Exception):
    """A value is not what the format demands; the text says which and why."""


def number(value: Any, name: str, sizes: Sizes) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise Misfit(f"{name} is {_shown(value)}, not a number")


def whole(value: Any, name: str, sizes: Sizes) -> None:
    """A whole number that counts or points at something."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise Misfit(f"{name} is {_shown(value)}, not a whole number")


def integer(value: Any, name: str, sizes: Sizes) -> None:
    """A whole number of any sign, as a seed is."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**64:
        raise Misfit(f"{name} is {_shown(value)}, not a whole number")


def flag(value: Any, name: str, sizes: Sizes) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise Misfit(f"{name} is {_shown(value)}, neither true nor false")


def size(value: Any, name: str, sizes: Sizes) -> None:
    """A whole number that is not 0."""
    whole(value, name, sizes)
    if value == 0:
        raise Misfit(f"{name} is 0")


def text(value: Any, name: str, sizes: Sizes) -> None:
    """A text."""
    if not isinstance(value, str):
        raise Misfit(f"{name} is {_shown(value)}, not a text")


def maybe(check: Check) -> Check:
    """What the check takes, or null."""

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        if value is not None:
            check(value, name, sizes)

    return checked


def many(check: Check, *axes: str) -> Check:
    """A list, nested as often as there are axes, each as long as its axis; of any length without an axis."""

    inner = many(check, *axes[1:]) if axes[1:] else check

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        if not isinstance(value, list):
            raise Misfit(f"{name} is {_shown(value)}, not a list")
        if axes and len(value) != sizes[axes[0]]:
            raise Misfit(f"{name} has {len(value)} entries, not {sizes[axes[0]]}")
        for place, one in enumerate(value):
            try:
                inner(one, name, sizes)
            except Misfit:
                inner(one, f"{name}[{place}]", sizes)  # a place is named where it is wrong: names cost more than checks
                raise

    return checked


def named(check: Check) -> Check:
    """A mapping of any names to what the check takes."""

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        for key, one in _mapping(value, name).items():
            check(one, within(name, key), sizes)

    return checked


def record(**checks: Check) -> Check:
    """A mapping that has these names at least."""

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        there = _mapping(value, name)
        for key, check in checks.items():
            full = within(name, key)
            if key not in there:
                raise Misfit(f"{full} is missing")
            check(there[key], full, sizes)

    return checked


def within(name: str, part: str) -> str:
    """What a part of something goes by.

    Args:
        name: Of the whole; empty for the document itself.
        part: Of the part.
    """
    return f"{name}.{part}" if name else part


def axis(axis_name: str, check: Check) -> Check:
    """A list, not empty, whose length is that of an axis from there on."""

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        many(check)(value, name, sizes)
        if not value:
            raise Misfit(f"{name} is empty")
        sizes[axis_name] = len(value)

    return checked


def counts(axis_name: str) -> Check:
    """The length of an axis, said once more."""

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        if value != sizes[axis_name]:
            raise Misfit(f"{name} is {_shown(value)}, not {sizes[axis_name]}")

    return checked


def ascending(check: Check) -> Check:
    """A list that the check takes, each entry larger than the one before."""

    def checked(value: Any, name: str, sizes: Sizes) -> None:
        check(value, name, sizes)
        if any(one >= following for one, following in pairwise(value)):
            raise Misfit(f"{name} is not in ascending order")

    return checked


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Misfit(f"{name} is {_shown(value)}, not a JSON object")
    return value


def _shown(value: Any) -> str:
    return printable(repr(value) if isinstance(value, str | int | float | None) else type(value).__name__, 40)
