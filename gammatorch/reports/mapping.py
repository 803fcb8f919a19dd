"""Which layers of one checkpoint are which of another, in words."""

from __future__ import annotations

from gammatorch.results.comparison import PairFigures

_STRANGERS = ("unrelated", "undetermined")


def named_mapping(pair: PairFigures, against: str) -> str | None:
    """Which layers are which, where that is not the same of each: ``layers 0-2 are A's 0-2, layer 3 is A's 4``.

    Args:
        pair: Of the document.
        against: What the other checkpoint goes by.
    """
    pairs = [
        (layer, other)
        for layer, other, foreign in zip(pair.layers, pair.mapping, pair.foreign, strict=True)
        if other is not None and not foreign
    ]
    alike = len(pair.layers) == 1 or all(layer == other for layer, other in pairs)  # one alone has no order
    if pair.verdict in _STRANGERS or alike:
        return None
    runs: list[list[tuple[int, int]]] = []
    for layer, other in pairs:
        if runs and (layer - 1, other - 1) == runs[-1][-1]:
            runs[-1].append((layer, other))
        else:
            runs.append([(layer, other)])
    return ", ".join(
        f"layer {run[0][0]} is {against}'s {run[0][1]}"
        if len(run) == 1
        else f"layers {run[0][0]}-{run[-1][0]} are {against}'s {run[0][1]}-{run[-1][1]}"
        for run in runs
    )
