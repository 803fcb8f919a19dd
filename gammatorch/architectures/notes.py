"""What is said of a stack beside its sites: what its input norm is fed with, and what is left out or odd."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.families import EMBEDDING_NORMS
from gammatorch.architectures.keys import Rows, own_name

_STREAMS = {
    "all residual streams side by side (hyper-connections), each normed by itself": re.compile(
        r"hyper_connection\.hc_norm"
    ),
    "a mix of several residual streams (hyper-connections)": re.compile(r"(^|\.)hc_|hyper_connection"),
    "one of several residual streams, as predicted from all of them (AltUp)": re.compile(r"^altup\."),
}
"""What the norms stand on in blocks that keep several residual streams, by the names that tell."""

_HYBRID = re.compile(r"^mamba(_decoder)?\.input_layernorm\.")
"""The norm within Zamba's hybrid blocks that stands before Mamba."""


def fed_with_what(norms: Mapping[str, Rows], kinds: Collection[str], config: ModelConfig) -> str | None:
    """What the norm on the input is fed with, in words, where that is not the block's input itself.

    Args:
        norms: Rows of each norm in the blocks.
        kinds: Names of all tensors in them.
        config: What config.json says.
    """
    for fed, names in _STREAMS.items():
        if any(names.search(kind) for kind in kinds):
            return fed
    if any("attn_res" in name for name in config.raw):
        return "what attention over the residuals of earlier blocks gives, but for the first block"
    for name, rows in norms.items():
        if own_name(name) in EMBEDDING_NORMS and len(rows) == 1:
            return f"what {own_name(name)}, before it, makes of the block's input in layer {min(rows)}"
    return None


def divides_norms(config: Mapping[str, Any]) -> bool:
    """Whether config.json names a quantiser that divides norms by scales, which the layers after them multiply by."""
    quantised = config.get("quantization_config")
    return isinstance(quantised, Mapping) and quantised.get("quant_method") == "awq"


def notes_on(
    name: str, heads: Collection[int], fed_with: str | None, kinds: Collection[str], config: ModelConfig
) -> Iterator[str]:
    """What a reader should know of a stack beside its sites.

    Args:
        name: Its name.
        heads: Blocks that are left out, since they predict further tokens.
        fed_with: What :func:`fed_with_what` gives.
        kinds: Names of all tensors in the blocks.
        config: What config.json says.
    """
    for layer in sorted(heads):
        yield f"multi-token-prediction head {name}.{layer} left out"
    if fed_with is not None:
        yield f"the norm on the input in {name} is fed with {fed_with}"
    if config.raw.get("normalization_type") == "no_norm":  # MobileBERT
        yield f"config.json says no_norm: γ multiplies what comes in as it is in {name}, nothing is normalised before"
    if divides_norms(config.whole):
        yield "AWQ has divided norms by the scales of what follows them: γ here is not the original model's"
    if hybrid := next((kind for kind in kinds if _HYBRID.search(kind)), None):
        yield (
            f"hybrid blocks of {name} begin with a shared attention block, fed with input and embeddings side by side; "
            f"{hybrid.rpartition('.')[0]} stands on the input plus what that block gives"
        )
