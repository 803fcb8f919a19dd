"""What two checkpoints have to do with each other, in one word and one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gammatorch.analysis.across import Across
from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.matching import BEYOND, DISTINCT, SURE, Match
from gammatorch.architectures.expected import named_layers
from gammatorch.gains.stack import Origin
from gammatorch.gains.stored import STORED_DTYPES

FINE_TUNED = 0.95
"""Mean correlation from which on one checkpoint is said to descend from the other, or both from one parent."""

RELATED = 0.25
"""Mean correlation from which on they are said to share an origin."""

LINKED = ("identical", "permuted", "fine-tuned", "related", "partly")
"""Verdicts that put two checkpoints in one family."""

_APART = 0.15
"""Difference from Pearson's correlation from which on the sentence says it."""

_FEW_LAYERS = 3
"""With fewer, what a profile leaves of all layers alike cannot be taken out."""


_ORDER = {True: ", with layers in another order", False: ", with layers added or taken out"}
"""What is said of layers that are not the same of each, by whether there are as many."""


@dataclass(frozen=True)
class Kinship:
    """What two checkpoints have to do with each other.

    Attributes:
        verdict: ``"identical"``, ``"permuted"`` (the same gains in another order of channels), ``"fine-tuned"``
            (little moved), ``"related"`` (a common origin, much moved), ``"partly"`` (some layers have a common origin,
            others are foreign), ``"unrelated"`` (no more alike than chance) or ``"undetermined"``.
        sentence: The same with its numbers.
    """

    verdict: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Grounds:
    """What lineage rests on; tensors by layer, of one checkpoint.

    Attributes:
        basis: Whose correlations: ``"scores"`` (normal scores of the ranks), ``"scores beyond the profile"`` (at
            queries and keys) or ``"pearson"`` (gains that were read in column blocks, which have no ranks).
        correlation: Correlation of each layer with its counterpart, with 95 % bounds.
        mean: Its mean over the layers that bear on lineage and are not foreign, with 95 % bounds.
        match: Which layer is which.
        p_adjusted: The match's p-value, adjusted for the number of pairs that were compared.
    """

    basis: str
    correlation: Interval = field(repr=False)
    mean: Interval
    match: Match = field(repr=False)
    p_adjusted: float


def kinship(figures: Across, evidence: Grounds, one: Origin, other: Origin, shuffled: bool) -> Kinship:
    """The verdict on two checkpoints of the same width.

    In this order: undetermined where no two gains vary (all are 1 before training, whatever the lineage); identical
    where no gain differs by more than storage rounds; permuted where that holds of the sorted gains; unrelated where
    strangers are as alike with a probability above 0.0001, adjusted for the number of pairs, and a common origin would
    have shown; partly where some layers are foreign; fine-tuned from a mean of 0.95 on; related from 0.25;
    undetermined else. The bounds are conventions. The cosine has no say: unrelated gains of one sign have cosines up
    to 0.99.

    Args:
        figures: Comparison of the one with the other, of one checkpoint.
        evidence: What is said rests on.
        one: The checkpoint.
        other: The reference.
        shuffled: Whether the sorted gains are equal, see :func:`same_gains_sorted`.
    """
    same_depth, mean = len(one.layers) == len(other.layers), float(evidence.mean.value)
    in_order = same_depth and bool((evidence.match.partners.diff() == 1).all())
    copies = in_order and figures.largest_change <= storage_step(one, other)
    how = "bit for bit" if not figures.largest_change else f"to the rounding of {_coarser(one, other)}"
    if np.isnan(figures.drift_of_spread.value).all():
        same = f"equal {how}, but " if copies else ""
        return Kinship("undetermined", f"{same}the gains are constant over channels and tell nothing of lineage")
    if copies:
        which = f"all gains of its {len(one.layers)} layers are" if len(one.layers) > 1 else "its one gain is"
        return Kinship("identical", f"a copy at this site, {which} equal {how}")
    if shuffled:
        return Kinship("permuted", "the same gains in another order of channels: a copy whose channels were permuted")
    if math.isnan(mean):
        return Kinship("undetermined", "no layer that bears on lineage varies over channels in both")
    if evidence.p_adjusted > SURE or not _told(evidence):
        return _not_told(figures, evidence, same_depth)
    return _told_kinship(figures, evidence, one, "" if in_order else _ORDER[same_depth])


def _told(evidence: Grounds) -> bool:
    mean = float(evidence.mean.value)
    few = evidence.basis == "scores beyond the profile" and len(evidence.match.partners) < _FEW_LAYERS
    return mean >= (FINE_TUNED if few else RELATED)


