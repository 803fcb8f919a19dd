"""What became of each layer of a reference: one verdict for each layer of each site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.alike import Alike, alike_by_layer
from gammatorch.analysis.comparable import MASSIVE, is_rotary
from gammatorch.analysis.orders import is_varied, reordered, rolled_by, too_near
from gammatorch.analysis.storage import StoredRow, rounded_to, scaled_by
from gammatorch.gains.stack import StoredWeights

Place = tuple[str, int]
"""Site and layer."""

_NEAR = 0.5
"""Distance, in units of the spread over channels, up to which gains are the reference's, trained on or not."""

_HALF = 0.5
"""Another account of a layer must leave at most so much of what the plain difference leaves."""

_TRAINED = 0.15
"""The same where γ is a multiple, for training makes gains grow: no further may they be trained on since."""

_SHIFT = 0.1
"""How close to 1 the median difference must be to be an offset added twice, or lost."""

_SCALE, _TRAINED_SCALE = 1e-3, 0.1
"""Least change of size that counts: of an exact multiple, and where the gains were trained on as well."""

_MOVED = 0.1
"""Least distance, in units of the spread, from which on another order of channels is looked for."""

_FLAT = 1e-3
"""Spread, in units of the size, that constant layers are given."""

_FEW = 4
"""At most one channel in so many is left out of distances as massive."""


@dataclass(frozen=True)
class LayerVerdict:
    """What one layer of a site is to the reference's.

    Attributes:
        site: The site.
        layer: The layer.
        verdict: ``"same"``, ``"rounded"``, ``"tuned"``, ``"shifted"``, ``"scaled"``, ``"permuted"``,
            ``"other-layer"``, ``"other-site"``, ``"foreign"``, ``"undetermined"``, ``"non-finite"``, ``"dead"``,
            ``"missing"``, ``"extra"`` or ``"width"``.
        drift: ‖γ − γ_ref‖ in units of ‖γ_ref − mean γ_ref‖, massive channels left out; None where there is nothing to
            compare.
        detail: The number or name that the verdict needs: the shift, the factor, the type, the widths.
        other: Site and layer of the reference that it is instead.
    """

    site: str
    layer: int
    verdict: str
    drift: float | None = None
    detail: str | None = None
    other: Place | None = None


def hold_against(ours: Mapping[str, StoredWeights], theirs: Mapping[str, StoredWeights]) -> list[LayerVerdict]:
    """Hold every layer of every site against the layer at the same place of a reference.

    Of all that may account for a difference (drift, γ_ref ± 1, c γ_ref, another layer or site of the reference) the
    one that leaves the least is taken, and drift unless another leaves less than half of it. What is left unexplained
    is foreign where it is no more alike than the layers of strangers, by the null that ``compare`` rests on, and an
    alikeness that would tell of a common origin is excluded; else undetermined.

    Args:
        ours: The model's weights by site.
        theirs: The reference's.

    Returns:
        One verdict for each layer that either side has, by site and layer.

    Example:
        >>> gamma = 1 + 0.1 * torch.randn(3, 256, generator=torch.Generator().manual_seed(0)).double()
        >>> def stored(weights):
        ...     keys = ("0.norm", "1.norm", "2.norm")
        ...     return {"input": StoredWeights(site="input", layers=(0, 1, 2), keys=keys, offset=0.0, weights=weights)}
        >>> changed = torch.stack([gamma[0] + 1, gamma[2], gamma[1]])
        >>> [(one.verdict, one.other) for one in hold_against(stored(changed), stored(gamma))]
        [('shifted', None), ('other-layer', ('input', 2)), ('other-layer', ('input', 1))]
    """
    theirs = {site: _at_its_place(stored, ours.get(site)) for site, stored in theirs.items()}
    told: dict[Place, LayerVerdict] = {}
    widths = {(stored.weights.shape[1], is_rotary(stored)) for stored in theirs.values()}
    for width in sorted(widths):
        alike = [
            {site: one for site, one in side.items() if (one.weights.shape[1], is_rotary(one)) == width}
            for side in (ours, theirs)
        ]
        told |= _Group(*alike).verdicts()
    for place in (places := _places(theirs)) | _places(ours):
        if place not in told:
            told[place] = _unpaired(place, ours, theirs, place in places)
    order = [*theirs, *ours]
    return [told[place] for place in sorted(told, key=lambda place: (order.index(place[0]), place[1]))]


