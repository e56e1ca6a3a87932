"""Whole sweeps and their confirmations on the noisy quadratic, whose expected loss is known exactly.

The search, the choice and the judging stage are the project's own; only training is computed: the log of the expected
loss, plus noise that follows from the trial's LRs and the seed, as a real training does. `calibration.py` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import optuna
from limits import Row, frequency
from scipy.optimize import minimize
from scipy.stats import qmc

from sweeper.results.verdict import ValueRow
from sweeper.run import confirming
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.schedules import lr_traces
from sweeper.search.first_draws import coordinates, value_at
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
START_POINTS, REFINED = 4096, 12  # of the search for a family's true optimum


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
    asked = {"search": {"reports": len(REPORTS)}, "pruner": "none", "optimizer": {"peak_lr": {"low": 1e-3, "high": 3.0, "log": True}}}
    config = compose(request(list(CORE), asked, experiment="quadratic"))
    spec = parse(config.nodes, subject_of(Supervised(Quadratic(), Point), {}, config.choice("optimizer")))
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
    """A sweep that was searched: what `confirming.plan` reads of a stored one, and the truth.

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
        new = [job for study in studies for (job,) in iter(lambda study=study: study.ask() if study.can_ask else None, None)]
        if new:
            jobs |= {job.id.of: job for job in new}
            losses |= dict(zip((job.id.of for job in new), expected_loss(np.stack([job.lr_S for job in new])), strict=True))
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
    question = {"objective": {"metric": "valid/log_loss", "direction": "minimize", "at": "last"}, "search": {"seed": seed, "seeds": 1}}
    return Searched(
        setting,
        {"question": question},
        records,
        {trial: math.log(losses[trial][-1] / OPTIMUM) for trial in complete},
        {trial: jobs[trial].lr_S for trial in complete},
    )


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
