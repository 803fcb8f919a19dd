"""Which checkpoints are copies, fine-tunes, or have nothing to do with each other, by one site's gains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.across import Across, PairSums, across, unknown
from gammatorch.analysis.kinship import LINKED, Grounds, Kinship, kinship, same_gains_sorted, storage_step
from gammatorch.analysis.matching import BEYOND, ONE_SIDED, Match, Rows, adjusted, match, upper_tail
from gammatorch.analysis.scores import RANKED_WIDTH
from gammatorch.errors import InvalidArgument, NotComparable
from gammatorch.gains.accept import ARRAY, as_rows
from gammatorch.gains.device import default_numerics
from gammatorch.gains.stack import Gains, Origin
from gammatorch.gains.wide import WideGains, gains_device
from gammatorch.result import Result, View

_TWO_SIDED = 1.96
"""Standard normal quantile that the null of a mean Pearson correlation is given for."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One checkpoint against another; tensors by layer of the one.

    Attributes:
        model: Number of the one.
        against: Number of the other, the reference.
        figures: Their comparison, one checkpoint: each layer with its counterpart.
        evidence: What lineage rests on; None where the widths differ.
        kinship: What it says.
    """

    model: int
    against: int
    figures: Across = field(repr=False)
    evidence: Grounds | None = field(repr=False)
    kinship: Kinship


@dataclass(frozen=True)
class Bridge:
    """A checkpoint that puts two in one family which are unrelated to each other, as a merge of both does.

    Attributes:
        model: Number of the checkpoint.
        links: Numbers of the two.
    """

    model: int
    links: tuple[int, int]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Several checkpoints at one site.

    Attributes:
        gains: Where those of each checkpoint came from, in the order given; the first is the reference.
        hidden: Width of the first checkpoint's gains.
        widths: Width of each checkpoint's.
        device: Where they were compared.
        pairs: Every pair, those against the first checkpoint first.
        families: Numbers of the checkpoints that belong together: linked by any verdict but unrelated, undetermined.
        bridges: Which of them alone link others.
    """

    gains: tuple[Origin, ...]
    hidden: int
    widths: tuple[int, ...]
    device: str
    pairs: tuple[Pair, ...]
    families: tuple[tuple[int, ...], ...]
    bridges: tuple[Bridge, ...]

    def _view(self) -> View:
        from gammatorch.reports.views import comparison_view  # a later stage, for the convenience of callers

        return comparison_view(self)


@default_numerics()
def compare(*gains: Any) -> Comparison:
    """Compare the same site of two or more checkpoints: drift of each layer, and lineage.

    Checkpoints of the same width may have different numbers of layers: each layer is then held against its best match.

    Args:
        gains: Two or more, or one list of them, each of what :func:`~gammatorch.analyze` takes but batches. What
            :func:`~gammatorch.scan_gains` returned is read in column blocks of all checkpoints in step, and has no
            ranks and no matching.

    Raises:
        NotComparable: The sites differ.
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
    device, shapes = gains_device(gains[0]), [_shape(one) for one in gains]
    of_pairs = [(model, against) for against, model in itertools.combinations(range(len(gains)), 2)]
    held = [one for one in gains if isinstance(one, Gains)]
    whole = len(held) == len(gains) and max(hidden for _, hidden in shapes) <= RANKED_WIDTH
    found = dict(_held(held, of_pairs, device) if whole else _streamed(gains, of_pairs, device))
    origins = tuple(one.origin() if isinstance(one, WideGains) else one for one in gains)
    p_values = {pair: evidence.p_adjusted for pair, (_, evidence) in found.items() if evidence is not None}
    p_adjusted = dict(zip(p_values, adjusted(torch.tensor(list(p_values.values()))).tolist(), strict=True))
    pairs = []
    for model, against in of_pairs:
        figures, evidence = found[model, against]
        if evidence is None:
            told = _no_counterparts(shapes[model], shapes[against])
        else:
            evidence = replace(evidence, p_adjusted=p_adjusted[model, against])
            shuffled = whole and _shuffled(held[model], held[against])
            told = kinship(figures, evidence, origins[model], origins[against], shuffled)
        pairs.append(Pair(model, against, figures, evidence, told))
    families = _families(len(gains), pairs)
    widths = tuple(hidden for _, hidden in shapes)
    return Comparison(origins, widths[0], widths, str(device), tuple(pairs), families, tuple(_bridges(pairs)))


_Found = Iterator[tuple[tuple[int, int], tuple[Across, Grounds | None]]]


def _held(gains: Sequence[Gains], of_pairs: Sequence[tuple[int, int]], device: torch.device) -> _Found:
    """Figures and evidence of each pair, of gains that are in memory."""
    rows = [Rows(one) for one in gains]
    for model, against in of_pairs:
        one, other = (gains[number].gamma.to(device) for number in (model, against))
        if one.shape[1] != other.shape[1]:
            yield (model, against), (unknown(len(one)), None)
            continue
        matched = match(rows[model], rows[against])
        figures = across(one, other[matched.partners.to(device)])
        if len(one) != len(other):
            figures = replace(figures, cka=unknown(1).cka)
        yield (model, against), (figures, _of_scores(rows[model], rows[against], matched))


def _of_scores(one: Rows, other: Rows, matched: Match) -> Grounds:
    scores, others = one.scores, other.scores[matched.partners]
    every, found = (across(scores[rows], others[rows]) for rows in (slice(None), _some(matched.found)))
    mean = found.mean_pearson if bool(matched.found.any()) else unknown(1).mean_pearson
    basis = "scores beyond the profile" if one.rotary else "scores"
    return Grounds(basis, every.pearson, mean, matched, matched.p_value)


def _some(rows: Tensor) -> Tensor:
    return rows if bool(rows.any()) else ~rows


def _streamed(gains: Sequence[Gains | WideGains], of_pairs: Sequence[tuple[int, int]], device: torch.device) -> _Found:
    """The same of gains that are read in column blocks: those of one shape in step."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(gains):
        by_shape.setdefault(_shape(one), []).append(number)
    for (layers, hidden), alike in by_shape.items():
        own = [pair for pair in of_pairs if set(pair) <= set(alike)]
        if not own:
            continue
        places = [(alike.index(model), alike.index(against)) for model, against in own]
        sums = PairSums(len(alike), layers, hidden, places, device)
        wide = [gains[number] for number in alike]
        columns = min(one.columns if isinstance(one, WideGains) else hidden for one in wide)
        for blocks in zip(*(_blocks(one, columns, device) for one in wide), strict=True):
            sums.add(blocks)
        yield from ((pair, (one, _of_pearson(one, hidden))) for pair, one in zip(own, sums.finish(), strict=True))
    apart = [pair for pair in of_pairs if _shape(gains[pair[0]]) != _shape(gains[pair[1]])]
    yield from ((pair, (unknown(_shape(gains[pair[0]])[0]), None)) for pair in apart)


