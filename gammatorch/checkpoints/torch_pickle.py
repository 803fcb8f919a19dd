"""The pickle of a PyTorch checkpoint as data: which tensors it describes, without executing anything.

What comes out is what ``torch.load(..., weights_only=True)`` would build, with places in storages instead of values;
:mod:`gammatorch.checkpoints.pickle_machine` takes the pickle apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gammatorch.checkpoints.pickle_machine import OPAQUE, PICKLE_CAP, Broken, Machine, Name, as_type, put
from gammatorch.checkpoints.safetensors import DTYPE_BITS
from gammatorch.errors import MalformedCheckpoint

_MOST_DIMENSIONS = 64
_MOST = 1 << 62
"""Bound of every size and position, far above any file."""

ITEM_BYTES = {dtype: bits // 8 for dtype, bits in DTYPE_BITS.items() if bits >= 8} | {"C128": 16}
"""Bytes of a value of each stored type."""

DTYPES = {
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
"""Stored types by PyTorch's names."""

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


_BUILTINS = "bool bytearray complex dict float frozenset int list object set slice str tuple"

_DATA: Mapping[str, str] = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "collections": "Counter deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "_codecs": "encode",
    "copyreg": "_reconstructor",
    "copy_reg": "_reconstructor",
    "pathlib": "Path PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "builtins": f"{_BUILTINS} bytes range",
    "__builtin__": f"{_BUILTINS} long unicode xrange",
    "numpy": "dtype ndarray",
    **dict.fromkeys(("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct scalar"),
    **dict.fromkeys(("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
    "torch": "device",
    "torch.torch_version": "TorchVersion",
}
"""Types of plain data, by module, that trainers keep beside the weights: settings, dates, counters."""

_NAMES: Mapping[tuple[str, str], Name] = {
    **{(module, name): Name("opaque") for module, names in _DATA.items() for name in names.split()},
    ("collections", "OrderedDict"): Name("dict"),
    ("collections", "defaultdict"): Name("empty dict"),
    ("torch._utils", "_rebuild_tensor_v2"): Name("tensor"),
    ("torch._utils", "_rebuild_tensor_v3"): Name("typed tensor"),
    ("torch._utils", "_rebuild_parameter"): Name("parameter"),
    ("torch", "Size"): Name("size"),
    ("torch.storage", "UntypedStorage"): Name("storage", "U8"),
    **{("torch", name): Name("storage", dtype) for name, dtype in _STORAGES.items()},
    **{("torch", name): Name("dtype", dtype) for name, dtype in DTYPES.items()},
}
"""All that a pickle may name of Python's, NumPy's and PyTorch's modules."""

_GUARDED = sys.stdlib_module_names | frozenset(
    ("torch", "numpy", "__builtin__", "copy_reg", "commands", "cPickle", "distutils", "exceptions", "imp", "popen2")
)
"""Modules, of any Python, of which a state dict needs no other names: whoever names them means to have them called."""


def as_size(value: Any) -> int:
    """The value, if it is a size or position.

    Raises:
        Broken: It is none.
    """
    if type(value) is not int or not 0 <= value < _MOST:
        raise Broken("a size or position that is no such number")
    return value


def _dict(*arguments: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    (pairs,) = arguments or ([],)
    for pair in as_type(list, pairs):
        key, value = pair if type(pair) in (list, tuple) else as_type(list, pair)
        put(made, key, value)
    return made


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, metadata: Any = None
) -> StoredTensor:
    return _typed_tensor(
        storage, offset, shape, stride, grad, hooks, Name("dtype", as_type(Storage, storage).dtype), metadata
    )


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> StoredTensor:
    """The view that ``torch._utils._rebuild_tensor_v3`` makes; metadata is a negation or conjugation yet to be done."""
    if as_type(Name, dtype).kind != "dtype":
        raise Broken("a tensor of no type")
    extents = tuple(map(as_size, as_type(tuple, shape)))
    steps = tuple(map(as_size, as_type(tuple, stride)))
    if len(extents) > _MOST_DIMENSIONS:
        raise Broken(f"a tensor of {len(extents)} dimensions")
    item = ITEM_BYTES[dtype.value]
    if 0 in extents:  # without values it stands anywhere
        return StoredTensor(as_type(Storage, storage), dtype.value, extents, 0, plain=True)
    plain = _is_contiguous(extents, steps) and not metadata
    tensor = StoredTensor(as_type(Storage, storage), dtype.value, extents, as_size(offset) * item, plain)
    if plain:
        stop = tensor.start + tensor.nbytes
    else:
        stop = tensor.start + (1 + sum((extent - 1) * step for extent, step in zip(extents, steps, strict=True))) * item
    if stop > storage.nbytes:
        raise Broken("a tensor beyond the end of its storage")
    return tensor


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for extent, step in zip(reversed(shape), reversed(stride), strict=True):
        if extent != 1 and step != expected:
            return False
        expected *= extent
    return True


def _parameter(data: Any, *_: Any) -> StoredTensor:
    tensor: StoredTensor = as_type(StoredTensor, data)
    return tensor


_RETURNS: Mapping[str, Callable[..., Any]] = {
    "dict": _dict,
    "empty dict": lambda *arguments: {},
    "tensor": _tensor,
    "typed tensor": _typed_tensor,
    "parameter": _parameter,
    "size": lambda extents: tuple(as_type(tuple, extents)),
    "opaque": lambda *arguments: OPAQUE,
}


class _TorchMachine(Machine):
    names = _NAMES
    returns = _RETURNS
    purpose = (
        "no part of a state dict: nothing was executed; if you trust the file, load it yourself and save its state "
        "dict as safetensors"
    )

    def __init__(self, raw: bytes, where: str) -> None:
        super().__init__(raw, where)
        self.storages: dict[str, Storage] = {}

    def unlisted(self, module: str, name: str) -> Name | None:
        """A class of the trainer's own, whose objects are passed over: settings mostly."""
        return None if module.partition(".")[0] in _GUARDED else Name("opaque")

    def persistent(self, identity: Any) -> Storage:
        """A storage, as torch.save writes it: a tag, a type, a name, a device, a length; of old, None for no view."""
        tag, kind, key, _, count, *view = as_type(tuple, identity)
        if view not in ([], [None]):
            raise Broken("a storage that is a view of another")
        if tag != "storage" or as_type(Name, kind).kind != "storage":
            raise Broken("a persistent id that is no storage")
        storage = Storage(as_type(str, key), kind.value, as_size(count) * ITEM_BYTES[kind.value])
        if self.storages.setdefault(key, storage) != storage:  # torch would take the first for both
            raise Broken("one storage is described in two ways")
        return storage


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
    machine = _TorchMachine(raw, where)
    return machine.read(count), machine.storages, machine.at
