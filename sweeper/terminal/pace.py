"""How fast a sweep goes, and how long it will still take: from the reports so far, and what they say of pruning."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

Clock = Callable[[], float]

WINDOW = 120.0  # seconds over which the pace is measured, longer where a round takes longer
SPACING = 1.0  # seconds between two marks of the pace


class Pace:
    """Reports a second, all and of each study, over the last two minutes or one round, whichever is longer.

    Reports may come one by one or a round at a time, so the pace is taken between marks: from the oldest mark in
    the window to the last report, never to now.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.marks: deque[tuple[float, Counter[str]]] = deque([(clock(), Counter())])

    def tick(self, study: str) -> None:
        now = self.clock()
        self.counts[study] += 1
        if now - self.marks[-1][0] >= SPACING:
            self.marks.append((now, self.counts.copy()))
        else:
            self.marks[-1] = (self.marks[-1][0], self.counts.copy())
        while len(self.marks) > 2 and self.marks[1][0] <= now - WINDOW:
            self.marks.popleft()

    def rate(self, study: str | None = None) -> float:
        """Reports a second, of one study or all; 0 until there is data."""
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        if end <= start:
            return 0.0
        return (after[study] - before[study] if study else after.total() - before.total()) / (end - start)

    def seconds_since_report(self) -> float:
        """Seconds since the last report."""
        return self.clock() - self.marks[-1][0]


def expected_reports(passed: Mapping[int, int], stopped: Mapping[int, int], reports: int) -> list[float]:
    """E[p], p = 0 .. reports: how many more reports a trial makes that has made p and goes on.

    passed[p]: trials that were seen with p reports; stopped[p]: those of them that were ended there, pruned,
    diverged or failed. The product-limit estimator (Kaplan and Meier 1958): trials still open count up to where
    they are, so the first ones to be stopped do not make all look short. Nothing known: all go on to the end.
    """
    more = [0.0] * (reports + 1)
    for made in reversed(range(reports)):
        seen = passed.get(made + 1, 0)
        goes_on = 1 - stopped.get(made + 1, 0) / seen if seen else 1.0
        more[made] = 1 + goes_on * more[made + 1]
    return more


def remaining_times(work_K: Sequence[float], share_K: Sequence[float], rate: float) -> list[float]:
    """Seconds until each study is done, its work counted in reports, `rate` reports a second in all.

    All advance side by side, in proportion to their share; a study that is done leaves its part to the others.
    """
    seconds_K = [0.0] * len(work_K)
    now, turns_done, weight = 0.0, 0.0, sum(share_K)
    for k in sorted(range(len(work_K)), key=lambda k: work_K[k] / share_K[k]):
        turns = work_K[k] / share_K[k]
        now += (turns - turns_done) * weight / rate
        seconds_K[k], turns_done, weight = now, turns, weight - share_K[k]
    return seconds_K
