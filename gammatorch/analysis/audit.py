"""What is wrong with the gains of one site, or may be, by evidence in the numbers themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gammatorch.analysis.findings import Finding
from gammatorch.analysis.outliers import massive_channels
from gammatorch.architectures.expected import named_layers
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.stored import looks_zero_centred

_NAMED = 8

_HOLD = "--against the checkpoint it was made from tells"


def audit(stored: StoredWeights) -> list[Finding]:
    """Findings on the weights of one site as stored, of any kind: NaN and zeros are what is looked for.

    * non-finite: NaN or infinity, by tensor;
    * dead: a layer whose gain γ = offset + w is zero in all channels; channels that are zero in every layer;
    * convention: stored weights that are mostly about 0, a tenth of them below it, are those of a zero-centred norm
      (γ = 1 + w), and all weights equal to 1 those of a plain one before training. A trained zero-centred norm may have
      any weights, so nothing is concluded from large ones. More than suspect it never is without a reference;
    * identical layers: two or more that hold the same bits, as where layers were copied and not trained on;
    * untouched: layers whose gain is 1 in all channels, as before training, where others have been trained;
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
    found += _identical(stored, sound) + _untouched(stored, sound)
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


def _identical(stored: StoredWeights, sound: Tensor) -> list[Finding]:
    """Groups of layers that hold the same gains, which vary over channels."""
    groups: dict[bytes, list[int]] = {}
    for row, (layer, gamma) in enumerate(zip(stored.layers, stored.gamma, strict=True)):
        if bool(sound[row]) and bool((gamma != gamma[0]).any()):
            groups.setdefault(gamma.numpy().tobytes(), []).append(layer)
    same = [layers for layers in groups.values() if len(layers) > 1]
    if not same:
        return []
    spelt = "; ".join(named_layers(layers, None) for layers in same[:_NAMED])
    more = f"; and {len(same) - _NAMED} groups more" if len(same) > _NAMED else ""
    text = f"{spelt}{more} hold the same gains bit for bit: copied, or one tensor written in the place of another"
    every = tuple(sorted(layer for layers in same for layer in layers))
    return [Finding("warning", "identical layers", stored.site, text, every)]


def _untouched(stored: StoredWeights, sound: Tensor) -> list[Finding]:
    """Layers that are as before training, where others are not."""
    as_begun = (stored.gamma == 1).all(dim=-1) & sound
    layers = tuple(layer for layer, is_so in zip(stored.layers, as_begun.tolist(), strict=True) if is_so)
    if not layers or not bool((sound & ~as_begun).any()):
        return []
    which = named_layers(layers, None)
    text = f"{which}: γ is 1 in all channels, as before training, while other layers have been trained"
    return [Finding("warning", "untouched", stored.site, text, layers)]


def _convention(stored: StoredWeights) -> list[Finding]:
    """Whether finite stored weights look like those of the convention they are read by; see :func:`audit`."""
    mean, negative = stored.mean, stored.negative
    if stored.offset == 0 and looks_zero_centred(mean, negative):
        evidence = f"mean {mean:.3g}, {negative:.1%} below zero"
        text = f"suspect: read as γ = w, but the weights look zero-centred, γ = 1 + w ({evidence}); {_HOLD}"
        return [Finding("warning", "convention", stored.site, text)]
    if stored.offset == 1 and bool((stored.weights == 1).all()):
        text = f"suspect: read as γ = 1 + w, but all weights are 1, as those of γ = w before training; {_HOLD}"
        return [Finding("warning", "convention", stored.site, text)]
    if stored.doubt is not None:
        read = "w" if not stored.offset else f"{stored.offset:g} + w"
        text = f"suspect: {stored.doubt}; read as γ = {read} (mean of w {mean:.3g}, {negative:.1%} below zero)"
        return [Finding("warning", "convention", stored.site, text)]
    return []


def _rows(chosen: Tensor, layers: Sequence[int]) -> str:
    names = [str(layer) for layer, is_chosen in zip(layers, chosen.tolist(), strict=True) if is_chosen]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'layer' if len(names) == 1 else 'layers'} {', '.join(names[:_NAMED])}{more}"
