"""README and the manual: their commands run, their output is real, their tables are the glossary's."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
from pathlib import Path

import click
import pytest
from rich.cells import cell_len

import gammatorch
from gammatorch.cli import cli, main
from gammatorch.reports.console import make_console
from gammatorch.reports.glossary import GLOSSARY
from gammatorch.reports.help import TOPICS, find_topic, page_text, print_page
from tests.manual.checkpoints import write_checkpoints
from tests.manual.tables import with_tables

ROOT = Path(__file__).parents[2]
PAGES = {"README": (ROOT / "README.md").read_text(encoding="utf-8")} | {topic: page_text(topic) for topic in TOPICS}
_TIME = re.compile(r"\d+\.\d+ s\b|[\d.]+ items/s")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text):
    """The command lines of a page's sh blocks, and those whose output it shows where others need what they write."""
    shown = [block.partition("\n")[0].removeprefix("$ ") for block in blocks(text, "console")]
    lines = [line for line in shown if " --out " in line]
    lines += [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("gammatorch ")]


def arguments_of(command):
    """The positional arguments of a command line, once all of it has been parsed by its command."""
    name, *rest = command
    parsed = cli.commands[name].make_context(name, list(rest))
    given = [parsed.params[one.name] for one in cli.commands[name].params if isinstance(one, click.Argument)]
    return [
        str(one) for value in given if value is not None for one in (value if isinstance(value, tuple) else [value])
    ]


def is_local(command):
    """Whether it needs nothing but what is in this folder."""
    return command[0] in ("help", "explain") or "--demo" in command or all(map(is_there, arguments_of(command)))


def is_faulty(command):
    """Whether it is about a checkpoint in which `check` finds errors."""
    return not {"./converted", "./merged", "./megatron-run"}.isdisjoint(command)


def is_there(name):
    return bool(list(Path().glob(name)))


def run(command):
    """What it prints, and how it ends."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        main([*command, *([] if "-q" in command else ["-q"])])
    return out.getvalue(), ended.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("manual")
    write_checkpoints(made)
    return made


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_parsed_and_every_local_one_runs(page, here):
    done = []
    for command in commands(PAGES[page]):
        arguments_of(command)
        if is_local(command):
            _, code = run(command)
            assert code == (3 if is_faulty(command) and command[0] == "check" else 0), command
            done.append(command)
    assert done or page in ("statistics", "hub", "wide", "python", "extending")


SHOWN = [(page, block) for page, text in PAGES.items() for block in blocks(text, "console")]


@pytest.mark.parametrize(
    ("page", "block"), SHOWN, ids=[f"{page}: {block.partition(chr(10))[0]}" for page, block in SHOWN]
)
def test_what_is_shown_is_what_is_printed(page, block, here, tmp_path):
    first, *shown = block.splitlines()
    command = [str(tmp_path / one) if one in ("pythia", "swept") else one for one in shlex.split(first)[2:]]
    text, code = run(command)
    assert code == (3 if is_faulty(command) else 0)
    printed = [_TIME.sub("", line) for line in text.splitlines()]
    place, skipping = 0, False
    for line in shown:
        if line == "…":
            skipping = True
            continue
        wanted = _TIME.sub("", line)
        rest = printed[place:]
        assert wanted in (rest if skipping else rest[:1]), (line, rest[:3])
        place, skipping = place + rest.index(wanted) + 1, False
    assert skipping or place == len(printed)


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "python")])
def test_python_on_a_page_gives_what_it_shows(page, here):
    source = "\n".join(blocks(PAGES[page], "python"))
    session = doctest.DocTestParser().get_doctest(source, {}, page, page, 0)
    assert session.examples
    told = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(session, out=told.write)
    assert told.getvalue() == ""


@pytest.mark.parametrize("topic", TOPICS)
def test_tables_are_those_of_the_glossary(topic):
    assert PAGES[topic] == with_tables(PAGES[topic]), "python -m tests.manual.tables writes them anew"


def test_the_statistics_page_has_a_row_for_every_statistic():
    titles = [title for title, entry in GLOSSARY.items() if entry.stored.startswith("statistics.")]
    assert len(titles) >= 20
    assert [title for title in titles if f"\n| {title} | " not in PAGES["statistics"]] == []


def test_every_page_is_listed_and_every_listed_page_is_there():
    assert {path.stem for path in (Path(gammatorch.__file__).parent / "manual").iterdir()} == set(TOPICS)
    for topic in TOPICS:
        assert f"gammatorch/manual/{topic}.md" in PAGES["README"]


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("topic", TOPICS)
def test_no_page_is_wider_than_the_terminal(topic, width, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    console = make_console(shown)
    console._force_terminal, console.width = True, width
    print_page(topic, console)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
    assert max(map(cell_len, plain.splitlines())) <= min(width, 100)


def test_a_page_is_plain_text_in_a_pipe():
    text, code = run(["help", "sweeps"])
    assert code == 0 and "\x1b" not in text and not re.search(r" $", text, re.MULTILINE)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "Nothing is lost or done twice." in text


def test_without_a_topic_all_are_listed():
    text, _ = run(["help"])
    assert all(re.search(rf"^  {topic} ", text, re.MULTILINE) for topic in TOPICS)


def test_the_name_of_a_command_shows_its_options():
    text, code = run(["help", "export"])
    assert (code, text.splitlines()[0]) == (0, "Usage: gammatorch export [OPTIONS] DIR")


def test_a_wrong_topic_is_one_line_with_the_nearest():
    with pytest.raises(gammatorch.GammatorchError, match=r"no page 'sweps'; did you mean 'sweeps'") as raised:
        find_topic("sweps")
    assert "\n" not in str(raised.value)


def test_readme_is_short_and_keeps_the_line_that_ci_looks_for():
    text = PAGES["README"]
    assert len(text.splitlines()) <= 200
    wanted = "python3 -m venv .venv && .venv/bin/pip install -c tests/constraints.txt -e '.[test]' && .venv/bin/pytest"
    assert next(line for line in text.splitlines() if ".venv/bin/pytest" in line) == wanted


def test_links_in_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", PAGES["README"])
    assert targets and all(os.path.exists(ROOT / target) for target in targets)


def test_readme_names_every_room_of_the_house():
    rooms = {path.name for path in Path(gammatorch.__file__).parent.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGES["README"], re.MULTILINE)) == rooms


def test_the_functions_on_the_way_from_header_to_json_are_where_the_page_says():
    steps = re.findall(r"^\d+\. .*$", PAGES["inside"], re.MULTILINE)
    named = [(name, place) for step in steps for name, place in re.findall(r"`(\w+)` \(([\w/]+/[\w]+\.py)\)", step)]
    assert len(steps) == 10 and len(named) >= 7
    package = Path(gammatorch.__file__).parent
    assert [
        name for name, place in named if f"\ndef {name}(" not in (package / place).read_text(encoding="utf-8")
    ] == []
