"""What the saved views say; that MLflow's page draws it is in tests/test_browser.py."""

from __future__ import annotations

import pytest

from sweeper.tracking.mlflow import saved_view
from sweeper.tracking.mlflow.saved_view import WHICH, ViewContent, views

ID = "abcdef0123456789abcdef0123456789"
SHOWN = ViewContent(
    metric="valid/accuracy",
    direction="maximize",
    families=5,
    metrics=("grad_norm/all", "lr/group0", "lr_max", "objective", "train/loss", "valid/accuracy", "valid/loss"),
    decades=(-3, 0),
    is_judged=False,
)


class Experiment:
    """The tags of an experiment, and how often one was written."""

    experiment_id = "7"

    def __init__(self, **tags):
        self.tags, self.written = {f"mlflow.sharedViewState.{key}": text for key, text in tags.items()}, 0

    def experiment_tags(self):
        return self.tags

    def tag_experiment(self, key, value):
        self.tags[key] = value
        self.written += 1

    def untag_experiment(self, key):
        del self.tags[key]


def charts(view, section):
    """Return the charts of a section."""
    return [chart for chart in view["compareRunCharts"] if chart["metricSectionId"] == f"section-{section}"]


def test_a_view_is_written_once_and_again_only_when_it_shows_something_else():
    experiment = Experiment()
    saved_view.write(experiment, SHOWN, ID, 1000, named=False)
    keys = {f"mlflow.sharedViewState.{which}" for which in WHICH}
    assert set(experiment.tags) == {*keys, "mlflow.note.content"}
    saved_view.write(experiment, SHOWN, ID, 2000, named=False)
    assert experiment.written == 3
    more = SHOWN._replace(decades=(-4, 0))
    saved_view.write(experiment, more, ID, 3000, named=False)
    assert experiment.written == 4
    envelope, view = saved_view.decode_view(experiment.tags["mlflow.sharedViewState.families"])
    times = envelope["createdAt"], envelope["updatedAt"]
    assert (envelope["name"], *times) == ("Highest trial of each family", 1000, 3000)
    assert view == views(more, ID, named=False)["families"]
    saved_view.write(experiment, more._replace(is_judged=True), ID, 4000, named=False)
    envelope, _ = saved_view.decode_view(experiment.tags["mlflow.sharedViewState.families"])
    assert envelope["name"] == "Families in the verdict's order"
    assert experiment.written == 5


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (SHOWN._replace(direction="minimize", families=9), "Lowest trial of each family"),
        (SHOWN._replace(direction="minimize", families=10), "Lowest trial of the first 9 families"),
        (SHOWN._replace(families=35), "Highest trial of the first 9 families"),
        (SHOWN._replace(families=35, is_judged=True), "Families in the verdict's order"),
    ],
)
def test_only_a_verdict_decides_what_is_best(content, name):
    found = saved_view.titles(content)
    assert found == {"families": name, "trials": "All trials"}
    assert "best" not in " ".join(found.values()).lower()


@pytest.mark.parametrize("there", ["", "nonsense", "{}", '{"state":"deflate;!!"}', '{"name":"x","state":7}', "[1]"])
def test_a_tag_that_cannot_be_read_is_replaced(there):
    experiment = Experiment(families=there)
    saved_view.write(experiment, SHOWN, ID, 1000, named=False)
    assert saved_view.decode_view(experiment.tags["mlflow.sharedViewState.families"])[0]["createdAt"] == 1000


@pytest.mark.parametrize("named", [False, True])
def test_views_of_earlier_versions_are_removed(named):
    earlier = {saved_view.key_of(which, ID, named=named): "x" for which in ("best", "all", "means")}
    experiment = Experiment(mine="x", **earlier)
    saved_view.write(experiment, SHOWN, ID, 1000, named=named)
    kept = {saved_view.key_of(which, ID, named=named) for which in WHICH} | {"mine"}
    assert {key.rpartition("State.")[2] for key in experiment.tags if "View" in key} == kept


