"""Your own arrays or tensors as a data set in memory, split into training, validation and test."""

from __future__ import annotations

import copy
import hashlib
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .problems import CLASSIFICATION, REGRESSION, Problem
from .splits import is_folded, split_folds

Pair = tuple[Any, Any]
Parts = dict[str, tuple[Tensor, Tensor]]


class Arrays:
    """A data set of inputs X [N, ...] and targets y [N, ...]: NumPy arrays, tensors, tables or lists of numbers.

    Targets that are whole numbers or true/false are classes from 0 (cross-entropy, accuracy). Other targets are a
    regression (squared error, mean absolute error and R2). With several targets for each example, the example's loss is
    their mean. Floats become float32 and whole numbers int64. Nothing is scaled.

    A model's constructor that has a parameter `inputs` gets the number of features of an example, or the size of the
    vocabulary if X holds whole numbers. One that has a parameter `outputs` gets the number of classes or columns of y.

    Example:
        ```python
        task = Supervised(Arrays(X, y, valid=0.1, folds=5), Net)
        ```

    Args:
        X: Inputs.
        y: Targets.
        valid: A fraction of the N examples, drawn at random, or your own validation examples (X, y). Give your own if
            examples depend on each other (time, patients, speakers) or if a class is rare.
        test: The same for the test part. It may be 0; the sweep then reports nothing about a test part.
        split_seed: Of the random split.
        folds: Number of folds, instead of one validation part. Each has the same share of every class. The test part
            does not change. None for no folds.
        name: Sweeps of these data are named by it.

    Raises:
        ValueError: If the arrays, the split or the folds cannot be used.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        valid: float | Pair = 0.2,
        test: float | Pair = 0.2,
        split_seed: int = 0,
        folds: int | None = None,
        name: str = "arrays",
    ) -> None:
        whole_set = _pair("X, y", (X, y))
        user_parts: Parts = {}
        shares: dict[str, float] = {}
        for part, value in (("valid", valid), ("test", test)):
            if isinstance(value, tuple | list) and len(value) == 2:
                user_parts[part] = _pair(part, (value[0], value[1]))
            else:
                shares[part] = _share(part, value)
        self._parts: Parts = {**_split(whole_set, shares, split_seed), **user_parts}
        self.name = name
        self._folds = self._split_into_folds(folds, split_seed, "valid" in user_parts)
        self.partitions = max(1, len(self._folds))
        self.problem: Problem = REGRESSION if whole_set[1].is_floating_point() else CLASSIFICATION
        for part, pair in user_parts.items():
            _check_rows_match(part, pair, whole_set)
        self.inputs, self.outputs = _sizes(list(self._parts.values()))
        if not whole_set[0].is_floating_point() and whole_set[0].dim() > 1:
            self.context = whole_set[0].shape[1]
        self.fingerprint = _fingerprint(self._parts, self._folds)

    def to(self, device: torch.device) -> Self:
        """Return the same data on `device`."""
        placed = copy.copy(self)
        placed._parts = {part: (x.to(device), y.to(device)) for part, (x, y) in self._parts.items()}
        placed._folds = [{part: index.to(device) for part, index in fold.items()} for fold in self._folds]
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        fold = self._folds[partition] if self._folds else {}
        return len(fold[part] if part in fold else self._parts[part][1])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the examples `index_B`."""
        fold = self._folds[partition] if self._folds else {}
        if part in fold:
            part, index_B = "train", fold[part][index_B]
        x, y = self._parts[part]
        return x[index_B], y[index_B]

    def _split_into_folds(self, folds: int | None, seed: int, has_user_valid: bool) -> list[dict[str, Tensor]]:
        """Merge "valid" into "train", and return the indices of each fold's examples in it."""
        if not is_folded(folds):
            return []
        if has_user_valid:
            raise ValueError(f"folds={folds}: `valid` is your own validation part. Leave out `folds` or `valid`")
        x, y = zip(self._parts["train"], self._parts.pop("valid"), strict=True)
        self._parts["train"] = torch.cat(x), torch.cat(y)
        count, target = len(self._parts["train"][1]), self._parts["train"][1]
        label_N = None if target.is_floating_point() or target.dim() > 1 else target.numpy()
        places = {"train": np.arange(count), "valid": np.arange(0), "test": np.arange(0)}
        return [
            {part: torch.from_numpy(fold[part]) for part in ("train", "valid")}
            for fold in split_folds(places, folds, seed, label_N)
        ]


