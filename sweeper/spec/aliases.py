"""What other libraries and other users call our keys and choices. Errors suggest ours.

Words are compared without case, `_`, `-` and the parts that say only what a thing is: CosineAnnealingLR,
cosine_annealing and `cosine annealing schedule` are one word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from sweeper.types import closest, did_you_mean

# Parts of a word that carry no meaning here, as in CosineLRScheduler, get_wsd_schedule, OneCycleLR.
FILLERS = re.compile(r"^get|^lr(?=.)|withwarmup$|(lr)?(scheduler?|sampler|pruner|optimizer|decay|annealing)$|lr$")

CHOICES: Mapping[str, Mapping[str, str]] = {  # by key: the word, and our choice
    "schedule": {
        "const": "constant", "fixed": "constant", "none": "constant",
        "lineardecay": "linear", "budgeted": "linear", "d2z": "linear",
        "cos": "cosine", "cosinewithminlr": "cosine", "cosinewithminlrschedulewithwarmup": "cosine",
        "cosinewithminlrschedulewithwarmuplrrate": "cosine",
        "poly": "polynomial",
        "exp": "exponential",
        "invtime": "inverse_time", "inversetime": "inverse_time", "timebased": "inverse_time",
        "inversesqrt": "power", "invsqrt": "power", "rsqrt": "power", "inversesquareroot": "power",
        "steps": "step", "staircase": "step",
        "multisteps": "multistep", "piecewiseconstant": "multistep", "piecewise": "multistep",
        "warmupstable": "wsd", "trapezoidal": "wsd", "cooldown": "wsd", "sequential": "wsd",
        "swa": "swa_tail",
        "cosineannealingwarmrestarts": "sgdr", "cosinewarmrestarts": "sgdr", "warmrestarts": "sgdr",
        "cosinewithhardrestarts": "sgdr", "cosinewithrestarts": "sgdr", "cosinerestarts": "sgdr", "restarts": "sgdr",
        "linearrestarts": "sawtooth",
        "cosineannealingwarmuprestarts": "cycle_warmup_cosine",
        "cyclic": "clr", "cyclical": "clr", "triangular": "clr", "triangular2": "clr", "triangle": "clr",
        "exprange": "clr_exp_range",
        "1cycle": "onecycle", "cosineonecycle": "onecycle", "superconvergence": "onecycle",
        "slantedtriangular": "stlr", "ulmfit": "stlr",
        "transformer": "noam", "vaswani": "noam",
        "reduceonplateau": "plateau", "reducelronplateau": "plateau", "onplateau": "plateau",
        "hyperbolictangent": "tanh", "htd": "tanh",
        "rangefinder": "range_test", "lrfinder": "range_test", "finder": "range_test", "rangetest": "range_test",
        "spline": "knots", "interpolated": "knots",
        "default": "default_lr",
    },
    "search": {
        "bayesian": "tpe", "bayes": "tpe", "bo": "gp", "gaussianprocess": "gp", "gpei": "gp", "parzen": "tpe",
        "hyperopt": "tpe", "optuna": "tpe", "sobol": "qmc", "halton": "qmc", "quasirandom": "qmc",
        "uniform": "random", "randomsearch": "random", "gridsearch": "grid", "exhaustive": "grid",
        "bruteforce": "grid", "evolution": "cmaes", "cma": "cmaes",
    },
    "pruner": {
        "asha": "successive_halving", "sha": "successive_halving", "halving": "successive_halving",
        "bohb": "hyperband", "medianstopping": "median", "nop": "none", "off": "none", "false": "none",
        "earlystopping": "patient", "patience": "patient",
    },
    "optimizer": {"momentum": "sgd", "nesterov": "sgd", "adamweight": "adamw", "kronecker": "kfac"},
    "tracking": {"off": "none", "false": "none", "local": "mlflow", "true": "mlflow"},
    "trainer": {"stacked": "lanes", "vmap": "lanes", "single": "sequential", "default": "auto"},
    "model": {"dense": "mlp", "net": "mlp", "convnet": "cnn", "nanogpt": "gpt"},
    "data": {"csv": "tabular", "table": "tabular", "mnist": "mnist1d", "fashionmnist": "fashion_mnist"},
    "train.precision": {"fp32": "float32", "32": "float32", "fp64": "float64", "64": "float64", "double": "float64",
                        "bf16": "bfloat16", "bf16mixed": "bfloat16",
                        "fp16": "bfloat16", "half": "bfloat16", "16": "bfloat16", "single": "float32"},
    "objective.direction": {"min": "minimize", "max": "maximize", "lower": "minimize", "higher": "maximize"},
    "objective.at": {"final": "last", "end": "last", "min": "best", "max": "best", "mean": "mean_last_k"},
    "schedule_unit": {"steps": "step", "update": "step", "updates": "step", "batch": "step", "epochs": "epoch"},
    "verb": {"train": "sweep", "run": "sweep", "show": "status", "table": "status", "resume": "sweep",
             "estimate": "plan", "draw": "preview", "plot": "preview", "mlflow": "ui", "reproduce": "rerun",
             "finder": "range", "findlr": "range", "lrfind": "range", "lrfinder": "range"},
}  # fmt: skip

KEYS: Mapping[str, str] = {  # the word, and the path of our key
    "lr": "optimizer.peak_lr", "learningrate": "optimizer.peak_lr", "maxlr": "optimizer.peak_lr",
    "baselr": "optimizer.peak_lr", "initlr": "optimizer.peak_lr", "initiallr": "optimizer.peak_lr",
    "minlr": "schedule.cosine.decay", "etamin": "schedule.cosine.decay",
    "maxsteps": "train.steps", "totalsteps": "train.steps", "numsteps": "train.steps", "iterations": "train.steps",
    "iters": "train.steps", "updates": "train.steps", "numtrainingsteps": "train.steps", "horizon": "train.steps",
    "maxepochs": "train.epochs", "numepochs": "train.epochs", "numtrainepochs": "train.epochs",
    "nepochs": "train.epochs",
    "bs": "train.batch_size", "batch": "train.batch_size",
    "dtype": "train.precision", "amp": "train.precision",
    "gradclip": "train.clip", "maxgradnorm": "train.clip", "gradientclipval": "train.clip", "clipnorm": "train.clip",
    "gradientaccumulationsteps": "train.accumulate", "accumulategradbatches": "train.accumulate",
    "trials": "search.n_trials", "ntrial": "search.n_trials", "numtrials": "search.n_trials",
    "numsamples": "search.n_trials", "budget": "search.n_trials",
    "njobs": "search.concurrent_trials", "concurrency": "search.concurrent_trials",
    "numworkers": "trainer.workers", "nworkers": "trainer.workers",
    "randomseed": "search.seed", "randomstate": "search.seed",
    "earlystopping": "search.early_stopping", "patience": "search.early_stopping",
    "wd": "optimizer.weight_decay", "warmupsteps": "warmup", "warmupratio": "warmup", "warmupfraction": "warmup",
    "scheduler": "schedule", "schedulers": "schedule", "lrscheduler": "schedule", "family": "schedule",
    "families": "schedule", "schedules": "schedule",
    "dataset": "data", "net": "model", "arch": "model", "architecture": "model", "opt": "optimizer",
    "sampler": "search", "gpu": "device", "runname": "name", "experimentname": "tracking.experiment",
    "loss": "objective.metric", "monitor": "objective.metric", "mode": "objective.direction",
    "trackinguri": "tracking.uri", "overwrite": "fresh", "restart": "fresh",
}  # fmt: skip


def similar(key: str, word: object, options: Iterable[object]) -> str:
    """Return the remedy for a word that is no choice of a key: what others call one of the options, or the closest."""
    typed = [str(option) for option in options]
    meant = choice_meant(key, word, typed)
    return did_you_mean(word, typed) if meant is None else f"Did you mean {meant}?"


def choice_meant(key: str, word: object, options: Collection[str]) -> str | None:
    """Return the option that another name means; None for a name that is unknown here."""
    known = {name: option for name, option in CHOICES.get(key, {}).items() if option in options}
    return _first(word, {**{_forms(option)[-1]: option for option in options}, **known})


def similar_key(word: str, siblings: Sequence[str], paths: Iterable[str] = ()) -> str:
    """Return the remedy for a key that is not there: the same key elsewhere, what others call a key, or the closest.

    Args:
        word: The last part of the key.
        siblings: The keys beside it.
        paths: Paths of all keys.
    """
    paths = sorted(paths, key=lambda path: (path.startswith("schedule."), path.count("."), path))
    by_last = {path.rpartition(".")[2]: path for path in reversed(paths)}
    meant = by_last.get(word) or _first(word, KEYS) or closest(word, siblings)
    if meant is None and (near := closest(word, by_last, 0.75)) is not None:
        meant = by_last[near]
    return did_you_mean(word, siblings) if meant is None else f"Did you mean {meant}?"


def _first(word: object, known: Mapping[str, str]) -> str | None:
    return next((known[form] for form in _forms(word) if form in known), None)


def _forms(word: object) -> list[str]:
    """Return a word without case and separators, and then without one filler after the other."""
    forms = [re.sub(r"[\W_]", "", str(word).lower())]
    while (shorter := FILLERS.sub("", forms[-1], count=1)) not in ("", forms[-1]):
        forms.append(shorter)
    return forms
