"""Tables with categories and missing values, for classification and regression: data frames and files."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import summaries
from .examples import Examples, Pair, fingerprint_of_examples
from .metrics import Measures
from .problems import (
    CLASSIFICATION,
    REGRESSION,
    Problem,
    log_classes,
    mean_square,
    squared_error,
    weighted_cross_entropy,
)
from .scaling import Scaling, Standardization, fit
from .served import Served
from .splits import Index, Parts, Shares, draw_parts, split_folds
from .table_files import breast_cancer, read_table
from .table_model import TableMLP

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("train", "valid", "test")
SPLITS = ("auto", "random", "stratified")
PROBLEMS = ("auto", "classification", "regression")
CLASSES_UP_TO = 100  # most different whole numbers that count as classes with problem="auto"


class Row(NamedTuple):
    """Inputs of a table with categories.

    Attributes:
        numbers_BF: Numeric columns, float32 [B, F].
        code_BC: Codes of the categorical columns, int64 [B, C]. 0 means missing or unknown.
    """

    numbers_BF: Tensor
    code_BC: Tensor


class Filling(NamedTuple):
    """How the columns of a table were prepared, of one fold.

    Attributes:
        median: Of each numeric column, which takes the place of missing numbers, float64 [F].
        gaps: Numeric columns that have a column of 0 and 1 for missing numbers.
        known: Names of each categorical column, in the order of their codes from 1.
    """

    median: NDArray[np.float64]
    gaps: list[int]
    known: list[list[str]]


class ServedTable(nn.Module):
    """A trained model that takes the columns of a table: float64 [B, F + C], numbers and then codes of categories.

    Missing numbers are NaN. `Table.encode` makes these columns of a data frame.

    Args:
        model: The model, which takes prepared columns.
        scaling: Standardization of the numbers, and of the target.
        filling: How the columns were prepared.
        partition: The fold.
    """

    def __init__(self, model: nn.Module, scaling: Scaling, filling: Filling, partition: int) -> None:
        super().__init__()
        self.inner = Served(model, scaling.of(partition), scaling.target)
        self.register_buffer("median_F", torch.as_tensor(filling.median))
        self.median_F: Tensor
        self._gaps, self._categories = filling.gaps, len(filling.known)

    def forward(self, columns_B: Tensor) -> Tensor:
        count = len(self.median_F)
        number_BF = columns_B[:, :count].to(self.median_F.dtype)
        is_gap_BF = number_BF.isnan()
        filled_BF = self.inner.standardize(torch.where(is_gap_BF, self.median_F, number_BF))
        numbers_BF = torch.cat([filled_BF, is_gap_BF[:, self._gaps].to(filled_BF.dtype)], dim=1)
        prepared: Any = Row(numbers_BF, columns_B[:, count:].long()) if self._categories else numbers_BF
        output_B: Tensor = self.inner.unscale(self.inner.model(prepared))
        return output_B


class Table(Examples):
    """A data set of the rows of a table, with categories and missing values.

    Text and true/false columns are categories, and the others are numbers. Preprocessing is fitted on the training
    part (of the fold) alone. Missing numbers become the median, and each column with missing values gets an additional
    column of 0 and 1. Numbers are then standardized. Categories get codes from 1. Inputs are float32 [B, F], or a `Row`
    if there are categories. A task without a model has `sweeper.tasks.table_model.TableMLP`.

    The target of a regression is standardized, except for a loss that may not fit it (see `Supervised`), and its
    metrics are in its own unit. The unit of the loss is the same for all folds, so that their losses can be compared:
    the mean and standard deviation of a regression's target, and the class weights, cover all examples that any fold
    trains on.

    Example:
        ```python
        task = Supervised(Table(df, target="price", categorical=["zip"]))
        ```

    Args:
        frame: A pandas data frame, which is copied, or the path of a CSV (UTF-8, also .csv.gz) or Parquet file.
        target: The column to predict. It must have a value in every row.
        problem: "classification" (text, true/false or whole numbers, in sorted order), "regression", or "auto", for
            which numbers with a fraction are a regression.
        categorical: Columns of numbers that are categories. Text and true/false columns are always categories.
        leave_out: Columns to ignore.
        split: "random", "stratified" by class, or "auto", which stratifies a classification.
        split_by: A column of "train", "valid" and "test", or a column of groups whose rows stay in the same part.
        valid: Validation part, as a fraction of the rows or groups.
        test: Test part, as a fraction of the rows or groups.
        split_seed: Of the random split.
        folds: Number of folds instead of one validation part, with the same test part. None for no folds.
        class_weights: "balanced" (examples / classes / examples of the class), {class: weight}, or None.
        name: Sweeps of these data are named by it.

    Raises:
        ValueError: If a file cannot be read, or the table does not fit the arguments.
    """

    model = TableMLP

    def __init__(
        self,
        frame: pd.DataFrame | str | Path,
        target: str,
        *,
        problem: str = "auto",
        categorical: Sequence[str] = (),
        leave_out: Sequence[str] = (),
        split: str = "auto",
        split_by: str | None = None,
        valid: float = 0.2,
        test: float = 0.2,
        split_seed: int = 0,
        folds: int | None = None,
        class_weights: str | Mapping[Any, float] | None = None,
        name: str = "table",
    ) -> None:
        for key, value, options in (("split", split, SPLITS), ("problem", problem, PROBLEMS)):
            if value not in options:
                raise ValueError(f"data.{key}={value}: no such choice. Choose one of {', '.join(options)}")
        frame, target = _as_frame(frame), str(target)
        categorical, leave_out = _as_names("categorical", categorical), _as_names("leave_out", leave_out)
        _check_columns(frame, target=target, split_by=split_by, categorical=categorical, leave_out=leave_out)
        goal = _parse_target(frame[target], target, problem)
        label_N = goal.label_N if split == "stratified" or (split == "auto" and goal.classes) else None
        if split == "stratified" and not goal.classes:
            raise ValueError(f"data.split=stratified: data.target={target} has no classes. Choose random")
        features = frame.drop(columns=[target, *leave_out, *([split_by] if split_by else [])])
        columns = _columns(features, categorical)
        parts_K = _parts(frame, split_by, label_N, Shares(valid, test, split_seed), folds)
        trained = np.unique(np.concatenate([parts["train"] for parts in parts_K]))
        gaps = np.flatnonzero(features[columns.numbers].iloc[trained].isna().any().to_numpy(bool)).tolist()
        target_N, of_target = _targets(goal, trained)
        prepared = [_prepare(features, columns, gaps, target_N, parts) for parts in parts_K]
        unit = 1.0 if of_target is None else float(of_target.deviation)
        super().__init__(
            [one.pairs for one in prepared],
            inputs=_width(prepared[0].pairs["train"][0]),
            outputs=len(goal.classes) or 1,
            problem=_problem(goal, trained, unit, class_weights),
        )
        self.categories = tuple(max(sizes) for sizes in zip(*(one.sizes for one in prepared), strict=True))
        self.name, self.unit, self.classes = name, unit, goal.classes
        self._columns, self._fillings = columns, [one.filling for one in prepared]
        self.scaling = Scaling(tuple(one.numbers for one in prepared if one.numbers), of_target)
        self._values_K = [
            {part: torch.from_numpy(goal.value_N[index]).float() for part, index in parts.items()}
            for parts in parts_K
            if not goal.classes
        ]
        self.fingerprint = _fingerprint(features, columns, goal, parts_K)
        self._understood = (
            summaries.classification(len(goal.classes), goal.classes)
            if goal.classes
            else summaries.regression(target, goal.value_N)
        )
        self._numeric = len(columns.numbers)

    @property
    def summary(self) -> str:
        """What was understood and done, in one line: the first line of a sweep's output."""
        numbers, categories = (summaries.count_of(count, "column") for count in (self._numeric, len(self.categories)))
        scaled = [f"{numbers} of numbers"] if self.scaling.inputs else []
        scaled += [] if self.scaling.target is None else ["the target"]
        done = [summaries.standardization(scaled)] if scaled else []
        return "; ".join([self._understood, *done, *([f"{categories} of categories"] if self.categories else [])])

    def served(self, model: nn.Module, partition: int) -> nn.Module:
        """Return a trained model as a module that takes the columns that `encode` makes."""
        return ServedTable(model, self.scaling, self._fillings[partition], partition)

    def encode(self, frame: pd.DataFrame, partition: int = 0) -> NDArray[np.float64]:
        """Return the columns of a data frame as a served model takes them, float64 [B, F + C].

        Args:
            frame: Rows with the input columns. Others are ignored.
            partition: The fold.
        """
        filling = self._fillings[partition]
        numbers = frame[self._columns.numbers].to_numpy(np.float64, na_value=np.nan)
        codes = [
            _codes_of(frame[name], known) for name, known in zip(self._columns.categories, filling.known, strict=True)
        ]
        return np.column_stack([numbers, *codes])

    def columns(self, partition: int = 0) -> list[dict[str, object]]:
        """Return name and, of a category, names of the codes from 1, of each column that `encode` makes."""
        known = self._fillings[partition].known
        columns: list[dict[str, object]] = [{"name": name} for name in self._columns.numbers]
        for name, names in zip(self._columns.categories, known, strict=True):
            columns.append({"name": name, "categories": names})
        return columns

    def given(self, inputs_B: Any, partition: int) -> Tensor:
        """Return inputs that `fetch` returned as `encode` makes them, up to rounding."""
        numbers_BF, code_BC = (inputs_B, None) if isinstance(inputs_B, Tensor) else inputs_B
        scaling, filling = self.scaling.of(partition), self._fillings[partition]
        if scaling is None:
            number_BF = numbers_BF.double()
        else:
            count = len(filling.median)
            number_BF = scaling.invert(numbers_BF[:, :count])
            for place, column in enumerate(filling.gaps):
                number_BF[numbers_BF[:, count + place] > 0, column] = torch.nan
        return number_BF if code_BC is None else torch.cat([number_BF, code_BC.double()], dim=1)

    def with_given_target(self) -> Table:
        """Return the same data with the target of a regression in its own unit, for a loss that needs it there."""
        if self.scaling.target is None:
            return self
        data = copy.copy(self)
        data._parts_K = [
            {part: (parts[part][0], value_B) for part, value_B in values.items()}
            for parts, values in zip(self._parts_K, self._values_K, strict=True)
        ]
        data.scaling, data.unit, data.problem = Scaling(self.scaling.inputs), 1.0, REGRESSION
        data.fingerprint = f"{self.fingerprint}-given"
        return data