def _not_told(figures: Across, evidence: Grounds, same_depth: bool) -> Kinship:
    said, null = _figure(evidence, same_depth), f"stay below {evidence.match.null_95:.4f}"
    aside = _aside(figures, evidence)
    if evidence.p_adjusted <= SURE:
        text = f"more alike than chance (strangers {null}), too little to tell a common origin: {said}{aside}"
        return Kinship("undetermined", text)
    if evidence.p_adjusted <= BEYOND:
        text = f"more alike than most strangers are, too little to tell: {said}, where 19 of 20 {null}{aside}"
        return Kinship("undetermined", text)
    if evidence.match.most >= RELATED:
        text = f"too few channels to tell: {said}, where unrelated checkpoints {null}{aside}"
        return Kinship("undetermined", text)
    cosine = float(np.nanmean(figures.cosine.value))
    return Kinship(
        "unrelated",
        f"no more alike than chance: {said}, where unrelated checkpoints {null}; the mean cosine of {cosine:.3f} is "
        f"what gains of one sign share anyway{aside}",
    )


def _told_kinship(figures: Across, evidence: Grounds, one: Origin, order: str) -> Kinship:
    mean, match = float(evidence.mean.value), evidence.match
    moved = f"{_figure(evidence, order != _ORDER[False])}, drift {float(figures.total_drift.value):.2%} of the gain"
    moved += f" and {float(figures.total_drift_of_spread.value):.2%} of its spread{_aside(figures, evidence)}"
    origin = "one descends from the other, or both from one parent" if mean >= FINE_TUNED else "a common origin"
    if not match.complete:
        shared, foreign = (
            named_layers([one.layers[row] for row in rows.nonzero()[:, 0].tolist()], None)
            for rows in (match.found, match.foreign)
        )
        return Kinship("partly", f"{origin} in part: {shared} have it, {foreign} are foreign: {moved}")
    if mean >= FINE_TUNED:
        return Kinship("fine-tuned", f"{origin}{order}: {moved}")
    return Kinship("related", f"{origin}, from which they have moved far{order}: {moved}")


def _figure(evidence: Grounds, same_depth: bool) -> str:
    name = {"scores": "rank correlation", "pearson": "correlation"}.get(evidence.basis, "rank correlation")
    value, low, high = map(float, vars(evidence.mean).values())
    best = "" if same_depth else " of best matches"
    beyond = " beyond the profile over rotary frequency" if evidence.basis == "scores beyond the profile" else ""
    return f"mean {name}{best}{beyond} {value:.4f}" + ("" if math.isnan(low) else f" [{low:.4f}, {high:.4f}]")


def _aside(figures: Across, evidence: Grounds) -> str:
    """What Pearson's correlation says, where it is something else."""
    if evidence.basis == "pearson":
        return " (Pearson's: wide gains, read in column blocks, have no ranks, and few large ones may decide)"
    rows = evidence.match.found
    pearson = float(np.nanmean(figures.pearson.value[rows.numpy()]))
    if not abs(pearson - float(evidence.mean.value)) > _APART:
        return ""
    by = (
        "the profile decides" if evidence.basis == "scores beyond the profile" else "few channels of large gains decide"
    )
    return f" (Pearson's is {pearson:.2f}: {by} it)"


def same_gains_sorted(gains: Tensor, others: Tensor, step: float) -> bool:
    """Whether two checkpoints hold the same gains in another order of channels.

    Args:
        gains: Shape (layer, hidden).
        others: Same shape.
        step: Relative difference that storage makes.

    Example:
        >>> same_gains_sorted(torch.arange(1.0, 17)[None], torch.arange(1.0, 17).flip(0)[None], 0.0)
        True
    """
    ordered, sorted_others = gains.sort(dim=-1).values, others.to(gains.device).sort(dim=-1).values
    if bool(((ordered - sorted_others).abs() > step * sorted_others.abs()).any()):
        return False
    return int((ordered.diff(dim=-1) > 0).sum()) + len(ordered) >= DISTINCT * len(ordered)


def storage_step(one: Origin, other: Origin) -> float:
    """Relative change that rounding to the coarser of two differing types makes at most; none for the same type.

    Args:
        one: Where the one's gains came from.
        other: The other's.
    """
    if one.stored_dtype == other.stored_dtype:
        return 0.0
    return torch.finfo(STORED_DTYPES[_coarser(one, other)]).eps / 2


def _coarser(one: Origin, other: Origin) -> str:
    """The stored type of larger step; several in one checkpoint count by their largest."""
    names = [name for gains in (one, other) for name in gains.stored_dtype.split("+")]
    return max(names, key=lambda name: torch.finfo(STORED_DTYPES[name]).eps)
