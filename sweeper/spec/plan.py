"""Check a sweep and lay it out: what a person can have typed wrongly is found here, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings

from sweeper.schedules import controller_of, dimension, family, lr_trace, momentum_trace, plain
from sweeper.spec import source
from sweeper.spec.question import digest
from sweeper.types import (
    AT,
    Dimension,
    Family,
    InputError,
    Job,
    JobId,
    Task,
    Value,
    did_you_mean,
    first_of,
    values_of,
)

if TYPE_CHECKING:
    from sweeper.search.stopping import EarlyStopping
    from sweeper.search.study import StudyPlan

Plain = Mapping[str, Any]

UPDATE = {"clip": None, "accumulate": 1, "ema": None}  # keys of train that change an update, and what changes none
UNITS = ("step", "epoch")
TRIED = 64  # examples, to see what a task reports
AS_WRITTEN = ("optimizer", "train", "objective", "search", "pruner", "schedule_unit")  # what `planned` takes of conf/
FOR_SCHEDULES = ("peak_lr", "default_lr")  # keys of the optimizer's node that the families read, not the optimizer


@dataclass(frozen=True)
class Plan:
    """A sweep that was checked and can be trained.

    question: what identifies the sweep, plain data. schedules: as they were written, by family. studies: one a
    family, in alphabetical order. optimizer: its fixed constructor arguments and `_target_`. update: those of UPDATE
    that are not as there. report_steps: increasing, the last one is `steps`. objective: without its target. target: of
    the objective, None where the sweep finds it by itself. epoch: updates of an epoch through which the schedules hold
    each LR; None where every update has its own. folds: of the data; 1 where they are split once.
    """

    task: Task
    label: str
    question: Plain
    schedules: Mapping[str, Plain]
    studies: tuple[StudyPlan, ...]
    optimizer: Plain
    batch_size: int
    precision: str
    update: Plain
    norms: bool
    report_steps: tuple[int, ...]
    epoch: float | None
    objective: Plain
    target: float | None
    search: Plain
    folds: int = 1

    @property
    def partitions(self) -> tuple[int, ...]:
        """The split or fold of each member of a trial: all folds with the first seed, with the second, ..."""
        return tuple(range(self.folds)) * int(self.search["seeds"])

    @property
    def steps(self) -> int:
        return self.report_steps[-1]

    @property
    def name(self) -> str:
        """What the sweep is called when nobody names it."""
        return f"{self.label}-{digest(self.question)}"


def planned(
    task: Task,
    schedules: Mapping[str, Plain],
    *,
    label: str,
    described: Plain,
    optimizer: Plain,
    numbers: Plain,
    train: Plain,
    objective: Plain,
    search: Plain,
    pruner: Plain | None,
    schedule_unit: str = "step",
) -> Plan:
    """A checked sweep. Raises InputError for what cannot be trained, and writes nothing.

    schedules: by family, what its file of `schedule` says. label: "<data>-<model>-<optimizer>". described: what the
    task is made of, plain data, part of the identity. optimizer: as in conf/optimizer, with `_target_`, `peak_lr`,
    `default_lr`. numbers: further searched numbers by path, {"model.dropout": {low, high}}. The rest as in conf.
    """
    from sweeper.training.optimizers.groups import searched, stated, with_numbers
    from sweeper.training.optimizers.optim import check_look, check_optimizer

    families = chosen(schedules)
    own = stated({key: value for key, value in optimizer.items() if key not in FOR_SCHEDULES})
    opened = {f"optimizer.{path}": node for path, node in searched(own).items()}
    hparams = {key: dimension(key, node) for key, node in {**opened, **numbers}.items()}
    for end in (0, -1):
        check_optimizer(
            with_numbers(own, {path: values_of(hparams[f"optimizer.{path}"])[end] for path in searched(own)})
        )
    batch_size = whole("train.batch_size", train["batch_size"])
    steps, epoch = horizon(train, schedule_unit, lambda: task.size("train", 0))
    reports = _reports(search["reports"], steps)
    _check_objective(objective)
    judged = {key: value for key, value in objective.items() if key != "target"}  # which changes no trial
    _check_search(search)
    update = _update(train, batch_size)
    folds = _folds(task, described)
    fixed = with_numbers(own, {})
    _try_out(task, numbers, hparams, fixed)
    check_look(fixed, {key: first_of(dimension) for key, dimension in hparams.items()}, task, batch_size)
    _check_metric(task, numbers, hparams, str(judged["metric"]))
    question = {
        **_without_one_fold(described),
        "fingerprint": task.fingerprint,
        "optimizer": own,
        "train": {"steps": steps, "batch_size": batch_size, "precision": train["precision"], **update},
        "objective": judged,
        "search": {
            **{key: search[key] for key in ("concurrent_trials", "reports", "seed", "seeds")},
            **({"early_stopping": asdict(rule), "allow_truncation": True} if (rule := truncation(search)) else {}),
        },
        **({} if epoch is None else {"schedule_unit": schedule_unit, "epoch_steps": epoch}),
        **({} if folds == 1 else {"folds": folds}),
    }
    return Plan(
        task=task,
        label=label,
        question=question,
        schedules=schedules,
        studies=_studies(families, hparams, search, pruner),
        optimizer=fixed,
        batch_size=batch_size,
        precision=str(train["precision"]),
        update=update,
        norms=_switch("train.norms", train["norms"]),
        report_steps=tuple((2 * i * steps + reports) // (2 * reports) for i in range(1, reports + 1)),
        epoch=epoch,
        objective=judged,
        target=objective.get("target"),
        search=search,
        folds=folds,
    )


def chosen(schedules: Mapping[str, Plain]) -> list[Family]:
    """The families, in alphabetical order. Raises InputError for one that is impossible, and for none at all."""
    if not schedules:
        raise InputError(
            "schedule", "[]", "no family is chosen", "Choose some: 'schedule=[cosine,wsd]', or schedule=all"
        )
    return [family(name, node) for name, node in sorted(schedules.items())]


def horizon(train: Plain, schedule_unit: object, size: Callable[[], int]) -> tuple[int, float | None]:
    """Updates of a trial, and of an epoch where the schedules hold each LR through one.

    size: how many examples there are to train on; asked only where epochs are counted. Raises InputError.
    """
    batch_size = whole("train.batch_size", train["batch_size"])
    steps = _steps(train, size, batch_size)
    return steps, _epoch(schedule_unit, steps, size, batch_size)


def example(plan: Plan) -> Job:
    """A trial of the first family, with the first of each number's values, to time or to try a training with."""
    study = plan.studies[0]
    params = {name: first_of(dimension) for name, dimension in study.family.space.items()}
    return Job(
        id=JobId(study.name, 0, 0),
        family=study.family.name,
        params=params,
        seed=0,
        lr_S=lr_trace(study.family, params, plan.steps, epoch=plan.epoch),
        report_steps=plan.report_steps,
        momentum_S=momentum_trace(study.family, params, plan.steps, epoch=plan.epoch),
        hparams={name: first_of(dimension) for name, dimension in study.hparams.items()},
        controller=controller_of(study.family, params),
    )


