"""A model's configuration, made so small that the model can be built and run in a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from gammatorch.checkpoints.base import JsonObject

Keywords = dict[str, Any]
"""Keyword arguments of a configuration's class."""

WIDTH = 64
HEADS = 4
HEAD_WIDTH = WIDTH // HEADS
LAYERS = 4
VOCABULARY = 256

_RULES: tuple[tuple[str, int], ...] = (
    (r"num_hidden_layers|n_layers?|num_layers|depth|num_blocks", LAYERS),
    (r"(encoder|decoder)_(num_hidden_)?layers|num_(encoder|decoder)_(hidden_)?layers", LAYERS),
    (r"num_nextn_predict_layers|num_mtp_.*|mtp_num_.*|num_kv_shared_layers|hidden_size_per_layer_input", 0),
    (r"hidden_size|d_model|n_embd|embed_dim|emb_dim|hidden_dim|dim|model_dim|width|hidden_channels|lru_width", WIDTH),
    (r"embedding_size|word_embed_proj_dim|embedding_dim|d_embed|attention_hidden_size", WIDTH),
    (
        r"(encoder|decoder)_(hidden_size|dim)|.*_output_size|output_channels|out_hidden_size|projection_dim|.*_hidden_size",
        WIDTH,
    ),
    (r"intermediate_size|ffn_dim|d_ff|dff|n_inner|.*_ffn_dim|.*intermediate_size|ffn_hidden_size|mlp_dim", 2 * WIDTH),
    (r"d_kv|head_dim|attention_head_dim|.*_head_dim|kv_channels|d_head|dim_head|head_size", HEAD_WIDTH),
    (r"rotary_dim", HEAD_WIDTH // 2),
    (r"num_attention_heads|n_heads?|num_heads|.*attention_heads|.*num_heads|num_query_heads|num_attn_heads", HEADS),
    (r"num_key_value_heads|.*num_key_value_heads|num_kv_heads|multi_query_group_num", HEADS // 2),
    (r"vocab_size|.*_vocab_size(_.*)?|vocabulary_size", VOCABULARY),
    (r"max_position_embeddings|n_positions|n_ctx|max_(source|target)_positions|max_seq_len|max_sequence_length", 128),
    (r"num_(local_|routed_)?experts|n_routed_experts|moe_num_experts|num_experts_per_layer", 4),
    (r"num_experts_per_tok|moe_topk|moe_k|top_k|num_selects|expert_top_k|num_experts_per_token", 2),
    (r"n_group|topk_group|num_expert_group", 1),
    (r"q_lora_rank|kv_lora_rank|.*_lora_rank|.*_low_rank_dim|.*lora_dim", 16),
    (r"first_k_dense_replace", 1),
    (r"(mamba_)?chunk_size", 16),
    (r"image_size", 32),
    (r"patch_size", 8),
    (r"num_pos_feats", WIDTH // 2),
)
"""Settings by their name, and the size they are cut to."""

_FEW_LAYERS = 2
_COUNTS = (
    *((pattern, _FEW_LAYERS) for pattern, size in _RULES[:2]),
    *((pattern, size) for pattern, size in _RULES if "vocab" in pattern or "experts" in pattern or not size),
)
"""The rules for numbers of blocks and experts and for the vocabulary alone."""

_SPREADS = re.compile(r"initializer_range|init_std|layer_?scale(_init)?_value|layer_scale_initial_scale")
_LEAST_SPREAD = 0.02
"""Settings for the size of what sub-layers are initialised with, and the least that they are raised to: with SAM's
1e-10 no sub-layer adds anything to the residual stream, and flows that should differ are all alike."""

_STREAM = frozenset({"hidden_size", "d_model", "n_embd", "embed_dim", "dim", "emb_dim", "hidden_dim", "model_dim"})
"""Names for the width of the residual stream."""

_HEAD_COUNTS = r"n_heads?|.*num_heads|.*attention_heads|.*num_key_value_heads|num_(query|kv)_heads"
_HEAD_WIDTHS = r"d_kv|head_dim|.*_head_dim|kv_channels|d_head|dim_head|head_size|rotary_dim"

_OFTEN_NONE = {
    "vocab_size": VOCABULARY,
    "head_dim": HEAD_WIDTH,
    "attention_head_dim": HEAD_WIDTH,
    "num_key_value_heads": HEADS,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
}


def tiny_settings(config: Any) -> Iterator[Keywords]:
    """Sets of settings that make a configuration's model tiny, the plainest first; the first that builds will do.

    Args:
        config: An instance of a transformers configuration.
    """
    plain = _cut(config)
    yield plain
    with_lists = _with(plain, config, _cut_lists)
    yield with_lists
    yield _with(with_lists, config, _fill)
    yield _with(_with(with_lists, config, _fill), config, _all_heads)
    yield _with(plain, config, _fill)
    yield _with(plain, config, _all_heads)
    for sections in ([4, 2, 2], [2, 1, 1]):
        yield _with(plain, config, partial(_cut_sections, sections))
    divided = _divide(config, _divisor(config))
    yield divided
    yield _with(divided, config, _cut_lists)
    yield from _with_widths(config)


def _with_widths(config: Any) -> Iterator[Keywords]:
    """Settings that leave the widths as they are, which may depend on each other in ways that no rule knows."""
    few = _with(_cut(config, _COUNTS), config, _stages_given)
    yield _with(few, config, _cut_lists)
    yield few


def _nested(config: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(config).items():
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            yield name, value


def _cut(config: Any, rules: Sequence[tuple[str, int]] = _RULES) -> Keywords:
    settings: Keywords = {}
    for name, value in vars(config).items():
        if type(value) is int and value > 0 and not (name == "num_layers" and hasattr(config, "depths")):  # stages
            size = next((size for pattern, size in rules if re.fullmatch(pattern, name)), None)
            if size is not None:
                settings[name] = min(value, size)
            elif name.endswith("_token_id") and value >= VOCABULARY:
                settings[name] = 1
        elif type(value) is float and 0 < value < _LEAST_SPREAD and _SPREADS.fullmatch(name):
            settings[name] = _LEAST_SPREAD
    for name, value in _nested(config):
        settings[name] = {"model_type": value.model_type, **_cut(value, rules)}
    return settings


def _divisor(config: Any) -> int:
    """By what the widths of a configuration can be divided, so that the largest comes near the tiny width."""
    widths = [value for level in _levels(config) for name, value in vars(level).items() if name in _STREAM]
    largest = max((width for width in widths if type(width) is int), default=WIDTH)
    return max(1, largest // WIDTH)


def _levels(config: Any) -> Iterator[Any]:
    yield config
    for _, value in _nested(config):
        yield from _levels(value)


def _divide(config: Any, divisor: int) -> Keywords:
    """All widths and counts of heads divided by one number, widths of heads kept: what fitted together still fits."""
    settings = _cut(config)
    for name, value in vars(config).items():
        if type(value) is not int or value <= 1:
            continue
        if re.fullmatch(_HEAD_COUNTS, name):
            settings[name] = max(1, value // divisor)
        elif re.fullmatch(_HEAD_WIDTHS, name):
            settings[name] = value
        elif settings.get(name) in (WIDTH, 2 * WIDTH, 16) and value > divisor:
            settings[name] = max(1, value // divisor)
    for name, value in _nested(config):
        settings[name] = {"model_type": value.model_type, **_divide(value, divisor)}
    return settings


def _with(settings: JsonObject, config: Any, more: Any) -> Keywords:
    """The settings with what a function adds to each level of the configuration."""
    result = {**settings, **more(config, settings)}
    for name, value in _nested(config):
        result[name] = _with(settings.get(name, {}), value, more)
    return result


def _cut_lists(config: Any, settings: JsonObject) -> Keywords:
    """Lists with an entry per layer, cut to as many layers, every kind of layer kept."""
    cut: Keywords = {}
    counts = {name: value for name, value in vars(config).items() if name in settings and type(value) is int}
    for name, value in vars(config).items():
        if isinstance(value, (list, tuple)) and len(value) > 1:
            counted = next((count for count, full in counts.items() if full == len(value)), None)
            if counted is not None and settings[counted] in (LAYERS, _FEW_LAYERS):
                cut[name] = [value[index] for index in _representatives(value, settings[counted])]
    return cut


def _stages_given(config: Any, settings: JsonObject) -> Keywords:
    """The stages that a backbone gives, which its model chooses: by itself its type would give the last one alone."""
    given = getattr(config, "out_features", None)
    return {"out_features": given} if given else {}


def _representatives(values: Sequence[Any], count: int) -> list[int]:
    """Indices of the first entry of each kind, filled up from the front."""
    firsts = [index for index, value in enumerate(values) if value not in values[:index]][:count]
    return sorted([*firsts, *[index for index in range(len(values)) if index not in firsts][: count - len(firsts)]])


def _fill(config: Any, settings: JsonObject) -> Keywords:
    return {name: value for name, value in _OFTEN_NONE.items() if vars(config).get(name, 0) is None}


def _cut_sections(sections: Sequence[int], config: Any, settings: JsonObject) -> Keywords:
    """Sections of a multimodal rotary embedding that sum to half a cut head, or to half of its rotary half."""
    return {
        name: {**value, "mrope_section": list(sections)}
        for name, value in vars(config).items()
        if isinstance(value, dict) and "rope_theta" in value
    }


def _all_heads(config: Any, settings: JsonObject) -> Keywords:
    return {name: HEADS for name in settings if "key_value_heads" in name or name == "num_kv_heads"}
