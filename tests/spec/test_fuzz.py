"""Any input either is understood or is refused in one sentence: no other exception, and nothing is written.

Hypothesis writes command lines and calls in Python: real keys with values that are right, nearly right and wrong, keys
that do not exist, texts that Hydra cannot parse. Each goes the way of a command up to the point where it would write.
"""

import string
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sweeper import __main__ as command_line
from sweeper.search.study import build_studies
from sweeper.search.tryout import try_out
from sweeper.spec import config_files
from sweeper.spec.composing import build_subject, compose, paths_of
from sweeper.spec.keys import KEYS
from sweeper.spec.parse import parse
from sweeper.spec.question import settle
from sweeper.spec.requests import request
from sweeper.types import InputError

# Small: few words are composed, one tiny model is built. The user's words come after them and may replace them.
SMALL = ("data=digits", "model=mlp", "model.width=4", "schedule=cosine", "train.steps=8", "search.reports=4")
SMALL += ("tracking=none", "trainer=sequential", "trainer.workers=1", "search.n_trials=2")
LARGE = ("resnet", "gpt", "transformer", "cifar", "fashion", "tokens", "text", "argmax", "all")  # slow to build or read
MANY = settings(max_examples=600, suppress_health_check=list(HealthCheck))
FEW = settings(max_examples=50, suppress_health_check=list(HealthCheck))


@cache
def paths():
    nodes = compose(request(["cosine", "step"], {})).nodes
    optional = ("optimizer.groups", "optimizer.groups.head.lr", "optimizer.layer_decay", "optimizer.no_decay")
    known = {*paths_of(nodes), *KEYS, *optional, "model.init_from", "model.freeze", "task.problem", "data.folds"}
    return sorted(known - {"model.width", "model.depth"})  # a right but huge value would build a huge model


@cache
def choices():
    found = {group: config_files.choices(group) for group in config_files.groups()}
    return [(group, one) for group, names in found.items() for one in names if not one.startswith(LARGE)]


NUMBERS = st.one_of(
    st.integers(-2, 12),
    st.sampled_from([10**6, 10**9, 10**12, 10**30, -(10**9)]),
    st.floats(),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 1e-12, 1e300, float("inf"), float("nan")]),
)
WORDS = st.one_of(
    st.sampled_from(["abc", "auto", "null", "none", "true", "no", "cpu", "cosine", "valid/loss", "last", "norm", ""]),
    st.sampled_from(["../x", "/etc/passwd", "a/b", "a" * 300, "a.b.C", "torch.optim.SGD", "optuna.pruners.NopPruner"]),
    st.text(string.printable, max_size=6),
    st.text(max_size=4),
)
PLAIN = st.one_of(NUMBERS, WORDS, st.booleans(), st.none())
RANGES = st.fixed_dictionaries(
    {"low": PLAIN, "high": PLAIN}, optional={"log": st.booleans(), "step": NUMBERS, "choice": st.lists(PLAIN)}
)
VALUES = st.one_of(
    PLAIN,
    PLAIN,
    st.lists(PLAIN, max_size=3),
    RANGES,
    st.fixed_dictionaries({"choice": st.lists(PLAIN, max_size=3)}),
    st.dictionaries(
        st.sampled_from(["_target_", "factor", "match", "lr", "a", "steps", "patience"]), PLAIN, max_size=2
    ),
    st.fixed_dictionaries({"cosine": st.lists(st.dictionaries(st.sampled_from(["peak_lr", "warmup", "x"]), PLAIN))}),
)


def typed(value):
    """A value in Hydra's grammar, as a user may type it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {typed(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(typed, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


@st.composite
def words(draw):
    """One override: a known or unknown key with a value, a choice, or noise."""
    kind = draw(st.sampled_from(["key", "key", "key", "choice", "choices", "unknown", "noise"]))
    if kind == "noise":
        return draw(st.text(string.printable, min_size=1, max_size=12))
    if kind == "choice":
        return "{}={}".format(*draw(st.sampled_from(choices())))
    if kind == "choices":
        return f"{draw(st.sampled_from(config_files.groups()))}={typed(draw(VALUES))}"
    key = draw(st.sampled_from(paths()))
    if kind == "unknown":
        place = draw(st.integers(0, len(key)))
        key = key[:place] + draw(st.sampled_from(["x", ".", "_", "", "é"])) + key[place + 1 :]
    plus = draw(st.sampled_from(["", "", "", "+", "++", "~"]))
    return f"{plus}{key}" if plus == "~" else f"{plus}{key}={typed(draw(VALUES))}"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Return an empty folder, the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def understood(empty, sweeper, check_form):
    """Return a function that runs a command line up to the point where it would write, and checks how it ends."""

    def plan(config):
        spec = command_line._spec(config)
        settle(Path("sweeps"), spec.name, spec.question, fresh=spec.fresh)
        try_out(build_studies(spec.studies, spec.terms))
        return 0

    def run(*typed):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command_line, "_sweep", plan)
            code, _, err = sweeper(*SMALL, *typed)
        assert not any(empty.iterdir())
        assert code in (0, 2), err
        if code == 2:
            told = [line.removeprefix("sweeper: ") for line in err.splitlines() if "ignored" not in line]
            assert len(told) == 1, err
            check_form(told[0])

    return run


def safe(word):
    """Whether a word is an override, no flag of Hydra and no verb."""
    return not word.startswith("-") and "hydra" not in word


@FEW
@given(st.lists(words().filter(safe), min_size=1, max_size=3))
def test_a_command_line_is_understood_or_refused_in_one_sentence(understood, words):
    understood(*words)


@pytest.mark.slow
@MANY
@given(st.lists(words().filter(safe), min_size=1, max_size=3))
def test_hundreds_of_command_lines(understood, words):
    understood(*words)


ARGUMENTS = ("optimizer", "warmup", "schedule_unit", "train", "objective", "search", "pruner", "trainer", "tracking")
ARGUMENTS += ("device", "keep", "name", "fresh")
FAMILIES = st.one_of(
    st.sampled_from(["cosine", ["cosine", "step"], {"cosine": {"decay": 0.1}}]),
    st.dictionaries(st.one_of(WORDS, st.just("cosine")), VALUES, max_size=2),
    VALUES,
)


def called(families, changes, folder, check_form):
    """What a call in Python does before it trains: it returns the sweep, or raises InputError."""
    try:
        base = {"train": {"steps": 8}, "search": {"reports": 4, "n_trials": 2}, "tracking": "none"}
        config = compose(request(families, {**base, **changes}))
        subject = build_subject(compose(request("cosine", {})).nodes | {"data": DIGITS, "model": MLP}, "digits-mlp-sgd")
        spec = parse(config.nodes, subject)
        settle(folder / "sweeps", spec.name, spec.question, fresh=spec.fresh)
    except InputError as error:
        check_form(str(error))
    assert not any(folder.iterdir())


DIGITS = {"_target_": "sweeper.tasks.digits.Digits"}
MLP = {"_target_": "sweeper.tasks.models.MLP", "width": 4}


@FEW
@given(FAMILIES, st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, max_size=2))
@example({" ": 0}, {})
def test_a_call_in_python_is_understood_or_refused_in_one_sentence(empty, check_form, families, changes):
    called(families, changes, empty, check_form)


@pytest.mark.slow
@MANY
@given(FAMILIES, st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, max_size=2))
def test_hundreds_of_calls_in_python(empty, check_form, families, changes):
    called(families, changes, empty, check_form)
