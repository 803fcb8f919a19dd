"""The pickle of a PyTorch checkpoint as data: which tensors it describes, without executing anything.

A machine of its own for the opcodes that :func:`torch.save` writes. It imports nothing and calls nothing: the few names
that a file of tensors may use stand for records of this module, any other name ends the reading. What comes out is
what ``torch.load(..., weights_only=True)`` would build, with places in storages instead of values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gammatorch.checkpoints.safetensors import DTYPE_BITS
from gammatorch.errors import MalformedCheckpoint, UnsupportedFormat

PICKLE_CAP = 32_000_000
"""Longest pickle that is read, in bytes: some 200,000 tensors."""

OPERATIONS_CAP = 10_000_000
"""Most operations of a pickle, which bounds its memory."""

_LONG = struct.Struct("<I")
_LONGEST_INT = 16
_MOST_DIMENSIONS = 64
_MOST = 1 << 62
"""Bound of every size and position, far above any file."""

ITEM_BYTES = {dtype: bits // 8 for dtype, bits in DTYPE_BITS.items() if bits >= 8} | {"C128": 16}
"""Bytes of a value of each stored type."""

_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
}
_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
}


class Storage(NamedTuple):
    """A run of bytes in the archive.

    Attributes:
        key: Its name there, after ``data/``.
        dtype: Type of its values; ``"U8"`` where it has none of its own.
        nbytes: Its size.
    """

    key: str
    dtype: str
    nbytes: int


class StoredTensor(NamedTuple):
    """A view of a storage.

    Attributes:
        storage: The storage.
        dtype: Stored type in safetensors' spelling.
        shape: Its shape.
        start: First byte within the storage.
        plain: Whether its values stand there one after the other, as they are.
    """

    storage: Storage
    dtype: str
    shape: tuple[int, ...]
    start: int
    plain: bool

    @property
    def nbytes(self) -> int:
        """Size of its values in bytes."""
        nbytes = ITEM_BYTES[self.dtype]
        for extent in self.shape:
            nbytes *= extent
        return nbytes


@dataclass(frozen=True)
class _Name:
    """A name that stands in the pickle: of a type, or of a function that is never called."""

    kind: str
    value: str = ""


_OPAQUE = object()
"""Stands for a value that has nothing to do with tensors."""

_NAMES: Mapping[tuple[str, str], _Name] = {
    ("collections", "OrderedDict"): _Name("dict"),
    ("torch._utils", "_rebuild_tensor_v2"): _Name("tensor"),
    ("torch._utils", "_rebuild_tensor_v3"): _Name("typed tensor"),
    ("torch._utils", "_rebuild_parameter"): _Name("parameter"),
    ("torch", "Size"): _Name("size"),
    ("torch.storage", "UntypedStorage"): _Name("storage", "U8"),
    **{("torch", name): _Name("storage", dtype) for name, dtype in _STORAGES.items()},
    **{("torch", name): _Name("dtype", dtype) for name, dtype in _DTYPES.items()},
    ("torch", "device"): _Name("opaque"),
    ("_codecs", "encode"): _Name("opaque"),
    ("__builtin__", "set"): _Name("opaque"),
    ("collections", "Counter"): _Name("opaque"),
}
"""All that a pickle may name."""


class _Broken(Exception):
    """The pickle is not one that torch.save writes; the message says how."""


def read_pickle(raw: bytes, where: str) -> Any:
    """What a pickle describes: dicts, lists, texts, numbers and :class:`StoredTensor`; nothing is executed.

    Args:
        raw: The pickle.
        where: Name of the file, for messages.

    Raises:
        MalformedCheckpoint: It is broken, or longer than any checkpoint's.
        UnsupportedFormat: It names something that no file of tensors needs.
    """
    if len(raw) > PICKLE_CAP:
        raise MalformedCheckpoint(f"holds a pickle of {len(raw)} bytes, more than any checkpoint's", file=where)
    return read_pickles(raw, 1, where)[0][0]


def read_pickles(raw: bytes, count: int, where: str) -> tuple[list[Any], dict[str, Storage], int]:
    """What several pickles describe that stand one after the other, as :func:`read_pickle`.

    Args:
        raw: Bytes that begin with them.
        count: How many.
        where: Name of the file, for messages.

    Returns:
        What each describes, the storages by key, and where the last one ends.
    """
    machine = _Machine(raw, where)
    try:
        return [machine.run() for _ in range(count)], machine.storages, machine.at
    except _Broken as error:
        raise MalformedCheckpoint(
            f"pickle is broken ({error}), nothing was executed: download it again", file=where
        ) from None
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error):
        # a stack run empty, a memo never set, an operation on the wrong kind of value
        raise MalformedCheckpoint("pickle is broken, nothing was executed: download it again", file=where) from None


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, raw: bytes, where: str) -> None:
        self._raw = raw
        self._where = where
        self.at = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """What the pickle describes that begins where the last one ended."""
        raw = self._raw
        self._stack, self._below, self._memo = [], [], {}
        operations = _OPERATIONS
        for _ in range(OPERATIONS_CAP):
            code = raw[self.at]
            self.at += 1
            if code in operations:
                operations[code](self)
            elif code == _STOP:
                return self._stack.pop()
            else:
                raise _Broken(f"opcode {code:#04x}, which no file of tensors has")
        raise _Broken(f"more than {OPERATIONS_CAP} operations")

    def _take(self, count: int) -> bytes:
        start = self.at
        self.at = stop = start + count
        if stop > len(self._raw):
            raise _Broken("it ends too early")
        return self._raw[start:stop]

    def _byte(self) -> int:
        """The next byte: half of all opcodes take one, so it is no slice. Behind the end it is an IndexError."""
        value = self._raw[self.at]
        self.at += 1
        return value

    def _long(self) -> int:
        """The next four bytes, as of :meth:`_byte`: behind the end they are a struct.error."""
        (value,) = _LONG.unpack_from(self._raw, self.at)
        self.at += 4
        return value  # type: ignore[no-any-return]

    def _line(self) -> str:
        stop = self._raw.index(b"\n", self.at)
        line = self._raw[self.at : stop].decode()
        self.at = stop + 1
        return line

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def proto(self) -> None:
        if self._take(1) != b"\x02":
            raise _Broken("it is of another protocol than 2")

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def signed(self) -> None:
        self.push(int.from_bytes(self._take(4), "little", signed=True))

    def unsigned_byte(self) -> None:
        self._stack.append(self._byte())

    def unsigned_short(self) -> None:
        self._stack.append(self._byte() | self._byte() << 8)

    def long(self) -> None:
        count = self._byte()
        self.push(int.from_bytes(self._take(count), "little", signed=True) if count <= _LONGEST_INT else _OPAQUE)

    def float(self) -> None:
        self.push(struct.unpack(">d", self._take(8))[0])

    def text(self) -> None:
        self.push(self._take(self._long()).decode())

    def short_text(self) -> None:
        self.push(self._take(self._byte()).decode())

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def tuple_marked(self) -> None:
        items = tuple(self._marked())
        self.push(items)

    def append(self) -> None:
        item = self._stack.pop()
        _as(list, self._stack[-1]).append(item)

    def appends(self) -> None:
        items = self._marked()
        _as(list, self._stack[-1]).extend(items)

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        _put(_as(dict, self._stack[-1]), key, value)

    def set_items(self) -> None:
        items = self._marked()
        target = _as(dict, self._stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(target, key, value)

    def put(self) -> None:
        self._memo[self._byte()] = self._stack[-1]

    def put_long(self) -> None:
        self._memo[self._long()] = self._stack[-1]

    def get(self) -> None:
        self._stack.append(self._memo[self._byte()])

    def get_long(self) -> None:
        self._stack.append(self._memo[self._long()])

    def name(self) -> None:
        module, name = self._line(), self._line()
        known = _NAMES.get((module, name))
        if known is None:
            raise UnsupportedFormat(
                f"its pickle names {_short(f'{module}.{name}')}, which is no part of a state dict: nothing was "
                "executed; if you trust the file, load it yourself and save its state dict as safetensors",
                file=self._where,
            )
        self.push(known)

    def persistent(self) -> None:
        """A storage, as torch.save writes it: a tag, a type, a name, a device, a length; of old, None for no view."""
        tag, kind, key, _, count, *view = _as(tuple, self._stack.pop())
        if view not in ([], [None]):
            raise _Broken("a storage that is a view of another")
        if tag != "storage" or _as(_Name, kind).kind != "storage":
            raise _Broken("a persistent id that is no storage")
        storage = Storage(_as(str, key), kind.value, _size(count) * ITEM_BYTES[kind.value])
        if self.storages.setdefault(key, storage) != storage:  # torch would take the first for both
            raise _Broken("one storage is described in two ways")
        self.push(storage)

    def reduce(self) -> None:
        """What the function would return, as a record; only the names of the table have one."""
        arguments = _as(tuple, self._stack.pop())
        function = _as(_Name, self._stack.pop())
        self.push(_RETURNS[function.kind](*arguments))

    def build(self) -> None:
        """The attributes of an OrderedDict (``_metadata``), which say nothing about tensors."""
        _as(dict, self._stack.pop())
        _as(dict, self._stack[-1])


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _Broken(f"a {type(value).__name__.lstrip('_')} where a {kind.__name__.lstrip('_')} belongs")
    return value


def _put(target: dict[Any, Any], key: Any, value: Any) -> None:
    if isinstance(key, (str, int, float)):  # any other key is no tensor's name
        target[key] = value


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:120]}…"


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise _Broken("a size or position that is no such number")
    return value


def _dict(*arguments: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    (pairs,) = arguments or ([],)
    for pair in _as(list, pairs):
        key, value = pair if type(pair) in (list, tuple) else _as(list, pair)
        _put(made, key, value)
    return made


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, metadata: Any = None
) -> StoredTensor:
    return _typed_tensor(
        storage, offset, shape, stride, grad, hooks, _Name("dtype", _as(Storage, storage).dtype), metadata
    )


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> StoredTensor:
    """The view that ``torch._utils._rebuild_tensor_v3`` makes; metadata is a negation or conjugation yet to be done."""
    if _as(_Name, dtype).kind != "dtype":
        raise _Broken("a tensor of no type")
    extents = tuple(map(_size, _as(tuple, shape)))
    steps = tuple(map(_size, _as(tuple, stride)))
    if len(extents) > _MOST_DIMENSIONS:
        raise _Broken(f"a tensor of {len(extents)} dimensions")
    item = ITEM_BYTES[dtype.value]
    if 0 in extents:  # without values it stands anywhere
        return StoredTensor(_as(Storage, storage), dtype.value, extents, 0, plain=True)
    plain = _is_contiguous(extents, steps) and not metadata
    tensor = StoredTensor(_as(Storage, storage), dtype.value, extents, _size(offset) * item, plain)
    span = (1 + sum((extent - 1) * step for extent, step in zip(extents, steps, strict=True))) * item
    if tensor.start + span > storage.nbytes:
        raise _Broken("a tensor beyond the end of its storage")
    return tensor


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for extent, step in zip(reversed(shape), reversed(stride), strict=True):
        if extent != 1 and step != expected:
            return False
        expected *= extent
    return True


def _parameter(data: Any, *_: Any) -> StoredTensor:
    tensor: StoredTensor = _as(StoredTensor, data)
    return tensor


_RETURNS: Mapping[str, Callable[..., Any]] = {
    "dict": _dict,
    "tensor": _tensor,
    "typed tensor": _typed_tensor,
    "parameter": _parameter,
    "size": lambda extents: tuple(_as(tuple, extents)),
    "opaque": lambda *arguments: _OPAQUE,
}

_STOP = ord(".")
_OPERATIONS: Mapping[int, Callable[[_Machine], None]] = {
    ord(code): operation
    for code, operation in {
        "\x80": _Machine.proto,
        "(": _Machine.mark,
        "c": _Machine.name,
        "Q": _Machine.persistent,
        "R": _Machine.reduce,
        "b": _Machine.build,
        "N": lambda machine: machine.push(None),
        "\x88": lambda machine: machine.push(True),
        "\x89": lambda machine: machine.push(False),
        "J": _Machine.signed,
        "K": _Machine.unsigned_byte,
        "M": _Machine.unsigned_short,
        "\x8a": _Machine.long,
        "G": _Machine.float,
        "X": _Machine.text,
        "U": _Machine.short_text,
        ")": lambda machine: machine.push(()),
        "\x85": lambda machine: machine.tuple_of(1),
        "\x86": lambda machine: machine.tuple_of(2),
        "\x87": lambda machine: machine.tuple_of(3),
        "t": _Machine.tuple_marked,
        "]": lambda machine: machine.push([]),
        "a": _Machine.append,
        "e": _Machine.appends,
        "}": lambda machine: machine.push({}),
        "s": _Machine.set_item,
        "u": _Machine.set_items,
        "q": _Machine.put,
        "r": _Machine.put_long,
        "h": _Machine.get,
        "j": _Machine.get_long,
    }.items()
}
