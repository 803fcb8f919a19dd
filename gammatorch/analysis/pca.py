"""Principal axes of the layers' directions, with and without their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.geometry import cosine_matrix, norms, units
from gammatorch.errors import InvalidArgument

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

    singular_values: Tensor
    explained_var: Tensor | None
    proj_top1: Tensor | None
    residual_top1: Tensor | None
    singular_gap: float | None
    method: str
    error_estimate: float

    def spread(self, directed: Tensor) -> PrincipalAxes:
        """The same axes, with the layers that were left out for having no direction back in as NaN.

        Args:
            directed: Which of all layers these axes are of, shape (layer).
        """
        if self.proj_top1 is None or self.residual_top1 is None:
            return self
        gaps = torch.full_like(directed, torch.nan, dtype=self.proj_top1.dtype)
        return replace(
            self,
            proj_top1=gaps.masked_scatter(directed, self.proj_top1),
            residual_top1=gaps.masked_scatter(directed, self.residual_top1),
        )


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
        >>> axes.explained_var.round(decimals=6)
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    if method not in ("auto", "svd", "gram"):
        raise InvalidArgument(f"there is no method {method!r} for axes: pass auto, svd or gram")
    layers, hidden = gains.shape[0], width or gains.shape[1]
    if method == "auto":
        method = choose_method(layers, hidden)
    if method == "gram":
        return axes_of_cosines(cosine_matrix(gains).cpu()[None], hidden)[0]
    directed = norms(gains) > 0
    if not bool(directed.any()):
        return _none(gains, "svd")
    if not bool(directed.all()):
        return principal_axes(gains[directed], "svd", width).spread(directed.cpu())
    directions = units(gains)
    centred = directions - directions.mean(dim=0)
    U, S, _ = torch.linalg.svd(_triangle(centred), full_matrices=False)
    projections = directions @ (centred.mT @ U[:, 0]) / S[0]
    eps = torch.finfo(gains.dtype).eps
    parts = (S, U[:, 0], projections)
    S, first, projections = torch.split(torch.cat(parts).cpu(), [len(part) for part in parts])  # one transfer
    return _axes(S[None], first[None], projections[None], "svd", layers, eps, eps * math.sqrt(hidden))[0]


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


def axes_of_cosines(cosine: Tensor, hidden: int, dtype: torch.dtype = torch.float64) -> list[PrincipalAxes]:
    """Principal axes of several checkpoints from their cosines, in one batched ``eigh``: the method ``gram``.

    Args:
        cosine: Cosines between layers, shape (checkpoint, layer, layer), NaN for those without direction.
        hidden: Number of channels they were taken over.
        dtype: Precision they were taken in; float32 ones are of centred units, see
            :class:`~gammatorch.analysis.gram.UnitProducts`.

    Returns:
        One set of axes for each checkpoint.

    Example:
        >>> axes_of_cosines(torch.eye(3, dtype=torch.float64)[None], 3)[0].singular_values
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    directed = cosine.diagonal(dim1=-2, dim2=-1).isfinite()
    whole = directed.all(dim=-1)
    if not bool(whole.all()):  # the others in a batch of the same size, so that they get the same bits
        others = torch.where(whole[:, None, None], cosine, torch.eye(cosine.shape[-1]).to(cosine))
        found = axes_of_cosines(others, hidden, dtype)
        for checkpoint in whole.logical_not().nonzero()[:, 0].tolist():
            rows, one = directed[checkpoint], cosine[checkpoint]
            found[checkpoint] = (
                axes_of_cosines(one[rows][:, rows][None], hidden, dtype)[0].spread(rows)
                if bool(rows.any())
                else _none(one, "gram")
            )
        return found
    layers = cosine.shape[-1]
    half = cosine - cosine.mean(dim=-2, keepdim=True)  # J C
    W, U = torch.linalg.eigh(half - half.mean(dim=-1, keepdim=True))
    S = W.flip(-1)[:, : min(layers, hidden)].clamp(min=0).sqrt()
    first = U[:, :, -1]
    projections = (cosine @ (first - first.mean(dim=-1, keepdim=True))[..., None])[..., 0] / S[:, :1]
    eps = torch.finfo(dtype).eps
    return _axes(S, first, projections, "gram", layers, eps, eps * math.sqrt(hidden), squared=dtype is torch.float64)


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
    floor = math.sqrt(torch.finfo(axes.singular_values.dtype).eps * len(axes.proj_top1))
    count = int((axes.singular_values[:-1] < floor).sum())  # the last is zero: centred rows have rank L − 1
    if not count:
        return []
    which = "1 singular value is" if count == 1 else f"{count} singular values are"
    return [
        f"{which} below {floor:.0e}, where the method gram sees rounding: "
        f"--method svd resolves {'it' if count == 1 else 'them'}"
    ]


