"""From keys to blocks and norms, whatever wrappers and leaves they have."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch.architectures.keys import group_keys
from gammatorch.architectures.select import select
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import TensorEntry
from gammatorch.errors import MalformedCheckpoint
from tests.architectures.headers import LLAMA, checkpoint_of, llama

NAMES = [
    "layers",
    "h",
    "0",
    "1",
    "12",
    "007",
    "norm",
    "norm_1",
    "norm_2",
    "ln.1",
    "a\nb",
    "é",
    "٣",
    "_orig_mod",
    "",
    "9" * 5000,
]


LEAVES = ["weight", "gamma", "bias", "norm.weight", "scale"]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(NAMES), max_size=5), st.sampled_from(LEAVES), st.integers(0, 3))),
)
def test_keys_taken_together_are_grouped_as_one_by_one(made):
    entries = {}
    for parts, leaf, dimensions in made:
        key = ".".join([*parts, leaf])
        entries[key] = TensorEntry(key, "F32", (2,) * dimensions, "f", 0, 4 * 2**dimensions)
    found = [group_keys({key: entry}) for key, entry in entries.items()]
    places = [
        (stack, layer, name)
        for _, each in found
        for stack in each
        for name in each[stack]
        for layer in each[stack][name]
    ]
    if len(set(places)) < len(places):
        with pytest.raises(MalformedCheckpoint, match="stands for layer"):
            group_keys(entries)
        return
    blocks, norms = group_keys(entries)
    expected = {
        (stack, layer, name)
        for each, _ in found
        for stack in each
        for layer in each[stack]
        for name in each[stack][layer]
    }
    assert {
        (stack, layer, name) for stack in blocks for layer in blocks[stack] for name in blocks[stack][layer]
    } == expected
    for stack, layer, name in expected:
        rows = {entry for _, each in found for entry in [each.get(stack, {}).get(name, {}).get(layer)] if entry}
        row = norms.get(stack, {}).get(name, {}).get(layer)
        assert row in rows if rows else row is None
    for _, each in found:
        assert all(name in norms[stack] for stack in each for name in each[stack])


@pytest.mark.parametrize(
    ("key", "stack", "layer", "name"),
    [
        ("model.layers.12.norm.weight", "model.layers", 12, "norm.weight"),
        ("layer1.3.layer.0.ln_1.weight", "layer1", 3, "layer.0.ln_1.weight"),
        ("0.norm.weight", "", 0, "norm.weight"),
        ("m._orig_mod.h.7._orig_mod.norm.weight", "m.h", 7, "norm.weight"),
        ("transformer.layer_norm1.3.weight", "transformer", 3, "layer_norm1.weight"),
    ],
)
def test_the_layer_is_the_first_number_of_a_key(key, stack, layer, name):
    blocks, norms = group_keys({key: (entry := TensorEntry(key, "F32", (2,), "f", 0, 8))})
    assert blocks == {stack: {layer: {name}}} and norms == {stack: {name: {layer: entry}}}


def test_a_number_too_long_for_a_layer_is_none():
    assert group_keys({f"h.{'9' * 5000}.norm.weight": TensorEntry("x", "F32", (2,), "f", 0, 8)}) == ({}, {})


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.model.", "module.model.", "base_model.model.model."])
def test_the_prefix_of_the_keys_does_not_matter(prefix):
    checkpoint = checkpoint_of(llama(12, prefix), LLAMA.replace("3", "12"))
    selection = select(checkpoint)
    assert [entry.key for entry in selection.entries] == [
        f"{prefix}layers.{n}.input_layernorm.weight" for n in range(12)
    ]
    assert select(checkpoint, "final").entries[0].key == f"{prefix}norm.weight"


@pytest.mark.parametrize(
    "wrapped", ["_orig_mod.model.layers.{}", "model.layers.{}._orig_mod", "model._orig_mod.layers.{}"]
)
def test_what_compiling_adds_to_names_is_looked_through(wrapped):
    shapes = {f"{wrapped.format(layer)}.input_layernorm.weight": (4,) for layer in range(3)}
    selection = select(checkpoint_of(shapes, LLAMA))
    assert (selection.site, selection.layers) == ("input", (0, 1, 2))
    assert [entry.key for entry in selection.entries] == list(shapes)


def test_gains_may_be_called_gamma_or_scale():
    for leaf in ("gamma", "scale"):
        shapes = {f"bert.encoder.layer.{n}.attention.output.LayerNorm.{leaf}": (4,) for n in range(3)}
        assert select(checkpoint_of(shapes, LLAMA.replace("llama", "bert"))).site == "post_attention"


def test_a_norm_with_a_gate_is_the_same_norm_as_one_without():
    shapes = llama()
    del shapes["model.layers.1.post_attention_layernorm.weight"]
    checkpoint = checkpoint_of(shapes | {"model.layers.1.post_attention_layernorm.norm.weight": (4,)}, LLAMA)
    selection = select(checkpoint, "pre_mlp")
    assert [entry.key.split(".")[3:] for entry in selection.entries] == [
        ["post_attention_layernorm", "weight"],
        ["post_attention_layernorm", "norm", "weight"],
        ["post_attention_layernorm", "weight"],
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("layers.1.norm.weight", "layers.01.norm.weight"),
        ("_orig_mod.layers.1.norm.weight", "layers.1.norm.weight"),
        ("h.layer_1.norm.weight", "h.layer.1.norm.weight"),
    ],
)
def test_two_tensors_for_one_layer_are_an_error_that_names_both(one, other):
    shapes = {f"layers.{n}.norm.weight": (4,) for n in (0, 2)} | {one: (4,), other: (4,)}
    with pytest.raises(MalformedCheckpoint, match="stands for layer 1 as .* does") as caught:
        select(checkpoint_of(shapes))
    assert one in str(caught.value) and other in str(caught.value)
    with pytest.raises(MalformedCheckpoint, match="stands for layer 1 as"):
        select(checkpoint_of(shapes), pattern=one.replace("01", "{layer}").replace("1", "{layer}"))


def test_a_norm_under_two_names_is_two_tensors_for_one_layer():
    shapes = llama() | {"model.layers.1.input_layernorm.norm.weight": (4,)}
    with pytest.raises(MalformedCheckpoint, match="stands for layer 1 as model.layers.1.input_layernorm"):
        select(checkpoint_of(shapes, LLAMA))


def test_digits_of_other_alphabets_count_no_layers():
    shapes = llama() | {"model.layers.١.input_layernorm.weight": (4,)}
    assert [entry.key for entry in select(checkpoint_of(shapes, LLAMA)).entries] == [
        f"model.layers.{n}.input_layernorm.weight" for n in range(3)
    ]


def test_blocks_in_chunks_are_one_stack_that_a_pattern_can_name():
    shapes = {f"backbone.blocks.{n // 3}.{n}.{name}.weight": (4,) for n in range(6) for name in ("norm1", "norm2")}
    shapes |= {"backbone.norm.weight": (4,), "backbone.patch_embed.proj.bias": (4,)}
    checkpoint = checkpoint_of(shapes)
    selection = select(checkpoint)
    assert (selection.stack, selection.site, selection.layers) == ("backbone.blocks.*", "input", tuple(range(6)))
    assert select(checkpoint, pattern=selection.pattern).entries == selection.entries
    assert select(checkpoint, "final").entries[0].key == "backbone.norm.weight"
    begun_anew = {re.sub(r"1\.([345])\.", lambda found: f"1.{int(found[1]) - 3}.", key): (4,) for key in shapes}
    assert select(checkpoint_of(begun_anew)).stack == "backbone.blocks.1"


@pytest.mark.parametrize("shape", [(1, 4), (4, 1, 1), (1, 1, 4), (1, 4, 1, 1)])
@pytest.mark.parametrize("which", ["input_layernorm", "norm", ""])
def test_a_row_of_values_is_a_gain_whatever_extents_of_one_stand_around_it(shape, which):
    """As norms over channels of images have them, and files whose tensors were all brought to one rank."""
    shapes = {
        key: shape if key.endswith(f"{which}.weight") and "mlp" not in key else old for key, old in llama().items()
    }
    (stack,) = find_stacks(checkpoint_of(shapes))
    assert [site.place for site in stack.sites] == ["input", "pre_mlp", "final"]
    gains = gammatorch.read_gains(checkpoint_of(shapes), device="cpu")
    assert (gains.site, tuple(gains.gamma.shape)) == ("input", (3, 4))
