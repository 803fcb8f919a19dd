"""What is imported when, which is what start-up costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.cli import main

HEAVY = {
    "torch",
    "transformers",
    "numpy",
    "huggingface_hub",
    "rich",
    "einops",
    "plotly",
    "gammatorch.checkpoints.hub.client",
}


def imported_by(code: str, more: set[str] = frozenset()) -> set[str]:
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return (HEAVY | more) & set(done.stderr.split("\n")[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import gammatorch; dir(gammatorch); gammatorch.errors; gammatorch.__version__",
        "from gammatorch.cli import main; main(['--help'])",
        "from gammatorch.cli import main; main(['run', '--help'])",
        "from gammatorch.cli import main; main(['--version'])",
        "from gammatorch.cli import main; main(['run', '--site', 'nowhere'])",
        "from gammatorch.cli import main; main(['run', './no/such/path'])",
        "from gammatorch.cli import main; main(['sweep', '--help'])",
        "from gammatorch.cli import main; main(['sweep', 'a/b'])",
        "from gammatorch.cli import main; main(['export', './no/such/path'])",
        "from gammatorch.cli import main; main(['report', '--help'])",
        "from gammatorch.cli import main; main(['report', './no/such/path'])",
        "from gammatorch.cli import main; main(['report', '.'])",
    ],
)
def test_help_usage_and_missing_files_import_nothing_heavy(code):
    assert imported_by(code) == set()


@pytest.mark.parametrize("arguments", [["explain"], ["explain", "misfit"], ["help"], ["help", "models"]])
def test_explain_and_help_need_rich_alone(arguments):
    assert imported_by(f"from gammatorch.cli import main; main({arguments})") == {"rich"}


def test_inspect_needs_neither_torch_nor_transformers(tmp_path):
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    for form in ("table", "json"):
        code = f"from gammatorch.cli import main; main(['inspect', {str(tmp_path)!r}, '--format', {form!r}])"
        assert imported_by(code) == {"rich"}


def test_inspect_of_other_formats_needs_no_torch_either(tmp_path):
    import torch
    from gguf import GGUFWriter

    torch.save({"layers.0.norm.weight": torch.ones(4)}, tmp_path / "pytorch_model.bin")
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("blk.0.attn_norm.weight", torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name in ("pytorch_model.bin", "model.gguf"):
        code = f"from gammatorch.cli import main; main(['inspect', {str(tmp_path / name)!r}])"
        assert imported_by(code) == {"rich"}


def test_a_local_run_and_the_demo_import_no_transformers_and_no_hub_client(tmp_path):
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    runs = [["run", str(tmp_path)], ["run", "--demo"]]
    loop = f"    for run in {runs}:\n        with contextlib.suppress(SystemExit):\n            main(run)"
    assert imported_by(f"import contextlib\n    from gammatorch.cli import main\n{loop}") == {
        "torch",
        "numpy",
        "rich",
        "einops",
    }


def test_a_dry_run_of_local_items_needs_rich_alone(tmp_path):
    (tmp_path / "step1").mkdir()
    write_checkpoint(tmp_path / "step1", layers=2, hidden=8, shards=1)
    arguments = ["sweep", str(tmp_path), "--out", str(tmp_path / "out"), "--dry-run"]
    assert imported_by(f"from gammatorch.cli import main; main({arguments})") == {"rich"}


def test_a_report_of_a_result_file_needs_neither_torch_nor_numpy(tmp_path):
    write_checkpoint(tmp_path, layers=8, hidden=16, shards=1)
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path), "--out", str(tmp_path / "a.json"), "-q"])
    code = f"from gammatorch.cli import main; main(['report', {str(tmp_path / 'a.json')!r}, '--out', {str(tmp_path / 'a.html')!r}])"
    assert imported_by(code) == {"plotly", "rich"}
