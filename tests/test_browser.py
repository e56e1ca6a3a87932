"""The MLflow pages as users see them, in headless Chromium: a small real sweep, and one of 1,500 trials.

With SCREENSHOTS=docs/guide/images, the tests replace the screenshots in docs/guide/mlflow.md.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from sweeper import conf
from sweeper.schedules import family, lr_trace
from sweeper.tracking import trackers
from sweeper.tracking.mlflow import saved_view, sender, view
from sweeper.tracking.mlflow.lineup import BEYOND, MOST
from sweeper.tracking.mlflow.names import run_color
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.types import Choice, Ending, Job, JobId, Range, Report, TrackedStudy, TrackedSweep, TrialId

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

SWEEP = ["data=digits", "model=mlp", "schedule=[cosine,default_lr]", "search.n_trials=4", "train.steps=100"]
NOT_SWEPT = ("core", "knots", "range_test", "wall_time")
FAMILIES = sorted(path.stem for path in Path(conf.__path__[0], "schedule").glob("*.yaml") if path.stem not in NOT_SWEPT)
TRIALS = 1500
POINTS = 20  # per trace
PAGE = 100  # runs that the page loads
PATIENCE_SECONDS = 180
QUIET_SECONDS = 1.5  # without a change, after which a page counts as drawn

CHARTS = """return Array.from(document.querySelectorAll('.js-plotly-plot')).map(plot => ({
    axis: plot.layout.yaxis.type, x: plot.layout.xaxis.title.text || plot.layout.xaxis.title,
    y: (plot.layout.yaxis.title || {}).text, range: plot.layout.yaxis.range,
    names: plot.data.map(trace => trace.name), points: plot.data.map(trace => trace.x.length),
    colors: plot._fullData.map(trace => trace.line && trace.line.color), width: plot.getBoundingClientRect().width}))"""
TEXT = "return document.body.innerText"
# A first visit, which opens MLflow's assistant, on a common screen.
SCREEN = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert chromium, "Chromium is not installed"
    assert driver, "chromedriver is not installed (Debian: chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
    yield chrome
    chrome.quit()


def drawn(browser, address, charts):
    """Open the page and return what `wait_until_drawn` returns."""
    browser.get("about:blank")
    browser.get(address)
    return wait_until_drawn(browser, charts)


def wait_until_drawn(browser, charts):
    """Return what Plotly drew on the page, once it has that many charts and no longer changes, and the seconds."""
    begun = changed = time.monotonic()
    before = None
    while time.monotonic() - begun < PATIENCE_SECONDS:
        now = browser.execute_script(CHARTS)
        if now != before:
            before, changed = now, time.monotonic()
        if len(now) >= charts and time.monotonic() - changed > QUIET_SECONDS:
            return now, changed - begun
        time.sleep(0.1)
    pytest.fail(f"{len(before)} charts after {PATIENCE_SECONDS} s, not {charts}: {browser.execute_script(TEXT)}")


def wait_for(browser, address, expected, without="\0"):
    """Open the page and wait until it shows one text and not the other."""
    browser.get("about:blank")
    browser.get(address)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while expected not in (text := browser.execute_script(TEXT)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert expected in text
    assert without not in text


def keep(browser, name):
    """Save a screenshot for the documentation if SCREENSHOTS is set, with 256 colors to keep the file small."""
    if "SCREENSHOTS" in os.environ:
        browser.save_screenshot(str(Path(os.environ["SCREENSHOTS"]) / f"mlflow_{name}.png"))


def opened_by(spool, base):
    """Return the addresses that `ui` prints: one trial of each family, all trials, plain charts."""
    return [line.rpartition(" ")[2] for line in view.addresses(spool, base, sender.experiment_id(spool)).splitlines()]


def runs_of(chart):
    """Return the names of the lines. The page draws each line twice, once smoothed."""
    return list(dict.fromkeys(chart["names"]))


def client(spool):
    from mlflow.tracking import MlflowClient

    return MlflowClient(sender.stored_destination(spool).uri)


def stood_for(spool):
    """Return the runs that stand for families, in order."""
    found = client(spool).search_runs([sender.experiment_id(spool)], f"tags.`family.place` != '{BEYOND}'")
    return sorted(found, key=lambda run: run.data.tags["family.place"])


# --- a small sweep with training --------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    subprocess.run([sys.executable, "-m", "sweeper", *SWEEP], cwd=folder, env=environment, check=True, timeout=240)
    (home,) = (folder / "sweeps").iterdir()
    with view.serve(sender.stored_destination(home / "spool").uri, 5600) as base:
        yield base, home / "spool"


def test_one_trial_of_each_family_is_drawn_in_order_and_in_its_color(small, browser):
    base, spool = small
    charts, seconds = drawn(browser, opened_by(spool, base)[0], charts=2)
    print(f"\nfamilies of a small sweep: drawn after {seconds:.1f} s")
    runs = stood_for(spool)
    assert [run.data.tags["schedule.family"] for run in runs] == ["cosine", "default_lr"]
    assert [chart["axis"] for chart in charts] == ["log", "log"]
    for chart in charts:
        assert runs_of(chart) == [run.info.run_name for run in runs]
        colors = dict.fromkeys(color[:7] for color in chart["colors"])  # the raw values beneath are transparent
        assert list(colors) == [run_color("cosine"), run_color("default_lr")]
        assert chart["width"] > 400  # beside the list of runs and the assistant
    text = browser.execute_script(TEXT)
    for shown in ("Lowest trial of each family", "LR above loss", "lr/group0", "valid/loss", "MLflow Assistant"):
        assert shown in text, shown
    listed = [text.index(run.info.run_name) for run in runs]
    assert listed == sorted(listed)


def test_all_trials_are_drawn_by_their_peak_lr(small, browser):
    base, spool = small
    (chart,), _ = drawn(browser, opened_by(spool, base)[1], charts=1)
    assert (chart["x"], chart["y"]) == ("log10_lr_max", "objective")
    runs = client(spool).search_runs([sender.experiment_id(spool)], "tags.`sweep.role` = 'trial'")
    assert chart["points"] == [sum("objective" in run.data.metrics for run in runs)]
    assert chart["width"] > 400


def test_the_plain_charts_work_without_a_saved_view(small, browser):
    base, spool = small
    wait_for(browser, opened_by(spool, base)[2], "cosine:0")


UNREADABLE = {
    "text": "another format",
    "packing": json.dumps({"name": "x", "createdAt": 1, "updatedAt": 1, "state": "zstd;AAAA"}),
    "no JSON": json.dumps({**json.loads(saved_view.encode_view("x", {}, 1, 1)), "state": "deflate;AAAA"}),
    "other keys": saved_view.encode_view("x", {"version": 2, "charts": [1]}, 1, 1),
    "other charts": saved_view.encode_view(
        "x", {"compareRunCharts": [{"type": "HOLOGRAM", "uuid": "1"}], "compareRunSections": []}, 1, 1
    ),
}


@pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
def test_a_view_that_mlflow_cannot_read_opens_a_plain_page(small, browser, stored):
    """As one of ours may be for another version of MLflow."""
    base, spool = small
    experiment = sender.experiment_id(spool)
    client(spool).set_experiment_tag(experiment, f"{saved_view.TAG}unreadable", stored)
    wait_for(browser, view.charts_url(base, experiment, "unreadable"), "one trial of each", without="went wrong")


def test_from_the_plain_address_the_note_leads_to_the_view(small, browser):
    """MLflow opens the experiment on a page about GenAI traces, whatever its tags are."""
    base, spool = small
    wait_for(browser, f"{base}/#/experiments/{sender.experiment_id(spool)}", "Got it")
    browser.find_element("xpath", "//button[contains(., 'Got it')]").click()
    time.sleep(1)
    browser.find_element("link text", "one trial of each").click()
    browser.switch_to.window(browser.window_handles[-1])
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
    charts, _ = wait_until_drawn(browser, 2)
    assert [chart["axis"] for chart in charts] == ["log", "log"]
    browser.close()
    browser.switch_to.window(browser.window_handles[0])


def test_a_trials_page_begins_with_its_lr_and_losses(small, browser):
    base, spool = small
    run, _ = stood_for(spool)
    experiment = sender.experiment_id(spool)
    charts, _ = drawn(browser, f"{base}/#/experiments/{experiment}/runs/{run.info.run_id}/model-metrics", charts=1)
    assert all(max(chart["points"]) > 1 for chart in charts)
    text = browser.execute_script(TEXT)
    assert text.index("\nlr\n") < text.index("\ntrain\n") < text.index("\nvalid\n") < text.rindex("\nModel metrics\n")


def test_runs_are_compared_by_what_was_searched(small, browser):
    base, spool = small
    runs = client(spool).search_runs([sender.experiment_id(spool)], "tags.`schedule.family` = 'cosine'")
    ids = ",".join(f'"{run.info.run_id}"' for run in runs if "trial.number" in run.data.tags)
    page = f'{base}/#/compare-runs?runs=[{ids}]&experiments=["{sender.experiment_id(spool)}"]'
    wait_for(browser, page, "peak_lr")
    chosen = browser.execute_script(TEXT).partition("Parameters:")[2].partition("Metrics:")[0].split()
    assert chosen == ["decay", "peak_lr", "warmup"]


def test_a_summary_run_shows_its_note_and_its_table(small, browser):
    base, spool = small
    page = summary(spool, base)
    wait_for(browser, page, "Result of the search: ")
    wait_for(browser, f"{page}/artifacts/families.json", "View as table")
    assert "default_lr" in browser.execute_script(TEXT)


def summary(spool, base):
    """Return the address of the cosine study's summary run."""
    experiment = sender.experiment_id(spool)
    of_cosine = "tags.`sweep.role` = 'study' and tags.`schedule.family` = 'cosine'"
    (found,) = client(spool).search_runs([experiment], of_cosine)
    return f"{base}/#/experiments/{experiment}/runs/{found.info.run_id}"