def test_a_note_leads_to_the_views_unless_a_person_wrote_another():
    experiment = Experiment()
    saved_view.write(experiment, SHOWN, ID, 1000, named=False)
    note = experiment.tags["mlflow.note.content"]
    assert note.startswith("Learning-rate schedules of 5 families, by valid/accuracy. Open [one trial of each](#/")
    assert note.count("(#/experiments/7/runs?viewStateShareKey=") == 2
    assert note.count("workflowType=machine_learning") == 3
    experiment.tags["mlflow.note.content"] = "Mine."
    saved_view.write(experiment, SHOWN, ID, 2000, named=False)
    assert experiment.tags["mlflow.note.content"] == "Mine."


def test_in_an_experiment_that_others_use_views_are_of_one_sweep():
    experiment = Experiment()
    saved_view.write(experiment, SHOWN, ID, 1000, named=True)
    assert set(experiment.tags) == {f"mlflow.sharedViewState.{which}-abcdef" for which in WHICH}
    for view in views(SHOWN, ID, named=True).values():
        assert view["searchFilter"].endswith(f" and tags.`sweep.id` = '{ID}'")


def test_which_runs_are_shown_in_which_order():
    families, trials = views(SHOWN, ID, named=False).values()
    assert families["searchFilter"] == "tags.`family.place` != '-' and tags.`sweep.role` = 'trial'"
    assert (families["orderByKey"], families["orderByAsc"]) == ("tags.`family.place`", True)
    assert trials["searchFilter"] == "tags.`sweep.role` = 'trial'"
    assert (trials["orderByKey"], trials["orderByAsc"]) == ("metrics.`objective`", False)


@pytest.mark.parametrize("view", views(SHOWN, ID, named=False).values(), ids=WHICH)
def test_charts_have_the_whole_width(view):
    """The page draws three in a row by default, 160 px wide beside the list and the assistant."""
    assert [section["columns"] for section in view["compareRunSections"]] == [1, 1]


def test_the_lr_stands_above_the_objective_and_the_loss():
    lines = charts(views(SHOWN, ID, named=False)["families"], "LR above loss")
    shown = [(chart["metricKey"], chart["scaleType"]) for chart in lines]
    assert shown == [("lr/group0", "log"), ("valid/accuracy", "linear"), ("valid/loss", "log")]


@pytest.mark.parametrize(
    ("decades", "ends"), [((-3, 0), (-4, 1.1)), ((-1, -1), (-4, 0.1)), ((-6, 0), (-7, 1.1)), (None, None)]
)
def test_the_axis_of_lrs_ends_below_the_peaks(decades, ends):
    lr, *_ = views(SHOWN._replace(decades=decades), ID, named=False)["families"]["compareRunCharts"]
    expected = {} if ends is None else {"yMin": ends[0], "yMax": pytest.approx(ends[1])}  # as exponents
    assert lr["range"] == expected


def test_peak_lr_against_objective():
    (scatter,) = charts(views(SHOWN, ID, named=False)["trials"], "Objective by peak LR")
    assert (scatter["type"], scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == (
        "SCATTER",
        "log10_lr_max",
        "objective",
    )


@pytest.mark.parametrize("view", views(SHOWN, ID, named=False).values(), ids=WHICH)
def test_every_metric_has_a_chart_so_that_the_page_adds_none_of_its_own(view):
    assert {chart["metricKey"] for chart in view["compareRunCharts"] if "metricKey" in chart} == set(SHOWN.metrics)
    assert [section["name"] for section in view["compareRunSections"] if not section["display"]] == ["Other metrics"]
    ids = [chart["uuid"] for chart in view["compareRunCharts"]]
    assert len(set(ids)) == len(ids)


def test_a_sweep_with_many_metrics_fits_in_a_tag():
    metrics = tuple(f"{part}/metric_{k}" for part in ("train", "valid", "grad_norm", "facts") for k in range(10))
    experiment = Experiment()
    saved_view.write(experiment, SHOWN._replace(metrics=metrics), ID, 1000, named=True)
    assert max(map(len, experiment.tags.values())) < saved_view.LONGEST
