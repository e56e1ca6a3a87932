"""The argmax data: the numbers of the example's own lines."""

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.tasks.argmax import argmax


def every(data, part, partition=0):
    return data.fetch(part, partition, torch.arange(data.size(part, partition)))


def test_the_numbers_are_those_of_the_examples_lines():
    before = np.random.get_state()
    np.random.seed(7)
    x_train = np.random.random((1000, 3))
    y_train = pd.get_dummies(np.argmax(x_train[:, :3], axis=1)).values
    x_test = np.random.random((100, 3))
    y_test = pd.get_dummies(np.argmax(x_test[:, :3], axis=1)).values
    np.random.set_state(before)
    data = argmax(seed=7)
    for part, (x, y) in {"train": (x_train, y_train), "test": (x_test, y_test)}.items():
        inputs, target = every(data, part)
        assert np.array_equal(inputs.numpy(), x.astype(np.float32))
        assert np.array_equal(torch.nn.functional.one_hot(target).numpy().astype(bool), y)
    assert data.size("valid", 0) == 1000
    assert (data.inputs, data.outputs) == (3, 3)


def test_folds_are_of_the_thousand():
    data = argmax(folds=4)
    assert [data.size("valid", fold) for fold in range(data.partitions)] == [250] * 4
    rows = torch.cat([every(data, "valid", fold)[0] for fold in range(4)])
    assert torch.equal(rows.sort(0).values, every(argmax(), "train")[0].sort(0).values)
    assert torch.equal(every(data, "test", 3)[0], every(argmax(), "test")[0])


@pytest.mark.parametrize(
    ("asked", "told"), [({"seed": -1}, r"data\.seed=-1"), ({"valid_size": 0}, r"data\.valid_size=0")]
)
def test_what_cannot_be_is_refused(asked, told):
    with pytest.raises(ValueError, match=told):
        argmax(**asked)
