"""Tensors as a pickle of PyTorch's describes them: views of storages, and forms whose values stand nowhere as they are.

The functions stand for those of ``torch/_utils.py`` that ``torch.load(..., weights_only=True)`` calls, and take the
same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gammatorch.checkpoints.dtypes import ITEM_BYTES, META, OWN_CLASS, QUANTISED, SPARSE, STRIDED
from gammatorch.checkpoints.pytorch.unpickler import OPAQUE, Broken, Name, as_type

_MOST_DIMENSIONS = 64
_MOST = 1 << 62
"""Bound of every size and position, far above any file."""

_OVERWRITING = frozenset(("data", "real", "imag", "__class__", "__dict__"))
"""Attributes that replace a tensor's values when they are set."""


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
        storage: The storage; None where its form has several, or none.
        dtype: Stored type in safetensors' spelling.
        shape: Its shape.
        start: First byte within the storage.
        form: Empty if its values stand there one after the other, as they are; else its form.
    """

    storage: Storage | None
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    form: str = ""

    @property
    def nbytes(self) -> int:
        """Size of its values in bytes."""
        nbytes = ITEM_BYTES[self.dtype]
        for extent in self.shape:
            nbytes *= extent
        return nbytes


def as_size(value: Any) -> int:
    """The value, if it is a size or position.

    Raises:
        Broken: It is none.
    """
    if type(value) is not int or not 0 <= value < _MOST:
        raise Broken("a size or position that is no such number")
    return value


def as_shape(value: Any) -> tuple[int, ...]:
    """The value, if it is a tuple of sizes, no longer than shapes are.

    Raises:
        Broken: It is none.
    """
    if len(as_type(tuple, value)) > _MOST_DIMENSIONS:
        raise Broken(f"a tensor of {len(value)} dimensions")
    return tuple(map(as_size, value))


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any = None, hooks: Any = None, metadata: Any = None
) -> StoredTensor:
    return _view(storage, offset, shape, stride, as_type(Storage, storage).dtype, metadata)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> StoredTensor:
    return _view(storage, offset, shape, stride, _as_dtype(dtype), metadata)


def _view(storage: Any, offset: Any, shape: Any, stride: Any, dtype: str, metadata: Any) -> StoredTensor:
    """A view of a storage; metadata is a negation or conjugation yet to be done."""
    extents, steps = as_shape(shape), as_shape(stride)
    if 0 in extents:  # without values it stands anywhere
        return StoredTensor(as_type(Storage, storage), dtype, extents)
    item = ITEM_BYTES[dtype]
    form = "" if _is_contiguous(extents, steps) and not metadata else STRIDED
    tensor = StoredTensor(as_type(Storage, storage), dtype, extents, as_size(offset) * item, form)
    last = sum((extent - 1) * step for extent, step in zip(extents, steps, strict=True))
    if tensor.start + (1 + last) * item > storage.nbytes:
        raise Broken("a tensor beyond the end of its storage")
    return tensor


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for extent, step in zip(reversed(shape), reversed(stride), strict=True):
        if extent != 1 and step != expected:
            return False
        expected *= extent
    return True


def _as_dtype(name: Any) -> str:
    dtype: Name = as_type(Name, name)
    if dtype.kind != "dtype":
        raise Broken("a tensor of no type")
    return dtype.value


def _parameter(data: Any, *_: Any) -> StoredTensor:
    tensor: StoredTensor = as_type(StoredTensor, data)
    return tensor


def _parameter_with_attributes(data: Any, grad: Any, hooks: Any, state: Any) -> StoredTensor:
    _check_attributes(state)
    return _parameter(data)


def _quantised(storage: Any, offset: Any, shape: Any, *_: Any) -> StoredTensor:
    return StoredTensor(None, as_type(Storage, storage).dtype, as_shape(shape), form=QUANTISED)


def _sparse(layout: Any, parts: Any) -> StoredTensor:
    """Of indices, in some layouts of two kinds, values, shape, and flags."""
    tensors = [part for part in as_type(tuple, parts) if type(part) is StoredTensor]
    shapes = [part for part in parts if type(part) is tuple]
    return StoredTensor(None, tensors[-1].dtype, as_shape(shapes[0]), form=SPARSE)


def _meta(dtype: Any, shape: Any, *_: Any) -> StoredTensor:
    return StoredTensor(None, _as_dtype(dtype), as_shape(shape), form=META)


def _wrapper(kind: Any, dtype: Any, shape: Any, *_: Any) -> StoredTensor:
    """A class whose values are other tensors, among its attributes."""
    return StoredTensor(None, _as_dtype(dtype), as_shape(shape), form=as_type(Name, kind).value or OWN_CLASS)


def _with_attributes(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor of some class, with attributes: of PyTorch's own classes it is known that they keep the values."""
    rebuild, named = as_type(Name, function), as_type(Name, kind)
    if rebuild.kind == "opaque":
        return OPAQUE
    made = _FUNCTIONS[rebuild.kind](*as_type(tuple, arguments))
    if named.kind == "tensor class" and not named.value:
        _check_attributes(state)
        return made
    return made._replace(form=made.form or named.value or OWN_CLASS)


def _check_attributes(state: Any) -> None:
    """Attributes as ``torch._utils._set_obj_state`` sets them: a dict, or that and one for the slots."""
    for names in state if type(state) is tuple else (state,):
        if names is not None and not _OVERWRITING.isdisjoint(as_type(dict, names)):
            raise Broken("an attribute that replaces the values of a tensor")


_FUNCTIONS: Mapping[str, Callable[..., StoredTensor]] = {
    "tensor": _tensor,
    "typed tensor": _typed_tensor,
    "parameter": _parameter,
    "parameter with attributes": _parameter_with_attributes,
    "quantised": _quantised,
    "sparse": _sparse,
    "meta": _meta,
    "wrapper": _wrapper,
}

TENSOR_FUNCTIONS: Mapping[str, Callable[..., Any]] = {**_FUNCTIONS, "tensor with attributes": _with_attributes}
"""What gives a tensor, by the kind of its name in :data:`~gammatorch.checkpoints.pytorch.pickled.NAMES`."""
