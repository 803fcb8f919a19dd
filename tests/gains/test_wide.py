"""Gains in column blocks: the numbers of gains in memory, within a bound, from any source."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from benchmarks.hub_server import serve
from gammatorch import errors
from gammatorch.bench import reference
from gammatorch.gains import wide
from gammatorch.gains.memory import parse_bytes
from tests.hub_client import point_client_at

PATTERN = "model.layers.{layer}.self_attn.q_proj.weight"
LAYERS, SHAPE = 6, (64, 100)
HIDDEN = SHAPE[0] * SHAPE[1]


@pytest.fixture
def narrow(monkeypatch):
    """Blocks of 2,048 columns, so that small tensors come in several."""
    monkeypatch.setattr(wide, "BUFFER_BYTES", 1)


def drawn(types):
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(SHAPE)
    return {
        PATTERN.replace("{layer}", str(n)): torch.from_numpy(shared + rng.standard_normal(SHAPE)).to(dtype)
        for n, dtype in enumerate(types)
    }


def saved(folder, types=(torch.bfloat16,) * LAYERS):
    tensors = list(drawn(types).items())
    for shard in range(2):
        save_file(dict(tensors[shard::2]), folder / f"model-0000{shard + 1}-of-00002.safetensors")
    return np.stack([tensor.double().numpy().ravel() for _, tensor in tensors])


TYPES = {
    "one type": [torch.bfloat16] * LAYERS,
    "float64": [torch.float64] * LAYERS,
    "several": [torch.bfloat16, torch.float32, torch.float16, torch.float64, torch.float32, torch.bfloat16],
    "two of 16 bits": [torch.bfloat16, torch.float16] * 3,
    "eight bits": [torch.float8_e4m3fn] * LAYERS,
    "eight and sixteen bits": [torch.float8_e5m2, torch.float16, torch.float8_e4m3fn] * 2,
}


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_are_the_stored_values_in_order(tmp_path, kind, narrow, device):
    stored = saved(tmp_path, TYPES[kind])
    gains = gammatorch.scan_gains(tmp_path, pattern=PATTERN, device=device)
    blocks = [block.double().cpu().clone() for block in gains.blocks()]
    assert [block.shape[1] for block in blocks] == [2048, 2048, 2048, 256]
    np.testing.assert_array_equal(torch.cat(blocks, dim=1), stored)
    origin = gains.origin()
    assert gains.shape == (LAYERS, HIDDEN) and origin.bytes_read == origin.checkpoint_bytes
    again = [block.double().cpu() for block in gains.blocks()]
    assert [block.shape for block in again] == [block.shape for block in blocks]


@pytest.mark.parametrize("method", ["auto", "svd", "gram"])
def test_blocks_give_the_numbers_of_numpy(tmp_path, narrow, method, device):
    truth = reference.analyze(saved(tmp_path))
    analysis = gammatorch.analyze(gammatorch.scan_gains(tmp_path, pattern=PATTERN, device=device), method=method)
    assert analysis.method == ("gram" if method == "auto" else method)
    np.testing.assert_allclose(analysis.norms.cpu(), truth["norms"], rtol=1e-12)
    np.testing.assert_allclose(analysis.cosine.cpu(), truth["cosine"], atol=1e-12)
    np.testing.assert_allclose(analysis.explained_var.cpu(), truth["explained_var"], atol=1e-12)
    np.testing.assert_allclose(analysis.proj_top1.cpu(), truth["proj_top1"], atol=1e-10)
    np.testing.assert_allclose(analysis.statistics["pearson"].cpu(), truth["pearson"], atol=1e-12)


def test_singular_values_that_gram_cannot_see_are_noted_and_seen_by_svd(tmp_path, narrow, device):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((LAYERS, HIDDEN))
    rows[3] = rows[2] * (1 + 1e-11 * rng.standard_normal(HIDDEN))
    save_file(
        {PATTERN.replace("{layer}", str(n)): torch.from_numpy(row) for n, row in enumerate(rows)},
        tmp_path / "model.safetensors",
    )
    gains = gammatorch.scan_gains(tmp_path, pattern=PATTERN, device=device)
    by_gram, by_svd = gammatorch.analyze(gains), gammatorch.analyze(gains, method="svd")
    truth = reference.analyze(rows)["singular_values"]
    np.testing.assert_allclose(by_svd.singular_values.cpu()[:-1], truth[:-1], rtol=1e-4)
    assert any("1 singular value is below 4e-08" in note for note in by_gram.notes)
    assert not any("singular value is" in note for note in by_svd.notes)


def test_blocks_and_memory_say_the_same(tmp_path, narrow, device):
    saved(tmp_path)
    held = gammatorch.analyze(gammatorch.read_gains(tmp_path, pattern=PATTERN, device=device), method="gram").to_dict()
    streamed = gammatorch.analyze(gammatorch.scan_gains(tmp_path, pattern=PATTERN, device=device)).to_dict()
    assert streamed.keys() == held.keys()
    for name in ("layers", "keys", "site", "offset", "stack", "hidden"):
        assert streamed[name] == held[name], name
    assert streamed["answer"]["between"] == held["answer"]["between"]
    assert streamed["statistics"]["rank_correlation"] is None and streamed["statistics"]["outliers"]["channels"] is None
    assert [note for note in streamed["notes"] if "have no ranks" in note] == streamed["notes"][len(held["notes"]) :]
    for name in ("shared_energy", "mean_pearson", "effective_dimension"):
        assert streamed["statistics"][name] == pytest.approx(held["statistics"][name], rel=1e-9)
    for name in ("stored_dtype", "bytes_read", "checkpoint_bytes", "shards"):
        assert streamed["provenance"][name] == held["provenance"][name], name


def test_two_passes_in_float32_keep_what_near_parallel_layers_differ_by(tmp_path, narrow, device):
    rng = np.random.default_rng(0)
    rows = rng.lognormal(0, 0.3, HIDDEN) * (1 + 1e-4 * rng.standard_normal((LAYERS, HIDDEN)))
    save_file(
        {PATTERN.replace("{layer}", str(n)): torch.from_numpy(row).float() for n, row in enumerate(rows)},
        tmp_path / "model.safetensors",
    )
    truth = reference.analyze(rows.astype(np.float32).astype(np.float64))
    counts: list[int] = []
    gains = gammatorch.scan_gains(tmp_path, pattern=PATTERN, device=device, dtype="float32", advance=counts.append)
    analysis = gammatorch.analyze(gains, dtype="float32")
    assert sum(counts) == 2 * gains.nbytes
    assert np.abs(analysis.cosine.cpu().numpy() - truth["cosine"]).max() < 1e-11  # of differences of 1e-8
    assert np.abs(analysis.explained_var.cpu().numpy() - truth["explained_var"]).max() <= analysis.error_estimate < 0.02


def test_the_offset_is_added_to_every_block(tmp_path, narrow, device):
    save_file(
        {f"model.layers.{n}.input_layernorm.weight": torch.randn(HIDDEN).bfloat16() for n in range(LAYERS)},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text('{"model_type": "gemma"}')
    held = gammatorch.read_gains(tmp_path, device=device)
    blocks = [block.clone() for block in gammatorch.scan_gains(tmp_path, device=device).blocks()]
    assert held.offset == 1 and torch.equal(torch.cat(blocks, dim=1), held.gamma)
    raw = [block.double() for block in gammatorch.scan_gains(tmp_path, device=device, raw=True).blocks()]
    assert len(raw) == 4 and raw[-1].shape == (LAYERS, 256)


def test_blocks_come_over_the_hub_by_ranges(tmp_path, narrow, monkeypatch):
    stored = saved(tmp_path)
    with serve("org/wide", tmp_path) as hub:
        point_client_at(hub, tmp_path / "cache", monkeypatch)
        analysis = gammatorch.analyze(gammatorch.scan_gains("org/wide", pattern=PATTERN, device="cpu"))
    np.testing.assert_allclose(analysis.cosine, reference.analyze(stored)["cosine"], atol=1e-12)
    assert analysis.gains.rounds >= 2 + 4


def test_a_bad_value_is_named_by_its_channel_in_the_whole(tmp_path, narrow, device):
    tensors = drawn([torch.float32] * LAYERS)
    tensors[PATTERN.replace("{layer}", "3")].view(-1)[5000] = float("inf")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(errors.NonFiniteGain, match=r"layers\.3\.self_attn.*holds inf at channel 5000"):
        gammatorch.analyze(gammatorch.scan_gains(tmp_path, pattern=PATTERN, device=device))


@pytest.mark.parametrize("scale", ["weight_scale", "weight_scale_inv", "weight.scale", "scale_weight"])
def test_quantised_tensors_are_refused(tmp_path, scale):
    """As DeepSeek, compressed-tensors and ComfyUI write them; a whole model cast to eight bits has no scales."""
    key = PATTERN.replace("{layer}", "0")
    tensors = {key: torch.ones(8, 8).to(torch.float8_e4m3fn)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert gammatorch.scan_gains(tmp_path, pattern=PATTERN, device="cpu").dtype is torch.bfloat16
    beside = f"{key.removesuffix('weight')}{scale}"
    save_file({**tensors, beside: torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(errors.UnsupportedFormat, match=rf"is stored as F8_E4M3 with {beside} beside it.*quantised"):
        gammatorch.scan_gains(tmp_path, pattern=PATTERN, device="cpu")


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path, narrow):
    saved(tmp_path)
    gains = gammatorch.scan_gains(tmp_path, pattern=PATTERN, device="cpu")
    blocks = gains.blocks()
    next(blocks)
    (tmp_path / "model-00001-of-00002.safetensors").open("r+b").truncate(3000)
    with pytest.raises(errors.UnreadableCheckpoint, match="ends at byte"):
        list(blocks)


def test_who_stops_early_leaves_no_thread(tmp_path, narrow):
    saved(tmp_path)
    blocks = gammatorch.scan_gains(tmp_path, pattern=PATTERN, device="cpu").blocks()
    next(blocks)
    blocks.close()
    assert not any("gammatorch-columns" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 5e8), ("2gb", 2e9), ("2GiB", 2**31), ("1.5 GB", 1.5e9), ("4096", 4096), ("7k", 7000), (12, 12)],
)
def test_amounts_of_memory(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "two", "2PB", "1e9", "GB", "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(errors.InvalidArgument, match="is no amount of memory"):
        parse_bytes(text)


def test_too_little_memory_says_how_much_it_takes(tmp_path):
    saved(tmp_path)
    with pytest.raises(
        errors.InvalidArgument, match=r"6 layers take at least 129 MB .* pass --memory 129MB"
    ) as refused:
        gammatorch.scan_gains(tmp_path, pattern=PATTERN, device="cpu", memory="64MB")
    enough = refused.value.message.split("--memory ")[1].split()[0]
    assert gammatorch.scan_gains(tmp_path, pattern=PATTERN, device="cpu", memory=enough).columns >= 2048


SCRIPT = """
import resource, sys, torch, gammatorch
gammatorch.analyze(torch.rand(4, 4))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
analysis = gammatorch.analyze(gammatorch.scan_gains(sys.argv[1], pattern=sys.argv[2], device="cpu", memory="300MB"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, analysis.hidden)
"""


@pytest.mark.skipif(
    not hasattr(resource, "RUSAGE_SELF") or sys.platform != "linux", reason="ru_maxrss is in kB on Linux"
)
@pytest.mark.slow
def test_no_more_memory_is_taken_than_was_allowed(tmp_path):
    row = torch.rand(1, 30_000_000).bfloat16()
    for n in range(8):  # 480 MB in bfloat16, which would be 1.9 GB in float64
        save_file(
            {PATTERN.replace("{layer}", str(n)): row + n / 7}, tmp_path / f"model-0000{n + 1}-of-00008.safetensors"
        )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), PATTERN], capture_output=True, text=True, check=True
    )
    peak_kilobytes, hidden = map(int, done.stdout.split())
    assert hidden == 30_000_000 and peak_kilobytes * 1024 <= 300e6
