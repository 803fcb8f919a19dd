"""``gammatorch explain`` and ``gammatorch help`` as commands."""

from __future__ import annotations

import json

import pytest

from gammatorch.cli import main
from gammatorch.reports.glossary import GLOSSARY


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, *capsys.readouterr()


def test_without_a_name_every_name_is_listed_within_80_columns(capsys):
    code, out, err = call(capsys, "explain")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert [title for title in GLOSSARY if title not in words] == []
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["participation ratio", "Effective_Dimension", "statistics.effective_dimension"])
def test_a_name_is_found_on_screen_and_in_json_alike(capsys, name):
    code, out, _ = call(capsys, "explain", name)
    assert (code, out.splitlines()[0]) == (0, "participation ratio")
    assert "statistics.effective_dimension" in out and "Wherry 1931" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_name_with_several_meanings_has_them_all(capsys):
    _, out, _ = call(capsys, "explain", "drift")
    assert all(title in out.splitlines() for title in ("drift (verdict)", "‖Δ‖/‖γ‖", "drift (sweep)"))


def test_json_holds_every_part_of_an_entry(capsys):
    _, out, _ = call(capsys, "explain", "misfit", "--format", "json")
    (entry,) = json.loads(out)["entries"]
    assert entry["name"] == "misfit of one direction"
    assert entry["stored"] == "statistics.misfit" and entry["reference"] == "0: one direction explains all"
    _, out, _ = call(capsys, "explain", "--format", "json")
    assert [one["name"] for one in json.loads(out)["entries"]] == list(GLOSSARY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("explain", "participaton"),
            "nothing is called 'participaton'; did you mean 'participation ratio'? (`gammatorch explain` lists every name)",
        ),
        (
            ("help", "statistic"),
            "the manual has no page 'statistic'; did you mean 'statistics'? (its pages: models, statistics, compare, "
            "sweeps, hub, wide, python, files, inside, extending)",
        ),
        (("explain", "xyzzy\x1b[2J"), "nothing is called 'xyzzy\\x1b[2J' (`gammatorch explain` lists every name)"),
    ],
)
def test_an_unknown_name_is_one_line_on_stderr(capsys, arguments, message):
    assert call(capsys, *arguments) == (1, "", f"gammatorch: error: {message}\n")
