"""One entry of the glossary, and the groups that entries are listed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """What a name in a table, a sentence or a file means.

    Attributes:
        group: A name from :data:`GROUPS`.
        what: What it is, one sentence.
        formula: How it is computed; γ_i is the gain of layer i, u_i = γ_i / ‖γ_i‖, L layers of width H, r their
            correlations, C their cosines.
        reading: How to read it, and what can mislead.
        reference: The value to compare it with, short enough for a column of a table.
        source: Papers.
        stored: Where result files hold it, names joined by dots.
        also: Other names it is printed under.
        parts: What the parts mean that files hold of it, by name.
    """

    group: str
    what: str
    formula: str = ""
    reading: str = ""
    reference: str = ""
    source: str = ""
    stored: str = ""
    also: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)


def formula_label(entry: Entry) -> str:
    """What the formula of an entry tells: how a figure is computed, or when a verdict or a finding is given.

    Args:
        entry: The entry.
    """
    return "when" if entry.group in ("verdict", "kinship", "check") else "formula"


GROUPS: Mapping[str, str] = {
    "statistic": "Statistics of one model",
    "layer": "Figures by layer, axis and phase",
    "verdict": "Verdicts on one model",
    "comparison": "Figures of a comparison",
    "kinship": "Verdicts on two checkpoints",
    "check": "Findings of check, and its columns",
    "verify": "Columns and verdicts of inspect --verify",
    "site": "Sites: where in the block a norm stands",
    "stack": "Stacks and their layouts",
    "method": "Methods",
    "sweep": "Columns of a sweep",
    "anomaly": "Anomalies and notes of a sweep",
    "bench": "Rows and columns of bench",
    "note": "Notes on one model",
    "field": "Other names in files",
}
"""By name: the heading under which the entries of a group are listed."""
