"""Every name that is printed or written has an entry: names are collected from outputs and from the code's own tables."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from rich.table import Table

import gammatorch
from gammatorch.analysis.findings import KINDS
from gammatorch.analysis.kinship import LINKED
from gammatorch.analysis.pca import METHODS
from gammatorch.analysis.verdict import SENTENCES
from gammatorch.architectures.base import PLACES
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.cli import main
from gammatorch.reports import glossary
from gammatorch.reports.console import make_console
from gammatorch.reports.glossary import GLOSSARY, GROUPS, entries_of, names_of
from gammatorch.reports.help import find_entries
from gammatorch.reports.inspection import print_verification
from gammatorch.verify.oracle import Finding

PACKAGE = Path(gammatorch.__file__).parent
TRAINED = Path(__file__).parents[1] / "data" / "all-MiniLM-L6-v2"


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in [*arguments, "-q"]])
    return ended.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained checkpoint, another of the same shape, and a run of three steps and a broken one."""
    made = tmp_path_factory.mktemp("outputs")
    shutil.copytree(TRAINED, made / "trained")
    for number in range(1, 4):
        (made / "run" / f"step{number}").mkdir(parents=True)
        write_checkpoint(made / "run" / f"step{number}", layers=6, hidden=64, shards=1)
    (made / "run" / "step4").mkdir()
    (made / "run" / "step4" / "model.safetensors").write_bytes(b"nothing")
    return made


@pytest.fixture(scope="module")
def printed(folder):
    """Heads of all columns that terminal tables print, and the labels of the rows of those that name figures."""
    heads, labels = set(), set()
    add_column, add_row = Table.add_column, Table.add_row

    def column(table, header="", *others, **options):
        heads.add(str(header))
        return add_column(table, header, *others, **options)

    def row(table, *cells, **options):
        if table.columns and table.columns[0].header in ("figure", "stage"):
            labels.add(str(cells[0]))
        return add_row(table, *cells, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "add_column", column)
        patch.setattr(Table, "add_row", row)
        call("run", "--demo", "--site", "all", "--full")
        call("compare", folder / "run" / "step1", folder / "run" / "step2")
        call("check", folder / "trained")
        call("check", folder / "run" / "step1", folder / "run" / "step2", "--against", folder / "run" / "step3")
        call("sweep", folder / "run", "--out", folder / "swept", "--dry-run")
        call("sweep", folder / "run", "--out", folder / "swept")
        call("bench", folder / "trained", "--repeats", "1")
        norm = Finding("model.layers", "input_layernorm", "input", 0.0, 0.0, True, "before", "agree")
        print_verification([norm], None, make_console())
    return heads - {""}, labels


@pytest.fixture(scope="module")
def documents(folder, printed, tmp_path_factory):
    """What the commands write as JSON, by command."""
    out = tmp_path_factory.mktemp("documents")
    call("run", folder / "trained", "--out", out / "run.json")
    call("compare", folder / "run" / "step1", folder / "run" / "step2", "--out", out / "compare.json")
    steps = [folder / "run" / f"step{number}" for number in range(1, 4)]
    call("check", *steps[:2], "--against", steps[2], "--out", out / "check.json")
    call("bench", folder / "trained", "--repeats", "1", "--out", out / "bench.json")
    for name, arguments in {
        "inspect": ["inspect", folder / "trained", "--verify"],
        "sweep": ["sweep", folder / "run", "--out", folder / "swept"],
        "plan": ["sweep", folder / "run", "--out", folder / "swept", "--dry-run"],
    }.items():
        with contextlib.redirect_stdout(io.StringIO()) as text:
            call(*arguments, "--format", "json")
        (out / f"{name}.json").write_text(text.getvalue())
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")} | {"folder": out}


def test_every_statistic_has_an_entry():
    found = gammatorch.analyze(torch.rand(8, 64) + 1).to_dict()["statistics"]
    stored = {entry.stored for entry in GLOSSARY.values()}
    assert {f"statistics.{name}" for name in found} <= stored


def test_every_column_of_a_terminal_table_has_an_entry(printed):
    heads, _ = printed
    assert {"‖Δ‖/‖γ‖", "proj_top1", "part. ratio", "why", "state", "warm ms", "below zero", "observed"} <= heads
    assert [head for head in heads if not entries_of(head)] == []


