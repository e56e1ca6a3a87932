"""Tables from CSV or Parquet files, with categories and missing values, for classification and regression."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .examples import Examples, Pair
from .metrics import Measures
from .problems import CLASSIFICATION, Problem, log_classes, mean_square, squared_error, weighted_cross_entropy
from .splits import Index, Parts, Shares, draw_parts, split_folds

if TYPE_CHECKING:
    import pandas as pd

PARQUET = (".parquet", ".pq")
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


def table(
    path: str | Path | None = None,
    target: str | None = None,
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
    separator: str = ",",
) -> Examples:
    """Return the rows of a CSV or Parquet file as examples. Inputs are float32 [B, F], or a `Row` with categories.

    Preprocessing is fitted on the training part (of the fold) alone. Missing numbers become the median, and each
    column with missing values gets an additional column of 0 and 1. Numbers are then standardized. Categories get
    codes from 1.

    The unit of the loss is the same for all folds, so that their losses can be compared: the mean and standard
    deviation of a regression's target, and the class weights, cover all examples that any fold trains on. Metrics of a
    regression are in the unit of the target.

    Args:
        path: The file. None for scikit-learn's breast cancer table, 569 rows of 30 numbers with the target "benign".
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
        separator: Of the columns in a CSV file.

    Raises:
        ValueError: If the file cannot be read, or does not fit the arguments.
    """
    for key, value, options in (("split", split, SPLITS), ("problem", problem, PROBLEMS)):
        if value not in options:
            raise ValueError(f"data.{key}={value}: no such choice. Choose one of {', '.join(options)}")
    frame = _breast_cancer() if path is None else read_table(path, separator)
    target = "benign" if path is None and target is None else target
    _check_columns(frame, path, target=target, split_by=split_by, categorical=categorical, leave_out=leave_out)
    goal = _parse_target(frame[target], str(target), problem)
    label_N = goal.label_N if split == "stratified" or (split == "auto" and goal.classes) else None
    if split == "stratified" and not goal.classes:
        raise ValueError(f"data.split=stratified: data.target={target} has no classes. Choose random")
    features = frame.drop(columns=[str(target), *leave_out, *([split_by] if split_by else [])])
    columns = _columns(features, categorical)
    parts_K = _parts(frame, split_by, label_N, Shares(valid, test, split_seed), folds)
    trained = np.unique(np.concatenate([parts["train"] for parts in parts_K]))
    gaps = np.flatnonzero(features[columns.numbers].iloc[trained].isna().any().to_numpy(bool)).tolist()
    values_N, unit = _targets(goal, trained)
    prepared = [_prepare(features, columns, gaps, values_N, parts) for parts in parts_K]
    return Examples(
        [pairs for pairs, _ in prepared],
        inputs=_width(prepared[0][0]["train"][0]),
        outputs=len(goal.classes) or 1,
        problem=_problem(goal, trained, unit, class_weights),
        categories=tuple(max(sizes) for sizes in zip(*(sizes for _, sizes in prepared), strict=True)),
        unit=unit,
        classes=goal.classes,
    )


# --- the file ---------------------------------------------------------------------------------------


def read_table(path: str | Path, separator: str = ",") -> pd.DataFrame:
    """Return a CSV (also .csv.gz) or Parquet file.

    Args:
        path: The file.
        separator: Of the columns in a CSV file.

    Raises:
        ValueError: If the file cannot be read, or has no rows.
    """
    import pandas as pd

    file = Path(path).expanduser()
    if str(path) == "" or not file.is_file():
        raise ValueError(f"data.path={path}: there is no such file. Choose a CSV or Parquet file")
    try:
        if file.suffix.lower() in PARQUET:
            frame = pd.read_parquet(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
                frame = pd.read_csv(file, sep=separator, index_col=False, low_memory=False)
    except UnicodeDecodeError as error:
        raise ValueError(f"data.path={path}: not UTF-8 ({error.reason}). Save it as UTF-8") from error
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"data.path={path}: the file is empty. Choose one with a header and rows") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        cause = " ".join(str(error).split()).rstrip(".")
        remedy = "Give each row as many fields as the header, or set data.separator"
        raise ValueError(f"data.path={path}: some rows do not fit the header ({cause}). {remedy}") from error
    except (OSError, ValueError, TypeError) as error:  # pyarrow's own errors are ValueErrors
        cause = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"data.path={path}: cannot be read ({cause}). Choose a CSV or Parquet file") from error
    if frame.empty:
        raise ValueError(f"data.path={path}: the file has no rows. Choose one with a header and rows")
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _breast_cancer() -> pd.DataFrame:
    from sklearn.datasets import load_breast_cancer

    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    return frame.rename(columns={"target": "benign"})


def _check_columns(frame: pd.DataFrame, path: str | Path | None, **named: Any) -> None:
    """Check that every column that the arguments name exists."""
    known = ", ".join(frame.columns[:20]) + (", ..." if len(frame.columns) > 20 else "")
    if named["target"] is None:
        raise ValueError(f"data.target=null: the column to predict is missing. Choose from {known}")
    for key, value in named.items():
        if isinstance(value, str) and key in ("categorical", "leave_out"):
            raise ValueError(f"data.{key}={value}: not a list of columns. Write [{value}]")
        for name in [] if value is None else [value] if isinstance(value, str) else value:
            if name not in frame.columns:
                raise ValueError(f"data.{key}={name}: {path} has no such column. Choose from {known}")


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


def _targets(goal: _Goal, trained: Index) -> tuple[Tensor, float]:
    """Return the targets (classes or standardized values) and the standard deviation, which is the unit of metrics."""
    if goal.classes:
        return torch.from_numpy(goal.label_N), 1.0
    mean, unit = float(goal.value_N[trained].mean()), float(goal.value_N[trained].std()) or 1.0
    return torch.from_numpy(((goal.value_N - mean) / unit).astype(np.float32)), unit


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


def _prepare(
    features: pd.DataFrame, columns: _Columns, gaps: list[int], target_N: Tensor, parts: Parts
) -> tuple[dict[str, Pair], tuple[int, ...]]:
    """Return the preprocessed parts, and the number of codes of each categorical column, with code 0.

    Args:
        features: All input columns.
        columns: Which of them are numbers and which are categories.
        gaps: Numeric columns with missing values in what any fold trains on. All folds share them, and so the model.
        target_N: Targets of all rows.
        parts: Rows of each part.
    """
    number_NF = _numbers(features[columns.numbers], parts["train"], gaps)
    codes = [_codes(features[name], parts["train"]) for name in columns.categories]
    code_NC = torch.from_numpy(np.stack([code_N for code_N, _ in codes], 1)) if codes else None
    pairs: dict[str, Pair] = {}
    for part, index in parts.items():
        place = torch.from_numpy(index)
        numbers = number_NF[place]
        pairs[part] = (numbers if code_NC is None else Row(numbers, code_NC[place]), target_N[place])
    return pairs, tuple(size for _, size in codes)


def _numbers(frame: pd.DataFrame, train: Index, gaps: list[int]) -> Tensor:
    """Return the standardized columns, missing values at the median, and a 0/1 column for each of `gaps`, float32."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    value_NF = frame.to_numpy(np.float64, na_value=np.nan)
    if not value_NF.shape[1]:
        return torch.zeros(len(frame), 0)
    imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(value_NF[train])
    filled_NF = imputer.transform(value_NF)
    scaled_NF = StandardScaler().fit(filled_NF[train]).transform(filled_NF)
    return torch.from_numpy(np.hstack([scaled_NF, np.isnan(value_NF[:, gaps])]).astype(np.float32))


def _codes(column: pd.Series[Any], train: Index) -> tuple[Index, int]:
    """Return the codes of a column, int64 [N], and their number.

    Codes count from 1 in the order of the sorted names in the training part. 0 means missing or not among these.
    """
    import pandas as pd

    names = column.astype("string")
    known = sorted(names.iloc[train].dropna().unique())
    return pd.Index(known, dtype=names.dtype).get_indexer(names).astype(np.int64) + 1, len(known) + 1


def _width(inputs: Any) -> int:
    return int((inputs if isinstance(inputs, Tensor) else inputs.numbers_BF).shape[1])
