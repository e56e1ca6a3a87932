"""The facts of trials against SciPy and by hand; MLflow and a stored sweep have the same."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweeper.tracking.events import EVENTS, rounds
from sweeper.tracking.facts import TrialFacts, late_loss_spread, read_facts, time_to_target
from sweeper.tracking.mlflow.rows import RunKey, Translation
from sweeper.tracking.spool import Spool
from sweeper.types import Ending, Job, JobId, Report, Summary, TrackedStudy, TrialId

NAMES = ("lr_max", "lr_auc", "lr_end_over_peak", "late_loss_spread", "train_valid_gap")
RNG = np.random.default_rng(5)


@pytest.mark.parametrize("count", [3, 20, 100])
def test_the_late_spread_is_the_standard_error_of_the_regression(count):
    loss = 2 - 0.01 * np.arange(count) + 0.1 * RNG.standard_normal(count)
    fit = stats.linregress(np.arange(count), loss)
    residual = loss - fit.intercept - fit.slope * np.arange(count)
    assert late_loss_spread(loss) == pytest.approx(math.sqrt((residual**2).sum() / (count - 2)), rel=1e-9)


def test_a_straight_fall_has_no_spread_and_too_few_or_broken_losses_none():
    assert late_loss_spread(np.linspace(3, 1, 50)) == pytest.approx(0, abs=1e-12)
    assert late_loss_spread(np.array([1.0, 2.0])) is None
    assert late_loss_spread(np.array([1.0, np.nan, 2.0, 1.0])) is None


def test_the_late_spread_is_near_the_noise_it_is_made_of():
    loss = np.linspace(1, 0.9, 2000) + 0.05 * RNG.standard_normal(2000)
    assert late_loss_spread(loss) == pytest.approx(0.05, rel=0.05)


curves = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@given(curves, st.floats(-10, 10), st.sampled_from(["minimize", "maximize"]))
def test_the_first_report_that_is_as_good_as_the_target(values, target, direction):
    found = time_to_target(list(enumerate(values, 1)), target, direction, [0.5 * k for k in range(1, len(values) + 1)])
    good = [value <= target if direction == "minimize" else value >= target for value in values]
    first = good.index(True) + 1 if any(good) else None
    assert found == ({} if first is None else {"steps_to_target": first, "seconds_to_target": 0.5 * first})
    assert time_to_target(list(enumerate(values, 1)), None, direction) == {}


def test_what_is_not_finite_reaches_no_target():
    assert time_to_target([(5, math.nan), (10, 1.0)], 1.0, "minimize") == {"steps_to_target": 10.0}
    assert time_to_target([(5, math.nan)], 0.0, "maximize") == {}


def seen_in(reports, lr_S=None, state="complete"):
    """Facts of a trial that reported so: lists of (member, step, losses, valid)."""
    seen = TrialFacts(np.linspace(0.2, 0.02, 300) if lr_S is None else lr_S)
    for member, step, losses, valid in reports:
        metrics = {} if valid is None else {"valid/loss": valid}
        seen.report(member, step, {"train/loss": np.asarray(losses)}, metrics)
    return seen.facts_at_end(state)


def test_what_the_weight_decay_took_is_summed_over_reports_and_is_one_members():
    seen = TrialFacts(np.ones(20))
    for step, sums in ((10, {"lr_wd": 0.25}), (20, {"lr_wd": 0.5})):
        for member in (0, 1):
            seen.report(member, step, {"train/loss": np.ones(10)}, {}, sums)
    assert seen.facts_at_end("complete")["lr_wd_sum"] == 0.75


def test_a_whole_trial_by_hand():
    losses = np.concatenate([np.full(255, 9.0), 1 + 0.1 * RNG.standard_normal(45)])
    cuts = (0, 100, 200, 280, 300)
    reports = [(0, stop, losses[start:stop], 1.5) for start, stop in itertools.pairwise(cuts)]
    facts = seen_in(reports)
    assert facts["lr_max"] == 0.2
    assert facts["lr_auc"] == pytest.approx(0.11)
    assert facts["lr_end_over_peak"] == pytest.approx(0.1)
    assert facts["late_loss_spread"] == pytest.approx(late_loss_spread(losses[-30:]), rel=1e-12)
    assert facts["train_valid_gap"] == pytest.approx(1.5 - losses[280:].mean())
    assert set(facts) == set(NAMES)


def test_how_the_trial_ended_decides_what_can_be_said():
    reports = [(0, 150, np.ones(150), 1.25)]
    assert seen_in(reports, state="pruned") == pytest.approx(
        {"lr_max": 0.2, "lr_auc": np.linspace(0.2, 0.02, 300)[:150].sum() / 300, "train_valid_gap": 0.25}
        | {"lr_end_over_peak": np.linspace(0.2, 0.02, 300)[149] / 0.2}
    )
    assert "train_valid_gap" not in seen_in([(0, 150, [1.0, np.inf], None)], state="diverged")
    assert seen_in([(0, 0, [], None)], state="failed") == {}
    assert "lr_end_over_peak" not in seen_in(reports, lr_S=np.zeros(300))


def test_several_members_count_by_their_medians():
    losses = {member: 1 + 0.1 * (member + 1) * RNG.standard_normal(300) for member in range(3)}
    facts = seen_in([(member, 300, losses[member], 2.0 + member) for member in losses])
    assert facts["late_loss_spread"] == late_loss_spread(losses[1][-30:])
    gaps = sorted(2.0 + member - losses[member].mean() for member in losses)
    assert facts["train_valid_gap"] == pytest.approx(gaps[1])
    assert facts["lr_auc"] == pytest.approx(0.11)
    one_without = seen_in([(member, 300, losses[member], 2.0 if member else None) for member in losses])
    assert "train_valid_gap" not in one_without


# --- of a sweep -------------------------------------------------------------------------------------


def stored(folder):
    """The last value of every metric of every trial's run, as MLflow would hold it."""
    translation, found = Translation(), {}
    for events, _ in rounds(folder / EVENTS):
        translation.add_events(events)
        for rows in translation.pop_rows():
            for metric in rows.metrics:
                found.setdefault(rows.key, {})[metric.key] = metric.value
    return found


