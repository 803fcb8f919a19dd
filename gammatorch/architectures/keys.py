"""From the keys of a checkpoint to its blocks, and to the tensors in them that are norms by their name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from gammatorch.checkpoints.base import TensorEntry
from gammatorch.errors import MalformedCheckpoint

LEAVES = (".weight", ".gamma", ".scale", ".w", ".g")
"""Last names of gains."""

_FUSED = ".layer_norm_weight"
"""Leaf of a norm that Transformer Engine keeps within the layer that it feeds."""

Rows = dict[int, TensorEntry]
"""Tensors by layer."""

_BARE_LEAVES = frozenset(leaf[1:] for leaf in LEAVES)
_INDEX = re.compile(r"(?:^|(?<=\.))[0-9]{1,9}(?=\.)")
_NORM = re.compile(r"norm|(?:^|[._])ln(?:[._]|\d|$)|^hc_", re.IGNORECASE)
SLOTS = ("pre_branch_norm", "post_branch_norm", "post_main_norm")
"""What x-transformers calls the norms of a sub-layer, of which its files have the number alone."""

_WRAPPERS = re.compile(
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|modules_to_save\.[^.]+)\."
    r"|(?P<joined>(?:^|(?<=\.))(?:encoder_layer|encoderblock|layers?|blocks?|h))_(?=(?:[0-9]{1,9}|\{layer\})\.)"
    r"|(?<=attn_layers\.layers\.)(?P<sub_layer>[0-9]{1,9}|\{layer\})\.0\.(?P<slot>[012])\.(?=[a-z]+$)"
)
"""What torch.compile, FSDP, activation checkpointing and PEFT put into names; what joins the name of a block to its
index, as torchvision and Flax have it (``encoder_layer_0``); and x-transformers' numbers of a sub-layer's norms."""

_TIME_STEP = re.compile(
    r"(^|\.)(adaln\w*|scale_shift_table|modulation|t_embedder|time_?(step_)?embed\w*|time_in)(\.|$)", re.IGNORECASE
)
"""What brings a diffusion model's time step into it."""

_BEFORE_BLOCKS = re.compile(r"emb|patch|stem|token|pre_?(norm|ln|layer)|(norm|ln)_?pre", re.IGNORECASE)
"""Norms outside of blocks that stand before the first one."""

_ON_EMBEDDINGS = re.compile(r"emb|token|^input_(layer)?norm", re.IGNORECASE)
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


def group_keys(
    entries: Mapping[str, TensorEntry],
) -> tuple[dict[str, dict[int, set[str]]], dict[str, dict[str, Rows]]]:
    """Blocks of each stack with the names in them, and its norms.

    The layer is the first whole-number part of a key, the stack what stands before it, the name what comes after.

    Returns:
        Names by stack and layer; norms by stack, name and layer.
    """
    blocks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    norms: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(dict))
    for keys in _alike(list(entries)):
        plain = [unwrapped(key) for key in keys] if is_wrapped(keys[0]) else keys
        index = _INDEX.search(plain[0])
        if index is None:
            continue
        start, stop = index.span()
        rest = plain[0][stop + 1 :]
        may_be_norms = rest in _BARE_LEAVES or any(is_norm(rest, dimensions) for dimensions in (1, 2))
        by_block: dict[str, dict[str, str]] = defaultdict(dict)
        for key, name in zip(keys, plain, strict=True):
            before = by_block[name[:stop]].setdefault(name[stop + 1 :], key)
            if before != key and may_be_norms:  # with and without what a wrapper adds
                raise two_for_one(int(name[start:stop]), entries[before], entries[key])
        for block, names in by_block.items():
            stack, layer = block[:start].rstrip("."), int(block[start:])
            if rest in _BARE_LEAVES:  # XLM: a list of norms beside the list of attentions
                stack, _, name = stack.rpartition(".")
                names = {f"{name}.{rest}": names[rest]}
            blocks[stack][layer].update(names)
            for name, key in names.items() if may_be_norms else ():
                if is_norm(name, entries[key].dimensions):
                    twin = norms[stack][name].setdefault(layer, entries[key])
                    if twin.key != entries[key].key:
                        raise two_for_one(layer, twin, entries[key])
    return blocks, norms


def two_for_one(layer: int, one: TensorEntry, other: TensorEntry) -> MalformedCheckpoint:
    """The error for two tensors that stand for the same norm of a layer."""
    return MalformedCheckpoint(
        f"stands for layer {layer} as {other.key} does, and only one of them can be its norm: remove the other",
        file=one.file,
        tensor=one.key,
    )


def is_wrapped(key: str) -> bool:
    """Whether wrappers put something into a key."""
    return _WRAPPERS.search(key) is not None


