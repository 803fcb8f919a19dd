"""Findings of an audit, and the verdicts on layers told in sentences: one for a run of layers with the same verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from gammatorch.analysis.against import LayerVerdict
from gammatorch.architectures.expected import named_layers

_NAMED = 8
"""Pairs of layers that a sentence names one by one."""


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the gains should know.

    Attributes:
        level: ``"error"``, ``"warning"`` or ``"note"``.
        what: What was found, a name from :data:`KINDS`.
        site: The site it is about, or several, joined by commas.
        text: The same with its numbers, and what to do.
        layers: The layers it is about, where it is not about the whole site.
    """

    level: str
    what: str
    site: str
    text: str
    layers: tuple[int, ...] = ()


class _Run(NamedTuple):
    """Layers of one site, or the same layers of several, that have the same verdict."""

    named: str
    verdicts: Sequence[LayerVerdict]

    @property
    def detail(self) -> str:
        return self.verdicts[0].detail or ""

    @property
    def drift(self) -> str:
        """The drift of all of them in units of the spread, and the largest."""
        drifts = [(one.drift or 0.0, one.layer) for one in self.verdicts]
        most, layer = max(drifts)
        usual = f"{median(drift for drift, _ in drifts):.2g} of the spread over channels"
        return usual if len(drifts) == 1 else f"{usual} (median; most {most:.2g} in layer {layer})"


def _shifted(run: _Run) -> str:
    above = run.detail.startswith("+")
    how = "above the reference's: an offset was added twice" if above else "below the reference's: an offset was lost"
    remedy = "subtract 1 from the weights" if above else "add 1 to the weights"
    return f"γ of {run.named} stands 1 {how}; {remedy}, or convert again with the norm's own convention"


def _scaled(run: _Run) -> str:
    factors = sorted({float(one.detail or "nan") for one in run.verdicts})
    spelt = f"{factors[0]:.4g}" if len(factors) == 1 else f"{factors[0]:.4g} to {factors[-1]:.4g}"
    return (
        f"γ of {run.named} is {spelt} times the reference's; divide by it unless the matrices that follow were scaled"
    )


def _permuted(run: _Run) -> str:
    details = {one.detail for one in run.verdicts} - {None}
    rolled = sorted(detail for detail in details if detail and detail.startswith("rolled"))
    how = f" ({', '.join(rolled)})" if rolled else " (once sorted, they lie too near for chance)" if details else ""
    return (
        f"{run.named}: the reference's values in another order of channels{how}; undo the permutation of the channels"
    )


def _other_layer(run: _Run) -> str:
    remedy = "renumber the layers in the order of the reference, unless the model was pruned or grown"
    return f"{_moves(run.verdicts)}; {remedy}"


def _other_site(run: _Run) -> str:
    (site,) = {one.other[0] for one in run.verdicts if one.other is not None}
    is_in_place = all(one.other is not None and one.other[1] == one.layer for one in run.verdicts)
    which = "" if is_in_place else f" ({_moves(run.verdicts)})"
    return f"{run.named}: the reference's gains of {site}{which}; exchange the names of the tensors"


def _foreign(run: _Run) -> str:
    why = f": {run.detail}" if len(run.verdicts) == 1 and run.detail else ""
    what = f"{run.named}: no more like the reference than unrelated models are{why}"
    return f"{what}; take these tensors from the right checkpoint"


def _undetermined(run: _Run) -> str:
    why = f"{run.detail}; " if len(run.verdicts) == 1 and run.detail else ""
    return f"{run.named}: too far from the reference to tell ({why}drift of {run.drift}); look where they come from"


class _Kind(NamedTuple):
    level: str
    told: Callable[[_Run], str]


VERDICTS: Mapping[str, _Kind] = {
    "dead": _Kind("error", lambda run: f"{run.named}: zero in all channels, where the reference is not"),
    "missing": _Kind(
        "error", lambda run: f"the reference has {run.named} of this site; convert again with these tensors"
    ),
    "width": _Kind("error", lambda run: f"{run.named}: {run.detail}; the checkpoints are of models of different width"),
    "foreign": _Kind("error", _foreign),
    "other-layer": _Kind("error", _other_layer),
    "other-site": _Kind("error", _other_site),
    "shifted": _Kind("error", _shifted),
    "scaled": _Kind("error", _scaled),
    "permuted": _Kind("error", _permuted),
    "undetermined": _Kind("warning", _undetermined),
    "extra": _Kind("warning", lambda run: f"{run.named}: the reference has none; remove what is left over"),
    "tuned": _Kind("note", lambda run: f"{run.named}: near the reference, moved by {run.drift}"),
    "rounded": _Kind("note", lambda run: f"{run.named}: the reference's up to rounding to {run.detail}"),
    "same": _Kind("note", lambda run: f"{run.named}: the reference's bit for bit"),
}
"""By verdict, worst first: its level, and how it is told. Layers that are not finite are told by tensor."""

