"""Parse a composed configuration into a `SweepSpec`, typed and checked.

The command line, Python and a rerun share this parser, so errors are found in one place, before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sweeper.importing import import_object
from sweeper.schedules import dimension
from sweeper.search.objective import Objective
from sweeper.search.stopping import parse_early_stopping
from sweeper.spec.constructors import is_whole, model_hyperparameters
from sweeper.spec.families import parse_families
from sweeper.spec.studies import parse_studies
from sweeper.spec.subject import check_metrics, folds_of, try_out, without_one_fold
from sweeper.spec.sweep import KeepSpec, Node, SearchSpec, Subject, SweepSpec, deciding_metrics, parse_trainer
from sweeper.spec.train import parse_train, question_of
from sweeper.spec.values import check_keys, is_number, parse_positive, parse_switch, parse_whole
from sweeper.tracking import trackers
from sweeper.training.optimizers.optim import check_look, check_optimizer
from sweeper.training.optimizers.spec import KEYS as GROUPING
from sweeper.training.optimizers.spec import OptimizerSpec, parse_optimizer, searched_options, without_idle_keys
from sweeper.types import AT, Dimension, InputError, Value, did_you_mean, first_of, values_of

FOR_SCHEDULES = ("peak_lr", "default_lr")  # keys of the optimizer's node that families read, not the optimizer
KEYS = {  # of the sections we read; those of optimizer, pruner, trainer, ... are arguments of a constructor
    "train": ("steps", "epochs", "batch_size", "precision", "clip", "accumulate", "ema", "norms"),
    "objective": ("metric", "direction", "at", "k", "target"),
    "keep": ("best", "quota_gb"),
    "search": (
        "n_trials", "concurrent_trials", "reports", "seed", "seeds", "timeout", "stop", "early_stopping",
        "allow_truncation", "extend", "start", "sampler",
    ),
}  # fmt: skip
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
    for section, known in KEYS.items():
        check_keys(section, config.get(section, {}), known)
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
    try_out(subject, hparams, optimizer)
    first = {key: first_of(dimension) for key, dimension in hparams.items()}
    check_look(optimizer, first, subject.task, train.recipe.batch_size)
    check_metrics(subject, hparams, deciding_metrics(objective, families))
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
        studies=parse_studies(config["search"], config["pruner"], families, hparams, train),
        train=train,
        objective=objective,
        target=target,
        search=search,
        folds=folds,
        trainer=parse_trainer(config.get("trainer", {"_target_": SEQUENTIAL})),
        tracker=trackers.build(config.get("tracking", {"_target_": None})),
        keep=_keep(config.get("keep", {})),
        device=config.get("device", "auto"),
        given_name=config.get("name"),
        fresh=parse_switch("fresh", config.get("fresh", False)),
    )


def parse_objective(node: Node) -> tuple[Objective, float | None]:
    """Return how trials are judged, and the target of the metric (None if it is not set)."""
    for key, options in {"direction": ("minimize", "maximize"), "at": AT}.items():
        if node[key] not in options:
            raise InputError(f"objective.{key}", node[key], "no such choice", did_you_mean(node[key], options))
    parse_whole("objective.k", node["k"])
    target = node.get("target")
    if target is not None and not is_number(target):
        raise InputError("objective.target", target, "not a number", "Write one, such as 2.3, or null")
    part, _, metric = str(node["metric"]).partition("/")
    if part != "valid" or not metric:
        raise InputError("objective.metric", node["metric"], "not a validation metric", "Write valid/loss")
    return Objective(node["metric"], node["direction"], node["at"], node["k"]), target


def parse_search(node: Node) -> SearchSpec:
    """Return the settings that all studies share."""
    allowed = parse_switch("search.allow_truncation", node.get("allow_truncation", False))
    timeout = node.get("timeout")
    return SearchSpec(
        concurrent_trials=parse_whole("search.concurrent_trials", node["concurrent_trials"]),
        seed=parse_whole("search.seed", node["seed"], 0),
        seeds=parse_whole("search.seeds", node["seeds"]),
        timeout=None if timeout is None else parse_positive("search.timeout", timeout, " of seconds", "60, or null"),
        early_stopping=parse_early_stopping(node.get("early_stopping"), allowed=allowed),
    )


def _keep(node: Node) -> KeepSpec:
    best, quota = node.get("best", 0), node.get("quota_gb", 1)
    if isinstance(best, bool) or not isinstance(best, int) or best < 0:
        raise InputError("keep.best", best, "not a number of trials", "Write 0, to keep none, or more")
    return KeepSpec(best, parse_positive("keep.quota_gb", quota, " of gigabytes", "2"))


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
    """Build the optimizer at both ends of the searched ranges, to find values that it refuses."""
    for end in (0, -1):
        check_optimizer(optimizer.with_options({path: values_of(one)[end] for path, one in searched.items()}))
