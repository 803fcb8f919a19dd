"""Entries: what `run` prints by layer, axis and phase, and the notes it gives."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.glossary.entry import Entry

LAYERS: Mapping[str, Entry] = {
    "layer": Entry("layer", "Index of the layer in the checkpoint's own numbering, from 0.", stored="layers"),
    "layers": Entry("layer", "Indices of the layers that a row is about, or how many were read.", stored="layers"),
    "phase": Entry(
        "layer",
        "Name of the run of layers that a layer belongs to: one found in the data, or one given with --phases.",
        reading="“-” where there are no phases.",
        stored="phases.name",
        parts={"first": "first layer of the phase", "last": "its last layer"},
    ),
    "‖γ‖": Entry(
        "layer",
        "Euclidean length of the layer's gain.",
        formula="√(Σ_h γ_h²)",
        reading="It grows with √H; divided by √H it is RMS γ, which can be compared between widths.",
        stored="norms",
        also=("norms", "length"),
    ),
    "proj_top1": Entry(
        "layer",
        "Projection of the layer's unit gain on the first principal axis of the centred unit gains.",
        formula="u_i · v₀, v₀ the first right singular vector of u − mean(u)",
        reading="Centring removes the direction that all layers share, so it is small where layers agree. Not "
        "identified where S₀ and S₁ differ by less than 1 %. The sign is fixed by the largest entry of the left "
        "singular vector, which is positive.",
        stored="proj_top1",
    ),
    "resid": Entry(
        "layer",
        "Part of the unit gain that is off the first principal axis.",
        formula="√(1 − proj_top1²)",
        stored="residual_top1",
        also=("residual_top1",),
    ),
    "shared": Entry(
        "layer",
        "Projection of the layer's unit gain on the direction that all layers share; in a sweep's table, the shared "
        "energy.",
        formula="u_i · v, v the first right singular vector of the uncentred unit gains",
        reference="1: the layer has the shared direction and no other",
        stored="statistics.shared_projection",
        also=("shared projection",),
    ),
    "axis": Entry("layer", "Principal axis of the centred unit gains: PC0 is the first."),
    "explained": Entry(
        "layer",
        "Share of a principal axis in the variance of the centred unit gains.",
        formula="S_k² / ΣS²",
        reading="L centred rows have rank L − 1, so the last one is rounding. “Top-3 explain” is the sum of the first "
        "three.",
        stored="explained_var",
        also=("explained_var", "Top-3 explain", "Top-10 explain"),
    ),
    "singular value": Entry(
        "layer",
        "Singular value of the centred unit gains, in descending order.",
        formula="S_k",
        stored="singular_values",
    ),
    "N": Entry("layer", "Number of layers in a phase.", stored="phases.n"),
    "‖γ‖ mean": Entry("layer", "Mean length of the gains in a phase.", stored="phases.norm_mean"),
    "‖γ‖ std": Entry("layer", "Standard deviation of the lengths in a phase.", stored="phases.norm_std"),
    "intra_cos": Entry(
        "layer",
        "Mean cosine over pairs of layers within a phase.",
        reading="Neighbours are alike, so a shorter phase looks tighter: the phase contrast corrects for that.",
        stored="phases.intra_cos",
    ),
    "vs_other_cos": Entry(
        "layer",
        "Mean cosine between the layers of a phase and all others.",
        stored="phases.vs_other_cos",
    ),
    "cos": Entry(
        "layer",
        "Cosine of two gains: of neighbouring layers in `run`, of a layer and its counterpart in `compare`.",
        formula="u_i · u_j",
        reading="Gains are positive and of similar size, so unrelated ones already have cosines near 0.9: read it "
        "beside the correlations.",
        stored="cos_adjacent",
        also=("cos_adjacent", "cosine"),
    ),
    "figure": Entry("layer", "Name of the statistic in the row."),
    "value": Entry("layer", "The figure itself; “-” where it is undefined, null in JSON, empty in CSV."),
    "low": Entry(
        "layer",
        "Lower 95 % bound over channels; high is the upper one.",
        reading="Jackknife over 32 runs of channels: how far other channels would have moved the figure. It does not "
        "say what another training run would give; over seeds of one recipe the spread is 1.1 to 2.7 times as large.",
        source="Tukey 1958; Künsch 1989",
        also=("high", "bounds"),
    ),
    "reference": Entry("layer", "What to compare a figure with: its value by chance, or in a plain case."),
    "chance": Entry(
        "layer",
        "What unrelated layers, or unrelated checkpoints, stay below or within 95 % of the time.",
        stored="null_95",
        also=("null_95",),
    ),
}

NOTES: Mapping[str, Entry] = {
    "zero gain": Entry("note", "The gain is 0 in all channels: it has a length but no direction, and is left out."),
    "constant gain": Entry(
        "note",
        "The gain is the same in all channels: it has no correlation, and is left out of what correlations give.",
    ),
    "one layer only": Entry("note", "Axes, phases and neighbours are undefined with a single layer."),
    "all layers point the same way": Entry(
        "note",
        "Cosines are 1 to rounding, as before training: axes and projections would be noise and are left undefined.",
    ),
    "fewer than 8 channels": Entry("note", "Too few channels for bounds, and so for boundaries between phases."),
    "below 6 layers": Entry("note", "Too few layers for phases and schedules, and for a drift or several directions."),
    "first axis not identified": Entry(
        "note", "The first two singular values differ by less than 1 %, so proj_top1 could as well be the second's."
    ),
    "may be rounding": Entry(
        "note", "Neighbours differ by no more than storing them in their type does: axes and phases may be rounding."
    ),
    "no ranks": Entry(
        "note",
        "The gains were not put in order (wider than 65,536 channels, read in column blocks, or sketched): all "
        "figures are Pearson's, which a few massive channels may carry.",
    ),
    "offset in doubt": Entry(
        "note",
        "The model type is not known to add 1 to the weight or not; the note names the offset taken and the mean of "
        "the stored weights. `gammatorch inspect --verify` finds out.",
    ),
    "layers without a norm": Entry(
        "note", "Blocks that rightly lack the norm keep their index free, and are named; nothing is filled in."
    ),
}
