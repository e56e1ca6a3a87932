"""Whole sweeps and their confirmations on the noisy quadratic, whose expected loss is known exactly.

The search, the choice and the judging stage are the project's own; only training is computed: the log of the expected
loss, plus noise that follows from the trial's LRs and the seed, as a real training does. `calibration.py` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import optuna
from limits import Row, frequency
from scipy.stats import qmc

from sweeper.results.verdict import ValueRow
from sweeper.run import confirm_plan
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.schedules import lr_traces
from sweeper.search.first_draws import value_at
from sweeper.search.plan import StudyPlan, Terms
from sweeper.search.records import record_of
from sweeper.search.study import build_studies
from sweeper.spec.composing import compose
from sweeper.spec.describing import subject_of
from sweeper.spec.parse import parse
from sweeper.spec.requests import request
from sweeper.tasks.problems import Supervised
from sweeper.tasks.quadratic import UNTRAINED, Point, Quadratic, expected_loss
from sweeper.types import Family, Floats, Job, Record, Report, TrialId, seed_of

CORE = ("constant", "cosine", "exponential", "linear", "onecycle", "sgdr", "step", "wsd")
COPIED, COPIES = "cosine", 6
SPREADS = (0.02, 0.1, 0.3)  # standard deviations of a value over seeds
OPTIMUM = 0.0553212  # lowest expected loss of any family
REPORTS = (15, 30, 45, 60)
BOUND = 10.0  # a larger loss is a divergence
MIDDLE = SPREADS[1]
EQUAL_SWEEPS = 50  # for the row whose only right value is 0
START_POINTS, ELITE, AROUND = 4096, 8, 64  # of the search for a family's true optimum: points, best ones, around each


# --- what is searched -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """Sweeps of one kind, which differ by their seeds.

    Attributes:
        spread: Standard deviation of a value over seeds.
        copies: How many families of equal formula and space there are, instead of the eight.
        own_noise: Whether equal LRs have other noise in another family.
    """

    spread: float
    copies: int = 0
    own_noise: bool = False


@cache
def core() -> tuple[tuple[StudyPlan, ...], Terms]:
    """Return the studies of the eight families at their default size, without a pruner, and what their trials share."""
    config = compose(
        request(list(CORE), {"search": {"reports": len(REPORTS)}, "pruner": "none"}, experiment="quadratic")
    )
    spec = parse(config.nodes, subject_of(Supervised(Quadratic(), Point), {}, config.choice("optimizer")))
    assert (spec.studies[0].n_trials, spec.terms.concurrent) == (20, 8)
    return spec.studies, replace(spec.terms, untrained_loss=math.log(UNTRAINED / OPTIMUM))


def studies_of(setting: Setting) -> list[StudyPlan]:
    """Return the studies of a setting."""
    studies, _ = core()
    if not setting.copies:
        return list(studies)
    (copied,) = (study for study in studies if study.family.name == COPIED)
    names = [f"copy{number}" for number in range(setting.copies)]
    return [replace(copied, name=f"{name}-0", family=replace(copied.family, name=name)) for name in names]


@dataclass(frozen=True)
class Searched:
    """A sweep that was searched: what `confirm_plan.plan` reads of a stored one, and the truth.

    Attributes:
        setting: Its kind.
        config: The part of its configuration that a confirmation reads.
        records: All trials.
        truth: Of each complete trial, the expected value of its objective.
        lr: LR of each update of these, float64 [S].
    """

    setting: Setting
    config: Mapping[str, Any]
    records: list[Record]
    truth: Mapping[TrialId, float]
    lr: Mapping[TrialId, Floats]
    name: str = "quadratic"

    @property
    def objective(self) -> Any:
        return self.config["question"]["objective"]

    @property
    def horizon(self) -> tuple[int, float | None]:
        return REPORTS[-1], None

    def family_of(self, record: Record) -> Family:
        return next(study.family for study in studies_of(self.setting) if study.name == record.study)

    def params(self, study: str, number: int) -> dict[str, Any]:
        return next(dict(one.params) for one in self.records if (one.study, one.number) == (study, number))

    def value(self, trial: TrialId, seed: int) -> float:
        """Return what a training of a trial on a seed ends with."""
        return self.truth[trial] + noise(self.setting, trial.study, self.lr[trial], seed)


def noise(setting: Setting, study: str, lr_S: Floats, seed: int) -> float:
    """Return the part of a training's value that its seed makes. Equal trainings have equal noise."""
    family = study if setting.own_noise else ""
    drawn = np.random.default_rng(seed_of(seed, family, lr_S.tobytes().hex())).standard_normal()
    return setting.spread * float(drawn)


