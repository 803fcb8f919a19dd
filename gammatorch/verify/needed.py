"""What some model types need to be built tiny, beyond what the rules for shrinking give: settings as data."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.checkpoints.base import JsonObject

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_ROPE_BY_KIND = {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}}
_SECTIONS = {"rope_parameters": _ROPE | {"mrope_section": [4, 2, 2]}}
_HYBRID = {"layers_block_type": ["linear_attention", "linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 4}
_EXPERTS = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
_NO_LAYER_INPUT = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 4}
_INDEXER = {
    "head_dim": 16,
    **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16},
    **{"indexer_compress_ratio": 4},
}
_VQ = {"base_channels": 32, "channel_multiplier": [1, 1], "attn_resolutions": [], "num_embeddings": 64, "embed_dim": 64}

NEEDED: Mapping[str, JsonObject] = {
    # what their defaults leave out
    "xmod": {"default_language": "en_XX"},
    "informer": {"prediction_length": 8},
    "time_series_transformer": {"prediction_length": 8},
    "moonshine_streaming": {"num_key_value_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_hidden_layers": 4},
    "qwen4_exp_text": _INDEXER,
    "qwen4_exp": {"text_config": _INDEXER},
    "reformer": {
        **{"axial_pos_embds": False, "num_buckets": 4, "attention_head_size": 16},
        **{"attn_layers": ["local", "lsh"] * 2, "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8},
    },
    "diffusion_gemma": {"text_config": _EXPERTS},
    "deepseek_ocr2": {
        "text_config": {"num_experts_per_tok": 2, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}
    },
    "chameleon": {"vocabulary_map": {"<image>": 250, "<reserved08707>": 251, "IMGIMGA": 252}, "vq_config": _VQ},
    "emu3": {
        "vocabulary_map": {"<image>": 250, "<|extra_200|>": 251, "<|visual token 000000|>": 252},
        "vq_config": _VQ,
    },
    # rotary embeddings that their defaults leave out or size for the full model
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8}, "rope_parameters": _ROPE},
    "cohere_compass_text": _ROPE_BY_KIND,
    "cohere_compass": {"text_config": _ROPE_BY_KIND},
    "hunyuan_vl": {"text_config": {"head_dim": 16, **_SECTIONS}},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": _ROPE | {"mrope_section": [3, 3, 2]}}},
    # settings that must agree with others
    "mamba2": {"hidden_size": 64, "expand": 2, "num_heads": 8, "head_dim": 16},
    "esmc": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "nemotron_h": {"n_groups": 2},
    "nemotron_h_omni": {"text_config": {"n_groups": 2}, "vision_config": {"video_temporal_patch_size": 2}},
    "nemo_speechlm": {"text_config": {"n_groups": 2}},
    "zamba": {**_HYBRID, "num_key_value_heads": 4, "attention_head_dim": 32, "attention_hidden_size": 128},
    "zamba2": {
        **{**_HYBRID, "num_key_value_heads": 4, "attention_head_dim": 32, "attention_hidden_size": 128},
        **{"n_mamba_heads": 4, "mamba_d_state": 16, "chunk_size": 16},
    },
    "mobilebert": {"true_hidden_size": 64, "intra_bottleneck_size": 64, "embedding_size": 64},
    "gemma4_assistant": {"text_config": {"model_type": "gemma4_text", "num_hidden_layers": 4, **_NO_LAYER_INPUT}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [3, 2]}},
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        "encoder_config": {"hidden_size_global": 64, "cross_attn_k": 2},
        "decoder_config": {"hidden_size_global": 64},
    },
}
"""By ``model_type``: what their defaults leave out, or what must agree with settings that were cut."""
