"""Whether the tensor-parallel ranks of a training run hold the same gains, as they should."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.findings import Finding, layer_runs
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.staging import stage, unpack
from gammatorch.gains.stored import STORED_DTYPES, check_dtypes

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
            for site, stored in sites.items():
                lacking = [key for key in stored.keys if key not in other.entries]
                differing = [
                    key
                    for key in stored.keys
                    if key in other.entries and other.entries[key].width != stored.weights.shape[1]
                ]
                if lacking or differing:
                    what = f"has no {lacking[0]}" if lacking else f"holds {differing[0]} in another width"
                    found.append(
                        Finding("error", "ranks", site, f"rank {rank} {what}; save or copy the checkpoint again")
                    )
                else:
                    copies[site][rank] = _weights(other, stored.keys)
    for site, stored in sites.items():
        found += _told(stored, copies[site])
    if not found:
        text = f"the copies of {_ranks([*checkpoint.ranks])} are equal bit by bit"
        found.append(Finding("note", "ranks", "all", text))
    return found


def _weights(checkpoint: Checkpoint, keys: Sequence[str]) -> Tensor:
    """Stored weights by their keys, shape (layer, hidden), float64."""
    entries = [checkpoint.entries[key] for key in keys]
    check_dtypes(checkpoint, entries)
    cpu = torch.device("cpu")
    return unpack(stage(checkpoint, entries, cpu), entries, cpu, torch.float64)


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
    named = f"all {len(layers)} layers" if is_whole else layer_runs([one.layer for one in layers])
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
    """The findings of checkpoints of one run in the order of their steps, where the copies differ with since when.

    Args:
        audits: Name and findings of each.

    Example:
        >>> apart = Finding("error", "ranks", "input", "layer 3: rank 1 differs from rank 0", (3,))
        >>> _, last = since([("step 1", []), ("step 2", [apart])])
        >>> last[0].text
        'layer 3: rank 1 differs from rank 0; since step 2, where step 1 has equal copies'
    """
    first: dict[tuple[str, int], int] = {}
    found = []
    for number, (_, findings) in enumerate(audits):
        told = []
        for one in findings:
            if one.what == "ranks" and one.layers:
                starts = {first.setdefault((one.site, layer), number) for layer in one.layers}
                one = replace(one, text=f"{one.text}; {_since(min(starts), [name for name, _ in audits])}")
            told.append(one)
        found.append(told)
    return found


def _since(start: int, names: Sequence[str]) -> str:
    return f"since {names[start]}, where {names[start - 1]} has equal copies" if start else "since the first of these"
