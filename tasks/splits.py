"""Which examples are trained on, validated on and tested on: at random, class by class, group by group; and folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .counts import check_counts

Index = NDArray[np.int64]
Parts = dict[str, Index]


@dataclass(frozen=True)
class Shares:
    """How large the parts are that a seed draws: `valid` and `test` are fractions of all examples, or groups."""

    valid: float
    test: float
    seed: int


def draw_parts(
    count: int, shares: Shares, *, label_N: Index | None = None, group_N: NDArray[Any] | None = None
) -> Parts:
    """Return the places of `count` examples in "train", "valid" and "test", each in increasing order.

    label_N: each class is split alike. group_N: examples of one group stay together. Raises ValueError.
    """
    valid, test, seed = shares.valid, shares.test, shares.seed
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise ValueError(
            f"data.valid={valid}: with data.test={test} it leaves an empty part. "
            "Choose fractions above 0 that add up to less than 1."
        )
    rest, tested = _cut(np.arange(count), test, seed, label_N, group_N)
    trained, validated = _cut(rest, valid / (1 - test), seed, label_N, group_N)
    return {"train": np.sort(trained), "valid": np.sort(validated), "test": np.sort(tested)}


def held_out(count: int, valid: float, seed: int, what: str) -> Parts:
    """The places of `count` examples, whose test part lies elsewhere, in "train" and "valid", in increasing order.

    valid: a fraction of them, drawn by `seed`. what: they are called. Raises ValueError.
    """
    number = isinstance(valid, int | float) and not isinstance(valid, bool)
    held = round(valid * count) if number and 0 < valid < 1 else 0
    if not 0 < held < count:
        raise ValueError(
            f"data.valid={valid}: a part of the {count} {what} would be empty. Choose a fraction in (0, 1)."
        )
    try:
        order = np.random.default_rng(seed).permutation(count)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.split_seed={seed}: this is no seed. Choose a whole number from 0.") from error
    return {"train": np.sort(order[held:]), "valid": np.sort(order[:held])}


def split_folds(
    parts: Parts,
    folds: int | None,
    seed: int,
    label_N: Index | None = None,
    group_N: NDArray[Any] | None = None,
) -> list[Parts]:
    """[parts] without folds; else K of them with the same test part, each fold of all the rest validating once.

    label_N, group_N: of all examples, as in `draw_parts`. Raises ValueError.
    """
    if not is_folded(folds):
        return [parts]
    rest = np.sort(np.concatenate([parts["train"], parts["valid"]]))
    try:
        of_rest = _folds_of(rest, int(folds or 1), seed, label_N, group_N)
    except ValueError as error:  # more folds than examples of a class, than groups
        raise ValueError(f"data.folds={folds}: the examples cannot be split so ({error}). Choose fewer.") from error
    return [{"train": rest[train], "valid": rest[valid], "test": parts["test"]} for train, valid in of_rest]


def is_folded(folds: int | None) -> bool:
    """Whether there are folds at all: null and 1 are none. Raises ValueError for what is no number of them."""
    if folds is not None:
        check_counts("data", 1, folds=folds)
    return folds is not None and folds > 1


def _folds_of(
    rest: Index, folds: int, seed: int, label_N: Index | None, group_N: NDArray[Any] | None
) -> list[tuple[Index, Index]]:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    label = None if label_N is None else label_N[rest]
    if group_N is not None:
        return list(GroupKFold(folds, shuffle=True, random_state=seed).split(rest, label, group_N[rest]))
    if label is None:
        return list(KFold(folds, shuffle=True, random_state=seed).split(rest))
    fewest = int(np.bincount(label)[np.unique(label)].min())
    if fewest < folds:  # sklearn only warns
        raise ValueError(f"a class has {fewest} of them")
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(rest, label))


def _cut(
    places: Index, share: float, seed: int, label_N: Index | None, group_N: NDArray[Any] | None
) -> tuple[Index, Index]:
    """Without and with `share` of the places."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    try:
        if group_N is not None:
            splitter = GroupShuffleSplit(1, test_size=share, random_state=seed)
            left, taken = next(splitter.split(places, groups=group_N[places]))
            return places[left], places[taken]
        label = None if label_N is None else label_N[places]
        left, taken = train_test_split(places, test_size=share, stratify=label, random_state=seed)
        return left, taken
    except ValueError as error:  # a part smaller than the number of classes, a class of one, no seed
        raise ValueError(
            f"data.split_seed={seed}: {len(places)} examples cannot be split so "
            f"({' '.join(str(error).split()).rstrip('.')}). Change data.valid or data.test, or leave rare classes out."
        ) from error
