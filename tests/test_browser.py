"""The MLflow page as a person sees it: the LR and loss charts of a small sweep, in headless Chromium."""

import os
import shutil
import subprocess
import sys

import pytest

from sweeper.tracking import sender, view

CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=2000,3200",
    "--virtual-time-budget=60000",
]
SWEEP = ["data=digits", "model=mlp", "schedule=[cosine,default_lr]", "search.n_trials=4", "train.steps=100"]


def seen(url, profile, *more):
    """What Chromium prints when it has drawn the page."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "Chromium is not installed"
    done = subprocess.run(
        [chromium, *CHROMIUM, f"--user-data-dir={profile}", *more, url],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stdout


@pytest.mark.browser
def test_the_page_draws_lr_and_losses_of_every_trial(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    subprocess.run([sys.executable, "-m", "sweeper", *SWEEP], cwd=tmp_path, env=environment, check=True, timeout=240)
    (home,) = (tmp_path / "sweeps").iterdir()
    spool = home / "spool"
    with view.serving(sender.remembered(spool).uri) as base:
        url = view.charts(base, sender.experiment_id(spool))
        page = seen(url, tmp_path / "profile", "--dump-dom")
        picture = tmp_path / "page.png"
        seen(url, tmp_path / "profile", f"--screenshot={picture}")
    for metric in ("lr/group0", "train/loss", "valid/loss"):
        assert metric in page, metric
    for run in ("cosine-000", "cosine-003", "default_lr-000"):
        assert run in page, run
    assert page.count("js-plotly-plot") >= 3  # that many charts are drawn
    assert picture.stat().st_size > 50_000
