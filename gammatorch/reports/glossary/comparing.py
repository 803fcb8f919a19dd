"""Entries: comparisons, gain audits, and verification by transformers."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.glossary.entry import Entry

COMPARISONS: Mapping[str, Entry] = {
    "pair": Entry("comparison", "Two checkpoints by their letters: B-A is B held against A.", stored="pairs"),
    "A's": Entry(
        "comparison",
        "Layer of A that a layer is held against: the same index, or its best match.",
        stored="pairs.mapping",
        also=("mapping",),
    ),
    "‖Δ‖/‖γ‖": Entry(
        "comparison",
        "How far the gain moved, in units of its length.",
        formula="‖γ − γ'‖ / ‖γ'‖, γ' the reference's gain",
        reading="A common change of size counts as well as a change of direction.",
        stored="pairs.drift",
        also=("drift", "total_drift"),
    ),
    "‖Δ‖/spread": Entry(
        "comparison",
        "How far the gain moved, in units of its spread over channels.",
        formula="‖γ − γ'‖ / ‖γ' − mean γ'‖",
        reading="Unlike ‖Δ‖/‖γ‖ it does not depend on the mean of the gains.",
        reference="about 1.4: unrelated checkpoints",
        stored="pairs.drift_of_spread",
        also=("total_drift_of_spread",),
    ),
    "CKA": Entry(
        "comparison",
        "How alike the layers of two checkpoints are related to one another, whatever their channels.",
        formula="HSIC(R, R') / √(HSIC(R, R) HSIC(R', R')), unbiased, R the correlations between layers",
        reading="Unrelated checkpoints that both drift with depth have a high CKA too.",
        reference="1: layers relate to one another in the same way",
        source="Kornblith et al. 2019; Song et al. 2012; Nguyen, Raghu and Kornblith 2021",
        stored="pairs.cka",
    ),
    "verdict": Entry(
        "comparison", "What two checkpoints have to do with each other at this site.", stored="pairs.verdict"
    ),
    "families": Entry(
        "comparison",
        "Checkpoints linked by any verdict but unrelated and undetermined.",
        stored="families",
    ),
    "bridges": Entry(
        "comparison",
        "A checkpoint that alone links two unrelated ones, as a merge of both does.",
        stored="bridges",
        also=("bridge", "links"),
    ),
    "p_value": Entry(
        "comparison",
        "Probability that unrelated checkpoints are as alike; p_adjusted allows for the number of pairs.",
        reading="A verdict of kinship needs p_adjusted of at most 0.0001.",
        source="Benjamini and Hochberg 1995",
        stored="pairs.p_value",
        also=("p_adjusted",),
    ),
    "beyond": Entry(
        "comparison",
        "Which layers are more alike than unrelated ones are by chance; share_beyond is their share.",
        stored="pairs.beyond",
        also=("share_beyond",),
    ),
    "foreign": Entry("comparison", "Which layers are not, where the others are much more so.", stored="pairs.foreign"),
    "basis": Entry(
        "comparison",
        "What the verdict rests on: scores (of ranks), scores beyond the profile (at queries and keys, whose profile "
        "over rotary frequency every model has), or pearson (gains without ranks).",
        stored="pairs.basis",
    ),
    "largest_change": Entry(
        "comparison",
        "Largest relative change of any single gain.",
        formula="max |γ − γ'| / |γ'|",
        reference="0: a copy",
        stored="pairs.largest_change",
    ),
}

KINSHIP: Mapping[str, Entry] = {
    "identical": Entry("kinship", "No gain differs, or only by the rounding of the coarser stored type."),
    "permuted": Entry("kinship", "The sorted gains are identical: a copy whose channels are in another order."),
    "fine-tuned": Entry(
        "kinship",
        "One descends from the other, or both from one parent.",
        formula="mean rank correlation of 0.95 and more",
    ),
    "related": Entry(
        "kinship",
        "A common origin, from which they have moved far.",
        formula="mean rank correlation of 0.25 and more",
    ),
    "partly": Entry(
        "kinship", "Some layers have a common origin and others are foreign, as in merges; the sentence names them."
    ),
    "unrelated": Entry(
        "kinship",
        "No more alike than chance, and a correlation of 0.25 would have shown.",
        reading="The cosine has no say: unrelated gains of one sign have cosines up to 0.99.",
    ),
    "undetermined": Entry(
        "kinship", "It cannot be told: gains that are all 1, as before training, too few channels, or other widths."
    ),
}

CHECKS: Mapping[str, Entry] = {
    "error": Entry("check", "A finding that makes `check` end with exit code 3.", stored="errors", also=("errors",)),
    "warning": Entry("check", "A finding that may be right, and should be looked at."),
    "missing": Entry("check", "Layers or tensors of a site, or a site that the reference has, are not there."),
    "non-finite": Entry("check", "NaN or infinity among the weights, with the tensor and how many."),
    "dead": Entry("check", "A gain that is zero in all channels of a layer."),
    "dead channels": Entry("check", "Channels that are zero in every layer: a warning."),
    "convention": Entry(
        "check",
        "The weights contradict the way they are read: γ = w or γ = 1 + w.",
        formula="read as γ = w: mean within 0.25 of 0 and a tenth below 0; read as γ = 1 + w: all weights 1; against a "
        "reference: γ stands 1 above or below it",
        reading="Weights near 1 that are read as 1 + w are no error without a reference: training may do that.",
    ),
    "layout": Entry("check", "The reference has another number of layers, or another width, at the site."),
    "site": Entry("check", "Place in the block that the row is about.", stored="site"),
    "hidden": Entry("check", "Width of the gains: the number of channels.", stored="hidden"),
    "γ": Entry(
        "check",
        "How the gain is made from the stored weight w: w, or 1 + w for zero-centred norms.",
        stored="offset",
        also=("offset", "gain"),
    ),
    "mean w": Entry("check", "Mean of the stored weights.", stored="sites.mean"),
    "below zero": Entry("check", "Share of the stored weights that are negative.", stored="sites.negative"),
}

VERIFICATION: Mapping[str, Entry] = {
    "agree": Entry("verify", "The norm acts where, and with the offset that, the table of families says."),
    "differ": Entry("verify", "Place, side or offset is another than the table says; the line below names it."),
    "cannot tell": Entry(
        "verify", "The norm was not called, or is fed with one of several residual streams or a mix of them."
    ),
    "place": Entry("verify", "Site that the headers and the table give the norm.", stored="verification.place"),
    "observed": Entry(
        "verify",
        "Offset with which the norm acted in the tiny model that transformers built.",
        stored="verification.observed_offset",
        also=("observed_offset",),
    ),
    "input (column)": Entry(
        "verify", "Whether the norm was fed with the block's input.", stored="verification.on_input", also=("on_input",)
    ),
    "norm": Entry(
        "verify",
        "Name of the norm within the block.",
        stored="verification.name",
        parts={
            "verification": "one entry for each norm that the tiny model has",
            "side": "whether the norm acts before a sub-layer or after one",
            "verification_doubt": "why transformers could not tell, null where it could",
        },
    ),
}
