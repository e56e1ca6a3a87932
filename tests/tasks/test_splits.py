"""Parts and folds: each example in one part, stratified classes, whole groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.tasks.splits import Shares, draw_parts, split_folds

LABEL = np.repeat([0, 1, 2], [60, 30, 10])
GROUP = np.arange(100) // 5
SHARES = Shares(0.2, 0.2, 0)


@settings(max_examples=30)
@given(st.integers(30, 200), st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(0, 5))
def test_each_example_is_in_one_part(count, valid, test, seed):
    parts = draw_parts(count, Shares(valid, test, seed))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(count))
    assert abs(len(parts["valid"]) - valid * count) < 2
    assert abs(len(parts["test"]) - test * count) < 2


def test_classes_have_their_shares_of_every_part_and_fold():
    parts = draw_parts(100, SHARES, label_N=LABEL)
    for split in [parts, *split_folds(parts, 4, 0, LABEL)]:
        for index in split.values():
            share = np.bincount(LABEL[index], minlength=3) / len(index)
            np.testing.assert_allclose(share, [0.6, 0.3, 0.1], atol=0.06)


def test_groups_are_torn_apart_by_no_part_and_no_fold():
    parts = draw_parts(100, SHARES, group_N=GROUP)
    for split in [parts, *split_folds(parts, 3, 0, group_N=GROUP)]:
        groups = [set(GROUP[index]) for index in split.values()]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 20


@pytest.mark.parametrize("label_N", [None, LABEL])
def test_each_fold_validates_once_and_the_test_part_stays(label_N):
    parts = draw_parts(100, SHARES, label_N=label_N)
    folds = split_folds(parts, 5, 0, label_N)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold["valid"] for fold in folds]).tolist()) == sorted(
        [*parts["train"].tolist(), *parts["valid"].tolist()]
    )
    for fold in folds:
        assert fold["test"].tolist() == parts["test"].tolist()
        assert sorted(np.concatenate(list(fold.values())).tolist()) == list(range(100))


@pytest.mark.parametrize("none", [None, 1])
def test_without_folds_there_is_one_split(none):
    parts = draw_parts(100, SHARES)
    assert split_folds(parts, none, 0) == [parts]


@pytest.mark.parametrize(
    ("folds", "told"),
    [(0, r"data\.folds=0: not a count"), (2.5, r"data\.folds=2\.5: "), (9, r"data\.folds=9: .*\(a class has 8")],
)
def test_folds_that_cannot_be_are_refused(folds, told):
    with pytest.raises(ValueError, match=told):
        split_folds(draw_parts(100, SHARES, label_N=LABEL), folds, 0, LABEL)


@pytest.mark.parametrize(
    ("shares", "given", "told"),
    [
        (Shares(0.5, 0.5, 0), {}, r"data\.valid=0\.5: with data\.test=0\.5, a part is empty"),
        (
            SHARES,
            {"label_N": np.array([0] * 99 + [1])},
            r"data\.valid=.*: with data\.test=.*, 100 examples cannot be split",
        ),
        (SHARES, {"group_N": np.zeros(100)}, r"data\.valid=.*: .* cannot be split"),
        (Shares(0.2, 0.2, -1), {}, r"data\.split_seed=-1: "),
    ],
)
def test_what_cannot_be_split_is_refused(shares, given, told):
    with pytest.raises(ValueError, match=told):
        draw_parts(100, shares, **given)
