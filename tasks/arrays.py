"""Your own arrays or tensors as a data set in memory, split into training, validation and test."""

from __future__ import annotations

import copy
import hashlib
import warnings
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from . import summaries
from .array_values import read_inputs, read_targets
from .metrics import Measures
from .problems import CLASSIFICATION, REGRESSION, Problem, mean_square, squared_error
from .scaling import Scaling, fit
from .served import Scaled
from .splits import is_folded, split_folds

Pair = tuple[Any, Any]
Parts = dict[str, tuple[Tensor, Tensor]]

USUAL_DEVIATION = (0.03, 30.0)  # of inputs that are left as they are; outside of it there is a warning


class Arrays(Scaled):
    """A data set of inputs X [N, ...] and targets y [N, ...]: NumPy arrays, tensors, tables or lists of numbers.

    Targets that are text, whole numbers from 0 or true/false are classes (cross-entropy, accuracy). Other targets are a
    regression (squared error, mean absolute error and R2, in the unit of the target). With several targets for each
    example, the example's loss is their mean. Floats become float32 and whole numbers int64.

    A model's constructor that has a parameter `inputs` gets the number of features of an example, or the size of the
    vocabulary if X holds whole numbers. One that has a parameter `outputs` gets the number of classes or columns of y.

    Example:
        ```python
        task = Supervised(Arrays(X, y, valid=0.1, folds=5), Net)
        ```

    Args:
        X: Inputs.
        y: Targets.
        problem: "classification", "regression", or "auto", which refuses more than 20 different whole numbers, because
            they may be either.
        scale: What is standardized, by mean and standard deviation of the training part. "auto": the columns of X
            [N, F] if they are floats, and the target of a regression, unless `Supervised` gets a loss that may not fit
            it (one that is not a function of output - target). True: also floats of more dimensions, all values
            together, and the target under any loss. False: nothing. Each fold standardizes its own inputs; all folds
            have the same target. `scaling` has the means and deviations, for new examples.
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

    unscaled: Arrays | None = None  # with scale="auto", the same data as given, if anything is standardized

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        problem: str = "auto",
        scale: bool | str = "auto",
        valid: float | Pair = 0.2,
        test: float | Pair = 0.2,
        split_seed: int = 0,
        folds: int | None = None,
        name: str = "arrays",
    ) -> None:
        if not (isinstance(scale, bool) or scale == "auto"):
            raise ValueError(f'scale={scale}: no such choice. Choose "auto", True or False')
        pairs: dict[str, Pair] = {"X, y": (X, y)}
        shares: dict[str, float] = {}
        for part, value in (("valid", valid), ("test", test)):
            if isinstance(value, tuple | list) and len(value) == 2:
                pairs[part] = (value[0], value[1])
            else:
                shares[part] = _share(part, value)
        inputs = {part: read_inputs(part, pair[0]) for part, pair in pairs.items()}
        targets = read_targets({part: pair[1] for part, pair in pairs.items()}, problem)
        given = {part: _pair(part, inputs[part], targets.of[part]) for part in pairs}
        whole_set = given.pop("X, y")
        for part, pair in given.items():
            _check_rows_match(part, pair, whole_set)
        parts = {**_split(whole_set, shares, split_seed), **given}
        parts, self._folds = _folded(parts, folds, split_seed, has_user_valid="valid" in given)
        self.name, self.scale, self.classes = name, scale, targets.classes
        self.partitions = max(1, len(self._folds))
        self.inputs, self.outputs = _sizes(list(parts.values()))
        if not whole_set[0].is_floating_point() and whole_set[0].dim() > 1:
            self.context = whole_set[0].shape[1]
        self._inputs_K = [{part: _narrow(x) for part, (x, _) in parts.items()}]
        self._targets = {part: _narrow(y) for part, (_, y) in parts.items()}
        self.scaling = Scaling()
        self.problem: Problem = REGRESSION if whole_set[1].is_floating_point() else CLASSIFICATION
        self.fingerprint = _fingerprint(self._inputs_K[0], self._targets, self._folds)
        if scale is not False:
            self._standardize(parts)

    @property
    def summary(self) -> str:
        """What was understood and done, in one line: the first line of a sweep's output."""
        if self._targets["train"].is_floating_point():
            columns = "y" if self.outputs == 1 else f"{self.outputs} columns of y"
            understood = summaries.regression(columns, torch.cat(list(self._targets.values())))
        else:
            understood = summaries.classification(self.outputs, self.classes)
        scaled = [summaries.count_of(self.inputs, "input")] if self.scaling.inputs else []
        scaled += [] if self.scaling.target is None else ["the target" if self.outputs == 1 else "the targets"]
        if scaled:
            done = summaries.standardization(scaled)
            return f"{understood}; {done} (scale=False leaves {'it' if ' is ' in done else 'them'})"
        is_symbols = not self._inputs_K[0]["train"].is_floating_point()
        return f"{understood}; {f'X holds symbols, {self.inputs} of them' if is_symbols else 'nothing is standardized'}"

    @property
    def unit(self) -> float | Tensor:
        """The deviation by which the target was divided, [columns] if there are several. 1 if it was not."""
        if self.scaling.target is None:
            return 1.0
        deviation = torch.from_numpy(self.scaling.target.deviation)
        return deviation.item() if deviation.numel() == 1 else deviation

    def with_given_target(self) -> Arrays:
        """Return the same data with the target in its own unit, for a loss that needs it there."""
        if self.scaling.target is None or self.unscaled is None:
            return self
        if not self.scaling.inputs:
            return self.unscaled
        data = copy.copy(self)
        data._targets, data.problem, data.unscaled = self.unscaled._targets, REGRESSION, self.unscaled
        data._set_scaling(Scaling(self.scaling.inputs), self.unscaled.fingerprint)
        return data

    def to(self, device: torch.device) -> Self:
        """Return the same data on `device`."""
        placed = copy.copy(self)
        placed._inputs_K = [{part: x.to(device) for part, x in inputs.items()} for inputs in self._inputs_K]
        placed._targets = {part: y.to(device) for part, y in self._targets.items()}
        placed._folds = [{part: index.to(device) for part, index in fold.items()} for fold in self._folds]
        return placed

    def size(self, part: str, partition: int) -> int:
        """Return the number of examples."""
        fold = self._folds[partition] if self._folds else {}
        return len(fold[part] if part in fold else self._targets[part])

    def fetch(self, part: str, partition: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the examples `index_B`."""
        fold = self._folds[partition] if self._folds else {}
        if part in fold:
            part, index_B = "train", fold[part][index_B]
        inputs = self._inputs_K[partition if len(self._inputs_K) > 1 else 0]
        return inputs[part][index_B], self._targets[part][index_B]

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes of a copy, for a device or another process: without the data as they were given."""
        return {**vars(self), "unscaled": None}

    def _standardize(self, parts: Parts) -> None:
        """Standardize what `scale` asks for. With "auto", `unscaled` keeps the data as given."""
        x, y = parts["train"]
        is_scaled = x.dtype == torch.float64 or (self.scale is True and x.is_floating_point())
        trained_K = [x[fold["train"]] for fold in self._folds] or [x]
        inputs = tuple(fit(one, by_column=x.dim() <= 2) for one in trained_K) if is_scaled else ()
        target = fit(y) if y.is_floating_point() else None
        if x.is_floating_point() and not is_scaled:
            _warn_of_deviation(x)
        if not inputs and target is None:
            return
        if self.scale == "auto":
            self.unscaled = copy.copy(self)
        if inputs:
            self._inputs_K = [{part: one.apply(x) for part, (x, _) in parts.items()} for one in inputs]
        if target is not None:
            self._targets = {part: target.apply(y) for part, (_, y) in parts.items()}
        self._set_scaling(Scaling(inputs, target), self.fingerprint)
        if target is not None:
            self.problem = Problem(squared_error, Measures(("mae", "r2"), self.unit), mean_square)

    def _set_scaling(self, scaling: Scaling, given: str) -> None:
        """Set what is standardized, and the fingerprint, which does not depend on the last bits of a mean.

        Args:
            scaling: What is standardized.
            given: Fingerprint of the data as given.
        """
        what = [*(["inputs"] if scaling.inputs else []), *(["target"] if scaling.target else [])]
        self.scaling, self.fingerprint = scaling, "-".join([given, "standardized", *what])


def _warn_of_deviation(x: Tensor) -> None:
    deviation, (low, high) = float(x.double().std(correction=0)), USUAL_DEVIATION
    if not low <= deviation <= high:
        warnings.warn(
            f"X: its standard deviation is {deviation:.3g}, and models train best near 1. Set scale=True", stacklevel=4
        )


# --- one pair ---------------------------------------------------------------------------------------


def _pair(part: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, checked to be of equal length."""
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"{part}: X has {len(x)} examples, y has {len(y)}. Give one target for each example")
    return x, y


def _check_rows_match(part: str, pair: tuple[Tensor, Tensor], whole_set: tuple[Tensor, Tensor]) -> None:
    for side, rows, other in zip(("X", "y"), pair, whole_set, strict=True):
        if rows.shape[1:] != other.shape[1:] or rows.is_floating_point() != other.is_floating_point():
            raise ValueError(
                f"{part}: {side} has rows of {_row(rows)}, and the training part has rows of {_row(other)}. "
                "Give both the same type and shape"
            )


def _row(rows: Tensor) -> str:
    kind = "floats" if rows.is_floating_point() else "whole numbers"
    return f"{kind} {list(rows.shape[1:])}"


def _narrow(tensor: Tensor) -> Tensor:
    """Return floats as float32."""
    return tensor.float() if tensor.is_floating_point() else tensor


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


def _folded(
    parts: Parts, folds: int | None, seed: int, *, has_user_valid: bool
) -> tuple[Parts, list[dict[str, Tensor]]]:
    """Merge "valid" into "train" if there are folds, and return the indices of each fold's examples in it."""
    if not is_folded(folds):
        return parts, []
    if has_user_valid:
        raise ValueError(f"folds={folds}: `valid` is your own validation part. Leave out `folds` or `valid`")
    x, y = (torch.cat(pair) for pair in zip(parts["train"], parts["valid"], strict=True))
    label_N = None if y.is_floating_point() or y.dim() > 1 else y.numpy()
    places = {"train": np.arange(len(y)), "valid": np.arange(0), "test": np.arange(0)}
    of_folds = [
        {part: torch.from_numpy(fold[part]) for part in ("train", "valid")}
        for fold in split_folds(places, folds, seed, label_N)
    ]
    return {"train": (x, y), "test": parts["test"]}, of_folds


def _sizes(parts: list[tuple[Tensor, Tensor]]) -> tuple[int, int]:
    """Return `inputs` and `outputs` over all parts."""
    x, y = parts[0]
    inputs = x[0].numel() if x.is_floating_point() else 1 + max(int(x.max()) for x, _ in parts if len(x))
    if y.is_floating_point():
        return inputs, 1 if y.dim() == 1 else y[0].numel()
    return inputs, max(2, 1 + max(int(y.max()) for _, y in parts if len(y)))


def _fingerprint(inputs: dict[str, Tensor], targets: dict[str, Tensor], folds: list[dict[str, Tensor]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in sorted(targets):
        for tensor in (inputs[part], targets[part]):
            digest.update(f"{part} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    for fold in folds:
        digest.update(fold["valid"].numpy().tobytes())
    return digest.hexdigest()
