"""Each key that this package reads has a type and bounds: wrong values are refused, and right ones stay."""

import math

import pytest

from sweeper.spec import config_files, keys
from sweeper.spec.composing import compose
from sweeper.spec.keys import KEYS, Number, Section, Switch, Text, Whole
from sweeper.spec.overrides import text_keys
from sweeper.spec.requests import request
from sweeper.types import InputError

# What no row of a kind lets pass.
NEVER = {
    Whole: ["abc", True, 1.5, math.inf, math.nan, [1], {"a": 1}, {"low": 1, "high": 2}, 10**30, -(10**30), ""],
    Number: ["abc", True, math.inf, -math.inf, math.nan, [1], {"a": 1}, {"low": 1, "high": 2}, ""],
    Switch: ["no", "yes", 0, 1, "true", None, [True], {"a": 1}],
    Text: [1.5, True, ["a"], {"a": 1}, ""],
    Section: [5, "abc", True, [1]],
}


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def value_at(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize("key", KEYS)
def test_no_key_takes_a_value_of_another_type(key, check_form):
    kind = KEYS[key]
    for value in [*NEVER[type(kind)], *([] if kind.or_null else [None])]:
        with pytest.raises(InputError) as raised:
            keys.check(nested(key, value))
        check_form(str(raised.value))
        assert raised.value.key == key
    if kind.or_null:
        assert value_at(keys.check(nested(key, None)), key) is None


@pytest.mark.parametrize("key", [key for key, kind in KEYS.items() if isinstance(kind, Whole | Number)])
def test_the_bounds_of_a_number_hold_at_both_ends(key):
    kind = KEYS[key]
    bounds, step = kind.bounds, 1 if isinstance(kind, Whole) else 1e-9
    for end, is_open, outside in (
        (bounds.low, bounds.open_low, bounds.low - 1),
        (bounds.high, bounds.open_high, bounds.high + 1),
    ):
        if math.isinf(end):
            continue
        for value in (outside, *([end] if is_open else [])):
            with pytest.raises(InputError):
                keys.check(nested(key, value))
        inside = end if not is_open else (end + step if end == bounds.low else end - step)
        kept = value_at(keys.check(nested(key, inside)), key)
        assert (kept, type(kept)) == (inside, type(inside))
    example = float(kind.example)
    keys.check(nested(key, int(example) if isinstance(kind, Whole) else example))


def test_every_key_of_the_configuration_has_a_row_and_its_default_passes():
    nodes = compose(request("core", {})).nodes
    assert keys.check(nodes) == nodes
    missing = {*config_files.keys(), *config_files.section_keys()} - KEYS.keys()
    assert missing == {"warmup"}, "it is searched: the families that use it check it"
    for section in config_files.SECTIONS:
        of_table = {key.partition(".")[2] for key in KEYS if key.startswith(f"{section}.") and key.count(".") == 1}
        assert of_table == set(KEYS[section].keys)


@pytest.mark.parametrize("key", sorted(key for key, kind in KEYS.items() if isinstance(kind, Text)))
def test_a_whole_number_is_a_text_where_one_is_wanted(key):
    if KEYS[key].options or KEYS[key].check is keys._precision:
        return
    assert value_at(keys.check(nested(key, 20261128)), key) == "20261128"
    assert key in text_keys(), "the command line quotes what the user typed, so that 1e3 stays 1e3"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"train": {"steps": 1e3}},
            "train.steps=1000.0: not a whole number of at least 1 and at most 1e+08. Write for example 1000, or null",
        ),
        (
            {"train": {"steps": 10**12}},
            "train.steps=1000000000000: not a whole number of at least 1 and at most 1e+08.",
        ),
        ({"train": {"precision": "float16"}}, "train.precision=float16: it needs a loss scale"),
        ({"train": {"precision": "bf16"}}, "train.precision=bf16: no such choice. Did you mean bfloat16?"),
        (
            {"train": {"ema": 1}},
            "train.ema=1: not a finite number above 0 and below 1. Write for example 0.999, or null",
        ),
        ({"train": {"n_trials": 5}}, "train.n_trials=5: no such key. Did you mean search.n_trials?"),
        ({"keep": {"foo": 1}}, "keep.foo=1: no such key. Choose one of best, quota_gb"),
        ({"name": "../up"}, "name=../up: not a folder name. "),
        ({"name": "a" * 201}, "201 characters, too long for the name of a folder. Use at most 200"),
        ({"name": 1.5}, "name=1.5: not a text. Write one, such as first-try, in quotes if it looks like a number"),
        ({"objective": "valid/accuracy"}, "objective=valid/accuracy: not a mapping of keys. Set objective.metric="),
        ({"search": {"timeout": math.nan}}, "search.timeout=nan: not a finite number above 0. Write for example 3600"),
        ({"fresh": "no"}, "fresh=no: neither true nor false. Write true or false"),
        (
            {"pruner": {"_target_": "optuna.pruners.HyperbandPruner", "reduction_factor": 1}},
            "pruner.reduction_factor=1: not a whole number of at least 2 and at most 1e+06. Write for example 3",
        ),
        (
            {"pruner": {"_target_": "optuna.pruners.PatientPruner", "wrapped_pruner": {"n_startup_trials": -1}}},
            "pruner.wrapped_pruner.n_startup_trials=-1: not a whole number",
        ),
    ],
)
def test_an_error_says_what_to_write(given, told):
    with pytest.raises(InputError) as raised:
        keys.check(given)
    assert told in str(raised.value)


def test_options_of_a_class_of_the_users_own_are_left_alone():
    own = {"pruner": {"_target_": "my.Pruner", "percentile": "all"}, "trainer": {"_target_": "my.T", "width": None}}
    assert keys.check(own) == own
