"""User data sets that stay on the host."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from sweeper.tasks.models import MLP
from sweeper.tasks.problems import REGRESSION, Supervised
from sweeper.tasks.streamed import Streamed

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(30, 4)).astype(np.float32), DRAW.integers(0, 3, 30)


def pair(first, last):
    return X[first:last], Y[first:last]


def test_arrays_files_and_data_sets_are_the_same_data(tmp_path):
    for part, (x, y) in {"train": pair(0, 20), "valid": pair(20, 30)}.items():
        np.save(tmp_path / f"{part}_x.npy", x)
        np.save(tmp_path / f"{part}_y.npy", y)
    arrays = Streamed(pair(0, 20), pair(20, 30), outputs=3)
    files = Streamed(
        *([str(tmp_path / f"{part}_x.npy"), str(tmp_path / f"{part}_y.npy")] for part in ("train", "valid")), outputs=3
    )
    sets = Streamed(*(TensorDataset(*map(torch.from_numpy, pair(*ends))) for ends in ((0, 20), (20, 30))), outputs=3)
    assert arrays.fingerprint == files.fingerprint == sets.fingerprint
    assert isinstance(files._parts["train"].dataset.x_N, np.memmap)
    for data in (arrays, files, sets):
        assert (data.inputs, data.shape, data.outputs) == (4, (4,), 3)
        assert [data.size(part, 0) for part in ("train", "valid", "test")] == [20, 10, 0]
        x, y = data.fetch("valid", 0, torch.tensor([9, 0]))
        assert x.tolist() == X[[29, 20]].tolist()
        assert y.tolist() == Y[[29, 20]].tolist()


def test_a_task_of_them_streams_and_resident_ones_do_not():
    task = Supervised(Streamed(pair(0, 20), pair(20, 30), outputs=3), MLP)
    assert [y.tolist() for _, y in task.stream("train", 0, np.array([[1, 2], [0, 5]]))] == Y[[[1, 2], [0, 5]]].tolist()
    assert task.augment is None


def test_numbers_are_a_regression():
    data = Streamed((X, X[:, 0]), (X, X[:, 0]), outputs=1)
    assert data.problem is REGRESSION


def test_other_examples_and_another_name_are_other_data():
    changed = X[:20].copy()
    changed[7] += 1
    found = [
        Streamed(pair(0, 20), pair(20, 30), outputs=3),
        Streamed((changed, Y[:20]), pair(20, 30), outputs=3),
        Streamed(pair(0, 20), pair(20, 29), outputs=3),
        Streamed(pair(0, 20), pair(20, 30), outputs=3, name="other"),
    ]
    assert len({data.fingerprint for data in found}) == len(found)


@pytest.mark.parametrize(
    ("train", "options", "told"),
    [
        ((X, Y[:7]), {}, "data.train: X has 30 examples, y has 7"),
        (iter([]), {}, "data.train=list_iterator: not a data set"),
        ((X[:0], Y[:0]), {}, "data.train=Rows: not a data set"),
        (("nowhere.npy", Y), {}, "data.train=nowhere.npy: cannot be mapped as an array"),
        ((X, Y), {"workers": -1}, "data.workers=-1: not a count"),
        ((X, Y), {"outputs": 0}, "data.outputs=0: not a count"),
    ],
)
def test_what_is_refused(train, options, told):
    with pytest.raises(ValueError, match="data") as error:
        Streamed(train, (X, Y), **{"outputs": 3} | options)
    assert told in str(error.value)
