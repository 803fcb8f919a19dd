"""The types that tensors are stored in, and the forms whose values do not stand one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

DTYPE_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Width in bits of each stored type."""

ITEM_BYTES = {dtype: bits // 8 for dtype, bits in DTYPE_BITS.items() if bits >= 8} | {
    "C32": 4,
    "C128": 16,
    **dict.fromkeys(("QI8", "QU8", "F4_X2"), 1),
    **{f"{kind}{bits}": 1 for kind in "IU" for bits in range(1, 8)},
    "QI32": 4,
}
"""Bytes of a value of each stored type."""

TORCH_DTYPES = {
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

GGUF_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""Name, values per block and bytes per block of each stored type."""

STRIDED = "strided view"
QUANTISED = "quantised"
SPARSE = "sparse"
META = "meta"
DTENSOR = "DTensor"
OWN_CLASS = "class of its own"
TILED = "cut along several axes"
_REMEDIES: Mapping[str, str] = {
    STRIDED: "save it again after .contiguous()",
    QUANTISED: "quantised weights have no gain of their own",
    SPARSE: "save it again after .to_dense()",
    META: "it has a shape and no values: save the model again once its weights are loaded",
    DTENSOR: "the file holds the part of one process: save it again after .full_tensor(), or pass the folder that "
    "torch.distributed.checkpoint writes",
    OWN_CLASS: "what its values mean is up to that class: save it again as a plain tensor",
    TILED: "save the whole tensor as safetensors",
}


def stored_bits(dtype: str, shape: Sequence[int]) -> int | None:
    """Bits that a tensor takes; None where the width of its type is not known.

    Example:
        >>> stored_bits("BF16", [5120])
        81920
    """
    bits = DTYPE_BITS.get(dtype)
    return None if bits is None else bits * prod(shape)


def is_known_type(dtype: str) -> bool:
    """Whether a stored type is one that some format is known to have, read as gains or not.

    Example:
        >>> is_known_type("F8_E4M3"), is_known_type("Q4_K"), is_known_type("F8_NEW")
        (True, True, False)
    """
    return dtype in DTYPE_BITS or dtype in ITEM_BYTES or any(dtype == name for name, _, _ in GGUF_TYPES.values())


def in_form(dtype: str, form: str) -> str:
    """The stored type of a tensor in some form.

    Example:
        >>> in_form("F32", SPARSE), in_form("F32", "")
        ('F32 (sparse)', 'F32')
    """
    return f"{dtype} ({form})" if form else dtype


def remedy(dtype: str) -> str:
    """What can be done about a stored type that holds no gains.

    Example:
        >>> remedy("F32 (sparse)"), remedy("F8_E4M3")
        ('save it again after .to_dense()', 'quantised weights have no gain of their own')
    """
    _, _, form = dtype.partition(" (")
    return _REMEDIES.get(form.removesuffix(")"), _REMEDIES[QUANTISED])
