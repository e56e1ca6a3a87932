"""Every optimizer with every model, sampler and pruner of conf, and every schedule, in short sweeps that succeed.

The sweeps are a covering set: each pair of (optimizer, data and model), (optimizer, sampler), (optimizer, pruner),
(data and model, sampler), (data and model, pruner), (sampler, pruner) is in at least one of them. New files of conf are
included automatically; a new data set or model must be added to TASKS.
"""

import functools
import itertools
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate

from sweeper import conf
from sweeper.run import sweeping
from sweeper.search.records import read
from sweeper.spec.composing import compose
from sweeper.spec.parse import parse
from sweeper.spec.requests import request
from sweeper.spec.sweep import Subject
from sweeper.types import InputError

pytestmark = pytest.mark.slow

CONF = Path(conf.__path__[0])
STEPS = 4
LENGTHS = ("warmup", "cycle", "cooldown")  # their low ends are too short for so few updates
TRAINERS = ("sequential", "lanes")

# Data and model, smaller than in their files if these are large.
TASKS = [
    ("text", "ngram", {}, {"width": 8, "embedding": 4}),
    ("text_sequence", "transformer", {"context": 8, "valid_size": 16}, {"width": 8, "depth": 1}),
    ("tokens", "gpt", {"context": 8, "valid_size": 8, "tokenizer": "bytes"}, {"width": 8, "depth": 1, "heads": 2}),
    ("digits", "mlp", {}, {"width": 8, "dropout": 0.2}),
    ("digits", "cnn", {}, {"width": 2}),
    ("mnist1d", "resnet", {}, {"width": 2}),
    ("argmax", "mlp", {}, {"width": 4}),
    ("tabular", "tabular", {}, {"width": 8}),
    ("hashed_text", "sparse_linear", {"features": 256}, {}),
    ("quadratic", "quadratic", {}, {}),
    (
        "fashion_mnist",
        "resnet18",
        {"augment": {"flip": True, "mixup": 0.2}},
        {"width": 2, "blocks": 1, "norm": "group"},
    ),
    ("cifar10", "resnet9", {"label_smoothing": 0.1}, {"width": 2}),
]


# Combinations that cannot be trained, and the error before training.
REFUSED = {
    ("natural_gradient", "transformer"): "is too large. Use optimizer=kfac",
    ("natural_gradient", "gpt"): "is too large. Use optimizer=kfac",
    ("kfac", "sparse_linear"): "no linear and no convolutional layer",
    ("kfac", "quadratic"): "no linear and no convolutional layer",
}


def files(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


OPTIMIZERS, SAMPLERS, PRUNERS = files("optimizer"), files("search"), files("pruner")
SCHEDULES = [name for name in files("schedule") if name not in ("core", "range_test", "knots")]
NEEDED = {"wall_time": {"budget": 60}, "threshold": {"upper": 1e6}}  # values that users must set


def rows():
    """Return (optimizer, task, sampler, pruner, schedule, trainer): all pairs of the first two, the others in turn."""
    for i, j in itertools.product(range(len(OPTIMIZERS)), range(len(TASKS))):
        k = i * len(TASKS) + j
        yield (
            OPTIMIZERS[i],
            TASKS[j][:2],
            SAMPLERS[(i + j) % len(SAMPLERS)],
            PRUNERS[(i + 2 * j) % len(PRUNERS)],
            SCHEDULES[k % len(SCHEDULES)],
            TRAINERS[k % 2],
        )


def test_the_set_covers_all_there_is():
    found = list(rows())
    columns = [set(column) for column in zip(*found, strict=True)]
    for a, b in itertools.combinations(range(4), 2):
        assert {(row[a], row[b]) for row in found} == set(itertools.product(columns[a], columns[b]))
    assert columns[4] == set(SCHEDULES)
    assert {data for data, _ in columns[1]} == set(files("data"))
    assert {model for _, model in columns[1]} == set(files("model"))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Return a function that builds the task of data and model, once for each."""
    folder = tmp_path_factory.mktemp("files")
    _fashion_mnist(folder)
    _cifar10(folder)

    @functools.cache
    def made(data, model):
        smaller = next(row for row in TASKS if row[:2] == (data, model))
        of_data = {**_node("data", data), **smaller[2]}
        if data in ("fashion_mnist", "cifar10"):
            of_data["path"] = str(folder)
        if data == "tokens":
            of_data["cache"] = str(folder / "cache")
        node = {**_node("model", model), **smaller[3], "_partial_": True}
        node.pop("init", None)  # which the constructor does not get (`model.init`)
        of_model = instantiate(node)
        return instantiate({"_target_": "sweeper.tasks.problems.Supervised"}, data=instantiate(of_data), model=of_model)

    return made


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_short_sweeps_of_every_kind_end_well(optimizer, task, tmp_path):
    if _node("optimizer", optimizer)["_target_"].startswith("pytorch_optimizer"):
        pytest.importorskip("pytorch_optimizer")
    for place, row in enumerate(row for row in rows() if row[0] == optimizer):
        _, (data, model), sampler, pruner, schedule, trainer = row
        family = {schedule: NEEDED.get(schedule, {})}
        changes = {
            "optimizer": optimizer,
            "train": {"steps": STEPS, "batch_size": 8},
            "search": {sampler: {"n_trials": 3, "reports": 4, "concurrent_trials": 2}},
            "pruner": {pruner: NEEDED.get(pruner, {})},
        }
        if sampler == "grid":
            node = compose(request(family, {"optimizer": optimizer})).nodes["schedule"][schedule]
            family = {schedule: _choices(node)}
        config = dict(compose(request(family, changes)).nodes)
        config |= {"trainer": _node("trainer", trainer) | {"workers": 1}, "tracking": _node("tracking", "none")}
        parse_it = functools.partial(parse, config, Subject(task(data, model), "x", {}))
        if (optimizer, model) in REFUSED:
            with pytest.raises(InputError, match=REFUSED[optimizer, model]):
                parse_it()
            continue
        home = sweeping.sweep(parse_it(), root=tmp_path / str(place), plain=True).home
        trials = read(home.journal)
        assert trials, row
        for trial in trials:
            assert trial.state in ("complete", "pruned", "diverged"), (row, trial.reason)
            assert all(math.isfinite(value) for _, value in trial.intermediate), row


def _node(group, name):
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


def _choices(node):
    """Return the space with each range replaced by its ends, for the grid sampler; a length by the end that fits."""
    ranges = {key: value for key, value in node.items() if isinstance(value, dict) and "low" in value}
    ends = {key: {"choice": [value["low"], value["high"]]} for key, value in ranges.items() if key not in LENGTHS}
    return {**node, **ends, **{key: ranges[key]["high"] for key in LENGTHS if key in ranges}}


def _fashion_mnist(folder):
    draw = np.random.default_rng(0)
    for stem, count in (("train", 40), ("t10k", 10)):
        images, labels = draw.integers(0, 256, (count, 28, 28), np.uint8), draw.integers(0, 10, count, np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())


def _cifar10(folder):
    draw = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        rows = np.concatenate([draw.integers(0, 10, (8, 1), np.uint8), draw.integers(0, 256, (8, 3072), np.uint8)], 1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
