"""Configurations cut down: what is cut, what is kept, and what a tiny model is called with."""

from __future__ import annotations

import itertools

import pytest
import transformers

from gammatorch.verify.inputs import BATCH, possible_inputs
from gammatorch.verify.shrink import tiny_settings


def test_widths_heads_blocks_and_words_are_cut():
    settings = next(tiny_settings(transformers.LlamaConfig()))
    assert settings["hidden_size"] == settings["num_attention_heads"] * settings["head_dim"] == 64
    assert (settings["num_hidden_layers"], settings["vocab_size"]) == (4, 256)


def test_weights_too_small_to_act_are_drawn_larger():
    assert transformers.SamVisionConfig().initializer_range == 1e-10
    assert next(tiny_settings(transformers.SamVisionConfig()))["initializer_range"] == 0.02
    assert "initializer_range" not in next(tiny_settings(transformers.LlamaConfig(initializer_range=0.5)))


def test_in_the_end_widths_are_kept_and_a_backbone_gives_the_stages_that_its_model_chose():
    (settings, _) = list(tiny_settings(transformers.RTDetrConfig()))[-2:]
    assert settings["decoder_layers"] == 2 and "d_model" not in settings
    assert settings["backbone_config"]["out_features"] == ["stage2", "stage3", "stage4"]


def test_stages_are_not_taken_for_blocks():
    for settings in tiny_settings(transformers.SwinConfig()):
        assert "num_layers" not in settings


def test_lists_with_an_entry_per_layer_are_cut_with_the_layers_and_keep_every_kind():
    kinds = ["linear_attention"] * 7 + ["full_attention"]
    config = transformers.Qwen3NextConfig(num_hidden_layers=8, layer_types=kinds)
    cut = [settings["layer_types"] for settings in tiny_settings(config) if "layer_types" in settings]
    assert {len(types) for types in cut} == {2, 4} and all(set(types) == set(kinds) for types in cut)


@pytest.mark.parametrize(
    ("config", "build", "name", "shape"),
    [
        (transformers.MgpstrConfig(num_hidden_layers=1), transformers.MgpstrModel, "pixel_values", (3, 32, 128)),
        (transformers.ViTConfig(num_hidden_layers=1), transformers.ViTModel, "pixel_values", (3, 224, 224)),
        (
            transformers.InformerConfig(prediction_length=8, d_model=16, encoder_layers=1, decoder_layers=1),
            transformers.InformerModel,
            "past_values",
            (15,),
        ),
    ],
)
def test_what_a_model_is_called_with_has_the_shape_that_its_configuration_says(config, build, name, shape):
    offered = itertools.islice(possible_inputs(build(config)), 8)
    assert (BATCH, *shape) in [tuple(arguments[name].shape) for arguments in offered if name in arguments]
