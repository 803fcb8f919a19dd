"""The result of ``compare``: the keys of its JSON, and how they are filled from a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gammatorch.results.base import (
    ChanceInterval,
    Document,
    Figure,
    Interval,
    Size,
    Whole,
    build,
    check_layers,
    check_length,
    plain,
)
from gammatorch.version import __version__

if TYPE_CHECKING:
    from gammatorch.analysis.intervals import Interval as Bounds
    from gammatorch.analysis.kinship import Grounds
    from gammatorch.analysis.lineage import Comparison, Pair
    from gammatorch.gains.stack import Origin

Lineage = Literal["identical", "permuted", "fine-tuned", "related", "partly", "unrelated", "undetermined"]

_PARTS = ("value", "low", "high")

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter(number: int) -> str:
    """The letter a checkpoint goes by, or its number from the 27th on.

    Example:
        >>> letter(0), letter(30)
        ('A', '#31')
    """
    return LETTERS[number] if number < len(LETTERS) else f"#{number + 1}"


class LayerInterval(Document, frozen=True):
    """A figure of each layer with its 95 % bounds over channels."""

    value: list[Figure]
    low: list[Figure]
    high: list[Figure]


class PairFigures(Document, frozen=True, kw_only=True):
    """One checkpoint against another; lists run over the layers of ``model``.

    Attributes:
        model: Name of the one.
        against: Name of the other, the reference.
        layers: Layer index of each row of the one.
        mapping: The layer of the other that each is held against; null where the widths differ.
        beyond: Whether their correlation is beyond chance.
        foreign: Whether a layer has no counterpart.
        share_beyond: Share of the layers that correlate beyond chance.
        basis: What the verdict rests on.
        p_value: Of the hypothesis that they are unrelated.
        p_adjusted: The same adjusted for the number of pairs.
        cosine: Of each layer with its counterpart.
        pearson: Of each layer.
        rank_correlation: Of their normal scores.
        drift: ‖γ − γ'‖ / ‖γ'‖.
        drift_of_spread: ‖γ − γ'‖ relative to the spread of γ' over channels.
        mean_pearson: Mean over layers.
        mean_rank_correlation: Mean over layers.
        total_drift: Drift of all layers together.
        total_drift_of_spread: The same relative to the spread.
        cka: Likeness of the layers' structure.
        largest_change: max |γ − γ'| / |γ'|.
        verdict: What they are to each other.
        sentence: The verdict with its numbers.
    """

    model: str
    against: str
    layers: list[Whole]
    mapping: list[Whole | None]
    beyond: list[bool]
    foreign: list[bool]
    share_beyond: Figure
    basis: str | None
    p_value: Figure
    p_adjusted: Figure
    cosine: LayerInterval
    pearson: LayerInterval
    rank_correlation: LayerInterval
    drift: LayerInterval
    drift_of_spread: LayerInterval
    mean_pearson: ChanceInterval
    mean_rank_correlation: ChanceInterval
    total_drift: Interval
    total_drift_of_spread: Interval
    cka: Interval
    largest_change: Figure
    verdict: Lineage
    sentence: str

    def __post_init__(self) -> None:
        check_layers(self.layers)
        for name in ("mapping", "beyond", "foreign"):
            check_length(name, getattr(self, name), len(self.layers))
        for name in ("cosine", "pearson", "rank_correlation", "drift", "drift_of_spread"):
            for part in _PARTS:
                check_length(f"{name}.{part}", getattr(getattr(self, name), part), len(self.layers))


class BridgeNames(Document, frozen=True):
    """A checkpoint that links two which are unrelated to each other."""

    model: str
    links: list[str]


class ComparisonProvenance(Document, frozen=True):
    """Where a comparison comes from: version, device, bytes of all checkpoints, seconds."""

    gammatorch: str
    device: str
    bytes_read: Whole
    bytes_cached: Whole
    checkpoint_bytes: Whole
    seconds: Figure


class ComparisonDocument(Document, frozen=True, kw_only=True):
    """What ``compare --out`` writes.

    Attributes:
        models: Name of each checkpoint, in the order given; the first is the reference.
        revisions: Commit of each.
        stored_dtypes: Stored type of each.
        offsets: γ = offset + weight, of each.
        num_layers: Layers of the first.
        hidden: Width of the first.
        layers: Layer indices of the first.
        site: Place of the norm in the block.
        site_reason: Why this site.
        stack: Stack the rows belong to.
        widths: Width of each.
        layer_counts: Layers of each.
        pairs: Every pair, those against the first checkpoint first.
        families: Names of the checkpoints that belong together.
        bridges: Which of them alone link others.
        notes: What a reader should know.
        provenance: Where the comparison comes from.
    """

    schema_version: Literal[1] = 1
    models: list[str]
    revisions: list[str | None]
    stored_dtypes: list[str]
    offsets: list[Figure]
    num_layers: Whole
    hidden: Size
    layers: list[Whole]
    site: str
    site_reason: str
    stack: str | None
    widths: list[Size]
    layer_counts: list[Size]
    pairs: list[PairFigures]
    families: list[list[str]]
    bridges: list[BridgeNames]
    notes: list[str]
    provenance: ComparisonProvenance

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("`models` is empty")
        check_layers(self.layers, self.num_layers)
        count = len(self.models)
        for name in ("revisions", "stored_dtypes", "offsets", "widths", "layer_counts"):
            check_length(name, getattr(self, name), count)
        check_length("pairs", self.pairs, count * (count - 1) // 2)


def comparison_document(comparison: Comparison) -> ComparisonDocument:
    """The whole result of a comparison; undefined numbers are None.

    Args:
        comparison: What :func:`~gammatorch.analysis.lineage.compare` found.
    """
    first, gains = comparison.gains[0], comparison.gains
    names = [one.model for one in gains]
    fields = {
        "models": names,
        "revisions": [one.revision for one in gains],
        "stored_dtypes": [one.stored_dtype for one in gains],
        "offsets": [one.offset for one in gains],
        "num_layers": len(first.layers),
        "hidden": comparison.hidden,
        "layers": first.layers,
        "site": first.site,
        "site_reason": first.site_reason,
        "stack": first.stack,
        "widths": comparison.widths,
        "layer_counts": [len(one.layers) for one in gains],
        "pairs": [_pair(pair, comparison) for pair in comparison.pairs],
        "families": [[names[one] for one in family] for family in comparison.families],
        "bridges": [
            {"model": names[bridge.model], "links": [names[one] for one in bridge.links]}
            for bridge in comparison.bridges
        ],
        "notes": _notes(comparison),
        "provenance": {
            "gammatorch": __version__,
            "device": comparison.device,
            **{
                name: sum(getattr(one, name) for one in gains)
                for name in ("bytes_read", "bytes_cached", "checkpoint_bytes", "seconds")
            },
        },
    }
    return build(fields, ComparisonDocument)


def _notes(comparison: Comparison) -> list[str]:
    """What is noted of the checkpoints, under their letter where it is not noted of all."""
    notes: dict[str, list[str]] = {}
    for number, one in enumerate(comparison.gains):
        for note in one.notes:
            notes.setdefault(note, []).append(letter(number))
    everyone = len(comparison.gains)
    return [note if len(of) == everyone else f"{', '.join(of)}: {note}" for note, of in notes.items()]


def _pair(pair: Pair, comparison: Comparison) -> dict[str, object]:
    """One pair as plain values."""
    found, evidence = pair.figures, pair.evidence
    one, other = comparison.gains[pair.model], comparison.gains[pair.against]
    by_layer = ("cosine", "pearson", "drift", "drift_of_spread")
    together = ("total_drift", "total_drift_of_spread", "cka")
    fields = {
        "model": one.model,
        "against": other.model,
        "layers": list(one.layers),
        **_matched(evidence, one, other),
        **{name: _interval(getattr(found, name)) for name in (*by_layer, *together)},
        **_ranks(evidence, len(one.layers)),
        "mean_pearson": {**_interval(found.mean_pearson), "null_95": found.null_95},
        "largest_change": found.largest_change,
        "verdict": pair.kinship.verdict,
        "sentence": pair.kinship.sentence,
    }
    return {name: plain(value) for name, value in fields.items()}


def _ranks(evidence: Grounds | None, layers: int) -> dict[str, object]:
    """Rank correlation of each layer and its mean with what chance gives; None where there are no ranks."""
    if evidence is None or evidence.basis == "pearson":
        unknown, mean = dict.fromkeys(_PARTS, [None] * layers), dict.fromkeys((*_PARTS, "null_95"))
        return {"rank_correlation": unknown, "mean_rank_correlation": mean}
    mean_rank = {**_interval(evidence.mean), "null_95": evidence.match.null_95}
    return {"rank_correlation": _interval(evidence.correlation), "mean_rank_correlation": mean_rank}


def _matched(evidence: Grounds | None, one: Origin, other: Origin) -> dict[str, object]:
    """Which layers are held against which, and how sure it is that they are related."""
    if evidence is None:
        none, false = [None] * len(one.layers), [False] * len(one.layers)
        rest = dict.fromkeys(("share_beyond", "basis", "p_value", "p_adjusted"))
        return {"mapping": none, "beyond": false, "foreign": false, **rest}
    match = evidence.match
    counted = int(match.counted.sum())
    return {
        "mapping": [other.layers[row] for row in match.partners.tolist()],
        "beyond": match.beyond.tolist(),
        "foreign": match.foreign.tolist(),
        "share_beyond": int(match.beyond.sum()) / counted if counted else None,
        "basis": evidence.basis,
        "p_value": match.p_value,
        "p_adjusted": evidence.p_adjusted,
    }


def _interval(interval: Bounds) -> dict[str, object]:
    return {part: getattr(interval, part) for part in _PARTS}
