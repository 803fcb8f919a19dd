"""Documents as an editor's slip leaves them: each value replaced by what does not belong there, each key deleted."""

from __future__ import annotations

import copy

VALUES = (None, "x", "", "\ud800", True, 0, -7, 2.5, 1e300, 10**400, [], [[]], {"a": {"b": 1}})
DELETED = object()


def places(value, place=()):
    """Where a document has values; of a list the first is like the others."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*place, name)
        yield from places(one, (*place, name))


def changed(document):
    """The document with each of its values replaced, and with each deleted."""
    for place in places(document):
        for value in (*VALUES, DELETED):
            yield place, with_value(document, place, value)


def with_value(document, place, value):
    """A copy, shared with the original but for what lies around the place."""
    name, *rest = place
    around = copy.copy(document)
    if value is DELETED and not rest:
        del around[name]
    else:
        around[name] = with_value(document[name], rest, value) if rest else value
    return around


def names_place(said, place):
    """Whether a message names what was changed, or a list that fitted it before."""
    return any(name in said for name in place if isinstance(name, str)) or "entries, not" in said
