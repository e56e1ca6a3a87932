"""What an update and a report take is found again from a trainer whose clock is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from sweeper.forecast.timing import measure_pace
from sweeper.types import InputError, Job, JobId, Report


class Clockwork:
    """A trainer that trains nothing: it moves a clock by what each block would take."""

    def __init__(self, update, report, build=3.0, fails=False):
        self.now = 100.0
        self.update, self.report, self.build, self.fails = update, report, build, fails
        self.open = {}
        self.most = 0

    def start(self, jobs):
        self.open |= {job.id: [job, 0] for job in jobs}
        self.most = max(self.most, len(self.open))

    def advance(self, ids):
        for id in ids:
            job, step = self.open[id]
            until = next(end for end in job.report_steps if end > step)
            self.now += (self.build if step == 0 else 0) + (until - step) * self.update + self.report
            self.open[id][1] = until
            state = "complete" if until == job.steps else "running"
            if job.lr_S.max() > 1 and until > 5:
                state = "diverged"
            if self.fails:
                state = "failed"
            yield Report(id, until, {}, {"valid/loss": 1.0}, 0.0, state, "no luck" if self.fails else "")

    def stop(self, id):
        del self.open[id]


@pytest.fixture
def clocked(monkeypatch):
    def trainer(*arguments, **options):
        made = Clockwork(*arguments, **options)
        clock = SimpleNamespace(perf_counter=lambda: made.now, monotonic=lambda: made.now)
        monkeypatch.setattr("sweeper.forecast.timing.time", clock)
        return made

    return trainer


def jobs(count, steps, reports, lr=0.1):
    ends = tuple(round(steps * place / reports) for place in range(1, reports + 1))
    return [Job(JobId("s", trial, 0), "cosine", {}, 0, np.full(steps, lr), ends) for trial in range(count)]


@pytest.mark.parametrize(("steps", "reports"), [(1000, 20), (40, 4), (100_000, 20), (13, 4)])
@pytest.mark.parametrize(("update", "report"), [(1e-4, 2e-3), (2e-3, 0.0), (0.01, 0.5)])
@pytest.mark.parametrize("at_once", [1, 4])
def test_updates_and_reports_are_told_apart(clocked, steps, reports, update, report, at_once):
    trainer = clocked(update, report)
    found = measure_pace(trainer, jobs(8, steps, reports), at_once=at_once, seconds=60)
    assert (found.update, found.report) == pytest.approx((update, report), abs=1e-9)
    assert found.interval == pytest.approx(steps // reports * update + report)
    assert (found.updates, found.at_once, found.metrics) == (steps // reports, at_once, ("valid/loss",))
    assert trainer.most == at_once
    assert not trainer.open


def test_trainings_that_report_after_every_update(clocked):
    found = measure_pace(clocked(0.01, 0.05), jobs(2, 8, 8), at_once=1)
    assert found.interval == pytest.approx(0.06)


def test_little_time_is_kept_to(clocked):
    trainer = clocked(0.5, 2.0)
    found = measure_pace(trainer, jobs(4, 10_000, 20), at_once=1, seconds=5)
    assert trainer.now - 100 < 5 + 3 * 3.0 + 20
    assert found.interval >= 500 * 0.5 + 2.0 - 1e-9  # too much rather than too little


def test_a_trial_that_diverges_is_timed_with_lower_lrs(clocked):
    trainer = clocked(1e-3, 1e-2)
    found = measure_pace(trainer, jobs(2, 1000, 20, lr=50.0), at_once=2, seconds=60)
    assert (found.update, found.report) == pytest.approx((1e-3, 1e-2))
    assert not trainer.open
    hopeless = measure_pace(clocked(1e-3, 1e-2), jobs(2, 1000, 20, lr=5e9), at_once=2, seconds=60)
    assert hopeless.interval >= 50 * 1e-3


def test_a_training_that_fails_is_told(clocked):
    with pytest.raises(InputError, match="a trial fails"):
        measure_pace(clocked(1e-3, 1e-3, fails=True), jobs(1, 100, 4), at_once=1)