def unwrapped(key: str) -> str:
    """A key without what wrappers put into it, with its layer's index as a part of its own, and names for numbers.

    Example:
        >>> unwrapped("_orig_mod.transformer.h.0.ln_1.weight"), unwrapped("encoder.layers.encoder_layer_0.ln_1.weight")
        ('transformer.h.0.ln_1.weight', 'encoder.layers.encoder_layer.0.ln_1.weight')
        >>> unwrapped("attn_layers.layers.3.0.0.g")
        'attn_layers.layers.3.pre_branch_norm.g'
    """
    return _WRAPPERS.sub(_plainly, key)


def _plainly(found: re.Match[str]) -> str:
    if found["slot"]:
        return f"{found['sub_layer']}.{SLOTS[int(found['slot'])]}."
    return f"{found['joined']}." if found["joined"] else ""


def may_end_elsewhere(entries: Mapping[str, TensorEntry]) -> bool:
    """Whether a norm in no block, which does not stand before the first one, may be the final one of another name."""
    outside = (key for key, entry in entries.items() if not _INDEX.search(key) and is_norm(key, entry.dimensions))
    return not all(map(_BEFORE_BLOCKS.search, outside))


def norms_embeddings(keys: Iterable[str]) -> bool:
    """Whether a norm in no block stands on the embeddings, or on what comes in before the first block.

    Example:
        >>> norms_embeddings(["token_embd_norm.weight", "output_norm.weight"]), norms_embeddings(["norm.weight"])
        (True, False)
    """
    outside = (key for key in keys if _INDEX.search(key) is None and is_norm(key, 1))
    return any(_ON_EMBEDDINGS.search(key) for key in outside)


def embeds_patches(stack: str, keys: Iterable[str]) -> bool:
    """Whether what stands beside a stack embeds the patches of an image for it.

    Example:
        >>> embeds_patches("encoder.blocks", ["encoder.patch_embed.proj.weight"]), embeds_patches("blocks", ["embed.0"])
        (True, False)
    """
    return any(key.startswith(f"{stack.rpartition('.')[0]}.patch_embed.".removeprefix(".")) for key in keys)


def is_conditioned(keys: Iterable[str]) -> bool:
    """Whether the model is told a time step, as diffusion models are: the norm after their last block is modulated by
    it and has no weights of its own, so that it is missing says nothing about the blocks."""
    return any(map(_TIME_STEP.search, keys))


def _alike(keys: Sequence[str]) -> Iterable[list[str]]:
    """The keys that differ in nothing but digits, together: their parts stand at the same places."""
    forms = "\n".join(keys).encode("utf-8", "surrogatepass").translate(_DIGITS).split(b"\n")
    if len(forms) != len(keys):  # a key holds a line break
        forms = [key.encode("utf-8", "surrogatepass").translate(_DIGITS) for key in keys]
    alike: dict[bytes, list[str]] = defaultdict(list)
    for form, key in zip(forms, keys, strict=True):
        alike[form].append(key)
    return alike.values()


def is_list_of_norms(blocks: Mapping[int, Collection[str]], norms: Mapping[str, Rows]) -> bool:
    """Whether a stack is no more than numbered norms (``norms.0.weight``), as those that follow the stages of another
    stack are: no blocks.
    """
    keys = (entry.key for rows in norms.values() for entry in rows.values())
    listed = {own_name(name) for name in norms}
    return all(key.split(".")[-2].isdecimal() for key in keys) and all(
        name.rpartition(".")[0] in listed for names in blocks.values() for name in names
    )


@lru_cache(maxsize=65_536)  # the blocks of a stack repeat the same few names
def is_norm(rest: str, dimensions: int) -> bool:
    """Whether a name is a norm's; with two dimensions, a gain per head, only by its last part: gates are matrices."""
    if not rest.endswith((*LEAVES, _FUSED)) or dimensions not in (1, 2):
        return False
    name = own_name(rest) if dimensions == 1 else rest.split(".")[-2]
    return _NORM.search(name) is not None


def own_name(rest: str) -> str:
    """The norm's name without the leaf; ``input_layernorm.norm`` is an ``input_layernorm`` with a gate or the like."""
    name = rest.removesuffix("_weight") if rest.endswith(_FUSED) else rest.rpartition(".")[0]
    stem, _, last = name.rpartition(".")
    return stem if last == "norm" and _NORM.search(stem) else name


def is_batch_norm(name: str, kinds: Collection[str]) -> bool:
    """Whether a norm of a block is one over the batch, by the running mean beside it: it stands on channels of a
    convolution, at no place of a block."""
    return f"{name}.running_mean" in kinds
