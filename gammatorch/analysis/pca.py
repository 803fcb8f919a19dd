"""Lengths and angles of the layers' gains, and principal axes of their directions, with and without their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gammatorch.analysis.host import Array, Flags
from gammatorch.analysis.moments import chunk_width
from gammatorch.errors import InvalidArgument


def norms(gains: Tensor) -> Tensor:
    """Euclidean length of each layer's gain.

    ``n_i = ‖γ_i‖₂``.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Returns:
        Lengths in the unit of γ, shape (layer).

    Example:
        >>> norms(torch.tensor([[3.0, 4.0], [6.0, 8.0]]))
        tensor([ 5., 10.])
    """
    lengths: Tensor = torch.linalg.vector_norm(gains, dim=-1)
    return lengths


def units(gains: Tensor) -> Tensor:
    """Direction of each layer's gain.

    ``u_i = γ_i / ‖γ_i‖₂``.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Returns:
        Unit vectors, shape (layer, hidden); NaN for a layer of zero norm, which has no direction.

    Example:
        >>> units(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    return gains / norms(gains)[:, None]


def cosine_matrix(gains: Tensor) -> Tensor:
    """Cosine similarity between the gain vectors of every pair of layers.

    ``cosine[i, j] = ⟨γ_i, γ_j⟩ / (‖γ_i‖ ‖γ_j‖)``: the raw vectors are multiplied and the (layer, layer) result is
    normalised, which rounds less than multiplying rounded units.

    Args:
        gains: Gain vectors γ, shape (layer, hidden), floating point.

    Returns:
        Cosines in [-1, 1], shape (layer, layer), unit diagonal, in the precision of ``gains``; NaN in the row and
        column of a layer of zero norm, which has no direction.

    Example:
        >>> cosine_matrix(torch.tensor([[3.0, 4.0], [4.0, 3.0]], dtype=torch.float64))
        tensor([[1.0000, 0.9600],
                [0.9600, 1.0000]], dtype=torch.float64)
    """
    lengths = norms(gains)
    cosine = ((gains @ gains.mT) / (lengths[:, None] * lengths)).clamp_(-1, 1)
    cosine.diagonal().copy_(torch.where(lengths > 0, 1, torch.nan))
    return cosine


_LAYERS = 4
"""Columns of a chunk at least, as a multiple of the layers, so that little is done twice."""

_COPIES = 2
"""Of a chunk: one to stand under the factor so far, one that the factorisation works in."""


class Triangle:
    """R of Xᵀ = Q R, by QR of one chunk of columns after another (TSQR; Demmel, Grigori, Hoemmen and Langou 2012).

    Qᵀ keeps lengths and angles, so Rᵀ has the gains' norms, cosines and singular values in L columns. Nothing is
    squared, so singular values are seen down to 1e-16 of the largest, where the Gram matrix ends at 1e-8. Cost: some
    4 L² operations a channel, in Householder reflections, which are slower than products.

    Args:
        layers: Number of layers, L.
        device: Where the columns are.
        dtype: Precision.

    Example:
        >>> triangle = Triangle(layers=1)
        >>> triangle.add(torch.tensor([[3.0, 0.0]]))
        >>> triangle.add(torch.tensor([[4.0]]))
        >>> triangle.finish().abs()
        tensor([[5.]], dtype=torch.float64)
    """

    def __init__(self, layers: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> None:
        self._factor = torch.zeros(0, layers, dtype=dtype, device=device)

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (layer, column), any floating type.
        """
        width = max(_LAYERS * len(columns), chunk_width(columns, _COPIES * self._factor.dtype.itemsize))
        for chunk in torch.split(columns, width, dim=-1):
            rows = torch.cat([self._factor, chunk.mT.to(self._factor.dtype)])
            self._factor = torch.linalg.qr(rows, mode="r").R

    def finish(self) -> Tensor:
        """Rᵀ, shape (layer, min(layer, hidden)): gains of the same lengths and angles."""
        return self._factor.mT.contiguous()


SVD_MAX_WIDTH = 65_536
"""Widest gains for which ``auto`` takes the SVD; beyond, the Gram matrix is as exact and needs no further copies."""

PROJECT_MIN_LAYERS = 512
"""Layers from which ``auto`` projects wide gains: L² multiplications a channel then take longer than reading it."""

METHODS = ("auto", "svd", "gram", "project")

_ROUNDING = 32
"""How many times the rounding error of the input a quantity must exceed to be more than rounding."""

_TIE = 1e-6
"""Entries closer than this, relatively, count as equally large."""


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """PCA of the layers' unit vectors, on the CPU.

    Attributes:
        singular_values: Of the centred units, descending, shape (min(layer, hidden)), zero gains not counted.
        explained_var: Share of each axis in the variance, S² / ΣS²; None if the directions are equal to rounding.
        proj_top1: Projection of each (uncentred) unit on the first axis, shape (layer), NaN for a zero gain; None
            likewise.
        residual_top1: What is left of each unit, √(1 − proj²), shape (layer); None likewise.
        singular_gap: (S₀ − S₁) / S₀, how well the first axis is told from the second; None likewise.
        method: ``"svd"`` or ``"gram"``.
        error_estimate: Estimated largest absolute error of the cosines and of explained_var, from rounding.
    """

    singular_values: Array
    explained_var: Array | None
    proj_top1: Array | None
    residual_top1: Array | None
    singular_gap: float | None
    method: str
    error_estimate: float

    def spread(self, directed: Flags) -> PrincipalAxes:
        """The same axes, with the layers that were left out for having no direction back in as NaN.

        Args:
            directed: Which of all layers these axes are of, shape (layer).
        """
        if self.proj_top1 is None or self.residual_top1 is None:
            return self
        proj, residual = np.full((2, len(directed)), np.nan)
        proj[directed], residual[directed] = self.proj_top1, self.residual_top1
        return replace(self, proj_top1=proj, residual_top1=residual)


def principal_axes(gains: Tensor, method: str = "auto", width: int | None = None) -> PrincipalAxes:
    """PCA of the directions u_i = γ_i / ‖γ_i‖, over layers.

    ``svd``: U S Vᵀ = u − mean(u) with ``torch.linalg.svd``, of the triangular factor where the gains are wide; v₀ =
    (u − mean(u))ᵀ u₀ / S₀ and proj = u · v₀. ``gram``: with C = u uᵀ and J = I − 11ᵀ/L,
    the eigenvalues of J C J are S² and proj = C J u₀ / S₀, so no axis of length hidden is needed; it cannot see
    singular values below some 1e-8 of √L. The sign makes the largest entry of the left vector positive.

    Args:
        gains: Gain vectors γ, shape (layer, hidden); those of zero length are left out.
        method: ``"svd"``, ``"gram"``, or ``"auto"``: svd up to a width of 65,536.
        width: Number of channels, where ``gains`` is a triangular factor of them; else that of ``gains``.

    Raises:
        InvalidArgument: There is no such method; ``"project"`` needs :func:`~gammatorch.analyze`.

    Example:
        >>> axes = principal_axes(torch.eye(3, dtype=torch.float64))
        >>> axes.explained_var.round(6) + 0.0
        array([0.5, 0.5, 0. ])
    """
    if method not in ("auto", "svd", "gram"):
        raise InvalidArgument(f"there is no method {method!r} for axes: pass auto, svd or gram")
    layers, hidden = gains.shape[0], width or gains.shape[1]
    if method == "auto":
        method = choose_method(layers, hidden)
    if method == "gram":
        return axes_of_cosines(cosine_matrix(gains).cpu().double().numpy(), hidden)
    directed = norms(gains) > 0
    if not bool(directed.all()):
        kept = directed.cpu().numpy()
        return principal_axes(gains[directed], "svd", width).spread(kept) if kept.any() else _none("svd")
    directions = units(gains)
    centred = directions - directions.mean(dim=0)
    U, S, _ = torch.linalg.svd(_triangle(centred), full_matrices=False)
    projections = directions @ (centred.mT @ U[:, 0]) / S[0]
    eps = torch.finfo(gains.dtype).eps
    home = torch.cat([S, U[:, 0], projections]).cpu().double().numpy()  # one transfer
    S_home, first, projected = np.split(home, [len(S), len(S) + layers])
    return _axes(S_home, first, projected, "svd", eps, eps * math.sqrt(hidden))


def _triangle(rows: Tensor) -> Tensor:
    """Rᵀ of rowsᵀ = Q R, which has the rows' singular values and left vectors in as many columns as there are rows.

    The right vectors, which are most of the work, are not needed: Golub and Van Loan's R-SVD without them.
    """
    layers, width = rows.shape
    return rows if width <= layers else torch.linalg.qr(rows.mT, mode="r").R.mT


def choose_method(layers: int, hidden: int, checkpoints: int = 1) -> str:
    """The method that ``auto`` takes: svd for one checkpoint of ordinary width, gram for batches and wide gains,
    project for wide gains of 512 layers and more.

    Args:
        layers: Number of layers.
        hidden: Number of channels.
        checkpoints: Number of checkpoints to analyse at once.

    Example:
        >>> choose_method(64, 5120), choose_method(64, 5120, 154), choose_method(64, 1_000_000)
        ('svd', 'gram', 'gram')
        >>> choose_method(512, 1_000_000)
        'project'
    """
    if hidden <= SVD_MAX_WIDTH:
        return "svd" if checkpoints == 1 else "gram"
    return "project" if layers >= PROJECT_MIN_LAYERS and checkpoints == 1 else "gram"


def axes_of_cosines(cosine: Array, hidden: int, dtype: torch.dtype = torch.float64) -> PrincipalAxes:
    """Principal axes from the cosines between layers, by ``eigh``: the method ``gram``.

    Args:
        cosine: Cosines between layers, shape (layer, layer), NaN for those without direction.
        hidden: Number of channels they were taken over.
        dtype: Precision they were taken in; float32 ones are of centred units, see
            :class:`~gammatorch.analysis.moments.UnitProducts`.

    Example:
        >>> axes_of_cosines(np.eye(3), 3).singular_values.round(6) + 0.0
        array([1., 1., 0.])
    """
    directed = np.isfinite(cosine.diagonal())
    if not directed.all():
        rows = directed.nonzero()[0]
        kept = cosine[rows[:, None], rows]
        return axes_of_cosines(kept, hidden, dtype).spread(directed) if len(rows) else _none("gram")
    half = cosine - cosine.mean(axis=0)  # J C
    W, U = _eigh(half - half.mean(axis=-1, keepdims=True))
    S = np.sqrt(W[::-1][:hidden].clip(min=0))
    first = U[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        projections = cosine @ (first - first.mean()) / S[0]
    eps = torch.finfo(dtype).eps
    return _axes(S, first, projections, "gram", eps, eps * math.sqrt(hidden), squared=dtype is torch.float64)


def eigenvalues(symmetric: Array) -> Array:
    """Eigenvalues of a symmetric matrix, ascending.

    Args:
        symmetric: Shape (layer, layer).
    """
    found: Array = torch.linalg.eigvalsh(torch.from_numpy(symmetric)).numpy()
    return found


def _eigh(symmetric: Array) -> tuple[Array, Array]:
    values, vectors = torch.linalg.eigh(torch.from_numpy(symmetric))
    return values.numpy(), vectors.numpy()


def unseen(axes: PrincipalAxes) -> list[str]:
    """A note on singular values that the method gram cannot tell from rounding, which the SVD can.

    Args:
        axes: Of one checkpoint.

    Example:
        >>> gains = torch.eye(3, dtype=torch.float64) + 1
        >>> gains[1] = gains[0] + 1e-10 * gains[1]
        >>> unseen(principal_axes(gains, "gram"))
        ['1 singular value is below 3e-08, where the method gram sees rounding: --method svd resolves it']
        >>> unseen(principal_axes(gains, "svd"))
        []
    """
    if axes.method != "gram" or axes.explained_var is None or axes.proj_top1 is None:
        return []
    floor = math.sqrt(np.finfo(np.float64).eps * len(axes.proj_top1))
    count = int(np.count_nonzero(axes.singular_values[:-1] < floor))  # the last is zero: centred rows have rank L − 1
    if not count:
        return []
    which = "1 singular value is" if count == 1 else f"{count} singular values are"
    return [
        f"{which} below {floor:.0e}, where the method gram sees rounding: "
        f"--method svd resolves {'it' if count == 1 else 'them'}"
    ]


def _none(method: str) -> PrincipalAxes:
    """What is left where no layer has a direction."""
    return PrincipalAxes(np.zeros(0), None, None, None, None, method, 0.0)


def _axes(
    S: Array, left: Array, projections: Array, method: str, eps: float, cosine_error: float, squared: bool = False
) -> PrincipalAxes:
    """Axes from singular values, the first left vector and the units' projections on the first right one."""
    layers, largest, total = len(left), float(S[0]), float(np.vdot(S, S))
    # the Gram matrix holds squares, so its rounding hides singular values up to the root of it
    floor = math.sqrt(_ROUNDING * eps * layers) if squared else _ROUNDING * eps * layers
    if largest <= floor:
        return PrincipalAxes(S, None, None, None, None, method, cosine_error)
    proj_top1 = projections * canonical_sign(left)
    noise = float(layers) if squared else 2 * largest * math.sqrt(layers)
    return PrincipalAxes(
        singular_values=S,
        explained_var=np.square(S) / total,
        proj_top1=proj_top1,
        residual_top1=np.sqrt((1 - np.square(proj_top1)).clip(min=0)),
        singular_gap=(largest - float(S[1])) / largest if len(S) > 1 else 1.0,
        method=method,
        error_estimate=max(cosine_error, eps * noise / total),
    )


def shared_direction(cosine: Array) -> tuple[float, Array, Array]:
    """The direction v that maximises Σ (u_i · v)², from the cosines of the layers.

    v is the first right singular vector of the *uncentred* units: with C a = λ₁ a, the projections are u_i · v =
    √λ₁ a_i, and the energy is λ₁ / L, between 1/L (orthogonal layers) and 1 (one direction). Where all layers point
    one way the energy is 1, while the centred axes of :func:`principal_axes` have lost that direction with the mean.
    The sign makes the largest projection positive.

    Args:
        cosine: Cosines between layers, shape (layer, layer), NaN for those without direction.

    Returns:
        The energy, NaN where no layer has a direction; the first eigenvector, with 0 for layers without, and the
        projections, with NaN for them, shape (layer).

    Example:
        >>> round(shared_direction(np.ones((4, 4)))[0], 12)
        1.0
    """
    directed = np.isfinite(cosine.diagonal())
    count = int(np.count_nonzero(directed))
    W, A = _eigh(np.where(np.isnan(cosine), 0.0, cosine))
    vector = np.where(directed, A[:, -1] * canonical_sign(A[:, -1]), 0)
    largest = float(W[-1])
    first = min(max(largest, 1.0), float(count))  # beyond these bounds it is rounding: ones are on the diagonal
    energy = first / count if count else math.nan
    return energy, vector, np.where(directed, vector * math.sqrt(max(largest, 0)), np.nan)


def canonical_sign(vector: Array) -> float:
    """The sign, ±1, that makes the entry of largest magnitude positive; of equally large ones the first counts.

    Args:
        vector: Over layers, not zero.

    Example:
        >>> canonical_sign(np.array([0.1, -0.7, 0.7]))
        -1.0
    """
    size = np.abs(vector)
    return float(np.sign(vector[np.argmax(size >= size.max() * (1 - _TIE))]))
