"""What the benchmarks share: options, the table, the result file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gammatorch.bench.timing import Timing, machine

LIBRARIES = ("gammatorch", "torch", "numpy", "safetensors")


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=15, help="counted calls of each candidate")
    made.add_argument("--out", type=Path, help="write the results as JSON to this file")
    return made


def devices() -> list[str]:
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def print_times(title: str, times: Mapping[str, Timing], remarks: Mapping[str, str] | None = None) -> None:
    """Medians, and each candidate's multiple of the first."""
    print(f"\n{title}")
    base = next(iter(times.values())).median_seconds
    for name, timing in times.items():
        remark = (remarks or {}).get(name, "")
        print(f"  {name:<34} {timing.median_seconds * 1e3:>10.3f} ms  {timing.median_seconds / base:>8.2f} ×  {remark}")


def save(out: Path | None, results: Mapping[str, Any]) -> None:
    """Results with the machine and the libraries they were taken on."""
    if out is None:
        return
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    document = {"machine": {**machine(), "gpu": gpu}, "versions": versions, "results": results}
    out.write_text(json.dumps(document, indent=2, default=_as_dict) + "\n")
    print(f"\nsaved {out}")


def _as_dict(value: object) -> Any:
    if isinstance(value, Timing):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
