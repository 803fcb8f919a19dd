"""What a sweep has noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_NAMED = 8
"""Items or layers that a sentence names; the rest are counted."""


@dataclass(frozen=True)
class Finding:
    """One thing noticed about some items.

    Attributes:
        kind: What it is, in one word or two.
        severity: ``"anomaly"``: honest training does not do this; ``"note"``: it may.
        items: The items that are odd; not those that only lent them their gains.
        text: The sentence.
        layers: The layers it is about; empty where it is all of them.
    """

    kind: str
    severity: Literal["anomaly", "note"]
    items: tuple[str, ...]
    text: str
    layers: tuple[int, ...] = ()


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; the first few of many.

    Args:
        names: At least one.

    Example:
        >>> listed(["step1", "step2", "step4"])
        'step1, step2, step4'
        >>> listed([f"step{n}" for n in range(86)])
        'step0, step1, step2, step3, step4, step5, step6, step7 … (86 in all)'
    """
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} … ({len(names)} in all)"


def named_layers(layers: Sequence[int]) -> str:
    """Layers in a sentence, neighbours joined.

    Args:
        layers: Ascending.

    Example:
        >>> named_layers([0, 1, 2, 5, 8, 9]), named_layers([4])
        ('layers 0-2, 5, 8-9', 'layer 4')
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    places = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"layer{'' if len(layers) == 1 else 's'} {listed(places)}"
