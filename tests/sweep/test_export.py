"""The long table, as the libraries of its formats read it."""

from __future__ import annotations

import csv
import json
import math
import sqlite3

import pyarrow.parquet
import pytest

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.cli import main
from gammatorch.sweep.export import FILE_FORMATS, TEXT_FORMATS, long_table
from gammatorch.sweep.item import Settings
from gammatorch.sweep.store import read_items
from tests.sweep.conftest import sweep

COLUMNS = ["item", "step", "layer", "statistic", "value"]


@pytest.fixture
def swept(checkpoints, tmp_path):
    sweep(checkpoints(10, 2), out=tmp_path / "out")
    return tmp_path / "out"


def export(folder, form, path):
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), "--format", form, "--out", str(path), "-q"])
    assert not ended.value.code


def read(form, path):
    """Rows of a file by a reader that is not ours; the empty is None."""
    if form == "csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert rows[0] == COLUMNS
        cast = (str, int, int, str, float)
        return [
            tuple(None if cell == "" else kind(cell) for kind, cell in zip(cast, row, strict=True)) for row in rows[1:]
        ]
    if form == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert all(list(row) == COLUMNS for row in rows)
        return [tuple(row.values()) for row in rows]
    if form == "sqlite":
        with sqlite3.connect(path) as database:
            return database.execute(f"SELECT {', '.join(COLUMNS)} FROM figures").fetchall()
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == COLUMNS
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.mark.parametrize("form", [*TEXT_FORMATS, *FILE_FORMATS])
def test_every_format_holds_the_same_figures(form, swept, tmp_path):
    export(swept, form, tmp_path / "table")
    rows = read(form, tmp_path / "table")
    assert rows == list(map(tuple, long_table(swept)))
    stored = {one.item.name: one for one in read_items(swept)}
    assert {row[0] for row in rows} == set(stored)
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)  # in natural order: step2 before step10
    name, one = next(iter(stored.items()))
    norms = [row[4] for row in rows if row[0] == name and row[3] == "norms"]
    assert norms == one.analysis.norms
    assert [row[2] for row in rows if row[0] == name and row[3] == "cos_adjacent"] == [0, 1, 2]
    (energy,) = [row[4] for row in rows if row[0] == name and row[3] == "shared_energy.value"]
    assert math.isclose(energy, one.analysis.statistics.shared_energy.value, rel_tol=0, abs_tol=0)
    axes = {row[3]: row[2] for row in rows if row[0] == name and row[3].startswith("explained_var")}
    assert axes == {f"explained_var.{axis}": None for axis in range(4)}


def test_items_of_one_name_are_told_apart(checkpoints, tmp_path):
    runs, out = checkpoints(1), tmp_path / "out"
    sweep(runs, out=out)
    sweep(runs, out=out, settings=Settings(site="pre_mlp", raw=True))
    write_checkpoint(runs / "step1", layers=4, hidden=32, shards=2, seed=5)
    sweep(runs, out=out)
    names = {row.item.removeprefix(str(runs)) for row in long_table(out)}
    assert len(names) == 3 and "/step1 (site=pre_mlp, raw=True)" in names
    assert all(name.startswith("/step1") for name in names)


def test_what_needs_a_file_says_so_and_a_missing_pyarrow_says_what_to_install(swept, tmp_path, call, monkeypatch):
    assert call("export", swept, "--format", "parquet").code == 2
    done = call("export", tmp_path / "nothing", "--format", "csv")
    assert done.code == 1 and "is not the folder of a sweep" in done.stderr
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    done = call("export", swept, "--format", "parquet", "--out", tmp_path / "table.parquet")
    assert done.code == 1 and "pip install 'gammatorch[parquet]'" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_folder_that_is_no_sweeps_has_no_table_not_an_empty_one(tmp_path, call, form):
    done = call("export", tmp_path, "--format", form)
    assert done.code == 1 and done.stdout == "" and "is not the folder of a sweep" in done.stderr