def search(setting: Setting, seed: int) -> Searched:
    """Search a sweep, in rounds as the loop does: every study asks, and all open trials train to their next report."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plans, terms = studies_of(setting), replace(core()[1], seed=seed)
    studies, storage = build_studies(plans, terms), optuna.storages.InMemoryStorage()
    for study in studies:
        study.attach(storage)
    losses: dict[TrialId, Floats] = {}
    jobs: dict[TrialId, Job] = {}
    while True:
        new = [job for study in studies for job in _ask(study)]
        if new:
            jobs |= {job.id.of: job for job in new}
            loss_LS = expected_loss(np.stack([job.lr_S for job in new]))
            losses |= dict(zip((job.id.of for job in new), loss_LS, strict=True))
        open = [(study, number) for study in studies for number in list(study.open)]
        if not open:
            break
        for study, number in open:
            trial = TrialId(study.plan.name, number)
            _advance(setting, study, jobs[trial], losses[trial])
    records = [
        record_of(study.plan.name, study.study.user_attrs["plan"], trial)
        for study in studies
        for trial in study.study.get_trials(deepcopy=False)
    ]
    complete = [TrialId(record.study, record.number) for record in records if record.state == "complete"]
    question = {
        "objective": {"metric": "valid/log_loss", "direction": "minimize", "at": "last"},
        "search": {"seed": seed, "seeds": 1},
    }
    return Searched(
        setting,
        {"question": question},
        records,
        {trial: math.log(losses[trial][-1] / OPTIMUM) for trial in complete},
        {trial: jobs[trial].lr_S for trial in complete},
    )


def _ask(study: Any) -> list[Job]:
    """Return the jobs of new trials, until the study has its open ones."""
    new = []
    while study.can_ask:
        new += study.ask()
    return new


def _advance(setting: Setting, study: Any, job: Job, loss_S: Floats) -> None:
    """Report a trial's next value, and end it if it diverged or was its last."""
    number, id = job.id.trial, job.id
    start = study.open[number].step
    until = next(step for step in REPORTS if step > start)
    bad = np.flatnonzero(~(loss_S[start:until] <= BOUND))
    if len(bad):
        study.report(number, [Report(id, start + int(bad[0]) + 1, {}, {}, 0.0, "diverged")])
        study.tell(number, "diverged", "loss above the bound")
        return
    value = math.log(loss_S[until - 1] / OPTIMUM) + noise(setting, id.study, job.lr_S, job.seed)
    study.report(number, [Report(id, until, {}, {"valid/log_loss": value}, 0.0)])
    if until == REPORTS[-1]:
        study.tell(number, "complete", "")


# --- what is confirmed ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a confirmation ended. Configurations are numbered as they were judged.

    Attributes:
        truth: Expected value of each configuration.
        winner: The winner; None if there is none.
        leader: The one with the lowest mean.
        contenders: The printed set.
        beats_constant: Whether the leader was shown to be better than the tuned constant.
        excess: Of each family, the expected value of its configuration above that of the best of its trials.
    """

    truth: tuple[float, ...]
    winner: int | None
    leader: int | None
    contenders: tuple[int, ...]
    beats_constant: bool
    excess: tuple[float, ...]

    @property
    def best(self) -> int:
        """The configuration that is truly best."""
        return int(np.argmin(self.truth))


def confirm(searched: Searched, asked: ConfirmSpec) -> Outcome:
    """Confirm a sweep: train what is wanted, until nothing is."""
    planned = confirm_plan.plan(searched, asked)  # type: ignore[arg-type]  # it has what is read of a stored sweep
    rows: list[ValueRow] = []
    while orders := planned.wanted(rows):
        rows += [_train(searched, trial, replicate.stage, replicate.seed) for trial, replicate in orders]
    judgement = planned.confirmation(rows).judge()
    records = [candidate.record for candidate, _ in planned.chosen(rows)]
    truth = tuple(searched.truth[TrialId(record.study, record.number)] for record in records)
    leader = judgement.leader
    return Outcome(
        truth,
        judgement.winner,
        leader,
        tuple(judgement.contenders),
        leader is not None and judgement.beats_constant.get(leader, False),
        tuple(value - lowest_truth(searched, record.study) for value, record in zip(truth, records, strict=True)),
    )


def _train(searched: Searched, trial: TrialId, stage: Any, seed: int) -> ValueRow:
    record = next(one for one in searched.records if (one.study, one.number) == trial)
    return ValueRow(
        family=record.family,
        trial=record.number,
        stage=stage,
        seed=seed,
        fold=0,
        value=searched.value(trial, seed),
        state="complete",
    )


def lowest_truth(searched: Searched, study: str | None = None) -> float:
    """Return the expected value of the truly best trial, of a study or of the sweep."""
    return min(value for trial, value in searched.truth.items() if study in (None, trial.study))


# --- one sweep --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What came of one sweep.

    Attributes:
        lowest: Of each family, the lowest value of the search.
        lost: Of each family, the expected value of that trial above that of the best of its trials.
        lowest_lost: The expected value of the sweep's lowest trial above that of the sweep's best one.
        best: The expected value of the sweep's best trial.
        outcomes: How each form of a confirmation ended.
    """

    lowest: Mapping[str, float]
    lost: tuple[float, ...]
    lowest_lost: float
    best: float
    outcomes: Mapping[str, Outcome]


