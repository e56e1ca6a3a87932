"""What a study's summary run carries at the end of a sweep that was really trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.spec.question import Home
from sweeper.views import conclusion

SWEEP = ["data=digits", "model=mlp", "schedule=[cosine,default_lr]", "search.n_trials=2", "train.steps=40"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drawn")]


class Told:
    """Remembers what a tracker is told of the summary runs."""

    def __init__(self):
        self.described, self.attached, self.tables = {}, {}, set()

    def describe(self, study, summary):
        self.described[study] = summary

    def artifact(self, study, path, *, table=False):
        self.attached.setdefault(study, []).append(path)
        if table:
            self.tables.add(path.name)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    subprocess.run([sys.executable, "-m", "sweeper", *SWEEP, "tracking=none"], cwd=folder, check=True, timeout=240)
    (path,) = (folder / "sweeps").iterdir()
    return Home(path)


def test_each_study_gets_tables_pictures_and_a_note(home):
    told = Told()
    conclusion.conclude(home, told)
    assert {study.split("-")[0] for study in told.described} == {"cosine", "default_lr"}
    for study, files in told.attached.items():
        names = {path.name for path in files}
        assert {"trials.csv", "families.csv", "families.json", "losses.png", "report.html"} <= names
        assert f"schedules-{study}.png" in names
        assert all(path.stat().st_size > 0 for path in files)
        summary = told.described[study]
        assert study.split("-")[0].replace("_", "\\_") in summary.note
        assert summary.tags["sweep.trained"] == "one trial at a time: the sweep is short"
        assert not [tag for tag in summary.tags if "mlflow" in tag]
    assert told.tables == {"families.json"}


def test_the_table_has_the_format_that_trackers_show(home):
    conclusion.conclude(home, Told())
    table = json.loads((home.tables / "families.json").read_text())
    assert table["columns"][:2] == ["family", "lowest"]
    assert [len(row) for row in table["data"]] == [len(table["columns"])] * 2
    assert {row[0].strip("*") for row in table["data"]} == {"cosine", "default_lr"}


def test_a_second_conclusion_writes_equal_files_so_that_nothing_is_sent_again(home):
    def contents():
        told = Told()
        conclusion.conclude(home, told)
        return {path: Path(path).read_bytes() for files in told.attached.values() for path in files}, told.described

    assert contents() == contents()


@pytest.mark.parametrize(
    ("room", "name", "left", "said"),
    [
        ("figures", "draw_all", {".csv", ".json", ".html"}, "figures could not be drawn"),
        ("report.page", "write", {".csv", ".json", ".png"}, "the report could not be written"),
    ],
)
def test_a_sweep_ends_well_without_pictures(home, monkeypatch, caplog, room, name, left, said):
    def broken(sweep):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(f"sweeper.views.{room}.{name}", broken)
    told = Told()
    conclusion.conclude(home, told)
    assert {path.suffix for files in told.attached.values() for path in files} == left
    assert said in caplog.text
