"""Where the norms of a block stand, by their names, what is beside them, and config.json."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch

import gammatorch
from gammatorch import errors
from gammatorch.architectures.select import select
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import Checkpoint
from tests.architectures.headers import LLAMA, blocks_of, checkpoint_of, llama


def places_of(checkpoint: Checkpoint) -> dict[str, str]:
    (stack,) = find_stacks(checkpoint)
    return {site.rows[0][1].key.removeprefix(f"{stack.name}.0."): site.place for site in stack.sites}


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
    crossing = shapes | blocks_of(["encoder_attn.q_proj"])
    assert set(places_of(checkpoint_of(crossing, LLAMA)).values()) == {"input", "pre_mlp", "post_attention_layernorm"}
    places = places_of(checkpoint_of(shapes, LLAMA))
    assert (places["post_attention_layernorm.weight"], places["final_layernorm.weight"]) == ("pre_mlp", "post_mlp")


def test_a_conformer_begins_with_its_first_mlp():
    shapes = blocks_of(["ffn1_layer_norm", "self_attn_layer_norm", "ffn2_layer_norm", "final_layer_norm"])
    places = places_of(checkpoint_of(shapes | {"model.layer_norm.weight": (4,)}, LLAMA))
    assert (places["ffn1_layer_norm.weight"], places["ffn2_layer_norm.weight"]) == ("input", "pre_mlp")
    assert places["final_layer_norm.weight"] == "post_mlp"


def test_gemma_3ns_conformer_ends_with_the_norm_of_the_plainest_name():
    names = ["ffw_layer_start.pre_layer_norm", "attention.pre_attn_norm", "ffw_layer_end.pre_layer_norm", "norm"]
    places = places_of(checkpoint_of(blocks_of(names, "conformer"), LLAMA.replace("llama", "gemma3n_audio")))
    assert list(places.values()) == ["input", "pre_mlp", "post_mlp", "attention.pre_attn_norm"]
    assert places["norm.weight"] == "post_mlp"


def test_a_norm_of_the_plainest_name_is_not_the_input_norm_beside_one_that_stands_before_something():
    shapes = blocks_of(["norm", "mixer.pre_attention_norm"]) | {"model.norm.weight": (4,)}
    with pytest.raises(
        errors.SiteNotFound, match=r"do not tell which norm is site 'input' \(there are .*\.norm\.weight"
    ):
        select(checkpoint_of(shapes, LLAMA))
    shapes = blocks_of(["norm", "mixer.norm"]) | {"model.norm.weight": (4,)}
    assert select(checkpoint_of(shapes, LLAMA)).pattern == "model.layers.{layer}.norm.weight"


def test_an_adapter_behind_an_encoder_is_not_the_main_stack():
    shapes = blocks_of(["ffn1_layer_norm"], "encoder.layers") | blocks_of(["self_attn_layer_norm"], "adapter.layers", 1)
    assert select(checkpoint_of(shapes, LLAMA.replace("llama", "wav2vec2-bert"))).stack == "encoder.layers"


def test_what_the_text_model_says_of_itself_is_not_held_of_a_query_former():
    names = ["attention.output.LayerNorm", "output.LayerNorm"]
    text = '"text_config": {"model_type": "opt", "do_layer_norm_before": true}'
    config = f'{{"model_type": "blip-2", "qformer_config": {{"model_type": "blip_2_qformer"}}, {text}}}'
    assert select(checkpoint_of(blocks_of(names, "qformer.encoder.layer"), config)).site == "post_attention"


def test_the_norm_beside_a_query_formers_blocks_is_none_after_the_last():
    names = ["attention.output.LayerNorm", "output_query.LayerNorm"]
    shapes = blocks_of(names, "encoder.layer") | {"layernorm.weight": (4,)}
    (stack,) = find_stacks(checkpoint_of(shapes, LLAMA.replace("llama", "blip_2_qformer")))
    assert (stack.layout, stack.site("final")) == ("post-LN", None)


@pytest.mark.parametrize(
    "beside", ["decode_head.psp_modules.blocks", "pooler.self_attention_layers", "neck.fusion", "fusion_stage.x"]
)
def test_what_stands_behind_a_tower_is_not_its_main_stack(beside):
    shapes = blocks_of(["layernorm_before"], "data2vec_vision.encoder.layer") | blocks_of(["conv.norm"], beside, 4)
    config = LLAMA.replace("llama", "data2vec-vision")
    assert select(checkpoint_of(shapes, config)).stack == "data2vec_vision.encoder.layer"


@pytest.mark.parametrize("before", ["true", "false"])
def test_what_a_detector_says_of_its_encoder_is_not_held_of_its_decoder(before):
    shapes = blocks_of(["self_attn_layer_norm", "final_layer_norm"], "decoder.layers")
    config = LLAMA.replace("llama", "rt_detr")[:-1] + f', "normalize_before": {before}}}'
    assert select(checkpoint_of(shapes, config)).site == "post_attention"


@pytest.mark.parametrize(("said", "site"), [((True, False), "input"), ((False, True), "post_attention")])
def test_a_speech_model_says_of_encoder_and_decoder_whether_they_are_pre_norm(said, site):
    names = ["ff_macaron_layer_norm", "self_attn_layer_norm", "ff_layer_norm", "final_layer_norm"]
    config = LLAMA.replace("llama", "fastspeech2_conformer")[:-1]
    decoder, encoder = (str(value).lower() for value in said)
    config += f', "decoder_normalize_before": {decoder}, "encoder_normalize_before": {encoder}}}'
    assert select(checkpoint_of(blocks_of(names, "decoder.conformer_layers"), config)).site == site


@pytest.mark.parametrize(("before", "site"), [("true", "input"), ("false", "post_attention")])
def test_what_config_json_says_of_a_decoder_alone_goes_before_what_it_says_beside(before, site):
    names = ["ff_macaron_layer_norm", "self_attn_layer_norm", "ff_layer_norm", "final_layer_norm"]
    own = f'"decoder_config": {{"layers": 2, "normalize_before": {before}}}'
    whole = f'"model_config": {{"model_type": "fastspeech2_conformer", "decoder_layers": 5, {own}}}'
    config = f'{{"model_type": "fastspeech2_conformer_with_hifigan", {whole}}}'
    selection = select(checkpoint_of(blocks_of(names, "model.decoder.conformer_layers", 2), config))
    assert (selection.site, selection.layers) == (site, (0, 1))


@pytest.mark.parametrize(
    ("model_type", "setting"),
    [("minimax", ""), ("bloom", ', "apply_residual_connection_post_layernorm": true'), ("novel", ', "postnorm": true')],
)
def test_where_the_residual_is_normed_the_norm_after_attention_stands_after_its_residual(model_type, setting):
    checkpoint = checkpoint_of(llama(), LLAMA.replace("llama", model_type)[:-1] + setting + "}")
    (stack,) = find_stacks(checkpoint)
    assert [site.place for site in stack.sites] == ["input", "post_attention", "final"]
    assert stack.layout == "norms on the residual stream"


@pytest.mark.parametrize(
    ("model_type", "names"),
    [
        ("mask2former", ["cross_attn_layer_norm", "self_attn_layer_norm", "final_layer_norm"]),
        ("oneformer", ["cross_attn.norm", "self_attn.norm", "ffn.norm"]),
    ],
)
def test_blocks_that_begin_with_cross_attention_have_its_norm_on_their_input_where_they_are_pre_norm(model_type, names):
    shapes = blocks_of(names, "transformer_module.decoder.layers") | {
        "transformer_module.decoder.layernorm.weight": (4,)
    }
    shapes |= blocks_of(["self_attn_layer_norm", "final_layer_norm"], "pixel_level_module.decoder.encoder.layers", 5)
    cross, own, mlp = (f"{name}.weight" for name in names)
    for said, expected in (
        ("true", {"input": cross, "pre_mlp": mlp}),
        ("false", {"post_attention": own, "post_mlp": mlp}),
    ):
        config = f'{{"model_type": "{model_type}", "decoder_layers": 4, "pre_norm": {said}}}'
        queries, pixels = find_stacks(checkpoint_of(shapes, config))
        sites = {site.place: site.pattern.partition("{layer}.")[2] for site in queries.sites}
        assert {place: name for place, name in sites.items() if place in expected} == expected
        assert "input" in expected or "input" not in sites
        assert [site.place for site in pixels.sites] == ["post_attention", "post_mlp"]


def test_norms_within_sub_layers_are_told_by_a_setting_alone():
    shapes = blocks_of(["cross_attn.norm", "self_attn.norm", "ffn.norm"], "decoder.layers")
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint_of(shapes, '{"model_type": "novel"}'))


def test_norms_over_the_batch_stand_at_no_place():
    for name in ("norm1", "norm_sublayer1.batchnorm"):
        shapes = blocks_of([name]) | {f"model.layers.{n}.{name}.running_mean": (4,) for n in range(3)}
        with pytest.raises(
            errors.SiteNotFound, match="are batch norms, by the running mean beside each, and no layer or RMS norm is"
        ):
            select(checkpoint_of(shapes, LLAMA))
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint_of(shapes | blocks_of(["first_norm"]), LLAMA))
    shapes = {f"network.{n}.blocks.0.norm1.{leaf}": (4,) for n in (0, 1) for leaf in ("weight", "running_mean")}
    assert [stack.name for stack in find_stacks(checkpoint_of(shapes))] == ["network"]


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


def test_a_plain_name_alone_tells_no_place():
    checkpoint = checkpoint_of(blocks_of(["LayerNorm"]), LLAMA)
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint)
    assert places_of(checkpoint_of(blocks_of(["ln_1", "LayerNorm"]) | {"model.norm.weight": (4,)}, LLAMA)) == {
        "ln_1.weight": "input",
        "LayerNorm.weight": "pre_mlp",
        "model.norm.weight": "final",
    }


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


def test_a_mixer_of_patches_begins_with_the_first_of_its_parts():
    shapes = blocks_of(["patch_mixer.norm.norm", "feature_mixer.norm.norm"], "mixers")
    config = LLAMA.replace("llama", "patchtsmixer")
    assert list(places_of(checkpoint_of(shapes, config)).values()) == ["input", "pre_mlp"]
    across_channels = blocks_of(["channel_feature_mixer.norm.norm"], "mixers")
    places = places_of(checkpoint_of(shapes | across_channels, config))
    assert places["channel_feature_mixer.norm.norm.weight"] == "input"
    assert places["patch_mixer.norm.norm.weight"] == "patch_mixer.norm"


def test_a_type_may_be_known_to_be_pre_norm_in_some_of_its_stacks_without_a_final_norm():
    shapes = blocks_of(["layer_norm1", "layer_norm2"], "model.detr_encoder.layers")
    shapes |= blocks_of(["layer_norm1", "layer_norm2"], "model.encoder.layers")
    stacks = find_stacks(checkpoint_of(shapes, '{"model_type": "sam3"}'))
    assert {stack.name: [site.place for site in stack.sites] for stack in stacks} == {
        "model.detr_encoder.layers": ["input", "pre_mlp"],
        "model.encoder.layers": ["post_attention", "post_mlp"],
    }


@pytest.mark.parametrize(
    ("model_type", "setting", "names"),
    [
        ("molmo2_text", "norm_after", ["attn_norm", "ff_norm"]),
        ("chameleon", "swin_norm", ["input_layernorm", "post_attention_layernorm"]),
    ],
)
def test_a_setting_may_put_the_norms_of_pre_norm_on_what_the_sub_layers_give(model_type, setting, names):
    shapes = blocks_of(names) | {"model.norm.weight": (4,)}
    for on_output, expected in ((False, ["input", "pre_mlp"]), (True, ["post_attention", "post_mlp"])):
        config = LLAMA.replace("llama", model_type)[:-1] + f', "{setting}": {str(on_output).lower()}}}'
        checkpoint = checkpoint_of(shapes, config)
        assert list(places_of(checkpoint).values()) == [*expected, "final"]
        assert select(checkpoint).site == expected[0]


def test_a_setting_that_puts_norms_on_outputs_is_not_passed_over_by_the_search():
    config = LLAMA[:-1] + ', "swin_norm": true}'
    assert select(checkpoint_of(llama(), config)).site == "post_attention"


@pytest.mark.parametrize("setting", ["normalize_before", "encoder_normalize_before", "pre_norm"])
def test_norms_that_a_setting_may_have_moved_tell_no_place_without_a_final_norm(setting):
    shapes = blocks_of(["self_attn_layer_norm", "final_layer_norm"], "encoder.layers")
    config = LLAMA.replace("llama", "rt_detr")[:-1] + f', "{setting}": true}}'
    with pytest.raises(errors.SiteNotFound, match="do not tell which norm"):
        select(checkpoint_of(shapes, config))
    assert select(checkpoint_of(shapes, config.replace("true", "false"))).site == "post_attention"
    assert select(checkpoint_of(shapes | {"encoder.layer_norm.weight": (4,)}, config)).site == "input"


def test_gains_that_a_quantiser_has_changed_are_mentioned():
    config = LLAMA[:-1] + ', "quantization_config": {"quant_method": "awq", "bits": 4}}'
    assert any("AWQ has divided norms" in note for note in select(checkpoint_of(llama(), config)).notes)
    assert select(checkpoint_of(llama(), config.replace("awq", "gptq"))).notes == ()


@pytest.mark.parametrize(("before", "place"), [("true", "input"), ("false", "post_attention")])
def test_series_say_on_which_side_their_norms_stand(before, place):
    shapes = blocks_of(["norm_sublayer1", "norm_sublayer3"], "encoder.layers")
    config = LLAMA.replace("llama", "patchtst")[:-1] + f', "pre_norm": {before}}}'
    assert select(checkpoint_of(shapes, config)).site == place


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("final", [True, False])
def test_the_norms_of_pytorchs_own_layers_are_not_guessed_at(norm_first, final):
    """Neither the names nor a norm after the last block tell where they stand: ``nn.Transformer`` has one either way."""
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, norm_first=norm_first)
    end = torch.nn.LayerNorm(16) if final else None
    model = torch.nn.TransformerEncoder(layer, 3, end, enable_nested_tensor=False)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    with checkpoint_of(shapes) as checkpoint:
        (stack,) = gammatorch.find_stacks(checkpoint)
        assert {site.place for site in stack.sites} == {"norm1", "norm2", *(["final"] if final else [])}
        assert any("if norm_first was set" in note for note in stack.notes)
        with pytest.raises(
            errors.SiteNotFound, match=r"do not tell which norm .*--pattern 'layers.{layer}.norm1.weight'"
        ):
            select(checkpoint)
        assert select(checkpoint, pattern="layers.{layer}.norm1.weight").layers == (0, 1, 2)


def timm(block: Sequence[str], *others: str) -> dict[str, tuple[int, ...]]:
    own = {f"blocks.{layer}.{name}": (4,) for layer in range(3) for name in block}
    return blocks_of(["norm1", "norm2"], "blocks") | own | dict.fromkeys(others, (4,))


TIMM = [
    ("vit_tiny_patch16_224", timm(["attn.qkv.weight"], "patch_embed.proj.bias", "norm.weight"), "input"),
    ("vit_pe_spatial_tiny_patch16_512", timm(["attn.qkv.weight"], "patch_embed.proj.bias", "norm_pre.weight"), "input"),
    ("gcvit_tiny", timm(["attn.qkv.weight"], "stem.conv1.bias"), None),
    ("swinv2_tiny_window8_256", timm(["attn.logit_scale"], "patch_embed.proj.bias", "norm.weight"), "post_attention"),
    ("swinv2_cr_tiny_224", timm(["attn.logit_scale"], "patch_embed.proj.bias"), "post_attention"),
    (
        "vit_relpos_small_patch16_224",
        timm(["attn.rel_pos.mlp.fc1.weight"], "patch_embed.proj.bias", "norm.weight"),
        "input",
    ),
    ("vit_relpos_small_patch16_rpn_224", timm(["attn.rel_pos.mlp.fc1.weight"], "norm.weight"), "post_attention"),
    (None, timm(["attn.rel_pos.mlp.fc1.weight"], "patch_embed.proj.bias", "norm.weight"), None),
]


@pytest.mark.parametrize(("architecture", "shapes", "place"), TIMM, ids=[str(case[0]) for case in TIMM])
def test_norm1_of_timms_models_stands_where_it_acts(architecture, shapes, place):
    """As hooks on timm 1.0.31's own forward passes show it; None: the names do not tell."""
    config = None if architecture is None else json.dumps({"architecture": architecture, "num_features": 4})
    stack = find_stacks(checkpoint_of(shapes, config))[0]
    found = {site.place for site in stack.sites if site.pattern == "blocks.{layer}.norm1.weight"}
    assert found == {place or "norm1"}