def whole(key: str, value: object, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(key, value, f"not a whole number of at least {least}", "Write one, such as 20")
    return value


def _update(train: Plain, batch_size: int) -> dict[str, Any]:
    """What of an update is not as by default. Raises InputError for what cannot be done, the precision too."""
    from sweeper.training.recipe import recipe_of

    asked = {key: train.get(key, default) for key, default in UPDATE.items()}
    recipe_of(batch_size=batch_size, precision=train["precision"], **asked)
    return {key: value for key, value in asked.items() if value != UPDATE[key]}


def _switch(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError(key, value, "neither true nor false", "Write one of them")
    return value


def _steps(train: Plain, size: Callable[[], int], batch_size: int) -> int:
    """Updates of a trial: `train.steps`, or as many as `train.epochs` take."""
    steps, epochs = train["steps"], train["epochs"]
    remedy = "Write train.steps=null train.epochs=10, in Python epochs=10 alone"
    if steps is None and epochs is None:
        raise InputError("train.steps", "null", "the horizon needs steps or epochs", remedy)
    if steps is not None and epochs is not None:
        raise InputError("train.epochs", epochs, f"the horizon is given already, by train.steps={steps}", remedy)
    if steps is not None:
        return whole("train.steps", steps)
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not epochs > 0:
        raise InputError("train.epochs", epochs, "not a positive number", "Write one, such as 10")
    return max(1, round(epochs * size() / batch_size))


def _epoch(unit: object, steps: int, size: Callable[[], int], batch_size: int) -> float | None:
    """Updates of an epoch, whole or not, where `schedule_unit` is epoch; a run of one epoch has nothing to schedule."""
    if unit not in UNITS:
        raise InputError("schedule_unit", unit, "not a unit of schedules", f"Choose {' or '.join(UNITS)}")
    if unit == "step":
        return None
    epoch = size() / batch_size
    if round(steps / epoch) < 2:
        told = f"a trial of {steps} updates is {steps / epoch:.2g} epochs long ({epoch:.4g} updates each)"
        remedy = "Write schedule_unit=step, or train two epochs or more: train.steps=null train.epochs=10"
        raise InputError("schedule_unit", unit, f"{told}, so that the LR would hardly change", remedy)
    return epoch


def _reports(asked: object, steps: int) -> int:
    """How often a trial reports: `search.reports`, a multiple of 4 and at most the number of updates."""
    reports = whole("search.reports", asked, 4)
    if reports % 4:
        raise InputError("search.reports", asked, "not a multiple of 4", f"Write {4 * max(1, round(reports / 4))}")
    if reports > steps:
        raise InputError(
            "search.reports", asked, f"more than the {steps} updates of a trial", "Lower it, or raise train.steps"
        )
    return reports


def _folds(task: Task, described: Plain) -> int:
    """Folds of the data, each of which a trial is trained on; 1 where they are split once.

    Raises InputError where `data.folds` asks for folds that the data do not have.
    """
    folds: int = getattr(getattr(task, "data", task), "partitions", 1)
    node = described.get("data")
    asked = node.get("folds") if isinstance(node, Mapping) else None
    if asked is not None and asked != folds:
        has = "no folds" if folds == 1 else f"{folds} partitions"
        raise InputError(
            "data.folds",
            asked,
            f"these data have {has}",
            "Leave it out, or give the data class `folds` and one of its `partitions` for each",
        )
    return folds


def _without_one_fold(described: Plain) -> dict[str, Any]:
    """The description without `data.folds` where it says what holds without it too."""
    node = described.get("data")
    if not isinstance(node, Mapping) or node.get("folds", 0) not in (None, 1):
        return dict(described)
    return {**described, "data": {key: value for key, value in node.items() if key != "folds"}}


def _check_objective(objective: Plain) -> None:
    words = {"direction": ("minimize", "maximize"), "at": AT}
    for key, options in words.items():
        if objective[key] not in options:
            remedy = did_you_mean(objective[key], options)
            raise InputError(f"objective.{key}", objective[key], "no such choice", remedy)
    whole("objective.k", objective["k"])
    target = objective.get("target")
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | float) or not isfinite(target)):
        raise InputError("objective.target", target, "not a number", "Write one, such as 2.3, or null")
    part, _, metric = str(objective["metric"]).partition("/")
    if part != "valid" or not metric:
        raise InputError(
            "objective.metric", objective["metric"], "not a metric of the validation part", "Write valid/loss"
        )


