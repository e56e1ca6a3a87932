"""Every file of conf composes, instantiates and trains a short trial."""

import json
from pathlib import Path

import pytest

from sweeper import conf
from sweeper.spec import config_files

CONF = Path(conf.__path__[0])
SHORT = ["train.steps=8", "search.reports=4", "search.n_trials=1", "search.concurrent_trials=1", "tracking=none"]
ALONE = "trainer=sequential"  # trainer=auto would time each of them first; the tests of `trainer` cover it
DIGITS = ["data=digits", "model=mlp", "schedule=cosine"]
SYMBOLS = ["data.pattern=a*.py", "data.cache=cache", "data.valid_size=16", "data.test_size=16"]
NEEDS = {  # overrides that a choice requires
    ("search", "grid"): ["schedule=constant", "optimizer.peak_lr={choice: [0.1, 0.2]}"],
    ("data", "text"): ["model=ngram"],
    ("model", "ngram"): ["data=text"],
    ("data", "text_sequence"): ["model=transformer", "model.width=8", "data.valid_size=64"],
    ("model", "transformer"): ["data=text_sequence", "data.valid_size=64"],
    ("data", "digits"): ["model=mlp"],
    ("model", "resnet9"): ["model.width=4"],
    ("model", "resnet18"): ["model.width=4"],
    ("data", "hashed_text"): ["model=sparse_linear", "data.pattern=a*.py", "data.classes=4"],
    ("model", "sparse_linear"): ["data=hashed_text", "data.pattern=a*.py", "data.classes=4"],
    ("data", "tokens"): ["model=gpt", "model.width=8", *SYMBOLS],
    ("data", "quadratic"): ["model=quadratic", "train.batch_size=4"],
    ("model", "quadratic"): ["data=quadratic", "train.batch_size=4"],
    ("trainer", "expected"): ["experiment=quadratic", "data=quadratic", "model=quadratic", "train.batch_size=4"],
    ("model", "gpt"): ["data=text_sequence", "data.valid_size=64", "model.width=8"],
    ("experiment", "gpt"): ["schedule=cosine", "model.width=8", *SYMBOLS],
    ("experiment", "hashed_text"): ["schedule=cosine", "data.pattern=a*.py", "data.classes=4"],
    ("experiment", "argmax"): ["train.steps=null", "train.epochs=1"],
    ("pruner", "threshold"): ["pruner.upper=100"],
    ("schedule", "wall_time"): ["schedule.wall_time.budget=1"],
    ("tracking", "mlflow"): ["tracking.flush_seconds=0"],
}


def stems(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture
def trained(sweeper):
    """Return a function that trains a sweep in an empty folder and returns its table from `status --json`."""

    def run(*words):
        code, _, err = sweeper(*words)
        assert code == 0, err
        return json.loads(sweeper("status", "--json")[1])

    return run


def test_every_family_trains(trained):
    answer = trained(*SHORT, ALONE, *DIGITS[:2], "schedule=all")
    families = set(stems("schedule")) - {"core"}
    assert {row["family"] for row in answer["families"]} == families - set(config_files.NOT_IN_ALL)
    assert answer["finished"]
    assert answer["trials"]["failed"] == 0


@pytest.mark.parametrize("family", config_files.NOT_IN_ALL)
def test_families_that_all_leaves_out_train(trained, family):
    assert trained(*SHORT, ALONE, *DIGITS[:2], f"schedule={family}", *NEEDS.get(("schedule", family), []))["finished"]


def test_a_file_of_schedule_is_a_family_or_the_named_list():
    assert set(config_files.families([CONF])) | set(config_files.NOT_IN_ALL) | {"core"} == set(stems("schedule"))


FILES = ("fashion_mnist", "cifar10")  # these need the user's files: tests/test_vision.py trains them
GROUPS = ("data", "model", "optimizer", "search", "pruner", "trainer")
QUICK = ("data", "model", "trainer")  # the other groups have many files and are slow


@pytest.mark.parametrize(
    ("group", "choice"),
    [
        pytest.param(group, choice, marks=() if group in QUICK else pytest.mark.slow)
        for group in GROUPS
        for choice in stems(group)
        if choice not in FILES
    ],
)
def test_every_choice_trains(trained, group, choice):
    typed = [*SHORT, ALONE, *DIGITS, f"{group}={choice}", *NEEDS.get((group, choice), [])]
    last = {word.partition("=")[0]: word for word in typed}  # the last value of each key
    answer = trained(*last.values())
    assert answer["finished"]
    assert answer["trials"]["failed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "model"),
    [("mnist1d", "mlp"), ("mnist1d", "cnn"), ("mnist1d", "resnet"), ("text", "transformer")],
)
def test_other_pairs_of_data_and_model_train(trained, data, model):
    answer = trained(*SHORT, f"data={data}", f"model={model}", "schedule=cosine", "model.dropout={low: 0, high: 0.5}")
    assert answer["finished"]
    assert answer["trials"]["failed"] == 0


@pytest.mark.parametrize(
    ("data", "model", "told"),
    [
        ("text", "cnn", "model=CNN: it needs `shape`"),
        ("digits", "transformer", "model=Transformer: it needs `context`"),
        ("text_sequence", "ngram", "Return one output for each class"),
        ("text", "transformer model.heads=3", "model.heads=3: does not divide model.width=32"),
        ("mnist1d data.valid=1", "mlp", "data.valid=1: a part of the 4000 training signals would be empty"),
    ],
)
def test_pairs_that_do_not_fit_are_told_before_anything_is_trained(sweeper, data, model, told):
    words = f"data={data} model={model} schedule=cosine".split()
    code, _, err = sweeper(*SHORT, *words)
    assert code == 2
    assert told in err
    assert not Path("sweeps").exists()


@pytest.mark.slow
@pytest.mark.parametrize("choice", [choice for choice in stems("experiment") if choice not in FILES])
def test_every_experiment_trains(trained, choice):
    typed = [*SHORT, f"experiment={choice}", *NEEDS.get(("experiment", choice), [])]
    last = {word.partition("=")[0]: word for word in typed}  # the last value of each key
    assert trained(*last.values())["finished"]
