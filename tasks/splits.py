"""Splits into training, validation and test: random, stratified by class or by groups, and folds."""

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
    """The sizes of a random split.

    Attributes:
        valid: Validation part, as a fraction of all examples (or groups).
        test: Test part, as a fraction of all examples (or groups).
        seed: Of the random split.
    """

    valid: float
    test: float
    seed: int


def draw_parts(
    count: int, shares: Shares, *, label_N: Index | None = None, group_N: NDArray[Any] | None = None
) -> Parts:
    """Return the indices of the examples in "train", "valid" and "test", each in increasing order.

    Args:
        count: Number of examples.
        shares: Sizes of the parts.
        label_N: Classes, to stratify the split.
        group_N: Groups whose examples stay in the same part.

    Raises:
        ValueError: If a part would be empty, or the examples cannot be split like this.
    """
    valid, test, seed = shares.valid, shares.test, shares.seed
    check_seed(seed)
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise ValueError(
            f"data.valid={valid}: with data.test={test}, a part is empty. "
            "Choose fractions above 0 that add up to less than 1"
        )
    try:
        rest, tested = _cut(np.arange(count), test, seed, label_N, group_N)
        trained, validated = _cut(rest, valid / (1 - test), seed, label_N, group_N)
    except ValueError as error:  # a part smaller than the number of classes, a class with one example
        cause = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"data.valid={valid}: with data.test={test}, {count} examples cannot be split ({cause}). "
            "Change data.valid or data.test, or leave out rare classes"
        ) from error
    return {"train": np.sort(trained), "valid": np.sort(validated), "test": np.sort(tested)}


def check_seed(seed: int) -> None:
    """Check the seed of a random split.

    Raises:
        ValueError: If scikit-learn cannot use it.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"data.split_seed={seed}: not a seed. Choose a whole number from 0 to {2**32 - 1}")


def held_out(count: int, valid: float, seed: int, what: str) -> Parts:
    """Return the indices of the examples in "train" and "valid", in increasing order, for data with a fixed test part.

    Args:
        count: Number of examples, without the test part.
        valid: Validation part, as a fraction of them.
        seed: Of the random split.
        what: A plural noun for the examples, for the error.

    Raises:
        ValueError: If a part would be empty, or the seed cannot be used.
    """
    is_number = isinstance(valid, int | float) and not isinstance(valid, bool)
    size = round(valid * count) if is_number and 0 < valid < 1 else 0
    if not 0 < size < count:
        raise ValueError(
            f"data.valid={valid}: a part of the {count} {what} would be empty. Choose a fraction in (0, 1)"
        )
    try:
        order = np.random.default_rng(seed).permutation(count)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.split_seed={seed}: not a valid seed. Choose a whole number from 0") from error
    return {"train": np.sort(order[size:]), "valid": np.sort(order[:size])}


def split_folds(
    parts: Parts,
    folds: int | None,
    seed: int,
    label_N: Index | None = None,
    group_N: NDArray[Any] | None = None,
) -> list[Parts]:
    """Split everything but the test part into folds, each of which is the validation part once.

    Args:
        parts: The indices of "train", "valid" and "test".
        folds: Number of folds. None or 1 for no folds.
        seed: Of the random folds.
        label_N: Classes of all examples, to stratify the folds.
        group_N: Groups of all examples, each of which stays in one fold.

    Returns:
        The parts of each fold, all with the same test part; or `[parts]` without folds.

    Raises:
        ValueError: If the examples cannot be split into so many folds.
    """
    if not is_folded(folds):
        return [parts]
    rest = np.sort(np.concatenate([parts["train"], parts["valid"]]))
    try:
        of_rest = _folds_of(rest, int(folds or 1), seed, label_N, group_N)
    except ValueError as error:  # more folds than examples of a class, than groups
        raise ValueError(f"data.folds={folds}: too many folds ({error}). Choose fewer") from error
    return [{"train": rest[train], "valid": rest[valid], "test": parts["test"]} for train, valid in of_rest]


def is_folded(folds: int | None) -> bool:
    """Return whether there is more than one fold.

    Args:
        folds: `data.folds`. None and 1 mean no folds.

    Raises:
        ValueError: If it is not a number of folds.
    """
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
        raise ValueError(f"a class has {fewest} examples")
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(rest, label))


def _cut(
    places: Index, share: float, seed: int, label_N: Index | None, group_N: NDArray[Any] | None
) -> tuple[Index, Index]:
    """Split the indices into the rest and a random `share` of them."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    if group_N is not None:
        splitter = GroupShuffleSplit(1, test_size=share, random_state=seed)
        rest, drawn = next(splitter.split(places, groups=group_N[places]))
        return places[rest], places[drawn]
    label = None if label_N is None else label_N[places]
    rest, drawn = train_test_split(places, test_size=share, stratify=label, random_state=seed)
    return rest, drawn
