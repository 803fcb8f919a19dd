"""Entries: statistics of one model."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.glossary.entry import Entry

STATISTICS: Mapping[str, Entry] = {
    "rank correlation": Entry(
        "statistic",
        "Correlation between two layers when each gain is replaced by the normal score of its rank within its layer.",
        formula="r_ij = corr(z_i, z_j) over channels, z = Φ⁻¹(rank / (H + 1))",
        reading="A few massive channels cannot dominate it, so the verdict rests on it. It is null for gains that have "
        "no ranks: wider than 65,536 channels, read in column blocks, or sketched.",
        reference="0: unrelated layers; 1: the same pattern",
        source="van der Waerden 1952",
        stored="statistics.rank_correlation",
        also=("rank r",),
    ),
    "mean rank correlation": Entry(
        "statistic",
        "Mean rank correlation over all pairs of layers, outlier layers left out.",
        formula="mean of r_ij over i < j",
        reading="From 0.5 on the layers are said to share a direction, unless they drift, form phases or have several "
        "directions. Of gains without ranks it is the mean of Pearson's correlations.",
        reference="chance: the bound that unrelated layers stay within 95 % of the time",
        source="chance: Pitman 1937; bounds: Tukey 1958, Künsch 1989, Fisher 1921",
        stored="statistics.mean_rank_correlation",
        also=("mean rank r",),
    ),
    "pearson": Entry(
        "statistic",
        "Pearson's correlation of two gain vectors over channels.",
        formula="r = cos(γ_i − mean γ_i, γ_j − mean γ_j)",
        reading="The mean of each gain is removed first, so independent gains have 0, which their cosine does not. "
        "`run` prints it for neighbouring layers, `compare` for a layer and its counterpart in the other checkpoint. "
        "Where it differs from the rank correlation, a few large gains carry it.",
        reference="0: unrelated; 1: the same pattern up to size and mean",
        stored="statistics.pearson",
    ),
    "mean pearson": Entry(
        "statistic",
        "Mean of Pearson's correlation over all pairs of layers.",
        formula="mean of r_ij over i < j",
        reading="Compare it with the mean rank correlation: a difference above 0.1 is named in the answer, with the "
        "channels that cause it.",
        reference="chance: the bound that unrelated layers stay within 95 % of the time",
        source="chance: Pitman 1937",
        stored="statistics.mean_pearson",
    ),
    "shared energy": Entry(
        "statistic",
        "Share of the energy of the unit gains that lies in the one direction nearest to all layers, uncentred.",
        formula="λ₁(C) / L",
        reading="Between 1/L (orthogonal layers) and 1. Gains are mostly of one sign, so unrelated layers share most "
        "of their energy too: read it beside the correlations.",
        reference="1: one direction for all layers",
        source="bounds: infinitesimal jackknife, Jaeckel 1972",
        stored="statistics.shared_energy",
        also=("shared direction", "shared-direction energy"),
    ),
    "participation ratio": Entry(
        "statistic",
        "Number of directions that the layers fill evenly, from their Pearson correlations, corrected for chance.",
        formula="(Σλ)² / Σλ², λ the eigenvalues of r, with r² adjusted for H channels",
        reading="Between 1 and L. It counts strong directions; the effective rank counts faint ones as well.",
        reference="1: one direction; L: each layer its own",
        source="adjustment: Wherry 1931",
        stored="statistics.effective_dimension",
        also=("effective dimension", "part. ratio"),
    ),
    "effective rank": Entry(
        "statistic",
        "Exponential of the entropy of the eigenvalues of Pearson's correlations between layers.",
        formula="exp(−Σ p ln p), p = λ / Σλ",
        reading="Like the participation ratio, but faint directions count more, and chance is not corrected for.",
        reference="1: one direction; L: each layer its own",
        source="Roy and Vetterli 2007",
        stored="statistics.effective_rank",
    ),
    "first eigenvalue": Entry(
        "statistic",
        "Largest eigenvalue of the matrix of rank correlations between layers.",
        formula="λ₁(r)",
        reading="Above the reference, the layers share more than chance gives.",
        reference="chance: the 95th percentile for unrelated layers",
        source="Johnstone 2001; Bao, Pan and Zhou 2012",
        stored="statistics.first_eigenvalue",
    ),
    "shared directions": Entry(
        "statistic",
        "Number of eigenvalues of the rank correlations above what chance gives (parallel analysis).",
        formula="#{λ_k(r) > 95th percentile of λ₁ for unrelated layers}",
        reading="A direction that turns with depth counts as several.",
        reference="eigenvalues above chance",
        source="Horn 1965",
        stored="statistics.shared_directions",
    ),
    "misfit of one direction": Entry(
        "statistic",
        "Root mean square of the rank correlations that one common direction, with noise of each layer's own, does not "
        "explain.",
        formula="rms over i ≠ j of r_ij − a_i a_j, least squares over a, beyond chance",
        reading="From 0.08 on there are several directions, or one that turns with depth.",
        reference="0: one direction explains all",
        source="Harman and Jones 1966",
        stored="statistics.misfit",
        also=("misfit",),
    ),
    "depth profile": Entry(
        "statistic",
        "Mean Pearson correlation of layers that are 1, 2, … layers apart.",
        formula="profile[k] = mean over i of r_{i, i+k}",
        reading="Level: layers share as much at any distance. Falling: the direction drifts. The last values are means "
        "of few pairs.",
        stored="statistics.depth_profile",
    ),
    "loss of correlation with depth": Entry(
        "statistic",
        "Mean rank correlation of layers one or two apart, minus that of layers at least half the depth apart.",
        formula="near − far",
        reading="From 0.04 on the direction is said to drift or to form phases, if the order of layers matters. Where "
        "kinds of layers alternate it is that of the largest kind.",
        reference="0: no drift",
        stored="statistics.depth_contrast",
        also=("loss with depth",),
        parts={
            "near": "mean rank correlation of layers one or two apart",
            "far": "that of layers at least half the depth apart",
            "value": "near − far, with low and high",
            "disattenuated": "the loss after each layer's own noise is divided out",
        },
    ),
    "loss, noise removed": Entry(
        "statistic",
        "The loss of correlation with depth after each layer's own noise is divided out, from 24 layers on.",
        formula="near − far of r_ij / √(ρ_i ρ_j), ρ a layer's reliability, from its neighbours",
        reading="Near 0 where only the noise differs over depth; it may exceed 1.",
        reference="without each layer's own noise",
        source="Spearman 1904",
        stored="statistics.depth_contrast.disattenuated",
    ),
    "order of layers": Entry(
        "statistic",
        "How much more alike near layers are than any two, in standard deviations over all orders of the layers.",
        formula="z of Σ_near r under permutation of the layers",
        reading="Below the reference, depth does not put the layers in order, and neither drift nor phases are "
        "claimed. Undefined below six layers.",
        reference="≥ 2.5: near layers are more alike",
        source="Mantel 1967",
        stored="statistics.depth_order",
        also=("depth order",),
    ),
    "correlation length": Entry(
        "statistic",
        "Number of layers over which correlation falls by a factor e, where the direction turns and has no boundary.",
        formula="ξ of the best fit a + b exp(−k / ξ) to the depth profile",
        reading="Null where the direction does not turn, jumps, or falls along a straight line.",
        stored="statistics.correlation_length",
    ),
    "phases found": Entry(
        "statistic",
        "Runs of at least three layers that hold their direction, with a jump or a turn of up to eight layers between.",
        reading="The reference column names the first layer after each jump, and the first and last layer of a turn. "
        "Steady drift and single layers make no phase. Turns are looked for from 24 layers on.",
        source="Fisher 1958; Harchaoui and Cappé 2007",
        stored="statistics.change_points",
        also=("change points", "boundary"),
    ),
    "transitions": Entry(
        "statistic",
        "Turns of the direction that take several layers, between two runs that hold theirs.",
        reading="Looked for from 24 layers on.",
        stored="statistics.transitions",
        parts={
            "first": "last layer before the turn",
            "last": "first layer after it",
            "loss": "correlation lost across it beyond what steady turning would cost, 0.08 at least",
        },
    ),
    "phase contrast": Entry(
        "statistic",
        "Mean rank correlation within a phase, minus that across its bounds at the same distances.",
        reading="Neighbours are alike, so without the same distances a short phase would always look tight. That the "
        "bounds were chosen from the same data is not in the interval.",
        reference="within minus across, same lags",
        stored="statistics.phase_contrasts",
        also=("phase P1", "phase NAME"),
    ),
    "outlier layers": Entry(
        "statistic",
        "Single layers, or two together, less like any other layer than three quarters of what is usual.",
        reading="Often the first or the last. They are left out of all that the verdict rests on.",
        stored="statistics.odd_layers",
    ),
    "period": Entry(
        "statistic",
        "Distance at which kinds of layers repeat, as in hybrids of two mixers, with the correlation at multiples of "
        "it minus that at the distances beside.",
        formula="mean over m of profile[mp] − (profile[mp − 1] + profile[mp + 1]) / 2",
        reading="Shown as “every N layers”. Order, loss and phases are then those of the largest kind. A rare kind, or "
        "one that differs by less than 0.05, is not seen, nor are the phases it hides.",
        reference="correlation above the lags beside it",
        stored="statistics.period",
        also=("every N layers", "every 2 layers"),
        parts={
            "period": "the distance, null where no kinds alternate",
            "value": "the contrast, with low and high",
            "within": "mean correlation of layers a multiple of the period apart",
            "across": "that of the layers beside",
        },
    ),
    "massive channels": Entry(
        "statistic",
        "Channels whose gain is more than ten robust standard deviations from the median in half of the layers.",
        formula="|γ_h − median γ| > 10 (q₃ − q₁) / 1.349",
        source="Hampel 1974",
        stored="statistics.outliers",
        also=("outlier channels",),
        parts={
            "channels": "indices of the channels",
            "layers": "in how many layers each stands out",
            "sizes": "its gain in units of the layer's median gain, the median over those layers",
        },
    ),
    "RMS γ over depth": Entry(
        "statistic",
        "The annealing schedule that RMS γ = ‖γ‖/√H follows over depth: geometric, linear, logarithmic or power; or "
        "“no law” where none is clear.",
        formula="ln RMS γ fitted by maximum likelihood, errors correlated from layer to layer; compared by AICc",
        reading="A law needs an AICc lower than no law's by 12 and than the next law's by 4 n/(n − 5). Gains that "
        "drift without a law pass for one in less than 5 of 100 draws. From eight layers on the first and last are "
        "left out. Of 12 layers, or where RMS γ changes less than twofold, laws can mostly not be told apart.",
        reference="AICc above the lowest",
        source="Kirkpatrick, Gelatt and Vecchi 1983; Geman and Geman 1984; Hurvich and Tsai 1989",
        stored="statistics.schedules",
        also=("AICc", "geometric law", "linear law", "logarithmic law", "power law"),
        parts={
            "geometric": "t0 · a^(k − 1), k = 1 at the first layer; parameters t0 and a",
            "linear": "t0 + b (k − 1); parameters t0 and b",
            "logarithmic": "c / ln(1 + k); parameter c",
            "power": "t0 · k^(−p); parameters t0 and p",
            "none": "one level t0 without a law",
            "parameters": "the fitted parameters by name",
            "aicc": "Akaike's criterion, corrected for few layers, up to a constant",
            "rho": "correlation of neighbouring errors",
            "chosen": "true for the law that is clear of the others, if there is one",
        },
    ),
    "R² of ln RMS γ": Entry(
        "statistic",
        "Share of the variance of ln RMS γ over depth that each schedule explains.",
        reading="High for many a drift without a law too: it decides nothing.",
        source="Granger and Newbold 1974",
        stored="statistics.schedules.*.r_squared",
    ),
    "cosine with ones": Entry(
        "statistic",
        "Cosine of each layer's gain with the vector of ones.",
        formula="⟨γ_i, 1⟩ / (‖γ_i‖ √H)",
        reading="Near 1: the gain is almost the same in all channels.",
        stored="statistics.cos_ones",
        also=("cos ones",),
    ),
    "singular gap": Entry(
        "statistic",
        "Relative gap between the first two singular values of the centred unit gains.",
        formula="(S₀ − S₁) / S₀",
        reading="Below 0.01 the first axis, and with it proj_top1, is not identified; a note says so.",
        stored="statistics.singular_gap",
    ),
}
