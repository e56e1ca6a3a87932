"""Rows say what the trial did, and are a function of the committed events alone."""

from __future__ import annotations

import copy
import itertools
import json
import math
import posixpath
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.tracking.events import EVENTS, open_line, report_line, rounds
from sweeper.tracking.mlflow.rows import RunKey, Translation, key_text
from sweeper.tracking.spool import Spool
from sweeper.types import Ending, Job, JobId, Report, Summary, TrialId

GOLDEN = Path(__file__).parents[2] / "golden" / "folders"


def all_rounds(folder):
    return [events for events, _ in rounds(folder / EVENTS)]


def spooled(folder, played, **options):
    tracker = Spool(folder, 0)
    list(played(tracker, **options))
    tracker.finish()
    return all_rounds(folder)


def stored(rounds, cuts=()):
    """What a store holds after these rounds, given out at each cut and at the end."""
    translation, runs = Translation(), {}
    for number, events in enumerate(copy.deepcopy(rounds)):
        translation.add_events(events)
        if number in cuts or number == len(rounds) - 1:
            for rows in translation.pop_rows():
                run = runs.setdefault(
                    rows.key, {"tags": dict(rows.identity), "params": {}, "metrics": [], "name": rows.name}
                )
                run["tags"].update(rows.tags)
                assert not set(run["params"]) & set(rows.params)
                run["params"].update(rows.params)
                run["metrics"] += rows.metrics
                if rows.status is not None:
                    run["end"] = (rows.status, rows.end)
    return runs


def points(run, name):
    return {metric.step: metric.value for metric in run["metrics"] if metric.key == name}


@pytest.fixture(scope="module")
def a_sweep(tmp_path_factory, played):
    return spooled(tmp_path_factory.mktemp("spool"), played)


def test_a_complete_trial(tmp_path, played, a_job):
    run = stored(spooled(tmp_path, played, trials=1))[RunKey("cosine", 0)]
    job = a_job("cosine", 0)
    assert run["tags"] == {
        "sweep.role": "trial",
        "sweep.study": "cosine",
        "trial.number": "0",
        "trial.state": "complete",
        "family.place": "1",
        "schedule.family": "cosine",
        "mlflow.runColor": "#0072b2",
        "warmup": "0.1",
        "optimizer.weight_decay": "0.01",
        "steps": "200",
        "seed": "0",
    }
    assert run["params"] == {"decay": "0.0", "peak_lr": str(float(job.lr_S.max()))}
    assert run["name"].startswith("cosine:0 lr=")
    assert run["end"][0] == "FINISHED"
    lr = points(run, "lr/group0")
    assert {0, 199} <= set(lr)
    assert all(value == job.lr_S[step] for step, value in lr.items())
    shown = np.interp(np.arange(200), list(lr), list(lr.values()))
    assert np.abs(shown - job.lr_S).max() <= 0.002 * job.lr_S.max() * (1 + 1e-9)
    assert sorted(points(run, "valid/loss")) == list(range(20, 201, 20))
    loss = points(run, "train/loss")
    assert {1, 20, 40, 200} <= set(loss)
    assert len(loss) <= 100
    assert points(run, "objective") == {200: 0.5}
    assert points(run, "steps_done") == {200: 200.0}
    assert points(run, "seconds") == {200: 2.5}
    assert points(run, "lr_max") == {200: job.lr_S.max()}
    assert points(run, "lr_auc")[200] == pytest.approx(job.lr_S.mean())


@pytest.mark.parametrize(
    ("trial", "status", "state", "steps"),
    [(1, "FINISHED", "pruned", 60), (2, "FINISHED", "diverged", 47), (3, "FAILED", "failed", 80)],
)
def test_an_early_end(tmp_path, played, a_job, trial, status, state, steps):
    run = stored(spooled(tmp_path, played))[RunKey("cosine", trial)]
    job = a_job("cosine", trial)
    assert run["end"][0] == status
    assert run["tags"]["trial.state"] == state
    assert points(run, "steps_done") == {steps: float(steps)}
    assert "objective" not in {metric.key for metric in run["metrics"]}
    assert points(run, "lr/group0")[steps - 1] == job.lr_S[steps - 1]
    assert max(points(run, "lr/group0")) == steps - 1
    assert points(run, "lr_auc")[steps] == pytest.approx(job.lr_S[:steps].sum() / 200)
    assert all(math.isfinite(metric.value) for metric in run["metrics"])
    if state == "diverged":
        assert run["tags"]["diverged.step"] == "47"
        assert run["tags"]["not_finite"] == "train/loss at 47"


