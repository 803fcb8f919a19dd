"""The pickle of a PyTorch checkpoint as data: which names it may hold, and which tensors it describes.

What comes out is what ``torch.load(..., weights_only=True)`` would build, with places in storages instead of values;
:mod:`gammatorch.checkpoints.pytorch.unpickler` takes the pickle apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from gammatorch.checkpoints.dtypes import DTENSOR, ITEM_BYTES, TORCH_DTYPES
from gammatorch.checkpoints.pytorch.tensors import TENSOR_FUNCTIONS, Storage, as_size
from gammatorch.checkpoints.pytorch.unpickler import PICKLE_CAP, Broken, Held, Machine, Name, as_type, put
from gammatorch.errors import MalformedCheckpoint

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
    "QInt8Storage": "QI8",
    "QUInt8Storage": "QU8",
    "QInt32Storage": "QI32",
}

_BUILTINS = (
    "bool bytearray complex dict float frozenset int list object set slice str tuple Ellipsis NotImplemented "
    "getattr type"  # how members of an Enum and types such as that of None are written; never called
)

_RANDOM = {
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64 PCG64DXSM",
    "numpy.random._philox": "Philox",
    "numpy.random._sfc64": "SFC64",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
}

_DATA: Mapping[str, str] = {
    "argparse": "Namespace",
    "types": "MappingProxyType SimpleNamespace",
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
    **dict.fromkeys(("numpy.ma.core", "numpy.ma"), "_mareconstruct MaskedArray"),
    **_RANDOM,
    "torch": "device per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric "
    "per_channel_affine_float_qparams",
    "torch.serialization": "_get_layout",
    "torch.torch_version": "TorchVersion",
    **dict.fromkeys(("io", "_io"), "BytesIO StringIO"),
    **dict.fromkeys(("operator", "_operator"), "getitem or_"),
    "functools": "partial reduce",
    "re": "_compile",
    "logging": "getLogger",
}
"""Types of plain data, by module, that trainers keep beside the weights: settings, dates, counters."""

_CLASSES_OF_DATA = ("typing", "enum", "collections", "dataclasses", "abc", "numbers")
"""Modules of Python whose classes hold data or say what kind of data there is, and do nothing when they are called."""

_CLASSES_OF_TORCH = (
    *("torch.nn", "torch.optim", "torch.utils.data", "torch.amp", "torch.cuda.amp", "torch.ao", "torch.quantization"),
    *("torch.distributed.tensor", "torch.distributed._tensor", "torch.distributed.device_mesh"),
    *("torch.distributed._mesh_layout", "torch.distributed.fsdp", "torch.distributed._shard", "numpy"),
)
"""Packages of PyTorch whose classes trainers keep beside the weights, or as the model itself."""

_MODULES_OF_FUNCTIONS = ("torch.nn.functional", "torch.nn.init", "torch._C._nn", "torch._C._special")

_FUNCTIONS_OF_TORCH = frozenset(
    (("torch._C", "_VariableFunctionsClass"), ("torch._C", "TensorBase"), ("torch._C", "_TensorBase"))
)
"""What whole modules name as their activation: functions on tensors, by module, and the classes that hold others."""

NAMES: Mapping[tuple[str, str], Name] = {
    **{(module, name): Name("opaque") for module, names in _DATA.items() for name in names.split()},
    ("collections", "OrderedDict"): Name("dict"),
    ("collections", "defaultdict"): Name("empty dict"),
    ("torch._utils", "_rebuild_tensor"): Name("tensor"),
    ("torch._utils", "_rebuild_tensor_v2"): Name("tensor"),
    ("torch._utils", "_rebuild_tensor_v3"): Name("typed tensor"),
    ("torch._utils", "_rebuild_parameter"): Name("parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"): Name("parameter with attributes"),
    ("torch._tensor", "_rebuild_from_type_v2"): Name("tensor with attributes"),
    ("torch._utils", "_rebuild_qtensor"): Name("quantised"),
    ("torch._utils", "_rebuild_sparse_tensor"): Name("sparse"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): Name("meta"),
    ("torch._utils", "_rebuild_wrapper_subclass"): Name("wrapper"),
    **{
        (module, "DTensor"): Name("tensor class", DTENSOR)
        for module in ("torch.distributed.tensor", "torch.distributed._tensor", "torch.distributed._tensor.api")
    },
    ("torch", "Tensor"): Name("tensor class"),
    ("torch.nn.parameter", "Parameter"): Name("tensor class"),
    ("torch.nn.parameter", "Buffer"): Name("tensor class"),
    ("torch", "Size"): Name("size"),
    ("torch.storage", "UntypedStorage"): Name("storage", "U8"),
    **{("torch", name): Name("storage", dtype) for name, dtype in _STORAGES.items()},
    **{("torch", name): Name("dtype", dtype) for name, dtype in TORCH_DTYPES.items()},
}
"""All that a pickle may name of Python's, NumPy's and PyTorch's modules."""

_GUARDED = sys.stdlib_module_names | frozenset(
    ("torch", "numpy", "__builtin__", "copy_reg", "commands", "cPickle", "distutils", "exceptions", "imp", "popen2")
)
"""Modules, of any Python, of which a file of tensors needs few names: whoever names others means them to be called."""


def may_be_passed_over(module: str, name: str) -> bool:
    """Whether a name that is not listed stands for data all the same: nothing is imported or called for it either way.

    Example:
        >>> may_be_passed_over("typing", "Any"), may_be_passed_over("trainer.settings", "Config")
        (True, True)
        >>> may_be_passed_over("os", "system"), may_be_passed_over("torch", "load")
        (False, False)
    """
    if module.partition(".")[0] not in _GUARDED or (module, name) in _FUNCTIONS_OF_TORCH:
        return True
    if module in _MODULES_OF_FUNCTIONS and name.isidentifier():
        return True
    within = any(f"{module}.".startswith(f"{known}.") for known in (*_CLASSES_OF_DATA, *_CLASSES_OF_TORCH))
    return within and name.rpartition(".")[2].lstrip("_")[:1].isupper()


def _dict(*arguments: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    (pairs,) = arguments or ([],)
    for pair in as_type(list, pairs):
        key, value = pair if type(pair) in (list, tuple) else as_type(list, pair)
        put(made, key, value)
    return made


_RETURNS: Mapping[str, Callable[..., Any]] = {
    **TENSOR_FUNCTIONS,
    "dict": _dict,
    "empty dict": lambda *arguments: {},
    "size": lambda extents: tuple(as_type(tuple, extents)),
    "opaque": lambda *arguments: Held(),
}


class _TorchMachine(Machine):
    names = NAMES
    returns = _RETURNS
    purpose = (
        "no part of a state dict: nothing was executed; if you trust the file, load it yourself and save its state "
        "dict as safetensors"
    )

    def __init__(self, raw: bytes, where: str) -> None:
        super().__init__(raw, where)
        self.storages: dict[str, Storage] = {}

    def unlisted(self, module: str, name: str) -> Name | None:
        """A class whose objects are passed over: a trainer's own, for settings mostly, or plain data."""
        return Name("opaque") if may_be_passed_over(module, name) else None

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
    """What a pickle describes: dicts, lists, texts, numbers and tensors; nothing is executed.

    The tensors are of :class:`~gammatorch.checkpoints.pytorch.tensors.StoredTensor`.

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

    Returns:
        What each describes, the storages by key, and where the last one ends.
    """
    machine = _TorchMachine(raw, where)
    return machine.read(count), machine.storages, machine.at
