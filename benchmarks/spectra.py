"""How long the analysis takes, how much memory, and how exact it is, beside NumPy, scikit-learn and torch's own.

    python benchmarks/spectra.py [--repeats 9] [--sizes 36x2560 64x5120 126x16384 154x32x4096 64x1000000] [--out FILE]

NumPy's candidate does the original script's arithmetic: norms, units, cosines, SVD of the centred units, in float32.
The methods give the same figures from float64. Errors are against NumPy float64, worst entry: absolute for cosines,
relative for the ten largest shares of the variance; svd and gram must keep to 1e-12 and 1e-10, or the run ends before
any time is reported. Each counted call follows one of the same candidate that is not counted, so the caches are its
own. scikit-learn takes part where it is installed. The floor is a copy of the same tensor. At 64x10000000 the gains are
drawn in float32. Candidates that need more memory than is free are left out with a line.
`analyze` takes gains as checkpoints store them, with all its statistics.
`benchmarks/wide.py` goes on where gains no longer fit in memory.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from common import chosen_devices, parser, peak_bytes, print_times, save, settle, synchronize

import gammatorch
from gammatorch.analysis.reduce import Settings, reduce_stack
from gammatorch.bench.timing import compare
from gammatorch.gains.device import default_numerics, free_bytes

SIZES = ("36x2560", "64x5120", "126x16384", "154x32x4096", "64x1000000")
SETTLE_SECONDS = 0.2  # OpenBLAS and MKL each bring threads of their own, which spin for a while when done
BOUNDS = {"cosine": 1e-12, "explained": 1e-10}
ORIGINAL, SCRIPT = "NumPy float32 (the original)", "the same with its phases and JSON"
TOP = 10
WIDE = 100_000_000  # values from which gains are drawn in float32
COLUMNS = 1_000_000  # drawn and checked at a time
COPIES = {  # of the gains in float32 that a candidate holds beside them at its peak, where it is no small part of one
    ORIGINAL: 11,
    SCRIPT: 11,
    "scikit-learn PCA": 6,
    "scikit-learn randomized_svd": 4,
    "torch.svd_lowrank": 4,
    "svd float64": 7,
    "svd float32": 5,
    "the whole of analyze()": 3,
    "copy": 1,
}

Array = np.ndarray[Any, Any]
Figures = tuple[Array, Array]  # cosines, explained variances
Candidate = Callable[[], Any]


def original(gamma: Array) -> Figures:
    units = gamma / np.linalg.norm(gamma, axis=1)[:, None]
    cosine = units @ units.T
    _, singular_values, right = np.linalg.svd(units - units.mean(axis=0, keepdims=True), full_matrices=False)
    _ = units @ right[0]
    return cosine, singular_values**2 / (singular_values**2).sum()


def script(gamma: Array) -> str:
    """All that the original script does with loaded gains but printing: three phases, as `analyze` takes by default."""
    norms = np.linalg.norm(gamma, axis=1)
    units = gamma / norms[:, None]
    cosine = units @ units.T
    _, singular_values, right = np.linalg.svd(units - units.mean(axis=0, keepdims=True), full_matrices=False)
    projection = units @ right[0]
    explained = singular_values**2 / (singular_values**2).sum()
    found: dict[str, Any] = {
        "norms": norms.tolist(),
        "proj_top1": projection.tolist(),
        "residual": np.sqrt(np.maximum(1 - projection**2, 0)).tolist(),
        "explained_var": explained.tolist(),
        "cos_adjacent": [float(cosine[row, row + 1]) for row in range(len(gamma) - 1)],
    }
    for phase, rows in enumerate(np.array_split(np.arange(len(gamma)), 3)):
        others = [row for row in range(len(gamma)) if row not in rows]
        intra = (units[rows] @ units[rows].T)[np.triu_indices(len(rows), k=1)].mean()
        between = (units[rows] @ units[others].T).mean()
        found[f"P{phase}"] = [float(of) for of in (norms[rows].mean(), norms[rows].std(), intra, between)]
    return json.dumps(found)


def ours(stack: torch.Tensor, method: str, dtype: torch.dtype) -> list[Figures]:
    with default_numerics():
        reduced = reduce_stack(stack, tuple(range(stack.shape[1])), Settings(method, dtype))
    return [(one.lenses.stored.cosine, one.axes.explained_var) for one in reduced]


def by_svd_lowrank(gamma: torch.Tensor) -> Figures:
    units = gamma / torch.linalg.vector_norm(gamma, dim=1, keepdim=True)
    centred = units - units.mean(dim=0)
    _, singular_values, _ = torch.svd_lowrank(centred, q=12)
    return units @ units.mT, singular_values**2 / centred.square().sum()


def by_sklearn_pca(gamma: Array) -> Figures:
    from sklearn.decomposition import PCA

    units = gamma / np.linalg.norm(gamma, axis=1)[:, None]
    return units @ units.T, PCA(svd_solver="full").fit(units).explained_variance_ratio_


def by_randomized_svd(gamma: Array) -> Figures:
    from sklearn.utils.extmath import randomized_svd

    units = gamma / np.linalg.norm(gamma, axis=1)[:, None]
    centred = units - units.mean(axis=0)
    _, singular_values, _ = randomized_svd(centred, 12, random_state=0)
    return units @ units.T, singular_values**2 / (centred**2).sum()


def copied(stack: torch.Tensor) -> list[Figures]:
    stack.clone()
    return []


def drawn(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Positive gains with a shared direction that drifts over layers."""
    if np.prod(shape) >= WIDE:
        gains = np.empty(shape, dtype=np.float32)
        for start in range(0, shape[-1], COLUMNS):
            block = gains[..., start : start + COLUMNS]
            block[:] = drawn(block.shape, seed=start)
        return gains
    rng = np.random.default_rng(seed)
    steps = 0.1 * np.cumsum(rng.standard_normal(shape), axis=-2)
    return np.exp(0.3 * rng.standard_normal((*shape[:-2], 1, shape[-1])) + steps)