def _check_search(search: Plain) -> None:
    for key, least in (("n_trials", 1), ("concurrent_trials", 1), ("seeds", 1), ("seed", 0)):
        whole(f"search.{key}", search[key], least)
    timeout = search["timeout"]
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise InputError("search.timeout", timeout, "not a positive number of seconds", "Write one, or null")
    if not isinstance(search["start"], Mapping):
        raise InputError("search.start", search["start"], "not points by family", "Write {cosine: [{peak_lr: 0.1}]}")


def truncation(search: Plain) -> EarlyStopping | None:
    """How single trials end early, where a person wants and allows it. Raises InputError."""
    from sweeper.search.stopping import early_stopping

    allowed = _switch("search.allow_truncation", search.get("allow_truncation", False))
    return early_stopping(search.get("early_stopping"), allowed=allowed)


def _studies(
    families: list[Family], hparams: Mapping[str, Dimension | Value], search: Plain, pruner: Plain | None
) -> tuple[StudyPlan, ...]:
    """One study a family. Its name carries a hash of all that makes its trials what they are, its own code too."""
    from sweeper.search.stopping import stop_after
    from sweeper.search.study import StudyPlan

    unknown = sorted(search["start"].keys() - {family.name for family in families})
    if unknown:
        raise InputError(
            f"search.start.{unknown[0]}", None, "this family is not chosen", f"Add it: schedule={unknown[0]}"
        )
    return tuple(
        StudyPlan(
            name=f"{family.name}-{digest(_identity(family, hparams, search['sampler'], pruner), 6)}",
            family=family,
            hparams=hparams,
            sampler=search["sampler"],
            pruner=pruner,
            n_trials=search["n_trials"],
            start=tuple(search["start"].get(family.name, ())),
            stop=stop_after(search.get("stop")),
            formula=digest(_formula(family), 12),
            extends=_switch("search.extend", search.get("extend", False)),
        )
        for family in families
    )


