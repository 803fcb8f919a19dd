"""Choosing tensors by site, stack and pattern, on headers alone."""

from __future__ import annotations

import json

import pytest

import gammatorch
from gammatorch import errors
from gammatorch.architectures.select import select
from gammatorch.architectures.stacks import find_stacks
from tests.architectures.headers import LLAMA, PATTERN, blocks_of, checkpoint_of, llama

TEXT = {"model_type": "bert", "hidden_size": 6, "num_hidden_layers": 7}
VISION = {"model_type": "clip_vision_model", "hidden_size": 4, "num_hidden_layers": 3}


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


@pytest.mark.parametrize(
    ("stack", "config"),
    [
        ("decoder.layers", {"model_type": "grounding-dino", "d_model": 4, "decoder_layers": 3, "text_config": TEXT}),
        ("vision_model.encoder.layers", {"model_type": "clip", "vision_config": VISION, "text_config": TEXT}),
        ("detr_decoder.layers", {"model_type": "sam3", "detr_decoder_config": VISION, "text_config": TEXT}),
        ("encoder.layer", {"model_type": "mobilebert", "hidden_size": 64, "true_hidden_size": 4}),
        (
            "encoder.layer",
            {"model_type": "lxmert", "hidden_size": 4, "num_hidden_layers": {"language": 3, "vision": 5}},
        ),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_what_config_json_says_of_another_stack_is_not_held_against_this_one(stack, config):
    shapes = blocks_of(["input_layernorm", "mlp.norm"], stack)
    assert select(checkpoint_of(shapes, json.dumps(config))).layers == (0, 1, 2)
    with pytest.raises(errors.WidthMismatch, match="config.json says hidden size"):
        select(checkpoint_of(dict.fromkeys(shapes, (5,)), json.dumps(config)))


@pytest.mark.parametrize("count", [10**60, 10**9, 0, -1, 1.5, True, "3"])
def test_a_count_that_is_none_is_refused_before_anything_is_made_of_it(count):
    with pytest.raises(errors.MalformedCheckpoint, match="num_hidden_layers is .*, not a positive whole number"):
        select(checkpoint_of(llama(), json.dumps({"model_type": "llama", "num_hidden_layers": count})))


def test_the_number_of_layers_of_a_tower_is_not_enough_for_the_text_model():
    config = {"model_type": "llava", "vision_config": VISION, "text_config": TEXT | {"hidden_size": 4}}
    with pytest.raises(errors.IncompleteCheckpoint, match=r"layers 3-6 .* missing \(config.json says 7\)"):
        select(checkpoint_of(llama(), json.dumps(config)))


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


def test_a_pattern_of_a_norm_that_stands_at_no_place_adds_its_offset():
    """T5Gemma's norms of cross-attention: `inspect` names their pattern, and they are 1 + w."""
    names = {"pre_self_attn_layernorm", "pre_cross_attn_layernorm", "pre_feedforward_layernorm"}
    shapes = {f"decoder.layers.{layer}.{name}.weight": (16,) for layer in range(3) for name in names}
    checkpoint = checkpoint_of(shapes, json.dumps({"model_type": "t5_gemma_module"}))
    pattern = "decoder.layers.{layer}.pre_cross_attn_layernorm.weight"
    (listed,) = [site for stack in find_stacks(checkpoint) for site in stack.sites if site.pattern == pattern]
    selection = select(checkpoint, pattern=pattern)
    assert (selection.site, selection.offset, listed.offset) == ("pattern", 1.0, 1.0)


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


def test_norms_per_head_are_read_head_by_head():
    shapes = llama() | {f"model.layers.{n}.self_attn.q_norm.weight": (2, 3) for n in range(3)}
    gains = gammatorch.read_gains(checkpoint_of(shapes, LLAMA), site="query", device="cpu")
    assert gains.gamma.shape == (3, 6)


def test_an_adapter_has_no_norms_of_its_own():
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A.weight" for layer in range(2)]
    with pytest.raises(errors.SiteNotFound, match="LoRA adapter.*pass that model"):
        select(checkpoint_of(dict.fromkeys(names, (2, 4))))


def test_parameters_that_are_kept_elsewhere_are_no_gains():
    with pytest.raises(errors.MalformedCheckpoint, match=r"layers.0.input_layernorm.weight: is empty.*zero_to_fp32"):
        select(checkpoint_of({f"model.layers.{layer}.input_layernorm.weight": (0,) for layer in range(2)}))
