"""Supervised as a Task: what it builds, fetches and measures, for our data and for user data."""

import math
import pickle
import random
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from sweeper import types
from sweeper.tasks.convolutional import CNN, ResNet
from sweeper.tasks.digits import Digits
from sweeper.tasks.mnist1d import Mnist1D
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Problem, Supervised, accuracy, cross_entropy
from sweeper.tasks.text import NextByte
from sweeper.tasks.transformer import Transformer

CONF = Path(__file__).parents[2] / "conf"
PARTS = ("train", "valid", "test")


class Columns:
    """The user data set in the docstring of `Data`."""

    inputs, outputs, partitions, fingerprint = 2, 3, 1, "columns-1"

    def __init__(self, parts):
        self.parts = parts

    def to(self, device):
        return type(self)({part: (x.to(device), y.to(device)) for part, (x, y) in self.parts.items()})

    def size(self, part, partition):
        return len(self.parts[part][1])

    def fetch(self, part, partition, index_B):
        x, y = self.parts[part]
        return x[index_B], y[index_B]


class Line(Columns):
    """A data set with targets that are numbers."""

    outputs = 1


def columns(kind=Columns):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator)
    y = 3 * x[:, :1] - x[:, 1:] + 5 if kind is Line else (x[:, 0] > 0).long() + (x[:, 1] > 0)
    return kind({"train": (x[:20], y[:20]), "valid": (x[20:30], y[20:30]), "test": (x[30:], y[30:])})


def squared_error(output_B, target_B):
    return (output_B - target_B).square().mean(1)


def explained(output, target):
    return {"r2": 1 - float((output - target).square().sum() / (target - target.mean(0)).square().sum())}


def variance(data):
    _, target = data.fetch("train", 0, torch.arange(data.size("train", 0)))
    return float((target - target.mean(0)).square().mean())


