"""How fast gains too wide for memory are read and analysed from a real file, beside bare positioned reads of it.

    python benchmarks/wide.py [--layers 64] [--columns 4000000] [--memory 2GB] [--folder DIR] [--repeats 3] [--out FILE]

The checkpoint is written first, bfloat16, one tensor a layer, in `--folder` (a temporary one by default). Two
floors stand beside it: the same blocks of all layers read with `os.preadv`, and X Xᵀ of as many float64 numbers that
are in the cache; no exact method can be faster than the slower of the two. Cold means that the file was dropped
from the page cache before each call. Cosines and the ten largest shares of the variance are held against NumPy float64,
taken block by block (products, and TSQR for the spectrum), before any time is reported.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import chosen_devices, parser, peak_bytes, print_times, save, settle, synchronize

import gammatorch
from gammatorch.bench.timing import Timing, compare

KEY = "model.layers.{}.self_attn.q_proj.weight"
CHUNK = 250_000
TOP = 10

Array = np.ndarray[Any, Any]


def write(folder: Path, layers: int, columns: int) -> Path:
    """Gains that drift over layers, as the float32 halves that bfloat16 is, a chunk of one layer at a time."""
    header = {
        KEY.format(layer): {
            "dtype": "BF16",
            "shape": [columns],
            "data_offsets": [2 * layer * columns, 2 * (layer + 1) * columns],
        }
        for layer in range(layers)
    }
    text = json.dumps(header).encode()
    path = folder / "model.safetensors"
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 2 * layers * columns)
        for start in range(0, columns, CHUNK):
            rng = np.random.default_rng(start)
            width = min(CHUNK, columns - start)
            gamma = 1 + 0.3 * rng.standard_normal(width, dtype=np.float32)
            for layer in range(layers):
                gamma = gamma + 0.1 * rng.standard_normal(width, dtype=np.float32)
                file.seek(8 + len(text) + 2 * (layer * columns + start))
                file.write((gamma.view(np.uint32) >> 16).astype(np.uint16).tobytes())
        file.flush()
        os.fsync(file.fileno())
    return path


def stored(path: Path, layers: int, columns: int) -> Iterator[Array]:
    data = np.memmap(path, np.uint16, "r", offset=path.stat().st_size - 2 * layers * columns, shape=(layers, columns))
    for start in range(0, columns, CHUNK):
        part = data[:, start : start + CHUNK].astype(np.uint32) << 16
        yield part.view(np.float32).astype(np.float64)


def truth_of(path: Path, layers: int, columns: int) -> tuple[Array, Array]:
    gram, triangle = np.zeros((layers, layers)), np.zeros((0, layers))
    for part in stored(path, layers, columns):
        gram += part @ part.T
        triangle = np.linalg.qr(np.concatenate([triangle, part.T]), mode="r")
    lengths = np.sqrt(np.diagonal(gram))
    units = triangle.T / np.sqrt((triangle**2).sum(axis=0))[:, None]
    shares = np.linalg.svd(units - units.mean(axis=0), compute_uv=False) ** 2
    return gram / (lengths[:, None] * lengths), shares / shares.sum()


def bare_reads(path: Path, layers: int, columns: int, width: int) -> Callable[[], None]:
    data = path.stat().st_size - 2 * layers * columns
    buffer = memoryview(bytearray(2 * layers * width))

    def read() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        for start in range(0, columns, width):
            size = 2 * min(width, columns - start)
            for layer in range(layers):
                into = buffer[layer * size : (layer + 1) * size]
                assert os.preadv(descriptor, [into], data + 2 * (layer * columns + start)) == size
        os.close(descriptor)

    return read


def bare_products(layers: int, columns: int) -> Callable[[], None]:
    chunk = torch.ones(layers, 4096, dtype=torch.float64)

    def multiply() -> None:
        for _ in range(0, columns, chunk.shape[1]):
            chunk @ chunk.mT

    return multiply


def drop(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def check(name: str, analysis: gammatorch.Analysis, truth: tuple[Array, Array]) -> dict[str, float]:
    cosine = float(np.abs(analysis.cosine.cpu().numpy() - truth[0]).max())
    top = min(TOP, len(truth[1]) - 1)  # the last is rounding
    explained = float(np.abs(analysis.explained_var.cpu().numpy()[:top] / truth[1][:top] - 1).max())
    if analysis.method == "project":
        assert cosine <= analysis.error_estimate, f"{name} misses its own error: {cosine}"
    else:
        assert cosine <= 1e-12 and explained <= 1e-10, f"{name}: cosine {cosine}, explained {explained}"
    return {"cosine": cosine, "explained": explained}


def measure(path: Path, chosen: Any) -> dict[str, Any]:
    layers, columns = chosen.layers, chosen.columns
    truth = truth_of(path, layers, columns)
    width = gammatorch.scan_gains(path, pattern=KEY.format("{layer}"), memory=chosen.memory, device="cpu").columns
    candidates: dict[str, Callable[[], Any]] = {"bare reads (the floor)": bare_reads(path, layers, columns, width)}
    candidates["bare products in float64"] = bare_products(layers, columns)
    memory, exactness = {}, {}
    for device in chosen_devices(chosen.device):
        for method in chosen.methods:
            name = f"{method} {device}"

            def analyse(method: str = method, device: str = device) -> gammatorch.Analysis:
                wide = gammatorch.scan_gains(path, pattern=KEY.format("{layer}"), memory=chosen.memory, device=device)
                return gammatorch.analyze(wide, method=method)

            analysis, memory[name] = peak_bytes(analyse)
            exactness[name] = check(name, analysis, truth)
            candidates[name] = analyse
    results: dict[str, Any] = {"bytes": 2 * layers * columns, "peak_bytes": memory, "errors": exactness}
    for kind in ("warm", "cold"):
        calls = {name: cold(path, call) if kind == "cold" else call for name, call in candidates.items()}
        times = compare(calls, repeats=chosen.repeats, synchronize=synchronize, clock=chosen.clock)
        results[kind] = times
        print_times(f"{layers} × {columns} bfloat16, {kind}", times, remarks(times, results))
    return results


def cold(path: Path, call: Callable[[], Any]) -> Callable[[], Any]:
    def dropped() -> Any:
        drop(path)
        return call()

    return dropped


def remarks(times: dict[str, Timing], results: dict[str, Any]) -> dict[str, str]:
    said = {}
    for name, timing in times.items():
        said[name] = f"{results['bytes'] / timing.median_seconds / 1e9:5.2f} GB/s"
        if name in results["errors"]:
            found = results["errors"][name]
            said[name] += (
                f"  {results['peak_bytes'][name] / 1e6:6.0f} MB"
                f"  cosine {found['cosine']:.0e} explained {found['explained']:.0e}"
            )
    return said


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(repeats=3)
    options.add_argument("--layers", type=int, default=64)
    options.add_argument("--columns", type=int, default=4_000_000)
    options.add_argument("--memory", default="2GB", help="as for gammatorch run")
    options.add_argument("--methods", nargs="+", default=["gram", "project", "svd"])
    options.add_argument("--folder", type=Path, help="where the file is written, to measure that disk")
    chosen = options.parse_args()
    settle(chosen)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        path = write(Path(folder), chosen.layers, chosen.columns)
        save(chosen.out, {f"{chosen.layers}x{chosen.columns}": measure(path, chosen)})


if __name__ == "__main__":
    main()
