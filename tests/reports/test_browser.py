"""Pages in a real browser: they ask for nothing, say nothing, and every figure shows the numbers of its document."""

from __future__ import annotations

import time

import pytest

from gammatorch.reports.figures.gains import FIGURES as OF_GAINS
from gammatorch.reports.figures.run import FIGURES
from gammatorch.reports.page.of_comparison import comparison_page
from gammatorch.reports.page.of_run import run_page
from gammatorch.reports.page.of_sweep import sweep_page
from gammatorch.results.documents import held_gains
from tests.reports.browser import media, opened, requests, started
from tests.results.documents import as_comparison, as_run, as_sweep, sweep_told

pytestmark = pytest.mark.slow
HOSTILE = "</script><script>document.title='gone'</script><img src=x onerror=alert(1)><b>%{x}"


@pytest.fixture(scope="module")
def browser():
    one = started()
    yield one
    one.quit()


def silent(browser, folder):
    assert browser.get_log("browser") == []
    asked = [url for url in requests(browser) if not url.startswith(("data:", "blob:"))]
    assert set(asked) <= {(folder / "page.html").as_uri()}, asked


def drawn(browser, name, key="y"):
    """The numbers of a figure's first trace, as the browser holds them."""
    script = "return [...document.querySelector(arguments[0])._fullData[0][arguments[1]]].map(one => one.length ? [...one] : one)"
    return browser.execute_script(script, f"[data-figure={name}]", key)


def hover(browser, name, x, y):
    """What is told of a cell or point of a figure."""
    script = """
      const place = document.querySelector(arguments[0]); place.scrollIntoView();
      const box = place.getBoundingClientRect(), {xaxis, yaxis} = place._fullLayout;
      return [box.left + xaxis._offset + xaxis.d2p(arguments[1]), box.top + yaxis._offset + yaxis.d2p(arguments[2])];"""
    x, y = browser.execute_script(script, f"[data-figure={name}]", x, y)
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    time.sleep(0.5)
    return "|".join(one.text for one in browser.find_elements("css selector", f"[data-figure={name}] .hovertext"))


def test_a_run_shows_its_numbers_and_asks_for_nothing(browser, document, tmp_path):
    import torch

    gains = torch.rand(24, 64)
    opened(browser, run_page(as_run(document), held_gains(gains)), tmp_path)
    silent(browser, tmp_path)
    buttons = browser.find_elements("css selector", ".modebar-btn")
    told = {one.get_attribute("data-title") for one in buttons}
    assert "Download plot as a PNG" in told and not [one for one in told if "hare" in one]  # nothing is uploaded
    names = {one.get_attribute("data-figure") for one in browser.find_elements("css selector", "[data-figure]")}
    assert names == {*FIGURES, "gamma", "distribution"} and OF_GAINS.keys() >= {"gamma", "distribution"}
    torch.testing.assert_close(torch.tensor(drawn(browser, "gamma", "z")), gains)
    wanted = torch.tensor(document["statistics"]["pearson"])
    torch.testing.assert_close(torch.tensor(drawn(browser, "pearson", "z")), wanted)
    assert drawn(browser, "norms") == document["norms"]
    told = hover(browser, "pearson", "7", "3")
    assert "layer 3 and layer 7" in told and f"{document['statistics']['pearson'][3][7]:.4f}" in told


def test_dark_is_dark_and_back(browser, document, tmp_path):
    grounds = {}
    for scheme in ("dark", "light"):
        media(browser, scheme)
        if scheme == "dark":
            opened(browser, run_page(as_run(document)), tmp_path)
        time.sleep(1)
        script = "return [getComputedStyle(document.body).backgroundColor, document.querySelector('[data-figure=norms]').layout.plot_bgcolor]"
        grounds[scheme] = browser.execute_script(script)
    assert grounds == {"dark": ["rgb(22, 24, 28)", "#16181c"], "light": ["rgb(255, 255, 255)", "#ffffff"]}


def test_a_click_sorts_a_table_and_another_the_other_way(browser, document, tmp_path):
    opened(browser, run_page(as_run(document)), tmp_path)
    script = """
      const table = [...document.querySelectorAll('table')].find(one => one.tHead.textContent.startsWith('phase'));
      table.tHead.rows[0].cells[3].click();
      return [...table.tBodies[0].rows].map(row => row.cells[3].textContent);"""
    wanted = sorted(f"{phase['norm_mean']:.3f}" for phase in document["phases"])
    assert browser.execute_script(script) == sorted(wanted, key=float)
    assert browser.execute_script(script) == sorted(wanted, key=float, reverse=True)


def test_channels_are_sorted_by_size_with_their_gains(browser, document, tmp_path):
    import torch

    gains = torch.ones(24, 64)
    gains[:, 40] = 5.0
    opened(browser, run_page(as_run(document), held_gains(gains)), tmp_path)
    script = """
      const done = arguments[0], place = document.querySelector('[data-figure=gamma]');
      const order = place.layout.updatemenus[0].buttons[1].args[0];
      Plotly.relayout(place, order).then(() => done(place.calcdata[0][0].z[0][0]));"""
    assert browser.execute_async_script(script) == 5.0


def test_the_slider_moves_the_matrix_fast(browser, told, tmp_path):
    from array import array

    matrices = {f"run{step}": array("f", [1, step / 4, step / 4, 1]).tobytes() for step in range(3)}
    opened(browser, sweep_page(as_sweep(told), matrices), tmp_path)
    silent(browser, tmp_path)
    script = """
      const done = arguments[0], place = document.querySelector('[data-figure=matrix0]');
      const box = place.parentElement.querySelector('input'), start = performance.now();
      box.value = 1;
      box.oninput().then(() => done([place._fullData[0].z[0][1], performance.now() - start,
        place.parentElement.querySelector('output').textContent]));"""
    value, milliseconds, step = browser.execute_async_script(script)
    assert (value, step) == (0.25, "1") and milliseconds < 1000


def test_hostile_names_stay_text(browser, tmp_path, comparison):
    comparison["models"] = [HOSTILE + str(place) for place in range(3)]
    for page in (sweep_page(as_sweep(sweep_told(HOSTILE))), comparison_page(as_comparison(comparison))):
        opened(browser, page, tmp_path)
        silent(browser, tmp_path)
        assert browser.find_elements("css selector", "img, main script:not([type='application/json'])") == []
        assert (
            browser.title != "gone" and browser.execute_script("return document.querySelectorAll('svg b').length") == 0
        )
