"""The picture in README: correlations between the layers of the demo's trained gains, as an SVG file.

python benchmarks/picture.py [--out benchmarks/results/demo_rank_correlation.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gammatorch.analysis.analyze import analyze
from gammatorch.bench.demo import demo_checkpoint
from gammatorch.gains.stream import read_gains
from gammatorch.reports.pictures.canvas import styled
from gammatorch.reports.pictures.of_run import FIGURES

OUT = Path(__file__).parent / "results" / "demo_rank_correlation.svg"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=OUT)
    out = options.parse_args().out
    with demo_checkpoint() as checkpoint:
        document = analyze(read_gains(checkpoint, device="cpu")).to_dict()
    figure = FIGURES["rank_correlation"].figure(document)
    with styled():
        figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    print(f"saved {out}")


if __name__ == "__main__":
    main()
