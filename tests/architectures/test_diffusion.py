"""Diffusion models: their blocks under diffusers' names and others, places as diffusers' own code has them."""

from __future__ import annotations

import pytest

import gammatorch
from tests.architectures.headers import blocks_of, checkpoint_of

DIFFUSERS = '{"_class_name": "SomeTransformer2DModel", "_diffusers_version": "0.42.1"}'
TIME = {"time_embed.linear_1.weight": (4, 4)}

BLOCKS = {
    "BasicTransformerBlock": (
        ["norm1", "norm2", "norm3", "attn1.to_q", "attn2.to_q"],
        {"input": "norm1", "pre_mlp": "norm3", "norm2": "norm2"},
    ),
    "BasicTransformerBlock without cross-attention": (
        ["norm1", "norm3", "attn1.to_q"],
        {"input": "norm1", "pre_mlp": "norm3"},
    ),
    "CogVideoXBlock": (
        ["norm1.norm", "norm2.norm", "attn1.norm_q", "attn1.norm_k", "attn1.to_q"],
        {"input": "norm1.norm", "pre_mlp": "norm2.norm", "query": "attn1.norm_q", "key": "attn1.norm_k"},
    ),
    "HunyuanDiTBlock": (
        ["norm1.norm", "norm2", "norm3", "attn1.to_q", "attn2.to_q"],
        {"input": "norm1.norm", "pre_mlp": "norm3", "norm2": "norm2"},
    ),
    "WanTransformerBlock": (
        ["norm2", "attn1.norm_q", "attn1.norm_k", "attn2.norm_q"],
        {"query": "attn1.norm_q", "key": "attn1.norm_k", "norm2": "norm2", "attn2.norm_q": "attn2.norm_q"},
    ),
    "ZImageTransformerBlock": (
        ["attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2", "attention.to_q"],
        {
            "input": "attention_norm1",
            "post_attention": "attention_norm2",
            "pre_mlp": "ffn_norm1",
            "post_mlp": "ffn_norm2",
        },
    ),
    "Lumina2TransformerBlock": (  # its second norm stands on attention's output, others' of that name before the MLP
        ["norm1.norm", "norm2", "ffn_norm1", "ffn_norm2", "attn.to_q"],
        {"norm1": "norm1.norm", "norm2": "norm2", "pre_mlp": "ffn_norm1", "post_mlp": "ffn_norm2"},
    ),
    "FluxTransformerBlock": (
        ["norm1.linear", "attn.norm_q", "attn.norm_k", "attn.norm_added_q"],
        {"query": "attn.norm_q", "key": "attn.norm_k", "attn.norm_added_q": "attn.norm_added_q"},
    ),
}


def shapes_of(names: list[str]) -> dict[str, tuple[int, ...]]:
    weights = blocks_of(names, stack="transformer_blocks")
    return {key: (4,) if "norm" in key.split(".")[-2] else (4, 4) for key in weights} | TIME


@pytest.mark.parametrize("config", [DIFFUSERS, None], ids=["config.json", "no config.json"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_final_norm_without_weights_makes_no_block_post_norm(block, config):
    names, places = BLOCKS[block]
    with checkpoint_of(shapes_of(names), config) as checkpoint:
        (stack,) = gammatorch.find_stacks(checkpoint)
    found = {site.place: site.pattern for site in stack.sites}
    assert found == {place: f"transformer_blocks.{{layer}}.{name}.weight" for place, name in places.items()}
    assert stack.layout != "post-LN"
    assert any("time step" in note for note in stack.notes)


@pytest.mark.parametrize("marker", ["adaLN_modulation.1", "scale_shift_table", "t_embedder.mlp.0", "time_embedding.0"])
def test_blocks_that_a_time_step_conditions_are_not_guessed_at(marker):
    shapes = blocks_of(["norm1", "norm2"], stack="blocks") | {f"blocks.0.{marker}.weight": (4, 4)}
    with checkpoint_of(shapes) as checkpoint, pytest.raises(gammatorch.SiteNotFound, match="do not tell which norm"):
        gammatorch.read_gains(checkpoint, device="cpu")


def test_without_a_time_step_a_missing_final_norm_tells():
    with checkpoint_of(blocks_of(["self_attn_layer_norm", "final_layer_norm"], stack="layers")) as checkpoint:
        assert gammatorch.read_gains(checkpoint, device="cpu").site == "post_attention"
