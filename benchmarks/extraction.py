"""How long it takes to get all input gains of a checkpoint, beside safetensors itself, others, and the bare reads.

    python benchmarks/extraction.py [--repeats 15] [--out FILE] [--layouts Qwen3-32B DeepSeek-V3 Kimi-K2 real]

The checkpoints are full-size layouts (sparse files, so the page cache holds what is read: warm times). Every candidate
ends with the gains as float64, and is checked against what was written, by NumPy, before it is timed. There are
floors that check nothing: the gains alone, their places known beforehand; and the headers too, with the keys found in
their bytes, by Python or by the C library. fastsafetensors and runai-model-streamer, told which tensors are wanted, and
mergekit's loader take part if they are installed.

``real`` is a small Llama with all its bytes, made by transformers, in three formats: what loading the model takes, and
what reading its gains takes from safetensors, from a ``.bin`` and from a folder of torch.distributed.checkpoint.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from common import devices, parser, print_times, save, synchronize
from safetensors import safe_open

import gammatorch
from gammatorch.bench import reference
from gammatorch.bench.layouts import FULL_SIZE
from gammatorch.bench.synthetic import SyntheticCheckpoint, write_checkpoint
from gammatorch.bench.timing import compare

KEY = "model.layers.{}.input_layernorm.weight"
REAL_LAYERS = 24
KEY_END = b'.input_layernorm.weight":'
MEMMEM = ctypes.CDLL(None).memmem
MEMMEM.restype = ctypes.c_void_p
MEMMEM.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


def by_gammatorch(folder: Path, device: str) -> torch.Tensor:
    return gammatorch.read_gains(folder, site="input", device=device).gamma


def shards_of_keys(folder: Path, layers: int) -> dict[str, list[int]]:
    """The index tells the shard of each key: what a careful user does today."""
    shard_of = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    held = defaultdict(list)
    for layer in range(layers):
        held[shard_of[KEY.format(layer)]].append(layer)
    return held


def stacked(rows: dict[int, torch.Tensor], layers: int) -> torch.Tensor:
    return torch.stack([rows[layer] for layer in range(layers)]).double()


def by_safe_open(folder: Path, layers: int, backend: str) -> torch.Tensor:
    rows: dict[int, torch.Tensor] = {}
    for shard, held in shards_of_keys(folder, layers).items():
        with safe_open(folder / shard, "pt", backend=backend) as file:
            rows |= {layer: file.get_tensor(KEY.format(layer)) for layer in held}
    return stacked(rows, layers)


def by_fastsafetensors(folder: Path, layers: int) -> torch.Tensor:
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    keys = [KEY.format(layer) for layer in range(layers)]
    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
    try:
        loader.set_tensor_filter(set(keys).__contains__)
        loader.add_filenames({0: [str(folder / shard) for shard in shards_of_keys(folder, layers)]})
        buffers = loader.copy_files_to_device()
        return torch.stack([buffers.get_tensor(key) for key in keys]).double()
    finally:
        loader.close()


def by_runai(folder: Path, layers: int) -> torch.Tensor:
    from runai_model_streamer import SafetensorsStreamer

    keys = [KEY.format(layer) for layer in range(layers)]
    with SafetensorsStreamer() as streamer:
        paths = [str(folder / shard) for shard in shards_of_keys(folder, layers)]
        streamer.stream_files(paths, tensor_names=keys)
        rows = dict(streamer.get_tensors())
    return torch.stack([rows[key] for key in keys]).double()


def by_mergekit(folder: Path, layers: int) -> torch.Tensor:
    from mergekit.io import LazyTensorLoader, ShardedTensorIndex

    loader = LazyTensorLoader(ShardedTensorIndex.from_disk(str(folder)))
    return stacked({layer: loader.get_tensor(KEY.format(layer)) for layer in range(layers)}, layers)


PEERS = {
    "fastsafetensors, filtered": ("fastsafetensors", by_fastsafetensors),
    "runai-model-streamer, by name": ("runai_model_streamer", by_runai),
    "mergekit's lazy loader": ("mergekit", by_mergekit),
}


def as_gains(rows: list[bytes]) -> torch.Tensor:
    return torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.bfloat16).view(len(rows), -1).double()


def bare_reads(made: SyntheticCheckpoint, layers: int) -> Callable[[], torch.Tensor]:
    """Places known beforehand: no header, one positioned read per gain."""
    places = {}
    for shard in made.shards:
        with open(made.folder / shard, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        places |= {key: (shard, 8 + length, tensor) for key, tensor in header.items() if key != "__metadata__"}
    known = [places[KEY.format(layer)] for layer in range(layers)]

    def read() -> torch.Tensor:
        rows = []
        opened: dict[str, int] = {}
        for shard, data_start, tensor in known:
            if shard not in opened:
                opened[shard] = os.open(made.folder / shard, os.O_RDONLY)
            start, stop = tensor["data_offsets"]
            rows.append(os.pread(opened[shard], stop - start, data_start + start))
        for descriptor in opened.values():
            os.close(descriptor)
        return as_gains(rows)

    return read


def bare_search(made: SyntheticCheckpoint, layers: int, found: Callable[[bytes], Iterator[int]]) -> torch.Tensor:
    """Every header read, the keys found in its bytes, one positioned read per gain."""
    rows: dict[int, bytes] = {}
    for shard in made.shards:
        descriptor = os.open(made.folder / shard, os.O_RDONLY)
        length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
        header = os.pread(descriptor, length, 8)
        for position in found(header):
            layer = int(header[header.rfind(b".", 0, position) + 1 : position])
            opening = header.find(b"[", header.find(b'"data_offsets"', position)) + 1
            start, stop = header[opening : header.find(b"]", opening)].split(b",")
            if layer < layers:
                rows[layer] = os.pread(descriptor, int(stop) - int(start), 8 + length + int(start))
        os.close(descriptor)
    return as_gains([rows[layer] for layer in range(layers)])


def by_find(header: bytes) -> Iterator[int]:
    position = header.find(KEY_END)
    while position >= 0:
        yield position
        position = header.find(KEY_END, position + 1)


def by_memmem(header: bytes) -> Iterator[int]:
    """The search that gammatorch uses, for a floor that is as low as we know."""
    base = ctypes.cast(ctypes.c_char_p(header), ctypes.c_void_p).value or 0
    position = MEMMEM(base, len(header), KEY_END, len(KEY_END))
    while position:
        yield position - base
        position = MEMMEM(position + 1, base + len(header) - position - 1, KEY_END, len(KEY_END))


def candidates_for(made: SyntheticCheckpoint, layers: int) -> dict[str, Callable[[], torch.Tensor]]:
    candidates = {
        "bare reads, places known": bare_reads(made, layers),
        "bare reads of headers and gains": lambda: bare_search(made, layers, by_find),
        "the same, searched by memmem": lambda: bare_search(made, layers, by_memmem),
    }
    for device in devices():
        candidates[f"gammatorch, to {device}"] = lambda device=device: by_gammatorch(made.folder, device)
    for backend in ("mmap", "pread"):
        candidates[f"safetensors safe_open ({backend})"] = lambda how=backend: by_safe_open(made.folder, layers, how)
    for name, (module, read) in PEERS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{name}: not installed, left out")
        else:
            candidates[name] = lambda read=read: read(made.folder, layers)
    return candidates


def measure(name: str, repeats: int) -> dict[str, object]:
    layers = FULL_SIZE[name]["layers"]
    with tempfile.TemporaryDirectory() as folder:
        made = write_checkpoint(folder, **FULL_SIZE[name])
        candidates = candidates_for(made, layers)
        written = np.stack([made.stored[KEY.format(layer)] for layer in range(layers)])
        for candidate, read in candidates.items():
            np.testing.assert_array_equal(read().cpu().numpy(), written, err_msg=candidate)
        ours = gammatorch.analyze(by_gammatorch(made.folder, devices()[-1]))
        np.testing.assert_allclose(ours.cosine.cpu(), reference.analyze(written)["cosine"], atol=1e-12)
        times = compare(candidates, repeats=repeats, synchronize=synchronize, warm=True)
        gains = gammatorch.read_gains(made.folder, device="cpu")
    print_times(
        f"{name}: {layers} × {written.shape[1]} in {gains.shards} shards, "
        f"{gains.bytes_read / 1e6:.2f} MB of {gains.checkpoint_bytes / 1e9:.1f} GB",
        times,
    )
    return {"bytes_read": gains.bytes_read, "checkpoint_bytes": gains.checkpoint_bytes, "times": times}


def make_model(folder: Path) -> dict[str, torch.Tensor]:
    """One model in three formats; its state dict."""
    from torch.distributed import checkpoint
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=REAL_LAYERS, hidden_size=768, intermediate_size=2048, num_attention_heads=12, vocab_size=8000
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.input_layernorm.weight, 1.0, 0.1)
    state = dict(model.state_dict())
    model.save_pretrained(folder / "safetensors")
    (folder / "bin").mkdir()
    config.save_pretrained(folder / "bin")
    torch.save(state, folder / "bin" / "pytorch_model.bin")
    checkpoint.save(dict(state), checkpoint_id=folder / "dcp", no_dist=True)
    config.save_pretrained(folder / "dcp")
    return state


def load_model(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return torch.stack([layer.input_layernorm.weight.detach() for layer in model.model.layers]).double()


def load_bin(folder: Path) -> torch.Tensor:
    state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True, mmap=True)
    return torch.stack([state[KEY.format(layer)] for layer in range(REAL_LAYERS)]).double()


def load_dcp(folder: Path, like: dict[str, torch.Tensor]) -> torch.Tensor:
    from torch.distributed import checkpoint

    wanted = {key: torch.empty_like(like[key]) for key in map(KEY.format, range(REAL_LAYERS))}
    checkpoint.load(wanted, checkpoint_id=folder, no_dist=True)
    return torch.stack(list(wanted.values())).double()


def measure_real(repeats: int) -> dict[str, object]:
    import transformers

    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        state = make_model(folder)
        written = torch.stack([state[KEY.format(layer)] for layer in range(REAL_LAYERS)]).double().numpy()
        candidates: dict[str, Callable[[], torch.Tensor]] = {
            "gammatorch, safetensors": lambda: by_gammatorch(folder / "safetensors", "cpu"),
            "transformers from_pretrained": lambda: load_model(folder / "safetensors"),
            "gammatorch, .bin": lambda: by_gammatorch(folder / "bin", "cpu"),
            "torch.load(weights_only, mmap)": lambda: load_bin(folder / "bin"),
            "gammatorch, torch.distributed": lambda: by_gammatorch(folder / "dcp", "cpu"),
            "torch.distributed, the gains alone": lambda: load_dcp(folder / "dcp", state),
        }
        for candidate, read in candidates.items():
            np.testing.assert_array_equal(read().numpy(), written, err_msg=candidate)
        times = compare(candidates, repeats=repeats, warm=True)
    parameters = sum(tensor.numel() for tensor in state.values())
    print_times(f"a Llama of {parameters / 1e6:.0f} M parameters, {REAL_LAYERS} × {written.shape[1]}", times)
    return {"parameters": parameters, "tensors": len(state), "times": times}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--layouts", nargs="+", choices=[*FULL_SIZE, "real"], default=[*FULL_SIZE, "real"])
    chosen = options.parse_args()
    torch.set_num_threads(1)  # a second one for a megabyte gains nothing, and on a shared machine waits for a core
    results = {}
    for name in chosen.layouts:
        results[name] = measure_real(chosen.repeats) if name == "real" else measure(name, chosen.repeats)
    save(chosen.out, results)


if __name__ == "__main__":
    main()
