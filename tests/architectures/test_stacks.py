"""The stacks of a checkpoint: the main one, towers, and stages within blocks."""

from __future__ import annotations

import pytest

from gammatorch import errors
from gammatorch.architectures.match import find_stacks
from gammatorch.architectures.select import select
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
    "side", ["prompts_generator.decoder", "predictor.layer", "patcher.layers", "t2u_model.model.decoder.layers"]
)
def test_what_stands_beside_the_model_is_not_the_main_stack(side):
    shapes = blocks_of(["norm1", "norm2"], side, 9) | blocks_of(["norm1", "norm2"], "encoder.layer")
    assert find_stacks(checkpoint_of(shapes))[0].name == "encoder.layer"


def test_stages_may_be_lists_of_lists():
    shapes = {f"encoder.block.{stage}.{n}.layer_norm_1.weight": (4 << stage,) for stage in (0, 1) for n in (0, 1)}
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
