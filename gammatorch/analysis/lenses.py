"""Two ways to look at the same layers: their gains as stored, and the normal scores of their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.evidence import Evidence, evidence


@dataclass(frozen=True, eq=False)
class Lenses:
    """Correlations of the gains and of their normal scores, of one checkpoint.

    Attributes:
        stored: Of the gains as they are, which Pearson's correlation and the original's figures are made of.
        ranked: Of their normal scores; None where the gains were read in column blocks and have no ranks.
    """

    stored: Correlations
    ranked: Correlations | None

    @property
    def robust(self) -> Correlations:
        """What the verdict rests on: the scores, or else the gains."""
        return self.ranked or self.stored

    @cached_property
    def evidence(self) -> Evidence:
        """What the verdict rests on."""
        return evidence(self.robust)
