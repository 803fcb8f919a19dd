"""Whether the tensor-parallel ranks of a training run hold the same gains, as they should."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.findings import Finding
from gammatorch.architectures.expected import named_layers
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.stored import STORED_DTYPES
from gammatorch.gains.stream import stored_rows

_NUMBER = re.compile(r"[0-9]+")

_CUT = 0.5
"""Share of a layer's spread by which ranks differ that hold parts of a norm rather than copies of it."""

_COUNTED = 1000
"""Units in the last place up to which their number says more than the difference itself."""

_WHY = "as where its gradients are not summed over the ranks, or a rank has restored another state"


@dataclass(frozen=True, eq=False)
class _Apart:
    """One layer that the ranks hold differently.

    Attributes:
        layer: The layer.
        odd: The ranks that differ from most, or from the first of two equally large groups.
        channels: In how many channels one of them does, at most.
        most: The largest difference of a stored weight.
        steps: The same in units in the last place of the stored type, at the larger weight.
        share: The median difference in standard deviations of the layer's weights.
    """

    layer: int
    odd: tuple[str, ...]
    channels: int
    most: float
    steps: float
    share: float


def rank_findings(checkpoint: Checkpoint, sites: Mapping[str, StoredWeights]) -> list[Finding]:
    """Hold the copies of every norm that tensor-parallel ranks have against each other, bit by bit.

    Norms are not cut over these ranks: each holds all of them, and updates its own copy. Where the gradient is not
    summed over ranks, as has happened with norms inside attention and with sequence parallelism, the copies drift
    apart, and whatever reads one of them does not notice.

    Args:
        checkpoint: An open checkpoint.
        sites: What was read of it, from the first rank.

    Raises:
        CheckpointError: The file of a rank cannot be read.
    """
    if not checkpoint.ranks:
        return []
    own, *others = checkpoint.ranks
    copies: dict[str, dict[str, Tensor]] = {site: {own: stored.weights} for site, stored in sites.items()}
    found = []
    for rank in others:
        with checkpoint.ranks[rank]() as other:
            entries = {}
            for site, stored in sites.items():
                if (lack := _lack(other, stored)) is None:
                    entries[site] = [other.entries[key] for key in stored.keys]
                else:
                    text = f"rank {rank} {lack}; save or copy the checkpoint again"
                    found.append(Finding("error", "ranks", site, text))
            for site, weights in stored_rows(other, entries).items():
                copies[site][rank] = weights
    for site, stored in sites.items():
        found += _told(stored, copies[site])
    if not found:
        text = f"the copies of {_ranks([*checkpoint.ranks])} are equal bit by bit"
        found.append(Finding("note", "ranks", "all", text))
    return found


def _lack(rank: Checkpoint, stored: StoredWeights) -> str | None:
    """What keeps a rank's copy of a site from being compared; None if nothing does."""
    for key in stored.keys:
        if key not in rank.entries:
            return f"has no {key}"
        if rank.entries[key].width != stored.weights.shape[1]:
            return f"holds {key} in another width"
    return None


def _told(stored: StoredWeights, copies: Mapping[str, Tensor]) -> list[Finding]:
    """One finding for the layers of a site that the same ranks hold differently."""
    by_odd = defaultdict[tuple[str, ...], list[_Apart]](list)
    for row, layer in enumerate(stored.layers):
        if (apart := _apart(layer, {rank: rows[row] for rank, rows in copies.items()}, stored.dtypes[row])) is not None:
            by_odd[apart.odd].append(apart)
    return [_finding(stored, copies, odd, layers) for odd, layers in by_odd.items()]


