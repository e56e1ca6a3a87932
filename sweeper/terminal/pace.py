"""The speed of a sweep and its remaining time, from the reports so far and how many trials end early."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Clock = Callable[[], float]

WINDOW = 120.0  # seconds over which the pace is measured; longer if a round takes longer
PRIOR_TRIALS = 8  # weight of what is expected of later trials
SPACING = 1.0  # seconds between two marks at least
STREAM = 5  # marks after the first that show a steady stream of reports, though no job has reported twice
SILENCE = 2.0  # longest gap between two marks, after which reports are no stream but come in rounds


class Pace:
    """Reports per second, in total and by study, over the last two minutes or one round, whichever is longer.

    Reports may arrive one by one or a whole round at once. So the pace is measured from the oldest mark in the window
    to the last report, never to now. The time before the first report is not counted: it has the start of processes,
    probes and compilation. There is no pace until a round is over (a job has reported twice), or reports have come in
    a steady stream.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.marks: deque[tuple[float, Counter[str]]] = deque()
        self._jobs: set[Hashable] = set()  # that have reported
        self._had_round = False

    def tick(self, study: str, job: Hashable) -> None:
        """Count a report of a job."""
        now = self.clock()
        self.counts[study] += 1
        if not self.marks or now - self.marks[-1][0] >= SPACING:
            self.marks.append((now, self.counts.copy()))
        else:
            self.marks[-1] = (self.marks[-1][0], self.counts.copy())
        while len(self.marks) > 2 and self.marks[1][0] <= now - WINDOW:
            self.marks.popleft()
        if not self._had_round:
            self._had_round = job in self._jobs and len(self.marks) > 1
            self._jobs.add(job)

    @property
    def is_known(self) -> bool:
        """Whether there is enough to measure the pace from."""
        if self._had_round:
            return True
        gaps = [after[0] - before[0] for before, after in pairwise(self.marks)]
        return len(gaps) >= STREAM and self.seconds_since_report() <= SILENCE * max(gaps)

    def rate(self, study: str | None = None) -> float:
        """Return reports per second, of one study or in total; 0 until it is known."""
        if not self.is_known:
            return 0.0
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        return (after[study] - before[study] if study else after.total() - before.total()) / (end - start)

    def seconds_since_report(self) -> float:
        """Return the seconds since the last report; 0 before the first."""
        return self.clock() - self.marks[-1][0] if self.marks else 0.0


@dataclass(frozen=True)
class Survival:
    """How many trials reached each number of reports, and how many of them ended early there.

    Attributes:
        passed: Trials that reached each number of reports.
        stopped: Trials that were pruned, diverged or failed there.
    """

    passed: Counter[int] = field(default_factory=Counter)
    stopped: Counter[int] = field(default_factory=Counter)

    def hazards(self, reports: int, prior: Sequence[float] = ()) -> list[float]:
        """Return the share of trials that end early at 1, 2, ..., `reports` reports.

        Args:
            reports: Reports of a whole trial.
            prior: Shares that were expected before any of these trials; they count as much as PRIOR_TRIALS trials.
        """
        weight, expected = (PRIOR_TRIALS, prior) if prior else (0, [0.0] * reports)
        counts = [(self.stopped.get(made, 0), self.passed.get(made, 0)) for made in range(1, reports + 1)]
        return [
            (stopped + weight * before) / (passed + weight) if passed + weight else 0.0
            for (stopped, passed), before in zip(counts, expected, strict=True)
        ]


def expected_reports(hazard_R: Sequence[float]) -> list[float]:
    """Return how many more reports to expect of an open trial, by the number of reports it has made.

    Open trials count up to where they are, so the first trials that end early do not make all seem short. Without data,
    trials are expected to reach the end.

    Args:
        hazard_R: Share of the trials with 1, 2, ..., R reports that end early there. R are those of a whole trial.

    Returns:
        Expected further reports after 0, 1, ..., R reports.

    Source:
        The product-limit estimator: Kaplan and Meier, 1958.
    """
    more = [0.0] * (len(hazard_R) + 1)
    for made in reversed(range(len(hazard_R))):
        more[made] = 1 + (1 - hazard_R[made]) * more[made + 1]
    return more


def late_prior(early: Sequence[float], prunes: bool) -> list[float]:
    """Return the shares that are expected to end early of trials that are opened after complete ones.

    Pruners compare with complete trials, so the first trials do not tell how many of the later ones are pruned. With a
    pruner one in R of them is expected to end at each of R reports, so that they make 64% of their reports together. In
    the default sweep 84 such trials made 63%.

    Args:
        early: Shares of the first trials.
        prunes: Whether there is a pruner.
    """
    return [max(hazard, 1 / len(early)) if prunes else hazard for hazard in early]


def remaining_times(work_K: Sequence[float], share_K: Sequence[float], rate: float) -> list[float]:
    """Return the seconds until each study is finished.

    Studies advance together, in proportion to their shares. A finished study leaves its part of the rate to the others.

    Args:
        work_K: Remaining reports of each study.
        share_K: Share of each study in the total rate.
        rate: Reports per second in total.
    """
    seconds_K = [0.0] * len(work_K)
    now, turns_done, weight = 0.0, 0.0, sum(share_K)
    for k in sorted(range(len(work_K)), key=lambda k: work_K[k] / share_K[k]):
        turns = work_K[k] / share_K[k]
        now += (turns - turns_done) * weight / rate
        seconds_K[k], turns_done, weight = now, turns, weight - share_K[k]
    return seconds_K