class Affine(nn.Module):
    """A user's model, with none of our parameter names."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.layer, self.scale = nn.Linear(2, 1), scale

    def forward(self, x):
        return self.scale * self.layer(x)


class Anything(nn.Module):
    def __init__(self, **numbers):
        super().__init__()
        self.numbers = numbers


TASKS = {
    "text": lambda: Supervised(NextByte(valid_size=256, test_size=256), partial(NGram, width=8, embedding=4)),
    "digits": lambda: Supervised(Digits(), partial(MLP, width=8)),
    "images": lambda: Supervised(Digits(), partial(CNN, width=4)),
    "signals": lambda: Supervised(Mnist1D(), partial(ResNet, width=4)),
    "sequences": lambda: Supervised(NextByte(every=True, valid_size=64, test_size=64), partial(Transformer, width=8)),
    "columns": lambda: Supervised(columns(), partial(MLP, width=8)),
    "line": lambda: Supervised(columns(Line), Affine, Problem(squared_error, explained, variance)),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request) -> types.Task:
    return TASKS[request.param]()


def trained(task, steps=60):
    """Return the mean training loss before and after training."""
    model, inputs_B, target_B = task.build(0), *task.fetch("train", 0, torch.arange(20))
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.03), []
    for _ in range(steps):
        loss_B = task.loss(task.forward(model, inputs_B), target_B)
        assert loss_B.shape == (20,)
        optimizer.zero_grad()
        loss_B.mean().backward()
        optimizer.step()
        losses.append(loss_B.mean().item())
    return losses[0], losses[-1]


# --- every task --------------------------------------------------------------------------------------


def test_a_task_trains(task):
    before, after = trained(task)
    assert after < 0.9 * before


def test_every_part_is_measured(task):
    model = task.build(0).eval()
    for part in PARTS:
        count = min(task.size(part, 0), 50)
        inputs_B, target_B = task.fetch(part, 0, torch.arange(count))
        with torch.no_grad():
            output_B = task.forward(model, inputs_B)
            loss_B = task.loss(output_B, target_B)
        assert loss_B.shape == (count,)
        assert loss_B.isfinite().all()
        metrics = task.metrics(output_B, target_B)
        assert metrics
        assert all(isinstance(value, float) for value in metrics.values())
    assert 0 < task.untrained_loss < task.loss_bound
    assert isinstance(task.fingerprint, str)


def test_a_model_is_a_function_of_its_seed(task):
    first, again, other = task.build(3).state_dict(), task.build(3).state_dict(), task.build(4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert {value.dtype for value in first.values() if value.is_floating_point()} == {torch.float32}
    task.build(2**32 - 1)


def test_building_touches_no_global_generator(task):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    task.build(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_model_is_built_on_the_cpu_whatever_the_default_device(task):
    torch.set_default_device("meta")
    try:
        model = task.build(0)
    finally:
        torch.set_default_device(None)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_pickled_task_is_the_same_task(task):
    again = pickle.loads(pickle.dumps(task))
    assert again.fingerprint == task.fingerprint
    assert trained(again, 3) == trained(task, 3)


def test_to_places_a_copy(task):
    there = task.to(torch.device("meta"))
    index_B = torch.arange(2)
    assert there.fetch("train", 0, index_B.to("meta"))[1].device.type == "meta"
    assert task.fetch("train", 0, index_B)[1].device.type == "cpu"
    assert there.fingerprint == task.fingerprint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fetch_and_loss_read_nothing_back_from_the_device(task):
    device = torch.device("cuda")
    there, model, index_B = task.to(device), task.build(0).to(device), torch.arange(8, device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for part in PARTS:
            inputs_B, target_B = there.fetch(part, 0, index_B)
            loss_B = there.loss(there.forward(model, inputs_B), target_B)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    inputs_B, target_B = task.fetch("test", 0, index_B.cpu())
    torch.testing.assert_close(loss_B.cpu(), task.loss(model.cpu()(inputs_B), target_B), atol=1e-4, rtol=1e-4)


def test_an_unknown_part_or_partition_is_refused(task):
    with pytest.raises(ValueError, match=r"^part=training: .* Choose one of train, valid, test"):
        task.size("training", 0)
    for partition in (1, -1):
        with pytest.raises(ValueError, match=rf"^partition={partition}: "):
            task.fetch("train", partition, torch.arange(2))


# --- the model's hyperparameters ---------------------------------------------------------------------


def test_a_trials_numbers_replace_the_factorys():
    task = Supervised(columns(), partial(MLP, width=8, dropout=0.1))
    assert {part.p for part in task.build(0, dropout=0.4).modules() if isinstance(part, nn.Dropout)} == {0.4}
    assert {part.p for part in task.build(0).modules() if isinstance(part, nn.Dropout)} == {0.1}


def test_dropout_does_not_change_the_initialisation():
    task = Supervised(columns(), MLP)
    one, other = task.build(1, dropout=0.0).state_dict(), task.build(1, dropout=0.5).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_data_tell_a_model_what_its_constructor_names():
    network = Supervised(NextByte(context=5, valid_size=8, test_size=8), partial(NGram, embedding=4)).build(0)
    assert network.layers[0].in_features == 20
    assert network.layers[-1].out_features == 256
    assert Supervised(columns(), partial(MLP, outputs=7)).build(0).layers[-1].out_features == 7


@pytest.mark.parametrize("numbers", [{"widht": 8}, {"scale": 1.0}])
def test_an_unknown_number_is_refused(numbers):
    ((name, value),) = numbers.items()
    message = rf"^model\.{name}={value}: MLP has no such hyperparameter\. Choose from width, depth, dropout$"
    with pytest.raises(ValueError, match=message):
        Supervised(columns(), MLP).build(0, **numbers)
    with pytest.raises(ValueError, match=message):
        Supervised(columns(), partial(MLP, **numbers)).build(0)


def test_a_model_that_takes_any_number_is_given_them():
    assert Supervised(columns(), partial(Anything, width=3)).build(0, dropout=0.2).numbers == {
        "width": 3,
        "dropout": 0.2,
    }


def test_a_model_that_needs_what_the_data_lack_is_refused():
    with pytest.raises(ValueError, match=r"^model=NGram: it needs `context`, .* choose a model that fits"):
        Supervised(Digits(), NGram).build(0)


# --- classification ----------------------------------------------------------------------------------


def test_the_untrained_loss_is_that_of_equal_odds():
    task = Supervised(columns(), MLP)
    assert task.untrained_loss == pytest.approx(math.log(3))
    assert task.loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])).tolist() == pytest.approx([math.log(3)] * 4)


def test_cross_entropy_of_sequences_is_the_mean_over_their_positions():
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(4, 6, 5, generator=generator), torch.randint(0, 5, (4, 6), generator=generator)
    expected = [-output[b].log_softmax(-1)[torch.arange(6), target[b]].mean() for b in range(4)]
    torch.testing.assert_close(cross_entropy(output, target), torch.stack(expected))
    torch.testing.assert_close(cross_entropy(output[:, 0], target[:, 0]), cross_entropy(output[:, :1], target[:, :1]))


def test_outputs_for_other_targets_are_refused():
    with pytest.raises(ValueError, match=r"^outputs=\[4, 5\]: targets are \[4, 6\]\. Return one output"):
        cross_entropy(torch.zeros(4, 5), torch.zeros(4, 6, dtype=torch.int64))


def test_accuracy_counts_the_largest_output():
    output = torch.tensor([[0.0, 2.0], [3.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert accuracy(output, torch.tensor([1, 0, 0, 1])) == {"accuracy": 0.75}


# --- the configuration -------------------------------------------------------------------------------


IMAGES = ("mlp", "cnn", "resnet", "resnet9", "resnet18", "tabular")
FITTING = {
    "argmax": ("mlp", "tabular"),
    "digits": IMAGES,
    "hashed_text": ("sparse_linear",),
    "mnist1d": IMAGES,
    "tabular": ("mlp", "tabular"),
    "text": ("ngram", "transformer", "gpt"),
    "text_sequence": ("transformer", "gpt"),
    "tokens": ("transformer", "gpt"),
}
OF_FILES = {"cifar10", "fashion_mnist", "quadratic"}  # of the user's files, and of no examples: they have own tests
MODELS = sorted(file.stem for file in (CONF / "model").glob("*.yaml") if file.stem != "quadratic")
PAIRS = [(data, model) for data in FITTING for model in MODELS]


@pytest.fixture(scope="module")
def data_of(tmp_path_factory):
    """Return the data of a file of conf, cached, and small where it would be large."""
    few = {"pattern": "a*.py"}
    less = {"tokens": {**few, "cache": str(tmp_path_factory.mktemp("symbols"))}, "hashed_text": {**few, "classes": 4}}

    @cache
    def made(name):
        return instantiate(OmegaConf.merge(OmegaConf.load(CONF / "data" / f"{name}.yaml"), less.get(name, {})))

    return made


def of_files(data, model):
    node = OmegaConf.load(CONF / "model" / f"{model}.yaml")
    node.pop("init", None)  # which the constructor does not get (`model.init`)
    return Supervised(data, instantiate(node, _partial_=True))


@pytest.mark.parametrize("name", FITTING)
def test_every_data_file_gives_data(data_of, name):
    data = data_of(name)
    for part in PARTS:
        assert data.size(part, 0) > 0
        assert len(data.fetch(part, 0, torch.arange(2))[1]) == 2


@pytest.mark.parametrize(("data", "model"), [(data, model) for data, model in PAIRS if model in FITTING[data]])
def test_data_and_models_that_fit(data_of, data, model):
    task = of_files(data_of(data), model)
    inputs_B, target_B = task.fetch("train", 0, torch.arange(2))
    assert task.forward(task.build(0), inputs_B).shape == (*target_B.shape, task.data.outputs)
    assert task.loss(task.forward(task.build(0), inputs_B), target_B).shape == (2,)


@pytest.mark.parametrize(("data", "model"), [(data, model) for data, model in PAIRS if model not in FITTING[data]])
def test_data_and_models_that_do_not_fit(data_of, data, model):
    task = of_files(data_of(data), model)
    inputs_B, target_B = task.fetch("train", 0, torch.arange(2))
    with pytest.raises((ValueError, RuntimeError, AttributeError, TypeError)):
        task.loss(task.forward(task.build(0), inputs_B), target_B)


def test_no_data_and_no_model_file_is_left_out():
    assert {file.stem for file in (CONF / "data").glob("*.yaml")} == set(FITTING) | OF_FILES
    assert set(MODELS) == {model for models in FITTING.values() for model in models}


@pytest.mark.parametrize("name", ["linear", "lazy"])
def test_a_torch_module_is_a_model_without_our_names(name):
    config = {
        "linear": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3},
        "lazy": {"_target_": "torch.nn.LazyLinear", "out_features": 3},
    }[name]
    task = Supervised(columns(), instantiate(config, _partial_=True))
    inputs_B, target_B = task.fetch("train", 0, torch.arange(4))
    assert task.loss(task.forward(task.build(0), inputs_B), target_B).shape == (4,)
