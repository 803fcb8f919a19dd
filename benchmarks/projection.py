"""How fast the sketch is beside a sum of the same tensor, and beside scikit-learn's sparse projection if there.

    python benchmarks/projection.py [--repeats 5] [--columns 1000000] [--out FILE]

The cosines of every sketch are held against the exact ones before any time is reported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from common import devices, parser, print_times, save, synchronize

from gammatorch.analysis.geometry import cosine_matrix
from gammatorch.analysis.gram import moments
from gammatorch.analysis.projection import sketch
from gammatorch.bench.timing import compare

LAYERS = 64


def sparse_projection(gamma: torch.Tensor) -> Callable[[], object] | None:
    if importlib.util.find_spec("sklearn") is None:
        return None
    from sklearn.random_projection import SparseRandomProjection

    projection = SparseRandomProjection(4096, random_state=0).fit(gamma.cpu().numpy())
    return lambda: projection.transform(gamma.cpu().numpy())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--columns", type=int, default=1_000_000, help="width of the gains")
    chosen = options.parse_args()
    results = {}
    for device in devices():
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            gamma = (1 + 0.3 * torch.randn(LAYERS, chosen.columns)).to(device, dtype)
            cosine, error = sketch(gamma).cosine()
            within = ((cosine - cosine_matrix(gamma.double())).abs() <= 2 * error + 1e-12).double().mean().item()
            assert within >= 0.9, f"only {within:.0%} of pairs within the stated error"
            candidates: dict[str, Callable[[], object]] = {
                "sum (the floor)": lambda gamma=gamma: gamma.sum(),
                "sketch, k = 4096": lambda gamma=gamma: sketch(gamma),
                "gram, exact": lambda gamma=gamma: moments(gamma),
            }
            peer = sparse_projection(gamma) if dtype is torch.float64 else None
            if peer is not None:
                candidates["scikit-learn SparseRandomProjection"] = peer
            name = f"{LAYERS} × {chosen.columns} {str(dtype).removeprefix('torch.')} {device}"
            results[name] = compare(candidates, repeats=chosen.repeats, synchronize=synchronize)
            print_times(name, results[name], {"sketch, k = 4096": f"{within:.0%} of pairs within the stated error"})
    save(chosen.out, results)


if __name__ == "__main__":
    main()
