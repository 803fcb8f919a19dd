"""A page is one file: whole as HTML, the same every time, and nothing in it that a stranger wrote comes alive."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from array import array
from html.parser import HTMLParser

import pytest
import torch

import gammatorch
from gammatorch.reports.figures.run import FIGURES
from gammatorch.reports.figures.sweep import FIGURES as SWEEP_FIGURES
from gammatorch.reports.glossary import GLOSSARY
from gammatorch.reports.page.of_comparison import comparison_page
from gammatorch.reports.page.of_run import run_page
from gammatorch.reports.page.of_sweep import sweep_page
from gammatorch.reports.says import says_rows
from gammatorch.results.documents import held_gains
from gammatorch.results.run import run_document
from tests.results.documents import as_comparison, as_run, as_sweep, sweep_told

VOID = {"meta", "br", "hr", "img", "link", "input"}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "h1", "h2", "h3", "p", "dl", "dt", "dd"),
    *("ul", "li", "div", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary"),
    *("script", "button", "label", "input", "output", "link"),
}


class Checked(HTMLParser):
    """Tags in balance, none that could fetch or run anything; what a reader sees is kept."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED, tag
        for name, value in attrs:
            assert not name.startswith("on") and name != "src", name
            assert name != "href" or value == "data:,"
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)


def blocks(page):
    """The figures' data, read back."""
    return [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]


def test_a_page_is_whole_and_runs_its_own_script_alone(document):
    page = run_page(as_run(document))
    checked = Checked(page)
    assert len(page.encode()) < 6_000_000
    figures = [attributes for tag, attributes in checked.seen if "data-figure" in attributes]
    assert [one["data-figure"] for one in figures] == list(FIGURES)
    assert all(one["role"] == "img" and one["aria-label"] for one in figures) and len(blocks(page)) == len(FIGURES)
    for figure in FIGURES.values():
        assert html.escape(figure.caption) in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{known}'; style-src 'unsafe-inline'; img-src data: blob:" in page


def test_a_matrix_is_typed_bytes_that_hold_it(document):
    (image,) = [one["data"][0] for one in blocks(run_page(as_run(document))) if one["data"][0].get("z")][1:2]
    held = array("f", base64.b64decode(image["z"]["bdata"]))
    wanted = [value for row in document["statistics"]["pearson"] for value in row]
    assert image["z"]["shape"] == "24, 24" and list(held) == pytest.approx(wanted, abs=1e-6)


def test_names_are_explained_on_hover(document):
    page = run_page(as_run(document))
    (told,) = re.findall(r'<td class="name" title="([^"]*)">participation ratio</td>', page)
    assert html.escape(GLOSSARY["participation ratio"].what) in told


def test_the_page_of_64_layers_of_5120_is_below_10_mb():
    gains = torch.rand(64, 5120, generator=torch.Generator().manual_seed(0))
    page = run_page(run_document(gammatorch.analyze(gains)), held_gains(gains))
    assert page.count("<div data-figure=") == len(FIGURES) + 2 and len(page.encode()) < 10_000_000


def test_tables_can_be_moved_without_a_pointer_and_long_names_take_several_lines(told):
    told["curves"][0]["run"] = long = "x" * 60
    page = sweep_page(as_sweep(told))
    assert page.count("<table>") == page.count('<div class="wide" role="group" aria-label="Table" tabindex="0"><table>')
    assert f'<td class="name"><div class="long">{long}</div></td>' in page and page.count('class="long"') == 1


def test_items_are_named_within_the_folder_that_all_are_in(told):
    for curve in (*told["curves"], told["unordered"]):
        curve["item"] = [f"/runs/one/{item}" for item in curve["item"]]
    assert "The figures of every item in /runs/one/" in (page := sweep_page(as_sweep(told)))
    assert page.count('<td class="name">run0</td>') == 3
    told["unordered"]["item"][0] = "/runs/on"
    assert "The figures of every item in /runs/<" in (page := sweep_page(as_sweep(told)))
    assert page.count('<td class="name">one/run0</td>') == 2 and '<td class="name">on</td>' in page


def test_a_sweep_without_runs_says_so(told):
    told["curves"] = []
    assert "3 items done, 1 failed: no steps of a training run; 1 anomaly." in sweep_page(as_sweep(told))


def test_families_are_told_by_letters_where_names_tell_checkpoints_apart(comparison):
    assert "<dd>A, B · C</dd>" in comparison_page(as_comparison(comparison))
    comparison["models"][1] = comparison["models"][0]
    first, other = comparison["models"][0], comparison["models"][2]
    comparison["families"] = [[first, first], [other]]
    assert f"<dd>{first}, {first} · {other}</dd>" in comparison_page(as_comparison(comparison))


@pytest.mark.filterwarnings("error")
def test_the_drift_of_copies_is_left_out_with_the_reason(copies):
    page = comparison_page(as_comparison(copies))
    assert "Not drawn, since none of its figures is above 0: Drift from A, layer by layer." in page
    assert page.count("<div data-figure=") == 6


