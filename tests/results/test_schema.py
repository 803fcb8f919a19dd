"""The contract: what is published of it, what it holds, and what is refused before it is written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from typing import get_args

import pytest
import torch

import gammatorch
from gammatorch.analysis.kinship import LINKED
from gammatorch.analysis.lineage import compare
from gammatorch.analysis.phases import Phase
from gammatorch.analysis.statistics import STATISTICS
from gammatorch.analysis.verdict import SENTENCES
from gammatorch.bench.worlds import draw
from gammatorch.errors import OutputError
from gammatorch.reports.says import says_rows
from gammatorch.results.base import Document
from gammatorch.results.comparison import Lineage
from gammatorch.results.documents import InspectedSite
from gammatorch.results.files import read_result, to_json, to_plain
from gammatorch.results.run import (
    PhaseFigures,
    Provenance,
    Summary,
    Verdict,
    run_document,
    run_statistics,
    run_summary,
)
from gammatorch.results.schema import DOCUMENTS, json_schema
from gammatorch.results.statistics import MATRICES, AllStatistics


@pytest.fixture(scope="module")
def analysis():
    return gammatorch.analyze(torch.from_numpy(draw("phases", 0, 12, 64)))


def test_the_published_schema_is_that_of_the_structs():
    published = files("gammatorch.results").joinpath("schema.json").read_text(encoding="utf-8")
    assert published == json_schema(), "python -m gammatorch.results.schema > gammatorch/results/schema.json"


def test_every_reference_of_the_schema_leads_somewhere():
    schema = json.loads(json_schema())
    assert schema["documents"].keys() == DOCUMENTS.keys()

    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            value = list(value.values())
        for inner in value if isinstance(value, list) else ():
            yield from references(inner)

    assert {f"#/$defs/{name}" for name in schema["$defs"]} >= set(references(schema))


def test_every_statistic_that_is_computed_has_a_field(analysis):
    assert {*analysis.statistics, "more"} == set(AllStatistics.__struct_fields__)
    assert set(vars(analysis.phases[0])) == set(Phase.__dataclass_fields__) == set(PhaseFigures.__struct_fields__)


def test_a_statistic_is_one_line_of_the_table_and_is_printed_written_and_tabulated(monkeypatch, tmp_path):
    spread = {"value": 0.25, "low": 0.2, "high": 0.3}
    added = {
        "largest_gain": lambda lenses: 0.5,
        "gain_by_layer": lambda lenses: torch.ones(12),
        "spread": lambda _: spread,
    }
    monkeypatch.setattr("gammatorch.analysis.statistics.STATISTICS", {**STATISTICS, **added})
    analysis = gammatorch.analyze(torch.from_numpy(draw("phases", 0, 12, 64)))
    analysis.save(tmp_path / "a.json")
    read = read_result(tmp_path / "a.json")
    assert to_plain(read)["statistics"]["more"] == {"largest_gain": 0.5, "gain_by_layer": [1.0] * 12, "spread": spread}
    table = analysis.to_dataframe()
    assert table[table.statistic == "largest_gain"].value.tolist() == [0.5]
    assert table[table.statistic == "gain_by_layer"].layer.tolist() == list(range(12))
    assert ("spread", "0.2500", "0.2000", "0.3000", "") in says_rows(run_statistics(analysis), 12, ranked=True)
    assert "largest gain" in analysis._repr_html_()


def test_every_verdict_has_its_name_in_the_contract():
    assert set(get_args(Verdict)) == {*SENTENCES, "degenerate"}
    assert set(get_args(Lineage)) == {*LINKED, "unrelated", "undetermined"}


def test_to_dict_is_what_the_file_holds(analysis):
    document = analysis.to_dict()
    assert json.loads(to_json(run_document(analysis))) == document

    def kinds(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*map(kinds, inner))

    assert kinds(document) <= {dict, list, str, int, float, bool, type(None)}


def test_what_an_item_keeps_is_the_run_without_matrices_and_provenance(analysis):
    whole, kept = analysis.to_dict(), to_plain(run_summary(analysis))
    del whole["cosine"], whole["provenance"]
    for name in MATRICES:
        del whole["statistics"][name]
    assert kept == whole
    assert set(Summary.__struct_fields__).isdisjoint(Provenance.__struct_fields__)


def test_the_undefined_is_null():
    gains = torch.rand(3, 16, dtype=torch.float64) + 0.5
    gains[1] = 0
    document = gammatorch.analyze(gains).to_dict()
    assert document["cosine"][0][1] is None and document["statistics"]["cos_ones"][1] is None
    assert any("zero gain in layer 1" in note for note in document["notes"])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["error_estimate", "seconds", "support"])
def test_a_number_that_is_always_defined_is_refused_where_it_is_not_finite(analysis, number, place):
    changed = {place: number} if place != "support" else {"answer": replace(analysis.answer, support=number)}
    with pytest.raises(OutputError, match=place):
        run_document(replace(analysis, **changed))


def test_a_comparison_of_other_widths_is_null_where_nothing_can_be_said():
    one, other = torch.rand(3, 16, dtype=torch.float64) + 0.5, torch.rand(4, 8, dtype=torch.float64) + 0.5
    from gammatorch.results.comparison import comparison_document

    (pair,) = comparison_document(compare(one, other)).pairs
    assert pair.verdict == "undetermined" and pair.mapping == [None] * 4 and pair.cka.value is None


def test_nan_in_a_document_is_refused_when_it_is_written():
    broken = InspectedSite("input", float("nan"), 8, [])
    with pytest.raises(OutputError, match="offset: expected `float`, got `null`"):
        to_json(broken)


def test_documents_are_immutable(analysis):
    with pytest.raises(AttributeError):
        run_document(analysis).model = "another"
    assert all(issubclass(kind, Document) for kind in DOCUMENTS.values())


def test_the_contract_needs_no_torch():
    code = (
        "import sys; import gammatorch.results.schema, gammatorch.results.files; "
        "sys.exit(bool({'torch', 'numpy', 'rich'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
