"""The user's arrays, tensors, tables and lists as tensors: finite numbers, and targets that are classes or amounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PROBLEMS = ("auto", "classification", "regression")
CLASSES_UP_TO = 20  # most different whole numbers that count as classes with problem="auto"


class Targets(NamedTuple):
    """Targets of all given parts.

    Attributes:
        of: By part: int64 classes, or float64 (float32 for more than two dimensions) amounts.
        classes: Names of the classes in sorted order; () if they were given as numbers.
    """

    of: dict[str, Tensor]
    classes: tuple[str, ...] = ()


def read_inputs(part: str, array: Any) -> Tensor:
    """Return a copy of inputs on the CPU.

    Args:
        part: Where they were given; errors name it.
        array: Inputs, [N] or [N, ...].

    Returns:
        float64 for floats of up to two dimensions, so that they can be standardized; float32 for other floats and for
        true/false; int64 for whole numbers.

    Raises:
        ValueError: If they are not finite numbers.
    """
    if not isinstance(array, Tensor) and (column := _column_without_numbers(array)) is not None:
        raise ValueError(
            f"{part}: column '{column}' of X is not made of numbers. Use Table(df, target=...), or leave it out"
        )
    tensor = _tensor(f"{part}: X", array)
    return tensor.float() if tensor.dtype == torch.bool else tensor


def read_targets(arrays: Mapping[str, object], problem: str) -> Targets:
    """Return the targets of all given parts.

    Args:
        arrays: Targets by where they were given; errors name it.
        problem: One of PROBLEMS. With "auto", text, true/false and whole numbers are classes.

    Raises:
        ValueError: If they cannot be used, or whole numbers may be classes or amounts.
    """
    if problem not in PROBLEMS:
        raise ValueError(f"problem={problem}: no such choice. Choose one of {', '.join(PROBLEMS)}")
    if any(_is_text(array) for array in arrays.values()):
        return _name_classes(arrays, problem)
    targets = {part: _tensor(f"{part}: y", array) for part, array in arrays.items()}
    if problem == "regression":
        return Targets({part: y if y.is_floating_point() else _wide(y.double()) for part, y in targets.items()})
    if problem == "classification":
        targets = {part: _whole(part, y) for part, y in targets.items()}
    targets = {part: y.long() if y.dtype == torch.bool else y for part, y in targets.items()}
    for part, y in targets.items():
        if len(y) and not y.is_floating_point() and int(y.min()) < 0:
            remedy = "Number the classes from 0: np.unique(y, return_inverse=True)[1]"
            raise ValueError(f'{part}: y has the class {int(y.min())}. {remedy}, or set problem="regression"')
        if problem == "auto" and not y.is_floating_point() and (count := np.unique(y.numpy()).size) > CLASSES_UP_TO:
            raise ValueError(
                f"{part}: y has {count} different whole numbers, which may be classes or amounts. "
                'Set problem="classification" or problem="regression"'
            )
    return Targets(targets)


# --- numbers ----------------------------------------------------------------------------------------


def _tensor(what: str, array: Any) -> Tensor:
    """Return a copy as a tensor of bool, int64, float64 or float32 (see `read_inputs`)."""
    is_real_tensor = isinstance(array, Tensor) and not array.is_complex()
    # A copy, because the user may change the array later.
    tensor = array.detach().cpu().clone() if is_real_tensor else torch.from_numpy(_numbers(what, array))
    if tensor.dim() == 0:
        raise ValueError(f"{what} is a single number. Give an array with one row for each example")
    if not tensor.is_floating_point():
        return tensor if tensor.dtype == torch.bool else tensor.long()
    if not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).sum())
        raise ValueError(
            f"{what} has NaN or infinity in {bad} of {len(tensor)} examples. Replace the values or remove the examples"
        )
    return _wide(tensor).contiguous()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.dim() <= 2 else tensor.float()


def _numbers(what: str, array: Any) -> NDArray[Any]:
    numbers = np.array(array)
    if numbers.dtype == object and hasattr(array, "to_numpy"):  # a table of several types, or of nullable numbers
        numbers = _from_pandas(array)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"{what} does not hold numbers ({numbers.dtype}). Convert it to numbers")
    return numbers.astype(np.float64 if numbers.dtype.kind == "f" else np.int64 if numbers.dtype.kind != "b" else bool)


def _from_pandas(table: Any) -> NDArray[Any]:
    """Return a pandas table or column whose types NumPy does not have; as objects if it does not hold numbers."""
    kind = getattr(getattr(table, "dtype", None), "kind", "f")  # of a column; a table has several types
    has_gaps = bool(np.asarray(table.isna()).any())
    try:
        if has_gaps or kind not in "iub":
            return np.asarray(table.to_numpy(np.float64, na_value=np.nan))
        return np.asarray(table.to_numpy(bool if kind == "b" else np.int64))
    except (TypeError, ValueError):
        return np.array(table)


def _column_without_numbers(array: Any) -> str | None:
    """Return the first column of a pandas table that does not hold numbers."""
    if not hasattr(array, "columns"):
        return None
    import pandas as pd

    return next((str(name) for name in array.columns if not pd.api.types.is_numeric_dtype(array[name])), None)


# --- classes ----------------------------------------------------------------------------------------


def _is_text(array: Any) -> bool:
    values = np.zeros(0) if isinstance(array, Tensor) else np.asarray(array)
    return values.ndim == 1 and (values.dtype.kind == "U" or any(isinstance(value, str) for value in values[:1000]))


def _whole(part: str, y: Tensor) -> Tensor:
    if y.is_floating_point() and bool((y % 1 != 0).any()):
        raise ValueError(
            f'problem=classification: {part}: y has numbers with a fraction. Choose "regression", or give classes'
        )
    return y.long()


def _name_classes(arrays: Mapping[str, object], problem: str) -> Targets:
    """Return names of classes as numbers, in the sorted order of all parts together."""
    if problem == "regression":
        raise ValueError('problem=regression: y does not hold numbers. Choose "classification", or convert it')
    import pandas as pd

    names = {}
    for part, array in arrays.items():
        values = np.asarray(array, dtype=object)
        missing = int(pd.isna(values).sum())
        if missing:
            raise ValueError(f"{part}: y has no value in {missing} of {len(values)} examples. Remove these examples")
        names[part] = values.astype(str)
    classes = np.unique(np.concatenate(list(names.values())))
    places = {part: torch.from_numpy(np.searchsorted(classes, of_part)) for part, of_part in names.items()}
    return Targets(places, tuple(classes.tolist()))
