"""Items of a sweep that were changed by hand: what is told of them is a table and a page, or one line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gammatorch.errors import MalformedCheckpoint
from gammatorch.reports.figures.sweep import FIGURES
from gammatorch.sweep.curves import sweep_document
from gammatorch.sweep.export import long_table
from gammatorch.sweep.store import kept_failures, read_item
from tests.altered import changed, names_place
from tests.sweep.conftest import sweep


@pytest.fixture
def kept(checkpoints, tmp_path):
    """The file of one of two steps, its header by part, and its tensors."""
    sweep(checkpoints(1, 2, layers=2, hidden=8), out=tmp_path / "out")
    path = min((tmp_path / "out" / "items").iterdir())
    with safe_open(path, framework="pt") as file:
        return path, file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("part", ["item", "analysis", "provenance"])
@pytest.mark.filterwarnings("error")
def test_any_value_of_a_header_that_was_changed_is_told_or_named(kept, part):
    path, metadata, tensors = kept
    folder, refused, drawn = path.parents[1], 0, set()
    for place, document in changed(json.loads(metadata[part])):
        save_file(tensors, path, {**metadata, part: json.dumps(document)})
        try:
            read_item(path, tensors=False)
        except MalformedCheckpoint as error:
            assert str(error).startswith(f"{path}: is not what a sweep wrote (") and "\n" not in str(error)
            said = error.message.removeprefix("is not what a sweep wrote")
            assert names_place(said, place) or "unknown field" in said, (place, said)
            refused += 1
            continue
        told = sweep_document(folder)
        assert len(list(long_table(folder).rows)) > 40
        if repr(told) not in drawn:
            drawn.add(repr(told))
            for picture in FIGURES.values():
                if picture.why_left_out(told) is None:
                    picture.draw(told)
    assert refused >= {"item": 200, "analysis": 700, "provenance": 0}[part]


TEXTS = {"no JSON": "{", "null": "null", "a list": "[]", "NaN": "NaN", "nested without end": "[" * 100_000}


@pytest.mark.parametrize("part", ["item", "analysis", "provenance"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_header_that_is_no_document_is_named(kept, part, text):
    path, metadata, tensors = kept
    save_file(tensors, path, {**metadata, part: TEXTS[text]})
    with pytest.raises(MalformedCheckpoint, match=r"is not what a sweep wrote \("):
        read_item(path)
    save_file(tensors, path, {name: value for name, value in metadata.items() if name != part})
    with pytest.raises(MalformedCheckpoint, match=rf"is not what a sweep wrote \({part} is missing\)"):
        read_item(path)


TENSORS = {
    "gone": lambda values: None,
    "flat": lambda values: values.flatten(),
    "a number": lambda values: torch.tensor(1.0),
    "a row short": lambda values: values[:-1].clone(),
    "a column short": lambda values: values[:, :-1].clone(),
    "empty": lambda values: values[:0].clone(),
    "whole numbers": lambda values: values.to(torch.int64),
}


@pytest.mark.parametrize("name", ["weights", "gram", "pearson"])
@pytest.mark.parametrize("change", TENSORS)
def test_tensors_that_were_changed_are_named(kept, name, change):
    path, metadata, tensors = kept
    new = TENSORS[change](tensors[name])
    save_file({key: value for key, value in {**tensors, name: new}.items() if value is not None}, path, metadata)
    with pytest.raises(MalformedCheckpoint, match=r"is not what a sweep wrote \((weights|sketch|gram|pearson) is "):
        read_item(path)


def test_an_item_under_another_name_is_named(kept):
    path, _, _ = kept
    path = path.rename(path.with_name(f"other{path.suffix}"))
    with pytest.raises(MalformedCheckpoint, match=r"\(item.item.key is not the name of the file\): delete it"):
        read_item(path)


def test_what_is_no_record_of_a_failure_is_passed_over(kept):
    path, _, _ = kept
    folder, good = path.parents[1], {"key": "k", "name": "n", "kind": "OSError", "message": "m"}
    texts = [json.dumps(document) for _, document in changed(good)] + list(TEXTS.values())
    for place, text in enumerate([json.dumps(good), *texts]):
        (folder / "failures" / f"{place}.json").write_text(text)
    found = list(kept_failures(folder))
    assert len(found) == 1 + 3 * len(good)  # a text, if another one, is a text
    assert len(sweep_document(folder).failures) == len(found)
