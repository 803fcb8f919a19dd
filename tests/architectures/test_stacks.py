"""The stacks of a checkpoint: the main one, towers, and stages within blocks."""

from __future__ import annotations

import pytest

from gammatorch import errors
from gammatorch.architectures.select import select
from gammatorch.architectures.stacks import find_stacks
from tests.architectures.headers import LLAMA, blocks_of, checkpoint_of, llama, two_stacks


def swin() -> dict[str, tuple[int, ...]]:
    shapes = {
        f"encoder.layers.{stage}.blocks.{n}.layernorm_before.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)
    }
    return shapes | {"encoder.layers.0.downsample.norm.weight": (16,), "layernorm.weight": (8,)}


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


def test_one_norm_is_not_final_to_two_stacks():
    shapes = llama(prefix="") | blocks_of(["norm1", "norm2"], "blocks") | {"merger.norm.weight": (4,)}
    finals = [stack.site("final") for stack in find_stacks(checkpoint_of(shapes, LLAMA))]
    assert [final and final.pattern for final in finals] == ["norm.weight", "merger.norm.weight"]


def test_stacks_that_may_be_the_main_one_as_well_are_named():
    shapes = llama(prefix="global.") | llama(2, prefix="local.")
    selection = select(checkpoint_of(shapes, LLAMA))
    assert selection.stack == "global.layers"
    assert selection.notes == (
        "global.layers is taken for the main stack, local.layers may be as well: --stack reads one of them",
    )
    assert select(checkpoint_of(shapes, LLAMA), stack="local").notes == ()
    assert select(checkpoint_of(two_stacks(), LLAMA)).notes == ()


def test_the_longest_stage_is_the_main_one_and_what_is_read_says_so():
    shapes = swin() | {"encoder.layers.0.blocks.2.layernorm_before.weight": (4,)}
    checkpoint = checkpoint_of(shapes, '{"model_type": "swin", "depths": [3, 2], "num_layers": 2, "hidden_size": 8}')
    selection = select(checkpoint)
    assert (selection.stack, selection.site, selection.layers) == ("encoder.layers.0.blocks", "input", (0, 1, 2))
    assert selection.reason.endswith("; stack encoder.layers.0.blocks, the main one of 2 stages")
    assert selection.notes == (
        "encoder.layers has 2 stages of 3, 2 layers: encoder.layers.0.blocks is the main one, the longest; "
        "--stack reads another: encoder.layers.1.blocks",
    )
    main, outer, other = find_stacks(checkpoint)
    assert [(stack.name, stack.main) for stack in (main, outer, other)] == [
        ("encoder.layers.0.blocks", True),
        ("encoder.layers", False),
        ("encoder.layers.1.blocks", False),
    ]
    for name in ("encoder.layers", "encoder"):  # the stack that holds them means its main stage
        assert select(checkpoint, stack=name) == selection
    explicit = select(checkpoint, stack="layers.0")
    assert (explicit.entries, explicit.notes) == (selection.entries, ())
    final = select(checkpoint, "final")
    assert (final.stack, final.entries[0].key) == ("encoder.layers", "layernorm.weight")


def test_of_stages_as_long_the_last_is_the_main_one():
    selection = select(checkpoint_of(swin(), '{"model_type": "swin"}'))
    assert selection.stack == "encoder.layers.1.blocks" and "the last of the longest" in selection.notes[0]


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ('"depths": [2, 3]', errors.IncompleteCheckpoint, r"layer 2 of stack 'encoder.layers.1.blocks' missing"),
        ('"depths": [2, 2, 9]', errors.IncompleteCheckpoint, r"layer 2 of stack 'encoder.layers' missing"),
        ('"depths": [2, 1]', errors.IncompleteCheckpoint, r"has layer 1, but config.json says 1 layers"),
        ('"embed_dim": 6', errors.WidthMismatch, "holds 8 values, but config.json says hidden size 6 or 12"),
        ('"hidden_sizes": [4, 16]', errors.WidthMismatch, "holds 8 values, but config.json says hidden size 16"),
    ],
)
def test_a_stage_is_held_against_what_config_json_says_of_it(config, error, message):
    with pytest.raises(error, match=message):
        select(checkpoint_of(swin(), f'{{"model_type": "swin", {config}}}'))


@pytest.mark.parametrize(
    "config", ['"depths": [2, 2], "embed_dim": 4, "hidden_size": 8', '"hidden_size": 5', '"depths": "2"', '"depths": 2']
)
def test_what_config_json_says_of_the_last_stage_or_of_none_is_no_contradiction(config):
    checkpoint = checkpoint_of(swin(), f'{{"model_type": "swin", {config}}}')
    assert select(checkpoint).layers == select(checkpoint, stack="layers.0").layers == (0, 1)


