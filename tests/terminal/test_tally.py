"""What is counted of a sweep, and how long it takes with what was pruned."""

import math
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from sweeper import terminal
from sweeper.terminal import lines
from sweeper.terminal.tally import Past
from sweeper.text.columns import plain_text
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

HEADING = terminal.Heading("mine", "valid/loss", "minimize")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def jobs(study: str, trial: int, reports: int = 10, members: int = 1, family: str | None = None) -> list[Job]:
    steps = tuple(10 * (i + 1) for i in range(reports))
    return [Job(JobId(study, trial, m), family or study, {}, 0, np.ones(steps[-1]), steps) for m in range(members)]


def report(id: JobId, step: int) -> Report:
    return Report(id, step, {}, {}, 0.0)


@dataclass
class Sweep:
    """Drives a view as the loop does: each round takes `seconds`, reports arriving evenly or all at the end."""

    view: terminal.Tally
    clock: Clock
    open: dict[TrialId, list[Job]] = field(default_factory=dict)
    made: dict[TrialId, int] = field(default_factory=dict)

    def start(self, new: list[Job]) -> None:
        self.view.open(new)
        self.open[new[0].id.of], self.made[new[0].id.of] = new, 0

    def round(self, seconds: float, burst: bool = False) -> None:
        ids = [job.id for of_trial in self.open.values() for job in of_trial]
        self.clock.now += seconds if burst else 0
        reports = []
        for id in ids:
            self.clock.now += 0 if burst else seconds / len(ids)
            reports.append(report(id, 10 * (self.made[id.of] + 1)))
            self.view.arrived(reports[-1])
        for trial in self.open:
            self.made[trial] += 1
        self.view.append(reports)

    def end(self, trial: TrialId, state: str, value: float | None = None) -> None:
        del self.open[trial]
        self.view.close(Ending(trial, state, 0, value))


def tally(*progress: Progress, clock: Clock, reports: int = 10, direction: str = "minimize") -> terminal.Tally:
    return terminal.Tally(progress, terminal.Terms(reports, direction), clock=clock)


# --- counts -----------------------------------------------------------------------------------------


def test_the_lr_shown_is_the_one_that_was_used() -> None:
    progress = [Progress("plateau", "plateau", 4, {})]
    counted = terminal.Tally(progress, terminal.Terms(2, "minimize"))
    pair = jobs("plateau", 0, reports=2, members=2)
    counted.open(pair)
    for member, lr in ((0, 0.5), (1, 0.1)):
        id = pair[member].id
        counted.arrived(Report(id, 10, {"lr/group0": np.ones(10)}, {}, 0.0))
        counted.arrived(Report(id, 20, {"lr/group0": np.full(10, lr)}, {}, 0.0, "complete"))
    counted.close(Ending(pair[0].id.of, "complete", 20, 1.0))
    shown = counted.rows()[0].lr_S
    assert (shown[0], shown[-1], shown.min()) == (1.0, 0.5, 0.5)
    np.testing.assert_array_equal(pair[0].lr_S, np.ones(20))


def test_a_continued_sweep_begins_where_it_stood():
    now = tally(
        Progress("cosine", "cosine", 20, {"complete": 8, "pruned": 3, "diverged": 1, "failed": 3}, 0.5, 7, given_up=1),
        clock=Clock(),
    ).rows()[0]
    assert (now.done, now.trials, now.pruned, now.diverged, now.failed) == (12, 20, 3, 1, 3)
    assert (now.best, now.best_trial, now.fraction, now.left) == (0.5, 7, 0.6, None)


def test_a_trial_that_failed_twice_is_not_done_and_yet_nothing_is_left_to_train():
    counted = tally(Progress("cosine", "cosine", 20, {"complete": 19}), clock=Clock())
    for number, given_up in ((19, False), (20, True)):
        counted.open(jobs("cosine", number))
        counted.close(Ending(TrialId("cosine", number), "failed", 0, given_up=given_up))
        for row in counted.rows():  # the study and the total
            assert (row.done, row.trials, row.fraction, row.is_done) == (19, 20, 0.95, False)
            assert (row.is_over, row.given_up) == (given_up, int(given_up))
    shown = [plain_text(line) for line in terminal.frame(counted.rows(), HEADING, terminal.Window(120), elapsed=60)]
    assert all(re.search(r"19/20 .* over *$", line) for line in shown[-2:]), shown
    assert lines.status_line(counted.rows()[0], "lowest", 60).endswith("19/20 trials, 2 failed, 1 given up")


def test_the_bar_moves_with_every_report_of_an_open_trial():
    clock = Clock()
    counted = tally(Progress("cosine", "cosine", 2, {}), clock=clock)
    new = jobs("cosine", 0, members=2)
    counted.open(new)
    seen = [counted.rows()[0].fraction]
    for step in (10, 20):
        for job in new:
            counted.arrived(report(job.id, step))
            seen.append(counted.rows()[0].fraction)
    assert seen == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