def test_a_study_is_finished_when_no_trial_is_open(tmp_path, played):
    rounds = spooled(tmp_path, played, trials=2)
    assert stored(rounds)[RunKey("wsd", None)]["end"][0] == "FINISHED"
    assert stored(rounds[:3])[RunKey("wsd", None)]["end"] == ("RUNNING", None)
    assert stored(rounds)[RunKey("wsd", None)]["tags"] == {
        "sweep.role": "study",
        "sweep.study": "wsd",
        "schedule.family": "wsd",
        "objective.metric": "valid/loss",
        "objective.direction": "minimize",
        "study.searched": "decay peak_lr",
    }


@given(st.sets(st.integers(0, 40)))
@settings(max_examples=40)
def test_rows_do_not_depend_on_how_they_are_cut(a_sweep, cuts):
    whole, cut = stored(a_sweep), stored(a_sweep, cuts)
    assert cut.keys() == whole.keys()
    for key, run in whole.items():
        assert sorted(cut[key]["metrics"]) == sorted(run["metrics"])
        assert {**cut[key], "metrics": None} == {**run, "metrics": None}


def test_rounds_may_be_taken_in_together(a_sweep):
    together = [[event for events in a_sweep for event in events]]
    assert stored(together) == stored(a_sweep)


def several(a_job, count=3):
    return [a_job("cosine", 4, member) for member in range(count)]


def lines_of(jobs, reports):
    """Return the events of a trial that had to report where its reports are."""
    steps = tuple(sorted({jobs[0].steps} | {report.step for report in reports if report.state == "running"}))
    opened = open_line([replace(job, report_steps=steps) for job in jobs], 1)
    return [json.loads(opened)], [json.loads(report_line(report, 2)) for report in reports]


def test_several_members_are_shown_by_their_median(a_job, a_report):
    jobs = several(a_job)
    reports = [a_report(job, 0, 20, "running") for job in jobs]
    begin, reported_events = lines_of(jobs, reports)
    run = stored([begin, reported_events])[RunKey("cosine", 4)]
    losses = np.array([report.traces["train/loss"] for report in reports])
    assert {1, 20} <= set(points(run, "train/loss"))
    assert all(value == np.median(losses[:, step - 1]) for step, value in points(run, "train/loss").items())
    valid = [report.metrics["valid/loss"] for report in reports]
    assert points(run, "valid/loss") == {20: float(np.median(valid))}
    assert [points(run, f"valid/loss.member{k}") for k in range(3)] == [{20: value} for value in valid]
    assert run["tags"]["seed"] == "4000, 4001, 4002"


def test_a_member_that_diverged_leaves_the_others_median(a_job, a_report):
    jobs = several(a_job)
    reports = [a_report(jobs[0], 0, 20, "running"), a_report(jobs[1], 0, 7, "diverged")]
    reports.append(a_report(jobs[2], 0, 20, "running"))
    begin, reported_events = lines_of(jobs, reports)
    run = stored([begin, reported_events])[RunKey("cosine", 4)]
    loss = points(run, "train/loss")
    assert loss[4] == np.median([report.traces["train/loss"][3] for report in reports])
    assert loss[20] == np.mean([reports[0].traces["train/loss"][19], reports[2].traces["train/loss"][19]])
    assert "valid/loss" not in {metric.key for metric in run["metrics"]}


def measured(job, values, begin=0, **more):
    """A report of a trainer that measured the gradients' norm at the updates of which `values` has a number."""
    traces = {"train/loss": np.ones(len(values)), "grad_norm": np.array(values), "update_to_weight": np.array(values)}
    return Report(job.id, begin + len(values), traces, {}, 0.1, **more)