FORMS = {"all": ConfirmSpec(), "budget .5": ConfirmSpec(budget=0.5), "budget 1": ConfirmSpec(budget=1.0)}


def measure(setting: Setting, forms: Sequence[str], seed: int) -> Result:
    """Search one sweep, and confirm it in each of these forms."""
    searched = search(setting, seed)
    first = {}
    for record in sorted(searched.records, key=lambda record: (record.value or math.inf, record.number)):
        if record.state == "complete":
            first.setdefault(record.family, record)
    truth = {family: searched.truth[TrialId(record.study, record.number)] for family, record in first.items()}
    best = lowest_truth(searched)
    lowest = {family: record.value or 0.0 for family, record in first.items()}
    return Result(
        lowest,
        tuple(truth[family] - lowest_truth(searched, record.study) for family, record in first.items()),
        truth[min(lowest, key=lambda family: lowest[family])] - best,
        best,
        {form: confirm(searched, FORMS[form]) for form in forms},
    )


def differing_trials(seed: int) -> int:
    """Return how many trials of two families of equal formula and space differ."""
    searched = search(Setting(SPREADS[0], copies=2), seed)
    one, other = (
        [(dict(r.params), r.state, r.value, r.intermediate) for r in searched.records if r.family == family]
        for family in ("copy0", "copy1")
    )
    return sum(a != b for a, b in zip(one, other, strict=True))


@cache
def optimum(study: str) -> float:
    """Return the lowest expected value that a family can reach in its space.

    A Sobol sequence finds the valley, and samples around the best points, ever closer, its bottom.
    """
    (plan,) = (one for one in core()[0] if one.name == study)
    space, names = plan.axes.distributions, list(plan.axes.distributions)
    rng = np.random.default_rng(0)

    def values(unit_LK: Floats) -> Floats:
        stored = [
            {name: value_at(space[name], share) for name, share in zip(names, row, strict=True)} for row in unit_LK
        ]
        lr_LS = lr_traces(plan.family, [plan.axes.values(point) for point in stored], REPORTS[-1])
        with np.errstate(divide="ignore"):
            found: Floats = np.log(expected_loss(lr_LS)[:, -1] / OPTIMUM)
        return found

    inside = np.finfo(float).eps
    unit_LK = qmc.Sobol(len(names), rng=rng).random(START_POINTS).clip(inside, 1 - inside)
    value_L = values(unit_LK)
    for scale in np.geomspace(0.1, 1e-4, 30):
        elite_EK = unit_LK[np.argsort(value_L)[:ELITE]]
        around = np.repeat(elite_EK, AROUND, axis=0)
        moved_LK = np.clip(around + scale * rng.standard_normal(around.shape), inside, 1 - inside)
        unit_LK = np.concatenate([elite_EK, moved_LK])
        value_L = values(unit_LK)
    return float(value_L.min())


# --- the table --------------------------------------------------------------------------------------


def rows(sweeps: int, workers: int) -> list[Row]:
    """Return every row of this part. Searches are shared by the rows of a setting."""
    core_of = {spread: Setting(spread) for spread in SPREADS}
    copies_of = {spread: Setting(spread, COPIES, own_noise=True) for spread in SPREADS}
    with Pool(workers) as pool:
        results = {
            spread: pool.map(measure, core_of[spread], list(FORMS) if spread == MIDDLE else ["all"], seeds=sweeps)
            for spread in SPREADS
        }
        copies = {spread: pool.map(measure, copies_of[spread], ["all"], seeds=sweeps) for spread in SPREADS}
        differing = pool.map(differing_trials, seeds=min(sweeps, EQUAL_SWEEPS))
    return [
        Row("A/A, two families of equal formula and space: trials that differ", sum(differing), 0),
        *_search_rows(results[SPREADS[0]], copies[SPREADS[0]]),
        *_choice_rows(results[MIDDLE]),
        *_winner_rows(results),
        *_copies_rows(copies),
        *_budget_rows(results[MIDDLE]),
    ]


