"""Offsets belong to the type of the stack: which part of config.json tells it, and what it is if that does not say."""

from __future__ import annotations

import json

import pytest

import gammatorch
from gammatorch.architectures.config import read_config
from gammatorch.architectures.select import select
from gammatorch.architectures.stacks import find_stacks
from tests.architectures.headers import blocks_of, checkpoint_of, llama

NORMS = ["input_layernorm", "post_attention_layernorm"]
GEMMA = {"model_type": "gemma2", "num_hidden_layers": 3}
LLAMA = {"model_type": "llama", "num_hidden_layers": 3}
VIT = {"model_type": "vit"}
SIGLIP = {"model_type": "siglip_vision_model"}


def stacks_of(config: dict, *names: str):
    shapes = {key: shape for name in names for key, shape in blocks_of(NORMS, name).items()}
    return {stack.name: stack for stack in find_stacks(checkpoint_of(shapes, json.dumps(config)))}


def offsets_of(config: dict, *names: str) -> list[float]:
    """The offset of each stack, which is that of its first norm."""
    stacks = stacks_of(config, *names)
    return [stacks[name].sites[0].offset for name in names]


TEXT, TOWER = "language_model.model.layers", "vision_tower.encoder.layers"


@pytest.mark.parametrize(
    "vlm",
    [
        {"model_type": "paligemma", "text_config": {"model_type": "gemma"}, "vision_config": SIGLIP},
        {"model_type": "paligemma", "text_config": {}},
        {"text_config": {"num_hidden_layers": 3}, "vision_config": {}},
        {},
    ],
)
def test_a_wrapper_of_a_wrapper_leads_to_the_text_model(vlm):
    config = {"model_type": "colpali", "vlm_config": vlm}
    assert offsets_of(config, f"vlm.{TEXT}", f"vlm.{TOWER}") == [1, 0]
    assert read_config(config).types == ("colpali", "paligemma", "gemma")
    assert all(stack.offset_doubt is None for stack in stacks_of(config, f"vlm.{TEXT}", f"vlm.{TOWER}").values())


def test_what_the_inner_text_model_says_of_its_layers_is_held_against_the_headers():
    config = {"model_type": "colpali", "vlm_config": {"model_type": "paligemma", "text_config": LLAMA}}
    assert (read_config(config).num_layers, read_config(config).raw) == (3, LLAMA)


@pytest.mark.parametrize("model_type", ["step3p5", "moonshine_streaming_encoder", "interns2_mobius_text", "plamo3"])
def test_types_that_store_less_than_the_gain(model_type):
    assert offsets_of({"model_type": model_type}, "model.layers") == [1]


def test_plamo3_adds_to_queries_and_keys_as_well():
    shapes = blocks_of(["pre_mixer_norm", "post_mixer_norm", "mixer.q_norm", "mixer.k_norm"], "model.layers.layers")
    (stack,) = find_stacks(checkpoint_of(shapes, '{"model_type": "plamo3"}'))
    assert [(site.place, site.offset) for site in stack.sites] == [
        ("input", 1),
        ("post_attention", 1 / 5),
        ("query", 1),
        ("key", 1),
    ]


def test_norms_at_no_place_have_their_own_offset():
    pattern = "model.layers.{layer}.mlp.experts.post_expert_norm.weight"
    shapes = blocks_of(["input_layernorm", "mlp.experts.post_expert_norm"])
    assert select(checkpoint_of(shapes, '{"model_type": "muse_spark_text"}'), pattern=pattern).offset == 1
    assert select(checkpoint_of(shapes, '{"model_type": "gemma2"}'), pattern=pattern).offset == 1
    assert select(checkpoint_of(shapes, '{"model_type": "step3p5"}'), pattern=pattern).offset == 0


@pytest.mark.parametrize("encoder", [{"model_type": "moonshine_streaming_encoder"}, {"hidden_size": 4}, None])
def test_an_encoder_may_be_zero_centred_where_its_decoder_is_not(encoder):
    config = {"model_type": "moonshine_streaming", **({"encoder_config": encoder} if encoder else {})}
    assert offsets_of(config, "model.encoder.layers", "model.decoder.layers") == [1, 0]


@pytest.mark.parametrize(
    ("encoder", "decoder", "offsets"),
    [(VIT, GEMMA, [0, 1]), (GEMMA, {"model_type": "bert"}, [1, 0]), (GEMMA, GEMMA, [1, 1]), (VIT, LLAMA, [0, 0])],
)
def test_encoder_and_decoder_are_of_types_of_their_own(encoder, decoder, offsets):
    config = {"model_type": "vision-encoder-decoder", "encoder": encoder, "decoder": decoder}
    assert offsets_of(config, "encoder.encoder.layer", "decoder.bert.encoder.layer") == offsets


def test_the_part_named_first_is_followed_into_its_own_parts():
    inner = {"text_config": {}, "vision_config": SIGLIP}
    config = {"model_type": "t5gemma2", "encoder": inner, "decoder": {}}
    names = ("model.encoder.layers", "model.encoder.vision_tower.encoder.layers", "model.decoder.layers")
    assert offsets_of(config, *names) == [1, 0, 1]