def hiera() -> dict[str, tuple[int, ...]]:
    """Stages whose first block widens the stream: its first norm is as narrow as the stage before."""
    widths = {0: [4, 4], 1: [4, 8, 8, 8]}
    shapes = {
        f"stages.{stage}.layers.{n}.layernorm_before.weight": (width,)
        for stage, of_stage in widths.items()
        for n, width in enumerate(of_stage)
    }
    after = {key.replace("before", "after"): (4 << int(key[7]),) for key in shapes}
    return shapes | after


def test_the_first_block_of_a_stage_may_stand_on_what_the_stage_before_gives():
    selection = select(checkpoint_of(hiera()))
    assert (selection.stack, selection.layers) == ("stages.1.layers", (1, 2, 3))
    assert selection.notes[1:] == ("layer 0 left out: the norm stands on what the stage before gives, 4 wide",)
    assert select(checkpoint_of(hiera()), "pre_mlp").layers == (0, 1, 2, 3)
    with pytest.raises(errors.WidthMismatch):
        select(checkpoint_of(hiera() | {"stages.1.layers.0.layernorm_before.weight": (5,)}))
    with pytest.raises(errors.WidthMismatch):
        select(checkpoint_of(hiera() | {"stages.1.layers.1.layernorm_before.weight": (4,)}))


def test_the_first_block_may_stand_on_an_input_of_another_width_than_the_stream():
    shapes = llama(prefix="") | {"layers.0.input_layernorm.weight": (7,)}
    selection = select(checkpoint_of(shapes, LLAMA))
    assert selection.layers == (1, 2)
    assert selection.notes == ("layer 0 left out: the norm stands on the stack's own input, 7 wide",)
    assert select(checkpoint_of(shapes, LLAMA), "pre_mlp").layers == (0, 1, 2)


@pytest.mark.parametrize(
    ("changed", "config"),
    [
        ({}, LLAMA.replace('"hidden_size": 4', '"hidden_size": 7')),
        ({}, None),
        ({"layers.0.post_attention_layernorm.weight": (7,)}, LLAMA),
        ({"layers.1.input_layernorm.weight": (7,)}, LLAMA),
    ],
    ids=["config.json says otherwise", "config.json says nothing", "the block is as wide", "two blocks are"],
)
def test_a_first_row_of_another_width_is_refused_where_block_and_config_json_do_not_bear_it_out(changed, config):
    shapes = llama(prefix="") | {"layers.0.input_layernorm.weight": (7,)} | changed
    with pytest.raises(errors.WidthMismatch):
        select(checkpoint_of(shapes, config))


def test_a_list_of_blocks_is_cut_into_stages_where_config_json_counts_them():
    widths = [4, 4, 8, 8, 8, 16]
    shapes = {f"backbone.blocks.{n}.layer_norm1.weight": (width,) for n, width in enumerate(widths)}
    shapes |= {f"backbone.blocks.{n}.layer_norm2.weight": (width,) for n, width in enumerate([4, 8, 8, 8, 16, 16])}
    config = '{"model_type": "sam2_vision_model", "backbone_config": {"blocks_per_stage": [1, 3, 2]}}'
    checkpoint = checkpoint_of(shapes, config)
    selection = select(checkpoint)
    assert (selection.stack, selection.layers) == ("backbone.blocks.1-3", (2, 3))
    assert [entry.key for entry in selection.entries] == [f"backbone.blocks.{n}.layer_norm1.weight" for n in (2, 3)]
    assert select(checkpoint, "pre_mlp", stack="blocks.4-5").layers == (4, 5)
    for other in ("[1, 3, 3]", "[1, 3]", "6"):
        with pytest.raises(errors.WidthMismatch):
            select(checkpoint_of(shapes, config.replace("[1, 3, 2]", other)))