def _at_its_place(reference: StoredWeights, own: StoredWeights | None) -> StoredWeights:
    """The reference's weights; a norm that stands once, as the final one, stands at the same place in any depth."""
    if own is None or len(own.layers) != 1 or len(reference.layers) != 1:
        return reference
    return replace(reference, layers=own.layers)


def _places(of: Mapping[str, StoredWeights]) -> dict[Place, None]:
    return dict.fromkeys((site, layer) for site, stored in of.items() for layer in stored.layers)


def _unpaired(
    place: Place, ours: Mapping[str, StoredWeights], theirs: Mapping[str, StoredWeights], expected: bool
) -> LayerVerdict:
    """The verdict on a place that only one side has, or both in different widths."""
    site, layer = place
    if not expected:
        return LayerVerdict(site, layer, "extra")
    if site not in ours or layer not in ours[site].layers:
        return LayerVerdict(site, layer, "missing")
    sizes = f"{ours[site].weights.shape[1]} instead of {theirs[site].weights.shape[1]} channels"
    return LayerVerdict(site, layer, "width", detail=sizes)


class _Side:
    """The rows of all sites of one width."""

    def __init__(self, sites: Mapping[str, StoredWeights]) -> None:
        self.sites = {site: _cleaned(stored) for site, stored in sites.items()}
        self.finite = torch.cat([stored.weights.isfinite().all(dim=-1) for stored in sites.values()]).tolist()
        self.places = {place: row for row, place in enumerate(_places(sites))}
        self.gamma = torch.cat([stored.gamma for stored in self.sites.values()]).double()
        self.rows = [
            StoredRow(stored.gamma[row], stored.weights[row], *stored.dtypes[row : row + 1])
            for stored in self.sites.values()
            for row in range(len(stored.layers))
        ]

    @property
    def massive(self) -> Tensor:
        """Which gains are massive, shape (row, hidden)."""
        return self.gamma.abs() > MASSIVE * self.gamma.abs().median(dim=-1, keepdim=True).values


def _cleaned(stored: StoredWeights) -> StoredWeights:
    """The weights with rows of zeros for those that are not finite."""
    finite = stored.weights.isfinite().all(dim=-1, keepdim=True)
    return replace(stored, weights=torch.where(finite, stored.weights, -stored.offset))


