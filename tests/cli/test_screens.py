"""What a terminal shows: the answer first, no line wider than the terminal, with colour and without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from safetensors.torch import save_file

from gammatorch.bench.worlds import WORLDS, draw
from gammatorch.reports.console import make_console, table_lines
from tests.manual.checkpoints import write_checkpoints

TRAINED = Path(__file__).parents[1] / "data" / "all-MiniLM-L6-v2"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_COST = re.compile(r"read .* on cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("screens")
    write_checkpoints(made)
    return made


@pytest.fixture
def terminal(call, monkeypatch):
    """A call on a terminal of some width, and its lines without styles and cost."""

    def shown(width: int, *arguments: object, colour: bool = False, **environment: str) -> list[str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLORTERM", "truecolor")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not colour:
            monkeypatch.setenv("NO_COLOR", "1")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = call(*arguments)
        assert done.code in (0, 3, 4), done.stderr
        text = done.stdout if colour else _STYLE.sub("", done.stdout)
        return [_COST.sub("read …", line) for line in text.splitlines()]

    return shown


SCREENS = {
    60: """\
SmolLM2-135M-I…o, real gains) · site input · 30 layers × 576
Verdict: phases, support 1.00
Phases: the direction jumps at layer 23 and is stable in
between (mean rank correlation 0.322 [0.296, 0.347] over all
layers).

figure                   value    low   high
mean rank correlation    0.322  0.296  0.347
phases found                 2
order of layers          7.932
loss with depth          0.599  0.572  0.626
misfit of one direction  0.109  0.096  0.121

RMS γ                   0.04..0.42  ▂▄▅▆▆▅▆▆▅▅▆▇▇▇█▇▇▇▇█▇█▇█
rank r with next layer  -0.24..0.97 ▂▇██▇▅▇▄▆▇█████▇█▇▇▂▆▇▁▁
read …
""",
    80: """\
SmolLM2-135M-Instruct (demo, real gains) · site input · 30 layers × 576
Verdict: phases, support 1.00
Phases: the direction jumps at layer 23 and is stable in between (mean rank
correlation 0.322 [0.296, 0.347] over all layers).

figure                   value    low   high  reference
mean rank correlation    0.322  0.296  0.347  chance stays within ±0.0048
phases found                 2                23
order of layers          7.932                ≥ 2.5: near layers are more alike
loss with depth          0.599  0.572  0.626  near 0.6514, far 0.0519
misfit of one direction  0.109  0.096  0.121  0: one direction explains all

RMS γ                   0.04..0.42  ▂▄▅▆▆▅▅▆▆▅▅▅▆▆▇▇▆██▆▇▇▇█▇▇█▇██  :*#+*****.-.
rank r with next layer  -0.24..0.97 ▂▇██▇▇▅▇▄▆▇▇██████▇█▇▇▂▇▆▇▁▁▄   :********.-.
right: rank r between every two layers, first layer at top left;    +##+#@@##.-.
- is below 0, and . : + * # @ go from 0 to 1                        +##+#@@@@.-.
read …                             .::.:+++:...
                                                                    ---.-----:+.
""",
    120: """\
