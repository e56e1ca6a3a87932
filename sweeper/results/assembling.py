"""The verdict of a confirmation from the values of its trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.results.judging import Judgement, Rules, State, Values, difference, judge
from sweeper.results.paired import interval, is_skewed, paired
from sweeper.results.verdict import (
    SCHEMA,
    TUNED_FAMILY,
    Configuration,
    Contrast,
    Decision,
    Difference,
    Divergence,
    Measured,
    Objective,
    Outcome,
    Question,
    Reference,
    Seeds,
    Standing,
    Trained,
    ValueRow,
    Verdict,
)
from sweeper.types import AT, At, Direction, Floats, Value

CONFIDENCE = 0.95  # of the interval of a share that diverges


@dataclass(frozen=True)
class Contestant:
    """A configuration that is judged.

    Attributes:
        family: Its family.
        trial: Its trial in the search.
        params: All its hyperparameters.
        search_value: Objective in the search; NaN if the trial did not end well there.
        choose_mean: Mean on the seeds on which it was chosen; None if its family had one candidate.
        same_as: Trials of other families with the same schedule and numbers.
    """

    family: str
    trial: int
    params: Mapping[str, Value]
    search_value: float
    choose_mean: float | None = None
    same_as: tuple[tuple[str, int], ...] = ()

    @property
    def reference(self) -> Reference:
        return Reference(family=self.family, trial=self.trial)


def values_of(
    rows: Sequence[ValueRow], contestants: Sequence[Contestant], seeds: Sequence[int], direction: Direction
) -> Values:
    """Return the values of the judging stage: the mean over the folds, the sign turned if higher is better.

    A seed is DIVERGED or FAILED if one of its folds is, and LACKING while one is missing.

    Args:
        rows: Trainings. Those of other stages are ignored.
        contestants: K of them.
        seeds: The common list, in the order drawn.
        direction: Of the objective.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    folds = _folds(rows)
    place_of = {(one.family, one.trial): place for place, one in enumerate(contestants)}
    found: dict[tuple[int, int], list[ValueRow]] = {}
    for row in rows:
        place = place_of.get((row["family"], row["trial"]))
        if row["stage"] == "judge" and place is not None:
            found.setdefault((place, row["seed"]), []).append(row)
    value_KS = np.full((len(contestants), len(seeds)), np.nan)
    state_KS = np.full(value_KS.shape, State.LACKING, np.uint8)
    for place in range(len(contestants)):
        for column, seed in enumerate(seeds):
            of_seed = found.get((place, seed), [])
            state_KS[place, column] = _state(of_seed, folds)
            if state_KS[place, column] == State.ENDED:
                value_KS[place, column] = sign * math.fsum(row["value"] or 0.0 for row in of_seed) / folds
    return Values(value_KS, state_KS)


def _folds(rows: Sequence[ValueRow]) -> int:
    return len({row["fold"] for row in rows}) or 1


def _state(of_seed: Sequence[ValueRow], folds: int) -> State:
    states = {row["state"] for row in of_seed}
    if "failed" in states:
        return State.FAILED
    if len(of_seed) < folds or "running" in states:
        return State.LACKING
    return State.DIVERGED if "diverged" in states else State.ENDED


@dataclass(frozen=True)
class Confirmation:
    """Everything that a verdict follows from.

    Attributes:
        sweep: The sweep's name.
        seed: `confirm.seed`.
        objective: Of the sweep.
        rules: Of the judging stage.
        contestants: The configurations that are judged.
        left_out: Configurations that are not confirmed, because the budget has no place for them.
        default_lr: The optimizer's default LR, which is trained on the first seeds and is no contestant.
        seeds: The lists, in the order drawn.
        rows: All trainings.
        searched: Trainings of the search.
        families_added: Families that were added after a first verdict.
    """

    sweep: str
    seed: int
    objective: Objective
    rules: Rules
    contestants: tuple[Contestant, ...]
    seeds: Seeds
    rows: tuple[ValueRow, ...]
    searched: int
    left_out: tuple[Contestant, ...] = ()
    default_lr: Contestant | None = None
    families_added: tuple[str, ...] = ()

    @property
    def constant(self) -> int | None:
        """The place of the tuned constant among the contestants."""
        families = [{one.family, *(family for family, _ in one.same_as)} for one in self.contestants]
        return next((place for place, names in enumerate(families) if TUNED_FAMILY in names), None)

    def values(self, contestants: Sequence[Contestant]) -> Values:
        return values_of(self.rows, contestants, self.seeds["judge"], self.objective["direction"])

    def judge(self) -> Judgement:
        """Return what is known so far, and what is wanted next."""
        return judge(self.values(self.contestants), self.rules, self.constant)

    @property
    def test_metric(self) -> str:
        """The objective's metric, measured on the test part."""
        return f"test/{self.objective['metric'].rpartition('/')[2]}"

    def measured_by(self, measure: Callable[[ValueRow], float | None]) -> Values:
        """Return the values of the contestants by another measure. Trainings without it count as not there."""
        rows: list[ValueRow] = []
        for row in self.rows:
            value = measure(row) if row["state"] == "complete" else None
            if value is not None or row["state"] != "complete":
                rows.append({**row, "value": value})
        return values_of(rows, self.contestants, self.seeds["judge"], self.objective["direction"])

    def by_rule(self, rule: At) -> Values:
        """Return the values of the contestants by a rule of `objective.at`."""
        return self.measured_by(lambda row: row.get("by_rule", {}).get(rule))