class StandardizedTable(Table):
    """A table whose target is standardized under any loss, identified by its prepared examples.

    Stored sweeps of `data=tabular` are.
    """

    def __init__(self, frame: pd.DataFrame | str | Path, target: str, **options: Any) -> None:
        super().__init__(frame, target, **options)
        self.fingerprint = fingerprint_of_examples(self._parts_K)

    def with_given_target(self) -> Table:
        """Return the same data: the target stays standardized."""
        return self


def table(
    path: str | Path | None = None, target: str | None = None, *, separator: str = ",", **options: Any
) -> StandardizedTable:
    """Return the rows of a CSV or Parquet file as examples, for `data=tabular`.

    Args:
        path: The file. None for scikit-learn's breast cancer table, 569 rows of 30 numbers with the target "benign".
        target: The column to predict.
        separator: Of the columns in a CSV file.
        options: Of `Table`.

    Raises:
        ValueError: If the file cannot be read, or does not fit the arguments.
    """
    frame = breast_cancer() if path is None else read_table(path, separator)
    target = "benign" if path is None and target is None else target
    if target is None:
        raise ValueError(f"data.target=null: the column to predict is missing. Choose from {_listed(frame)}")
    return StandardizedTable(frame, target, **options)


def _as_frame(frame: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Return a copy of a data frame whose columns have text as names, or the table in a file."""
    if isinstance(frame, str | Path):
        return read_table(frame)
    if not (hasattr(frame, "columns") and hasattr(frame, "iloc")):
        raise ValueError(f"frame={type(frame).__name__}: not a table. Give a pandas data frame, or the path of a file")
    if frame.empty:
        raise ValueError("frame: the table has no rows or no columns. Give one with rows")
    copied = frame.reset_index(drop=True)
    copied.columns = [str(name) for name in frame.columns]
    twice = copied.columns[copied.columns.duplicated()]
    if len(twice):
        raise ValueError(f"frame: two columns are called {twice[0]}. Rename one")
    return copied


def _fingerprint(features: pd.DataFrame, columns: _Columns, goal: _Goal, parts_K: Sequence[Parts]) -> str:
    """Return a hash of the columns' names, kinds and values, of the target and of the split."""
    digest = hashlib.blake2b(digest_size=16)
    for kind, names in columns._asdict().items():
        for name in names:
            column = features[name]
            digest.update(f"{kind} {name}".encode())
            if kind == "numbers":
                digest.update(column.to_numpy(np.float64, na_value=np.nan).tobytes())
            else:
                digest.update("\0".join(column.astype("string").fillna("\1")).encode())
    digest.update(f"{goal.classes}".encode())
    for values in (goal.label_N, goal.value_N, *(parts[part] for parts in parts_K for part in PARTS)):
        digest.update(values.tobytes())
    return digest.hexdigest()


# --- the columns that are named ---------------------------------------------------------------------


def _as_names(key: str, names: Sequence[str] | None) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable | None):
        raise ValueError(f"data.{key}={names}: not a list of columns. Write [{names}]")
    return [str(name) for name in names or ()]