def _identity(
    family: Family, hparams: Mapping[str, Dimension | Value], sampler: Plain, pruner: Plain | None
) -> dict[str, Any]:
    return {
        **_formula(family),
        "space": {key: plain(value) for key, value in {**family.space, **hparams}.items()},
        "sampler": dict(sampler),
        "pruner": None if pruner is None else dict(pruner),
    }


def _formula(family: Family) -> dict[str, Any]:
    """What makes the LRs of its trials: names, and where they are a person's own, the code."""
    functions = [family.factor, *([family.momentum] if family.momentum else [])]
    own = [source.text(function) for function in functions if source.is_own(function)]
    return {
        "factor": [f"{function.__module__}.{function.__qualname__}" for function in functions],  # type: ignore[attr-defined]  # a Factor is a function
        **({"code": own} if own else {}),
        **({} if family.controller is None else {"controller": family.controller}),
    }


def _try_out(task: Task, numbers: Plain, hparams: Mapping[str, Dimension | Value], optimizer: Plain) -> None:
    """An example or two through a fresh model, so that a wrong shape is told now and not as twenty failed trials."""
    import torch

    from sweeper.training.optimizers.groups import groups_of

    tried = {key.removeprefix("model."): first_of(hparams[key]) for key in numbers}
    count = min(2, task.size("train", 0))
    try:
        model = task.build(0, **tried)
        inputs_B, target_B = task.fetch("train", 0, torch.arange(count))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loss_B = task.loss(task.forward(model, inputs_B), target_B)
    except InputError:
        raise
    except Exception as error:
        told = f"cannot be trained on these data ({type(error).__name__}: {error})"
        raise InputError("model", None, told, "Check model and data") from error
    if loss_B.shape != (count,):
        told = f"the loss of {count} examples has the shape {tuple(loss_B.shape)}"
        raise InputError("model", None, told, "Return one loss for each")
    groups_of(model, optimizer, None)  # each has parameters


def _check_metric(task: Task, numbers: Plain, hparams: Mapping[str, Dimension | Value], metric: str) -> None:
    """That the task reports the objective's metric, from some examples and a fresh model."""
    import torch

    if metric == "valid/loss":
        return
    index_B = torch.arange(min(TRIED, task.size("valid", 0)))
    model = task.build(0, **{key.removeprefix("model."): first_of(hparams[key]) for key in numbers}).eval()
    inputs_B, target_B = task.fetch("valid", 0, index_B)
    kept = getattr(task, "kept", None)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), catch_warnings(action="ignore"):
            output_B = task.forward(model, inputs_B)
            names = task.metrics(output_B if kept is None else kept(output_B, target_B), target_B)
    except Exception:  # some need more than a few examples: the first report will say
        return
    if metric.removeprefix("valid/") not in names:
        there = ", ".join(f"valid/{name}" for name in ("loss", *names))
        raise InputError("objective.metric", metric, "not reported for this task", f"There are: {there}")
