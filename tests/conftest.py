"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# torch, imported later, reads it: workers that each take all cores stand in each other's way
os.environ.setdefault(
    "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
)
for name in os.environ.keys() & {
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PYTHONIOENCODING", "SOURCE_DATE_EPOCH"),
    *("HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
} | {name for name in os.environ if name.startswith("GAMMATORCH_")}:
    del os.environ[name]  # what whoever calls the tests has set changes none of them
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "0"
os.environ["GAMMATORCH_CACHE_GB"] = "0"  # but where a test is about the cache

from tests.zoo import TABLE, save_tiny_model  # noqa: E402  after the environment is set


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="Device that the device tests use: cpu, cuda, cuda:1, mps.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device").startswith("cuda"):
        return
    needs_cuda = pytest.mark.skip(reason="needs --device cuda")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(needs_cuda)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny model of the table, saved by transformers on first use."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            save_tiny_model(TABLE[name], folders[name])
        return folders[name]

    return folder


@pytest.fixture(scope="session")
def trained() -> Path:
    """The norm weights of a trained BERT; see ORIGIN.md there."""
    return Path(__file__).parent / "data" / "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def smollm2_norms() -> Path:
    """The norms of a trained Llama as its GGUF file has them; see ORIGIN.md there."""
    return Path(__file__).parent / "data" / "SmolLM2-135M-Instruct" / "SmolLM2-135M-Instruct-norms.gguf"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the models of the matrix by group and outcome."""
    counts = matrix_counts(terminalreporter)
    for group in sorted({group for group, _ in counts}):
        line = ", ".join(f"{count} {outcome}" for (of, outcome), count in sorted(counts.items()) if of == group)
        terminalreporter.write_line(f"model matrix, {group}: {line}")
    for line in offset_lines(_recorded(terminalreporter, "offsets")):
        terminalreporter.write_line(f"offsets: {line}")


def matrix_counts(terminalreporter: pytest.TerminalReporter) -> Counter[tuple[str, str]]:
    outcomes = _recorded(terminalreporter, "matrix")
    return Counter((group, outcome) for group, _, outcome in (value.partition(" ") for value in outcomes))


def offset_lines(recorded: list[dict[str, Any]]) -> Iterator[str]:
    """Types whose offsets were held against what their norms do, the comparisons by site, and what was not built."""
    if not recorded:
        return
    counts, norms = Counter[str](), Counter[str]()
    for of_type in recorded:
        counts.update({name: count for name, count in of_type.items() if isinstance(count, int)})
        norms.update(of_type.get("norms", {}))
    not_built = ", ".join(sorted(of_type["not built"] for of_type in recorded if "not built" in of_type)) or "none"
    yield f"{len(recorded)} types, {counts['built']} built, {counts['parts']} are parts of others, not built: {not_built}"
    yield f"{counts['classes']} classes, {counts['stacks']} stacks, {norms.total()} comparisons, {counts['wrong']} wrong"
    yield ", ".join(f"{site} {count}" for site, count in norms.most_common())


def _recorded(terminalreporter: pytest.TerminalReporter, wanted: str) -> list[Any]:
    reports = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.stats.get(kind, [])]
    return [value for report in reports for name, value in getattr(report, "user_properties", []) if name == wanted]