def test_norms_are_sent_where_they_were_measured(a_job):
    job = a_job("cosine", 0)
    sparse = np.full(20, np.nan)
    sparse[[2, 10]] = 0.5, 0.25
    begin, events = lines_of([job], [measured(job, sparse), measured(job, np.full(20, np.nan), begin=20)])
    run = stored([begin, events])[RunKey("cosine", 0)]
    for name in ("grad_norm", "update_to_weight"):
        assert points(run, name) == {3: 0.5, 11: 0.25}
    assert "not_finite" not in run["tags"]


def test_norms_of_several_members_are_the_median_of_those_that_have_one(a_job, recwarn):
    jobs = several(a_job)
    nan = math.nan
    reports = [measured(jobs[0], [nan, 1.0, nan, 4.0]), measured(jobs[1], [nan, 3.0, nan, 8.0])]
    reports.append(measured(jobs[2], [nan, nan], state="diverged"))
    begin, events = lines_of(jobs, reports)
    run = stored([begin, events])[RunKey("cosine", 4)]
    assert points(run, "grad_norm") == {2: 2.0, 4: 6.0}
    assert "not_finite" not in run["tags"]
    assert not recwarn.list


def test_a_gradient_without_a_finite_norm_is_told(a_job):
    job = a_job("cosine", 0)
    begin, events = lines_of([job], [measured(job, [1.0, math.nan, math.inf])])
    run = stored([begin, events])[RunKey("cosine", 0)]
    assert points(run, "grad_norm") == {1: 1.0}
    assert run["tags"]["not_finite"] == "grad_norm at 3, update_to_weight at 3"


def test_an_lr_that_a_controller_changed_is_shown_as_it_was_used(a_job):
    job = a_job("cosine", 0)
    used = np.concatenate([job.lr_S[:10], 0.5 * job.lr_S[10:20]])
    report = Report(job.id, 20, {"lr/group0": used, "momentum": np.linspace(0.9, 0.8, 20)}, {}, 0.1)
    begin, reported_events = lines_of([job], [report])
    run = stored([begin, reported_events])[RunKey("cosine", 0)]
    lr = points(run, "lr/group0")
    assert np.allclose(np.interp(np.arange(20), list(lr), list(lr.values())), used, atol=0.002 * used.max())
    assert sorted(points(run, "momentum")) == [0, 19]


def test_a_trainer_that_reports_no_lr_used_the_planned_one(a_job):
    job = a_job("cosine", 0)
    begin, reported_events = lines_of([job], [Report(job.id, 20, {}, {"valid/loss": 1.0}, 0.1)])
    lr = points(stored([begin, reported_events])[RunKey("cosine", 0)], "lr/group0")
    assert lr
    assert all(value == job.lr_S[step] for step, value in lr.items())


def test_many_reports_are_thinned_with_the_last_kept(tmp_path):
    steps = 1000
    job = Job(JobId("cosine", 0, 0), "cosine", {}, 0, np.full(steps, 0.1), tuple(range(1, steps + 1)))
    tracker = Spool(tmp_path, 0)
    tracker.open([job])
    for step in range(1, 778):
        tracker.append([Report(job.id, step, {"train/loss": np.array([float(step)])}, {"valid/loss": float(step)}, 0)])
        tracker.commit(step)
    tracker.close(Ending(TrialId("cosine", 0), "pruned", 777))
    tracker.commit(778)
    tracker.finish()
    run = stored(all_rounds(tmp_path))[RunKey("cosine", 0)]
    valid = points(run, "valid/loss")
    assert len(valid) <= 320
    assert {1, 777} <= set(valid)
    assert all(step == value for step, value in valid.items())
    assert points(run, "train/loss")[777] == 777.0


def test_descriptions_add_and_overwrite_and_repeat_nothing(tmp_path):
    tracker = Spool(tmp_path, 0)
    (tmp_path / "a").write_text("a")
    for round in (1, 2):
        tracker.describe("cosine", Summary(params={"n_trials": 20}, tags={"note": "x"}, metrics={"best": 0.5}))
        tracker.artifact("cosine", tmp_path / "a")
        tracker.commit(round)
    later = Summary(params={"n_trials": 40}, tags={"note": "y"}, metrics={"best": 0.4, "gap": math.nan})
    tracker.describe("cosine", later)
    tracker.commit(3)
    tracker.finish()
    translation, given = Translation(), []
    for events in all_rounds(tmp_path):
        translation.add_events(events)
        given.append(translation.pop_rows())
    first, second, third = (rows[0] for rows in given)
    assert (first.tags, len(first.metrics), len(first.artifacts)) == ({"n_trials": "20", "note": "x"}, 1, 1)
    assert (second.tags, second.metrics, second.artifacts) == ({}, [], [])
    assert not first.params | second.params | third.params  # nothing of a study itself is searched
    assert third.tags == {"note": "y", "n_trials": "40"}
    assert [(metric.key, metric.value) for metric in third.metrics] == [("best", 0.4)]


