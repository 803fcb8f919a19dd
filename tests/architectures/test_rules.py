"""Every rule of the tables: it speaks for the architecture it was verified on, and that one needs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gammatorch.architectures import places, sides
from gammatorch.architectures.select import select
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import Checkpoint
from tests.architectures.headers import blocks_of, checkpoint_of

Shapes = dict[str, tuple[int, ...]]


def matrices(names: list[str], stack: str = "model.layers", layers: int = 3) -> Shapes:
    return {f"{stack}.{layer}.{name}": (4, 4) for layer in range(layers) for name in names}


def vectors(names: list[str], stack: str = "model.layers", layers: int = 3) -> Shapes:
    return {f"{stack}.{layer}.{name}": (4,) for layer in range(layers) for name in names}


def said(**settings: Any) -> str:
    return json.dumps(settings)


FINAL: Shapes = {"model.norm.weight": (4,)}
NUMBERS = blocks_of(["norm1", "norm2"])
SPEECH = blocks_of(["self_attn_layer_norm", "final_layer_norm"], "encoder.layers")
FAIRSEQ = SPEECH | {"encoder.layer_norm.weight": (4,), "encoder.pos_conv.0.bias": (4,)}
TORCH = vectors(["self_attn.in_proj_weight", "linear1.weight", "linear2.weight"])

SIDES: dict[str, tuple[Shapes, str | None, dict[str, str]]] = {
    "wav2vec 2.0 in transformers": (
        blocks_of(["layer_norm", "final_layer_norm"]) | {"model.layer_norm.weight": (4,)},
        said(model_type="hubert", do_stable_layer_norm=False),
        {"layer_norm": "post_attention", "final_layer_norm": "post_mlp"},
    ),
    "wav2vec 2.0 in its authors' files": (
        FAIRSEQ,
        said(layer_norm_first=False),
        {"self_attn_layer_norm": "post_attention", "final_layer_norm": "post_mlp"},
    ),
    "query former": (
        blocks_of(["attention.output.LayerNorm", "output_query.LayerNorm", "ln1"]) | {"model.layernorm.weight": (4,)},
        said(model_type="blip_2_qformer"),
        {"ln1": "post_attention"},
    ),
    "decoder of detections": (
        blocks_of(["self_attn_layer_norm", "final_layer_norm"], "model.decoder.layers")
        | {"model.decoder.layernorm.weight": (4,)},
        said(model_type="detr"),
        {"self_attn_layer_norm": "post_attention", "final_layer_norm": "post_mlp"},
    ),
    "FastSpeech 2": (
        blocks_of(["self_attn_layer_norm", "ff_layer_norm"], "decoder.conformer_layers"),
        said(model_type="fastspeech2_conformer", decoder_normalize_before=True),
        {"self_attn_layer_norm": "input", "ff_layer_norm": "pre_mlp"},
    ),
    "setting of the type": (
        blocks_of(["self_attn_layer_norm", "final_layer_norm"]),
        said(model_type="opt", do_layer_norm_before=True),
        {"self_attn_layer_norm": "input", "final_layer_norm": "pre_mlp"},
    ),
    "prenorm": (
        NUMBERS | matrices(["attn.Wqkv.weight"]),
        said(model_type="nomic_bert", prenorm=True),
        {"norm1": "input", "norm2": "pre_mlp"},
    ),
    "normalize_before of fairseq": (
        SPEECH,
        said(encoder_normalize_before=True),
        {"self_attn_layer_norm": "input", "final_layer_norm": "pre_mlp"},
    ),
    "RoBERTa of fairseq": (
        blocks_of(["self_attn_layer_norm", "final_layer_norm"], "decoder.sentence_encoder.layers")
        | {"decoder.sentence_encoder.emb_layer_norm.weight": (4,), "decoder.lm_head.layer_norm.weight": (4,)},
        said(encoder_normalize_before=True),
        {"self_attn_layer_norm": "post_attention", "final_layer_norm": "post_mlp"},
    ),
    "diffusers": (
        blocks_of(["ln_1", "ln_2"]) | matrices(["attn1.to_q.weight"]),
        said(_class_name="SomeTransformer2DModel"),
        {"ln_1": "input", "ln_2": "pre_mlp"},
    ),
    "type without a final norm": (
        blocks_of(["layer_norm1", "layer_norm2"], "encoder.layers"),
        said(model_type="sapiens2"),
        {"layer_norm1": "input", "layer_norm2": "pre_mlp"},
    ),
    "PyTorch's own layers": (NUMBERS | TORCH | FINAL, None, {}),
    "relative positions in timm": (NUMBERS | matrices(["attn.rel_pos.mlp.fc1.weight"]) | FINAL, None, {}),
    "tower": (
        blocks_of(["layer_norm1", "layer_norm2"], "vision_tower.layers"),
        said(model_type="novel"),
        {"layer_norm1": "input", "layer_norm2": "pre_mlp"},
    ),
    "patches without a config.json": (
        blocks_of(["norm1", "norm2"], "blocks") | {"patch_embed.proj.bias": (4,)},
        None,
        {"norm1": "input", "norm2": "pre_mlp"},
    ),
    "a norm follows the last block": (NUMBERS | FINAL, None, {"norm1": "input", "norm2": "pre_mlp"}),
}
"""Shapes, config.json and the places that the rule brings about; those of "no norm follows" are what is left."""

OLMO = (
    blocks_of(["attn_norm", "ff_norm"], "transformer.blocks")
    | matrices(["att_proj.weight"], "transformer.blocks")
    | {"transformer.ln_f.weight": (4,)}
)
LEFT_OUT: dict[str, tuple[Shapes, str | None, str]] = {
    "norms beside two convolutions": (NUMBERS | matrices(["conv1.weight", "conv2.weight"]) | FINAL, None, "norm1"),
    "batch norms": (NUMBERS | vectors(["norm1.running_mean"]) | FINAL, None, "norm1"),
    "norm of the queries' latent": (
        blocks_of(["attn_norm", "attn.q_norm"]) | matrices(["attn.wq_a.weight"]) | FINAL,
        None,
        "attn.q_norm",
    ),
    "norm after a depthwise convolution": (
        blocks_of(["layer_norm"]) | matrices(["depthwise_conv.weight"]) | FINAL,
        None,
        "layer_norm",
    ),
    "diffusers' numbers": (
        NUMBERS | matrices(["attn1.to_q.weight", "attn2.to_q.weight"]),
        None,
        "norm2",
    ),
    "norm at a block's end": (
        blocks_of(["input_layernorm", "post_attention_layernorm", "final_layernorm"]) | FINAL,
        None,
        "final_layernorm: pre_mlp",
    ),
    "towers in GGUF": (
        blocks_of(["ffn_norm", "ffn_norm_1", "ln1", "ln2"], "a.blk"),
        said(model_type="gguf:clip"),
        "ln1",
    ),
    "numbers beside cross-attention": (
        blocks_of(["ln_1", "ln_2"]) | matrices(["src_attn.weight"]) | FINAL,
        None,
        "ln_2",
    ),
    "OLMo without its settings": (
        OLMO | blocks_of(["q_norm", "k_norm"], "transformer.blocks"),
        None,
        "attn_norm",
    ),
    "only norm of a block": (blocks_of(["post_attention_layernorm"]) | FINAL, None, "post_attention_layernorm"),
    "EAGLE-3 in GGUF": (blocks_of(["attn_norm", "attn_norm_2"], "blk"), said(model_type="gguf:eagle3"), "attn_norm"),
}
"""Shapes, config.json and a name that tells no place, or not that one."""

CONVNEXT = matrices(["dwconv.weight", "pwconv1.weight"])
MOVED: dict[str, tuple[Shapes, str | None, dict[str, str]]] = {
    "norm between a convolution and the MLP": (
        blocks_of(["layernorm"]) | CONVNEXT,
        said(model_type="convnextv2"),
        {"layernorm": "post_attention"},
    ),
    "diffusers' blocks": (
        blocks_of(["norm1", "norm2", "norm3"]) | matrices(["attn1.to_q.weight", "attn2.to_q.weight"]),
        None,
        {"norm1": "input", "norm3": "pre_mlp"},
    ),
    "numbers beside cross-attention": (
        blocks_of(["ln1", "ln2", "ffn.ln"]) | matrices(["context_attn.w"]) | FINAL,
        None,
        {"ln1": "input", "ln2": "ln2", "ffn.ln": "pre_mlp"},
    ),
    "OLMo's reordered norms": (
        OLMO | blocks_of(["q_norm", "k_norm"], "transformer.blocks"),
        said(model={"norm_after": True}),
        {"attn_norm": "post_attention", "ff_norm": "post_mlp"},
    ),
    "EAGLE's draft heads": (
        blocks_of(["post_attention_layernorm"], "layers") | matrices(["mlp.up_proj.weight"], "layers"),
        said(model_type="llama"),
        {"post_attention_layernorm": "pre_mlp"},
    ),
    "norm at a block's end": (
        blocks_of(["input_layernorm", "post_attention_layernorm", "final_layernorm"]) | FINAL,
        None,
        {"final_layernorm": "post_mlp"},
    ),
    "Swin v2": (
        blocks_of(["layernorm_before", "layernorm_after"]) | vectors(["attention.self.logit_scale"]) | FINAL,
        said(model_type="swinv2"),
        {"layernorm_before": "post_attention", "layernorm_after": "post_mlp"},
    ),
    "norms within their sub-layers, by a setting": (
        blocks_of(["cross_attn.norm", "self_attn.norm", "ffn.norm"], "model.transformer_module.decoder.layers"),
        said(model_type="oneformer", pre_norm=False),
        {"self_attn.norm": "post_attention", "ffn.norm": "post_mlp"},
    ),
    "X-MOD": (
        blocks_of(["attention.output.LayerNorm", "output.LayerNorm"]),
        said(model_type="xmod", pre_norm=True),
        {"attention.output.LayerNorm": "input", "output.LayerNorm": "pre_mlp"},
    ),
    "cross-attention first": (
        blocks_of(
            ["cross_attn_layer_norm", "self_attn_layer_norm", "final_layer_norm"],
            "model.transformer_module.decoder.layers",
        ),
        said(model_type="mask2former", pre_norm=True),
        {"cross_attn_layer_norm": "input", "self_attn_layer_norm": "self_attn_layer_norm"},
    ),
    "residual through the norms": (
        blocks_of(["input_layernorm", "post_attention_layernorm"]) | FINAL,
        said(model_type="minimax"),
        {"post_attention_layernorm": "post_attention"},
    ),
    "gpt-oss's own names": (
        blocks_of(["attn.norm", "mlp.norm"], "block") | vectors(["attn.sinks"], "block") | {"norm.scale": (4,)},
        None,
        {"attn.norm": "input", "mlp.norm": "pre_mlp"},
    ),
    "StripedHyena": (
        blocks_of(["pre_norm", "post_norm"], "blocks") | matrices(["projections.weight"], "blocks") | FINAL,
        None,
        {"pre_norm": "input", "post_norm": "pre_mlp"},
    ),
    "architectures in GGUF": (
        blocks_of(["attn_norm", "attn_norm_2"], "blk"),
        said(model_type="gguf:falcon"),
        {"attn_norm_2": "input", "attn_norm": "pre_mlp"},
    ),
    "types with names of their own": (blocks_of(["q_norm"]) | FINAL, said(model_type="blt"), {"q_norm": "input"}),
    "settings that put norms on outputs": (
        blocks_of(["input_layernorm", "post_attention_layernorm"]) | FINAL,
        said(model_type="chameleon", swin_norm=True),
        {"input_layernorm": "post_attention", "post_attention_layernorm": "post_mlp"},
    ),
}


def places_of(checkpoint: Checkpoint) -> dict[str, str]:
    stack = next(stack for stack in find_stacks(checkpoint) if len(stack.layers) == 3)
    return {
        site.pattern.rpartition("{layer}.")[2].rpartition(".")[0]: site.place
        for site in stack.sites
        if site.place != "final"
    }


def without(rules: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    kept = tuple(rule for rule in rules if rule.name != name)
    assert len(kept) == len(rules) - 1
    return kept


def test_every_rule_has_an_example_and_says_what_it_was_verified_on():
    last = sides.SIDE_RULES[-1].name
    assert [*SIDES, last] == [rule.name for rule in sides.SIDE_RULES]
    assert list(LEFT_OUT) == [rule.name for rule in places.LEFT_OUT]
    assert list(MOVED) == [rule.name for rule in places.MOVED]
    rules = (*sides.SIDE_RULES, *places.LEFT_OUT, *places.MOVED)
    assert all(len(rule.verified) > 10 for rule in rules)


@pytest.mark.parametrize("name", SIDES)
def test_a_rule_on_sides_decides_for_its_example_and_no_other_does(name, monkeypatch):
    shapes, config, expected = SIDES[name]
    checkpoint = checkpoint_of(shapes, config)
    told = places_of(checkpoint)
    assert {norm: place for norm, place in told.items() if norm != place} == expected
    monkeypatch.setattr(sides, "SIDE_RULES", without(sides.SIDE_RULES, name))
    assert places_of(checkpoint) != told


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_rule_takes_out_a_name_that_the_vocabulary_would_place(name, monkeypatch):
    shapes, config, norm = LEFT_OUT[name]
    norm, _, wrong = norm.partition(": ")
    checkpoint = checkpoint_of(shapes, config)
    assert places_of(checkpoint)[norm] != wrong if wrong else places_of(checkpoint)[norm] == norm
    monkeypatch.setattr(places, "LEFT_OUT", without(places.LEFT_OUT, name))
    monkeypatch.setattr(places, "MOVED", tuple(rule for rule in places.MOVED if rule.name != name))
    assert places_of(checkpoint)[norm] != norm


@pytest.mark.parametrize("name", MOVED)
def test_a_rule_brings_about_the_places_of_its_example(name, monkeypatch):
    shapes, config, expected = MOVED[name]
    checkpoint = checkpoint_of(shapes, config)
    assert expected.items() <= places_of(checkpoint).items()
    monkeypatch.setattr(places, "MOVED", without(places.MOVED, name))
    assert not expected.items() <= places_of(checkpoint).items()


@pytest.mark.parametrize(
    ("first", "place"), [(True, "input"), (False, "post_attention"), (None, "self_attn_layer_norm")]
)
def test_speech_encoders_of_fairseq_say_in_their_settings_where_norms_stand(first, place):
    """Their own norm follows the last block or precedes the first under one name; without a setting nothing is told."""
    checkpoint = checkpoint_of(FAIRSEQ, said(**({} if first is None else {"layer_norm_first": first})))
    (stack,) = find_stacks(checkpoint)
    assert places_of(checkpoint)["self_attn_layer_norm"] == place
    assert (stack.site("final") is not None) == (first is True)


@pytest.mark.parametrize("architecture", ["rwkv6", "rwkv7"])
def test_the_second_norm_of_rwkv_in_gguf_stands_before_the_mlp(architecture):
    shapes = blocks_of(["attn_norm", "attn_norm_2"], "blk")
    assert places_of(checkpoint_of(shapes, said(model_type=f"gguf:{architecture}"))) == {
        "attn_norm": "input",
        "attn_norm_2": "pre_mlp",
    }


@pytest.mark.parametrize("architecture", ["jina-bert-v2", "minimax-01", "llama"])
def test_the_second_norm_of_others_in_gguf_stands_at_no_place(architecture):
    shapes = blocks_of(["attn_norm", "attn_norm_2"], "blk")
    assert places_of(checkpoint_of(shapes, said(model_type=f"gguf:{architecture}")))["attn_norm_2"] == "attn_norm_2"


@pytest.mark.parametrize("stem", ["ln_", "ln", "norm", "norm_", "layernorm", "layer_norm_", "rms_norm"])
@pytest.mark.parametrize("attention", ["cross_attn", "context_attn", "encoder_attn", "attn2", "EncDecAttention"])
@pytest.mark.parametrize("end", [True, False])
def test_the_third_norm_of_a_decoder_is_the_mlps_whatever_they_are_called(stem, attention, end):
    """Of UER, OpenNMT and x-transformers' names; after the residual where no norm follows the last block."""
    shapes = blocks_of([f"{stem}{number}" for number in (1, 2, 3)]) | matrices([f"{attention}.q.weight"])
    config = None if end else said(model_type="bert")
    assert places_of(checkpoint_of(shapes | (FINAL if end else {}), config)) == {
        f"{stem}1": "input" if end else "post_attention",
        f"{stem}2": f"{stem}2",
        f"{stem}3": "pre_mlp" if end else "post_mlp",
    }


