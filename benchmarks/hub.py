"""How long it takes to get all input gains of a model on a Hub, beside what huggingface_hub offers for it.

    python benchmarks/hub.py [--repeats 3] [--out FILE] [--delays 0 20 100] [--layouts Qwen3-32B ... all-MiniLM-L6-v2]

The Hub is a server of its own process on 127.0.0.1: listings, links to files at a second origin, ranges, and a
round-trip time that is waited before every answer and once more at the start of every connection, as TCP does (TLS
would add another one or two). The checkpoints are full-size layouts in sparse files, and a real model's norm weights.
Every candidate begins without connections, ends with the gains as float64, and is checked against what was written
before its time counts. "Round trips" is what the time grows by per second of round-trip time: the requests,
connections and redirects that waited for others.

runai-model-streamer and fastsafetensors read local files and object stores, not the Hub, and so take no part.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from common import parser, save
from hub_server import serve as serve_hub
from huggingface_hub.utils import close_session
from safetensors import safe_open

from gammatorch.bench.layouts import FULL_SIZE
from gammatorch.bench.synthetic import write_checkpoint

ROOT = Path(__file__).parents[1]
REPO = "org/model"
SMALL = "all-MiniLM-L6-v2"
LARGEST_DOWNLOAD = 1e9
SEQUENTIAL = frozenset({"get_safetensors_metadata, then ranges", "HfFileSystem, blocks of 5 MB"})
"""Candidates that wait for one answer after the other: left out where that takes minutes."""


@dataclass(frozen=True)
class Layout:
    """A model, and the rows to get from it.

    Attributes:
        folder: Its files.
        keys: Tensors, in layer order.
        site: What gammatorch calls their place.
        largest: Size of all its weights, in bytes.
    """

    folder: Path
    keys: tuple[str, ...]
    site: str
    largest: int


def serve(pipe: Connection, folder: Path) -> None:
    """The server's process: answers ("delay", seconds) and ("count",) until it is told to end."""
    with serve_hub(REPO, folder) as hub:
        pipe.send(hub.url)
        while (order := pipe.recv()) is not None:
            if order[0] == "delay":
                hub.delay_seconds = order[1]
            pipe.send({"requests": len(hub.requests), "connections": hub.connections, "bytes": hub.sent})
            hub.forget()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Callable[..., dict[str, int]]]]:
    """The address of a Hub with that folder, and what gives it an order and returns its counts since the last one."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, folder), daemon=True)
    process.start()

    def order(*words: Any) -> dict[str, int]:
        ours.send(words)
        return ours.recv()

    try:
        yield ours.recv(), order
    finally:
        ours.send(None)
        process.join()


def by_gammatorch(layout: Layout, cache: bool = False) -> torch.Tensor:
    import gammatorch

    checkpoint = gammatorch.open_checkpoint(REPO, cache=cache)
    return gammatorch.read_gains(checkpoint, site=layout.site, device="cpu").gamma


def by_metadata(layout: Layout) -> torch.Tensor:
    """The headers by huggingface_hub, then each gain by a request: what its documentation suggests."""
    from huggingface_hub import get_safetensors_metadata, get_session, hf_hub_url

    found = get_safetensors_metadata(REPO)
    lengths: dict[str, int] = {}
    rows = []
    for key in layout.keys:
        shard = found.weight_map[key]
        url = hf_hub_url(REPO, shard)
        if shard not in lengths:  # the offsets are relative, and the length of the header is not told
            lengths[shard] = int.from_bytes(get_session().get(url, headers={"Range": "bytes=0-7"}).content, "little")
        tensor = found.files_metadata[shard].tensors[key]
        first, last = (8 + lengths[shard] + offset for offset in tensor.data_offsets)
        answer = get_session().get(url, headers={"Range": f"bytes={first}-{last - 1}"})
        rows.append(decode(answer.content, tensor.dtype))
    return torch.stack(rows)


def by_file_system(layout: Layout) -> torch.Tensor:
    """A file for each shard that seeks and reads, as the safetensors format is read from any file."""
    from huggingface_hub import HfFileSystem

    file_system = HfFileSystem(skip_instance_cache=True)
    index = layout.folder / "model.safetensors.index.json"
    shards = {"model.safetensors": list(layout.keys)}
    if index.exists():
        with file_system.open(f"{REPO}/{index.name}") as file:
            shard_of = json.load(file)["weight_map"]
        shards = {
            name: [key for key in layout.keys if shard_of[key] == name] for name in sorted(set(shard_of.values()))
        }
    rows = {}
    for shard, held in shards.items():
        if not held:
            continue
        with file_system.open(f"{REPO}/{shard}") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            for key in held:
                first, last = header[key]["data_offsets"]
                file.seek(8 + length + first)
                rows[key] = decode(file.read(last - first), header[key]["dtype"])
    return torch.stack([rows[key] for key in layout.keys])


def by_download(layout: Layout) -> torch.Tensor:
    from huggingface_hub import hf_hub_download

    with (
        tempfile.TemporaryDirectory() as folder,
        safe_open(hf_hub_download(REPO, "model.safetensors", cache_dir=folder), "pt") as file,
    ):
        return torch.stack([file.get_tensor(key).double() for key in layout.keys])


def decode(stored: bytes, dtype: str) -> torch.Tensor:
    kinds = {"BF16": torch.bfloat16, "F32": torch.float32}
    return torch.frombuffer(bytearray(stored), dtype=kinds[dtype]).double()


def candidates_for(layout: Layout) -> dict[str, Callable[[Layout], torch.Tensor]]:
    found: dict[str, Callable[[Layout], torch.Tensor]] = {
        "gammatorch, nothing cached": by_gammatorch,
        "gammatorch, second run": lambda layout: by_gammatorch(layout, cache=True),
        "get_safetensors_metadata, then ranges": by_metadata,
        "HfFileSystem, blocks of 5 MB": by_file_system,
    }
    if layout.largest <= LARGEST_DOWNLOAD:
        found["hf_hub_download, then safe_open"] = by_download
    return found


@contextmanager
def layout_of(name: str) -> Iterator[tuple[Layout, torch.Tensor]]:
    """A model on the disk, and its gains as they were written."""
    with tempfile.TemporaryDirectory() as folder:
        path, site = Path(folder), "input"
        if name == SMALL:
            path, site = ROOT / "tests" / "data" / SMALL, "post_attention"
            pattern, layers = "encoder.layer.{}.attention.output.LayerNorm.weight", 6
            with safe_open(path / "model.safetensors", "np") as file:
                stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            stored = write_checkpoint(folder, **FULL_SIZE[name]).stored
            pattern, layers = "model.layers.{}.input_layernorm.weight", FULL_SIZE[name]["layers"]
        keys = tuple(pattern.format(layer) for layer in range(layers))
        truth = torch.stack([torch.as_tensor(stored[key]).double() for key in keys])
        largest = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        yield Layout(path, keys, site, largest), truth


def measure(name: str, delays: list[int], repeats: int) -> dict[str, object]:
    results: dict[str, Any] = {}
    with (
        layout_of(name) as (layout, truth),
        served(layout.folder) as (url, order),
        tempfile.TemporaryDirectory() as cache,
    ):
        point_client_at(url, cache)
        candidates = candidates_for(layout)
        by_gammatorch(layout, cache=True)
        for candidate, read in candidates.items():
            if candidate in SEQUENTIAL and name not in ("Qwen3-32B", SMALL):
                continue
            close_session()
            order("count")
            assert read(layout).equal(truth), f"{candidate} reads other gains"
            results[candidate] = {**order("count"), "seconds": {}}
        for delay in delays:
            order("delay", delay / 1000)
            for candidate in results:
                counted = 1 if candidate in SEQUENTIAL and delay else repeats
                taken = [timed(candidates[candidate], layout, truth) for _ in range(counted)]
                results[candidate]["seconds"][f"{delay} ms"] = statistics.median(taken)
    for result in results.values():
        seconds = [result["seconds"][f"{delay} ms"] for delay in (delays[0], delays[-1])]
        result["round_trips"] = round((seconds[1] - seconds[0]) / max(delays[-1] - delays[0], 1) * 1000, 1)
    show(f"{name}, {layout.largest / 1e9:.1f} GB", results)
    return {"checkpoint_bytes": layout.largest, "rows": list(truth.shape), "candidates": results}


def timed(read: Callable[[Layout], torch.Tensor], layout: Layout, truth: torch.Tensor) -> float:
    close_session()
    started = time.perf_counter()
    rows = read(layout)
    seconds = time.perf_counter() - started
    assert rows.equal(truth)
    return seconds


def point_client_at(url: str, cache: str) -> None:
    """The address is read when huggingface_hub is imported, and again by whoever looks it up later."""
    from huggingface_hub import constants, hf_api

    constants.ENDPOINT = hf_api.ENDPOINT = hf_api.api.endpoint = url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
    os.environ.update(GAMMATORCH_CACHE=cache, GAMMATORCH_CACHE_GB="2")


def show(title: str, results: dict[str, Any]) -> None:
    print(f"\n{title}")
    for candidate, result in results.items():
        times = "  ".join(f"{seconds:>8.3f} s at {delay}" for delay, seconds in result["seconds"].items())
        print(
            f"  {candidate:<38} {result['bytes'] / 1e6:>8.2f} MB {result['requests']:>5} requests "
            f"{result['connections']:>4} connections {result['round_trips']:>7.1f} round trips {times}"
        )


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(repeats=3)
    options.add_argument("--layouts", nargs="+", choices=[*FULL_SIZE, SMALL], default=[*FULL_SIZE, SMALL])
    options.add_argument("--delays", nargs="+", type=int, default=[0, 20, 100], help="round-trip times, in ms")
    chosen = options.parse_args()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    torch.set_num_threads(1)
    save(chosen.out, {name: measure(name, chosen.delays, chosen.repeats) for name in chosen.layouts})


if __name__ == "__main__":
    main()
