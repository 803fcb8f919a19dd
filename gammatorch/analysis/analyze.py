"""The analysis of one set of gains, whole."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, overload

import torch
from torch import Tensor

from gammatorch.analysis.geometry import cosine_matrix, cosine_with_ones, norms, pearson_matrix
from gammatorch.analysis.pca import principal_axes, shared_direction
from gammatorch.analysis.phases import Phase, assign_phases, phase_statistics
from gammatorch.analysis.precision import full_float32_products
from gammatorch.errors import InvalidArgument, NonFiniteGain, ZeroGain
from gammatorch.gains.device import choose_dtype
from gammatorch.gains.stack import Gains
from gammatorch.gains.stream import STORED_DTYPES
from gammatorch.version import __version__

SCHEMA_VERSION = 1

CLEAR_GAP = 0.01
"""Below this relative gap between the first two singular values the first axis is not identified."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the directions of one site's gains say. Attributes bear the names of the JSON keys.

    Attributes:
        num_layers: Number of rows, L.
        hidden: Width of the gains, H.
        layers: Layer index of each row.
        norms: Length of each gain, shape (layer).
        cosine: Cosines between layers, shape (layer, layer).
        cos_adjacent: Cosine of each row with the next, shape (layer - 1).
        singular_values: Of the centred units, shape (min(layer, hidden)).
        explained_var: Share of each principal axis in the variance, same shape; None if undefined.
        proj_top1: Projection of each unit on the first principal axis, shape (layer); None if undefined.
        residual_top1: √(1 − proj_top1²), shape (layer); None if undefined.
        phases: Figures of each run of layers.
        statistics: Further tensors and figures by name: ``pearson`` (layer, layer), ``cos_ones`` (layer),
            ``shared_energy`` (``value, low, high``), ``shared_projection`` (layer), ``singular_gap``.
        method: How the principal axes were found.
        error_estimate: Estimated largest absolute error of cosines and explained_var.
        device: Where it was computed.
        dtype: In which precision.
        seconds: Time it took.
        gains: Where the gains came from; None for a plain tensor.
        notes: What a reader should know, undefined figures among it.
    """

    num_layers: int
    hidden: int
    layers: tuple[int, ...]
    norms: Tensor
    cosine: Tensor
    cos_adjacent: Tensor
    singular_values: Tensor
    explained_var: Tensor | None
    proj_top1: Tensor | None
    residual_top1: Tensor | None
    phases: tuple[Phase, ...]
    statistics: Mapping[str, Any]
    method: str
    error_estimate: float
    device: str
    dtype: str
    seconds: float
    gains: Gains | None = field(repr=False)
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python values, ready for JSON: undefined numbers are None, never NaN."""
        gains = self.gains
        return {
            "schema_version": SCHEMA_VERSION,
            "model": gains.model if gains else None,
            "num_layers": self.num_layers,
            "hidden": self.hidden,
            "layers": list(self.layers),
            "keys": list(gains.keys) if gains else None,
            "stack": gains.stack if gains else None,
            "site": gains.site if gains else None,
            "site_reason": gains.site_reason if gains else None,
            "offset": gains.offset if gains else None,
            "norms": _plain(self.norms),
            "proj_top1": _plain(self.proj_top1),
            "residual_top1": _plain(self.residual_top1),
            "explained_var": _plain(self.explained_var),
            "singular_values": _plain(self.singular_values),
            "cos_adjacent": _plain(self.cos_adjacent),
            "cosine": _plain(self.cosine),
            "phases": [asdict(phase) for phase in self.phases],
            "statistics": _plain(self.statistics),
            "method": self.method,
            "error_estimate": self.error_estimate,
            "notes": list(self.notes),
            "provenance": self._provenance(),
        }

    def _provenance(self) -> dict[str, Any]:
        gains = self.gains
        return {
            "gammatorch": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "commit": gains.revision if gains else None,
            "model_type": gains.model_type if gains else None,
            "stored_dtype": gains.stored_dtype if gains else None,
            "device": self.device,
            "dtype": self.dtype,
            "bytes_read": gains.bytes_read if gains else None,
            "checkpoint_bytes": gains.checkpoint_bytes if gains else None,
            "shards": gains.shards if gains else None,
            "requests": gains.requests if gains else None,
            "rounds": gains.rounds if gains else None,
            "seconds": self.seconds + (gains.seconds if gains else 0.0),
        }


@overload
def analyze(gains: Gains, *, phases: str = ..., method: str = ..., dtype: str | torch.dtype = ...) -> Analysis: ...
@overload
def analyze(
    gains: Tensor, *, phases: str = ..., method: str = ..., dtype: str | torch.dtype = ...
) -> Analysis | list[Analysis]: ...
def analyze(
    gains: Gains | Tensor, *, phases: str = "auto", method: str = "auto", dtype: str | torch.dtype = "float64"
) -> Analysis | list[Analysis]:
    """Analyse the directions of the gains across layers, on the device they are on.

    Args:
        gains: What :func:`~gammatorch.read_gains` returned, or a tensor of shape (layer, hidden), or a batch of
            shape (checkpoint, layer, hidden).
        phases: Runs of layers to compare: ``"auto"``, ``"qwen3-32b"``, or ``"early=0-9,late=10-"``.
        method: ``"svd"``, ``"gram"``, or ``"auto"`` (svd up to a width of 65,536).
        dtype: Precision of the arithmetic, ``"float64"`` or ``"float32"``.

    Returns:
        The analysis; a list of them for a batch.

    Raises:
        ZeroGain: A layer's gain is zero, so it has no direction.
        NonFiniteGain: A gain holds NaN or infinity.
        InvalidArgument: The shape, the phases, the method or the precision make no sense.

    Example:
        >>> analysis = analyze(torch.tensor([[3.0, 4.0], [4.0, 3.0]]))
        >>> analysis.norms
        tensor([5., 5.], dtype=torch.float64)
        >>> round(analysis.to_dict()["cos_adjacent"][0], 6)
        0.96
    """
    if isinstance(gains, Gains):
        return _analyze_one(gains.gamma, gains, phases, method, dtype)
    if gains.ndim == 3:
        return [_analyze_one(one, None, phases, method, dtype) for one in gains]
    return _analyze_one(gains, None, phases, method, dtype)