def _of_pearson(figures: Across, hidden: int) -> Grounds:
    pearson, mean, null = torch.from_numpy(figures.pearson.value), float(figures.mean_pearson.value), figures.null_95
    error, counted = null / _TWO_SIDED, pearson.isfinite()
    beyond = torch.zeros_like(counted)
    beyond[counted] = adjusted(upper_tail(pearson[counted] * (hidden - 1) ** 0.5)) <= BEYOND
    p_value = float(upper_tail(torch.tensor(mean / error))) if error > 0 else 1.0
    partners, none = torch.arange(len(pearson)), torch.zeros_like(counted)
    most, null = mean + ONE_SIDED * error, ONE_SIDED * error
    matched = Match(partners, counted, beyond, none, True, p_value, most, null)
    return Grounds("pearson", figures.pearson, figures.mean_pearson, matched, p_value)


def _shuffled(one: Gains, other: Gains) -> bool:
    return one.gamma.shape == other.gamma.shape and same_gains_sorted(one.gamma, other.gamma, storage_step(one, other))


def _no_counterparts(one: tuple[int, int], other: tuple[int, int]) -> Kinship:
    if one[1] != other[1]:
        return Kinship(
            "undetermined", f"gains of width {one[1]} and {other[1]} have no channels in common, so γ cannot tell"
        )
    return Kinship(
        "undetermined",
        f"{one[0]} and {other[0]} layers are matched by their ranks, which gains that are wider than {RANKED_WIDTH} "
        "channels, or that --memory does not hold, do not have",
    )


def _shape(gains: Gains | WideGains) -> tuple[int, int]:
    layers, hidden = gains.gamma.shape if isinstance(gains, Gains) else gains.shape
    return layers, hidden


def _blocks(gains: Gains | WideGains, columns: int, device: torch.device) -> Iterator[Tensor]:
    blocks = gains.blocks(columns) if isinstance(gains, WideGains) else torch.split(gains.gamma, columns, dim=1)
    return (block.to(device) for block in blocks)


def _check(one: Gains | WideGains, reference: Gains | WideGains) -> None:
    if one.site != reference.site and ARRAY not in (one.site, reference.site):
        raise NotComparable(
            f"cannot be compared with {reference.model}: site {one.site} against {reference.site}: name a --site or "
            "--pattern that both have",
            file=one.model,
        )


def _families(count: int, pairs: Sequence[Pair]) -> tuple[tuple[int, ...], ...]:
    family = list(range(count))
    for pair in pairs:
        if pair.kinship.verdict in LINKED:
            joined, into = family[pair.model], family[pair.against]
            family = [into if one == joined else one for one in family]
    members = itertools.groupby(sorted(range(count), key=lambda one: (family[one], one)), key=lambda one: family[one])
    return tuple(tuple(group) for _, group in members)


def _bridges(pairs: Sequence[Pair]) -> Iterator[Bridge]:
    """Checkpoints that are linked to both of two that are unrelated, other than by an order of channels."""
    verdicts = {frozenset((pair.model, pair.against)): pair.kinship.verdict for pair in pairs}
    linked = {pair for pair, verdict in verdicts.items() if verdict in LINKED and verdict != "permuted"}
    everyone = sorted({number for pair in verdicts for number in pair})
    for model in everyone:
        for one, other in itertools.combinations([number for number in everyone if number != model], 2):
            both = {frozenset((model, one)), frozenset((model, other))} <= linked
            if both and verdicts[frozenset((one, other))] == "unrelated":
                yield Bridge(model, (one, other))
