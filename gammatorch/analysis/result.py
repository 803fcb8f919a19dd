"""What an analysis says, and how it is written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from gammatorch.analysis.figures import Statistics
from gammatorch.analysis.phases import Phase
from gammatorch.analysis.projection import Sketch
from gammatorch.analysis.verdict import Answer
from gammatorch.gains.stack import Origin
from gammatorch.result import Result, View


@dataclass(frozen=True, eq=False, repr=False)
class Analysis(Result):
    """What the directions of one site's gains say. Attributes bear the names of the JSON keys.

    What is undefined is NaN inside a tensor and None elsewhere, null in JSON: cosines and projections of a zero gain,
    correlations of a constant one. Tensors are on the CPU, wherever the gains were.

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
        statistics: Further tensors and figures, as attributes and by name: those of
            :data:`~gammatorch.analysis.statistics.STATISTICS`, ``singular_gap``, ``phase_contrasts``, ``outliers``.
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
    statistics: Statistics
    answer: Answer
    method: str
    error_estimate: float
    device: str
    dtype: str
    seconds: float
    gains: Origin | None = field(repr=False)
    fingerprint: Sketch | None = field(repr=False)
    notes: tuple[str, ...]

    def _view(self) -> View:
        from gammatorch.reports.views import analysis_view  # a later stage, for the convenience of callers

        return analysis_view(self)