def _analyze_one(gamma: Tensor, gains: Gains | None, phases: str, method: str, dtype: str | torch.dtype) -> Analysis:
    started = time.perf_counter()
    _check(gamma, gains)
    precision = choose_dtype(dtype, gamma.device)
    layers = gains.layers if gains else tuple(range(len(gamma)))
    rows = assign_phases(phases, layers, model_type=gains.model_type if gains else None)
    with full_float32_products():
        gamma = gamma.detach().to(precision)
        lengths = norms(gamma)
        cosine = cosine_matrix(gamma)
        axes = principal_axes(gamma, method)
        shared = shared_direction(cosine)
        pearson = pearson_matrix(gamma)
        cos_ones = cosine_with_ones(gamma)
    notes = list(gains.notes) if gains else []
    notes += _undefined(len(gamma), axes.explained_var, pearson)
    notes += _doubtful(axes.singular_gap, cosine, gains)
    return Analysis(
        num_layers=len(gamma),
        hidden=gamma.shape[-1],
        layers=layers,
        norms=lengths,
        cosine=cosine,
        cos_adjacent=cosine.diagonal(1),
        singular_values=axes.singular_values,
        explained_var=axes.explained_var,
        proj_top1=axes.proj_top1,
        residual_top1=axes.residual_top1,
        phases=tuple(phase_statistics(rows, layers, lengths, cosine)),
        statistics={
            "pearson": pearson,
            "cos_ones": cos_ones,
            "shared_energy": {"value": shared.energy, "low": None, "high": None},
            "shared_projection": shared.projection,
            "singular_gap": axes.singular_gap,
        },
        method=axes.method,
        error_estimate=axes.error_estimate,
        device=str(gamma.device),
        dtype=str(precision).removeprefix("torch."),
        seconds=time.perf_counter() - started,
        gains=gains,
        notes=tuple(notes),
    )


def _check(gamma: Tensor, gains: Gains | None) -> None:
    """Refuse what has no analysis, by the names its user knows it under."""
    if gamma.ndim != 2 or 0 in gamma.shape:
        raise InvalidArgument(
            f"gains have shape (layer, hidden) or (checkpoint, layer, hidden), not {tuple(gamma.shape)}"
        )
    if not gamma.is_floating_point():
        raise InvalidArgument(f"gains are floating point, not {gamma.dtype}")
    if not bool(gamma.isfinite().all()):
        row = int(gamma.isfinite().all(dim=1).logical_not().nonzero()[0])
        raise NonFiniteGain(f"row {row} holds NaN or infinity")
    if not bool((gamma != 0).any(dim=1).all()):
        row = int((gamma != 0).any(dim=1).logical_not().nonzero()[0])
        raise ZeroGain(
            "the gain is zero everywhere, so it has no direction: the layer is dead, or was never trained",
            file=gains.model if gains else None,
            tensor=gains.keys[row] if gains else f"row {row}",
        )


def _undefined(layers: int, explained: Tensor | None, pearson: Tensor) -> list[str]:
    notes = []
    if layers == 1:
        notes.append("one layer only: principal axes, phases and neighbours are undefined")
    elif explained is None:
        notes.append(
            "all layers point the same way to rounding (an untrained checkpoint?): explained_var and proj_top1 "
            "would be rounding noise and are left undefined"
        )
    constant = int(pearson.diagonal().isnan().sum())
    if constant:
        notes.append(f"{constant} of {layers} layers have a constant gain, whose correlation is undefined")
    return notes


def _doubtful(gap: float | None, cosine: Tensor, gains: Gains | None) -> list[str]:
    notes = []
    if gap is not None and gap < CLEAR_GAP:
        notes.append(
            f"the first two singular values differ by {gap:.2%}: the first axis, and so proj_top1, is not identified"
        )
    if gap is not None and gains is not None and gains.offset == 0 and "+" not in gains.stored_dtype:
        # rounding to a type of relative step ε moves a direction by ε/√12 rms, and 1 - cos of two by ε²/12
        floor = torch.finfo(STORED_DTYPES[gains.stored_dtype]).eps ** 2 / 12
        distance = float((1 - cosine.diagonal(1)).median())
        if distance < floor:
            notes.append(
                f"neighbours differ by 1 - cos = {distance:.1e}, no more than storing them as {gains.stored_dtype} "
                f"does ({floor:.1e}): axes and phases may be rounding"
            )
    return notes


def _plain(value: Any) -> Any:
    """Tensors as nested lists, NaN as None."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
