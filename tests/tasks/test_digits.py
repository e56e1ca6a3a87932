"""Digits: split and standardization."""

import pickle

import pytest
import torch
from sklearn.datasets import load_digits

from sweeper.tasks.digits import Digits

PARTS = ("train", "valid", "test")


def everything(data, part):
    return data.fetch(part, 0, torch.arange(data.size(part, 0)))


@pytest.fixture(scope="module")
def data():
    return Digits()


def test_every_image_is_in_one_part(data):
    pixels, label = load_digits(return_X_y=True)
    count = torch.cat([everything(data, part)[1] for part in PARTS]).bincount()
    assert count.tolist() == torch.from_numpy(label).bincount().tolist()
    rows = torch.cat([everything(data, part)[0] for part in PARTS])
    assert len(rows.unique(dim=0)) == len(torch.from_numpy(pixels).unique(dim=0))


def test_the_parts_have_their_shares_of_every_class(data):
    assert [data.size(part, 0) for part in PARTS] == [1078, 359, 360]
    for part in PARTS:
        share = everything(data, part)[1].bincount(minlength=10) / data.size(part, 0)
        torch.testing.assert_close(share, torch.full((10,), 0.1), atol=0.01, rtol=0)


def test_pixels_are_standardised_by_the_training_part_alone(data):
    pixels, label = everything(data, "train")
    assert (pixels.dtype, label.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(pixels.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    deviation = pixels.std(0, correction=0)
    assert float(deviation.max()) < 1 + 1e-5
    assert int((deviation > 1 - 1e-5).sum()) > 45
    assert float(everything(data, "valid")[0].mean(0).abs().max()) > 1e-3


def test_constant_and_rare_pixels_give_neither_nan_nor_outliers(data):
    for part in PARTS:
        pixels, _ = everything(data, part)
        assert pixels.isfinite().all()
        assert float(pixels.abs().max()) <= 16
    train, _ = everything(data, "train")
    assert train[:, 0].eq(0).all()  # the upper left corner is blank in every image


def test_the_split_follows_its_seed(data):
    assert Digits().fingerprint == data.fingerprint
    assert Digits(split_seed=1).fingerprint != data.fingerprint
    assert Digits(valid=0.1, test=0.3).size("test", 0) == 540


def test_a_placed_copy_and_a_pickle_give_the_same(data):
    for other in (data.to(torch.device("cpu")), pickle.loads(pickle.dumps(data))):
        assert torch.equal(everything(other, "valid")[0], everything(data, "valid")[0])
    assert data.to(torch.device("meta")).fetch("train", 0, torch.arange(3, device="meta"))[0].device.type == "meta"


@pytest.mark.parametrize(("valid", "test"), [(0, 0.2), (0.2, 1), (0.5, 0.5), (-0.1, 0.2)])
def test_fractions_that_leave_a_part_empty_are_refused(valid, test):
    with pytest.raises(ValueError, match=rf"^data\.valid={valid}: with data\.test={test}, "):
        Digits(valid=valid, test=test)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"valid": 1e-4}, r"data\.valid=0\.0001: with data\.test=0\.2, the digits cannot be split"),
        ({"test": 0.001}, r"data\.valid=0\.2: with data\.test=0\.001, the digits cannot be split"),
        ({"split_seed": -1}, r"data\.split_seed=-1: not a seed"),
        ({"split_seed": 2**32}, r"data\.split_seed=4294967296: not a seed"),
    ],
)
def test_what_cannot_be_split_is_refused(numbers, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        Digits(**numbers)


def test_each_fold_is_scaled_by_its_own_training_part(data):
    folds = Digits(folds=4)
    assert folds.partitions == 4
    assert sum(folds.size("valid", fold) for fold in range(4)) == data.size("train", 0) + data.size("valid", 0)
    for fold in range(4):
        pixels, _ = folds.fetch("train", fold, torch.arange(folds.size("train", fold)))
        torch.testing.assert_close(pixels.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
        assert torch.equal(folds.fetch("test", fold, torch.arange(360))[1], everything(data, "test")[1])
    assert Digits(folds=1).fingerprint == data.fingerprint != folds.fingerprint
