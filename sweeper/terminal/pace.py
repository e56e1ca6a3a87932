"""The speed of a sweep and its remaining time, from the reports so far and how many trials end early."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

Clock = Callable[[], float]

WINDOW = 120.0  # seconds over which the pace is measured; longer if a round takes longer
SPACING = 1.0  # seconds between two marks at least


class Pace:
    """Reports per second, in total and by study, over the last two minutes or one round, whichever is longer.

    Reports may arrive one by one or a whole round at once. So the pace is measured from the oldest mark in the window
    to the last report, never to now.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.marks: deque[tuple[float, Counter[str]]] = deque([(clock(), Counter())])

    def tick(self, study: str) -> None:
        """Count a report."""
        now = self.clock()
        self.counts[study] += 1
        if now - self.marks[-1][0] >= SPACING:
            self.marks.append((now, self.counts.copy()))
        else:
            self.marks[-1] = (self.marks[-1][0], self.counts.copy())
        while len(self.marks) > 2 and self.marks[1][0] <= now - WINDOW:
            self.marks.popleft()

    def rate(self, study: str | None = None) -> float:
        """Return reports per second, of one study or in total; 0 until there is data."""
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        if end <= start:
            return 0.0
        return (after[study] - before[study] if study else after.total() - before.total()) / (end - start)

    def seconds_since_report(self) -> float:
        """Return the seconds since the last report."""
        return self.clock() - self.marks[-1][0]


def expected_reports(passed: Mapping[int, int], stopped: Mapping[int, int], reports: int) -> list[float]:
    """Return how many more reports to expect of an open trial, by the number of reports it has made.

    Open trials count up to where they are, so the first trials that end early do not make all seem short. Without data,
    trials are expected to reach the end.

    Args:
        passed: Trials that reached each number of reports.
        stopped: Trials that ended early there: pruned, diverged or failed.
        reports: Reports of a whole trial.

    Returns:
        Expected further reports after 0, 1, ..., `reports` reports.

    Source:
        The product-limit estimator: Kaplan and Meier, 1958.
    """
    more = [0.0] * (reports + 1)
    for made in reversed(range(reports)):
        reached = passed.get(made + 1, 0)
        survival = 1 - stopped.get(made + 1, 0) / reached if reached else 1.0
        more[made] = 1 + survival * more[made + 1]
    return more


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