def test_a_note_and_a_table_are_shown_as_those_of_older_spools_were(tmp_path):
    """They were tags in MLflow's words then; a sweep that is continued overwrites them."""
    shown = {"mlflow.note.content": "# Answer", "mlflow.loggedArtifacts": '[{"path": "a.json", "type": "table"}]'}
    (tmp_path / "a.json").write_text("{}")
    older, newer, continued = (Spool(tmp_path / name, 0) for name in ("older", "newer", "continued"))
    for tracker in (older, continued):
        tracker.describe("cosine", Summary(tags=shown))
        tracker.artifact("cosine", tmp_path / "a.json")
        tracker.commit(1)
    for tracker, note in ((newer, "# Answer"), (continued, "# Another")):
        tracker.describe("cosine", Summary(note=note))
        tracker.artifact("cosine", tmp_path / "a.json", table=True)
        tracker.commit(2)
    tags = {}
    for tracker in (older, newer, continued):
        tracker.finish()
        tags[tracker.folder.name] = stored(all_rounds(tracker.folder), cuts=(0,))[RunKey("cosine", None)]["tags"]
    assert tags["older"] == tags["newer"] == {**tags["continued"], "mlflow.note.content": "# Answer"}
    assert tags["older"].items() >= shown.items()
    assert tags["continued"]["mlflow.note.content"] == "# Another"


def test_what_a_study_is_made_of_is_shown_with_each_of_its_trials(tmp_path, a_job):
    """A trial has the commit under which it started."""
    tracker = Spool(tmp_path, 0)
    made = {
        "optimizer": "SGD",
        "model": "MLP(width=8)",
        "data": "Digits",
        "batch_size": 32,
        "epochs": 2.5,
        "steps": 200,
    }
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        tags = {"git.commit": commit, "git.dirty": "false", "version.torch": "2.14"}
        tracker.describe("cosine", Summary(params=made, tags=tags))
        tracker.open([a_job("cosine", number)])
        tracker.commit(number + 1)
    runs = stored(all_rounds(tmp_path))
    study = runs[RunKey("cosine", None)]
    assert study["tags"].items() >= {name: str(value) for name, value in made.items()}.items()
    assert study["tags"]["mlflow.source.git.commit"] == study["tags"]["git.commit"] == "b" * 40
    assert study["tags"]["version.torch"] == "2.14"
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        trial = runs[RunKey("cosine", number)]
        assert trial["tags"].items() >= {name: str(value) for name, value in made.items()}.items()
        assert trial["tags"]["mlflow.source.git.commit"] == trial["tags"]["git.commit"] == commit
        assert trial["tags"]["git.dirty"] == "false"
        assert "version.torch" not in trial["tags"]  # those are of the study alone


def test_tags_of_a_trial_overwrite(tmp_path, a_job):
    tracker = Spool(tmp_path, 0)
    tracker.open([a_job("cosine", 0)])
    tracker.tag(TrialId("cosine", 0), {"sweep.role": "replicate"})
    tracker.commit(1)
    tracker.finish()
    run = stored(all_rounds(tmp_path))[RunKey("cosine", 0)]
    assert run["tags"]["sweep.role"] == "replicate"


@given(st.text(min_size=0, max_size=300))
@settings(max_examples=200)
def test_any_name_becomes_one_that_mlflow_accepts(name):
    text = key_text(name)
    assert 1 <= len(text) <= 250
    assert re.fullmatch(r"[/\w.\- :]*", text)
    assert posixpath.normpath(text) == text
    assert not text.startswith(("..", "/"))


