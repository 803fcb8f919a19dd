"""Result files that were changed, cut, or are none: one line that says what is wrong."""

from __future__ import annotations

import json

import pytest

from gammatorch.errors import ResultError
from gammatorch.results.files import Misfit, decode, encode, read_result, to_plain
from gammatorch.results.run import RunDocument
from gammatorch.results.schema import DRAWN
from tests.altered import changed, names_place
from tests.results.documents import analysed_as


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def put(document, place, value):
    *parts, last = place
    for part in parts:
        document = document[part]
    document[last] = value


@pytest.mark.parametrize("kind", ["document", "comparison"])
def test_a_result_comes_back_as_it_was_written(kind, request, tmp_path):
    document = request.getfixturevalue(kind)
    read = read_result(write(tmp_path / "a.json", document))
    assert to_plain(read) == document
    assert json.loads(encode(read)) == document


def test_texts_of_any_kind_are_written_in_ascii_and_come_back(document):
    document["notes"] = ["γ 層 \U0001f680", "half of a pair \udc80", "\x00\x1b[2J\u202e"]
    for notes in (document["notes"], document["notes"][::2]):
        document["notes"] = notes
        text = encode(decode(json.dumps(document), RunDocument))
        assert text.isascii() and json.loads(text) == document


CHANGED = {
    "text for a number": (["norms", 2], "1.5", r"norms\[2\]: expected `float \| null`, got `str`"),
    "true for a number": (["norms", 2], True, r"norms\[2\]: expected `float \| null`, got `bool`"),
    "infinite": (["norms", 2], 1e61, r"norms\[2\]: expected `float` <= 1e\+60"),
    "more digits than a number has": (["norms", 2], 10**400, r"norms\[2\]: number out of range"),
    "short list": (["proj_top1"], [0.5], "`proj_top1` has 1 entries, not 24"),
    "ragged matrix": (["cosine", 7], [1.0], r"`cosine\[7\]` has 1 entries, not 24"),
    "ragged correlations": (["statistics", "pearson", 7], [1.0], r"`statistics.pearson\[7\]` has 1 entries, not 24"),
    "flat matrix": (["statistics", "pearson"], [1.0] * 24, r"statistics.pearson\[0\]: expected `array`, got `float`"),
    "no list": (["norms"], None, "norms: expected `array`, got `null`"),
    "no object": (["statistics"], [], "statistics: expected `object`, got `array`"),
    "other count": (["num_layers"], 23, "`num_layers` is 23, not 24"),
    "no width": (["hidden"], 0, "hidden: expected `int` >= 1"),
    "no layers": (["layers"], [], "`layers` is empty"),
    "no axes": (["singular_values"], [], "`explained_var` has 24 entries, not 0"),
    "layers in disorder": (["layers", 3], 2, "`layers` is not in ascending order"),
    "negative layer": (["layers", 0], -1, r"layers\[0\]: expected `int` >= 0"),
    "phase beyond the layers": (["phases", 0, "last"], 99, r"`phases\[0\]` does not begin and end at layers"),
    "phase backwards": (["phases", 0, "first"], 20, r"`phases\[0\]` does not begin and end at layers"),
    "model is a number": (["model"], 7, "model: expected `str \\| null`, got `int`"),
    "axes that do not fit": (["explained_var"], [0.5], "`explained_var` has 1 entries, not 24"),
    "neighbours that do not fit": (["cos_adjacent"], [0.5], "`cos_adjacent` has 1 entries, not 23"),
    "lags that do not fit": (
        ["statistics", "depth_profile"],
        [0.5],
        "`statistics.depth_profile` has 1 entries, not 23",
    ),
    "ones that do not fit": (["statistics", "cos_ones"], [0.5], "`statistics.cos_ones` has 1 entries, not 24"),
    "sizes of no channel": (["statistics", "outliers", "sizes"], [9.0], "statistics.outliers: `sizes` has 1 entries"),
    "bound is a text": (["statistics", "mean_pearson", "low"], "x", "statistics.mean_pearson.low: expected `float"),
    "no such verdict": (["answer", "verdict"], "isotropic", "answer.verdict: invalid enum value 'isotropic'"),
    "one schedule": (["statistics", "schedules"], {}, "`statistics.schedules` has too few entries"),
    "schedule that overflows": (
        ["statistics", "schedules", "geometric", "parameters", "a"],
        1e50,
        "`statistics.schedules.geometric.parameters` are not those of the geometric schedule",
    ),
    "schedule that may be chosen": (
        ["statistics", "schedules", "linear", "chosen"],
        "yes",
        r"statistics.schedules\[...\].chosen: expected `bool`, got `str`",
    ),
    "schedule without its parameters": (
        ["statistics", "schedules", "linear", "parameters"],
        {},
        "`statistics.schedules.linear.parameters` are not those of the linear schedule",
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


def test_a_key_that_is_missing_is_named(document, tmp_path):
    for place in list(every_key(document)):
        changed = json.loads(json.dumps(document))
        *parts, last = place
        inner = changed
        for part in parts:
            inner = inner[part]
        del inner[last]
        if parts[-1:] == ["schedules"] or place in {("norms",), ("schema_version",)}:
            continue  # any name of a schedule will do, and without norms it is another document
        with pytest.raises(ResultError) as refused:
            read_result(write(tmp_path / "a.json", changed))
        assert last in str(refused.value) or parts[-1:] == ["parameters"] or last == "schema_version", refused.value


@pytest.mark.parametrize("form", ["norms", "pairs"])
def test_any_value_that_was_changed_is_taken_or_refused_with_its_place(form, comparison):
    refused = 0
    for place, changed_document in changed(analysed_as(10, 256) if form == "norms" else comparison):
        try:
            decode(json.dumps(changed_document), DRAWN[form])
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