KINDS = (
    "non-finite",
    "ranks",
    *VERDICTS,
    "convention",
    "dead channels",
    "identical layers",
    "untouched",
    "outlier channels",
    "base",
    "stack",
)
"""All kinds of findings, worst first."""

_LEVELS = ("error", "warning", "note")


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Errors before warnings before notes, the worst kinds first; else in the order they have.

    Args:
        findings: Of one audit.
    """
    return sorted(findings, key=lambda one: (_LEVELS.index(one.level), KINDS.index(one.what)))


def tell(verdicts: Sequence[LayerVerdict], exact: bool = False) -> list[Finding]:
    """One finding for the layers of a site that have the same verdict, or for those of several sites where they agree.

    Args:
        verdicts: On the layers of all sites.
        exact: Whether gains that were trained on are an error.

    Example:
        >>> (finding,) = tell([LayerVerdict("input", layer, "shifted", 5.0, "+1") for layer in (0, 1, 2)])
        >>> finding.text
        "γ of all 3 layers stands 1 above the reference's: an offset was added twice; subtract 1 from the weights, or \
convert again with the norm's own convention"
    """
    depth = defaultdict[str, list[int]](list)
    by_site = defaultdict[tuple[str, str, str], list[LayerVerdict]](list)
    for one in verdicts:
        depth[one.site].append(one.layer)
        if one.verdict in VERDICTS:
            by_site[one.site, one.verdict, _told_apart_by(one)].append(one)
    merged = defaultdict[tuple[str, str, str], list[list[LayerVerdict]]](list)
    for (site, verdict, detail), run in by_site.items():
        is_whole = len(run) == len(depth[site])
        named = "all" if is_whole else named_layers([one.layer for one in run], None)
        merged[verdict, detail + _moves(run), named].append(run)
    return [_finding(verdict, named, runs, exact) for (verdict, _, named), runs in merged.items()]


def _finding(verdict: str, named: str, runs: Sequence[Sequence[LayerVerdict]], exact: bool) -> Finding:
    kind = VERDICTS[verdict]
    level = "error" if exact and verdict == "tuned" else kind.level
    longest = max(runs, key=len)
    if named == "all":
        depths = {len(run) for run in runs}
        named = "all layers" if len(depths) > 1 else "the one layer" if depths == {1} else f"all {len(longest)} layers"
    told = longest if longest[0].other is not None else [one for run in runs for one in run]
    layers = tuple(sorted({one.layer for run in runs for one in run}))
    return Finding(level, verdict, ", ".join(run[0].site for run in runs), kind.told(_Run(named, told)), layers)


def _told_apart_by(one: LayerVerdict) -> str:
    """What layers must have in common, beside their verdict, to be told together."""
    if one.verdict == "other-site" and one.other is not None:
        return one.other[0]
    return one.detail or "" if one.verdict in ("shifted", "rounded", "width") else ""


def _moves(run: Sequence[LayerVerdict]) -> str:
    """Which layer is which other's, in words; nothing where none is."""
    return _mapping([(one.layer, one.other[1]) for one in run if one.other is not None])


def _mapping(moved: Sequence[tuple[int, int]]) -> str:
    """Which layers are which of the reference's, runs with the same distance together."""
    runs: list[list[tuple[int, int]]] = []
    for pair in moved:
        if runs and (pair[0] - runs[-1][-1][0], pair[1] - runs[-1][-1][1]) == (1, 1):
            runs[-1].append(pair)
        else:
            runs.append([pair])
    spelt = [
        f"{named_layers([one for one, _ in run], None)} {'is' if len(run) == 1 else 'are'} the reference's "
        + named_layers([of for _, of in run], None)
        for run in runs[:_NAMED]
    ]
    return "; ".join(spelt) + (f"; and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")