def test_every_row_that_names_a_figure_has_an_entry(printed):
    _, labels = printed
    assert {"misfit of one direction", "loss with depth", "phase P1", "reads"} <= labels
    assert [label for label in labels if not entries_of(re.sub(r"^phase P\d+$", "phase P1", label))] == []


@pytest.mark.parametrize("command", ["run", "compare", "check", "bench", "inspect", "sweep", "plan"])
def test_every_name_in_a_document_has_an_entry(documents, command):
    found = set(names_in(documents[command]))
    assert found
    assert [name for name in found if not entries_of(name)] == []


def names_in(document):
    """Names of the parts of a document, but for the parameters of a schedule, which its formula names."""
    if isinstance(document, dict):
        for name, part in document.items():
            yield name
            if name != "parameters":
                yield from names_in(part)
    elif isinstance(document, list):
        for part in document:
            yield from names_in(part)


def test_every_figure_of_an_exported_sweep_has_an_entry(folder, documents):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        call("export", folder / "swept")
    head, *rows = csv.reader(text.getvalue().splitlines())
    names = {row[3].partition(".")[0] for row in rows}
    assert {"norms", "misfit"} <= names
    assert [name for name in [*head, *names] if not entries_of(name)] == []


@pytest.mark.parametrize("source", ["run", "compare", "sweep"])
def test_every_column_of_a_page_has_an_entry(documents, folder, source, capsys):
    path = folder / "swept" if source == "sweep" else documents["folder"] / f"{source}.json"
    assert call("report", path) == 0
    heads = set(re.findall(r"<th[^>]*>([^<]+)</th>", capsys.readouterr().out))
    assert heads
    assert [head for head in heads if not entries_of(head)] == []


def test_every_verdict_has_an_entry():
    for verdict in [*SENTENCES, "degenerate"]:
        assert any(entry.group == "verdict" for entry in entries_of(verdict).values()), verdict
    for verdict in {*LINKED, *first_words("Kinship")}:
        assert any(entry.group == "kinship" for entry in entries_of(verdict).values()), verdict


def test_every_site_and_method_has_an_entry():
    assert {*PLACES, *METHODS} <= GLOSSARY.keys()


def test_every_kind_of_finding_has_an_entry():
    kinds = {second if first in ("error", "warning", "note") else first for first, second in calls("Finding")}
    assert {"copy", "jump", "convention", "dead channels", "identical layers"} <= kinds
    assert [kind for kind in kinds | set(KINDS) if not entries_of(kind)] == []
    assert kinds_of_checks() <= set(KINDS)


def kinds_of_checks():
    """What `check` calls its findings where it makes them; other findings have their kind first."""
    return {second for first, second in calls("Finding") if first in ("error", "warning", "note") and second}


def first_words(name):
    return {first for first, _ in calls(name)}


def calls(name):
    """The first two arguments of every call of a name in the package, where these are texts."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name and node.args:
                texts = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args[:2]]
                if isinstance(texts[0], str):
                    yield (*texts, None)[:2]


def test_every_group_has_entries_and_a_title_that_stands_twice_is_refused():
    assert {entry.group for entry in GLOSSARY.values()} == set(GROUPS)
    with pytest.raises(ValueError, match="two entries 'a'"):
        glossary._read("# group: Heading\n\n## a\nOne.\n\n## a\nTwo.\n")


def test_the_entries_of_sites_say_what_the_table_of_places_says():
    assert all(f"The norm {where}." == GLOSSARY[name].what for name, where in PLACES.items())


def test_every_entry_is_one_sentence_and_found_by_each_of_its_names():
    for title, entry in GLOSSARY.items():
        assert entry.what[-1] in ".:" and "\n" not in entry.what, title
        for name in names_of(title, entry):
            assert title in entries_of(name), name
        assert all(map(entries_of, entry.parts)), title


def test_an_unknown_name_is_one_line_with_those_nearest():
    with pytest.raises(gammatorch.GammatorchError) as raised:
        find_entries("shared enregy")
    assert "\n" not in str(raised.value) and "did you mean 'shared energy'" in str(raised.value)