def truth_of(gamma: Array) -> Figures:
    products, triangle = np.zeros((len(gamma), len(gamma))), np.zeros((0, len(gamma)))
    for block in blocks_of(gamma):
        products += block @ block.T
    lengths = np.sqrt(np.diagonal(products))
    for block in blocks_of(gamma):
        units = block / lengths[:, None]
        below = (units - units.mean(axis=0)).T
        triangle = np.linalg.qr(np.concatenate([triangle, below]), mode="r")  # at 1e6 the SVD itself takes a minute
    shares = np.linalg.svd(triangle, compute_uv=False) ** 2
    return products / (lengths[:, None] * lengths), shares / shares.sum()


def blocks_of(gamma: Array) -> Iterator[Array]:
    """Columns in float64, a million at a time."""
    for start in range(0, gamma.shape[1], COLUMNS):
        yield gamma[:, start : start + COLUMNS].astype(np.float64)


def affordable(candidates: dict[str, Candidate], gamma: Array) -> dict[str, Candidate]:
    """Those that the memory that is free can take; the others are named."""
    free = free_bytes(torch.device("cpu"))
    found = {}
    for name, candidate in candidates.items():
        copies = next((count for prefix, count in COPIES.items() if name.startswith(prefix)), 0)
        needed = 4 * copies * gamma.size
        if free is not None and needed > 0.75 * free:
            print(f"{name}: takes about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free: left out")
        else:
            found[name] = candidate
    return found


