"""Files that are parts of one model: read whole where they stand together, named where they do not, never a part as all."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch import errors

HIDDEN = 8


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, HIDDEN, generator=torch.Generator().manual_seed(seed)) + 0.5


def block(row: torch.Tensor, prefix: str = "", input_norm: str = "input_layernorm.weight") -> dict[str, torch.Tensor]:
    return {
        prefix + input_norm: row.clone(),
        f"{prefix}post_attention_layernorm.weight": torch.ones(HIDDEN),
        f"{prefix}attention.query_key_value.weight": torch.ones(3 * HIDDEN, HIDDEN),
        f"{prefix}mlp.dense_h_to_4h.weight": torch.ones(2, HIDDEN),
    }


def assert_reads(model: Path, expected: torch.Tensor, **asked: str) -> gammatorch.Gains:
    gains = gammatorch.read_gains(model, device="cpu", **asked)
    assert gains.layers == tuple(range(len(expected)))
    torch.testing.assert_close(gains.gamma, expected.double(), rtol=0, atol=0)
    return gains


def write_gguf(folder: Path, layers: int, tensors_in_each: int, small_first: bool) -> torch.Tensor:
    writer = gguf.GGUFWriter(
        folder / "m.gguf", "llama", split_max_tensors=tensors_in_each, small_first_shard=small_first
    )
    writer.add_block_count(layers)
    writer.add_embedding_length(HIDDEN)
    gains = rows(layers)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for layer in range(layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", gains[layer].numpy())
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.ones((HIDDEN, HIDDEN), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gains


@pytest.mark.parametrize(("small_first", "each"), [(True, 5), (False, 5), (False, 3)])
def test_any_part_of_a_gguf_model_stands_for_all_of_them(tmp_path, small_first, each):
    expected = write_gguf(tmp_path, 6, each, small_first)
    files = sorted(tmp_path.glob("*.gguf"))
    assert len(files) > 2
    for model in (tmp_path, *files):
        gains = assert_reads(model, expected)
        assert any("all of them were read" in note for note in gains.notes) == (model != tmp_path)


def test_a_part_of_a_gguf_model_alone_is_named_whatever_it_is_called(tmp_path):
    write_gguf(tmp_path, 6, 5, small_first=False)
    second = next(tmp_path.glob("*-00002-of-*.gguf"))
    renamed = second.rename(tmp_path / "model.gguf")
    for part in (renamed, *tmp_path.glob("*-00001-of-*.gguf")):
        with pytest.raises(errors.IncompleteCheckpoint, match=r"split.count|not beside it"):
            gammatorch.read_gains(part, device="cpu")
    part = gammatorch.read_gains(renamed, pattern="blk.{layer}.attn_norm.weight", device="cpu")
    assert 0 < len(part.layers) < 6 and any(
        "model.gguf is part 2 of 3 (split.count in it)" in note for note in part.notes
    )


def test_parts_of_two_gguf_models_are_not_put_together(tmp_path):
    for name, layers in (("a", 6), ("b", 8)):
        (tmp_path / name).mkdir()
        write_gguf(tmp_path / name, layers, 5 if layers == 6 else 6, small_first=False)
    (tmp_path / "b" / "m-00002-of-00003.gguf").replace(tmp_path / "a" / "m-00002-of-00003.gguf")
    with pytest.raises(errors.CheckpointError, match=r"not the 3 parts of one model|stands in both"):
        gammatorch.read_gains(tmp_path / "a", device="cpu")


def megatron(
    folder: Path, stages: int, layers: int, chunks: int = 1, tensor_ranks: int = 1, **args: object
) -> torch.Tensor:
    """Folders of ranks as Megatron-LM names them; in each chunk of layers of a stage these count from nought."""
    gains = rows(layers)
    settings = argparse.Namespace(num_layers=layers, pipeline_model_parallel_size=stages, hidden_size=HIDDEN, **args)
    each = layers // (stages * chunks)
    for rank in range(tensor_ranks):
        for stage in range(stages):
            models = {}
            for chunk in range(chunks):
                first = (chunk * stages + stage) * each
                held: dict[str, torch.Tensor] = {}
                for local in range(each):
                    prefix = f"decoder.layers.{local}."
                    held[f"{prefix}self_attention.linear_qkv.layer_norm_weight"] = gains[first + local].clone()
                    held[f"{prefix}self_attention.linear_qkv.weight"] = torch.ones(2, HIDDEN)
                models[f"model{chunk}" if chunks > 1 else "model"] = held
            name = f"mp_rank_{rank:02d}_{stage:03d}" if stages > 1 else f"mp_rank_{rank:02d}"
            (folder / name).mkdir(parents=True)
            torch.save({"args": settings, "iteration": 7, **models}, folder / name / "model_optim_rng.pt")
            (folder / name / "distrib_optim.pt").write_bytes(b"not the model")
    return gains


@pytest.mark.parametrize(("stages", "chunks", "ranks"), [(1, 1, 1), (2, 1, 1), (4, 1, 2), (2, 3, 1)])
def test_pipeline_stages_of_megatron_are_numbered_through(tmp_path, stages, chunks, ranks):
    expected = megatron(tmp_path / "iter_0000007", stages, 12, chunks, ranks, apply_layernorm_1p=False)
    assert_reads(tmp_path / "iter_0000007", expected)


def test_one_pipeline_stage_is_a_part(tmp_path):
    megatron(tmp_path, 2, 12)
    for part in (tmp_path / "mp_rank_00_001", tmp_path / "mp_rank_00_001" / "model_optim_rng.pt"):
        with pytest.raises(errors.IncompleteCheckpoint, match="one of 2 pipeline stages of a model of 12 layers"):
            gammatorch.read_gains(part, device="cpu")
    (tmp_path / "mp_rank_00_000" / "model_optim_rng.pt").unlink()
    with pytest.raises(errors.IncompleteCheckpoint, match="2 pipeline stages"):
        gammatorch.read_gains(tmp_path, device="cpu")


def test_what_the_settings_of_a_stage_say_is_held_against_the_layers(tmp_path):
    megatron(tmp_path, 2, 12)
    torch.save(
        {
            "args": argparse.Namespace(num_layers=12, pipeline_model_parallel_size=2),
            "model": {"decoder.layers.0.input_layernorm.weight": torch.ones(HIDDEN)},
        },
        tmp_path / "mp_rank_00_001" / "model_optim_rng.pt",
    )
    with pytest.raises(errors.IncompleteCheckpoint, match=r"hold 7 layers, and their settings say 12 \(num_layers\)"):
        gammatorch.read_gains(tmp_path, device="cpu")


def test_nemos_ranks_are_those_of_megatron(tmp_path):
    gains = rows(4)
    for stage in range(2):
        folder = tmp_path / f"tp_rank_00_pp_rank_{stage:03d}"
        folder.mkdir()
        held = {
            f"model.language_model.encoder.layers.{local}.input_layernorm.weight": gains[2 * stage + local].clone()
            for local in range(2)
        }
        torch.save({"state_dict": held}, folder / "model_weights.ckpt")
    assert_reads(tmp_path, gains)


LAYER_FILES = {
    "GPT-NeoX": (2, 3, "norm.weight", "layer_{:02d}-model_{:02d}-model_states.pt"),
    "BLOOM": (3, 4, "weight", "layer_{:02d}-model_{:02d}-model_states.pt"),
    "no model axis": (2, 2, "weight", "layer_{:02d}-model_states.pt"),
}
"""Number of the first block's file, how far that of the final norm is behind the last block's, its key, the names."""


@pytest.mark.parametrize("trainer", LAYER_FILES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_file_per_layer_is_one_model(tmp_path, trainer, ranks):
    first, behind, final, name = LAYER_FILES[trainer]
    ranks = ranks if "{:02d}-model_{" in name else 1
    expected = rows(12)
    for rank in range(ranks):
        torch.save({"word_embeddings.weight": torch.ones(16, HIDDEN)}, tmp_path / name.format(first - 2, rank))
        for layer in range(12):
            torch.save(block(expected[layer]), tmp_path / name.format(first + layer, rank))
        last = name.format(12 + behind if trainer != "no model axis" else first + 12 + 1, rank)
        torch.save({final: torch.full((HIDDEN,), 3.0)}, tmp_path / last)
    torch.save({"module": None, "global_steps": 10}, tmp_path / "mp_rank_00_model_states.pt")
    gains = assert_reads(tmp_path, expected)
    assert any(f"layers.0 stands for layer_{first:02d}" in note for note in gains.notes)
    assert any("of 2 tensor-parallel ranks" in note for note in gains.notes) == (ranks == 2)
    assert gammatorch.read_gains(tmp_path, "final", "cpu").gamma.eq(3).all()
    one = tmp_path / name.format(first + 5, 0)
    with pytest.raises(errors.IncompleteCheckpoint, match="holds one layer of the model: pass its folder"):
        gammatorch.read_gains(one, device="cpu")
    one.unlink()
    with pytest.raises(errors.IncompleteCheckpoint, match=rf"has no layer_{first + 5:02d} between its first block"):
        gammatorch.read_gains(tmp_path, device="cpu")


def test_a_list_of_layers_that_begins_with_the_embedding_is_numbered_from_its_first_block(tmp_path):
    """GPT-NeoX without a pipeline: ``sequential.2`` is the first block."""
    expected = rows(3)
    module = {
        "sequential.0.word_embeddings.weight": torch.ones(16, HIDDEN),
        "sequential.6.norm.weight": torch.ones(HIDDEN),
    }
    for layer in range(3):
        module |= block(expected[layer], f"sequential.{layer + 2}.")
    torch.save({"module": module, "args": {"num_layers": 3}}, tmp_path / "mp_rank_00_model_states.pt")
    (tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"not the model")
    assert_reads(tmp_path, expected)


def test_zero_1_and_2_keep_the_module_beside_the_optimizers_files(tmp_path):
    expected = rows(3)
    module = {
        key: value for layer in range(3) for key, value in block(expected[layer], f"model.layers.{layer}.").items()
    }
    for rank in range(2):
        torch.save({"module": module, "dp_world_size": 2}, tmp_path / f"mp_rank_{rank:02d}_model_states.pt")
        (tmp_path / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"not the model")
    assert "of 2 tensor-parallel ranks" in assert_reads(tmp_path, expected).notes[0]


def test_zero_3_is_refused_with_its_remedy(tmp_path):
    torch.save({"module": {"a": torch.ones(0)}}, tmp_path / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    with pytest.raises(errors.UnsupportedFormat, match=r"ZeRO-3 .*run the zero_to_fp32.py"):
        gammatorch.read_gains(tmp_path, device="cpu")


RANKS = {
    "Llama": ("consolidated.{:02d}.pth", torch.save),
    "vLLM": ("model-rank-{}-part-0.safetensors", save_file),
    "TensorRT-LLM": ("rank{}.safetensors", save_file),
    "DeepSeek": ("model{}-mp2.safetensors", save_file),
}


@pytest.mark.parametrize("who", RANKS)
def test_norms_are_read_from_the_first_of_the_tensor_parallel_ranks(tmp_path, who):
    name, save = RANKS[who]
    expected = rows(3)
    for rank in range(2):
        held = {f"layers.{n}.attention_norm.weight": expected[n].clone() for n in range(3)}
        save(
            held | {"layers.0.attention.wq.weight": torch.full((2, HIDDEN), float(rank))}, tmp_path / name.format(rank)
        )
    gains = assert_reads(tmp_path, expected)
    assert "norms were read from the files of rank 0 alone, of 2 tensor-parallel ranks" in gains.notes[0]
    (tmp_path / name.format(0)).unlink()
    with pytest.raises(errors.IncompleteCheckpoint, match="not of rank 0"):
        gammatorch.read_gains(tmp_path, device="cpu")


@pytest.mark.parametrize("index", [False, True])
def test_grok_2_keeps_its_norms_in_what_the_ranks_have_in_common(tmp_path, index):
    expected = rows(3)
    names = ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm")
    common = {
        f"model.layers.{n}.{name}.weight": expected[n] + number for n in range(3) for number, name in enumerate(names)
    }
    save_file(common, tmp_path / "pytorch_model-00000-TP-common.safetensors")
    expert = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    for rank in range(2):
        save_file(
            {expert: torch.full((2, HIDDEN), float(rank))}, tmp_path / f"pytorch_model-00001-TP-{rank:03d}.safetensors"
        )
    if index:
        of = dict.fromkeys(common, "pytorch_model-00000-TP-common.safetensors")
        of[expert] = "pytorch_model-00001-TP-000.safetensors"
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": of}))
    for number, place in enumerate(("input", "post_attention", "pre_mlp", "post_mlp")):
        assert_reads(tmp_path, expected + number, site=place)


def dcp_shard(folder: Path, rank: int, parts: dict[str, tuple[torch.Tensor, list[int]]], count: int = 1) -> None:
    """What torch.distributed.checkpoint's HuggingFaceStorageWriter writes for one rank."""
    offsets = {key: {"saved_offsets": offset} for key, (_, offset) in parts.items()}
    metadata = {"DCP_SHARDING_INFO": json.dumps(offsets), "DCP_VERSION": "1.0", "format": "pt"}
    held = {key: tensor.contiguous() for key, (tensor, _) in parts.items()}
    save_file(held, folder / f"shard-{rank + 1:05d}-model-00001-of-{count:05d}.safetensors", metadata)


