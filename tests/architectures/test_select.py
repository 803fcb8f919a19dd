"""Choosing tensors by site, stack and pattern, on headers alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

import gammatorch
from gammatorch import errors
from gammatorch.architectures.keys import group_keys
from gammatorch.architectures.match import find_stacks
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.checkpoints.opening import open_source
from tests.sources import MemorySource


def checkpoint_of(shapes: dict[str, tuple[int, ...]], config: str | None = None) -> Checkpoint:
    contents = {"model.safetensors": save({key: np.ones(shape, np.float32) for key, shape in shapes.items()})}
    if config is not None:
        contents["config.json"] = config.encode()
    return open_source(MemorySource(contents))


def llama(layers: int = 3, prefix: str = "model.", width: int = 4) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}norm.weight": (width,)}
    for layer in range(layers):
        block = f"{prefix}layers.{layer}"
        shapes[f"{block}.input_layernorm.weight"] = (width,)
        shapes[f"{block}.post_attention_layernorm.weight"] = (width,)
        shapes[f"{block}.mlp.down_proj.weight"] = (width, width)
    return shapes


LLAMA = '{"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 4}'
PATTERN = "model.layers.{layer}.input_layernorm.weight"


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.model.", "module.model.", "base_model.model.model."])
def test_the_prefix_of_the_keys_does_not_matter(prefix):
    checkpoint = checkpoint_of(llama(12, prefix), LLAMA.replace("3", "12"))
    selection = select(checkpoint)
    assert [entry.key for entry in selection.entries] == [
        f"{prefix}layers.{n}.input_layernorm.weight" for n in range(12)
    ]
    assert select(checkpoint, "final").entries[0].key == f"{prefix}norm.weight"


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


@settings(deadline=None, max_examples=1000)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(NAMES), max_size=5), st.sampled_from(LEAVES), st.integers(0, 3))),
)
def test_keys_taken_together_are_grouped_as_one_by_one(made):
    entries = {}
    for parts, leaf, dimensions in made:
        key = ".".join([*parts, leaf])
        entries[key] = TensorEntry(key, "F32", (2,) * dimensions, "f", 0, 4 * 2**dimensions)
    blocks, norms = group_keys(entries)
    found = [group_keys({key: entry}) for key, entry in entries.items()]
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


def test_a_missing_layer_is_named():
    shapes = {key: shape for key, shape in llama().items() if ".1." not in key}
    with pytest.raises(
        errors.IncompleteCheckpoint, match=r"layer 1 of stack 'model.layers' missing \(config.json says 3"
    ):
        select(checkpoint_of(shapes, LLAMA))
    with pytest.raises(
        errors.IncompleteCheckpoint, match=r"layer 1 of stack 'model.layers' missing \(the last one is 2"
    ):
        select(checkpoint_of(shapes))


def test_a_layer_without_the_norm_is_named():
    shapes = llama()
    del shapes["model.layers.1.input_layernorm.weight"]
    checkpoint = checkpoint_of(shapes, LLAMA)
    with pytest.raises(
        errors.IncompleteCheckpoint, match=r"model.layers.1.input_layernorm.weight: layer 1 has no tensor"
    ):
        select(checkpoint)
    by_pattern = select(checkpoint, pattern=PATTERN)
    assert by_pattern.layers == (0, 2)
    assert by_pattern.notes == ("no tensor for layer 1",)


def test_differing_widths_are_refused():
    shapes = llama() | {"model.layers.2.input_layernorm.weight": (5,)}
    with pytest.raises(
        errors.WidthMismatch, match=r"model.safetensors: model.layers.2.input_layernorm.weight: holds 5"
    ):
        select(checkpoint_of(shapes, LLAMA))
    with pytest.raises(errors.WidthMismatch, match="holds 5 values where"):
        select(checkpoint_of(shapes), pattern=PATTERN)


def test_layers_of_a_multi_token_prediction_head_are_left_out_and_mentioned():
    shapes = llama(4)
    shapes |= {f"model.layers.3.{name}.weight": (4,) for name in ("enorm", "hnorm")}
    selection = select(checkpoint_of(shapes, LLAMA))
    assert selection.layers == (0, 1, 2)
    assert selection.notes == ("multi-token-prediction head model.layers.3 left out",)


def test_an_unknown_type_is_read_by_its_names_with_a_note():
    gains = gammatorch.read_gains(checkpoint_of(llama(), LLAMA.replace("llama", "novel")), device="cpu")
    assert gains.site == "input" and gains.offset == 0
    assert gains.notes[0].startswith("model type 'novel' is not among the known ones: offset taken as 0")
    assert "(mean 1, 0.0% below zero)" in gains.notes[0]


def test_names_that_do_not_tell_are_refused_with_the_pattern_to_pass():
    shapes = {f"model.layers.{layer}.extra_norm.weight": (4,) for layer in range(3)}
    checkpoint = checkpoint_of(shapes, LLAMA.replace("llama", "novel"))
    with pytest.raises(
        errors.SiteNotFound, match=r"there are model.layers.\{layer\}.extra_norm.weight\): pass --pattern '"
    ):
        select(checkpoint)
    assert select(checkpoint, pattern="model.layers.{layer}.extra_norm.weight").layers == (0, 1, 2)


def two_stacks() -> dict[str, tuple[int, ...]]:
    tower = {f"vision_tower.encoder.layers.{layer}.input_layernorm.weight": (8,) for layer in range(5)}
    return llama(prefix="language_model.model.") | tower


def test_the_text_stack_is_the_main_one_and_the_other_has_a_name():
    checkpoint = checkpoint_of(two_stacks(), '{"model_type": "llava", "text_config": ' + LLAMA + "}")
    main, tower = find_stacks(checkpoint)
    assert (main.name, main.main, tower.name, tower.main) == (
        "language_model.model.layers",
        True,
        "vision_tower.encoder.layers",
        False,
    )
    assert select(checkpoint).stack == main.name
    assert select(checkpoint, pattern="vision_tower.encoder.layers.{layer}.input_layernorm.weight").layers == (
        0,
        1,
        2,
        3,
        4,
    )
    assert select(checkpoint, stack="vision").layers == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("audio", r"no stack has 'audio' in their name: pass --stack with one of"),
        ("layers", r"several stacks have 'layers'"),
    ],
)
def test_a_stack_is_named_without_doubt_or_refused(name, message):
    with pytest.raises(errors.StackNotFound, match=message):
        select(checkpoint_of(two_stacks()), stack=name)


def test_a_site_the_model_lacks_is_refused_with_those_it_has():
    with pytest.raises(errors.SiteNotFound, match=r"no learned norm at site 'query' .* one of input \(model.layers"):
        select(checkpoint_of(llama(), LLAMA), "query")
    with pytest.raises(errors.InvalidArgument, match="there is no site 'middle': pass auto, input"):
        select(checkpoint_of(llama(), LLAMA), "middle")


def test_no_norms_at_all_is_an_error():
    with pytest.raises(errors.SiteNotFound, match="no norm in any numbered block"):
        select(checkpoint_of({"linear.weight": (2, 2)}))


def test_a_pattern_knows_its_site_and_its_offset():
    gemma = LLAMA.replace("llama", "gemma")
    selection = select(checkpoint_of(llama(), gemma), pattern=PATTERN)
    assert (selection.site, selection.offset, selection.stack) == ("input", 1.0, "model.layers")
    matrix = select(checkpoint_of(llama(), gemma), pattern="model.layers.{layer}.mlp.down_proj.weight")
    assert (matrix.site, matrix.offset, matrix.entries[0].width) == ("pattern", 0.0, 16)


@pytest.mark.parametrize("pattern", ["model.norm.weight", "{layer}.{layer}", ""])
def test_a_pattern_holds_the_layer_once(pattern):
    with pytest.raises(errors.InvalidArgument, match="once"):
        select(checkpoint_of(llama(), LLAMA), pattern=pattern)


def test_a_pattern_that_matches_nothing_names_the_closest():
    with pytest.raises(errors.SiteNotFound, match=r"closest: model.layers.\{layer\}.input_layernorm.weight"):
        select(checkpoint_of(llama(), LLAMA), pattern="model.layers.{layer}.input_norm.weight")


def test_a_pattern_is_taken_literally():
    with pytest.raises(errors.SiteNotFound):
        select(checkpoint_of(llama(), LLAMA), pattern="model.layers.{layer}.input.layernorm.weight")


def test_pattern_and_site_together_are_refused():
    with pytest.raises(errors.InvalidArgument, match="not both"):
        select(checkpoint_of(llama(), LLAMA), "input", pattern=PATTERN)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("llama", "pre-norm"),
        ("phi", "pre-norm, one norm per block"),
        ("pythia", "pre-norm, attention and MLP in parallel"),
        ("gpt_neox", "pre-norm"),
        ("falcon_parallel", "pre-norm, one norm per block, attention and MLP in parallel"),
        ("gemma2", "sandwich norms"),
        ("olmo2", "output norms only"),
        ("bert", "post-LN"),
        ("opt_post", "post-LN"),
    ],
)
def test_the_layout_is_recognised(name, layout, tiny):
    assert find_stacks(gammatorch.open_checkpoint(tiny(name)))[0].layout == layout


def hybrid() -> dict[str, tuple[int, ...]]:
    """Blocks 0 and 2 are linear with an input norm, block 1 is attention with a norm on its output."""
    shapes = {key: shape for key, shape in llama().items() if ".1." not in key}
    return shapes | {"model.layers.1.post_feedforward_layernorm.weight": (4,), "model.layers.1.attn.weight": (4, 4)}


def test_a_norm_that_one_layer_has_under_another_name_is_missed_there():
    shapes = llama()
    shapes["model.layers.1.input_layermorn.weight"] = shapes.pop("model.layers.1.input_layernorm.weight")
    with pytest.raises(errors.IncompleteCheckpoint, match="layer 1 has no tensor for site 'input'"):
        select(checkpoint_of(shapes, LLAMA))


def test_blocks_of_another_kind_may_lack_the_norm_and_are_named():
    checkpoint = checkpoint_of(hybrid(), LLAMA)
    selection = select(checkpoint)
    assert selection.layers == (0, 2)
    assert selection.notes == ("layer 1 has no norm at this site",)
    assert find_stacks(checkpoint)[0].layout == "mixed: sandwich norms, not in all blocks"


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


def test_norms_per_head_are_read_head_by_head():
    shapes = llama() | {f"model.layers.{n}.self_attn.q_norm.weight": (2, 3) for n in range(3)}
    gains = gammatorch.read_gains(checkpoint_of(shapes, LLAMA), site="query", device="cpu")
    assert gains.gamma.shape == (3, 6)


def blocks_of(names: list[str], stack: str = "model.layers", layers: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{stack}.{layer}.{name}.weight": (4,) for layer in range(layers) for name in names}


def places_of(checkpoint: Checkpoint) -> dict[str, str]:
    (stack,) = find_stacks(checkpoint)
    return {site.rows[0][1].key.removeprefix(f"{stack.name}.0."): site.place for site in stack.sites}


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


def test_a_setting_that_says_pre_norm_goes_before_a_missing_final_norm():
    shapes = blocks_of(["self_attn_layer_norm", "final_layer_norm"], "model.decoder.layers")
    for before, site in ((True, "input"), (False, "post_attention")):
        config = LLAMA.replace("llama", "opt")[:-1] + f', "do_layer_norm_before": {str(before).lower()}}}'
        assert select(checkpoint_of(shapes, config)).site == site


def test_a_setting_that_says_pre_norm_goes_before_names_of_post_ln():
    shapes = blocks_of(["attention.output.LayerNorm", "output.LayerNorm"], "roberta.encoder.layer")
    shapes["roberta.encoder.LayerNorm.weight"] = (4,)
    for before, places in ((True, ["input", "pre_mlp", "final"]), (False, ["post_attention", "post_mlp", "final"])):
        config = LLAMA.replace("llama", "xmod")[:-1] + f', "pre_norm": {str(before).lower()}}}'
        assert list(places_of(checkpoint_of(shapes, config)).values()) == places


def test_the_norm_of_the_latent_that_queries_are_made_from_is_not_on_the_queries():
    shapes = blocks_of(["attn_norm", "attn.q_norm"]) | {f"model.layers.{n}.attn.wq_a.weight": (4, 4) for n in range(3)}
    assert places_of(checkpoint_of(shapes, LLAMA))["attn.q_norm.weight"] == "attn.q_norm"


def test_a_norm_between_two_attentions_is_neither_on_an_output_nor_before_the_mlp():
    shapes = blocks_of(["input_layernorm", "post_attention_layernorm", "final_layernorm"])
    assert set(places_of(checkpoint_of(shapes, LLAMA)).values()) == {"input", "pre_mlp", "post_attention_layernorm"}


def test_a_conformer_begins_with_its_first_mlp():
    shapes = blocks_of(["ffn1_layer_norm", "self_attn_layer_norm", "ffn2_layer_norm", "final_layer_norm"])
    places = places_of(checkpoint_of(shapes | {"model.layer_norm.weight": (4,)}, LLAMA))
    assert (places["ffn1_layer_norm.weight"], places["ffn2_layer_norm.weight"]) == ("input", "pre_mlp")
    assert places["final_layer_norm.weight"] == "post_mlp"


def test_one_norm_is_not_final_to_two_stacks():
    shapes = llama(prefix="") | blocks_of(["norm1", "norm2"], "blocks") | {"merger.norm.weight": (4,)}
    finals = [stack.site("final") for stack in find_stacks(checkpoint_of(shapes, LLAMA))]
    assert [final and final.pattern for final in finals] == ["norm.weight", "merger.norm.weight"]


def test_hyper_connections_are_mentioned():
    shapes = llama() | {f"model.layers.{n}.hc_attn_base": (24,) for n in range(3)}
    config = LLAMA.replace("llama", "hy_v4")[:-1] + ', "hc_mult": 4}'
    selection = select(checkpoint_of(shapes, config))
    on = "a mix of several residual streams (hyper-connections)"
    assert selection.notes == (f"the norm on the input in model.layers is fed with {on}",)
    assert selection.reason.endswith(f", here fed with {on}")


def test_what_feeds_the_norm_of_altup_is_said_with_the_reason():
    shapes = llama() | {f"model.layers.{n}.altup.router_norm.weight": (4,) for n in range(3)}
    config = LLAMA.replace("llama", "gemma3n_text")[:-1] + ', "altup_num_inputs": 4}'
    selection = select(checkpoint_of(shapes, config))
    assert selection.entries[0].key == "model.layers.0.input_layernorm.weight"
    assert selection.reason.endswith(
        "here fed with one of several residual streams, as predicted from all of them (AltUp)"
    )


def test_attention_over_residuals_is_said_with_the_reason():
    config = LLAMA[:-1] + ', "n_layers_per_attn_res_block": 2}'
    assert (
        "here fed with what attention over the residuals of earlier blocks gives"
        in select(checkpoint_of(llama(), config)).reason
    )


def test_a_norm_of_the_embeddings_in_the_first_block_is_mentioned_and_not_taken_for_its_input_norm():
    shapes = blocks_of(["ln1", "ln2"], "rwkv.blocks") | {
        "rwkv.blocks.0.pre_ln.weight": (4,),
        "rwkv.ln_out.weight": (4,),
    }
    selection = select(checkpoint_of(shapes, LLAMA.replace("llama", "rwkv")))
    assert [entry.key for entry in selection.entries] == [f"rwkv.blocks.{n}.ln1.weight" for n in range(3)]
    assert selection.reason.endswith("here fed with what pre_ln, before it, makes of the block's input in layer 0")


def test_hybrid_blocks_that_begin_with_a_shared_block_have_no_norm_on_their_input_alone():
    shapes = {key: shape for key, shape in blocks_of(["input_layernorm", "mamba.x_proj"]).items() if ".1." not in key}
    shared = (
        ("shared_transf.input_layernorm", 8),
        ("mamba_decoder.input_layernorm", 4),
        ("mamba_decoder.mamba.x_proj", 4),
    )
    shapes |= {f"model.layers.1.{name}.weight": (width,) for name, width in shared}
    selection = select(checkpoint_of(shapes, LLAMA.replace("llama", "zamba")))
    assert selection.layers == (0, 2)
    assert "mamba_decoder.input_layernorm stands on the input plus what that block gives" in selection.notes[0]
    assert selection.notes[1] == "layer 1 has no norm at this site"


@pytest.mark.parametrize(
    ("model_type", "setting"),
    [("minimax", ""), ("bloom", ', "apply_residual_connection_post_layernorm": true'), ("novel", ', "postnorm": true')],
)
def test_where_the_residual_is_normed_the_norm_after_attention_stands_after_its_residual(model_type, setting):
    checkpoint = checkpoint_of(llama(), LLAMA.replace("llama", model_type)[:-1] + setting + "}")
    (stack,) = find_stacks(checkpoint)
    assert [site.place for site in stack.sites] == ["input", "post_attention", "final"]
    assert stack.layout == "norms on the residual stream"


def test_stacks_that_may_be_the_main_one_as_well_are_named():
    shapes = llama(prefix="global.") | llama(2, prefix="local.")
    selection = select(checkpoint_of(shapes, LLAMA))
    assert selection.stack == "global.layers"
    assert selection.notes == (
        "global.layers is taken for the main stack, local.layers may be as well: --stack reads one of them",
    )
    assert select(checkpoint_of(shapes, LLAMA), stack="local").notes == ()
    assert select(checkpoint_of(two_stacks(), LLAMA)).notes == ()


def swin() -> dict[str, tuple[int, ...]]:
    shapes = {
        f"encoder.layers.{stage}.blocks.{n}.layernorm_before.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)
    }
    return shapes | {"encoder.layers.0.downsample.norm.weight": (16,), "layernorm.weight": (8,)}


def test_a_stage_is_a_stack_and_without_one_named_the_stages_are_listed():
    checkpoint = checkpoint_of(swin(), '{"model_type": "swin"}')
    with pytest.raises(
        errors.SiteNotFound, match=r"pass --stack with one of encoder.layers.0.blocks, encoder.layers.1.blocks$"
    ):
        select(checkpoint)
    for stage in (0, 1):
        selection = select(checkpoint, stack=f"encoder.layers.{stage}.blocks")
        assert (selection.site, selection.layers) == ("input", (0, 1))
        assert {entry.width for entry in selection.entries} == {4 << stage}
    assert select(checkpoint, pattern="encoder.layers.1.blocks.{layer}.layernorm_before.weight").site == "input"
    outer, *stages = find_stacks(checkpoint)
    assert (outer.main, [stage.main for stage in stages]) == (True, [False, False])
    assert [site.place for site in outer.sites] == ["final", "downsample.norm"]
    assert outer.stages == tuple(stage.name for stage in stages)


def test_stages_of_swin_v2_norm_what_their_sub_layers_give():
    scale = {f"encoder.layers.{stage}.blocks.{n}.attention.self.logit_scale": (1,) for stage in (0, 1) for n in (0, 1)}
    selection = select(checkpoint_of(swin() | scale, '{"model_type": "swinv2"}'), stack="encoder.layers.0.blocks")
    assert selection.site == "post_attention"


def test_norms_over_the_batch_stand_at_no_place():
    shapes = blocks_of(["norm1"]) | {f"model.layers.{n}.norm1.running_mean": (4,) for n in range(3)}
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint_of(shapes, LLAMA))
    shapes = {f"network.{n}.blocks.0.norm1.{leaf}": (4,) for n in (0, 1) for leaf in ("weight", "running_mean")}
    assert [stack.name for stack in find_stacks(checkpoint_of(shapes))] == ["network"]


def test_stages_may_stand_between_blocks_without_stages():
    shapes = {f"network.{stage}.blocks.0.norm1.weight": (4 + stage,) for stage in (0, 2)}
    checkpoint = checkpoint_of(shapes | {"network.1.norm.weight": (9,)})
    with pytest.raises(errors.SiteNotFound, match=r"pass --stack with one of network.0.blocks, network.2.blocks$"):
        select(checkpoint)
    assert select(checkpoint, stack="network.2.blocks").entries[0].width == 6


def test_a_stack_of_prediction_heads_alone_has_no_norm_to_read():
    shapes = blocks_of(["enorm", "hnorm", "input_layernorm"], layers=1)
    with pytest.raises(errors.SiteNotFound, match="no norm in the blocks of stack 'model.layers'"):
        select(checkpoint_of(shapes))


def test_a_norm_after_each_stage_does_not_make_blocks_of_stages():
    shapes = {
        f"encoder.layers.{stage}.blocks.{n}.layer_norm_1.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)
    }
    shapes |= {f"encoder.layers.{stage}.layer_norm.weight": (4 << stage,) for stage in (0, 1)}
    checkpoint = checkpoint_of(shapes, '{"model_type": "pvt_v2"}')
    with pytest.raises(errors.SiteNotFound, match="holds stages with blocks of their own"):
        select(checkpoint)
    assert select(checkpoint, stack="encoder.layers.1.blocks").site == "input"


def test_a_norm_after_a_depthwise_convolution_is_not_on_the_input():
    for name in ("norm", "layer_norm"):
        shapes = blocks_of([name, "depthwise_conv"]) | {"model.norm.weight": (4,)}
        with pytest.raises(errors.SiteNotFound, match=r"do not tell .*there are model.layers.\{layer\}"):
            select(checkpoint_of(shapes, LLAMA))
    shapes = {
        f"stages.{stage}.layers.0.{name}.weight": (4,) for stage in (0, 1) for name in ("layer_norm", "depthwise_conv")
    }
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint_of(shapes))


@pytest.mark.parametrize(("stable", "site"), [("true", "input"), ("false", "post_attention")])
def test_a_setting_of_an_encoder_counts_wherever_config_json_holds_it(stable, site):
    shapes = llama(prefix="decoder.") | blocks_of(["layer_norm", "final_layer_norm"], "encoder.encoder.layers")
    config = f'{{"model_type": "x", "decoder": {LLAMA}, "encoder": {{"do_stable_layer_norm": {stable}}}}}'
    stack = next(stack for stack in find_stacks(checkpoint_of(shapes, config)) if not stack.main)
    assert stack.sites[0].place == site


def test_a_decoder_of_detections_is_post_ln_although_a_norm_follows_it():
    shapes = blocks_of(["self_attn_layer_norm", "final_layer_norm"], "model.decoder.layers")
    shapes |= blocks_of(["norm1", "norm2"], "model.backbone.0.body.encoder.layer", 2)
    shapes |= {"model.decoder.layernorm.weight": (4,), "model.backbone.0.body.layernorm.weight": (4,)}
    decoder, _, backbone = find_stacks(checkpoint_of(shapes, '{"model_type": "rf_detr", "decoder_layers": 3}'))
    assert [site.place for site in decoder.sites] == ["post_attention", "post_mlp", "final"]
    assert decoder.layout == "post-LN"
    assert backbone.name == "model.backbone.0.body.encoder.layer"
    assert [site.place for site in backbone.sites] == ["input", "pre_mlp", "final"]


def test_of_three_norms_the_second_stands_at_cross_attention():
    shapes = blocks_of(["norm1", "norm2", "norm3"])
    assert places_of(checkpoint_of(shapes, LLAMA)) == {
        "norm1.weight": "post_attention",
        "norm3.weight": "post_mlp",
        "norm2.weight": "norm2",
    }
    assert places_of(checkpoint_of(shapes | {"model.norm.weight": (4,)}, LLAMA)) == {
        "norm1.weight": "input",
        "norm3.weight": "pre_mlp",
        "norm2.weight": "norm2",
        "model.norm.weight": "final",
    }


def test_what_config_json_says_of_a_decoder_is_not_held_against_an_encoder():
    shapes = blocks_of(["norm_feed_forward1", "norm_self_att"], "encoder.layers", 5)
    config = '{"model_type": "parakeet_tdt", "num_decoder_layers": 2}'
    assert select(checkpoint_of(shapes, config)).layers == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("side", ["prompts_generator.decoder", "predictor.layer", "patcher.layers"])
def test_what_stands_beside_the_model_is_not_the_main_stack(side):
    shapes = blocks_of(["norm1", "norm2"], side, 9) | blocks_of(["norm1", "norm2"], "encoder.layer")
    assert find_stacks(checkpoint_of(shapes))[0].name == "encoder.layer"


def test_stages_may_be_lists_of_lists():
    shapes = {f"encoder.block.{stage}.{n}.layer_norm_1.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)}
    selection = select(checkpoint_of(shapes, '{"model_type": "pvt"}'), stack="encoder.block.1")
    assert (selection.site, selection.layers) == ("input", (0, 1))


def test_a_plain_name_alone_tells_no_place():
    checkpoint = checkpoint_of(blocks_of(["LayerNorm"]), LLAMA)
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint)
    assert places_of(checkpoint_of(blocks_of(["ln_1", "LayerNorm"]) | {"model.norm.weight": (4,)}, LLAMA)) == {
        "ln_1.weight": "input",
        "LayerNorm.weight": "pre_mlp",
        "model.norm.weight": "final",
    }


def test_an_adapter_has_no_norms_of_its_own():
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A.weight" for layer in range(2)]
    with pytest.raises(errors.SiteNotFound, match="LoRA adapter.*pass that model"):
        select(checkpoint_of(dict.fromkeys(names, (2, 4))))


def test_parameters_that_are_kept_elsewhere_are_no_gains():
    with pytest.raises(errors.MalformedCheckpoint, match=r"layers.0.input_layernorm.weight: is empty.*zero_to_fp32"):
        select(checkpoint_of({f"model.layers.{layer}.input_layernorm.weight": (0,) for layer in range(2)}))
