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
    "error": Entry("check", "A finding that makes `check` end with exit code 3."),
    "warning": Entry("check", "A finding that may be right, and should be looked at."),
    "non-finite": Entry("check", "NaN or infinity among the weights, with the tensor and how many."),
    "ranks": Entry(
        "check",
        "Tensor-parallel ranks hold different copies of one norm, which all of them should hold alike.",
        formula="compared bit by bit; the rank that differs from most is named",
        reading="The copies drift apart where the gradient of a norm is not summed over the ranks. Which copy is right "
        "cannot be told from them; `run` reads the first rank's.",
    ),
    "dead": Entry("check", "A gain that is zero in all channels of a layer."),
    "missing": Entry("check", "Layers or tensors of a site, or a site that the reference has, are not there."),
    "width": Entry("check", "The layer has another number of channels than the reference's.", also=("layout",)),
    "foreign (check)": Entry(
        "check",
        "The layer is no more like the reference's at its place than layers of unrelated checkpoints are.",
        formula="no sign of likeness beyond what 1 in 1,000 unrelated layers show, and a rank correlation of 0.25 is "
        "excluded with 95 %",
        reading="Massive channels, and the profile that rotary positions give every model, do not count as likeness.",
    ),
    "other-layer": Entry(
        "check",
        "The layer is another layer of the reference: it lies less than half as far from that one as from its own "
        "place's, by distance and by correlation, and within half of the spread over channels.",
        stored="verdicts.other_layer",
    ),
    "other-site": Entry(
        "check",
        "The same of another site: the gains of two norms of a block were exchanged.",
        stored="verdicts.other_site",
    ),
    "shifted": Entry(
        "check",
        "γ stands 1 above the reference's (an offset was added twice) or 1 below it (one was lost).",
        formula="the median of γ − γ_ref within 0.1 of ±1, and what is left of the difference at most half of it",
        reading="Seen where the model was trained on as well.",
    ),
    "scaled": Entry(
        "check",
        "γ is a multiple of the reference's.",
        formula="to rounding for factors from 0.1 % on, else from 10 % on where it leaves at most 0.15 of the "
        "spread over channels",
    ),
    "permuted (check)": Entry(
        "check",
        "The layer holds the reference's values in another order of channels, a roll of them for example.",
        reading="Where the model was trained on as well, a roll is found by its correlation, any other order by sorted "
        "gains that lie too near for chance.",
    ),
    "undetermined (check)": Entry(
        "check",
        "Too far from the reference's layer to be called tuned, and not shown to be foreign either: a warning.",
    ),
    "extra": Entry("check", "The reference does not have the layer or the site: a warning."),
    "tuned": Entry(
        "check",
        "The layer was moved from the reference's, as by training: a note, with --exact an error.",
        formula="within half of the spread over channels, or a rank correlation of 0.25 and more beyond doubt",
    ),
    "rounded": Entry("check", "The layer is the reference's up to rounding to the coarser of the two stored types."),
    "same": Entry("check", "The layer's gains are the reference's bit for bit, whatever type holds them."),
    "identical layers": Entry("check", "Layers of one site that hold the same gains bit for bit: a warning."),
    "untouched": Entry(
        "check", "Layers whose gain is 1 in all channels, as before training, while others are trained: a warning."
    ),
    "base": Entry("check", "The checkpoint that config.json or the model card says this one was made from: a note."),
    "verdicts": Entry(
        "check",
        "What each layer of each site is to the reference's.",
        stored="verdicts",
        parts={
            "detail": "what the verdict needs: the shift, the factor, the stored type, the rank correlation",
            "drift": "‖γ − γ_ref‖ in units of the spread over channels, massive channels left out",
        },
    ),
    "errors": Entry("check", "Number of findings that are errors.", stored="errors"),
    "warnings": Entry("check", "Number of findings that are warnings."),
    "worst finding": Entry("check", "Site and kind of the finding that comes first: errors, the worst kinds first."),
    "dead channels": Entry("check", "Channels that are zero in every layer: a warning."),
    "convention": Entry(
        "check",
        "The weights contradict the way they are read: γ = w or γ = 1 + w.",
        formula="read as γ = w: mean within 0.25 of 0 and a tenth below 0; read as γ = 1 + w: all weights 1",
        reading="A warning, for weights alone leave it at a suspicion; against a reference such layers are shifted.",
    ),
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
