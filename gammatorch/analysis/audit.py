"""What is wrong with gains, or may be: by evidence in the numbers themselves, and against a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from gammatorch.analysis.outliers import massive_channels
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.stored import looks_zero_centred

_SHIFT = 0.02
"""How close to 1 the typical difference from a reference must be to be an offset added twice, or lost."""

_NAMED = 8


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the gains should know.

    Attributes:
        level: ``"error"``, ``"warning"`` or ``"note"``.
        what: What was found: ``"missing"``, ``"non-finite"``, ``"dead"``, ``"convention"``, ``"outlier channels"`` …
        site: The site it is about.
        text: The same with its numbers.
    """

    level: str
    what: str
    site: str
    text: str


def audit(stored: StoredWeights) -> list[Finding]:
    """Findings on the weights of one site as stored, of any kind: NaN and zeros are what is looked for.

    * non-finite: NaN or infinity, by tensor;
    * dead: a layer whose gain γ = offset + w is zero in all channels; channels that are zero in every layer;
    * convention: stored weights that are mostly about 0, a tenth of them below it, are those of a zero-centred norm
      (γ = 1 + w), and all weights equal to 1 those of a plain one before training. A trained zero-centred norm may have
      any weights, so nothing is concluded from large ones. Where the offset is taken, not known, it is suspect;
    * outlier channels: see :func:`~gammatorch.analysis.outliers.massive_channels`.

    Args:
        stored: The weights.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
        >>> stored = StoredWeights(site="input", layers=(0, 1), keys=("0.norm", "1.norm"), offset=0.0, weights=weights)
        >>> findings = audit(stored)
        >>> [finding.what for finding in findings]
        ['non-finite', 'dead']
        >>> findings[0].text
        '0.norm (layer 0): 1 NaN among 2 values'
    """
    site, layers, weights, gamma = stored.site, stored.layers, stored.weights, stored.gamma
    finite = weights.isfinite()
    found = non_finite(stored)
    alive = (gamma != 0).any(dim=-1)
    if not bool(alive.all()):
        found.append(Finding("error", "dead", site, f"the gain of {_rows(~alive, layers)} is zero in all channels"))
    mute = (gamma[alive] == 0).all(dim=0)
    if bool(alive.any()) and bool(mute.any()):
        text = f"{int(mute.sum())} of {weights.shape[1]} channels are zero in every layer"
        found.append(Finding("warning", "dead channels", site, text))
    sound = finite.all(dim=-1) & alive
    if bool(sound.any()):
        found += _convention(replace(stored, weights=weights[sound]))
        if outliers := massive_channels(gamma[sound][None])[0]["channels"]:
            names = ", ".join(map(str, outliers[:_NAMED])) + (" …" if len(outliers) > _NAMED else "")
            found.append(Finding("note", "outlier channels", site, f"{len(outliers)} of {weights.shape[1]}: {names}"))
    return found


def non_finite(stored: StoredWeights, whose: str = "") -> list[Finding]:
    """Findings on NaN and infinity, one for each of the first tensors that hold any, and one for all others.

    Args:
        stored: The weights.
        whose: What the texts begin with, where it is not the model's own weights that they are about.
    """
    bad = stored.weights.isfinite().logical_not()
    rows = bad.any(dim=-1).nonzero()[:, 0].tolist()
    texts = [
        f"{whose}{stored.keys[row]} (layer {stored.layers[row]}): {_kinds(stored.weights[row])}"
        for row in rows[:_NAMED]
    ]
    if rest := rows[_NAMED:]:
        layers = ", ".join(str(stored.layers[row]) for row in rest)
        texts.append(f"{whose}layers {layers}: {_kinds(stored.weights[rest])}")
    return [Finding("error", "non-finite", stored.site, text) for text in texts]


def _kinds(weights: Tensor) -> str:
    """How many values are NaN, how many infinite, and among how many."""
    counts = {"NaN": int(weights.isnan().sum()), "infinite": int(weights.isinf().sum())}
    return f"{', '.join(f'{count} {kind}' for kind, count in counts.items() if count)} among {weights.numel()} values"


def hold_against(ours: Mapping[str, StoredWeights], theirs: Mapping[str, StoredWeights]) -> list[Finding]:
    """What a reference has and the model has not, and gains that stand 1 beside the reference's.

    A reference that holds NaN or infinity is an error too: nothing can be held against these values.

    Args:
        ours: The model's weights by site.
        theirs: The reference's.
    """
    found = []
    for site, reference in theirs.items():
        found += non_finite(reference, "the reference's ")
        if site not in ours:
            found.append(Finding("error", "missing", site, "the reference has this site"))
            continue
        own = ours[site]
        if own.layers != reference.layers or own.weights.shape != reference.weights.shape:
            sizes = [f"{len(one.weights)} layers × {one.weights.shape[1]}" for one in (own, reference)]
            found.append(Finding("error", "layout", site, f"{sizes[0]}, where the reference has {sizes[1]}"))
        elif step := shifted(own.gamma, reference.gamma):
            how = "1 above the reference's: an offset was added twice" if step > 0 else "1 below: an offset was lost"
            found.append(Finding("error", "convention", site, f"γ stands {how}"))
    return found


def shifted(gamma: Tensor, reference: Tensor) -> int:
    """Whether the gains stand 1 above or below a reference's, as when an offset was added twice, or lost.

    Args:
        gamma: Gain vectors γ, shape (layer, hidden).
        reference: Those of the reference, same shape.

    Returns:
        1, -1, or 0: the median difference is within 0.02 of it, and so is the median distance from it, over the values
        that are finite on both sides.

    Example:
        >>> import torch
        >>> shifted(torch.ones(2, 8) * 2, torch.ones(2, 8))
        1
    """
    change = (gamma - reference)[gamma.isfinite() & reference.isfinite()]
    if not len(change):
        return 0
    median = float(change.median())
    sign = round(median)
    spread = float((change - median).abs().median())
    return sign if abs(sign) == 1 and abs(median - sign) <= _SHIFT and spread <= _SHIFT else 0


def _convention(stored: StoredWeights) -> list[Finding]:
    """Whether finite stored weights look like those of the convention they are read by; see :func:`audit`."""
    mean, negative = stored.mean, stored.negative
    if stored.offset == 0 and looks_zero_centred(mean, negative):
        evidence = f"mean {mean:.3g}, {negative:.1%} below zero"
        text = f"read as γ = w, but the weights look zero-centred, γ = 1 + w ({evidence})"
        return [Finding("error", "convention", stored.site, text)]
    if stored.offset == 1 and bool((stored.weights == 1).all()):
        text = "read as γ = 1 + w, but all weights are 1, as those of γ = w before training"
        return [Finding("error", "convention", stored.site, text)]
    if stored.doubt is not None:
        read = "w" if not stored.offset else f"{stored.offset:g} + w"
        text = f"suspect: {stored.doubt}; read as γ = {read} (mean of w {mean:.3g}, {negative:.1%} below zero)"
        return [Finding("warning", "convention", stored.site, text)]
    return []


def _rows(chosen: Tensor, layers: Sequence[int]) -> str:
    names = [str(layer) for layer, is_chosen in zip(layers, chosen.tolist(), strict=True) if is_chosen]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'layer' if len(names) == 1 else 'layers'} {', '.join(names[:_NAMED])}{more}"
