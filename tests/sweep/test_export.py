"""The long table, as the libraries of its formats read it."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sqlite3

import pandas
import pyarrow.parquet
import pytest

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.cli import main
from gammatorch.reports.table_files import FILE_FORMATS, TEXT_FORMATS
from gammatorch.sweep.export import LONG, WIDE, long_table, wide_table
from gammatorch.sweep.item import Settings
from gammatorch.sweep.store import read_items
from tests.sweep.conftest import sweep

COLUMNS = ["item", "step", "layer", "statistic", "value", "text", "run"]


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
        cast = (str, int, int, str, float, str, str)
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
    assert rows == list(map(tuple, long_table(swept).rows))
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
    names = {row.item.removeprefix(str(runs)) for row in long_table(out).rows}
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


@pytest.fixture
def odd(checkpoints, tmp_path):
    """A run of which one step holds the gains of another."""
    runs = checkpoints(*range(1, 7))
    shutil.copytree(runs / "step6", runs / "step2", dirs_exist_ok=True)
    sweep(runs, out=tmp_path / "out")
    return tmp_path / "out"


READERS = {
    "parquet": pandas.read_parquet,
    "csv": lambda path: pandas.read_csv(path, dtype_backend="numpy_nullable"),
    "jsonl": lambda path: pandas.read_json(path, lines=True, dtype_backend="numpy_nullable"),
}


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("wide", [False, True])
def test_pandas_needs_no_casts(form, wide, odd, tmp_path, call):
    path = tmp_path / f"table.{form}"
    assert call("export", odd, "--out", path, *(["--wide"] if wide else [])).code == 0
    table = READERS[form](path)
    columns = WIDE if wide else LONG
    assert list(table.columns) == list(columns)
    for name, kind in columns.items():
        if table[name].notna().any():
            told = {int: pandas.api.types.is_integer_dtype, str: pandas.api.types.is_string_dtype}
            fits = told.get(kind, pandas.api.types.is_numeric_dtype)(table[name])
            assert fits, (name, table.dtypes[name])
    assert table["step"].dropna().tolist() == sorted(table["step"]) and table["step"].max() == 6
    if wide:
        assert len(table) == 6 and table["num_layers"].eq(4).all()
        assert table["verdict"].notna().all() and table["anomalies"].notna().sum() == 2


def test_a_wide_row_says_what_the_long_ones_do(odd):
    rows = [dict(zip(LONG, row, strict=True)) for row in long_table(odd).rows]
    for row in wide_table(odd).rows:
        item = dict(zip(WIDE, row, strict=True))
        own = {one["statistic"]: one for one in rows if one["item"] == item["item"] and one["layer"] is None}
        shared = own.keys() & item.keys()
        assert {"shared_energy.low", "rms_gamma", "drift", "misfit.value", "shared_directions"} <= shared
        assert {name: own[name]["value"] for name in shared} == {name: item[name] for name in shared}
        assert own["answer.verdict"]["text"] == item["verdict"]
        assert own["answer.support"]["value"] == item["support"]
        told = {name for name in own if name.startswith("anomalies.")}
        assert bool(told) == (item["anomalies"] is not None)


def test_the_tables_know_what_the_sweep_told(odd, tmp_path, call):
    told = json.loads(call("sweep", tmp_path / "runs", "--out", odd, "--format", "json").stdout)
    assert [one["kind"] for one in told["anomalies"]] == ["copy"]
    rows = [dict(zip(WIDE, row, strict=True)) for row in wide_table(odd).rows]
    for entry, row in zip(told["timeline"], rows, strict=True):
        for name in ("item", "run", "step", "rms_gamma", "pearson_previous", "pearson_last", "drift"):
            assert row[name] == entry[name]
    (copy,) = told["anomalies"]
    assert {row["item"] for row in rows if row["anomalies"] == f"copy: {copy['text']}"} == set(copy["items"])


def test_sqlite_declares_its_types(odd, tmp_path, call):
    for options, name, columns in (([], "figures", LONG), (["--wide"], "items", WIDE)):
        path = tmp_path / f"{name}.sqlite"
        assert call("export", odd, "--out", path, *options).code == 0
        with sqlite3.connect(path) as database:
            declared = {row[1]: row[2] for row in database.execute(f"PRAGMA table_info({name})")}
        assert declared == {column: {str: "TEXT", int: "INTEGER", float: "REAL"}[of] for column, of in columns.items()}


def test_the_suffix_tells_the_format_and_a_contradiction_is_refused(swept, tmp_path, call):
    assert call("export", swept, "--out", tmp_path / "a.jsonl").code == 0
    json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    done = call("export", swept, "--out", tmp_path / "a.csv", "--format", "sqlite")
    assert done.code == 2 and "does not fit" in done.stderr
    done = call("export", swept, "--out", tmp_path / "a.xlsx")
    assert done.code == 2 and "no table is written as .xlsx" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out", "runs"]


def test_items_that_could_not_be_done_are_told(checkpoints, tmp_path):
    run = checkpoints(10, 20)
    broken = run / "step20"
    path = min(broken.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    sweep(run, out=tmp_path / "out")
    told = [row for row in long_table(tmp_path / "out").rows if row.statistic == "failure"]
    assert [(row.item, row.step, row.layer, row.value) for row in told] == [(str(broken), 20, None, None)]
    assert told[0].text.startswith("MalformedCheckpoint: ")
    rows = [dict(zip(WIDE, row, strict=True)) for row in wide_table(tmp_path / "out").rows]
    assert [(row["item"], row["verdict"]) for row in rows if row["failure"] == told[0].text] == [(str(broken), None)]
    assert all(row["failure"] is None for row in rows if row["item"] != str(broken))
    for form in FILE_FORMATS | TEXT_FORMATS:
        export(tmp_path / "out", form, tmp_path / f"out.{form}")
        assert [row[3:] for row in read(form, tmp_path / f"out.{form}") if row[3] == "failure"] == [
            ("failure", None, told[0].text, None)
        ]
