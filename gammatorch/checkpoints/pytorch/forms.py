"""Forms of tensors whose values do not stand one after the other as they are: listed by name, and read by nobody."""

from __future__ import annotations

from collections.abc import Mapping

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
