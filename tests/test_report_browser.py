"""The report in headless Chromium: no overflow, no request, no error in the console, and nothing that axe-core finds.

axe-core is looked for at AXE_CORE, its file axe.min.js: `npm pack axe-core` has it (.ci/run fetches it). With
SCREENSHOTS=docs/guide/images, the test replaces the screenshot in docs/guide/report.md.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sweeper as package
from sweeper.views.report import page

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

FOLDERS = Path(__file__).parent / "golden" / "folders"
SWEEP = [
    "data=digits", "model=mlp", "schedule=[cosine,constant,default_lr]", "search.n_trials=4", "train.steps=60",
    "search.reports=4", "optimizer.peak_lr.high=30", "tracking=none",
]  # fmt: skip
LOOKS = [(width, scheme) for width in (390, 1440) for scheme in ("light", "dark")]
SHOWN = 1100  # width of the screenshot


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert chromium, "Chromium is not installed"
    assert driver, "chromedriver is not installed (Debian: chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", profile):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.execute_cdp_cmd("Network.enable", {})
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report of a confirmed sweep, and of one that was stopped."""
    folder = tmp_path_factory.mktemp("reports")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    for words in (SWEEP, ["confirm", "confirm.looks=[4]"]):
        subprocess.run([sys.executable, "-m", "sweeper", *words], cwd=folder, env=environment, check=True, timeout=900)
    (confirmed,) = (folder / "sweeps").iterdir()
    stopped = package.load(shutil.copytree(FOLDERS / "stopped", folder / "sweeps" / "stopped"))
    return {"confirmed": confirmed / "report.html", "stopped": page.write(stopped)}


@pytest.fixture(params=["confirmed", "stopped"])
def address(request, pages):
    return pages[request.param].as_uri()


def opened(browser, address, width, scheme="light", media=""):
    """Open a page at a width, and return the addresses it asked for."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(address)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in requests if not url.startswith("data:")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_page_fits_asks_for_nothing_and_has_no_error(browser, address, width, scheme):
    assert opened(browser, address, width, scheme) == [address]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[scheme]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_axe_finds_nothing(browser, address, width, scheme):
    axe = Path(os.environ.get("AXE_CORE", "axe.min.js"))
    if not axe.is_file():
        pytest.skip("axe-core is not there: npm pack axe-core, then AXE_CORE=package/axe.min.js")
    opened(browser, address, width, scheme)
    browser.execute_script(axe.read_text(encoding="utf-8"))
    result = browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(result["passes"]) > 30
    assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in result["violations"]] == []


def test_what_is_drawn_is_within_its_picture(browser, address):
    """No text of a figure is cut off at an edge, and no two labels of an axis overlap."""
    opened(browser, address, 390)
    cut = browser.execute_script("""
        return [...document.querySelectorAll('.panel svg')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            const texts = [...svg.querySelectorAll('text')];
            const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
            return boxes.filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1 ||
                box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([text]) => text);
        })""")
    assert cut == []
    overlapping = browser.execute_script("""
        return [...document.querySelectorAll('.panel svg')].flatMap(svg => {
            const texts = [...svg.querySelectorAll('text')];
            const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
            return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([, y]) => x.left < y.right - 1 &&
                y.left < x.right - 1 && x.top < y.bottom - 3 && y.top < x.bottom - 3).map(([b]) => a + ' / ' + b));
        })""")
    assert overlapping == []


def test_a_click_on_a_heading_sorts_the_trials(browser, address):
    opened(browser, address, 1440)
    column = "return [...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[{}].textContent)"
    heads = [cell.text for cell in browser.find_elements("css selector", ".sortable thead th")]
    place = heads.index("peak LR")
    button = browser.find_elements("css selector", ".sortable thead button")[place]
    for sort in (sorted, lambda values: sorted(values, reverse=True)):
        browser.execute_script("arguments[0].click()", button)
        values = [float(text) for text in browser.execute_script(column.format(place))]
        assert values == sort(values)
        assert len(set(values)) > 1
    objective = heads.index("valid/loss")
    browser.execute_script("arguments[0].click()", browser.find_elements("css selector", ".sortable button")[objective])
    texts = browser.execute_script(column.format(objective))
    numbers = [float(text) for text in texts if text != "-"]
    assert texts == [f"{number:.4f}" for number in sorted(numbers)] + ["-"] * (len(texts) - len(numbers))


def test_on_paper_everything_is_shown_in_dark_ink(browser, address):
    opened(browser, address, 720, "dark", media="print")
    assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(26, 26, 26)"
    tall = "const box = document.querySelector('.tall'); return box.scrollHeight <= box.clientHeight"
    assert browser.execute_script(tall)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="only to replace the screenshot")
def test_a_picture_for_the_documentation(browser, pages):
    """With REPORT=path/to/report.html, of that report: the guide's is of the default sweep."""
    opened(browser, Path(os.environ.get("REPORT", pages["confirmed"])).resolve().as_uri(), SHOWN)
    edges = "return ['confirmed', 'search'].map(id => document.getElementById(id).getBoundingClientRect().top)"
    top, bottom = browser.execute_script(edges)
    clip = {"x": 0, "y": top, "width": SHOWN, "height": bottom - top, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    Path(os.environ["SCREENSHOTS"], "report.png").write_bytes(base64.b64decode(shot["data"]))
