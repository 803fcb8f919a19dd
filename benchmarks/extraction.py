"""How long it takes to get all input gains of a checkpoint, beside safetensors itself and beside the bare reads.

    python benchmarks/extraction.py [--repeats 15] [--out FILE] [--layers 64 --hidden 5120 --shards 17]

The checkpoint is a full-size layout (sparse files, so the page cache holds what is read: warm times). Every candidate
ends with the gains as float64 on the CPU, and is checked against what was written, by NumPy, before it is timed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import devices, parser, print_times, save, synchronize
from safetensors import safe_open

import gammatorch
from gammatorch.bench import reference
from gammatorch.bench.synthetic import SyntheticCheckpoint, write_checkpoint
from gammatorch.bench.timing import compare

KEY = "model.layers.{}.input_layernorm.weight"


def by_gammatorch(folder: Path, device: str) -> torch.Tensor:
    return gammatorch.read_gains(folder, site="input", device=device).gamma


def by_safe_open(folder: Path, layers: int) -> torch.Tensor:
    """The index tells the shard of each key, each shard is opened once: what a careful user writes today."""
    shard_of = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    keys = defaultdict(list)
    for layer in range(layers):
        keys[shard_of[KEY.format(layer)]].append(layer)
    rows: dict[int, torch.Tensor] = {}
    for shard, held in keys.items():
        with safe_open(folder / shard, "pt") as file:
            rows |= {layer: file.get_tensor(KEY.format(layer)) for layer in held}
    return torch.stack([rows[layer] for layer in range(layers)]).double()


def bare_reads(made: SyntheticCheckpoint, layers: int) -> Callable[[], torch.Tensor]:
    """The floor: places known beforehand, no header, no check, one positioned read per gain."""
    places = {}
    for shard in made.shards:
        with open(made.folder / shard, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        places |= {key: (shard, 8 + length, tensor) for key, tensor in header.items() if key != "__metadata__"}

    def read() -> torch.Tensor:
        rows = []
        opened: dict[str, int] = {}
        for layer in range(layers):
            shard, data_start, tensor = places[KEY.format(layer)]
            if shard not in opened:
                opened[shard] = os.open(made.folder / shard, os.O_RDONLY)
            start, stop = tensor["data_offsets"]
            rows.append(os.pread(opened[shard], stop - start, data_start + start))
        for descriptor in opened.values():
            os.close(descriptor)
        stored = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.bfloat16)
        return stored.view(layers, -1).double()

    return read


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--layers", type=int, default=64)
    options.add_argument("--hidden", type=int, default=5120)
    options.add_argument("--shards", type=int, default=17)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = write_checkpoint(name, layers=chosen.layers, hidden=chosen.hidden, shards=chosen.shards)
        candidates = {"bare positioned reads (floor)": bare_reads(made, chosen.layers)}
        for device in devices():
            candidates[f"gammatorch, to {device}"] = lambda device=device: by_gammatorch(made.folder, device)
        candidates["safetensors safe_open (mmap)"] = lambda: by_safe_open(made.folder, chosen.layers)
        written = np.stack([made.stored[KEY.format(layer)] for layer in range(chosen.layers)])
        for candidate, read in candidates.items():
            np.testing.assert_array_equal(read().cpu().numpy(), written, err_msg=candidate)
        truth = reference.analyze(written)
        ours = gammatorch.analyze(by_gammatorch(made.folder, devices()[-1]))
        np.testing.assert_allclose(ours.cosine.cpu(), truth["cosine"], atol=1e-12)
        times = compare(candidates, repeats=chosen.repeats, synchronize=synchronize)
        gains = gammatorch.read_gains(made.folder, device="cpu")
        read, held = gains.bytes_read / 1e6, made.checkpoint_bytes / 1e9
        print_times(
            f"{chosen.layers} × {chosen.hidden} in {chosen.shards} shards, {read:.2f} MB of {held:.1f} GB", times
        )
        save(chosen.out, {"bytes_read": gains.bytes_read, "checkpoint_bytes": made.checkpoint_bytes, "times": times})


if __name__ == "__main__":
    main()