def test_a_plain_name_stays_as_it_is():
    for name in itertools.chain(("lr/group0", "valid/loss.member3", "mlflow.note.content", "optimizer.betas")):
        assert key_text(name) == name


def test_one_trial_stands_for_each_family(a_sweep):
    whole, piecewise = stored(a_sweep), stored(a_sweep, cuts=range(len(a_sweep)))
    places = {"cosine": {0: "1", 4: "-", 5: "-"}, "wsd": {0: "2", 4: "-", 5: "-"}}
    for study, known in places.items():
        found = {number: whole[RunKey(study, number)]["tags"].get("family.place") for number in range(6)}
        assert found == {**dict.fromkeys(range(6)), **known}  # pruned, diverged and failed trials have none
    assert piecewise == whole


def test_a_verdict_orders_the_families(tmp_path, played):
    tracker = Spool(tmp_path, 0)
    *_, last = played(tracker)
    tracker.describe("wsd", Summary(tags={"verdict.order": "wsd:5 cosine:4 cosine:0"}))
    tracker.commit(last + 1)
    tracker.finish()
    for cuts in ((), (0,), range(99)):
        runs = stored(all_rounds(tmp_path), cuts)
        found = {key: run["tags"].get("family.place") for key, run in runs.items()}
        assert {key: place for key, place in found.items() if place not in (None, "-")} == {
            RunKey("wsd", 5): "1",
            RunKey("cosine", 4): "2",
        }


def test_values_that_are_logged_once_follow_what_is_logged_over_the_run(tmp_path, a_job):
    """MLflow's pages show the names with a "/" first, by the part before it: the LR, then the losses."""
    tracker = Spool(tmp_path, 0)
    tracker.open([replace(a_job("cosine", 0), report_steps=(200,))])
    measures = {"objective/best": 0.4, "objective/spread": 0.1}
    tracker.append([Report(JobId("cosine", 0, 0), 200, {"train/loss": np.ones(200)}, {"valid/loss": 0.5}, 1.0)])
    tracker.close(Ending(TrialId("cosine", 0), "complete", 200, 0.5, measures=measures))
    tracker.commit(1)
    tracker.finish()
    run = stored(all_rounds(tmp_path))[RunKey("cosine", 0)]
    assert points(run, "objective.best") == {200: 0.4}
    names = {metric.key for metric in run["metrics"]}
    assert {name for name in names if "/" in name} == {"lr/group0", "train/loss", "valid/loss"}
    assert {"objective", "objective.best", "objective.spread", "lr_max", "seconds"} <= names


def test_spools_that_do_not_tell_what_was_searched_give_every_hyperparameter_as_a_param(a_sweep):
    for study, run in stored([[e for e in events if e["e"] != "describe"] for events in a_sweep]).items():
        expected = set() if study.trial is None else {"peak_lr", "warmup", "decay", "optimizer.weight_decay"}
        assert set(run["params"]) == expected


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("*/spool")), ids=lambda folder: folder.parent.name)
def test_stored_spools_of_earlier_versions_are_sent_the_same_way(folder):
    runs = stored(all_rounds(folder))
    trials = [run for key, run in runs.items() if key.trial is not None]
    assert trials
    assert any(run["tags"].get("family.place") == "1" for run in trials)
    for run in trials:
        assert set(run["params"]) == set(
            runs[RunKey(run["tags"]["sweep.study"], None)]["tags"]["study.searched"].split()
        )


def test_without_a_direction_nothing_is_ranked_or_drawn(a_sweep):
    silent = [[event for event in events if event["e"] != "describe"] for events in a_sweep]
    assert all("family.place" not in run["tags"] for run in stored(silent).values())
    translation = Translation()
    translation.add_events(itertools.chain(*silent))
    translation.pop_rows()
    assert translation.view_content() is None


def test_what_there_is_to_draw(a_sweep):
    translation = Translation()
    translation.add_events(itertools.chain(*a_sweep))
    translation.pop_rows()
    shown = translation.view_content()
    assert (shown.metric, shown.direction, shown.families) == ("valid/loss", "minimize", 2)
    assert {"lr/group0", "train/loss", "valid/loss", "objective", "log10_lr_max"} <= set(shown.metrics)
    assert shown.decades == (-2, -2)
    assert not shown.is_judged