def test_the_page_holds_the_documents_words_and_numbers(document):
    checked = Checked(run_page(as_run(document)))
    cells = checked.text["td"] + checked.text["div"]  # long ones stand in a div
    for row in says_rows(as_run(document).statistics, 24, ranked=True):
        assert set(filter(None, row)) <= set(cells), row
    for phase in document["phases"]:
        wanted = (
            phase["name"],
            f"{phase['norm_mean']:.3f}",
            f"{phase['intra_cos']:+.4f}",
            f"{phase['vs_other_cos']:+.4f}",
        )
        assert set(wanted) <= set(cells)
    answered = document["answer"]
    assert f"{answered['sentence']} Support {answered['support']:.2f}." in checked.text["p"]
    assert set(document["notes"]) <= set(checked.text.get("li", []))
    assert "24 layers × 512" in checked.text["dd"]
    assert f"{document['method']} in float64 on cpu, ± {document['error_estimate']:.0e}" in checked.text["dd"]


def test_the_same_result_gives_the_same_bytes(document):
    assert run_page(as_run(document)) == run_page(as_run(document))


def test_pictures_whose_figures_are_null_are_left_out_and_named(document):
    document["explained_var"] = document["proj_top1"] = document["residual_top1"] = None
    checked = Checked(page := run_page(as_run(document)))
    assert page.count("<div data-figure=") == len(FIGURES) - 2
    said = "Not drawn, since there are no figures for it: Explained variance; Projection on the leading axes."
    assert said in checked.text["p"]


def with_every_number(value, number):
    if isinstance(value, dict):
        return {name: with_every_number(inner, number) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_every_number(inner, number) for inner in value]
    return number if isinstance(value, float) else value


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, 1e-60, 9e59, -9e59])
@pytest.mark.filterwarnings("error")
def test_any_numbers_that_are_accepted_can_be_drawn(document, number):
    document = with_every_number(document, number)
    document["statistics"]["schedules"] = None
    assert run_page(as_run(document)).count("<div data-figure=") == len(FIGURES) - 1


HOSTILE = {
    "tag": "<script>alert(1)</script>",
    "end of the picture": "</svg></figure><img src=x onerror=alert(1)>",
    "quotes": "\" onload=alert(1) x='",
    "end of a comment": "--><script>",
    "entity": "&lt;script&gt;",
    "control characters": "a\x00b\x1b[2Jc\r\nd",
    "bidi": "\u202ecod.exe\u2066",
    "mathtext": "$\\frac{",
    "surrogate": "\ud800",
    "long": "x" * 10_000,
    "no letters for it": "層" * 300,
}


def poison(value, hostile):
    """The document with every text in it replaced but the verdicts, of which there are so many."""
    if isinstance(value, dict):
        return {
            name: inner if name in ("verdict", "between") else poison(inner, hostile) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [poison(inner, hostile) for inner in value]
    return hostile if isinstance(value, str) else value


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.filterwarnings("error")
def test_hostile_names_come_out_escaped_and_cut(document, kind):
    hostile = HOSTILE[kind]
    document = poison(document, hostile)
    document["keys"] = [hostile] * 24
    document["notes"] = [hostile]
    fits = document["statistics"]["schedules"]
    fits[hostile] = fits.pop("power")
    page = run_page(as_run(document))
    checked = Checked(page)
    assert page.count("<div data-figure=") == len(FIGURES) and len(re.findall(r"<script>", page)) == 1
    shown = [text for tag, texts in checked.text.items() if tag not in ("style", "script") for text in texts]
    assert not {char for text in shown for char in text if not char.isprintable()} - {"\n"}
    assert (
        max(len(text) for tag, texts in checked.text.items() if tag not in ("style", "script") for text in texts)
        <= 1000
    )
    assert len(page.encode()) < 6_000_000


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.filterwarnings("error")
def test_hostile_names_in_a_sweep_come_out_escaped_and_cut(kind):
    page = sweep_page(as_sweep(sweep_told(HOSTILE[kind])))
    checked = Checked(page)
    assert page.count("<div data-figure=") == len(SWEEP_FIGURES) and len(re.findall(r"<script>", page)) == 1
    shown = [text for tag, texts in checked.text.items() if tag not in ("style", "script") for text in texts]
    assert not {char for text in shown for char in text if not char.isprintable()} - {"\n"}
    assert max(map(len, shown)) <= 1000


def test_a_sweep_of_any_size_keeps_a_page_that_can_be_opened(told):
    (curve, _), count = told["curves"], 5000
    for name, values in curve.items():
        if isinstance(values, list) and name != "layers":
            curve[name] = list(range(count)) if name == "steps" else (values * count)[:count]
    curve["item"] = [f"step{step}" for step in range(count)]
    told["curves"] = [curve]
    page = sweep_page(as_sweep(told))
    assert "the first 1000 of 5003" in page and page.count("<tr>") < 1030 and len(page.encode()) < 8_000_000
