"""The joined task: training examples, then validation examples, whatever the task's inputs are."""

import pickle

import numpy as np
import pytest
import torch

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.digits import Digits
from sweeper.tasks.problems import Supervised
from sweeper.tasks.streamed import Streamed
from sweeper.tasks.tabular import Table
from sweeper.training.joined import Joined

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 3


def table():
    pd = pytest.importorskip("pandas")
    return Table(pd.DataFrame({"a": X[:, 0], "b": np.where(Y == 1, "x", "y"), "y": Y}), "y")


def model(inputs=3, outputs=3):
    return torch.nn.Linear(inputs, outputs)


DATA = {
    "arrays": lambda: Arrays(X, Y),
    "folds": lambda: Arrays(X, Y, folds=4),
    "rows of two tensors": table,
    "streamed": lambda: Streamed((X[:20], Y[:20]), (X[20:33], Y[20:33]), (X[33:], Y[33:]), outputs=3),
}


def examples(task, part, partition=0):
    inputs, target = task.fetch(part, partition, torch.arange(task.size(part, partition)))
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    return [*parts, target]


@pytest.mark.parametrize("kind", DATA)
def test_the_training_part_has_the_validation_part_in_it(kind):
    task = Supervised(DATA[kind](), None if kind.startswith("rows") else model)
    joined = pickle.loads(pickle.dumps(Joined(task)))
    for partition in range(task.data.partitions):
        both = zip(examples(task, "train", partition), examples(task, "valid", partition), strict=True)
        for got, (first, second) in zip(examples(joined, "train", partition), both, strict=True):
            torch.testing.assert_close(got, torch.cat([first, second]), rtol=0, atol=0)
        for part in ("valid", "test"):
            for got, wanted in zip(examples(joined, part, partition), examples(task, part, partition), strict=True):
                assert torch.equal(got, wanted)
    assert joined.fingerprint != task.fingerprint
    assert joined.loss_bound == task.loss_bound


def test_stacked_indices_are_fetched_as_they_are():
    task = Supervised(Digits(), model)
    joined = Joined(task)
    index_LB = torch.tensor([[0, 1077], [1078, 1436]])
    inputs_LB, target_LB = joined.fetch("train", 0, index_LB)
    flat, target = joined.fetch("train", 0, index_LB.flatten())
    assert torch.equal(inputs_LB.flatten(0, 1), flat)
    assert torch.equal(target_LB.flatten(), target)


def test_a_stream_is_in_the_order_of_its_indices():
    task = Supervised(DATA["streamed"](), model)
    joined, index_SB = Joined(task), np.array([[32, 0, 20, 5], [1, 2, 3, 4], [20, 21, 32, 31]])
    for index_B, (inputs_B, target_B) in zip(index_SB, joined.stream("train", 0, index_SB), strict=True):
        assert torch.equal(inputs_B, torch.from_numpy(X[index_B]))
        assert target_B.tolist() == Y[index_B].tolist()
    assert Joined(Supervised(Arrays(X, Y), model)).stream is None
