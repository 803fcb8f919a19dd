"""From gains to what does not grow with their width, by one of four methods: everything else is computed from that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.evidence import Lenses
from gammatorch.analysis.host import check_magnitudes
from gammatorch.analysis.moments import Accumulator, Moments, UnitProducts, moments, side_by_side
from gammatorch.analysis.outliers import massive_channels, none_known
from gammatorch.analysis.pca import (
    METHODS,
    SVD_MAX_WIDTH,
    PrincipalAxes,
    Triangle,
    axes_of_cosines,
    choose_method,
    principal_axes,
)
from gammatorch.analysis.projection import Sketch, Sketcher, sketch
from gammatorch.analysis.scores import RANKED_WIDTH, rank_layers, score_moments
from gammatorch.analysis.sketched import SketchedMoments
from gammatorch.errors import InvalidArgument
from gammatorch.gains.wide import WideGains


@dataclass(frozen=True, eq=False)
class Settings:
    """How gains are reduced.

    Attributes:
        method: One of :data:`~gammatorch.analysis.pca.METHODS`.
        dtype: Precision of products and decompositions.
        dims: Numbers of each layer that a sketch keeps.
        seed: Seed of the sketch.
        fingerprint: Whether to keep a sketch where the method does not ask for one.
        alone: Whether each checkpoint of a batch is multiplied by itself, so that no result depends on what else is in
            it, even where products are rounded.
    """

    method: str = "auto"
    dtype: torch.dtype = torch.float64
    dims: int = 4096
    seed: int = 0
    fingerprint: bool = False
    alone: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidArgument(f"there is no method {self.method!r}: pass {', '.join(METHODS)}")


@dataclass(frozen=True, eq=False)
class Reduced:
    """Gains of one checkpoint without their channels, on the CPU.

    Attributes:
        lenses: Moments, and what follows from them.
        axes: Principal axes.
        massive: Massive channels, see :func:`~gammatorch.analysis.outliers.massive_channels`.
        fingerprint: A sketch, None where none was asked for.
    """

    lenses: Lenses
    axes: PrincipalAxes
    massive: Mapping[str, object]
    fingerprint: Sketch | None


def reduce_stack(
    stack: Tensor, layers: tuple[int, ...], settings: Settings, number: int | None = None
) -> list[Reduced]:
    """Gains that are in memory: one pass over their channels, and the SVD where the method asks for it.

    Args:
        stack: Gain vectors γ, shape (checkpoint, layer, hidden); a single checkpoint for ``project``.
        layers: Layer index of each row.
        settings: The method, its precision and its parameters.
        number: That of the first checkpoint in its batch, which errors name.

    Returns:
        For each checkpoint what all else follows from.
    """
    checkpoints, count, hidden = stack.shape
    method = choose_method(count, hidden, checkpoints) if settings.method == "auto" else settings.method
    if method == "project":
        return [_project([stack[0]], stack[0], layers, settings)]
    taken = side_by_side(stack, settings.dtype) if settings.alone else moments(stack, settings.dtype)
    stored = _correlations(taken, layers, settings.dtype, number)
    if settings.dtype is torch.float32:
        stored = _measured_twice(stored, [stack], stack.device)
    ranked, massive = _ranked(stack, layers)
    found = []
    for gamma, of_gains, of_scores, channels in zip(stack, stored, ranked, massive, strict=True):
        if method == "svd":
            axes = principal_axes(gamma.to(settings.dtype), "svd")
        else:
            axes = axes_of_cosines(of_gains.cosine, hidden, settings.dtype)
        fingerprint = sketch(gamma, settings.dims, settings.seed) if settings.fingerprint else None
        found.append(Reduced(Lenses(of_gains, of_scores), axes, channels, fingerprint))
    return found


def _correlations(
    taken: Moments, layers: tuple[int, ...], dtype: torch.dtype, number: int | None = None
) -> list[Correlations]:
    """Correlations of each checkpoint, whose gains are checked for what the products cannot hold."""
    home = taken.home()
    for place, one in enumerate(home):
        check_magnitudes(one, layers, dtype, "" if number is None else f" of checkpoint {number + place}")
    return [Correlations(one, layers) for one in home]


def _ranked(
    stack: Tensor, layers: tuple[int, ...]
) -> tuple[Sequence[Correlations | None], Sequence[Mapping[str, object]]]:
    """Correlations of normal scores, and the massive channels; of gains too wide to be put in order none are known."""
    if stack.shape[2] > RANKED_WIDTH:
        return [None] * len(stack), [none_known()] * len(stack)
    ranks = rank_layers(stack)
    return [Correlations(one, layers) for one in score_moments(ranks.scores).home()], massive_channels(stack, ranks)


def passes(method: str, dtype: str, layers: int, hidden: int) -> int:
    """How often :func:`reduce_wide` reads the gains.

    Args:
        method: As asked for.
        dtype: ``"float64"`` or ``"float32"``.
        layers: Number of layers.
        hidden: Number of channels.

    Example:
        >>> passes("auto", "float32", 64, 1_000_000), passes("project", "float32", 64, 1_000_000)
        (2, 1)
    """
    return 2 if dtype == "float32" and _method_when_wide(method, layers, hidden) != "project" else 1


def _method_when_wide(method: str, layers: int, hidden: int) -> str:
    return choose_method(layers, max(hidden, SVD_MAX_WIDTH + 1)) if method == "auto" else method


def reduce_wide(gains: WideGains, settings: Settings) -> Reduced:
    """Gains that are read in column blocks: one pass, two in float32, whatever the width.

    The method ``svd`` is that of the triangular factor, ``auto`` takes ``gram`` where it would take ``svd``.

    Args:
        gains: The column blocks.
        settings: The method, its precision and its parameters.
    """
    count, hidden = gains.shape
    method = _method_when_wide(settings.method, count, hidden)
    if method == "project":
        return _project(gains.blocks(), gains, gains.layers, settings)
    products = Accumulator(count, hidden, 1, gains.device, settings.dtype)
    triangle = Triangle(count, gains.device, settings.dtype)
    sketcher = Sketcher(count, hidden, settings.dims, settings.seed, gains.device, gains.dtype)
    for block in gains.blocks():
        products.add(block[None])
        if method == "svd":
            triangle.add(block)
        if settings.fingerprint:
            sketcher.add(block)
    found = _correlations(products.finish(), gains.layers, settings.dtype)
    if settings.dtype is torch.float32:
        found = _measured_twice(found, (block[None] for block in gains.blocks()), gains.device)
    (correlations,) = found
    if method == "svd":
        axes = principal_axes(triangle.finish(), "svd", hidden)
    else:
        axes = axes_of_cosines(correlations.cosine, hidden, settings.dtype)
    fingerprint = sketcher.finish() if settings.fingerprint else None
    return Reduced(Lenses(correlations, None), axes, none_known(), fingerprint)


def _measured_twice(
    correlations: Sequence[Correlations], blocks: Iterable[Tensor], device: torch.device
) -> list[Correlations]:
    """The same, with the cosines of a second pass over the centred units."""
    products = UnitProducts(torch.from_numpy(np.stack([one.norms for one in correlations])), device)
    for block in blocks:
        products.add(block)
    return [replace(one, measured=cosine) for one, cosine in zip(correlations, products.cosine().numpy(), strict=True)]


def _project(
    blocks: Iterable[Tensor], like: Tensor | WideGains, layers: tuple[int, ...], settings: Settings
) -> Reduced:
    count, hidden = like.shape
    sketched = SketchedMoments(count, hidden, settings.dims, settings.seed, like.device, like.dtype)
    for block in blocks:
        sketched.add(block)
    found, error, fingerprint = sketched.finish()
    (correlations,) = _correlations(found, layers, torch.float64)
    axes = axes_of_cosines(correlations.cosine, hidden)
    error = max(error, 2 * math.sqrt(len(layers) / settings.dims))  # of the cosines, of explained_var
    axes = replace(axes, method="project", error_estimate=error)
    return Reduced(Lenses(correlations, None), axes, none_known(), fingerprint)