def verdict_of(confirmation: Confirmation, notes: Sequence[str] = ()) -> Verdict:
    """Return the verdict, also of a confirmation that was interrupted. Its sentence is still empty."""
    now, rules = confirmation.judge(), confirmation.rules
    parts = _Assembly(confirmation, now)
    stages = [row["stage"] for row in confirmation.rows]
    verdict = Verdict(
        schema=SCHEMA,
        sweep=confirmation.sweep,
        confirm_seed=confirmation.seed,
        objective=confirmation.objective,
        status=now.status,
        ended_by="interrupted" if now.wanted or now.ended_by is None else now.ended_by,
        exact=now.is_exact,
        alpha=rules.alpha,
        n_max=rules.looks[-1],
        looks=list(rules.looks),
        level="configuration",
        winner=parts.reference(now.winner),
        leader=parts.reference(now.leader),
        among_best=[confirmation.contestants[place].reference for place in parts.among_best()],
        beats_constant=parts.beats_constant,
        sentence="",
        notes=list(notes),
        trained=Trained(
            choose=stages.count("choose"),
            judge=stages.count("judge"),
            total=len(stages),
            search=confirmation.searched,
        ),
        seeds=confirmation.seeds,
        configurations=[*parts.configurations(), *parts.unconfirmed()],
        contrasts=[*parts.contrasts(), *parts.default_contrast()],
        values=list(confirmation.rows),
        folds=_folds(confirmation.rows),
        test_metric=confirmation.test_metric,
        test_leader=parts.test_leader(),
        other_rules=parts.other_rules(),
    )
    if confirmation.families_added:
        verdict["families_added"] = list(confirmation.families_added)
    return verdict