class _Group:
    """The sites of one width on both sides, whose rows can be held against each other."""

    def __init__(self, ours: Mapping[str, StoredWeights], theirs: Mapping[str, StoredWeights]) -> None:
        self.paired = bool(ours) and bool(theirs)
        if not self.paired:
            return
        self.ours, self.theirs = _Side(ours), _Side(theirs)
        usual = _usual(torch.cat([self.ours.massive, self.theirs.massive]))
        self.own, self.reference = self.ours.gamma[:, usual], self.theirs.gamma[:, usual]
        sizes = self.reference.square().mean(dim=-1).sqrt()
        self.spread = torch.maximum(self.reference.std(dim=-1, correction=0), _FLAT * sizes)
        self.apart = torch.cdist(self.own, self.reference, compute_mode="donot_use_mm_for_euclid_dist")
        self.apart /= self.own.shape[1] ** 0.5
        self.unlike = 1 - _of_one_length(self.own) @ _of_one_length(self.reference).T

    def verdicts(self) -> dict[Place, LayerVerdict]:
        """The verdicts on the places that both sides have."""
        if not self.paired:
            return {}
        told = {}
        for site in self.theirs.sites.keys() & self.ours.sites.keys():
            own, reference = self.ours.sites[site], self.theirs.sites[site]
            alike = alike_by_layer(own, reference)
            for layer in sorted(set(own.layers) & set(reference.layers)):
                place = (site, layer)
                told[place] = self._verdict(place, alike[layer])
        return told

    def _verdict(self, place: Place, alike: Alike) -> LayerVerdict:
        row, of = self.ours.places[place], self.theirs.places[place]
        one, other = self.ours.rows[row], self.theirs.rows[of]
        if not (self.ours.finite[row] and self.theirs.finite[of]):
            return LayerVerdict(*place, "non-finite")
        drift = float(self.apart[row, of] / self.spread[of])
        if torch.equal(one.gamma, other.gamma):
            return LayerVerdict(*place, "same", 0.0)
        if not bool(one.gamma.any()):
            return LayerVerdict(*place, "dead")
        if (rounding := rounded_to(one, other)) is not None:
            return LayerVerdict(*place, "rounded", drift, rounding)
        return self._accounted(place, row, of, drift) or _unaccounted(place, one, other, drift, alike)

    def _accounted(self, place: Place, row: int, of: int, drift: float) -> LayerVerdict | None:
        """Another account than drift that leaves less than half of what drift does, and the least of all."""
        one, other = self.ours.rows[row], self.theirs.rows[of]
        own, reference = self.own[row], self.reference[of]
        found: list[tuple[float, LayerVerdict]] = []
        step = float((own - reference).median())
        if abs(sign := round(step)) == 1 and abs(step - sign) <= _SHIFT:
            left = _size(own - reference - step)
            if left <= _NEAR * max(float(self.spread[of]), 2 * _SHIFT):
                found.append((left, LayerVerdict(*place, "shifted", drift, f"{sign:+d}")))
        if (scale := self._scaled(place, row, of, drift)) is not None:
            found.append(scale)
        nearest = int(self._in_spreads(row).argmin())
        left = float(self.apart[row, nearest])
        has_its_shape = float(self.unlike[row, nearest]) < _HALF * float(self.unlike[row, of])
        if nearest != of and has_its_shape and left <= _NEAR * float(self.spread[nearest]):
            named = list(self.theirs.places)[nearest]
            kind = "other-layer" if named[0] == place[0] else "other-site"
            found.append((left, LayerVerdict(*place, kind, drift, other=named)))
        left, best = min(found, key=lambda account: account[0], default=(float("inf"), None))
        if left < _HALF * float(self.apart[row, of]):
            return best
        is_new_order = drift >= _MOVED and is_varied(one) and reordered(one, other)
        return LayerVerdict(*place, "permuted", drift) if is_new_order else None

    def _in_spreads(self, row: int) -> Tensor:
        """Distances to the rows of the reference in units of their spread; rows that are not finite are at infinity."""
        known = torch.tensor(self.theirs.finite)
        return torch.where(known, self.apart[row] / self.spread, torch.inf)

    def _scaled(self, place: Place, row: int, of: int, drift: float) -> tuple[float, LayerVerdict] | None:
        one, other = self.ours.rows[row], self.theirs.rows[of]
        own, reference = self.own[row], self.reference[of]
        if not bool((reference != 0).any()):
            return None
        factor = float((own / reference)[reference != 0].median())
        left = _size(own - factor * reference)
        is_exact = abs(factor - 1) >= _SCALE and is_varied(other) and scaled_by(one, other, factor)
        is_near = abs(factor - 1) >= _TRAINED_SCALE and left <= _TRAINED * abs(factor) * float(self.spread[of])
        if factor and (is_exact or is_near):
            return left, LayerVerdict(*place, "scaled", drift, f"{factor:.4g}")
        return None


def _unaccounted(place: Place, one: StoredRow, other: StoredRow, drift: float, alike: Alike) -> LayerVerdict:
    """Tuned, permuted, foreign or undetermined, of a layer that nothing else accounts for."""
    sure = _NEAR if alike.tells_all else _NEAR / 2
    if drift <= sure or alike.related or _flat(one, other):
        return LayerVerdict(*place, "tuned", drift)
    if not alike.more_than_chance:
        if alike.tells_all and (channels := rolled_by(one.gamma, other.gamma)):
            return LayerVerdict(*place, "permuted", drift, f"rolled by {channels}")
        if too_near(one.gamma, other.gamma):
            return LayerVerdict(*place, "permuted", drift, "nearly")
    return LayerVerdict(*place, "foreign" if alike.foreign else "undetermined", drift, alike.figures)


def _usual(massive: Tensor) -> Tensor:
    """Which channels are massive in no row; in less than half of them, where that would leave too few."""
    out = massive.any(dim=0)
    if int(out.sum()) * _FEW > len(out):
        out = massive.double().mean(dim=0) > 1 / 2
    return ~out if int(out.sum()) * _FEW <= len(out) else torch.ones_like(out)


def _of_one_length(gains: Tensor) -> Tensor:
    """Gains less their mean over channels, of length 1; constant ones are 0."""
    return torch.nn.functional.normalize(gains - gains.mean(dim=-1, keepdim=True), dim=-1)


def _size(change: Tensor) -> float:
    """Root of the mean square."""
    return float(change.square().mean().sqrt())


def _flat(one: StoredRow, other: StoredRow) -> bool:
    """Whether a reference that does not vary over channels, as before training, lies near all the same."""
    flat = not bool((other.gamma != other.gamma[0]).any())
    return flat and _size(one.gamma - other.gamma) <= _NEAR * _size(other.gamma)