def _none(like: Tensor, method: str) -> PrincipalAxes:
    """What is left where no layer has a direction."""
    return PrincipalAxes(like.new_zeros(0, device="cpu"), None, None, None, None, method, 0.0)


def _axes(
    S: Tensor,
    left: Tensor,
    projections: Tensor,
    method: str,
    layers: int,
    eps: float,
    cosine_error: float,
    squared: bool = False,
) -> list[PrincipalAxes]:
    """Axes from singular values, first left vectors and the units' projections on the first right ones."""
    # the Gram matrix holds squares, so its rounding hides singular values up to the root of it
    floor = math.sqrt(_ROUNDING * eps * layers) if squared else _ROUNDING * eps * layers
    totals = S.square().sum(dim=-1, keepdim=True)
    explained = S.square() / totals
    proj_top1 = projections * canonical_sign(left)[:, None]
    residual_top1 = (1 - proj_top1.square()).clamp_(min=0).sqrt_()
    axes = []
    for row, (largest, second, total) in enumerate(
        torch.stack([S[:, 0], S[:, min(1, S.shape[1] - 1)], totals[:, 0]], dim=-1).tolist()
    ):
        if largest <= floor:
            axes.append(PrincipalAxes(S[row], None, None, None, None, method, cosine_error))
            continue
        noise = float(layers) if squared else 2 * largest * math.sqrt(layers)
        axes.append(
            PrincipalAxes(
                singular_values=S[row],
                explained_var=explained[row],
                proj_top1=proj_top1[row],
                residual_top1=residual_top1[row],
                singular_gap=(largest - second) / largest if S.shape[1] > 1 else 1.0,
                method=method,
                error_estimate=max(cosine_error, eps * noise / total),
            )
        )
    return axes


def shared_directions(cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The direction v of each checkpoint that maximises Σ (u_i · v)², from the cosines of its layers.

    v is the first right singular vector of the *uncentred* units: with C a = λ₁ a, the projections are u_i · v =
    √λ₁ a_i, and the energy is λ₁ / L, between 1/L (orthogonal layers) and 1 (one direction). Where all layers point
    one way the energy is 1, while the centred axes of :func:`principal_axes` have lost that direction with the mean.
    The sign makes the largest projection positive.

    Args:
        cosine: Cosines between layers, shape (checkpoint, layer, layer), NaN for those without direction.

    Returns:
        Energies, shape (checkpoint), NaN where no layer has a direction; first eigenvectors, with 0 for layers
        without, and projections, with NaN for them, shape (checkpoint, layer).

    Example:
        >>> shared_directions(torch.ones(2, 4, 4, dtype=torch.float64))[0].round(decimals=12)
        tensor([1., 1.], dtype=torch.float64)
    """
    directed = cosine.diagonal(dim1=-2, dim2=-1).isfinite()
    W, A = torch.linalg.eigh(cosine.nan_to_num(nan=0.0))
    vector = torch.where(directed, A[..., -1] * canonical_sign(A[..., -1])[..., None], 0)
    count = directed.sum(dim=-1)
    first = torch.minimum(W[:, -1].clamp(min=1), count)  # beyond these bounds it is rounding: ones are on the diagonal
    energy = torch.where(count > 0, first / count, torch.nan)
    return energy, vector, torch.where(directed, vector * W[:, -1:].clamp(min=0).sqrt(), torch.nan)


def canonical_sign(vector: Tensor) -> Tensor:
    """The sign, ±1, that makes the entry of largest magnitude positive; of equally large ones the first counts.

    Args:
        vector: Vectors over layers, shape (…, layer), not zero.

    Returns:
        Signs, shape (…).

    Example:
        >>> canonical_sign(torch.tensor([0.1, -0.7, 0.7]))
        tensor(-1.)
    """
    size = vector.abs()
    largest = (size >= size.amax(dim=-1, keepdim=True) * (1 - _TIE)).to(torch.uint8).argmax(dim=-1, keepdim=True)
    return vector.gather(-1, largest)[..., 0].sign()