def _listed(frame: pd.DataFrame) -> str:
    return ", ".join(frame.columns[:20]) + (", ..." if len(frame.columns) > 20 else "")


def _check_columns(frame: pd.DataFrame, **named: Any) -> None:
    """Check that every column that the arguments name exists."""
    for key, value in named.items():
        for name in [] if value is None else [value] if isinstance(value, str) else value:
            if name not in frame.columns:
                raise ValueError(f"data.{key}={name}: the table has no such column. Choose from {_listed(frame)}")


# --- the target -------------------------------------------------------------------------------------


class _Goal(NamedTuple):
    """The target of a table.

    Attributes:
        classes: Names of the classes in sorted order; () in a regression.
        label_N: Classes, int64; empty in a regression.
        value_N: Values of a regression, float64; empty with classes.
    """

    classes: tuple[Any, ...]
    label_N: Index
    value_N: NDArray[np.float64]


def _parse_target(column: pd.Series[Any], name: str, problem: str) -> _Goal:
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(f"data.target={name}: {missing} of {len(column)} rows have no value. Remove these rows")
    is_number = _is_number(column)
    whole = is_number and bool((column.to_numpy(np.float64) % 1 == 0).all()) and column.dtype.kind in "iu"
    if problem == "regression" or (problem == "auto" and is_number and not whole):
        if not is_number:
            raise ValueError(f"data.problem=regression: data.target={name} does not hold numbers. Choose auto")
        value_N = column.to_numpy(np.float64)
        if not np.isfinite(value_N).all() or value_N.std() == 0:
            raise ValueError(f"data.target={name}: it has infinite values, or is constant. Choose another column")
        return _Goal((), np.zeros(0, np.int64), value_N)
    names, label_N = np.unique(column.to_numpy() if is_number else column.astype(str).to_numpy(), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"data.target={name}: all rows have the same class ({names[0]}). Choose another column")
    if problem == "auto" and is_number and len(names) > CLASSES_UP_TO:
        raise ValueError(
            f"data.target={name}: {len(names)} different whole numbers may be classes or amounts. "
            "Choose data.problem=classification or data.problem=regression"
        )
    return _Goal(tuple(names.tolist()), label_N.astype(np.int64), np.zeros(0))