def test_the_second_norm_is_the_mlps_where_cross_attention_has_its_own():
    shapes = blocks_of(["ln_1", "ln_2", "ln_cross_attn"]) | matrices(["crossattention.c_attn.weight"]) | FINAL
    assert places_of(checkpoint_of(shapes)) == {"ln_1": "input", "ln_2": "pre_mlp", "ln_cross_attn": "ln_cross_attn"}


def test_of_three_norms_without_cross_attention_the_second_is_not_told():
    shapes = blocks_of(["ln1", "ln2", "ln3"]) | FINAL
    assert places_of(checkpoint_of(shapes)) == {"ln1": "input", "ln2": "ln2", "ln3": "ln3"}


@pytest.mark.parametrize(
    ("config", "attention", "mlp"),
    [
        ({"block": {"name": "reordered_norm"}}, "post_attention", "post_mlp"),
        ({"block": {"name": "default"}}, "input", "pre_mlp"),
        ({}, "attention_norm", "feed_forward_norm"),
    ],
)
def test_the_sides_of_olmo_core_are_those_of_its_kind_of_block(config, attention, mlp):
    """Its keys are the same either way; those of OLMo 2 and 3, without their configuration, are told by nothing."""
    names = ["attention_norm", "feed_forward_norm", "attention.q_norm", "attention.k_norm"]
    shapes = blocks_of(names, "blocks") | matrices(["attention.w_q.weight"], "blocks") | {"lm_head.norm.weight": (4,)}
    told = places_of(checkpoint_of(shapes | {"norm.weight": (4,)}, said(model=config)))
    assert (told["attention_norm"], told["feed_forward_norm"]) == (attention, mlp)