def test_a_wrapper_is_as_plain_as_the_text_model_in_it():
    for model_type in ("minicpmv4_6", "paligemma", "llava"):
        assert offsets_of({"model_type": model_type, "text_config": LLAMA}, TEXT) == [0]
        assert offsets_of({"model_type": model_type, "text_config": GEMMA}, TEXT) == [1]


def test_a_part_that_is_always_of_one_type_may_say_another():
    assert offsets_of({"model_type": "minimax_m3_vl", "text_config": {"model_type": "minimax_m2"}}, TEXT) == [1]
    (stack,) = stacks_of({"model_type": "step3p7", "text_config": {"model_type": "nowhere_else"}}, TEXT).values()
    assert (stack.sites[0].offset, stack.offset_doubt) == (1, None)


@pytest.mark.parametrize("name", ["lm_config", "qwen_lm_config", "text_model_config", "llm_cfg", "brain"])
def test_the_text_model_is_found_under_a_name_that_no_table_has(name):
    config = {"model_type": "novel_vlm", "vision_config": SIGLIP, name: GEMMA | {"num_hidden_layers": 3}}
    assert (read_config(config).types, read_config(config).num_layers) == (("novel_vlm", "gemma2"), 3)
    assert offsets_of(config, "model.layers", TOWER) == [1, 0]


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "novel_vlm", "backbone_config": GEMMA},
        {"model_type": "novel_vlm", "one": GEMMA, "two": LLAMA},
        {"model_type": "novel_lm", "num_hidden_layers": 3, "draft": GEMMA},
        {"model_type": "llama", "draft": GEMMA},
        {"model_type": "novel_lm", "notes": {"num_hidden_layers": 9}},
    ],
)
def test_a_part_that_may_be_another_is_not_taken_for_the_text_model(config):
    assert read_config(config).types == (config["model_type"],)
    assert offsets_of(config, "model.layers") == [0]


def test_stacks_that_no_part_names_are_the_wrappers_own_where_another_is_named_as_the_text_model():
    config = {"model_type": "nemo_speechlm", "text_config": GEMMA}
    assert offsets_of(config, "language_model.layers", "ctc_timestamp.decoder.layers") == [1, 0]
    assert offsets_of(config, "model.layers", "text_projector.layers") == [1, 0]
    shapes = blocks_of(NORMS, "text_encoder.layers", 2) | blocks_of(NORMS, "model.layers")  # the text model has three
    stacks = {stack.name: stack for stack in find_stacks(checkpoint_of(shapes, json.dumps(config)))}
    assert stacks["model.layers"].sites[0].offset == 1


def test_heads_that_predict_further_tokens_are_the_text_models():
    config = {"model_type": "qwen3_5", "text_config": {"num_hidden_layers": 3}}
    assert offsets_of(config, "model.language_model.layers", "mtp.layers", "model.visual.blocks") == [1, 1, 0]
    assert offsets_of({"model_type": "qwen3_next"}, "model.layers", "mtp.layers") == [1, 1]


def test_a_tower_beside_a_text_model_without_a_part_of_its_own_is_plain():
    assert offsets_of({"model_type": "gemma2"}, "model.layers", TOWER) == [1, 0]
    assert offsets_of({"model_type": "videoprism"}, "video_model.auxiliary_layers") == [1]


def test_a_part_of_an_unknown_type_is_said_to_be_unknown_and_the_others_are_not():
    config = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"model_type": "novel_vit"}}
    assert {name: stack.offset_doubt is None for name, stack in stacks_of(config, TEXT, TOWER).items()} == {
        TEXT: True,
        TOWER: False,
    }
    checkpoint = checkpoint_of(blocks_of(NORMS, TEXT) | blocks_of(NORMS, TOWER), json.dumps(config))
    assert gammatorch.read_gains(checkpoint, device="cpu").notes == ()
    (note,) = gammatorch.read_gains(checkpoint, stack="vision", device="cpu").notes
    assert note.startswith("model type 'novel_vit' is not among the known ones: offset taken as 0")


def test_an_offset_of_the_known_part_of_an_unknown_type_is_said_to_be_taken():
    checkpoint = checkpoint_of(blocks_of(NORMS), json.dumps({"model_type": "novel_vlm", "text_config": GEMMA}))
    gains = gammatorch.read_gains(checkpoint, device="cpu")
    assert gains.offset == 1
    assert gains.notes[0].startswith("model type 'novel_vlm' is not among the known ones: offset taken as 1")


@pytest.mark.parametrize(
    ("model_type", "architecture", "offset"),
    [("llama", "GemmaForCausalLM", 0.0), ("gemma", "LlamaForCausalLM", 1.0), ("mistral", "NemotronForCausalLM", 0.0)],
)
def test_a_type_that_the_architecture_contradicts_is_doubted(model_type, architecture, offset):
    """The type decides, as in transformers, and a note tells of the other."""
    config = json.dumps({"model_type": model_type, "architectures": [architecture], "num_hidden_layers": 3})
    selection = select(checkpoint_of(llama(), config))
    assert selection.offset == offset
    assert architecture in (selection.offset_doubt or "")


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "LlamaModel", "MyOwnLM", "MistralForCausalLM", 3])
def test_an_architecture_of_the_same_offset_says_nothing(architecture):
    config = json.dumps({"model_type": "llama", "architectures": [architecture], "num_hidden_layers": 3})
    assert select(checkpoint_of(llama(), config)).offset_doubt is None
