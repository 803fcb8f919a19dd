"""How long the analysis takes and how exact it is, beside NumPy, at several sizes.

    python benchmarks/spectra.py [--repeats 15] [--out FILE]

Errors are largest absolute differences to the NumPy float64 reference; a method that misses its bound ends the run
before any time is reported. NumPy's candidates do the original script's arithmetic: norms, cosines and SVD.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from common import devices, parser, print_times, save, synchronize

import gammatorch
from gammatorch.analysis.geometry import cosine_matrix, norms
from gammatorch.analysis.pca import principal_axes
from gammatorch.bench import reference
from gammatorch.bench.timing import compare

SIZES = ((36, 2560), (64, 5120), (126, 16384))
SETTLE_SECONDS = 0.2  # OpenBLAS and MKL each bring threads of their own, which spin for a while when done
BOUNDS = {"float64": 1e-10, "float32": 1e-4}


def with_numpy(gamma: np.ndarray[Any, Any]) -> Callable[[], object]:
    def work() -> object:
        lengths = np.linalg.norm(gamma, axis=1)
        units = gamma / lengths[:, None]
        cosine = units @ units.T
        _, singular_values, right = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
        return cosine, singular_values, units @ right[0]

    return work


def with_torch(gamma: torch.Tensor, method: str) -> Callable[[], object]:
    return lambda: (norms(gamma), cosine_matrix(gamma), principal_axes(gamma, method))


def errors(gamma: torch.Tensor, method: str, truth: dict[str, Any]) -> dict[str, float]:
    axes = principal_axes(gamma, method)
    explained, proj = axes.explained_var, axes.proj_top1
    assert explained is not None and proj is not None, "the drawn gains are not degenerate"
    found = {
        "cosine": np.abs(cosine_matrix(gamma).double().cpu().numpy() - truth["cosine"]).max(),
        "explained_var": np.abs(explained.double().cpu().numpy() - truth["explained_var"]).max(),
        "proj_top1": np.abs(proj.double().cpu().numpy() - truth["proj_top1"]).max(),
    }
    bound = BOUNDS[str(gamma.dtype).removeprefix("torch.")]
    assert max(found.values()) <= bound, f"{method} in {gamma.dtype} misses {bound}: {found}"
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    chosen = parser(__doc__).parse_args()
    results = {}
    for layers, hidden in SIZES:
        rng = np.random.default_rng(0)
        drawn = np.exp(
            0.3 * rng.standard_normal(hidden) + 0.1 * np.cumsum(rng.standard_normal((layers, hidden)), axis=0)
        )
        truth = reference.analyze(drawn)
        candidates = {
            "NumPy float32 (the original)": with_numpy(drawn.astype(np.float32)),
            "NumPy float64": with_numpy(drawn),
        }
        exactness: dict[str, dict[str, float]] = {}
        for device in devices():
            for dtype in (torch.float64, torch.float32):
                for method in ("svd", "gram"):
                    name = f"{method} {str(dtype).removeprefix('torch.')} {device}"
                    gamma = torch.from_numpy(drawn).to(device, dtype)
                    exactness[name] = errors(gamma, method, truth)
                    candidates[name] = with_torch(gamma, method)
        times = compare(candidates, repeats=chosen.repeats, synchronize=synchronize, settle_seconds=SETTLE_SECONDS)
        remarks = {
            name: " ".join(f"{what} {error:.0e}" for what, error in found.items()) for name, found in exactness.items()
        }
        print_times(f"{layers} × {hidden}", times, remarks)
        analysis = compare({"analyze": partial(gammatorch.analyze, torch.from_numpy(drawn))}, repeats=chosen.repeats)
        print_times("  the whole of analyze(), float64 on the CPU", analysis)
        results[f"{layers}x{hidden}"] = {"times": {**times, **analysis}, "errors": exactness}
    save(chosen.out, results)


if __name__ == "__main__":
    main()
