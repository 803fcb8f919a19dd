"""The picture in README: correlations between the layers of the demo's trained gains, out of its page.

python benchmarks/picture.py [--out benchmarks/results/demo_rank_correlation.svg]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).parent / "results" / "demo_rank_correlation.svg"
TITLE = "Rank correlation between layers"
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=OUT)
    out = options.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        result, page = Path(folder) / "demo.json", Path(folder) / "demo.html"
        gammatorch("run", "--demo", "--device", "cpu", "--out", str(result))
        gammatorch("report", str(result), "--out", str(page))
        drawn = re.search(rf"<h3>{TITLE}</h3>\n<svg (.*?</svg>)", page.read_text(encoding="utf-8"), re.DOTALL)
    if drawn is None:
        sys.exit(f"the page has no picture {TITLE!r}")
    out.write_text(f'<svg {NAMESPACES} width="480" {drawn[1]}\n', encoding="utf-8")
    print(f"saved {out}")


def gammatorch(*arguments: str) -> None:
    """One command of this installation."""
    subprocess.run([sys.executable, "-m", "gammatorch", *arguments, "-q"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