def candidates_for(gamma: Array, devices: list[str]) -> dict[str, Candidate]:
    stack = gamma if gamma.ndim == 3 else gamma[None]
    narrow = stack.astype(np.float32, copy=False)
    found: dict[str, Candidate] = {ORIGINAL: lambda: [original(one) for one in narrow]}
    if gamma.ndim == 2:
        if importlib.util.find_spec("sklearn") is not None:
            found["scikit-learn PCA, float32"] = lambda: [by_sklearn_pca(narrow[0])]
            found["scikit-learn randomized_svd, q = 12"] = lambda: [by_randomized_svd(narrow[0])]
        else:
            print("scikit-learn: not installed, left out")
        found["torch.svd_lowrank, q = 12"] = lambda: [by_svd_lowrank(torch.from_numpy(narrow[0]))]
    for device in devices:
        placed = torch.from_numpy(stack).to(device)
        for dtype in (torch.float64, torch.float32):
            for method in ("svd", "gram") if gamma.ndim == 2 else ("gram",):
                name = f"{method} {str(dtype).removeprefix('torch.')} {device}"
                found[name] = lambda placed=placed, method=method, dtype=dtype: ours(placed, method, dtype)
        if gamma.ndim == 2:
            found[f"project {device}"] = lambda placed=placed: ours(placed, "project", torch.float64)
        found[f"copy {device} (the floor)"] = lambda placed=placed: copied(placed)
    return found


def errors(figures: list[Figures], truths: list[Figures]) -> dict[str, float]:
    worst = {"cosine": 0.0, "explained": 0.0}
    for (cosine, explained), (true_cosine, true_explained) in zip(figures, truths, strict=True):
        top = min(TOP, len(true_explained) - 1)
        apart = np.abs(_host(cosine) - true_cosine).max()
        relative = np.abs(_host(explained)[:top] / true_explained[:top] - 1).max()
        worst = {"cosine": max(worst["cosine"], float(apart)), "explained": max(worst["explained"], float(relative))}
    return worst


def _host(values: Any) -> Array:
    return values.double().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, dtype=np.float64)


def check(name: str, found: Mapping[str, float]) -> None:
    if "float64" in name:
        assert all(found[what] <= BOUNDS[what] for what in BOUNDS), f"{name} misses {BOUNDS}: {found}"


def measure(size: str, chosen: Any) -> dict[str, Any]:
    gamma = drawn(tuple(map(int, size.split("x"))))
    devices = chosen_devices(chosen.device)
    truths = [truth_of(one) for one in (gamma if gamma.ndim == 3 else gamma[None])]
    candidates = affordable(candidates_for(gamma, devices), gamma)
    memory, exactness = {}, {}
    for name, candidate in candidates.items():
        figures, memory[name] = peak_bytes(candidate)
        if figures:
            exactness[name] = errors(figures, truths)
            check(name, exactness[name])
    wide = gamma.size > 10_000_000
    stack = (gamma if gamma.ndim == 3 else gamma[None]).astype(np.float32, copy=False)
    whole: dict[str, Candidate] = {SCRIPT: lambda: [script(one) for one in stack]}
    for device in devices:
        placed = torch.from_numpy(gamma).to(device)
        for dtype in (torch.bfloat16, torch.float32):
            stored = placed.to(dtype)
            name = f"the whole of analyze() {str(dtype).removeprefix('torch.')} {device}"
            whole[name] = lambda stored=stored: gammatorch.analyze(stored)
    candidates |= affordable(whole, gamma)
    times = compare(
        candidates,
        repeats=min(chosen.repeats, 3) if wide else chosen.repeats,
        synchronize=synchronize,
        settle_seconds=SETTLE_SECONDS,
        warm=not wide,
        clock=chosen.clock,
    )
    remarks = {
        name: " ".join(f"{what} {error:.0e}" for what, error in found.items()) for name, found in exactness.items()
    }
    remarks = {name: f"{memory.get(name, 0) / 1e6:>7.1f} MB  {remarks.get(name, '')}" for name in times}
    print_times(size, times, remarks)
    return {"times": times, "errors": exactness, "peak_bytes": memory}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", default=list(SIZES), help="[checkpoints x] layers x width")
    chosen = options.parse_args()
    settle(chosen)
    save(chosen.out, {size: measure(size, chosen) for size in chosen.sizes})


if __name__ == "__main__":
    main()