def test_olmo_before_its_norms_moved_and_olmoe_are_pre_norm():
    assert places_of(checkpoint_of(OLMO))["attn_norm"] == "input"
    with_heads = OLMO | blocks_of(["q_norm", "k_norm"], "transformer.blocks")
    assert places_of(checkpoint_of(with_heads, said(model={"norm_after": False})))["attn_norm"] == "input"


@pytest.mark.parametrize("stem", ["layer_norm_", "rms_norm"])
def test_numbers_are_told_by_a_known_type_alone_where_no_norm_follows(stem):
    """JinaBERT v2 says bert, and has its norms after the residual; UER has either under the same names."""
    shapes = blocks_of([f"{stem}1", f"{stem}2"], "encoder.layer")
    told = places_of(checkpoint_of(shapes, said(model_type="bert")))
    assert told == {f"{stem}1": "post_attention", f"{stem}2": "post_mlp"}
    assert places_of(checkpoint_of(shapes)) == {f"{stem}1": f"{stem}1", f"{stem}2": f"{stem}2"}


def test_the_only_norm_of_a_draft_head_is_chosen_with_a_note():
    """EAGLE's, and with Qwen's names in HASS: fc brings embedding and hidden state together."""
    names = ["post_attention_layernorm"]
    shapes = blocks_of(names, "layers", layers=1) | matrices(["mlp.up_proj.weight"], "layers", layers=1)
    selection = select(checkpoint_of(shapes | {"fc.weight": (4, 8)}, said(model_type="qwen2_eagle")))
    assert (selection.site, len(selection.entries)) == ("pre_mlp", 1)
    assert any("no norm stands on the input" in note for note in selection.notes)


