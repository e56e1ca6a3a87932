"""Names of other libraries lead to ours: those of the page of schedules, and what users guess first."""

import inspect
import re

import pytest

from sweeper.schedules import cycles, decays
from sweeper.spec import config_files
from sweeper.spec.aliases import CHOICES, KEYS, choice_meant, similar, similar_key
from sweeper.spec.composing import compose, paths_of
from sweeper.spec.requests import request
from sweeper.training import controllers

FAMILIES = config_files.choices("schedule")
FACTORS = {
    name: function
    for module in (decays, cycles, controllers)
    for name, function in vars(module).items()
    if inspect.isfunction(function) and "Equals:" in (function.__doc__ or "")
}
# A class that several families use, or that only builds others, belongs to the simplest of them.
NAMED_BY_SEVERAL = {
    "LambdaLR": None,
    "LinearLR": "linear",
    "ExponentialLR": "exponential",
    "SequentialLR": "wsd",
    "CosineAnnealingLR": "cosine",
    "CosineLRScheduler": "cosine",
    "PolyLRScheduler": "polynomial",
    "WSDLRScheduler": "wsd",
    "ReduceLROnPlateau": "plateau",
    "cosine_decay_schedule": "cosine",
    "get_cosine_schedule_with_warmup": "cosine",
    "make_interp_spline": None,
}


def named(function):
    """The names of other libraries' schedules on the page of a factor."""
    equals = inspect.getdoc(function).partition("Equals:")[2]
    equals = re.split(r"\n\w[\w ]*:", equals)[0].replace("pytorch_scheduler", "")
    return sorted(
        set(re.findall(r"\b(?:[A-Z]\w*(?:LR|Scheduler|Restarts|Plateau)|(?:get_)?\w+_schedule\w*)\b", equals))
    )


EQUIVALENTS = [(name, word) for name, function in FACTORS.items() for word in named(function)]


@pytest.mark.parametrize(("family", "word"), EQUIVALENTS)
def test_every_equivalent_on_the_page_of_schedules_leads_to_its_family(family, word):
    meant = NAMED_BY_SEVERAL.get(word, family)
    if meant is not None:
        assert similar("schedule", word, FAMILIES) == f"Did you mean {meant}?"


def test_the_page_names_many():
    assert len({word for _, word in EQUIVALENTS}) > 25


@pytest.mark.parametrize("group", [group for group in CHOICES if group in config_files.groups()])
def test_every_alias_leads_to_a_file(group):
    options = config_files.choices(group)
    for word, choice in CHOICES[group].items():
        assert choice in options
        assert choice_meant(group, word, options) == choice, word


def test_every_alias_of_a_key_leads_to_a_key():
    nodes = compose(request("core", {})).nodes
    paths = paths_of({**nodes, "schedule": {"cosine": nodes["schedule"]["cosine"]}})
    assert set(KEYS.values()) <= set(paths)


PATHS = paths_of(compose(request("core", {})).nodes)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("epochs", "train.epochs"), ("n_trials", "search.n_trials"), ("batch_size", "train.batch_size"),
        ("lr", "optimizer.peak_lr"), ("learning_rate", "optimizer.peak_lr"), ("seed", "search.seed"),
        ("decay", "schedule.cosine.decay"), ("epoch", "train.epochs"), ("max_epochs", "train.epochs"),
        ("metric", "objective.metric"), ("timeout", "search.timeout"), ("width", "model.width"),
        ("weight_decay", "optimizer.weight_decay"), ("scheduler", "schedule"), ("dataset", "data"),
    ],
)  # fmt: skip
def test_a_first_guess_leads_to_the_key_one_level_down(word, path):
    assert similar_key(word, ["data", "model", "train", "search"], PATHS) == f"Did you mean {path}?"


@pytest.mark.parametrize(
    ("key", "word", "meant"),
    [
        ("schedule", "cosine_annealing", "cosine"), ("schedule", "reduce_on_plateau", "plateau"),
        ("schedule", "inv_sqrt", "power"), ("schedule", "1cycle", "onecycle"), ("schedule", "trapezoidal", "wsd"),
        ("pruner", "asha", "successive_halving"), ("search", "bayesian", "tpe"), ("optimizer", "AdamW", "adamw"),
        ("optimizer", "SGD", "sgd"), ("train.precision", "fp32", "float32"), ("objective.direction", "max", "maximize"),
    ],
)  # fmt: skip
def test_a_choice_of_another_library_leads_to_ours(key, word, meant):
    options = config_files.choices(key) or ("float32", "float64", "bfloat16", "minimize", "maximize")
    assert similar(key, word, options) == f"Did you mean {meant}?"


def test_a_word_without_a_likeness_gets_all_choices():
    assert similar("pruner", "qqq", ["median", "none"]) == "Choose one of median, none"
    assert similar_key("qqq", ["best", "quota_gb"], ["keep.best"]) == "Choose one of best, quota_gb"
