"""The picture in README: correlations between the layers of the demo's trained gains; needs kaleido.

python benchmarks/picture.py [--out benchmarks/results/demo_rank_correlation.svg]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).parent / "results" / "demo_rank_correlation.svg"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=OUT)
    out = options.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        result = str(Path(folder) / "demo.json")
        gammatorch("run", "--demo", "--device", "cpu", "--out", result)
        gammatorch("report", result, "--figure", "rank_correlation", "--out", str(out))
    print(f"saved {out}")


def gammatorch(*arguments: str) -> None:
    """One command of this installation."""
    subprocess.run([sys.executable, "-m", "gammatorch", *arguments, "-q"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