@pytest.mark.parametrize("cuts", [(0, 4, 8), (0, 3, 6, 8)])
def test_rows_that_ranks_have_saved_are_put_together(tmp_path, cuts):
    expected = rows(5)
    for rank, (begin, end) in enumerate(itertools.pairwise(cuts)):
        parts = {f"layers.{n}.input_layernorm.weight": (expected[n, begin:end], [begin]) for n in range(5)}
        if rank == 0:
            parts["norm.weight"] = (torch.ones(HIDDEN), [0])
        dcp_shard(tmp_path, rank, parts)
    gains = assert_reads(tmp_path, expected)
    assert f"put together from {len(cuts) - 1} files of ranks" in gains.notes[0]
    shard = tmp_path / "shard-00001-model-00001-of-00001.safetensors"
    with pytest.raises(errors.IncompleteCheckpoint, match="holds a part of every tensor, and no more: pass its folder"):
        gammatorch.read_gains(shard, device="cpu")
    shard.unlink()
    with pytest.raises(errors.MalformedCheckpoint, match="holds no part of it before row|leave a gap"):
        gammatorch.read_gains(tmp_path, device="cpu")


def test_ranks_that_hold_the_same_or_cut_otherwise_are_told_apart(tmp_path):
    expected = rows(3)
    for rank in range(2):
        parts = {f"layers.{n}.input_layernorm.weight": (expected[n], [0]) for n in range(3)}
        parts["embed.weight"] = (torch.ones(2, 4), [0, 4 * rank])
        dcp_shard(tmp_path, rank, parts)
    assert_reads(tmp_path, expected)
    for rank in range(2):
        dcp_shard(tmp_path, rank, {"h.0.weight": (torch.ones(2, 4), [0, 4 * rank])})
    with pytest.raises(errors.UnsupportedFormat, match="cut along several axes"):
        gammatorch.read_gains(tmp_path, pattern="h.{layer}.weight", device="cpu")


def test_a_shard_that_does_not_say_where_its_rows_belong_is_refused(tmp_path):
    save_file({"layers.0.norm.weight": torch.ones(4)}, tmp_path / "shard-00001-model-00001-of-00001.safetensors")
    with pytest.raises(errors.MalformedCheckpoint, match="has no DCP_SHARDING_INFO in its header"):
        gammatorch.read_gains(tmp_path, device="cpu")