@pytest.mark.parametrize("ends", [True, False])
def test_the_sentence_encoder_of_xlm_r_is_pre_norm_where_a_norm_follows_its_last_block(ends):
    """XLM-R XL has one; XLM-R and RoBERTa have a norm on the embeddings alone. ESM's, under other names, is another."""
    stack = "encoder.sentence_encoder"
    shapes = blocks_of(["self_attn_layer_norm", "final_layer_norm"], f"{stack}.layers")
    shapes[f"{stack}.layernorm_embedding.weight"] = shapes["encoder.lm_head.layer_norm.weight"] = (4,)
    if ends:
        shapes[f"{stack}.layer_norm.weight"] = (4,)
    told = places_of(checkpoint_of(shapes))
    assert told["self_attn_layer_norm"] == ("input" if ends else "post_attention")


def test_the_mlps_own_norm_tells_no_side_where_no_norm_follows_the_last_block():
    shapes = blocks_of(["ln1", "ln2", "ffn.ln"], "decoder.layers") | matrices(["enc_attn.w"], "decoder.layers")
    assert places_of(checkpoint_of(shapes)) == {"ln1": "ln1", "ln2": "ln2", "ffn.ln": "ffn.ln"}


def test_the_norms_of_hunyuan_dit_are_not_those_of_diffusers():
    """hydit/modules/models.py: attn1(norm1), attn2(norm3), mlp(norm2); in diffusers norm3 is the MLP's."""
    shapes = blocks_of(["norm1", "norm2", "norm3"], "blocks") | {"t_embedder.mlp.0.weight": (4, 4)}
    shapes |= matrices(["attn1.Wqkv.weight", "attn2.q_proj.weight", "mlp.fc1.weight"], "blocks")
    assert not set(places_of(checkpoint_of(shapes)).values()) & {"input", "pre_mlp", "post_attention", "post_mlp"}
