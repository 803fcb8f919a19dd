"""SmolLM2-135M-Instruct: its configuration, the names and shapes of its tensors, and its trained norm gains.

The package carries the gains, 77 kB; ``data/SmolLM2-135M-Instruct/ORIGIN.md`` tells where they come from.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from gammatorch.bench.layouts import Shapes
from gammatorch.checkpoints.base import JsonObject
from gammatorch.checkpoints.safetensors.headers import LENGTH_BYTES, parse_header
from gammatorch.errors import MalformedCheckpoint, UnreadableCheckpoint

NAME = "SmolLM2-135M-Instruct"

CONFIG: JsonObject = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 49152,
}
"""What its config.json says, as far as it has a bearing on the weights."""

GAINS_SHA256 = "0f0d4c4f5baa071275f6769ae5dbd550f1e909decc74ddfcf94e844a9fe6bef7"


def tensor_shapes() -> Shapes:
    """Its 272 tensors, by transformers' names; the embeddings are its output matrix too."""
    hidden, mlp = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    grouped = hidden * CONFIG["num_key_value_heads"] // CONFIG["num_attention_heads"]
    yield "model.embed_tokens.weight", (CONFIG["vocab_size"], hidden)
    for layer in range(CONFIG["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (hidden,)
        yield f"{block}.mlp.down_proj.weight", (hidden, mlp)
        yield f"{block}.mlp.gate_proj.weight", (mlp, hidden)
        yield f"{block}.mlp.up_proj.weight", (mlp, hidden)
        yield f"{block}.post_attention_layernorm.weight", (hidden,)
        yield f"{block}.self_attn.k_proj.weight", (grouped, hidden)
        yield f"{block}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{block}.self_attn.q_proj.weight", (hidden, hidden)
        yield f"{block}.self_attn.v_proj.weight", (grouped, hidden)
    yield "model.norm.weight", (hidden,)


def trained_gains() -> dict[str, bytes]:
    """The weights of its 61 norms as trained, bfloat16 as stored, by transformers' names.

    Raises:
        UnreadableCheckpoint: The package's file of them is not there, or cannot be read.
        MalformedCheckpoint: It is not the file that the package came with.

    Example:
        >>> gains = trained_gains()
        >>> len(gains), {len(weight) // 2 for weight in gains.values()}
        (61, {576})
    """
    path = files("gammatorch.bench").joinpath("data", NAME, "norms.safetensors")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableCheckpoint(
            f"the demo's gains cannot be read ({error.strerror}): install gammatorch again", file=str(path)
        ) from None
    if hashlib.sha256(raw).hexdigest() != GAINS_SHA256:
        raise MalformedCheckpoint(
            "the demo's gains are not those that gammatorch came with: install gammatorch again", file=str(path)
        )
    header = raw[LENGTH_BYTES : LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little")]
    entries = parse_header(header, path.name, len(raw), str(path))
    return {key: raw[entry.start : entry.stop] for key, entry in entries.items()}
