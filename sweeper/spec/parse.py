"""Parse a composed configuration into a `SweepSpec`, typed and checked.

The command line, Python and a rerun share this parser, so errors are found in one place, before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sweeper.importing import import_object
from sweeper.schedules import dimension
from sweeper.search.objective import Objective
from sweeper.search.plan import StudyPlan
from sweeper.search.stopping import parse_early_stopping
from sweeper.spec import keys
from sweeper.spec.constructors import is_whole, model_hyperparameters
from sweeper.spec.families import blame_shared_keys, parse_families
from sweeper.spec.studies import parse_studies
from sweeper.spec.subject import check_metrics, folds_of, try_out, without_one_fold
from sweeper.spec.sweep import (
    KeepSpec,
    Node,
    SearchSpec,
    Subject,
    SweepSpec,
    TrainSpec,
    deciding_metrics,
    parse_trainer,
)
from sweeper.spec.train import parse_train, question_of
from sweeper.tracking import trackers
from sweeper.training.optimizers.optim import check_look, check_optimizer
from sweeper.training.optimizers.spec import KEYS as GROUPING
from sweeper.training.optimizers.spec import OptimizerSpec, parse_optimizer, searched_options, without_idle_keys
from sweeper.types import Dimension, InputError, Task, Value, first_of, points

FOR_SCHEDULES = ("peak_lr", "default_lr")  # keys of the optimizer's node that families read, not the optimizer
SEQUENTIAL = "sweeper.training.sequential.SequentialTrainer"


def parse(config: Node, subject: Subject) -> SweepSpec:
    """Check a configuration and return the sweep. Writes nothing.

    Args:
        config: The keys of conf/config.yaml and its groups, with interpolations resolved. Data, model and task are not
            read.
        subject: What they make.

    Raises:
        InputError: If it cannot be trained.
    """
    config = keys.check(config)
    with blame_shared_keys(config):
        families = parse_families(config["schedule"])
    node = without_idle_keys({key: value for key, value in config["optimizer"].items() if key not in FOR_SCHEDULES})
    searched = searched_options(node)
    optimizer = parse_optimizer(node)
    hparams = {**_hyperparameters(optimizer, searched), **model_hyperparameters(subject.task, subject.numbers)}
    _check_ends(optimizer, {path: hparams[f"optimizer.{path}"] for path in searched})
    train = parse_train(
        config["train"],
        optimizer,
        lambda: subject.task.size("train", 0),
        schedule_unit=config.get("schedule_unit", "step"),
        reports=config["search"]["reports"],
    )
    objective, target = parse_objective(config["objective"])
    search = parse_search(config["search"])
    folds = folds_of(subject)
    _check_batch(subject.task, train.recipe.batch_size, folds)
    try_out(subject, hparams, optimizer)
    first = {key: first_of(dimension) for key, dimension in hparams.items()}
    check_look(optimizer, first, subject.task, train.recipe.batch_size)
    check_metrics(subject, hparams, deciding_metrics(objective, families))
    with blame_shared_keys(config):
        studies = parse_studies(config["search"], config["pruner"], families, hparams, train)
        _check_spaces(studies)
    _check_memory(train, studies, search.concurrent_trials)
    return SweepSpec(
        task=subject.task,
        label=subject.label,
        question={
            **without_one_fold(subject),
            "fingerprint": subject.task.fingerprint,
            "optimizer": node,
            "train": question_of(train),
            "objective": asdict(objective),
            "search": _search_question(search, len(train.report_steps)),
            **({} if train.epoch is None else {"schedule_unit": "epoch", "epoch_steps": train.epoch}),
            **({} if folds == 1 else {"folds": folds}),
        },
        schedules=config["schedule"],
        studies=studies,
        train=train,
        objective=objective,
        target=target,
        search=search,
        folds=folds,
        trainer=parse_trainer(config.get("trainer", {"_target_": SEQUENTIAL})),
        tracker=trackers.build(config.get("tracking", {"_target_": None})),
        keep=KeepSpec(**config.get("keep", {})),
        device=config.get("device", "auto"),
        given_name=config.get("name"),
        fresh=config.get("fresh", False),
    )


def parse_objective(node: Node) -> tuple[Objective, float | None]:
    """Return how trials are judged, and the target of the metric (None if it is not set)."""
    part, _, metric = node["metric"].partition("/")
    if part != "valid" or not metric:
        remedy = f"Write valid/{part}" if part and not metric else "Write valid/loss"
        raise InputError("objective.metric", node["metric"], "not a validation metric", remedy)
    return Objective(node["metric"], node["direction"], node["at"], node["k"]), node.get("target")


def parse_search(node: Node) -> SearchSpec:
    """Return the settings that all studies share."""
    return SearchSpec(
        concurrent_trials=node["concurrent_trials"],
        seed=node["seed"],
        seeds=node["seeds"],
        timeout=node.get("timeout"),
        early_stopping=parse_early_stopping(node.get("early_stopping"), allowed=node.get("allow_truncation", False)),
    )


def _search_question(search: SearchSpec, reports: int) -> dict[str, Any]:
    """Return the part that identifies a sweep."""
    stopping = search.early_stopping
    return {
        "concurrent_trials": search.concurrent_trials,
        "reports": reports,
        "seed": search.seed,
        "seeds": search.seeds,
        **({} if stopping is None else {"early_stopping": asdict(stopping), "allow_truncation": True}),
    }


def _hyperparameters(optimizer: OptimizerSpec, searched: Mapping[str, Node]) -> dict[str, Dimension | Value]:
    """Return the searched hyperparameters of the optimizer by config path. Those of groups and layers are real."""
    target = import_object("optimizer._target_", optimizer.target, "torch.optim.SGD") if searched else None
    whole = {path: path.partition(".")[0] not in GROUPING and is_whole(target, path) for path in searched}
    return {f"optimizer.{path}": dimension(f"optimizer.{path}", node, whole[path]) for path, node in searched.items()}


def _check_ends(optimizer: OptimizerSpec, searched: Mapping[str, Dimension | Value]) -> None:
    """Build the optimizer with each value to check of the searched options, to find those that it refuses."""
    for point in points(searched):
        check_optimizer(optimizer.with_options(point))


def _check_spaces(studies: Sequence[StudyPlan]) -> None:
    """Check that each space can be searched. Raises InputError."""
    for study in studies:
        _ = study.axes


def _check_batch(task: Task, batch_size: int, folds: int) -> None:
    """Check that a batch has no more examples than the smallest fold has for training. Raises InputError."""
    examples = min(task.size("train", fold) for fold in range(folds))
    if batch_size > examples:
        problem = f"more than the {examples} training examples"
        raise InputError("train.batch_size", batch_size, problem, f"Use at most {examples}")


def _check_memory(train: TrainSpec, studies: Sequence[StudyPlan], concurrent: int) -> None:
    """Check that the LRs of all open trials, 8 bytes an update, fit into half of the memory. Raises InputError."""
    trials = sum(min(study.n_trials, concurrent) for study in studies)
    needed, memory = 8 * trials * train.steps, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        problem = (
            f"the LRs of {trials} open trials need {needed / 1e9:,.0f} GB, and the memory has {memory / 1e9:,.0f} GB"
        )
        raise InputError("train.steps", train.steps, problem, "Shorten trials, or lower search.concurrent_trials")
