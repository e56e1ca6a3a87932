"""What the saved views say; that MLflow's page draws it is in tests/test_browser.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper import conf
from sweeper.tracking.mlflow import saved_view
from sweeper.tracking.mlflow.saved_view import ViewContent, views

ID = "abcdef0123456789abcdef0123456789"
SHOWN = ViewContent(
    metric="valid/accuracy",
    direction="maximize",
    searched=(
        ("constant", ("peak_lr", "warmup")),
        ("cosine", ("decay", "peak_lr", "warmup")),
        ("default_lr", ()),
        ("linear", ("decay", "peak_lr", "warmup")),
        ("wsd", ("cooldown", "peak_lr", "warmup")),
    ),
    metrics=("grad_norm/all", "lr/group0", "lr_max", "objective", "train/loss", "valid/accuracy", "valid/loss"),
    decades=(-3, 0),
)


class Experiment:
    """The tags of an experiment, and how often one was written."""

    experiment_id = "7"

    def __init__(self):
        self.tags, self.written = {}, 0

    def experiment_tags(self):
        return self.tags

    def tag_experiment(self, key, value):
        self.tags[key] = value
        self.written += 1


def charts(view, kind):
    return [chart for chart in view["compareRunCharts"] if chart["type"] == kind]


def section(view, chart):
    (name,) = (one["name"] for one in view["compareRunSections"] if one["uuid"] == chart["metricSectionId"])
    return name


def test_a_view_is_written_once_and_again_only_when_it_shows_something_else():
    experiment = Experiment()
    saved_view.write(experiment, SHOWN, ID, 1000, named=False)
    keys = {f"mlflow.sharedViewState.{which}" for which in ("best", "all", "means")}
    assert set(experiment.tags) == {*keys, "mlflow.note.content"}
    saved_view.write(experiment, SHOWN, ID, 2000, named=False)
    assert experiment.written == 4
    more = SHOWN._replace(searched=(*SHOWN.searched, ("sgdr", ("cycle", "peak_lr", "warmup"))))
    saved_view.write(experiment, more, ID, 3000, named=False)
    assert experiment.written == 7
    envelope, view = saved_view.decode_view(experiment.tags["mlflow.sharedViewState.best"])
    assert (envelope["name"], envelope["createdAt"], envelope["updatedAt"]) == (
        "Best 5 trials of each family",
        1000,
        3000,
    )
    assert view == views(more, ID, named=False)["best"]


@pytest.mark.parametrize("there", ["", "nonsense", "{}", '{"state":"deflate;!!"}', '{"name":"x","state":7}', "[1]"])
def test_a_tag_that_cannot_be_read_is_replaced(there):
    experiment = Experiment()
    experiment.tags["mlflow.sharedViewState.best"] = there
    saved_view.write(experiment, SHOWN, ID, 1000, named=False)
    assert saved_view.decode_view(experiment.tags["mlflow.sharedViewState.best"])[0]["createdAt"] == 1000


def test_a_note_leads_to_the_views_unless_a_person_wrote_another():
    experiment = Experiment()
    saved_view.write(experiment, SHOWN, ID, 1000, named=False)
    note = experiment.tags["mlflow.note.content"]
    assert note.startswith("Learning-rate schedules of 5 families, by valid/accuracy (higher is better).")
    assert note.count("(#/experiments/7/runs?viewStateShareKey=") == 2
    experiment.tags["mlflow.note.content"] = "Mine."
    saved_view.write(experiment, SHOWN, ID, 2000, named=False)
    assert experiment.tags["mlflow.note.content"] == "Mine."


def test_in_an_experiment_that_others_use_views_are_of_one_sweep():
    experiment = Experiment()
    saved_view.write(experiment, SHOWN, ID, 1000, named=True)
    assert set(experiment.tags) == {f"mlflow.sharedViewState.{which}-abcdef" for which in ("best", "all", "means")}
    for view in views(SHOWN, ID, named=True).values():
        assert view["searchFilter"].endswith(f" and tags.`sweep.id` = '{ID}'")


def test_the_best_trials_are_grouped_by_family_and_drawn_one_by_one():
    best, every, means = views(SHOWN, ID, named=False).values()
    assert best["searchFilter"] == "tags.`trial.rank` != '6+' and tags.`sweep.role` = 'trial'"
    assert best["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "schedule.family"}]
    assert best["useGroupedValuesInCharts"] is False
    assert every["searchFilter"] == "tags.`sweep.role` = 'trial'"
    assert every["groupBy"] is None
    assert means["searchFilter"] == best["searchFilter"]
    assert means["useGroupedValuesInCharts"] is True
    assert (best["orderByKey"], best["orderByAsc"]) == ("metrics.`objective`", False)


@pytest.mark.parametrize(("families", "places"), [(1, 5), (20, 5), (21, 4), (34, 2), (60, 1), (300, 1)])
def test_of_many_families_fewer_trials_each_so_that_none_is_missing(families, places):
    shown = SHOWN._replace(searched=tuple((f"family{k}", ("peak_lr",)) for k in range(families)))
    search = views(shown, ID, named=False)["best"]["searchFilter"]
    assert search.count("tags.`trial.rank` != ") == 6 - places
    assert [f"'{rank}'" in search for rank in range(1, 6)] == [rank > places for rank in range(1, 6)]


def test_lrs_stand_above_losses_above_what_decides():
    view = views(SHOWN, ID, named=False)["best"]
    lines = charts(view, "LINE")
    shown = [(chart["metricKey"], chart["scaleType"]) for chart in lines]
    assert shown == [
        ("lr/group0", "linear"),
        ("lr/group0", "log"),
        ("valid/accuracy", "linear"),
        ("valid/loss", "log"),
        ("train/loss", "log"),
        ("grad_norm/all", "linear"),
    ]
    assert lines[1]["range"] == {"yMin": -6, "yMax": 1.1}  # as exponents
    names = [one["name"] for one in view["compareRunSections"] if one["display"]]
    assert names == ["Learning rate, on a linear and a log axis", "Losses", "What decides"]
    (scatter,) = charts(view, "SCATTER")
    assert section(view, scatter) == "What decides"
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("log10_lr_max", "objective")


def test_no_run_is_left_out_of_all_parallel_coordinates():
    first, *others = charts(views(SHOWN, ID, named=False)["best"], "PARALLEL")
    assert first["selectedParams"] == ["family", "warmup"]
    assert [chart["selectedParams"] for chart in others] == [
        ["family", "decay", "warmup"],
        ["family", "cooldown", "warmup"],
    ]


def test_every_metric_has_a_chart_so_that_the_page_adds_none_of_its_own():
    drawn = {
        chart["metricKey"]
        for chart in views(SHOWN, ID, named=False)["best"]["compareRunCharts"]
        if "metricKey" in chart
    }
    assert drawn == set(SHOWN.metrics)


def test_means_are_drawn_of_what_all_trials_log_at_the_same_steps():
    means = views(SHOWN, ID, named=False)["means"]
    assert {chart["metricKey"] for chart in means["compareRunCharts"] if "metricKey" in chart} == set(SHOWN.metrics)
    shown = [chart["metricKey"] for chart in charts(means, "LINE") if not chart["deleted"]]
    assert shown == ["valid/accuracy", "valid/loss", "train/loss"]


def test_ids_of_charts_differ():
    view = views(SHOWN, ID, named=False)["best"]
    ids = [chart["uuid"] for chart in view["compareRunCharts"]]
    assert len(set(ids)) == len(ids)


def test_a_sweep_of_all_families_fits_in_a_tag():
    names = sorted(path.stem for path in Path(conf.__path__[0], "schedule").glob("*.yaml"))
    numbers = ("cycle", "decay", "peak_lr", "warmup", "optimizer.weight_decay")
    metrics = tuple(f"{part}/metric_{k}" for part in ("train", "valid", "grad_norm", "facts") for k in range(10))
    searched = tuple((name, tuple(sorted([name, *numbers]))) for name in names)
    experiment = Experiment()
    saved_view.write(
        experiment, ViewContent("valid/loss", "minimize", searched, metrics, (-6, 1)), ID, 1000, named=True
    )
    assert max(map(len, experiment.tags.values())) < saved_view.LONGEST