SmolLM2-135M-Instruct (demo, real gains) · site input · 30 layers × 576
Verdict: phases, support 1.00
Phases: the direction jumps at layer 23 and is stable in between (mean rank correlation 0.322
[0.296, 0.347] over all layers).
""",
}


@pytest.mark.parametrize("width", SCREENS)
def test_the_screen_of_a_run_at_three_widths(terminal, width):
    lines, wanted = terminal(width, "run", "--demo", "--device", "cpu"), SCREENS[width].splitlines()
    assert lines[: len(wanted)] == wanted
    assert len(lines) <= 20 and (width == 120 or len(lines) == len(wanted))


def test_colours_tell_below_zero_from_above_in_a_map_of_half_blocks(terminal):
    lines = terminal(80, "run", "--demo", "--device", "cpu", colour=True)
    plain = [_STYLE.sub("", line) for line in lines]
    rows = [line[-12:] for line in plain if line.endswith("▀")]
    assert rows == ["▀" * 12] * 6 and "blue -1, white 0, orange +1" in "\n".join(plain)
    found = [re.findall(r"38;2;(\d+);(\d+);(\d+)", line) for line in lines if "▀" in line]
    cells = [[tuple(map(int, cell)) for cell in row] for row in found]
    red, blue = 0, 2
    assert all(cells[3][n][red] > cells[3][n][blue] + 50 for n in range(4, 8)), "the first phase is orange"
    assert cells[1][10][blue] > cells[1][10][red] + 40, "the phases are anticorrelated: blue"
    assert max(map(cell_len, plain)) <= 80


COLOURED = {
    "run": (("run", "base", "--device", "cpu"), {("1", "Verdict: phases, support 1.00"), ("1", "reference")}),
    "compare": (("compare", "base", "instruct", "--device", "cpu"), {("1", "A  base · BF16"), ("1", "verdict")}),
    "sweep": (("sweep", "runs/small", "--out", "OUT"), {("1", "step"), ("1", "drift")}),
    "inspect": (("inspect", "base"), {("1", "base"), ("1", "model.layers: 30 layers, main stack, pre-norm")}),
    "explain": (("explain", "rank correlation"), {("1", "rank correlation")}),
    "check": (
        ("check", "converted", "--against", "base"),
        {("31", "error: input, pre_mlp, final: shifted: γ of all layers stands 1 above the"), ("1", "below zero")},
    ),
}


@pytest.mark.parametrize("name", COLOURED)
def test_heads_and_verdicts_are_bold_and_errors_red(terminal, folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(folder)
    arguments, wanted = COLOURED[name]
    arguments = [str(tmp_path / "out") if one == "OUT" else one for one in arguments]
    lines = terminal(80, *arguments, "-q", colour=True)
    styled = {
        (style, text.strip()) for line in lines for style, text in re.findall(r"\x1b\[([\d;]+)m([^\x1b]+)\x1b", line)
    }
    assert wanted <= styled, styled


@pytest.mark.parametrize("surroundings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours_the_map_is_ascii(terminal, surroundings):
    lines = terminal(80, "run", "--demo", "--device", "cpu", colour=True, **surroundings)
    assert not any("▀" in line or "38;" in line for line in lines)
    assert any(line.endswith("+##+#@@@@.-.") for line in lines)


def test_a_terminal_without_blocks_gets_digits():
    command = [sys.executable, "-m", "gammatorch", "run", str(TRAINED)]
    done = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    text = done.stdout.decode("ascii")
    assert re.search(r"^RMS \? +0\.54\.\.0\.61 +\d{6} ", text, re.MULTILINE)


def test_the_answer_stands_in_the_first_three_lines_of_a_pipe(call):
    done = call("run", TRAINED)
    first, verdict, sentence, *_ = lines = done.stdout.splitlines()
    assert first.endswith("· site post_attention (no input norm) · 6 layers × 384")
    assert verdict == "Verdict: undecided, support 0.68" and sentence.startswith("Undecided between a drift and")
    assert "no learned norm stands on the block's input (post-LN)" in done.stdout, "a substitution is told in full"
    assert len(lines) <= 20 and max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize("world", ["shared-direction", "drift", "three groups", "layer-specific"])
def test_every_verdict_shows_at_least_three_of_its_figures_in_20_lines(call, tmp_path, world):
    gamma = torch.from_numpy(draw(world, 0, 24, 512)).float()
    gains = {f"model.layers.{n}.input_layernorm.weight": row.clone() for n, row in enumerate(gamma)}
    save_file(gains, tmp_path / "model.safetensors")
    lines = call("run", tmp_path).stdout.splitlines()
    assert lines[1].startswith(f"Verdict: {WORLDS[world].verdict}, support ")
    place = next(n for n, line in enumerate(lines) if line.startswith("figure "))
    assert len(lines) <= 20 and lines[place + 1].startswith("mean rank correlation")
    assert all(lines[place + 1 : place + 4])


def test_a_note_that_puts_all_in_doubt_is_shown_and_others_are_counted(call, tmp_path):
    gains = {f"model.layers.{n}.input_layernorm.weight": torch.randn(64) * 0.1 for n in range(4)}
    save_file(gains, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    text = " ".join(call("run", tmp_path).stdout.split())
    assert "note: suspect: read as γ = w, but the stored weights lie about 0" in text
    assert "1 note: --full shows it" in text and "change_points and schedules are undefined" not in text
    assert "change_points and schedules are undefined" in call("run", tmp_path, "--full").stdout


COMMANDS = {
    "run": ("run", "base"),
    "run --full": ("run", "base", "--full", "--phases", "a-long-name-of-a-phase=0-9,another-name=10-"),
    "run --site all": ("run", "base", "--site", "all"),
    "run, one layer": ("run", "base", "--site", "final"),
    "compare": ("compare", "base", "instruct", "other"),
    "compare --site all": ("compare", "base", "instruct", "--site", "all"),
    "compare, many": ("compare", "base", "instruct", "other", "merged", "converted"),
    "check": ("check", "converted", "--against", "base"),
    "check, many": ("check", "megatron-run"),
    "inspect": ("inspect", "base"),
    "explain": ("explain",),
    "explain NAME": ("explain", "rank correlation"),
    "sweep": ("sweep", "runs/small", "--out", "OUT", "--device", "cpu"),
    "sweep --dry-run": ("sweep", "runs/small", "--out", "OUT", "--dry-run"),
    "a sweep that fails": ("sweep", "runs/small", "--site", "query", "--out", "OUT"),
}


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("colour", [False, True], ids=["plain", "coloured"])
def test_no_line_is_wider_than_the_terminal(terminal, folder, tmp_path, monkeypatch, name, width, colour):
    monkeypatch.chdir(folder)
    arguments = [str(tmp_path / "out") if one == "OUT" else one for one in COMMANDS[name]]
    lines = [_STYLE.sub("", line) for line in terminal(width, *arguments, "-q", colour=colour)]
    assert lines and [line for line in lines if cell_len(line) > width] == []


def test_the_verdict_of_a_comparison_is_kept_where_columns_are_dropped(terminal, folder, monkeypatch):
    monkeypatch.chdir(folder)
    lines = terminal(60, "compare", "base", "instruct", "-q", "--device", "cpu")
    row = next(line for line in lines if line.startswith("B-A "))
    assert row.endswith(" fine-tuned") and "+0.9968" in row
    assert any(line.startswith("not shown in 60 columns: ‖Δ‖/spread, CKA") for line in lines)


def test_figures_are_never_cut_and_names_are_cut_in_their_middle():
    rows = [["a" * 40 + "b" * 40, "0.123456789", "words " * 12, "fine-tuned"]]
    columns = ("<item", "value", "<why", "<verdict")
    lines, left_out = table_lines(make_console(), columns, rows, 80, least=("value",), folded=("why",))
    assert left_out == [] and len(lines) > 2 and max(map(cell_len, lines)) <= 80
    assert lines[1].startswith("a") and "…" in lines[1] and "0.123456789" in lines[1] and "fine-tuned" in lines[1]
    lines, left_out = table_lines(make_console(), columns, rows, 60, least=("value",), folded=("why",))
    assert left_out == ["value"] and "fine-tuned" in lines[1] and max(map(cell_len, lines)) <= 60


def test_several_sites_are_a_line_each_and_json_an_array(call, tmp_path):
    done = call("run", "--demo", "--site", "pre_mlp", "--site", "final", "--site", "pre_mlp")
    head, _, first, second, empty, answer = done.stdout.splitlines()[:6]
    assert head.endswith(": 2 sites") and first.split()[:2] == ["pre_mlp", "phases"] and not empty
    assert second.split() == ["final", "degenerate", "1.00", "-", "1", "×", "576"]
    assert " · site pre_mlp · 30 layers × 576" in answer
    done = call("run", "--demo", "--site", "all", "--json", "--out", tmp_path / "all.json")
    assert (tmp_path / "all.json").read_text() == done.stdout
    assert [one["site"] for one in json.loads(done.stdout)] == ["input", "pre_mlp", "final"]


def test_json_is_short_for_format_json(call, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for command in (["inspect", "base"], ["explain", "misfit"], ["check", "base"], ["compare", "base", "other"]):
        by_name, short = (json.loads(call(*command, *option).stdout) for option in (["--format", "json"], ["--json"]))
        assert by_name.keys() == short.keys()


def test_one_layer_is_its_norm_and_no_table(call):
    lines = call("run", "--demo", "--site", "final").stdout.splitlines()
    assert lines[2] == "Degenerate: one layer has no other to be compared with."
    assert lines[4] == "‖γ‖ 43.84, RMS γ 1.827" and len(lines) <= 7


def test_phases_that_reach_beyond_the_last_layer_give_a_note(call):
    notes = json.loads(call("run", TRAINED, "--phases", "a=0-3,b=4-99", "--json").stdout)["notes"]
    assert [note for note in notes if "phase" in note] == ["phase 'b=4-99' ends at layer 5, the last one"]


def test_a_site_that_a_whole_sweep_lacks_is_told_once(call, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    done = call("sweep", "runs/small", "--site", "query", "--out", tmp_path / "out", "-q")
    assert done.code == 4 and done.stdout.count("no learned norm at site 'query'") == 1
    assert "(12 items, the others: " in done.stdout and " and 8 more)" in done.stdout


@pytest.mark.parametrize("name", ["", "adapter_model.safetensors"])
def test_an_adapter_is_one_line_that_names_its_base_model(call, tmp_path, name):
    keys = [f"base_model.model.model.layers.{n}.self_attn.q_proj.lora_A.weight" for n in range(2)]
    save_file({key: torch.ones(2, 4) for key in keys}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    notes = [line for line in call("inspect", tmp_path / name).stdout.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: this is an adapter without norms of its own: inspect its base model, org/base (adapter_config.json)"
    ]
    assert call("run", tmp_path / name).stderr.endswith(": pass that model, org/base\n")


def test_an_interrupt_during_imports_ends_with_130_and_one_line():
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from gammatorch.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "gammatorch: interrupted\n")