def _apart(layer: int, rows: Mapping[str, Tensor], dtype: str) -> _Apart | None:
    """How the ranks differ in one layer; None if they do not."""
    groups = defaultdict[bytes, list[str]](list)
    for rank, row in rows.items():
        groups[row.numpy().tobytes()].append(rank)
    if len(groups) == 1:
        return None
    usual, *others = sorted(groups.values(), key=len, reverse=True)
    odd = tuple(rank for rank in rows if rank in {one for group in others for one in group})
    kept = rows[usual[0]]
    moved = torch.stack([rows[rank] - kept for rank in odd])
    differs = torch.stack([rows[rank].view(torch.int64) != kept.view(torch.int64) for rank in odd])
    size = torch.maximum(torch.stack([rows[rank] for rank in odd]).abs(), kept.abs())
    told = torch.finfo(STORED_DTYPES[dtype])
    step = torch.exp2(size.clamp(min=told.smallest_normal).log2().floor()) * told.eps
    return _Apart(
        layer=layer,
        odd=odd,
        channels=int(differs.sum(dim=-1).max()),
        most=float(moved.abs().nan_to_num(nan=float("inf")).max()),
        steps=float((moved.abs() / step).nan_to_num(nan=float("inf")).max()),
        share=float(moved.abs().median() / kept.std().clamp(min=1e-300)),
    )


def _finding(
    stored: StoredWeights, copies: Mapping[str, Tensor], odd: Sequence[str], layers: Sequence[_Apart]
) -> Finding:
    worst = max(layers, key=lambda one: one.most)
    is_whole = len(layers) == len(stored.layers) > 1
    named = f"all {len(layers)} layers" if is_whole else named_layers([one.layer for one in layers], None)
    usual = [rank for rank in copies if rank not in odd]
    how = "differ" if len(odd) > 1 else "differs"
    from_whom = f"{_ranks(usual)}, which agree" if len(usual) > 1 else f"{_ranks(usual)}"
    units = "unit" if worst.steps == 1 else "units"
    steps = f" ({worst.steps:.3g} {units} in the last place)" if worst.steps < _COUNTED else ""
    where = f" in layer {worst.layer}" if len(layers) > 1 else ""
    text = (
        f"{named}: {_ranks(odd)} {how} from {from_whom}, in {worst.channels} of {stored.weights.shape[1]} channels, by "
        f"at most {worst.most:.2g}{steps}{where}; {_WHY if worst.share < _CUT else _cut(worst)}"
    )
    return Finding("error", "ranks", stored.site, text, tuple(one.layer for one in layers))


def _cut(worst: _Apart) -> str:
    return (
        f"so far apart ({worst.share:.2g} of the spread over channels) are parts of a norm that is cut over the ranks, "
        "or copies that were trained apart"
    )


def _ranks(ranks: Sequence[str]) -> str:
    *most, last = ranks
    return f"ranks {', '.join(most)} and {last}" if most else f"rank {last}"


def since(audits: Sequence[tuple[str, Sequence[Finding]]]) -> list[list[Finding]]:
    """The findings of several checkpoints, where copies differ with the step of the run at which they first do.

    Args:
        audits: Name and findings of each; names that differ in their numbers alone are steps of one run.

    Example:
        >>> equal = Finding("note", "ranks", "all", "the copies of ranks 0 and 1 are equal bit by bit")
        >>> apart = Finding("error", "ranks", "input", "layer 3: rank 1 differs from rank 0", (3,))
        >>> first, _ = since([("step20", [apart]), ("step3", [equal])])
        >>> first[0].text
        'layer 3: rank 1 differs from rank 0; since step20, where step3 has equal copies'
    """
    found = [list(findings) for _, findings in audits]
    runs = defaultdict[str, list[int]](list)
    for number, (name, _) in enumerate(audits):
        runs[_NUMBER.sub("#", name)].append(number)
    for steps in runs.values():
        steps.sort(key=lambda number: [int(digits) for digits in _NUMBER.findall(audits[number][0])])
        if len(steps) > 1:
            _add_first([audits[number][0] for number in steps], [found[number] for number in steps])
    return found


def _add_first(names: Sequence[str], steps: Sequence[list[Finding]]) -> None:
    """Add to the findings of a run's steps, in order, since when each layer's copies differ."""
    first: dict[tuple[str, int], tuple[int, str]] = {}
    before = ""
    for number, (name, findings) in enumerate(zip(names, steps, strict=True)):
        is_compared = any(one.what == "ranks" for one in findings)
        for place, one in enumerate(findings):
            if one.what == "ranks" and one.layers:
                here = (number, f"since {name}{before}")
                _, earliest = min(first.setdefault((one.site, layer), here) for layer in one.layers)
                findings[place] = replace(one, text=f"{one.text}; {earliest}")
        before = f", where {name} has equal copies" if is_compared else ""
