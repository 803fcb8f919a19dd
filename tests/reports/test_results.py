"""Result files that were changed, cut, or are none: one line that says what is wrong."""

from __future__ import annotations

import json

import pytest

from gammatorch.analysis.result import SCHEMA_VERSION as RUN_VERSION
from gammatorch.errors import ResultError
from gammatorch.reports.comparison import SCHEMA_VERSION as COMPARISON_VERSION
from gammatorch.reports.result_schema import FORMATS, SCHEMA_VERSIONS
from gammatorch.reports.results import read_result
from gammatorch.reports.schema import Misfit
from tests.altered import changed, names_place


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def put(document, place, value):
    *parts, last = place
    for part in parts:
        document = document[part]
    document[last] = value


def test_the_versions_that_are_read_are_those_that_are_written():
    assert SCHEMA_VERSIONS == {"norms": RUN_VERSION, "pairs": COMPARISON_VERSION}


def test_a_result_comes_back_as_it_was_written(document, tmp_path):
    assert read_result(write(tmp_path / "a.json", document)) == ("norms", document)


CHANGED = {
    "text for a number": (["norms", 2], "1.5", r"norms\[2\] is '1.5', not a number"),
    "true for a number": (["norms", 2], True, r"norms\[2\] is True, not a number"),
    "infinite": (["norms", 2], 1e61, r"norms\[2\] is 1e\+61, not a number"),
    "short list": (["proj_top1"], [0.5], "proj_top1 has 1 entries, not 24"),
    "ragged matrix": (["cosine", 7], [1.0], r"cosine\[7\] has 1 entries, not 24"),
    "flat matrix": (["statistics", "pearson"], [1.0] * 24, r"statistics.pearson\[0\] is 1.0, not a list"),
    "no list": (["norms"], None, "norms is None, not a list"),
    "no object": (["statistics"], [], "statistics is list, not a JSON object"),
    "other count": (["num_layers"], 23, "num_layers is 23, not 24"),
    "no width": (["hidden"], 0, "hidden is 0"),
    "no layers": (["layers"], [], "layers is empty"),
    "layers in disorder": (["layers", 3], 2, "layers is not in ascending order"),
    "negative layer": (["layers", 0], -1, r"layers\[0\] is -1, not a whole number"),
    "phase beyond the layers": (["phases", 0, "last"], 99, r"phases\[0\] does not begin and end at layers"),
    "phase backwards": (["phases", 0, "first"], 20, r"phases\[0\] does not begin and end at layers"),
    "model is a number": (["model"], 7, "model is 7, not a text"),
    "axes that do not fit": (["explained_var"], [0.5], "explained_var has 1 entries, not 24"),
    "bound is a text": (["statistics", "mean_pearson", "low"], "x", "statistics.mean_pearson.low is 'x', not a number"),
    "one schedule": (["statistics", "schedules"], {}, "statistics.schedules has too few entries"),
    "schedule that overflows": (
        ["statistics", "schedules", "geometric", "parameters", "a"],
        1e50,
        "statistics.schedules.geometric.parameters are no geometric schedule's",
    ),
    "schedule that may be chosen": (
        ["statistics", "schedules", "linear", "chosen"],
        "yes",
        "statistics.schedules.linear.chosen is 'yes', neither true nor false",
    ),
    "schedule without its parameters": (
        ["statistics", "schedules", "linear", "parameters"],
        {},
        "statistics.schedules.linear.parameters are no linear schedule's",
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_result_that_was_changed_is_refused_and_the_place_named(document, tmp_path, change):
    place, value, said = CHANGED[change]
    put(document, place, value)
    with pytest.raises(ResultError, match=rf"is not as it was written: {said}.*: make it again"):
        read_result(write(tmp_path / "a.json", document))


def every_key(value, place=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*place, name)
            yield from every_key(inner, (*place, name))


def test_a_key_that_is_missing_is_named_unless_no_page_reads_it(document, tmp_path):
    unread = set()
    for place in list(every_key(document)):
        changed = json.loads(json.dumps(document))
        *parts, last = place
        inner = changed
        for part in parts:
            inner = inner[part]
        del inner[last]
        try:
            read_result(write(tmp_path / "a.json", changed))
            unread.add(".".join(place))
        except ResultError as error:
            assert last in str(error) or place in {("norms",), ("schema_version",)} or parts[-1] == "parameters", error
    assert unread - {name for name in unread if name.startswith("statistics.schedules.")} == {
        "cos_adjacent",
        "statistics.cos_ones",
        "statistics.period.across",
        "statistics.period.within",
        "statistics.singular_gap",
        "provenance.model_type",
        "provenance.requests",
        "provenance.rounds",
    }


@pytest.mark.parametrize(("form", "kind"), [("norms", "document"), ("pairs", "comparison")])
def test_any_value_that_was_changed_is_taken_or_refused_with_its_place(form, kind, request):
    refused = 0
    for place, changed_document in changed(request.getfixturevalue(kind)):
        try:
            FORMATS[form](changed_document, "", {})
        except Misfit as misfit:
            assert names_place(str(misfit), place), (place, str(misfit))
            refused += 1
    assert refused > {"norms": 900, "pairs": 600}[form]


NO_RESULT = {
    "text": ("hello", "is not JSON"),
    "binary": ("\0\1\2", "is not JSON"),
    "empty": ("", "is not JSON"),
    "list": ("[1, 2]", "is not JSON"),
    "cut short": ('{"norms": [1', "is not valid JSON"),
    "NaN": ('{"schema_version": 1, "norms": [NaN]}', "it holds NaN, which JSON has not"),
    "nested without end": ('{"norms":' + "[" * 200_000, "is not valid JSON"),
    "another document": ('{"schema_version": 1, "stacks": []}', "is JSON, but no result that can be drawn: pass what"),
    "no version": ('{"norms": []}', "is JSON, but no result that can be drawn"),
    "newer": ('{"schema_version": 3, "norms": []}', "has schema_version 3, this version reads 2: upgrade gammatorch"),
    "older": ('{"schema_version": 1, "norms": []}', "has schema_version 1, this version reads 2: make it again"),
}


@pytest.mark.parametrize("kind", NO_RESULT)
def test_what_is_no_result_is_refused(tmp_path, kind):
    content, said = NO_RESULT[kind]
    with pytest.raises(ResultError, match=said):
        read_result(write(tmp_path / "a.json", content))


def test_a_path_that_is_not_there_and_bytes_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(ResultError, match="no such file or folder: pass what `gammatorch run --out`"):
        read_result(tmp_path / "nothing")
    (tmp_path / "latin").write_bytes('{"norms": "é"}'.encode("latin-1"))
    with pytest.raises(ResultError, match="is not valid JSON"):
        read_result(tmp_path / "latin")


def test_a_file_that_does_not_begin_like_json_is_not_read_to_its_end(tmp_path):
    with open(tmp_path / "weights", "wb") as file:
        file.truncate(10**12)  # sparse: reading it would take minutes, and all memory there is
    with pytest.raises(ResultError, match="is not JSON"):
        read_result(tmp_path / "weights")
