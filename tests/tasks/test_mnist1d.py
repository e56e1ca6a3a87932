"""MNIST-1D: the published signals, and how they are cut."""

import pickle

import numpy as np
import pytest
import torch

from sweeper.tasks.mnist1d import Mnist1D, signals

PARTS = ("train", "valid", "test")

# Of make_dataset(get_dataset_args()) in the authors' package, mnist1d 0.0.2.post1.
LABELS = {0: [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9, 4, 3, 4, 5, 1, 9, 0, 3], 4990: [8, 3, 3, 6, 1, 2, 5, 9, 6, 4]}
SIGNALS = {
    (0, 0): [-0.33200566736939013, -0.4719103656557236, -0.778697076293495],
    (4999, 37): [0.6598756470890784, 0.8777343497528006, 1.1931518368352758],
    (1234, 20): [-0.6819486155750717],
}
CUBES = -13126.103828802175  # the sum of all numbers' third powers


def everything(data, part):
    return data.fetch(part, 0, torch.arange(data.size(part, 0)))


@pytest.fixture(scope="module")
def data():
    return Mnist1D()


def test_the_signals_are_the_published_ones():
    signal, label = signals(42)
    assert signal.shape == (5000, 40)
    for first, expected in LABELS.items():
        assert label[first : first + len(expected)].tolist() == expected
    for (row, column), expected in SIGNALS.items():
        np.testing.assert_allclose(signal[row, column : column + len(expected)], expected, rtol=1e-12)
    assert (signal**3).sum() == pytest.approx(CUBES, rel=1e-10)


def test_the_test_part_is_the_published_one(data):
    signal, label = everything(data, "test")
    expected, labels = signals(42)
    assert (signal.dtype, label.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(signal, torch.from_numpy(expected[4000:]).float(), rtol=0, atol=0)
    assert label.tolist() == labels[4000:].tolist()
    assert torch.equal(everything(Mnist1D(split_seed=3, valid=0.5), "test")[0], signal)


def test_validation_is_cut_from_the_training_signals(data):
    assert [data.size(part, 0) for part in PARTS] == [3200, 800, 1000]
    rows = torch.cat([everything(data, part)[0] for part in ("train", "valid")])
    published = torch.from_numpy(signals(42)[0][:4000]).float()
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in published.tolist()}
    assert Mnist1D(valid=0.1).size("valid", 0) == 400


def test_the_split_follows_its_seed(data):
    assert Mnist1D().fingerprint == data.fingerprint == pickle.loads(pickle.dumps(data)).fingerprint
    assert Mnist1D(split_seed=1).fingerprint != data.fingerprint


def test_making_them_touches_no_global_generator():
    before = np.random.get_state()[1].tolist()
    signals(42)  # by the name that this file imported: not what another test made
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("numbers", [{"valid": 0}, {"valid": 1.0}, {"valid": "x"}, {"split_seed": -1}])
def test_a_split_that_cannot_be_is_refused(numbers):
    ((name, value),) = numbers.items()
    with pytest.raises(ValueError, match=rf"^data\.{name}={value}: .* Choose "):
        Mnist1D(**numbers)


def test_folds_share_the_published_test_part():
    data = Mnist1D(folds=5)
    assert data.partitions == 5
    assert {(data.size("train", k), data.size("valid", k), data.size("test", k)) for k in range(5)} == {
        (3200, 800, 1000)
    }
    one, other = (data.fetch("test", k, torch.arange(1000))[0] for k in (0, 4))
    assert torch.equal(one, other)