def test_the_norms_after_each_stage_are_its_final_ones_and_no_stack():
    shapes = {f"encoder.block.{stage}.{n}.layer_norm_1.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)}
    shapes |= {f"encoder.layer_norm.{stage}.weight": (4 << stage,) for stage in (0, 1)}
    checkpoint = checkpoint_of(shapes, '{"model_type": "segformer"}')
    assert {stack.name for stack in find_stacks(checkpoint)} == {"encoder.block", "encoder.block.0", "encoder.block.1"}
    assert select(checkpoint, "final").entries[0].key == "encoder.layer_norm.1.weight"
    assert select(checkpoint, "final", stack="block.0").entries[0].key == "encoder.layer_norm.0.weight"


def test_a_list_of_norms_is_not_the_main_stack_however_short_its_name():
    norms = {f"hidden_states_norms.{stage}.weight": (4 << stage,) for stage in range(3)}
    inner = {f"model.{key}": shape for key, shape in swin().items()}
    config = '{"model_type": "maskformer-swin", "depths": [2, 2]}'
    assert select(checkpoint_of(inner | norms, config)).stack == "model.encoder.layers.1.blocks"


def test_the_norm_after_the_last_stage_is_not_that_of_the_others():
    shapes = {f"encoder.block.{stage}.{n}.layer_norm_1.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)}
    checkpoint = checkpoint_of(shapes | {"encoder.layer_norm.weight": (8,)}, '{"model_type": "pvt"}')
    assert select(checkpoint, "final", stack="block.1").entries[0].key == "encoder.layer_norm.weight"
    with pytest.raises(errors.SiteNotFound):
        select(checkpoint, "final", stack="block.0")


def test_stages_of_convolutions_have_no_main_one():
    names = ["norm1", "norm2", "conv1", "conv2"]
    shapes = {
        f"down_blocks.{stage}.resnets.{n}.{name}.weight": (4 << stage,)
        for stage in (0, 1)
        for n in (0, 1)
        for name in names
    }
    for stack in (None, "down_blocks.1.resnets"):
        with pytest.raises(errors.SiteNotFound, match=r"do not tell which norm is site 'input'.*pass --pattern"):
            select(checkpoint_of(shapes), stack=stack)


def test_where_stages_have_names_that_tell_no_place_the_pattern_to_pass_is_one_that_reads():
    shapes = {
        f"stages.{stage}.layers.{n}.{name}.weight": (4 << stage,)
        for stage, depth in enumerate((1, 3))
        for n in range(depth)
        for name in ("layernorm", "dwconv")
    }
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm") as raised:
        select(checkpoint_of(shapes, '{"model_type": "convnext"}'))
    pattern = str(raised.value).rpartition("--pattern '")[2].partition("'")[0]
    assert pattern == "stages.1.layers.{layer}.layernorm.weight"
    assert select(checkpoint_of(shapes), pattern=pattern).layers == (0, 1, 2)


@pytest.mark.parametrize(
    ("norm", "convolution", "mlp", "model_type"),
    [
        ("layernorm", "dwconv", "pwconv1", "convnextv2"),
        ("layer_norm", "depthwise_conv", "pointwise_conv1", "dinov3_convnext"),
        ("norm", "conv_dw", "mlp.fc1", "novel"),
    ],
)
def test_the_norm_between_a_convolution_and_the_mlp_is_the_nearest_to_the_input(norm, convolution, mlp, model_type):
    shapes = {
        f"stages.{stage}.layers.{n}.{name}.weight": (4 << stage,)
        for stage, depth in enumerate((1, 3))
        for n in range(depth)
        for name in (norm, convolution, mlp)
    }
    checkpoint = checkpoint_of(shapes | {"layernorm.weight": (8,)}, f'{{"model_type": "{model_type}"}}')
    selection = select(checkpoint)
    assert (selection.stack, selection.site, selection.layers) == ("stages.1.layers", "post_attention", (0, 1, 2))
    assert "(one norm per block, between a convolution and the MLP); post_attention is the nearest" in selection.reason
    with pytest.raises(errors.SiteNotFound, match="no learned norm at site 'input'"):
        select(checkpoint, "input")


def test_a_convolution_module_with_norms_on_both_sides_is_not_convnexts():
    names = ["layer_norm", "pointwise_conv1", "depthwise_conv", "depthwise_layer_norm"]
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint_of(blocks_of(names), LLAMA))


def test_a_codec_whose_stem_is_its_first_stage_is_read_though_its_hidden_size_is_that_of_the_latents():
    shapes = {
        f"{stack}.{n}.{name}.weight": (width,)
        for stack, width, depth in (("stem.stage", 4, 1), ("conv_layers.0.stage", 8, 1), ("conv_layers.1.stage", 16, 3))
        for n in range(depth)
        for name in ("norm", "ffn_norm", "mixer.conv.conv")
    }
    config = '{"model_type": "vibevoice_acoustic_tokenizer_encoder", "hidden_size": 64, "depths": [1, 1, 3]}'
    selection = select(checkpoint_of(shapes, config))
    assert (selection.stack, selection.site, selection.layers) == ("conv_layers.1.stage", "input", (0, 1, 2))
    assert any("stem.stage may be as well" in note for note in selection.notes)
    with pytest.raises(errors.IncompleteCheckpoint, match="layer 3 of stack 'conv_layers.1.stage' missing"):
        select(checkpoint_of(shapes, config.replace("3]", "4]")))


@pytest.mark.parametrize("side", ["encoder.feature_encoder.conv_layers", "pitch_predictor.conv_layers"])
def test_the_norm_of_a_convolution_that_prepares_the_input_stands_at_no_place(side):
    shapes = llama() | blocks_of(["layer_norm"], side, 5)
    main, other = find_stacks(checkpoint_of(shapes, LLAMA))
    assert (main.name, [site.place for site in other.sites]) == ("model.layers", ["layer_norm"])


def test_a_stage_is_a_stack():
    checkpoint = checkpoint_of(swin(), '{"model_type": "swin"}')
    for stage in (0, 1):
        selection = select(checkpoint, stack=f"encoder.layers.{stage}.blocks")
        assert (selection.site, selection.layers) == ("input", (0, 1))
        assert {entry.width for entry in selection.entries} == {4 << stage}
    assert select(checkpoint, pattern="encoder.layers.1.blocks.{layer}.layernorm_before.weight").site == "input"
    main, outer, other = find_stacks(checkpoint)
    assert [site.place for site in outer.sites] == ["final", "downsample.norm"]
    assert outer.stages == (other.name, main.name)


def test_stages_of_swin_v2_norm_what_their_sub_layers_give():
    scale = {f"encoder.layers.{stage}.blocks.{n}.attention.self.logit_scale": (1,) for stage in (0, 1) for n in (0, 1)}
    selection = select(checkpoint_of(swin() | scale, '{"model_type": "swinv2"}'), stack="encoder.layers.0.blocks")
    assert selection.site == "post_attention"


def test_stages_may_stand_between_blocks_without_stages():
    shapes = {f"network.{stage}.blocks.0.norm1.weight": (4 + stage,) for stage in (0, 2)} | {"norm.weight": (6,)}
    checkpoint = checkpoint_of(shapes | {"network.1.norm.weight": (9,)})
    assert find_stacks(checkpoint)[1].stages == ("network.0.blocks", "network.2.blocks")
    assert select(checkpoint).entries == select(checkpoint, stack="network.2.blocks").entries
    assert select(checkpoint).entries[0].width == 6


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
    assert select(checkpoint).stack == "encoder.layers.1.blocks"
    assert select(checkpoint).site == select(checkpoint, stack="encoder.layers.0.blocks").site == "input"


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


def test_what_config_json_says_of_a_decoder_is_not_held_against_an_encoder():
    shapes = blocks_of(["norm_feed_forward1", "norm_self_att"], "encoder.layers", 5)
    config = '{"model_type": "parakeet_tdt", "num_decoder_layers": 2}'
    assert select(checkpoint_of(shapes, config)).layers == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    "side",
    [
        *("prompts_generator.decoder", "predictor.layer", "patcher.layers", "t2u_model.model.decoder.layers"),
        *("head.layers", "flow_head.layers", "duration_predictor.flows"),
    ],
)
def test_what_stands_beside_the_model_is_not_the_main_stack(side):
    shapes = blocks_of(["norm1", "norm2"], side, 9) | blocks_of(["norm1", "norm2"], "encoder.layer")
    assert find_stacks(checkpoint_of(shapes))[0].name == "encoder.layer"