def test_a_trial_taken_up_at_its_seventh_report_stands_there():
    counted = tally(Progress("cosine", "cosine", 1, {}), clock=Clock())
    counted.open(jobs("cosine", 0))
    counted.arrived(report(JobId("cosine", 0, 0), 80))
    assert counted.rows()[0].fraction == pytest.approx(0.8)


def test_a_report_between_the_grid_counts_as_the_one_it_came_instead_of():
    counted = tally(Progress("cosine", "cosine", 1, {}), clock=Clock())
    counted.open(jobs("cosine", 0))
    counted.arrived(Report(JobId("cosine", 0, 0), 33, {}, {}, 0.0, "diverged", "nan"))
    assert counted.rows()[0].fraction == pytest.approx(0.4)


@pytest.mark.parametrize(("direction", "best"), [("minimize", (1.0, 1)), ("maximize", (3.0, 0))])
def test_the_best_is_of_complete_trials_with_a_finite_value(direction, best):
    counted = tally(Progress("cosine", "cosine", 9, {}), clock=Clock(), direction=direction)
    endings = [("complete", 3.0), ("complete", 1.0), ("pruned", -9.0), ("diverged", 99.0), ("complete", math.nan)]
    for number, (state, value) in enumerate(endings):
        counted.open(jobs("cosine", number))
        counted.close(Ending(TrialId("cosine", number), state, 100, value))
    now, everything = counted.rows()
    assert (now.best, now.best_trial) == best
    assert everything.best == best[0]
    assert (now.done, now.pruned, now.diverged) == (5, 1, 1)


def test_a_failed_trial_is_not_done():
    counted = tally(Progress("cosine", "cosine", 1, {}), clock=Clock())
    counted.open(jobs("cosine", 0))
    counted.close(Ending(TrialId("cosine", 0), "failed", 0))
    now = counted.rows()[0]
    assert (now.done, now.failed, now.is_over) == (0, 1, False)


def test_two_studies_of_one_family_are_told_apart():
    counted = tally(
        Progress("cosine-a", "cosine", 1, {}), Progress("cosine-b", "cosine", 1, {}), Progress("s", "step", 1, {}),
        clock=Clock(),
    )  # fmt: skip
    assert [row.name for row in counted.rows()] == ["cosine-a", "cosine-b", "step", "all"]


def test_what_was_never_opened_is_ignored_and_a_new_study_gets_a_row():
    counted = tally(clock=Clock())
    counted.arrived(report(JobId("x", 0, 0), 10))
    counted.append([report(JobId("x", 0, 0), 10)])
    counted.close(Ending(TrialId("x", 0), "complete", 100, 1.0))
    counted.open(jobs("replicates", 3, family="cosine"))
    assert [(row.name, row.trials, row.open) for row in counted.rows()] == [("cosine", 1, 1), ("all", 1, 1)]


# --- remaining time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [False, True])
def test_remaining_time_without_pruning_is_the_work_left_at_the_pace_so_far(burst):
    clock = Clock()
    counted = tally(Progress("cosine", "cosine", 8, {}), clock=clock)
    sweep = Sweep(counted, clock)
    for number in range(4):
        sweep.start(jobs("cosine", number))
    assert counted.rows()[0].left is None
    for _ in range(5):
        sweep.round(20, burst)
    now = counted.rows()[0]
    # 20 of 80 reports in 100 s: 60 more take 300 s; 12 reports a minute are 1.2 trials
    assert now.left == pytest.approx(300, rel=0.03)
    assert now.per_minute == pytest.approx(1.2, rel=0.03)
    clock.now += 15
    assert counted.rows()[0].left == pytest.approx(now.left - 15)


@pytest.mark.parametrize("members", [1, 3])
def test_pruning_so_far_shortens_what_is_to_come(members):
    clock = Clock()
    counted = tally(Progress("cosine", "cosine", 8, {}), clock=clock)
    sweep = Sweep(counted, clock)
    for number in range(4):
        sweep.start(jobs("cosine", number, members=members))
    for made in range(1, 11):
        sweep.round(10)
        if made == 2:
            sweep.end(TrialId("cosine", 0), "pruned")
            sweep.end(TrialId("cosine", 1), "pruned")
    sweep.end(TrialId("cosine", 2), "complete", 1.0)
    sweep.end(TrialId("cosine", 3), "complete", 1.0)
    # half stop at 2 reports, half make 10: 6 a trial; 4 trials are left; 24 trial-reports were made in 100 s
    assert counted.rows()[0].left == pytest.approx(100, rel=0.05)


