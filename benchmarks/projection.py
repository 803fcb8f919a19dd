"""How fast the sketch is beside a sum of the same tensor, and beside scikit-learn's sparse projection if there.

    python benchmarks/projection.py [--repeats 5] [--columns 1000000] [--out FILE]

The cosines of every sketch are held against the exact ones before any time is reported: at least nine pairs in ten
within twice their standard error, on even gains, with outlier channels at a stride, and with near-parallel layers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from common import chosen_devices, parser, print_times, save, settle, synchronize

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.moments import moments
from gammatorch.analysis.projection import sketch
from gammatorch.analysis.sketched import SketchedMoments
from gammatorch.bench.timing import compare

LAYERS = 64


def even(columns: int) -> torch.Tensor:
    return 1 + 0.3 * torch.randn(LAYERS, columns, dtype=torch.float64)


def outliers_with_a_stride(columns: int) -> torch.Tensor:
    gamma = even(columns)
    gamma[:, ::4096] *= 100
    return gamma


def near_parallel(columns: int) -> torch.Tensor:
    return even(columns)[:1] * (1 + 1e-3 * torch.randn(LAYERS, columns, dtype=torch.float64))


INPUTS = (even, outliers_with_a_stride, near_parallel)


def within(gamma: torch.Tensor) -> float:
    """Share of pairs whose cosine the sketch tells within twice its standard error."""
    cosine, error = (of.cpu() for of in sketch(gamma).cosine())
    truth = torch.from_numpy(Correlations(moments(gamma).home()[0], tuple(range(len(gamma)))).cosine)
    pairs = torch.ones_like(truth).triu(1).bool()
    return float(((cosine - truth).abs() <= 2 * error + 1e-12)[pairs].double().mean())


def project(gamma: torch.Tensor) -> object:
    sketched = SketchedMoments(*gamma.shape, device=gamma.device, dtype=gamma.dtype)
    sketched.add(gamma)
    return sketched.finish()


def sparse_projection(gamma: torch.Tensor) -> Callable[[], object] | None:
    if importlib.util.find_spec("sklearn") is None:
        return None
    from sklearn.random_projection import SparseRandomProjection

    projection = SparseRandomProjection(4096, random_state=0).fit(gamma.cpu().numpy())
    return lambda: projection.transform(gamma.cpu().numpy())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--columns", type=int, default=1_000_000, help="width of the gains")
    options.add_argument("--no-peers", action="store_true", help="leave scikit-learn out: it takes a minute")
    chosen = options.parse_args()
    settle(chosen)
    results: dict[str, object] = {}
    for device in chosen_devices(chosen.device):
        shares = {make.__name__: within(make(chosen.columns).to(device)) for make in INPUTS}
        assert min(shares.values()) >= 0.9, f"too few pairs within the stated error: {shares}"
        print(", ".join(f"{name.replace('_', ' ')}: {share:.1%} of pairs within" for name, share in shares.items()))
        results[f"within {device}"] = shares
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            gamma = even(chosen.columns).to(device, dtype)
            candidates: dict[str, Callable[[], object]] = {
                "sum (the floor)": lambda gamma=gamma: gamma.sum(),
                "sketch, k = 4096": lambda gamma=gamma: sketch(gamma),
                "project, exact lengths and means": lambda gamma=gamma: project(gamma),
                "gram, exact": lambda gamma=gamma: moments(gamma),
            }
            peer = sparse_projection(gamma) if dtype is torch.float64 and not chosen.no_peers else None
            if peer is not None:
                candidates["scikit-learn SparseRandomProjection"] = peer
            name = f"{LAYERS} × {chosen.columns} {str(dtype).removeprefix('torch.')} {device}"
            times = compare(candidates, repeats=chosen.repeats, synchronize=synchronize, clock=chosen.clock)
            floor = times["sum (the floor)"].median_seconds
            speeds = {of: f"{floor / timing.median_seconds:.1%} of sum's speed" for of, timing in times.items()}
            print_times(name, times, speeds)
            results[name] = times
    save(chosen.out, results)


if __name__ == "__main__":
    main()
