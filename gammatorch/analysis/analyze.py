"""The analysis of one set of gains, whole, or of several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from gammatorch.analysis.assemble import assemble
from gammatorch.analysis.pca import choose_method
from gammatorch.analysis.reduce import Settings, reduce_stack, reduce_wide
from gammatorch.analysis.result import Analysis
from gammatorch.errors import InvalidArgument, NonFiniteGain
from gammatorch.gains.accept import as_gains
from gammatorch.gains.device import choose_dtype, default_numerics, one_thread
from gammatorch.gains.stack import Gains
from gammatorch.gains.stored import STORED_DTYPES, seen_finite
from gammatorch.gains.wide import WideGains, gains_device

_TOGETHER = 64
"""Checkpoints of a batch that a device takes together, as each call has a cost there; the CPU takes one by one."""

SMALL = 1_000_000
"""Gains of one checkpoint up to which the CPU computes on one thread. Several wait for each other, and on a busy
machine for a core: on two cores that others used too, two threads took 450 ms for 64 × 5120, and one took 29."""


@overload
def analyze(
    gains: Gains | WideGains,
    *,
    phases: str = ...,
    method: str = ...,
    dtype: str | torch.dtype = ...,
    dims: int = ...,
    seed: int = ...,
    fingerprint: bool = ...,
) -> Analysis: ...
@overload
def analyze(
    gains: Any,
    *,
    phases: str = ...,
    method: str = ...,
    dtype: str | torch.dtype = ...,
    dims: int = ...,
    seed: int = ...,
    fingerprint: bool = ...,
) -> Analysis | list[Analysis]: ...
@default_numerics()
def analyze(
    gains: Any,
    *,
    phases: str = "auto",
    method: str = "auto",
    dtype: str | torch.dtype = "float64",
    dims: int = 4096,
    seed: int = 0,
    fingerprint: bool = False,
) -> Analysis | list[Analysis]:
    """Analyse the directions of the gains across layers, on the device they are on.

    Args:
        gains: What :func:`~gammatorch.read_gains` or :func:`~gammatorch.scan_gains` returned; or a tensor or NumPy
            array of shape (layer, hidden), or a batch of shape (checkpoint, layer, hidden); or a name or path, an open
            checkpoint, a module or a state dict, of which the site ``auto`` is read.
        phases: Runs of layers to compare: ``"auto"``, ``"qwen3-32b"``, or ``"early=0-9,late=10-"``.
        method: ``"svd"``, ``"gram"``, or ``"auto"`` (svd up to a width of 65,536, gram beyond and for batches);
            ``"project"``: from a seeded random projection, inexact, for very wide gains of many layers (``auto``
            takes it from 512).
        dtype: Precision of products and decompositions, ``"float64"`` or ``"float32"``.
        dims: Numbers kept of each layer by a sketch, a power of two from 32 to 65,536.
        seed: Seed of the sketch.
        fingerprint: Keep a :class:`~gammatorch.Sketch` of the gains, taken in the same pass.

    Returns:
        The analysis; a list of them for a batch.

    Raises:
        NonFiniteGain: A gain holds NaN or infinity.
        InvalidArgument: The shape, the phases, the method or the precision make no sense.
        CheckpointError: A checkpoint cannot be opened or read.
        SelectionError: Its rows do not fit together.

    Example:
        >>> analysis = analyze(torch.tensor([[3.0, 4.0], [4.0, 3.0]]))
        >>> analysis.norms
        tensor([5., 5.], dtype=torch.float64)
        >>> round(analysis.to_dict()["cos_adjacent"][0], 6)
        0.96
    """
    if not isinstance(phases, str):
        raise InvalidArgument(f"phases are a text like 'early=0-9,late=10-', not {type(phases).__name__}")
    gains = as_gains(gains)
    settings = Settings(method, choose_dtype(dtype, gains_device(gains)), dims, seed, fingerprint)
    if isinstance(gains, WideGains):
        return _analyze_wide(gains, phases, settings)
    if isinstance(gains, Gains):
        return _analyze(gains.gamma[None], [gains], phases, settings)[0]
    if gains.ndim != 3:
        return _analyze(gains[None], None, phases, settings)[0]
    checkpoints, layers, hidden = gains.shape
    if method == "auto":
        settings = replace(settings, method=choose_method(layers, hidden, checkpoints))
    together = 1 if gains.device.type == "cpu" or settings.method == "project" else _TOGETHER
    numbers = range(0, checkpoints, together) if checkpoints > 1 else [None]
    parts = zip(torch.split(gains, together), numbers, strict=True)
    return [one for part, number in parts for one in _analyze(part, None, phases, settings, number)]


@default_numerics()
def analyze_together(
    gains: Sequence[Gains],
    *,
    phases: str = "auto",
    method: str = "auto",
    dtype: str | torch.dtype = "float64",
    dims: int = 4096,
    seed: int = 0,
) -> list[Analysis]:
    """Analyse the gains of several checkpoints in one batch, each to the bits that it has alone.

    Args:
        gains: Gains of the same layers and width, on one device.
        phases: As for :func:`analyze`, like all others.
        method: As there.
        dtype: As there.
        dims: As there.
        seed: As there.

    Returns:
        The analysis of each.

    Raises:
        InvalidArgument: The gains differ in layers or width; phases, method or precision make no sense.
    """
    if len({(one.layers, one.gamma.shape) for one in gains}) != 1:
        raise InvalidArgument("gains that are analysed together have the same layers and width")
    device = gains_device(gains[0])
    settings = Settings(method, choose_dtype(dtype, device), dims, seed, alone=True)
    if method == "auto":
        layers, hidden = gains[0].gamma.shape
        settings = replace(settings, method=choose_method(layers, hidden, len(gains)))
    if device.type == "cpu":
        return [_analyze(one.gamma[None], [one], phases, settings)[0] for one in gains]
    return _analyze(torch.stack([one.gamma for one in gains]), gains, phases, settings)


def _analyze(
    stack: Tensor, gains: Sequence[Gains] | None, phases: str, settings: Settings, number: int | None = None
) -> list[Analysis]:
    """Analyse checkpoints together, shape (checkpoint, layer, hidden); ``number`` is that of the first in its batch."""
    started = time.perf_counter()
    with _threads(stack):
        if stack.dtype in STORED_DTYPES.values() and stack.dtype.itemsize == 1:
            stack = stack.to(torch.bfloat16)  # exact, and torch sums no eight-bit floats
        _check(stack, number)
        layers = gains[0].layers if gains else tuple(range(stack.shape[1]))
        reduced = reduce_stack(stack.detach().to(settings.dtype), layers, settings, number)
    seconds = (time.perf_counter() - started) / len(reduced)
    origins: Sequence[Gains | None] = gains or [None] * len(reduced)
    with one_thread():  # what is L × L is small
        return [
            assemble(one, origin, phases, settings, stack.device, seconds)
            for one, origin in zip(reduced, origins, strict=True)
        ]


def _threads(stack: Tensor) -> AbstractContextManager[None]:
    """What the gains of one checkpoint of a batch are worth."""
    small = stack.numel() <= SMALL * max(len(stack), 1)
    return one_thread() if stack.device.type == "cpu" and small else nullcontext()


def _analyze_wide(gains: WideGains, phases: str, settings: Settings) -> Analysis:
    """Analyse gains while they are read."""
    started = time.perf_counter()
    reduced, seconds = reduce_wide(gains, settings), time.perf_counter() - started
    with one_thread():
        return assemble(reduced, gains.origin(), phases, settings, gains.device, seconds)


def _check(stack: Tensor, number: int | None) -> None:
    """Refuse what has no analysis, by the names its user knows it under."""
    if stack.ndim != 3 or 0 in stack.shape:
        shape = tuple(stack.shape if stack.shape[0] != 1 else stack.shape[1:])
        raise InvalidArgument(f"gains have shape (layer, hidden) or (checkpoint, layer, hidden), not {shape}")
    if stack.dtype not in STORED_DTYPES.values() or stack.layout is not torch.strided or stack.is_meta:
        kind = (
            "without values" if stack.is_meta else str(stack.dtype if stack.layout is torch.strided else stack.layout)
        )
        raise InvalidArgument(f"gains are dense, of type float64, float32, float16 or bfloat16, not {kind}")
    if seen_finite(stack):
        return
    finite = stack.isfinite().all(dim=-1)
    if not bool(finite.all()):
        checkpoint, row = finite.logical_not().nonzero()[0].tolist()
        place = f"row {row}" if number is None else f"checkpoint {number + checkpoint}: row {row}"
        raise NonFiniteGain(f"{place} holds NaN or infinity")
