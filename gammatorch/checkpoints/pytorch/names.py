"""The names that a pickle of PyTorch's may hold, as tables: types, functions that give tensors, and plain data."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from gammatorch.checkpoints.pytorch.forms import DTENSOR
from gammatorch.checkpoints.pytorch.pickle_machine import Name
from gammatorch.checkpoints.safetensors.table import DTYPE_BITS

ITEM_BYTES = {dtype: bits // 8 for dtype, bits in DTYPE_BITS.items() if bits >= 8} | {
    "C32": 4,
    "C128": 16,
    **dict.fromkeys(("QI8", "QU8", "F4_X2"), 1),
    **{f"{kind}{bits}": 1 for kind in "IU" for bits in range(1, 8)},
    "QI32": 4,
}
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
    "float4_e2m1fn_x2": "F4_X2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex32": "C32",
    "complex64": "C64",
    "complex128": "C128",
    "qint8": "QI8",
    "quint8": "QU8",
    "qint32": "QI32",
    **{f"{kind}int{bits}": f"{kind or 'i'}{bits}".upper() for kind in ("", "u") for bits in range(1, 8)},
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
    **{("torch", name): Name("dtype", dtype) for name, dtype in DTYPES.items()},
}
"""All that a pickle may name of Python's, NumPy's and PyTorch's modules."""

_GUARDED = sys.stdlib_module_names | frozenset(
    ("torch", "numpy", "__builtin__", "copy_reg", "commands", "cPickle", "distutils", "exceptions", "imp", "popen2")
)
"""Modules, of any Python, of which a file of tensors needs few names: whoever names others means them to be called."""


def may_be_passed_over(module: str, name: str) -> bool:
    """Whether a name that is not listed stands for data all the same: nothing is imported or called for it either way.

    Args:
        module: Its module.
        name: Its name there.

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