def _targets(goal: _Goal, trained: Index) -> tuple[Tensor, Standardization | None]:
    """Return the targets, classes or standardized values, and the standardization of these."""
    if goal.classes:
        return torch.from_numpy(goal.label_N), None
    mean, deviation = goal.value_N[trained].mean(), goal.value_N[trained].std() or 1.0
    standardized = Standardization(np.array(mean), np.array(deviation))
    return standardized.apply(goal.value_N), standardized


def _problem(goal: _Goal, trained: Index, unit: float, weights: str | Mapping[Any, float] | None) -> Problem:
    if not goal.classes:
        if weights is not None:
            raise ValueError(f"data.class_weights={weights}: a regression has no classes. Leave it out")
        return Problem(squared_error, Measures(("mse", "mae", "r2"), unit), mean_square)
    if weights is None:
        return CLASSIFICATION
    weight_C = _class_weights(weights, goal, trained)
    return Problem(weighted_cross_entropy(torch.from_numpy(weight_C)), CLASSIFICATION.metrics, log_classes)


def _class_weights(weights: str | Mapping[Any, float], goal: _Goal, trained: Index) -> NDArray[np.float32]:
    count_C = np.bincount(goal.label_N[trained], minlength=len(goal.classes))
    if weights == "balanced":
        balanced: NDArray[np.float32] = (count_C.sum() / len(count_C) / np.maximum(count_C, 1)).astype(np.float32)
        return balanced
    weight_of = {str(name): weight for name, weight in weights.items()} if isinstance(weights, Mapping) else {}
    names = [str(name) for name in goal.classes]
    is_positive = all(isinstance(weight, int | float) and 0 < weight < float("inf") for weight in weight_of.values())
    if set(weight_of) != set(names) or not is_positive:
        raise ValueError(
            f"data.class_weights={weights}: must have a positive number for each class. Write balanced, or "
            f"{{{', '.join(f'{name}: 1.0' for name in names[:5])}{', ...' if len(names) > 5 else ''}}}"
        )
    return np.array([weight_of[name] for name in names], dtype=np.float32)


