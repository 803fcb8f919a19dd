"""A pickle as data: what it describes, without executing anything.

A machine of its own for the opcodes that Python's pickle writes for plain data. It imports nothing and calls nothing:
the few names that a kind of file may use stand for records and for functions of ours, any other name ends the reading.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gammatorch.checkpoints.base import collector_resting
from gammatorch.errors import MalformedCheckpoint, UnsupportedFormat

PICKLE_CAP = 32_000_000
"""Longest pickle that is read, in bytes: some 200,000 tensors."""

_LONG = struct.Struct("<I")
_LONGEST_INT = 16
_PROTOCOLS = (2, 3, 4, 5)
_FRAME_BYTES = 8

OPAQUE = object()
"""Stands for a value that says nothing about tensors."""

_BINGET, _LONG_BINGET, _BINPUT, _LONG_BINPUT, _MEMOIZE = b"hjqr\x94"
_BININT1, _BININT2, _BINUNICODE, _SHORT_BINUNICODE = b"KMX\x8c"
_EMPTY_DICT, _EMPTY_TUPLE, _TUPLE1, _MARK, _TUPLE, _STOP = b"})\x85(t."


@dataclass(eq=False)
class Held:
    """An object of a class that is not looked into: settings of a trainer, a whole module.

    Attributes:
        values: Its attributes and items by name, as far as the pickle sets them.
    """

    values: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Name:
    """A name that stands in the pickle: of a type, or of a function that is never called.

    Attributes:
        kind: What it is; the machine's ``returns`` tells what a call of it would give.
        value: Which one of the kind.
    """

    kind: str
    value: str = ""


@dataclass(eq=False)
class Record:
    """An object of a type of which only the state is looked at.

    Attributes:
        kind: Its type.
        state: What its ``__setstate__`` would be given.
    """

    kind: str
    state: Any = None


class Broken(Exception):
    """The pickle is not one that such files hold; the message says how."""


class Machine:
    """The stack machine that a pickle is a program for.

    Attributes:
        names: All that a pickle may name.
        returns: What a call gives, by the kind of the name that is called.
        most_operations: Most operations of a pickle, which bounds its memory.
        purpose: What a name that is not among them is no part of, and what to do.
    """

    names: ClassVar[Mapping[tuple[str, str], Name]] = {}
    returns: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    most_operations: ClassVar[int] = 10_000_000
    purpose: ClassVar[str] = ""

    def __init__(self, raw: bytes, where: str) -> None:
        self._raw = raw
        self._where = where
        self.at = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._gone_through = 0

    def read(self, count: int = 1) -> list[Any]:
        """What so many pickles describe that stand one after the other; ``at`` is then where the last one ends."""
        try:
            with collector_resting():
                return [self._run() for _ in range(count)]
        except Broken as error:
            raise MalformedCheckpoint(
                f"pickle is broken ({error}), nothing was executed: download it again", file=self._where
            ) from None
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error):
            # a stack run empty, a memo never set, an operation on the wrong kind of value
            raise MalformedCheckpoint(
                "pickle is broken, nothing was executed: download it again", file=self._where
            ) from None

    def unlisted(self, module: str, name: str) -> Name | None:
        """What a name stands for that is not among ``names``; None refuses it."""
        return None

    def persistent(self, identity: Any) -> Any:
        """What stands outside the pickle under an identity."""
        raise Broken("something that stands outside of it")

    def _run(self) -> Any:
        """One pickle. The operations that most of it is made of are done on the spot: a call costs as much again."""
        raw, at, operations = self._raw, self.at, _OPERATIONS
        memo: dict[int, Any] = {}
        stack: list[Any] = []
        below: list[list[Any]] = []
        self._memo, self._below = memo, below
        for _ in range(self.most_operations):
            code = raw[at]
            at += 1
            if code == _LONG_BINPUT:
                memo[_LONG.unpack_from(raw, at)[0]] = stack[-1]
                at += 4
            elif code == _LONG_BINGET:
                stack.append(memo[_LONG.unpack_from(raw, at)[0]])
                at += 4
            elif code == _BININT1:
                stack.append(raw[at])
                at += 1
            elif code == _MEMOIZE:
                memo[len(memo)] = stack[-1]
            elif code == _BINGET:
                stack.append(memo[raw[at]])
                at += 1
            elif code == _BINPUT:
                memo[raw[at]] = stack[-1]
                at += 1
            elif code == _BINUNICODE:
                start = at + 4
                at = start + _LONG.unpack_from(raw, at)[0]
                if at > len(raw):
                    raise Broken("it ends too early")
                stack.append(raw[start:at].decode())
            elif code == _SHORT_BINUNICODE:
                start = at + 1
                at = start + raw[at]
                if at > len(raw):
                    raise Broken("it ends too early")
                stack.append(raw[start:at].decode())
            elif code == _EMPTY_TUPLE:
                stack.append(())
            elif code == _EMPTY_DICT:
                stack.append({})
            elif code == _TUPLE1:
                stack[-1] = (stack[-1],)
            elif code == _BININT2:
                stack.append(raw[at] | raw[at + 1] << 8)
                at += 2
            elif code == _MARK:
                below.append(stack)
                stack = []
            elif code == _TUPLE:
                items = tuple(stack)
                stack = below.pop()
                stack.append(items)
            elif code == _STOP:
                self.at = at
                return stack.pop()
            elif code in operations:
                self.at, self._stack = at, stack
                operations[code](self)
                at, stack = self.at, self._stack
            else:
                raise Broken(f"opcode {code:#04x}, which no such file has")
        raise self._too_many()

    def _too_many(self) -> Broken:
        return Broken(f"more than {self.most_operations} operations")

    def _take(self, count: int) -> bytes:
        start = self.at
        self.at = stop = start + count
        if stop > len(self._raw):
            raise Broken("it ends too early")
        return self._raw[start:stop]

    def _byte(self) -> int:
        """The next byte. Behind the end it is an IndexError."""
        value = self._raw[self.at]
        self.at += 1
        return value

    def _line(self) -> str:
        stop = self._raw.index(b"\n", self.at)
        line = self._raw[self.at : stop].decode()
        self.at = stop + 1
        return line

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _protocol(self) -> None:
        if self._byte() not in _PROTOCOLS:
            raise Broken(f"it is of no protocol from {_PROTOCOLS[0]} to {_PROTOCOLS[-1]}")

    def _frame(self) -> None:
        self._take(_FRAME_BYTES)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _signed(self) -> None:
        self._push(int.from_bytes(self._take(4), "little", signed=True))

    def _long(self) -> None:
        raw = self._take(self._byte())
        self._push(int.from_bytes(raw, "little", signed=True) if len(raw) <= _LONGEST_INT else OPAQUE)

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def _short_text(self) -> None:
        self._push(self._take(self._byte()).decode())

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _text(self, size_bytes: int) -> None:
        self._push(self._take(int.from_bytes(self._take(size_bytes), "little")).decode())

    def _opaque(self, size_bytes: int) -> None:
        """Bytes after their count, neither of which is looked at."""
        self._take(int.from_bytes(self._take(size_bytes), "little"))
        self._push(OPAQUE)

    def _frozen(self) -> None:
        self._marked()
        self._push(OPAQUE)

    def _append(self) -> None:
        item = self._stack.pop()
        if not is_opaque(self._stack[-1]):
            as_type(list, self._stack[-1]).append(item)

    def _appends(self) -> None:
        items = self._marked()
        if not is_opaque(self._stack[-1]):
            as_type(list, self._stack[-1]).extend(items)

    def _add_items(self) -> None:
        self._marked()
        if not is_opaque(self._stack[-1]):
            raise Broken("items of a set where none is")

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        if self._stack[-1] is not OPAQUE:
            put(self._dict_on_top(), key, value)

    def _dict_on_top(self) -> dict[Any, Any]:
        """The dict that items are set in; an object's own where its class may be derived from dict."""
        target = self._stack[-1]
        return target.values if type(target) is Held else as_type(dict, target)

    def _set_items(self) -> None:
        items = self._marked()
        if self._stack[-1] is OPAQUE:
            return
        target, keys, values = self._dict_on_top(), items[::2], items[1::2]
        if len(keys) != len(values):
            raise IndexError
        if set(map(type, keys)) == {str}:
            target.update(zip(keys, values, strict=True))
        else:
            for key, value in zip(keys, values, strict=True):
                put(target, key, value)

    def _name(self) -> None:
        module, name = self._line(), self._line()
        self._push_name(module, name)

    def _stacked_name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push_name(as_type(str, module), as_type(str, name))

    def _push_name(self, module: str, name: str) -> None:
        known = self.names.get((module, name)) or self.unlisted(module, name)
        if known is None:
            raise UnsupportedFormat(
                f"its pickle names {_shortened(f'{module}.{name}')}, which is {self.purpose}", file=self._where
            )
        self._push(known)

    def _outside(self) -> None:
        self._push(self.persistent(self._stack.pop()))

    def _reduce(self) -> None:
        """What the function would return, as a record; only the names of the table have one.

        One that goes through an argument of any length has just that one; as it may be the same in every call, that
        counts as operations.
        """
        arguments, function = as_type(tuple, self._stack.pop()), self._stack.pop()
        if is_opaque(function):  # what a call gave that was not made is called in turn
            self._push(OPAQUE)
            return
        function = as_type(Name, function)
        if len(arguments) == 1 and type(arguments[0]) in (list, tuple):
            self._gone_through += len(arguments[0])
            if self._gone_through > self.most_operations:
                raise self._too_many()
        self._push(self.returns[function.kind](*arguments))

    def _new_object(self, named_arguments: bool = False) -> None:
        if named_arguments:
            self._stack.pop()
        arguments, made = self._stack.pop(), self._stack.pop()
        if is_opaque(made) or as_type(Name, made).kind == "opaque":
            self._push(Held())
            return
        if made.kind != "record" or arguments != ():
            raise Broken("an object of another type")
        self._push(Record(made.value))

    def _build(self) -> None:
        """The state of a record or an object; the attributes of an OrderedDict (``_metadata``) say nothing about
        tensors."""
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is Record:
            if target.state is not None or type(state) not in (dict, tuple):
                raise Broken("a state that is none")
            target.state = state
        elif type(target) is Held:
            for attributes in state if type(state) is tuple else (state,):  # of a class with slots there are two
                if type(attributes) is dict:
                    target.values.update(attributes)
        elif target is not OPAQUE:
            as_type(dict, state)
            as_type(dict, target)


