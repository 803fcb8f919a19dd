"""Every rule of the tables: it speaks for the architecture it was verified on, and that one needs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gammatorch.architectures import places, sides
from gammatorch.architectures.match import find_stacks
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
