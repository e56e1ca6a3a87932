"""Which of K configurations is best: paired tests on common seeds, at looks that may end it.

Three questions, each with error probability alpha over all looks: which is best, which beat the tuned constant, and
between which ranks each lies. Everything follows from the values in the order of the seeds, so a confirmation that was
interrupted ends like one that was not. docs/guide/trust.md explains the rules; benchmarks/calibration.py counts how
often they are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeper.results.boundaries import nominal_levels
from sweeper.results.paired import Paired, interval, paired
from sweeper.types import Floats

LOOKS = (8, 12, 16, 24, 32, 48, 64)
LEAST = 5  # seeds below which nothing is tested, and after which training that ignores its seed is found out
FUTILE_FROM, FUTILE = 16, 0.10  # seeds from which a winner may be unlikely; conditional power below which it is
TOO_OFTEN = 0.05  # probability of that many divergences below which a configuration diverges too often

EndedBy = Literal["decided", "futility", "margin", "max_seeds", "budget"]
Status = Literal["winner", "tie", "equal", "no_test", "void"]


class State(IntEnum):
    """What became of a training."""

    LACKING = 0
    ENDED = 1
    DIVERGED = 2
    FAILED = 3


class Values(NamedTuple):
    """What K configurations reached on common seeds.

    Attributes:
        value_KS: Objective, lower is better. NaN unless the state is ENDED.
        state_KS: A `State` each.
    """

    value_KS: Floats
    state_KS: NDArray[np.uint8]


@dataclass(frozen=True)
class Rules:
    """What is fixed before the first seed.

    Attributes:
        looks: Numbers of seeds at which the values are looked at, increasing.
        alpha: Error probability of each question.
        allow_divergence: Share of diverging seeds up to which a configuration may win.
        margin: Difference of the objective that does not matter; None: every difference does.
        most_trainings: A look that would exceed this number of trainings is not begun.
        ends_early: Whether it ends when a winner is unlikely. That never raises an error probability.
    """

    looks: tuple[int, ...] = LOOKS
    alpha: float = 0.05
    allow_divergence: float = 0.05
    margin: float | None = None
    most_trainings: int | None = None
    ends_early: bool = True

    def levels(self, comparisons: int = 1) -> tuple[float, ...]:
        """Return the level of each look, if that many comparisons share the error probability."""
        return nominal_levels(self.alpha / comparisons, self.looks)


class Wanted(NamedTuple):
    """Trainings that the next look needs: these configurations up to this number of seeds."""

    configurations: tuple[int, ...]
    seeds: int


@dataclass
class Judgement:
    """What is known after some looks. Configurations are numbered from 0.

    Attributes:
        rules: The rules.
        count: K, the configurations at the start.
        constant: The tuned constant, if it is one of them.
        contenders: The best is among these.
        out: Configurations that another has beaten, with the number of seeds then.
        barred: Configurations that diverge too often, with the number of seeds then.
        failed: Configurations with a training that failed, with the number of seeds then.
        beats: Pairs (better, worse) of which the test said so at any look.
        beats_constant: For each contrast with the constant that is decided: whether the configuration is better.
        trained: Seeds of each configuration at its last look.
        leader: The contender with the lowest mean.
        winner: The best configuration, if there is one.
        is_exact: Whether training ignores its seed, so that differences are exact.
        is_duel: Whether only the leader and the constant go on, because a winner is unlikely.
        ended_by: None while a winner is looked for.
        wanted: What has to be trained for the next look; None when there is none.
    """

    rules: Rules
    count: int
    constant: int | None
    contenders: list[int]
    out: dict[int, int] = field(default_factory=dict)
    barred: dict[int, int] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    beats: set[tuple[int, int]] = field(default_factory=set)
    beats_constant: dict[int, bool] = field(default_factory=dict)
    trained: list[int] = field(default_factory=list)
    leader: int | None = None
    winner: int | None = None
    is_exact: bool = False
    is_duel: bool = False
    ended_by: EndedBy | None = None
    wanted: Wanted | None = None

    @property
    def status(self) -> Status:
        """What was found. "equal" are differences within the margin, or exactly 0."""
        if self.winner is not None:
            return "winner"
        if self.ended_by == "margin" or self.is_exact:
            return "equal"
        if self.count == 1 or max(self.trained) < LEAST:
            return "no_test"
        return "tie" if len(self.contenders) > 1 else "void"

    def is_out_of_play(self, configuration: int) -> bool:
        """Return whether nothing is claimed of it: it diverges too often, or a training failed."""
        return configuration in self.barred or configuration in self.failed

    def is_open(self, configuration: int) -> bool:
        """Return whether its contrast with the constant can still be decided."""
        if self.constant is None or configuration == self.constant:
            return False
        has_values = not self.is_out_of_play(configuration) and not self.is_out_of_play(self.constant)
        return has_values and configuration not in self.beats_constant

    def rank(self, configuration: int) -> tuple[int, int]:
        """Return the best and the worst rank it may have, from 1. The winner has beaten all others."""
        if configuration == self.winner:
            return 1, 1
        beaten_by = {better for better, worse in self.beats if worse == configuration}
        beats = sum(better == configuration for better, _ in self.beats)
        return 1 + len(beaten_by | ({self.winner} - {None})), self.count - beats

    def common_seeds(self, a: int, b: int) -> int:
        """Return the number of seeds at the last look that had both."""
        return min(self.trained[a], self.trained[b])

    def level(self, seeds: int, comparisons: int = 1) -> float:
        """Return the level of the look at that many seeds."""
        return self.rules.levels(comparisons)[self.rules.looks.index(seeds)]


def judge(values: Values, rules: Rules, constant: int | None) -> Judgement:
    """Go through the looks as far as the values reach.

    Args:
        values: Values of K configurations.
        rules: The rules.
        constant: The tuned constant; None if it is not among them.

    Returns:
        A judgement that has ended, or that says what it wants to be trained.
    """
    count = len(values.value_KS)
    now = Judgement(rules, count, constant, list(range(count)), trained=[0] * count)
    if count > 1 and rules.looks[0] >= LEAST:
        now.wanted = _lacking(values, now.contenders, LEAST)
        if now.wanted is None and _ignores_seeds(values):
            _end_exact(now, values)
        if now.wanted or now.ended_by:
            return now
    for seeds in rules.looks:
        active = _active(now)
        cost = sum(now.trained) + sum(seeds - now.trained[k] for k in active)
        if rules.most_trainings is not None and cost > rules.most_trainings:
            now.ended_by = now.ended_by or "budget"
            break
        now.wanted = _lacking(values, active, seeds)
        if now.wanted:
            break
        _Look(now, values, active, seeds).take()
        if now.ended_by and not now.is_duel:
            break
    return now


def difference(values: Values, a: int, b: int, seeds: int) -> Floats:
    """Return value a minus value b on the first seeds. NaN where one of them did not end."""
    return values.value_KS[a, :seeds] - values.value_KS[b, :seeds]


def _active(now: Judgement) -> list[int]:
    """Return who is trained on: the contenders, and the constant while one of them may beat it."""
    if now.constant is None:
        return now.contenders
    contenders = [now.leader] if now.is_duel and now.leader is not None else now.contenders
    return sorted({*contenders, *([now.constant] if any(map(now.is_open, contenders)) else [])})


def _lacking(values: Values, configurations: Sequence[int], seeds: int) -> Wanted | None:
    """Return these configurations if one of them lacks a training."""
    state_KS = values.state_KS[:, :seeds]
    if state_KS.shape[1] == seeds and (state_KS[configurations] != State.LACKING).all():
        return None
    return Wanted(tuple(configurations), seeds)


def _ignores_seeds(values: Values) -> bool:
    """Return whether all differences between configurations are the same on each of the first seeds."""
    value_KS, state_KS = values.value_KS[:, :LEAST], values.state_KS[:, :LEAST]
    if not (state_KS == State.ENDED).all():
        return False
    difference_KS = value_KS - value_KS[0]
    return bool((difference_KS == difference_KS[:, :1]).all())


def _end_exact(now: Judgement, values: Values) -> None:
    """Order by value: every difference is exact."""
    value_K = values.value_KS[:, 0]
    now.trained, now.is_exact, now.ended_by = [LEAST] * now.count, True, "decided"
    now.contenders = [int(k) for k in np.flatnonzero(value_K == value_K.min())]
    now.leader = now.contenders[0]
    now.out = {k: LEAST for k in range(now.count) if k not in now.contenders}
    now.beats = {(a, b) for a in range(now.count) for b in range(now.count) if value_K[a] < value_K[b]}
    now.winner = now.leader if len(now.contenders) == 1 else None
    if now.constant is not None:
        different = np.flatnonzero(value_K != value_K[now.constant])
        now.beats_constant = {int(k): bool(value_K[k] < value_K[now.constant]) for k in different}


class _Look:
    """One look at the values of those that are trained on."""

    def __init__(self, now: Judgement, values: Values, active: Sequence[int], seeds: int) -> None:
        self._now, self._values, self._active, self._seeds = now, values, active, seeds
        value_AS = values.value_KS[active, :seeds]
        pairs = paired(value_AS[:, None] - value_AS)
        place = {k: place for place, k in enumerate(active)}
        self._mean = {(a, b): float(pairs.mean[place[a], place[b]]) for a in active for b in active}
        self._p = {(a, b): float(pairs.p[place[a], place[b]]) for a in active for b in active}

    def take(self) -> None:
        """Answer the questions as far as these values do, and say whether that ends it."""
        now = self._now
        for k in self._active:
            now.trained[k] = self._seeds
        self._bar()
        if not now.is_duel:
            self._compare()
            self._crown()
        elif now.leader not in now.contenders:
            now.leader = min(now.contenders, key=self._mean_of, default=None)
        self._compare_with_constant()
        if now.is_duel:
            now.is_duel = self._duel_goes_on()
        elif now.ended_by is None:
            now.ended_by = self._ending()
            now.is_duel = now.ended_by == "futility" and self._duel_goes_on()

    @property
    def _leader(self) -> int:
        assert self._now.leader is not None
        return self._now.leader

    def _level(self, comparisons: int = 1) -> float:
        return self._now.level(self._seeds, comparisons)

    def _bar(self) -> None:
        """Take those out of play that failed, or that diverge too often."""
        now, state_KS = self._now, self._values.state_KS[:, : self._seeds]
        for k in self._active:
            diverged = int((state_KS[k] == State.DIVERGED).sum())
            if (state_KS[k] == State.FAILED).any():
                now.failed.setdefault(k, self._seeds)
            elif diverged and _chance(diverged, self._seeds, now.rules.allow_divergence) < TOO_OFTEN:
                now.barred.setdefault(k, self._seeds)
        now.contenders = [k for k in now.contenders if not now.is_out_of_play(k)]

    def _compare(self) -> None:
        """Note who beats whom, and take out the contenders that a contender beats."""
        now = self._now
        if now.count == 1:
            return
        level = self._level(now.count - 1)
        able = [k for k in self._active if not now.is_out_of_play(k)]
        beaten = {(a, b) for a in able for b in able if self._mean[a, b] < 0 and self._p[a, b] <= level}
        now.beats |= beaten
        for k in [b for a, b in sorted(beaten) if a in now.contenders and b in now.contenders]:
            now.out.setdefault(k, self._seeds)
        now.contenders = [k for k in now.contenders if k not in now.out]

    def _crown(self) -> None:
        """Name the leader, and the winner if it beats each contender left, or the last others were beaten just now."""
        now = self._now
        now.leader = min(now.contenders, key=self._mean_of, default=None)
        others = [k for k in now.contenders if k != now.leader]
        was_beaten = self._seeds in now.out.values()
        if not others and not was_beaten:  # none is left, or the last others were barred
            now.ended_by = "decided"
        elif all(self._mean[self._leader, k] < 0 and self._p[self._leader, k] <= self._level() for k in others):
            now.winner, now.ended_by = now.leader, "decided"

    def _mean_of(self, configuration: int) -> float:
        return float(np.nanmean(self._values.value_KS[configuration, : self._now.trained[configuration]]))

    def _compare_with_constant(self) -> None:
        """Decide contrasts with the constant: Holm's procedure, in which decided ones stay decided."""
        now = self._now
        constant = now.constant
        if constant is None or now.is_out_of_play(constant):
            return
        undecided = now.count - 1 - len(now.beats_constant)
        testable = [k for k in self._active if now.is_open(k)] if constant in self._active else []
        for k in sorted(testable, key=lambda k: self._p[k, constant]):
            if self._p[k, constant] > self._level(undecided):
                break
            now.beats_constant[k] = self._mean[k, constant] < 0
            undecided -= 1
        if now.winner is not None and now.is_open(now.winner):
            now.beats_constant[now.winner] = True

    def _ending(self) -> EndedBy | None:
        """Return what ends it without a winner."""
        now = self._now
        others = [k for k in now.contenders if k != now.leader]
        if now.rules.margin is not None and all(self._is_within(now.rules.margin, k) for k in others):
            return "margin"
        if self._seeds == now.rules.looks[-1]:
            return "max_seeds"
        if now.rules.ends_early and self._seeds >= FUTILE_FROM:
            p = max(self._p[self._leader, k] for k in others)
            if self._power(p, now.rules.levels()[-1]) < FUTILE:
                return "futility"
        return None

    def _is_within(self, margin: float, other: int) -> bool:
        test = Paired(*(part[()] for part in paired(difference(self._values, self._leader, other, self._seeds))))
        return max(map(abs, interval(test, self._level()))) <= margin

    def _duel_goes_on(self) -> bool:
        """Return whether the leader's contrast with the constant is open, and more seeds may decide it."""
        now = self._now
        if now.leader is None or now.constant is None or not now.is_open(now.leader):
            return False
        if (now.leader, now.constant) not in self._p or self._seeds == now.rules.looks[-1]:
            return False
        undecided = now.count - 1 - len(now.beats_constant)
        return self._power(self._p[now.leader, now.constant], now.rules.levels(undecided)[-1]) >= FUTILE

    def _power(self, p: float, last_level: float) -> float:
        """Return the conditional power: the probability that p reaches the last look's level if the trend goes on.

        Source:
            J. M. Lachin, A review of methods for futility stopping based on conditional power, 2005.
        """
        from scipy.special import ndtr, ndtri

        share = self._seeds / self._now.rules.looks[-1]
        z, critical = -ndtri(p / 2), -ndtri(last_level / 2)
        return float(ndtr(-(critical - z / math.sqrt(share)) / math.sqrt(1 - share)))


def _chance(diverged: int, seeds: int, share: float) -> float:
    """Return the probability that so many seeds or more diverge, if each does with probability `share`."""
    from scipy.stats import binom

    return float(binom.sf(diverged - 1, seeds, share))
