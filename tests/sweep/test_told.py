"""What a sweep tells is kept, and made anew where anything it was made from has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch.results.sweep import Failure
from gammatorch.sweep import timeline, told
from gammatorch.sweep.told import FOLDER, tell


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A run of five steps of which two are copies of one another."""
    drawn = torch.Generator().manual_seed(0)
    gains = torch.rand(4, 64, generator=drawn) + 0.5
    for step in range(5):
        gains = gains if step == 3 else gains + 0.01 * torch.randn(gains.shape, generator=drawn)
        folder = tmp_path / "run" / f"step{step}"
        folder.mkdir(parents=True)
        rows = {f"model.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(gains)}
        save_file(rows, folder / "model.safetensors")
    gammatorch.sweep([str(tmp_path / "run")], out=tmp_path / "swept")
    return tmp_path / "swept"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of items of each time that all were read."""
    counts, original = [], timeline.make_timeline

    def make_timeline(folder, keys, failures, aliases):
        counts.append(len(keys))
        return original(folder, keys, failures, aliases)

    monkeypatch.setattr(timeline, "make_timeline", make_timeline)
    return counts


def test_the_second_time_no_item_is_read(swept: Path, made: list[int]) -> None:
    first = tell(swept)
    assert (
        first == timeline.make_timeline(swept, [path.stem for path in (swept / "items").iterdir()], (), ()).document()
    )
    assert [one.kind for one in first.anomalies] == ["copy"]
    made.clear()
    assert tell(swept) == first
    assert made == []


def test_items_failures_and_keys_are_told_apart(swept: Path, made: list[int]) -> None:
    tell(swept)
    some = sorted(path.stem for path in (swept / "items").iterdir())[:3]
    tell(swept, some)
    tell(swept, None, [Failure("k", "step9", "NonFiniteGain", "NaN")])
    assert made[-2:] == [3, 5]
    (swept / "items" / f"{some[0]}.safetensors").unlink()
    tell(swept)
    assert made[-1] == 4


def test_an_item_that_was_written_again_is_read_again(swept: Path, made: list[int]) -> None:
    tell(swept)
    made.clear()
    path = next((swept / "items").iterdir())
    os.utime(path, ns=(1, 1))
    tell(swept)
    assert made == [5]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"timeline": 1}'])
def test_what_was_kept_and_is_damaged_is_made_anew(swept: Path, made: list[int], damage: bytes) -> None:
    first = tell(swept)
    made.clear()
    for path in (swept / FOLDER).iterdir():
        path.write_bytes(damage)
    assert tell(swept) == first
    assert made == [5]
    assert tell(swept) == first
    assert made == [5]


def test_other_code_tells_anew(swept: Path, made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(swept)
    made.clear()
    package = Path(told.__file__).parents[1]
    for room in ("trajectory", "sweep"):
        shutil.copytree(package / room, tmp_path / "package" / room)
    monkeypatch.setattr(told, "__file__", str(tmp_path / "package" / "sweep" / "told.py"))
    told._code.cache_clear()
    tell(swept)
    assert made == []
    with (tmp_path / "package" / "trajectory" / "jumps.py").open("a") as file:
        file.write("# another threshold\n")
    told._code.cache_clear()
    tell(swept)
    assert made == [5]
    monkeypatch.undo()
    told._code.cache_clear()


def test_only_the_last_few_are_kept(swept: Path) -> None:
    for number in range(7):
        tell(swept, None, [Failure("k", f"step{number}", "NonFiniteGain", "NaN")])
    assert len(list((swept / FOLDER).iterdir())) == 4


def test_a_folder_that_cannot_be_written_to_is_told_all_the_same(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(told, "write_atomically", refuse)
    assert len(tell(swept).timeline) == 5