class _Assembly:
    """The parts of a verdict."""

    def __init__(self, confirmation: Confirmation, judgement: Judgement) -> None:
        self._confirmation, self._now = confirmation, judgement
        self._contestants = confirmation.contestants
        self._values = confirmation.values(self._contestants)
        self._sign = 1.0 if confirmation.objective["direction"] == "minimize" else -1.0

    def reference(self, place: int | None) -> Reference | None:
        return None if place is None else self._contestants[place].reference

    @property
    def beats_constant(self) -> bool | None:
        """Whether the leader was shown to beat the constant; None if that cannot be asked."""
        now = self._now
        if now.constant is None or now.is_out_of_play(now.constant) or now.leader is None or now.status == "no_test":
            return None
        return now.beats_constant.get(now.leader, False)

    def order(self) -> list[int]:
        """Return the order of the table: contenders first, then by mean, those without one last."""
        now = self._now

        def key(place: int) -> tuple[bool, float]:
            mean = self._mean(place)
            return place not in now.contenders, math.inf if mean is None else self._sign * mean

        return sorted(range(now.count), key=key)

    def among_best(self) -> list[int]:
        """Return the winner, or those among which the best is."""
        now = self._now
        return [place for place in self.order() if place in now.contenders] if now.winner is None else [now.winner]

    def configurations(self) -> list[Configuration]:
        """Return the rows of the table."""
        return [self._configuration(place) for place in self.order()]

    def contrasts(self) -> list[Contrast]:
        """Return the leader against each other, and each against the constant."""
        now, found = self._now, []
        if now.leader is not None:
            found += [self._contrast(now.leader, k, "best") for k in self.order() if k != now.leader]
        if now.constant is not None:
            found += [self._contrast(k, now.constant, "constant") for k in self.order() if k != now.constant]
        return [contrast for contrast in found if contrast["look"] > 0]

    def default_contrast(self) -> list[Contrast]:
        """Return the leader against the optimizer's default LR, with a plain interval; nothing if there is none."""
        default, now = self._confirmation.default_lr, self._now
        if default is None or now.leader is None:
            return []
        values = self._confirmation.values([self._contestants[now.leader], default])
        seeds = min(now.trained[now.leader], int((values.state_KS[1] != State.LACKING).sum()))
        if not seeds:
            return []
        return [
            Contrast(
                **measured(difference(values, 0, 1, seeds), self._confirmation.rules.alpha, self._sign),
                a=self._contestants[now.leader].reference,
                b=default.reference,
                question="default_lr",
                decision="not decided",
                look=seeds,
                gain_share=None,
            )
        ]

    def test_leader(self) -> Reference | None:
        """Return the best by the objective's metric on the test part; None without a test part."""
        metric = self._confirmation.test_metric
        values = self._confirmation.measured_by(lambda row: row.get("test", {}).get(metric))
        return self.reference(self._leader_by(values))

    def other_rules(self) -> dict[At, Outcome]:
        """Return what would have been found with each other rule of `objective.at`, as far as these seeds tell."""
        confirmation, at = self._confirmation, self._confirmation.objective["at"]
        # Of folds, rules are known of the median, and a value is the mean. Such a difference is no rule's doing.
        if self._leader_by(confirmation.by_rule(at)) != self._now.leader:
            return {}
        outcomes: dict[At, Outcome] = {}
        for rule in AT:
            values = confirmation.by_rule(rule)
            leader = self._leader_by(values)
            if rule != at and leader is not None:
                winner = judge(values, confirmation.rules, confirmation.constant).winner
                outcomes[rule] = Outcome(leader=self._contestants[leader].reference, winner=self.reference(winner))
        return outcomes

    def _leader_by(self, values: Values) -> int | None:
        """Return the best by other values, each compared with the leader on the seeds that both have."""
        now = self._now
        if now.leader is None:
            return None
        in_play = [k for k in range(now.count) if not now.is_out_of_play(k)]
        differences = {k: difference(values, k, now.leader, now.common_seeds(k, now.leader)) for k in in_play}
        means = {k: float(paired(difference_S).mean) for k, difference_S in differences.items()}
        known = {k: mean for k, mean in means.items() if not math.isnan(mean)}
        return min(known, key=lambda k: (known[k], k != now.leader)) if now.leader in known else None

    def unconfirmed(self) -> list[Configuration]:
        """Return the rows of the configurations that are not confirmed under another name, the best search first."""
        confirmed = {name for one in self._contestants for name in one.same_as}
        left_out = [one for one in self._confirmation.left_out if (one.family, one.trial) not in confirmed]
        left_out.sort(key=lambda one: self._sign * one.search_value)
        return [
            Configuration(
                **one.reference,
                same_as=[],
                params=dict(one.params),
                search_value=_number(one.search_value),
                choose_mean=None,
                n=0,
                mean=None,
                sd=None,
                diverged=_divergence(np.empty(0, np.uint8)),
                rank=None,
                status="not confirmed",
                out_at_look=None,
                barred=False,
                test=None,
                error=None,
            )
            for one in left_out
        ]

    def _configuration(self, place: int) -> Configuration:
        one, now = self._contestants[place], self._now
        seeds = now.trained[place]
        ended_S = self._values.value_KS[place, :seeds]
        ended_S = ended_S[~np.isnan(ended_S)]
        return Configuration(
            **one.reference,
            same_as=[Reference(family=family, trial=trial) for family, trial in one.same_as],
            params=dict(one.params),
            search_value=_number(one.search_value),
            choose_mean=_number(one.choose_mean),
            n=seeds,
            mean=self._mean(place),
            sd=_number(float(ended_S.std(ddof=1))) if len(ended_S) > 1 else None,
            diverged=_divergence(self._values.state_KS[place, :seeds]),
            rank=None if now.status == "no_test" else list(now.rank(place)),
            status=self._standing(place),
            out_at_look=self._out_at(place),
            barred=place in now.barred,
            test=self._test(place),
            error=self._error(place),
        )

    def _judged(self, place: int) -> list[ValueRow]:
        """Return the trainings of a configuration on the seeds that it is judged by."""
        reference, seeds = self._contestants[place].reference, self._confirmation.seeds["judge"]
        judged_by = seeds[: self._now.trained[place]]
        of_stage = [row for row in self._confirmation.rows if row["stage"] == "judge" and row["seed"] in judged_by]
        return [row for row in of_stage if row["family"] == reference["family"] and row["trial"] == reference["trial"]]

    def _test(self, place: int) -> dict[str, Measured] | None:
        of_seed = {row["seed"]: row.get("test", {}) for row in self._judged(place)}  # folds have equal ones
        names = list(dict.fromkeys(name for metrics in of_seed.values() for name in metrics))
        found = {name: _measured([metrics.get(name) for metrics in of_seed.values()]) for name in names}
        return {name: one for name, one in found.items() if one is not None} or None

    def _error(self, place: int) -> str | None:
        return next((row.get("reason") for row in self._judged(place) if row["state"] == "failed"), None)

    def _mean(self, place: int) -> float | None:
        value_S = self._values.value_KS[place, : self._now.trained[place]]
        is_there_S = ~np.isnan(value_S)
        return self._sign * float(value_S[is_there_S].mean()) if is_there_S.any() else None

    def _standing(self, place: int) -> Standing:
        now = self._now
        if place in now.failed:
            return "void"
        if place in now.barred:
            return "barred"
        if now.status == "no_test":
            return "not tested"
        if place == now.winner:
            return "best"
        if self._out_at(place) is not None:
            return "out"
        return "among the best" if len(now.contenders) > 1 and now.winner is None else "not decided"

    def _out_at(self, place: int) -> int | None:
        """Return the seeds at which it was beaten: by a contender, or by the winner at the end."""
        now = self._now
        is_beaten_last = now.winner is not None and place in now.contenders and place != now.winner
        return now.trained[place] if is_beaten_last else now.out.get(place)

    def _contrast(self, a: int, b: int, question: Question) -> Contrast:
        now = self._now
        look = now.common_seeds(a, b)
        level = now.level(look) if look in now.rules.looks and now.status != "no_test" else None
        return Contrast(
            **measured(difference(self._values, a, b, look), level, self._sign),
            a=self._contestants[a].reference,
            b=self._contestants[b].reference,
            question=question,
            decision=self._decision(a, b, question),
            look=look,
            gain_share=self._gain_share(a, b),
        )

    def _decision(self, a: int, b: int, question: Question) -> Decision:
        now = self._now
        for place in (a, b):
            if place in now.failed:
                return "void"
            if place in now.barred:
                return "barred"
        if question == "constant":
            return {True: "better", False: "worse", None: "not decided"}[now.beats_constant.get(a)]  # type: ignore[return-value]
        if now.is_exact:
            return "exact"
        if b in now.out:
            return "out"
        return "better" if a == now.winner else "not decided"

    def _gain_share(self, a: int, b: int) -> float | None:
        """Return by how much a is better than b, as a share of the leader's gain over the constant."""
        now = self._now
        if now.constant is None or now.leader is None or now.leader == now.constant:
            return None
        gain = self._gain(now.leader, now.constant)
        return _number(self._gain(a, b) / gain) if gain > 0 else None

    def _gain(self, a: int, b: int) -> float:
        return -float(paired(difference(self._values, a, b, self._now.common_seeds(a, b))).mean)