# --- 1,500 trials without training ------------------------------------------------------------------


def node(name):
    """Return a family's file with the ranges of an SGD sweep."""
    given = {
        "${optimizer.peak_lr}": {"low": 1e-3, "high": 3.0, "log": True},
        "${optimizer.default_lr}": 1e-3,
        "${warmup}": {"choice": [0, 0.02, 0.05, 0.1, 0.2]},
    }
    read = yaml.safe_load((Path(conf.__path__[0], "schedule") / f"{name}.yaml").read_text())[name]
    return {key: given.get(value, value) if isinstance(value, str) else value for key, value in read.items()}


def sampled(rng, dimension):
    if isinstance(dimension, Choice):
        return dimension.options[rng.integers(len(dimension.options))]
    if not isinstance(dimension, Range):
        return dimension
    if dimension.log:
        return float(np.exp(rng.uniform(np.log(dimension.low), np.log(dimension.high))))
    return float(rng.uniform(dimension.low, dimension.high))


def losses(rng, lr_S):
    """Return plausible losses: best near a peak LR of 0.2 and with a low final LR, noisy, divergent above 1.2."""
    peak, steps = float(lr_S.max()), len(lr_S)
    floor = 2.1 + 0.12 * (math.log10(peak / 0.2)) ** 2 + 0.1 * float(lr_S[-3:].mean() / peak) + 0.03 * rng.random()
    done_S = np.cumsum(lr_S / (lr_S + 0.05)) * 8 / steps
    return floor + (5.5 - floor) * np.exp(-done_S) + 0.2 * lr_S / (lr_S + 0.3)


