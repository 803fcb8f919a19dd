"""Which checkpoints are copies, fine-tunes, or have nothing to do with each other, by one site's gains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.across import Across, PairSums
from gammatorch.errors import InvalidArgument, NotComparable
from gammatorch.gains.accept import ARRAY, as_rows
from gammatorch.gains.stack import Gains, Origin
from gammatorch.gains.stored import STORED_DTYPES
from gammatorch.gains.undisturbed import undisturbed
from gammatorch.gains.wide import WideGains, gains_device

FINE_TUNED = 0.95
"""Mean correlation from which on one checkpoint is said to descend from the other, or both from one parent."""

RELATED = 0.25
"""Mean correlation from which on they are said to share an origin."""


@dataclass(frozen=True)
class Kinship:
    """What two checkpoints have to do with each other.

    Attributes:
        verdict: ``"identical"``, ``"fine-tuned"`` (little moved), ``"related"`` (a common origin, much moved),
            ``"unrelated"`` (no more alike than chance) or ``"undetermined"``.
        sentence: The same with its numbers.
    """

    verdict: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Pair:
    """One checkpoint against another; tensors by layer.

    Attributes:
        model: Number of the one.
        against: Number of the other, the reference.
        figures: Their comparison, one checkpoint.
        kinship: What it says.
    """

    model: int
    against: int
    figures: Across = field(repr=False)
    kinship: Kinship


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several checkpoints at one site.

    Attributes:
        gains: Where those of each checkpoint came from, in the order given; the first is the reference.
        hidden: Width of the gains.
        device: Where they were compared.
        pairs: Every pair, those against the first checkpoint first.
        families: Numbers of the checkpoints that belong together: linked by verdicts identical, fine-tuned, related.
    """

    gains: tuple[Origin, ...]
    hidden: int
    device: str
    pairs: tuple[Pair, ...]
    families: tuple[tuple[int, ...], ...]


@undisturbed()
def compare(*gains: Any) -> Comparison:
    """Compare the same site of two or more checkpoints: drift of each layer, and lineage.

    Args:
        gains: Two or more, or one list of them, each of what :func:`~gammatorch.analyze` takes but batches. What
            :func:`~gammatorch.scan_gains` returned is read in column blocks of all checkpoints in step.

    Raises:
        NotComparable: Site, layers or width differ, so that no row has its counterpart.
        InvalidArgument: There are fewer than two checkpoints.
        CheckpointError: A checkpoint cannot be opened or read.
    """
    given = gains[0] if len(gains) == 1 and isinstance(gains[0], list | tuple) else gains
    if len(given) < 2:
        raise InvalidArgument(f"a comparison takes two checkpoints or more, not {len(given)}")
    return _compare([as_rows(one, number) for number, one in enumerate(given, 1)])


def _compare(gains: Sequence[Gains | WideGains]) -> Comparison:
    for one in gains[1:]:
        _check(one, gains[0])
    device, (layers, hidden) = gains_device(gains[0]), _shape(gains[0])
    of_pairs = [(model, against) for against, model in itertools.combinations(range(len(gains)), 2)]
    sums = PairSums(len(gains), layers, hidden, of_pairs, device)
    columns = min(one.columns if isinstance(one, WideGains) else hidden for one in gains)
    for blocks in zip(*(_blocks(one, columns, device) for one in gains), strict=True):
        sums.add(blocks)
    origins = tuple(one.origin() if isinstance(one, WideGains) else one for one in gains)
    pairs = [
        Pair(model, against, figures, kinship(figures, origins[model], origins[against], hidden))
        for (model, against), figures in zip(of_pairs, sums.finish(), strict=True)
    ]
    return Comparison(origins, hidden, str(device), tuple(pairs), _families(len(gains), pairs))


def _shape(gains: Gains | WideGains) -> tuple[int, int]:
    layers, hidden = gains.gamma.shape if isinstance(gains, Gains) else gains.shape
    return layers, hidden


def _blocks(gains: Gains | WideGains, columns: int, device: torch.device) -> Iterator[Tensor]:
    blocks = gains.blocks(columns) if isinstance(gains, WideGains) else torch.split(gains.gamma, columns, dim=1)
    return (block.to(device) for block in blocks)