class Pool:
    """Maps a function over seeds 0, 1, ..., in processes if there are several."""

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers) if workers > 1 else None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[..., Any], *arguments: Any, seeds: int) -> list[Any]:
        call = partial(function, *arguments)
        return list(map(call, range(seeds)) if self._pool is None else self._pool.map(call, range(seeds)))


def _search_rows(results: Sequence[Result], copies: Sequence[Result]) -> list[Row]:
    best = {study.family.name: optimum(study.name) for study in core()[0]}
    gap = np.array([result.lowest["linear"] - result.lowest["cosine"] for result in results])
    order = np.sign(best["linear"] - best["cosine"])
    lost = [result.lowest[family] - best[family] for result in results for family in CORE]
    first = [min(result.lowest, key=lambda family, result=result: result.lowest[family]) for result in results]
    ranges = [max(result.lowest.values()) - min(result.lowest.values()) for result in copies]
    return [
        Row(
            f"A/A, {COPIES} copies with noise of their own: range of their lowest values", float(np.mean(ranges)), 0.06
        ),
        Row("linear minus cosine: sd over sweeps", float(gap.std(ddof=1)), 0.10),
        Row("  their true order seen", float(np.mean(np.sign(gap) == order)), 0.79, False),
        Row("lowest value of a family above its true optimum, mean", float(np.mean(lost)), 0.205),
        Row(
            "the truly best family has the lowest value",
            float(np.mean([name == min(best, key=lambda family: best[family]) for name in first])),
            0.77,
            False,
        ),
    ]


def _choice_rows(results: Sequence[Result]) -> list[Row]:
    chosen = [excess for result in results for excess in result.outcomes["all"].excess]
    lowest = [excess for result in results for excess in result.lost]
    return [
        Row("choice [.1]: lost to the best of the family's trials, in sd", float(np.mean(chosen)) / MIDDLE, 0.11),
        Row("  without it", float(np.mean(lowest)) / MIDDLE, None),
    ]


def _winner_rows(results: Mapping[float, Sequence[Result]]) -> list[Row]:
    found = []
    for spread, limit in zip(SPREADS, (0.91, 0.69, 0.29), strict=True):
        outcomes = [result.outcomes["all"] for result in results[spread]]
        named = [outcome.winner is not None for outcome in outcomes]
        wrong = [outcome.winner not in (None, outcome.best) for outcome in outcomes]
        lost = [outcome.best not in outcome.contenders for outcome in outcomes]
        found += [
            Row(f"winner named [{spread:g}]", float(np.mean(named)), limit, False),
            frequency("  wrong configuration", wrong, 0.01),
            frequency("  the best of those judged is not in the printed set", lost, 0.02),
        ]
    above = [
        outcome.truth[outcome.leader] - result.best
        for result in results[MIDDLE]
        if (outcome := result.outcomes["all"]).leader is not None
    ]
    lowest = [result.lowest_lost for result in results[MIDDLE]]
    return [
        *found,
        Row("leader above the sweep's best trial [.1], in sd", float(np.mean(above)) / MIDDLE, 0.13),
        Row("  the lowest of the search", float(np.mean(lowest)) / MIDDLE, None),
    ]


def _copies_rows(copies: Mapping[float, Sequence[Result]]) -> list[Row]:
    return [
        frequency(
            f"A/A, {COPIES} copies [{spread:g}]: a winner named",
            [result.outcomes["all"].winner is not None for result in of_spread],
            0.04,
        )
        for spread, of_spread in copies.items()
    ]


def _budget_rows(results: Sequence[Result]) -> list[Row]:
    found = []
    for form, winner, better in (("budget .5", 0.62, 0.92), ("budget 1", 0.63, 0.96)):
        outcomes = [result.outcomes[form] for result in results]
        named = np.mean([outcome.winner is not None for outcome in outcomes])
        shown = np.mean([outcome.beats_constant for outcome in outcomes])
        found += [
            Row(f"{form} [.1]: winner named", float(named), winner, False),
            Row("  leader better than the constant", float(shown), better, False),
        ]
    return found