def play(spool, name, number, built, steps):
    """Record one trial of a family, from start to end."""
    rng = np.random.default_rng([number, FAMILIES.index(name)])
    params = {key: sampled(rng, dimension) for key, dimension in built.space.items()}
    lr_S = lr_trace(built, params, steps)
    study, report_steps = f"{name}-000000", tuple(round(steps * k / POINTS) for k in range(1, POINTS + 1))
    job = Job(JobId(study, number, 0), name, params, number, lr_S, report_steps)
    spool.open([job])
    loss_S, state, last = losses(rng, lr_S), "complete", steps
    if lr_S.max() > 1.2 and rng.random() < 0.8:
        state, last = "diverged", int(rng.integers(2, steps // 2))
    elif number > 4 and rng.random() < 0.3:
        state, last = "pruned", report_steps[POINTS // 2]
    begin = 0
    for end in (min(step, last) for step in report_steps):
        if begin < end:
            of_report = state if end == last and state != "pruned" else "running"
            traces = {"train/loss": loss_S[begin:end] * rng.normal(1, 0.03, end - begin), "lr/group0": lr_S[begin:end]}
            spool.append([Report(job.id, end, traces, {"valid/loss": float(loss_S[end - 1] * 1.02)}, 0.01, of_report)])
        begin = max(begin, end)
    spool.close(Ending(TrialId(study, number), state, last, float(loss_S[-1]) if state == "complete" else None))


def spooled(folder, names, trials, steps):
    """Record a sweep of that many trials and send it to MLflow. Return its spool and the seconds."""
    name = "text-ngram-sgd-1a2b3c4d"
    sweep = TrackedSweep(folder / "sweeps" / name, name, "ab" * 16, 0)
    begun = time.monotonic()
    tracker = trackers.start(sweep, MLflow(f"sqlite:///{folder / 'mlflow.db'}", flush_seconds=300))
    families = {name: family(name, node(name)) for name in names}
    for name, built in families.items():
        searched = sorted(key for key, dimension in built.space.items() if isinstance(dimension, Range | Choice))
        tracker.introduce(TrackedStudy(f"{name}-000000", name, "valid/loss", "minimize", tuple(searched)))
    played = number = 0
    while played < trials:
        for name, built in families.items():
            if played < trials and not (name == "default_lr" and number > 0):
                play(tracker, name, number, built, steps)
                played += 1
        number += 1
        tracker.commit(number)
        tracker.publish(number)
    assert tracker.finish() == 0, (sweep.spool / "sender.log").read_text()
    return sweep.spool, time.monotonic() - begun


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder, seconds = spooled(tmp_path_factory.mktemp("large"), FAMILIES, TRIALS, steps=POINTS)
    print(f"\n{TRIALS} trials of {len(FAMILIES)} families in MLflow after {seconds:.1f} s")
    with view.serve(sender.stored_destination(folder).uri, 5650) as base:
        yield opened_by(folder, base)


def test_nine_families_of_1500_trials(large, browser):
    charts, seconds = drawn(browser, large[0], charts=2)
    print(f"\nfamilies: drawn after {seconds:.1f} s")
    lr, valid = charts
    assert [lr["axis"], valid["axis"]] == ["log", "log"]
    for chart in charts:
        shown = {name.split(":")[0] for name in runs_of(chart)}
        assert len(shown) == len(runs_of(chart)) == MOST
        assert shown <= set(FAMILIES)
        assert max(chart["points"]) <= POINTS + 1
    assert lr["range"][0] >= -5  # a peak LR of a bad trial does not stretch the axis
    assert "Lowest trial of the first 9 families" in browser.execute_script(TEXT)


def test_all_of_1500_trials(large, browser):
    (scatter,), seconds = drawn(browser, large[1], charts=1)
    print(f"\nall: drawn after {seconds:.1f} s, {PAGE} of {TRIALS} runs")
    assert scatter["points"] == [PAGE]
    assert "Load more" in browser.execute_script(TEXT)


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="only to replace the screenshots")
def test_pictures_for_the_documentation(tmp_path, browser):
    """Train the default sweep for the screenshots. This takes minutes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    subprocess.run([sys.executable, "-m", "sweeper"], cwd=tmp_path, env=environment, check=True, timeout=1800)
    (home,) = (tmp_path / "sweeps").iterdir()
    folder = home / "spool"
    with view.serve(sender.stored_destination(folder).uri, 5670) as base:
        for name, address in zip(saved_view.WHICH, opened_by(folder, base), strict=False):
            drawn(browser, address, charts=1)
            time.sleep(2)
            keep(browser, name)
        wait_for(browser, summary(folder, base), "Result of the search: ")
        browser.find_element("xpath", "//*[text()='Show more']").click()
        time.sleep(1)
        keep(browser, "summary")