def test_stages_may_be_lists_of_lists():
    shapes = {f"encoder.block.{stage}.{n}.layer_norm_1.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)}
    shapes["encoder.layer_norm.weight"] = (8,)
    selection = select(checkpoint_of(shapes, '{"model_type": "pvt"}'), stack="encoder.block.1")
    assert (selection.site, selection.layers) == ("input", (0, 1))


def test_a_codec_for_sound_is_a_tower_beside_a_text_stack_of_as_many_blocks():
    shapes = llama() | blocks_of(
        ["input_layernorm", "post_attention_layernorm"], "codec_model.decoder_transformer.layers"
    )
    text, codec = find_stacks(checkpoint_of(shapes, LLAMA.replace("llama", "kyutai_speech_to_text")))
    assert (text.name, text.notes) == ("model.layers", ())
    assert [site.place for site in codec.sites] == ["input", "pre_mlp"]


@pytest.mark.parametrize("model_type", ["mask2former", "oneformer"])
def test_a_decoder_may_have_one_block_less_than_its_configuration_counts(model_type):
    shapes = blocks_of(["self_attn_layer_norm", "final_layer_norm"], "model.transformer_module.decoder.layers", 9)
    checkpoint = checkpoint_of(shapes, f'{{"model_type": "{model_type}", "decoder_layers": 10}}')
    assert select(checkpoint).layers == tuple(range(9))
