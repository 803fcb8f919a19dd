"""A headless Chromium that opens pages from disk, and what it says of them."""

from __future__ import annotations

import shutil

import pytest


def started():
    """A browser with its console and network watched; the test is skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    found, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not found or not driver:
        pytest.skip("no Chromium with chromedriver here")
    options = selenium.ChromeOptions()
    options.binary_location = found
    for one in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(one)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return selenium.Chrome(options=options, service=Service(driver))


def media(browser, scheme):
    """Set what the reader prefers, ``light`` or ``dark``."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def opened(browser, page, folder):
    """Open a page and wait until its figures are drawn."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.querySelectorAll('[data-figure]')].map(one => one.ready)).then(() => done());"
    )
    return browser


def requests(browser):
    """Addresses that were asked for since the page was opened."""
    import json

    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]