# --- the split --------------------------------------------------------------------------------------


def _parts(
    frame: pd.DataFrame, split_by: str | None, label_N: Index | None, shares: Shares, folds: int | None
) -> list[Parts]:
    seed = shares.seed
    if split_by is None:
        parts = draw_parts(len(frame), shares, label_N=label_N)
        return split_folds(parts, folds, seed, label_N)
    column = frame[split_by]
    if column.isna().any():
        raise ValueError(f"data.split_by={split_by}: {int(column.isna().sum())} rows have no value. Fill them in")
    names = column.astype(str).to_numpy()
    if set(names) == set(PARTS):
        return split_folds({part: np.flatnonzero(names == part) for part in PARTS}, folds, seed, label_N)
    if set(names) & set(PARTS):
        raise ValueError(
            f"data.split_by={split_by}: its values are {', '.join(sorted(set(names))[:5])}. "
            "Use all of train, valid and test, or names of groups"
        )
    parts = draw_parts(len(frame), shares, group_N=names)
    return split_folds(parts, folds, seed, group_N=names)


# --- the columns ------------------------------------------------------------------------------------


class _Columns(NamedTuple):
    numbers: list[str]
    categories: list[str]


def _is_number(column: pd.Series[Any]) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _columns(features: pd.DataFrame, categorical: Sequence[str]) -> _Columns:
    """Sort the columns into numbers and categories."""
    import pandas as pd

    numbers, categories = [], []
    for name in features.columns:
        column = features[name]
        if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_complex_dtype(column):
            raise ValueError(
                f"data.leave_out: {name} has the type {column.dtype}. Leave it out, or convert it to numbers"
            )
        if name in categorical or not _is_number(column):
            if column.nunique() == len(column) > 1:
                raise ValueError(f"data.leave_out: {name} has a different name in every row. Leave it out")
            categories.append(name)
        else:
            infinite = int(np.isinf(column.to_numpy(np.float64, na_value=np.nan)).sum())
            if infinite:
                raise ValueError(
                    f"data.leave_out: {name} is infinite in {infinite} rows. Replace these values, or leave it out"
                )
            numbers.append(name)
    if not numbers and not categories:
        raise ValueError("data.leave_out: no input column is left. Leave out fewer columns")
    return _Columns(numbers, categories)


