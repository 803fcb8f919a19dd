"""Entries: the verdicts on one model."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.glossary.entry import Entry

VERDICTS: Mapping[str, Entry] = {
    "shared-direction": Entry(
        "verdict",
        "All layers have one direction, times a magnitude: the isotropic case of the original study.",
        formula="mean rank correlation of 0.5 and more, misfit below 0.08, no loss with depth",
    ),
    "drift (verdict)": Entry(
        "verdict",
        "The direction turns steadily with depth and jumps nowhere.",
        formula="order of layers of 2.5 and more, loss of correlation with depth of 0.04 and more, no boundary",
    ),
    "phases": Entry(
        "verdict",
        "The direction holds over runs of layers, and jumps or turns between them.",
        formula="order of layers of 2.5 and more, and at least one boundary",
    ),
    "several-directions": Entry(
        "verdict",
        "The layers belong to several directions that depth does not put in order: groups, axes, alternating kinds.",
        formula="misfit of one direction of 0.08 and more",
    ),
    "layer-specific": Entry(
        "verdict",
        "Each layer has a direction of its own.",
        formula="the median layer's closest relative correlates below 0.25, or the mean stays below 0.5",
    ),
    "undecided": Entry(
        "verdict",
        "No verdict has a support of 0.9; the two that come out most often are named.",
        stored="answer.between",
    ),
    "degenerate": Entry(
        "verdict",
        "There is nothing to tell: one layer, constant gains, or all layers the same.",
    ),
    "support": Entry(
        "verdict",
        "How often the verdict comes out when the blocks of channels are drawn again 512 times and every threshold is "
        "moved by some 10 %.",
        reading="It says how much hangs on the channels and on the thresholds, not what another training run would "
        "give.",
        reference="from 0.9 a verdict is given",
        source="block bootstrap: Künsch 1989",
        stored="answer.support",
    ),
}