def is_opaque(value: Any) -> bool:
    """Whether a value stands for something that is not looked into."""
    return value is OPAQUE or type(value) is Held


def as_type(kind: type, value: Any) -> Any:
    """The value, if it is of just this type.

    Raises:
        Broken: It is of another.
    """
    if type(value) is not kind:
        raise Broken(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def put(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set an item; one under a key that is no name of a tensor is left out."""
    if isinstance(key, (str, int, float, Record)):
        target[key] = value


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:120]}…"


_OPERATIONS: Mapping[int, Callable[[Machine], None]] = {
    ord(code): operation
    for code, operation in {
        "\x80": Machine._protocol,
        "\x95": Machine._frame,
        "c": Machine._name,
        "\x93": Machine._stacked_name,
        "Q": Machine._outside,
        "R": Machine._reduce,
        "\x81": Machine._new_object,
        "\x92": lambda machine: machine._new_object(named_arguments=True),
        "b": Machine._build,
        "N": lambda machine: machine._push(None),
        "\x88": lambda machine: machine._push(True),
        "\x89": lambda machine: machine._push(False),
        "J": Machine._signed,
        "\x8a": Machine._long,
        "\x8b": lambda machine: machine._opaque(4),  # an integer of more than 255 bytes
        "G": Machine._float,
        "U": Machine._short_text,
        "\x8d": lambda machine: machine._text(8),
        "B": lambda machine: machine._opaque(4),
        "C": lambda machine: machine._opaque(1),
        "\x8e": lambda machine: machine._opaque(8),
        "\x96": lambda machine: machine._opaque(8),
        "\x8f": lambda machine: machine._push(OPAQUE),
        "\x90": Machine._add_items,
        "\x91": Machine._frozen,
        "\x86": lambda machine: machine._tuple_of(2),
        "\x87": lambda machine: machine._tuple_of(3),
        "]": lambda machine: machine._push([]),
        "a": Machine._append,
        "e": Machine._appends,
        "s": Machine._set_item,
        "u": Machine._set_items,
    }.items()
}