class _Prepared(NamedTuple):
    """The examples of one partition.

    Attributes:
        pairs: Inputs and targets of each part.
        sizes: Number of codes of each categorical column, with code 0.
        numbers: Standardization of the numeric columns; None if there are none.
        filling: How the columns were prepared.
    """

    pairs: dict[str, Pair]
    sizes: tuple[int, ...]
    numbers: Standardization | None
    filling: Filling


def _prepare(features: pd.DataFrame, columns: _Columns, gaps: list[int], target_N: Tensor, parts: Parts) -> _Prepared:
    """Return the preprocessed parts.

    Args:
        features: All input columns.
        columns: Which of them are numbers and which are categories.
        gaps: Numeric columns with missing values in what any fold trains on. All folds share them, and so the model.
        target_N: Targets of all rows.
        parts: Rows of each part.
    """
    number_NF, standardized, median = _numbers(features[columns.numbers], parts["train"], gaps)
    codes = [_codes(features[name], parts["train"]) for name in columns.categories]
    code_NC = torch.from_numpy(np.stack([code_N for code_N, _ in codes], 1)) if codes else None
    pairs: dict[str, Pair] = {}
    for part, index in parts.items():
        place = torch.from_numpy(index)
        numbers = number_NF[place]
        pairs[part] = (numbers if code_NC is None else Row(numbers, code_NC[place]), target_N[place])
    filling = Filling(median, gaps, [known for _, known in codes])
    return _Prepared(pairs, tuple(len(known) + 1 for _, known in codes), standardized, filling)


def _numbers(
    frame: pd.DataFrame, train: Index, gaps: list[int]
) -> tuple[Tensor, Standardization | None, NDArray[np.float64]]:
    """Return the standardized columns, missing values at the median, and a 0/1 column for each of `gaps`, float32.

    Then their standardization, and the medians.
    """
    from sklearn.impute import SimpleImputer

    value_NF = frame.to_numpy(np.float64, na_value=np.nan)
    if not value_NF.shape[1]:
        return torch.zeros(len(frame), 0), None, np.zeros(0)
    imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(value_NF[train])
    filled_NF = imputer.transform(value_NF)
    standardized, median = fit(filled_NF[train]), np.nan_to_num(imputer.statistics_)  # an empty column becomes 0
    is_gap = torch.from_numpy(np.isnan(value_NF[:, gaps]))
    return torch.cat([standardized.apply(filled_NF), is_gap.float()], dim=1), standardized, median


def _codes(column: pd.Series[Any], train: Index) -> tuple[Index, list[str]]:
    """Return the codes of a column, int64 [N], and the names that have one.

    Codes count from 1 in the order of the sorted names in the training part. 0 means missing or not among these.
    """
    known = sorted(column.astype("string").iloc[train].dropna().unique())
    return _codes_of(column, known), known


def _codes_of(column: pd.Series[Any], known: list[Any]) -> Index:
    import pandas as pd

    names = column.astype("string")
    codes: Index = pd.Index(known, dtype=names.dtype).get_indexer(names).astype(np.int64)
    return codes + 1


def _width(inputs: Any) -> int:
    return int((inputs if isinstance(inputs, Tensor) else inputs.numbers_BF).shape[1])