# --- one pair ---------------------------------------------------------------------------------------


def _pair(what: str, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return inputs and targets as finite tensors of equal length on the CPU."""
    x, y = (_tensor(f"{what}: {side}", array) for side, array in zip(("X", "y"), pair, strict=True))
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"{what}: X has {len(x)} examples, y has {len(y)}. Give one target for each example")
    if not y.is_floating_point() and int(y.min()) < 0:
        raise ValueError(
            f"{what}: y has the class {int(y.min())}. Number the classes from 0: np.unique(y, return_inverse=True)[1]"
        )
    return x, y


def _tensor(what: str, array: Any) -> Tensor:
    is_real_tensor = isinstance(array, Tensor) and not array.is_complex()
    # A copy, because the user may change the array later.
    tensor = array.detach().cpu().clone() if is_real_tensor else torch.from_numpy(_numbers(what, array))
    if tensor.dim() == 0:
        raise ValueError(f"{what} is a single number. Give an array with one row for each example")
    if not tensor.is_floating_point():
        is_input = what.endswith("X")
        return tensor.float() if is_input and tensor.dtype == torch.bool else tensor.long()
    if not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).sum())
        raise ValueError(
            f"{what} has NaN or infinity in {bad} of {len(tensor)} examples. Replace the values or remove the examples"
        )
    return tensor.float().contiguous()


def _numbers(what: str, array: Any) -> NDArray[Any]:
    numbers = np.array(array)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(
            f"{what} does not hold numbers ({numbers.dtype}). Convert class names to numbers: "
            "np.unique(y, return_inverse=True)[1]"
        )
    return numbers.astype(np.float64 if numbers.dtype.kind == "f" else np.int64 if numbers.dtype.kind != "b" else bool)


def _check_rows_match(part: str, pair: tuple[Tensor, Tensor], whole_set: tuple[Tensor, Tensor]) -> None:
    for side, rows, other in zip(("X", "y"), pair, whole_set, strict=True):
        if rows.shape[1:] != other.shape[1:] or rows.dtype != other.dtype:
            raise ValueError(
                f"{part}: {side} has rows {_row(rows)}, and the training part has rows {_row(other)}. "
                "Give both the same type and shape"
            )


def _row(rows: Tensor) -> str:
    return f"{str(rows.dtype).removeprefix('torch.')} {list(rows.shape[1:])}"


# --- the parts --------------------------------------------------------------------------------------


def _share(part: str, value: Any) -> float:
    least = "above 0" if part == "valid" else "0 or more"
    fits = isinstance(value, int | float) and 0 <= value < 1 and not (part == "valid" and value == 0)
    if not fits or isinstance(value, bool):
        raise ValueError(f"{part}={value}: not a fraction of the examples. Choose a fraction {least}, or give (X, y)")
    return float(value)


def _split(pair: tuple[Tensor, Tensor], shares: dict[str, float], seed: int) -> Parts:
    """Split the examples at random: the shares for validation and test, the rest for training."""
    count = len(pair[1])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    parts: Parts = {}
    first = 0
    for part, share in shares.items():
        size = round(share * count)
        if share and not size:
            raise ValueError(f"{part}={share}: selects none of the {count} examples. Raise it, or give (X, y)")
        index = order[first : first + size].sort().values
        parts[part], first = (pair[0][index], pair[1][index]), first + size
    if first >= count:
        raise ValueError(
            f"valid={shares.get('valid')}, test={shares.get('test')}: no examples are left for training. Lower them"
        )
    index = order[first:].sort().values
    return {"train": (pair[0][index], pair[1][index]), **parts}


def _sizes(parts: list[tuple[Tensor, Tensor]]) -> tuple[int, int]:
    """Return `inputs` and `outputs` over all parts."""
    x, y = parts[0]
    inputs = x[0].numel() if x.is_floating_point() else 1 + max(int(x.max()) for x, _ in parts if len(x))
    if y.is_floating_point():
        return inputs, 1 if y.dim() == 1 else y[0].numel()
    return inputs, max(2, 1 + max(int(y.max()) for _, y in parts if len(y)))


def _fingerprint(parts: Parts, folds: list[dict[str, Tensor]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in sorted(parts):
        for tensor in parts[part]:
            digest.update(f"{part} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    for fold in folds:
        digest.update(fold["valid"].numpy().tobytes())
    return digest.hexdigest()
