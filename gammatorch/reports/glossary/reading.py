"""Entries: where norms stand, how their axes are found."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.architectures.base import PLACES
from gammatorch.reports.glossary.entry import Entry

_READING = {
    "input": "`--site auto` means this site; where a model has no learned norm there, the nearest analogue is read and "
    "the first line says so.",
    "pre_mlp": "Llama calls it post_attention_layernorm: sites are places, not names of parameters.",
    "final": "One norm for the whole stack; `run` counts it as the last block's.",
}

SITES: Mapping[str, Entry] = {
    name: Entry("site", f"The norm {where}.", reading=_READING.get(name, "")) for name, where in PLACES.items()
} | {
    "auto": Entry("site", "`input`, or the nearest analogue where a model has no learned norm there."),
    "pattern": Entry("site", "Tensors named with --pattern instead of a site, of any shape, flattened."),
}

STACKS: Mapping[str, Entry] = {
    "stack": Entry(
        "stack",
        "A run of numbered blocks: a decoder, an encoder, a vision tower; --stack chooses one by a part of its name.",
        stored="stack",
    ),
    "main stack": Entry(
        "stack",
        "The stack that is read when none is named: the text decoder where there are several.",
        stored="stacks.main",
    ),
    "pre-norm": Entry("stack", "Layout: norms stand on the inputs of attention and MLP."),
    "post-LN": Entry("stack", "Layout: norms stand after the residual sums, and none on the block's input."),
    "output norms only": Entry("stack", "Layout: norms stand on the outputs of attention and MLP, before the sums."),
    "sandwich norms": Entry("stack", "Layout: norms stand on the inputs and on the outputs."),
    "norms on the residual stream": Entry("stack", "Layout: the residual stream itself is normed, before each part."),
    "one norm per block": Entry("stack", "Layout: the block has no norm of its own before the MLP."),
    "attention and MLP in parallel": Entry("stack", "Layout: both read the same input, and their outputs are added."),
    "stages": Entry("stack", "Parts of a stack with blocks and a width of their own (Swin); one is read at a time."),
}

METHODS: Mapping[str, Entry] = {
    "svd": Entry(
        "method",
        "Principal axes by singular value decomposition; gains in column blocks are reduced by TSQR first.",
        reading="The default for gains that are held whole, up to a width of 65,536 channels.",
    ),
    "gram": Entry(
        "method",
        "Principal axes from the eigenvalues of the L × L products: as exact for cosines, faster, any width.",
        reading="Singular values below 1e-8 of the largest are rounding. The default beyond 65,536 channels, in "
        "column blocks and in sweeps.",
    ),
    "project": Entry(
        "method",
        "Principal axes from a random projection of each layer to --dims numbers; lengths and means stay exact.",
        formula="standard error of a cosine c: about (1 − c²) / √dims",
        reading="The default beyond 65,536 channels from 512 layers on. Linear, and the same bits on any device and "
        "with any block size, so sketches of different runs can be compared.",
    ),
    "error_estimate": Entry(
        "method",
        "Estimated largest absolute error of the cosines and of explained_var, from rounding or projection.",
        reading="Printed after ± in the second line.",
        stored="error_estimate",
    ),
}