def kinship(figures: Across, one: Origin, other: Origin, hidden: int) -> Kinship:
    """The verdict on two checkpoints.

    In this order: undetermined where no two gains vary (all are 1 before training, whatever the lineage); identical
    where no gain differs by more than storage rounds; unrelated where the mean correlation lies within what chance
    gives; fine-tuned from a mean of 0.95 on; related from 0.25; undetermined between. The bounds are conventions. The
    cosine has no say: unrelated gains of one sign have cosines up to 0.99.

    Args:
        figures: Comparison of the one with the other, of one checkpoint.
        one: The checkpoint.
        other: The reference.
        hidden: Width of the gains.
    """
    mean, low, high = (_one(part) for part in vars(figures.mean_pearson).values())
    null, drift, change = map(_one, (figures.null_95, figures.total_drift.value, figures.largest_change))
    copies = change <= _storage_step(one, other)
    how = "bit for bit" if change == 0 else f"to the rounding of {_coarser(one, other)}"
    if math.isnan(mean):
        same = f"equal {how}, but " if copies else ""
        return Kinship("undetermined", f"{same}the gains are constant over channels and tell nothing of lineage")
    if copies:
        count = f"{len(one.layers)} × {hidden}"
        return Kinship("identical", f"a copy at this site, all {count} gains are equal {how}")
    figure = f"mean correlation {mean:.4f}" + ("" if math.isnan(low) else f" [{low:.4f}, {high:.4f}]")
    if abs(mean) <= null:
        return Kinship(
            "unrelated",
            f"no more alike than chance: {figure}, where unrelated checkpoints stay within ±{null:.4f}; the mean "
            f"cosine of {float(figures.cosine.value.nanmean()):.3f} is what gains of one sign share anyway",
        )
    moved = f"{figure}, drift {drift:.2%}"
    if mean >= FINE_TUNED:
        return Kinship("fine-tuned", f"one descends from the other, or both from one parent: {moved}")
    if mean >= RELATED:
        return Kinship("related", f"a common origin, from which they have moved far: {moved}")
    return Kinship(
        "undetermined", f"more alike than chance gives (±{null:.4f}), too little to tell a common origin: {moved}"
    )


def _one(value: Tensor) -> float:
    """The figure of a single checkpoint."""
    return float(value[0])


def _coarser(one: Origin, other: Origin) -> str:
    """The stored type of larger step; several in one checkpoint count by their largest."""
    names = [name for gains in (one, other) for name in gains.stored_dtype.split("+")]
    return max(names, key=lambda name: torch.finfo(STORED_DTYPES[name]).eps)


def _storage_step(one: Origin, other: Origin) -> float:
    """Relative change that rounding to the coarser of two differing types makes at most; none for the same type."""
    if one.stored_dtype == other.stored_dtype:
        return 0.0
    return torch.finfo(STORED_DTYPES[_coarser(one, other)]).eps / 2


def _check(one: Gains | WideGains, reference: Gains | WideGains) -> None:
    for what, ours, theirs in (
        ("site", one.site, reference.site),
        ("layers", _named(one.layers), _named(reference.layers)),
        ("width", _shape(one)[1], _shape(reference)[1]),
    ):
        if ours != theirs and not (what == "site" and ARRAY in (ours, theirs)):
            raise NotComparable(
                f"cannot be compared with {reference.model}: {what} {ours} against {theirs}: compare checkpoints "
                "of one architecture, or name a --site or --pattern that both have",
                file=one.model,
            )


def _named(layers: Sequence[int]) -> str:
    whole = list(layers) == list(range(layers[0], layers[0] + len(layers)))
    return f"{layers[0]}-{layers[-1]}" if whole else ",".join(map(str, layers))


def _families(count: int, pairs: Sequence[Pair]) -> tuple[tuple[int, ...], ...]:
    family = list(range(count))
    for pair in pairs:
        if pair.kinship.verdict in ("identical", "fine-tuned", "related"):
            joined, into = family[pair.model], family[pair.against]
            family = [into if one == joined else one for one in family]
    members = itertools.groupby(sorted(range(count), key=lambda one: (family[one], one)), key=lambda one: family[one])
    return tuple(tuple(group) for _, group in members)