def measured(difference_S: Floats, level: float | None, sign: float) -> Difference:
    """Return the mean difference with its test.

    Args:
        difference_S: Differences where lower is better. NaN where one of the two did not end.
        level: The interval has confidence 1 - level; None for no interval.
        sign: -1 if higher values of the metric are better.
    """
    test = paired(difference_S)
    low, high = (math.nan, math.nan) if level is None else sorted(sign * end for end in interval(test, level))
    return Difference(
        n=int(test.n),
        mean=_number(sign * float(test.mean)),
        sd=_number(float(test.sd)),
        t=_number(sign * float(test.t)),
        p=float(test.p),
        level=level,
        low=_number(low),
        high=_number(high),
        skewed=is_skewed(difference_S),
    )


def _measured(values: Sequence[float | None]) -> Measured | None:
    """Return mean and standard deviation of the values that are there; None if none is."""
    ended = np.array([value for value in values if _number(value) is not None], float)
    if not len(ended):
        return None
    return Measured(n=len(ended), mean=float(ended.mean()), sd=float(ended.std(ddof=1)) if len(ended) > 1 else None)


def _divergence(state_S: NDArray[np.uint8]) -> Divergence:
    from scipy.stats import binomtest

    k, n = int((state_S == State.DIVERGED).sum()), len(state_S)
    if n == 0:
        return Divergence(k=0, n=0, low=0.0, high=1.0)
    ends = binomtest(k, n).proportion_ci(CONFIDENCE, "exact")
    return Divergence(k=k, n=n, low=float(ends.low), high=float(ends.high))


def _number(value: float | None) -> float | None:
    """Return it, or None if it is not finite: JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