# --- running trials ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_a_running_trial_that_is_better_is_shown_as_provisional_with_its_latest_value(direction, sign):
    terms = terminal.Terms(10, direction, "valid/loss")
    counted = terminal.Tally([Progress("a", "a", 9, {}), Progress("b", "b", 9, {})], terms, clock=Clock())

    def reported(study, trial, values, step=10):
        for member, value in enumerate(values):
            counted.arrived(Report(JobId(study, trial, member), step, {}, {"valid/loss": sign * value}, 0.0))

    def shown():
        return [(row.best and sign * row.best, row.best_trial, row.is_provisional) for row in counted.rows()]

    counted.open(jobs("a", 0, members=3))
    assert shown() == [(None, None, False)] * 3
    reported("a", 0, [5.0, 1.0])
    assert shown()[0] == (None, None, False), "a member is missing"
    reported("a", 0, [5.0, 1.0, 2.0])
    assert shown() == [(2.0, 0, True), (None, None, False), (2.0, None, True)]
    assert counted.rows()[0].peak == 1.0
    reported("a", 0, [9.0, 9.0, 8.0], step=20)
    assert shown()[0] == (9.0, 0, True), "its latest value, not its best one"
    reported("a", 0, [9.0, math.nan, 8.0], step=30)
    assert shown()[0] == (None, None, False)
    counted.close(Ending(TrialId("a", 0), "complete", 100, sign * 3.0))
    assert shown()[0] == (3.0, 0, False)
    counted.open(jobs("a", 1))
    reported("a", 1, [4.0])
    assert shown()[0] == (3.0, 0, False), "a worse one is not shown"
    reported("a", 1, [1.0], step=20)
    assert shown() == [(1.0, 1, True), (None, None, False), (1.0, None, True)]
    counted.close(Ending(TrialId("a", 1), "pruned", 20))
    assert shown() == [(3.0, 0, False), (None, None, False), (3.0, None, False)]


# --- curves -----------------------------------------------------------------------------------------


def ended(counted, number, state, value=None, lr=0.1, study="cosine"):
    steps = (1, 2)
    counted.open([Job(JobId(study, number, 0), study, {}, 0, np.array([lr, lr / 2]), steps)])
    counted.close(Ending(TrialId(study, number), state, 2, value))


@pytest.mark.parametrize(
    ("direction", "bests", "lr"),
    [("minimize", (None, 3.0, 3.0, 2.0, 2.0), 0.3), ("maximize", (None, 3.0, 3.0, 3.0, 4.0), 0.5)],
)
def test_the_best_after_each_trial_and_the_lr_of_the_best(direction, bests, lr):
    counted = tally(Progress("cosine", "cosine", 9, {}), clock=Clock(), direction=direction)
    for number, (state, value) in enumerate(
        [("diverged", None), ("complete", 3.0), ("pruned", None), ("complete", 2.0), ("complete", 4.0)]
    ):
        ended(counted, number, state, value, lr=0.1 * (number if number != 4 else 5))
    now, everything = counted.rows()
    assert now.bests == bests
    assert now.peak == pytest.approx(lr)
    assert now.lr_S.tolist() == pytest.approx([lr, lr / 2])
    assert (everything.bests, everything.peak) == ((), None)


def test_a_continued_sweep_draws_on_where_its_curve_stood():
    before = Past((None, 3.0, None, 2.0), np.array([0.5, 0.25]))
    counted = terminal.Tally(
        [Progress("cosine", "cosine", 9, {"complete": 2, "pruned": 2}, 2.0, 3), Progress("step", "step", 9, {})],
        terminal.Terms(2, "minimize"),
        past={"cosine": before},
        clock=Clock(),
    )
    assert (counted.rows()[0].bests, counted.rows()[0].peak) == ((None, 3.0, 3.0, 2.0), 0.5)
    ended(counted, 4, "complete", 2.5)
    assert (counted.rows()[0].bests, counted.rows()[0].peak) == ((None, 3.0, 3.0, 2.0, 2.0), 0.5)
    ended(counted, 5, "complete", 1.5, lr=0.1)
    assert (counted.rows()[0].bests[-1], counted.rows()[0].peak) == (1.5, 0.1)


def test_what_runs_and_how_far_it_is_on_average():
    counted = tally(Progress("cosine", "cosine", 4, {}), Progress("step", "step", 4, {}), clock=Clock())
    for number, step in ((0, 20), (1, 60)):
        counted.open(jobs("cosine", number))
        counted.arrived(report(JobId("cosine", number, 0), step))
    counted.open(jobs("step", 0))
    cosine, step, everything = counted.rows()
    assert (cosine.open, cosine.open_fraction) == (2, pytest.approx(0.4))
    assert (step.open, step.open_fraction) == (1, 0)
    assert (everything.open, everything.open_fraction) == (3, pytest.approx(0.8 / 3))
