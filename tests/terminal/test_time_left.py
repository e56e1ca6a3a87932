"""The time left of simulated sweeps, whose true end is known: it is honest from the first half minute on."""

from dataclasses import dataclass

import numpy as np
import pytest

from sweeper.terminal import Tally, Terms
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

REPORTS, CONCURRENT = 20, 8
STEPS = tuple(range(10, 10 * REPORTS + 1, 10))
HONEST = 1.5  # factor between the time left that is shown and the true one
FROM = 30.0  # seconds since the start


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def median(values, report, ended):
    """Prune as `pruner=median` does: worse than the median of the complete trials, after 4 reports."""
    return report >= 4 and len(ended) >= 5 and values[report] > np.median([one[report] for one in ended])


def halving(values, report, ended, seen):
    """Prune as successive halving does: of those that reached reports 1, 4 and 16, a quarter goes on."""
    if report + 1 not in (1, 4, 16):
        return False
    seen.setdefault(report, []).append(values[report])
    return len(seen[report]) >= 4 and values[report] > np.quantile(seen[report], 0.25)


@dataclass
class Simulated:
    """A sweep of constant speed and the size of the default one. Each round makes one report of every open trial.

    Attributes:
        rate: Reports per second.
        startup: Seconds before the training begins.
        burst: Whether the reports of a round arrive together at its end, as those of lanes do, else one by one.
        pruner: "none", "median" or "halving".
        families: Number of families.
        trials: Of each family.
        diverges: Share of the trials that diverge at their first report.
    """

    rate: float = 20.0
    startup: float = 0.0
    burst: bool = False
    pruner: str = "none"
    families: int = 8
    trials: int = 20
    diverges: float = 0.0

    def shown(self, every=2.0):
        """Return (seconds since the start, time left that was shown) for each second, and when it ended."""
        clock, rng = Clock(), np.random.default_rng(0)
        studies = [f"f{k}" for k in range(self.families)]
        progress = [Progress(name, name, self.trials, {}) for name in studies]
        tally = Tally(progress, Terms(REPORTS, "minimize", prunes=self.pruner != "none"), clock=clock)
        start, seen = clock.now, []

        def advance(seconds):
            goal = clock.now + seconds
            while (due := start + every * (len(seen) + 1)) <= goal:
                clock.now = due
                seen.append((due - start, tally.rows()[-1].left))
            clock.now = goal

        open_trials, asked, ended = {}, dict.fromkeys(studies, 0), {s: [] for s in studies}
        rungs = {s: {} for s in studies}
        is_first = True
        while True:
            for s in studies:
                while asked[s] < self.trials and sum(trial.study == s for trial in open_trials) < CONCURRENT:
                    trial, asked[s] = TrialId(s, asked[s]), asked[s] + 1
                    curve = 5 / np.sqrt(np.arange(1, REPORTS + 1)) + rng.normal() + rng.normal(0, 0.1, REPORTS)
                    open_trials[trial] = (curve, rng.random() < self.diverges)
                    tally.open([Job(JobId(s, trial.trial, 0), s, {}, 0, np.ones(STEPS[-1]), STEPS)])
            if not open_trials:
                return seen, clock.now - start
            if is_first:
                advance(self.startup)
                is_first = False
            made = {trial: tally.studies[trial.study].open[trial.trial] for trial in open_trials}
            made = {trial: next(iter(of_trial.values())) for trial, of_trial in made.items()}
            if self.burst:
                advance(len(made) / self.rate)
            reports = []
            for trial, before in made.items():
                if not self.burst:
                    advance(1 / self.rate)
                report = Report(JobId(*trial, 0), STEPS[before], {}, {"valid/loss": open_trials[trial][0][before]}, 0.0)
                tally.arrived(report)
                reports.append(report)
            tally.append(reports)
            for trial, before in made.items():
                curve, bad = open_trials[trial]
                state = self._state(curve, bad, before, ended[trial.study], rungs[trial.study])
                if state != "running":
                    tally.close(Ending(trial, state, STEPS[before], curve[-1] if state == "complete" else None))
                    del open_trials[trial]
                if state == "complete":
                    ended[trial.study].append(curve)

    def _state(self, curve, bad, before, ended, rungs):
        if bad:
            return "diverged"
        if before + 1 == REPORTS:
            return "complete"
        pruned = (self.pruner == "median" and median(curve, before, ended)) or (
            self.pruner == "halving" and halving(curve, before, ended, rungs)
        )
        return "pruned" if pruned else "running"


def wrong(simulated):
    """The seconds at which the time left that was shown is not honest, with that time and the true one.

    The last 3% are left out: which of the last trials is pruned cannot be foreseen.
    """
    seen, end = simulated.shown()
    return [
        (at, left, end - at)
        for at, left in seen
        if at >= FROM and end - at > 0.03 * end and left is not None and not 1 / HONEST < left / (end - at) < HONEST
    ]


def first_said(simulated):
    seen, _ = simulated.shown()
    return next(at for at, left in seen if left is not None)


@pytest.mark.parametrize("burst", [False, True])
@pytest.mark.parametrize("startup", [0.0, 24.0, 90.0])
@pytest.mark.parametrize("diverges", [0.0, 0.2])
@pytest.mark.parametrize("pruner", ["none", "median"])
def test_the_time_left_is_honest_after_half_a_minute(burst, startup, diverges, pruner):
    assert wrong(Simulated(15.0, startup, burst, pruner, diverges=diverges)) == []


@pytest.mark.parametrize("burst", [False, True])
def test_with_successive_halving_it_is_honest_once_its_rungs_were_reached(burst):
    """Before that, nothing tells how many trials end there."""
    assert wrong(Simulated(15.0, burst=burst, pruner="halving")) == []


@pytest.mark.parametrize(("burst", "after"), [(False, 8.0), (True, 12.0)])
def test_it_is_said_soon_after_the_start_up_and_never_before(burst, after):
    for startup in (0.0, 24.0, 90.0):
        assert startup < first_said(Simulated(20.0, startup, burst)) <= startup + after
