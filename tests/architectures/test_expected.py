"""Layers that rightly lack a norm keep their index free and are named; layers that were damaged are an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gammatorch import errors
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import Checkpoint
from tests.architectures.headers import checkpoint_of

Shapes = dict[str, tuple[int, ...]]
INPUT, MLP_NORM = "input_layernorm.weight", "post_attention_layernorm.weight"


def pruned(no_mixer: set[int], no_mlp: set[int], layers: int = 8, **config: Any) -> Checkpoint:
    """A Llama some of whose blocks lack the mixer or the MLP, and the norm before it."""
    shapes: Shapes = {"model.norm.weight": (4,)}
    for layer in range(layers):
        block = f"model.layers.{layer}."
        if layer not in no_mixer:
            shapes |= {block + INPUT: (4,), f"{block}self_attn.q_proj.weight": (4, 4)}
        if layer not in no_mlp:
            shapes |= {block + MLP_NORM: (4,), f"{block}mlp.up_proj.weight": (4, 4)}
    facts = {"model_type": "novel", "num_hidden_layers": layers, "hidden_size": 4, **config}
    return checkpoint_of(shapes, json.dumps(facts))


def block_configs(no_mixer: set[int], no_mlp: set[int], layers: int = 8) -> list[dict[str, Any]]:
    return [{"attention": {"no_op": n in no_mixer}, "ffn": {"no_op": n in no_mlp}} for n in range(layers)]


SAID: dict[str, dict[str, Any]] = {
    "Nemotron-NAS": {"model_type": "nemotron-nas", "block_configs": block_configs({3, 5}, {6})},
    "LLM-Drop, by number": {"drop_attn_list": [3, 5], "drop_mlp_list": [6]},
    "LLM-Drop, by layer": {
        "drop_attn_list": [n in (3, 5) for n in range(8)],
        "drop_mlp_list": [n == 6 for n in range(8)],
    },
    "nothing said": {},
}


@pytest.mark.parametrize("who", SAID)
def test_a_block_without_the_mixer_has_no_norm_before_it(who):
    checkpoint = pruned({3, 5}, {6}, **SAID[who])
    for site, missing, without, part in (
        ("input", {3, 5}, "layers 3, 5 have", "mixer"),
        ("pre_mlp", {6}, "layer 6 has", "MLP"),
    ):
        selection = select(checkpoint, site)
        assert selection.layers == tuple(sorted(set(range(8)) - missing))
        assert f"{without} no norm at this site, and no {part} that it would belong to" in selection.notes


@pytest.mark.parametrize("who", ["Nemotron-NAS", "LLM-Drop, by number"])
def test_a_block_that_lacks_the_mixer_though_config_json_keeps_it_is_damaged(who):
    with pytest.raises(errors.IncompleteCheckpoint, match="layer 2 has no tensor for site 'input'"):
        select(pruned({2, 3, 5}, {6}, **SAID[who]))


def test_a_block_of_which_all_was_removed_is_not_missing():
    removed = block_configs({3}, {3})
    assert select(pruned({3}, {3}, block_configs=removed)).layers == (0, 1, 2, 4, 5, 6, 7)
    with pytest.raises(errors.IncompleteCheckpoint, match="layer 3 of stack 'model.layers' missing"):
        select(pruned({3}, {3}))


def test_a_norm_that_is_missing_before_a_mixer_is_damage():
    shapes = {f"model.layers.{n}.{name}": (4,) for n in range(4) for name in (INPUT, MLP_NORM)}
    shapes |= {f"model.layers.{n}.self_attn.q_proj.weight": (4, 4) for n in range(4)}
    del shapes[f"model.layers.2.{INPUT}"]
    with pytest.raises(errors.IncompleteCheckpoint, match=f"model.layers.2.{INPUT}: layer 2 has no tensor for site"):
        select(checkpoint_of(shapes, '{"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 4}'))


def gguf(architecture: str, without: set[int], mixer: set[int], embedding_norm: bool) -> Checkpoint:
    shapes: Shapes = {"output_norm.weight": (4,)} | ({"token_embd_norm.weight": (4,)} if embedding_norm else {})
    for layer in range(6):
        shapes |= {f"blk.{layer}.ffn_norm.weight": (4,), f"blk.{layer}.ffn_up.weight": (4, 4)}
        if layer not in without:
            shapes[f"blk.{layer}.attn_norm.weight"] = (4,)
        if layer in mixer:
            shapes[f"blk.{layer}.attn_q.weight"] = (4, 4)
    config = {"model_type": f"gguf:{architecture}", "text_config": {"model_type": "gguf", "num_hidden_layers": 6}}
    return checkpoint_of(shapes, json.dumps(config))


def test_layers_may_lack_the_norm_in_gguf_as_well():
    every = set(range(6))
    assert select(gguf("modern-bert", {0}, every, embedding_norm=True)).layers == (1, 2, 3, 4, 5)
    assert select(gguf("deci", {2, 3}, every - {2, 3}, embedding_norm=False)).layers == (0, 1, 4, 5)
    for architecture, without in (("llama", {0}), ("bloom", {0}), ("modern-bert", {3})):
        with pytest.raises(errors.IncompleteCheckpoint, match="has no tensor for site 'input'"):
            select(gguf(architecture, without, every, embedding_norm=True))


def test_a_first_block_on_embeddings_that_are_normed_already_may_lack_the_norm_in_an_unknown_type():
    """YaLM keeps it beside the embeddings; of a known type it is known whether it does."""
    shapes = {f"layers.{n}.{name}": (4,) for n in range(4) for name in (INPUT, MLP_NORM)}
    shapes |= {f"layers.{n}.attention.dense.weight": (4, 4) for n in range(4)} | {"input_layernorm.weight": (4,)}
    del shapes[f"layers.0.{INPUT}"]
    selection = select(checkpoint_of(shapes))
    assert selection.layers == (1, 2, 3) and "layer 0 has no norm at this site" in selection.notes
    with pytest.raises(errors.IncompleteCheckpoint):
        select(checkpoint_of(shapes, '{"model_type": "llama"}'))


@pytest.mark.parametrize("stored", [True, False])
def test_key_norms_of_layers_that_share_keys_do_not_act(stored):
    shapes: Shapes = {}
    for layer in range(6):
        shapes |= {f"model.layers.{layer}.{INPUT}": (8,), f"model.layers.{layer}.self_attn.q_proj.weight": (8, 8)}
        if layer < 4 or stored:
            shapes |= {f"model.layers.{layer}.self_attn.{name}": (4,) for name in ("k_norm.weight", "k_proj.weight")}
    config = {"model_type": "gemma3n_text", "num_hidden_layers": 6, "hidden_size": 8, "num_kv_shared_layers": 2}
    selection = select(checkpoint_of(shapes, json.dumps(config)), "key")
    assert selection.layers == (0, 1, 2, 3)
    told = "left out: the keys are an earlier layer's" if stored else "have no norm at this site, and no keys"
    assert any(f"layers 4-5 {told}" in note for note in selection.notes)