@pytest.mark.parametrize("members", [1, 3])
def test_a_stored_sweep_and_mlflow_have_the_same_facts(tmp_path, played, members):
    tracker = Spool(tmp_path, 0)
    list(played(tracker, members=members))
    tracker.finish()
    runs, facts = stored(tmp_path), read_facts(tmp_path)
    assert len(facts) == 12
    for id, of_trial in facts.items():
        run = runs[RunKey(*id)]
        assert of_trial == {name: run[name] for name in NAMES if name in run}
    assert set(facts[TrialId("cosine", 0)]) == set(NAMES)
    some = [TrialId("wsd", 1), TrialId("cosine", 5)]
    assert read_facts(tmp_path, some) == {id: facts[id] for id in some}


def test_what_the_weight_decay_took_is_stored_and_told(tmp_path, a_job):
    tracker, job = Spool(tmp_path, 0), a_job("cosine", 0)
    job = replace(job, report_steps=(10, job.steps))
    tracker.open([job])
    for step, taken in ((10, 0.25), (job.steps, 0.5)):
        losses = np.ones(10 if step == 10 else step - 10)
        tracker.append([Report(job.id, step, {"train/loss": losses}, {}, 0.1, sums={"lr_wd": taken})])
    tracker.close(Ending(job.id.of, "complete", job.steps, 1.0))
    tracker.commit(1)
    tracker.finish()
    run = stored(tmp_path)[RunKey("cosine", 0)]
    assert run["lr_wd_sum"] == read_facts(tmp_path)[job.id.of]["lr_wd_sum"] == 0.75
    assert "lr_wd" not in run


def test_an_open_trial_has_no_facts_yet(tmp_path, a_job, a_report):
    tracker = Spool(tmp_path, 0)
    tracker.open([a_job("cosine", 0)])
    tracker.append([a_report(a_job("cosine", 0), 0, 20, "running")])
    tracker.commit(1)
    tracker.finish()
    assert read_facts(tmp_path) == {}


def judged(tracker, trial, values, direction="minimize"):
    """A trial of one family whose metric at each report is told; each interval takes a quarter of a second."""
    steps = 10 * len(values)
    job = Job(JobId("cosine", trial, 0), "cosine", {}, 0, np.full(steps, 0.1), tuple(range(10, steps + 1, 10)))
    tracker.introduce(TrackedStudy("cosine", "cosine", "valid/accuracy", direction, ()))
    tracker.open([job])
    for place, value in enumerate(values, 1):
        tracker.append([Report(job.id, 10 * place, {"train/loss": np.ones(10)}, {"valid/accuracy": value}, 0.25)])
    tracker.close(Ending(job.id.of, "complete", steps, values[-1]))


def test_a_target_known_from_the_beginning_is_told_with_the_end_of_a_trial(tmp_path):
    tracker = Spool(tmp_path, 0)
    tracker.introduce(TrackedStudy("cosine", "cosine", "valid/accuracy", "maximize", ()))
    tracker.describe("cosine", Summary(metrics={"target": 0.8}))
    for trial, values in enumerate(([0.1, 0.8, 0.7, 0.9], [0.1, 0.2, 0.3, 0.4])):
        judged(tracker, trial, values, "maximize")
        tracker.commit(trial + 1)
    tracker.finish()
    runs = stored(tmp_path)
    told = {name: value for name, value in runs[RunKey("cosine", 0)].items() if "target" in name}
    assert told == {"steps_to_target": 20.0, "seconds_to_target": 0.5}
    assert not [name for name in runs[RunKey("cosine", 1)] if "target" in name]


def test_a_target_known_at_the_end_is_told_to_all_and_a_harder_one_takes_it_back(tmp_path):
    tracker = Spool(tmp_path, 0)
    judged(tracker, 0, [3.0, 2.0, 1.0])
    judged(tracker, 1, [3.0, 2.5, 2.4])
    for round, target in enumerate((2.4, 2.4, 1.5), 1):
        tracker.describe("cosine", Summary(metrics={"target": target}))
        tracker.commit(round)
        first, second = (stored(tmp_path)[RunKey("cosine", trial)] for trial in (0, 1))
        if target == 2.4:
            assert (first["steps_to_target"], second["steps_to_target"]) == (20.0, 30.0)
        else:
            assert first["steps_to_target"] == 30.0
            assert math.isnan(second["steps_to_target"])
            assert math.isnan(second["seconds_to_target"])
    tracker.finish()
    translation, told = Translation(), []
    for events, _ in rounds(tmp_path / EVENTS):
        translation.add_events(events)
        told.append(sum(metric.key == "steps_to_target" for rows in translation.pop_rows() for metric in rows.metrics))
    assert told == [2, 0, 2]
