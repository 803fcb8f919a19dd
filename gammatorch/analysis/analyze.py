"""The analysis of one set of gains, whole."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, overload

import torch
from torch import Tensor

from gammatorch.analysis.answer import READS, Answer, answer
from gammatorch.analysis.contrasts import phase_contrasts
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.gram import CHANNEL_BLOCKS
from gammatorch.analysis.measures import measure
from gammatorch.analysis.notes import doubtful, undefined
from gammatorch.analysis.outliers import without_outliers
from gammatorch.analysis.pca import choose_method, unseen
from gammatorch.analysis.phases import Phase, assign_phases, phase_statistics
from gammatorch.analysis.plain import plain
from gammatorch.analysis.projection import Sketch
from gammatorch.analysis.reduce import Reduced, Settings, reduce_side_by_side, reduce_stack, reduce_wide
from gammatorch.errors import InvalidArgument, NonFiniteGain
from gammatorch.gains.device import choose_dtype
from gammatorch.gains.stack import Gains, Origin
from gammatorch.gains.undisturbed import undisturbed
from gammatorch.gains.wide import WideGains
from gammatorch.version import __version__

SCHEMA_VERSION = 1

_CACHED_BYTES, _BATCH_BYTES = 16_000_000, 256_000_000
"""Checkpoints are analysed together up to this size of their correlations: on the CPU what its caches hold."""

_EQUAL = 64
"""Rounding errors within which lengths count as equal."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the directions of one site's gains say. Attributes bear the names of the JSON keys.

    What is undefined is NaN inside a tensor and None elsewhere, null in JSON: cosines and projections of a zero gain,
    correlations of a constant one.

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
        statistics: Further tensors and figures by name: those of
            :data:`~gammatorch.analysis.measures.STATISTICS`, ``singular_gap``, ``phase_contrasts``, ``outliers``.
        answer: The verdict, and the sentence that gives its numbers.
        method: How the principal axes were found.
        error_estimate: Estimated largest absolute error of cosines and explained_var.
        device: Where it was computed.
        dtype: In which precision.
        seconds: Time it took.
        gains: Where the gains came from; None for a plain tensor.
        fingerprint: A sketch of the gains, where one was asked for or the method is ``project``.
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
    answer: Answer
    method: str
    error_estimate: float
    device: str
    dtype: str
    seconds: float
    gains: Origin | None = field(repr=False)
    fingerprint: Sketch | None = field(repr=False)
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
            "norms": plain(self.norms),
            "proj_top1": plain(self.proj_top1),
            "residual_top1": plain(self.residual_top1),
            "explained_var": plain(self.explained_var),
            "singular_values": plain(self.singular_values),
            "cos_adjacent": plain(self.cos_adjacent),
            "cosine": plain(self.cosine),
            "phases": [asdict(phase) for phase in self.phases],
            "statistics": plain(self.statistics),
            "answer": asdict(self.answer),
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
            "bytes_cached": gains.bytes_cached if gains else None,
            "checkpoint_bytes": gains.checkpoint_bytes if gains else None,
            "shards": gains.shards if gains else None,
            "requests": gains.requests if gains else None,
            "rounds": gains.rounds if gains else None,
            "seconds": self.seconds + (gains.seconds if gains else 0.0),
        }


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
    gains: Tensor,
    *,
    phases: str = ...,
    method: str = ...,
    dtype: str | torch.dtype = ...,
    dims: int = ...,
    seed: int = ...,
    fingerprint: bool = ...,
) -> Analysis | list[Analysis]: ...
@undisturbed()
def analyze(
    gains: Gains | WideGains | Tensor,
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
        gains: What :func:`~gammatorch.read_gains` or :func:`~gammatorch.scan_gains` returned, or a tensor of shape
            (layer, hidden), or a batch of shape (checkpoint, layer, hidden).
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

    Example:
        >>> analysis = analyze(torch.tensor([[3.0, 4.0], [4.0, 3.0]]))
        >>> analysis.norms
        tensor([5., 5.], dtype=torch.float64)
        >>> round(analysis.to_dict()["cos_adjacent"][0], 6)
        0.96
    """
    if not isinstance(gains, Gains | WideGains | Tensor):
        raise InvalidArgument(f"gains are a tensor, or what read_gains returned, not {type(gains).__name__}")
    settings = Settings(method, choose_dtype(dtype, gains_device(gains)), dims, seed, fingerprint)
    if isinstance(gains, WideGains):
        return _analyze_wide(gains, phases, settings)
    if isinstance(gains, Gains):
        return _analyze(gains.gamma[None], [gains], phases, settings)[0]
    if gains.ndim != 3:
        return _analyze(gains[None], None, phases, settings)[0]
    if method == "project":
        return [_analyze(one[None], None, phases, settings)[0] for one in gains]
    checkpoints, layers = gains.shape[:2]
    size = _CACHED_BYTES if gains.device.type == "cpu" else _BATCH_BYTES
    together = max(1, size // (8 * CHANNEL_BLOCKS * max(layers, 1) ** 2))
    if method == "auto":
        settings = replace(settings, method=choose_method(layers, gains.shape[2], checkpoints))
    return [one for part in torch.split(gains, together) for one in _analyze(part, None, phases, settings)]


@undisturbed()
def analyze_together(
    gains: Sequence[Gains],
    *,
    phases: str = "auto",
    method: str = "auto",
    dtype: str | torch.dtype = "float64",
    dims: int = 4096,
    seed: int = 0,
    count: int | None = None,
) -> list[Analysis]:
    """Analyse the gains of several checkpoints in one batch.

    Args:
        gains: Gains of the same layers and width, on one device.
        phases: As for :func:`analyze`, like all others.
        method: As there.
        dtype: As there.
        dims: As there.
        seed: As there.
        count: Work as if there were so many, so that no result depends on how many came along: each is multiplied by
            itself, and the rest is done in a batch of this size, for the method ``gram`` in float64.

    Returns:
        The analysis of each.

    Raises:
        InvalidArgument: The gains differ in layers or width; phases, method or precision make no sense.
    """
    if len({(one.layers, one.gamma.shape) for one in gains}) != 1:
        raise InvalidArgument("gains that are analysed together have the same layers and width")
    settings = Settings(method, choose_dtype(dtype, gains_device(gains[0])), dims, seed)
    stack = torch.stack([one.gamma for one in gains])
    if count is None:
        return _analyze(stack, gains, phases, settings)
    if settings.method != "gram" or settings.dtype is not torch.float64:
        raise InvalidArgument("a batch of fixed size takes the method gram in float64")
    started = time.perf_counter()
    _check(stack)
    rows = [one.gamma.to(settings.dtype) for one in gains]
    reduced = reduce_side_by_side(rows, gains[0].layers, settings.dtype, count)
    measured = measure(reduced.correlations)[: len(gains)]
    outliers = [_outliers(one) for one in without_outliers(stack.to(settings.dtype), reduced.correlations)]
    reduced = replace(reduced, axes=reduced.axes[: len(gains)])
    return _assemble(reduced, measured, outliers, gains, phases, settings, stack.device, started, apart=True)


def gains_device(gains: Gains | WideGains | Tensor) -> torch.device:
    """Where gains of any kind are."""
    return gains.gamma.device if isinstance(gains, Gains) else gains.device


def _analyze(stack: Tensor, gains: Sequence[Gains] | None, phases: str, settings: Settings) -> list[Analysis]:
    """Analyse checkpoints together, shape (checkpoint, layer, hidden)."""
    started = time.perf_counter()
    _check(stack)
    layers = gains[0].layers if gains else tuple(range(stack.shape[1]))
    stack = stack.detach().to(settings.dtype)
    reduced = reduce_stack(stack, layers, settings)
    measured = measure(reduced.correlations)
    exact = reduced.axes[0].method != "project"
    outliers = [_outliers(one) for one in without_outliers(stack, reduced.correlations)] if exact else None
    return _assemble(reduced, measured, outliers, gains, phases, settings, stack.device, started)


def _analyze_wide(gains: WideGains, phases: str, settings: Settings) -> Analysis:
    """Analyse gains while they are read."""
    started = time.perf_counter()
    reduced = reduce_wide(gains, settings)
    measured = measure(reduced.correlations)
    return _assemble(reduced, measured, None, [gains.origin()], phases, settings, gains.device, started)[0]


def _assemble(
    reduced: Reduced,
    measured: list[dict[str, Any]],
    outliers: list[dict[str, Any]] | None,
    gains: Sequence[Origin] | None,
    phases: str,
    settings: Settings,
    device: torch.device,
    started: float,
    apart: bool = False,
) -> list[Analysis]:
    """The analysis of each checkpoint from its statistics and axes; phases of each apart from the others'."""
    correlations = reduced.correlations
    layers = correlations.layers
    described, contrasts = _by_phase(correlations, measured, gains, phases, apart)
    analyses = []
    for row, (axis, statistics) in enumerate(zip(reduced.axes, measured, strict=True)):
        lengths, cosine = correlations.norms[row], correlations.cosine[row]
        origin = gains[row] if gains else None
        statistics["phase_contrasts"] = contrasts[row]
        statistics["singular_gap"] = axis.singular_gap
        statistics["outliers"] = outliers[row] if outliers else dict.fromkeys(("channels", "mean_pearson", "verdict"))
        notes = list(origin.notes) if origin else []
        notes += undefined(axis.explained_var, statistics, layers)
        notes += unseen(axis)
        notes += doubtful(axis.singular_gap, cosine, origin)
        copies = axis.explained_var is None and _equal(lengths)
        analyses.append(
            Analysis(
                num_layers=len(layers),
                hidden=correlations.moments.hidden,
                layers=layers,
                norms=lengths,
                cosine=cosine,
                cos_adjacent=cosine.diagonal(1),
                singular_values=axis.singular_values,
                explained_var=axis.explained_var,
                proj_top1=axis.proj_top1,
                residual_top1=axis.residual_top1,
                phases=described[row],
                statistics=statistics,
                answer=answer(statistics, layers, copies),
                method=axis.method,
                error_estimate=axis.error_estimate,
                device=str(device),
                dtype=str(settings.dtype).removeprefix("torch."),
                seconds=(time.perf_counter() - started) / len(measured),
                gains=origin,
                fingerprint=reduced.fingerprints[row] if reduced.fingerprints else None,
                notes=tuple(notes),
            )
        )
    return analyses


def _by_phase(
    correlations: Correlations,
    measured: Sequence[Mapping[str, Any]],
    gains: Sequence[Origin] | None,
    phases: str,
    apart: bool,
) -> tuple[list[tuple[Phase, ...]], list[list[dict[str, Any]]]]:
    """Figures and contrasts of the phases of each checkpoint, together for those whose phases are alike, or apart."""
    layers, count = correlations.layers, len(measured)
    alike: dict[str, tuple[dict[str, list[int]], list[int]]] = {}
    for row, statistics in enumerate(measured):
        model_type = gains[row].model_type if gains else None
        rows = assign_phases(phases, layers, model_type=model_type, starts=statistics["change_points"] or ())
        alike.setdefault(str(row if apart else rows), (rows, []))[1].append(row)
    described: list[tuple[Phase, ...]] = [()] * count
    contrasts: list[list[dict[str, Any]]] = [[]] * count
    for rows, chosen in alike.values():
        of = chosen if apart or len(alike) > 1 else slice(None)
        figures = phase_statistics(rows, layers, correlations.norms[of], correlations.cosine[of])
        beyond = phase_contrasts(rows, correlations.pearson[of], correlations.without[of])
        for row, of_phases, of_contrasts in zip(chosen, figures, beyond, strict=True):
            described[row] = tuple(of_phases)
            contrasts[row] = [dict(vars(contrast)) for contrast in of_contrasts]
    return described, contrasts


def _outliers(found: tuple[list[int], Correlations] | None) -> dict[str, Any]:
    """The channels that stand out, and what is said of the layers without them."""
    if found is None:
        return {"channels": [], "mean_pearson": None, "verdict": None}
    channels, rest = found
    (statistics,) = measure(rest, READS)
    said = answer({**statistics, "outliers": None}, rest.layers, copies=False)
    return {"channels": channels, "mean_pearson": statistics["mean_pearson"]["value"], "verdict": said.verdict}


def _equal(lengths: Tensor) -> bool:
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return True
    spread = lengths.max() - lengths.min()
    return bool(spread <= _EQUAL * torch.finfo(lengths.dtype).eps * lengths.max())


def _check(stack: Tensor) -> None:
    """Refuse what has no analysis, by the names its user knows it under."""
    if stack.ndim != 3 or 0 in stack.shape:
        shape = tuple(stack.shape if stack.shape[0] != 1 else stack.shape[1:])
        raise InvalidArgument(f"gains have shape (layer, hidden) or (checkpoint, layer, hidden), not {shape}")
    if not stack.is_floating_point() or stack.layout is not torch.strided:
        kind = stack.dtype if stack.layout is torch.strided else stack.layout
        raise InvalidArgument(f"gains are dense and of a floating type, not {kind}")
    if bool(stack.sum(dim=-1).isfinite().all()):  # NaN and infinity reach the sum, and so may what is only large
        return
    finite = stack.isfinite().all(dim=-1)
    if not bool(finite.all()):
        checkpoint, row = finite.logical_not().nonzero()[0].tolist()
        place = f"row {row}" if len(stack) == 1 else f"checkpoint {checkpoint}: row {row}"
        raise NonFiniteGain(f"{place} holds NaN or infinity")
