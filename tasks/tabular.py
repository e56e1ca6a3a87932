"""Tables: CSV or Parquet, with categories and missing values, for classification and regression."""

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
CLASSES_UP_TO = 100  # different whole numbers that are taken for classes unasked


class Row(NamedTuple):
    """Inputs of a table with categories. numbers_BF: float32 [B, F]. code_BC: int64 [B, C], 0: missing or unknown."""

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
    """The rows of a CSV or Parquet file as examples; inputs are float32 [B, F], or a Row where there are categories.

    path: None: scikit-learn's table of breast cancer, 569 rows of 30 numbers and the target "benign".
    target: the column to predict; its rows must not be missing. problem: "classification", of text, true/false or whole
    numbers; "regression"; "auto" takes numbers with a fraction for a regression. Classes are in sorted order.
    categorical: columns of numbers that are names (others: text, categories and true/false). leave_out: columns.
    split: "random"; "stratified", each class alike; "auto" stratifies a classification. split_by: a column, of "train",
    "valid" and "test", or of groups whose rows stay together. folds: K of them, with the same test part.
    class_weights: "balanced" (examples / classes / examples of the class) or {class: weight}.

    Fitted on the training part alone, in each fold anew: medians in place of missing numbers, with a column of 0 and 1
    for each column that misses any; mean and standard deviation of the numbers; the categories there are, by code from
    1 on. The unit of the loss is one for all folds, so that these can be compared: mean and standard deviation of a
    regression's target, and the class weights, are those of all examples that are trained on in any fold. The metrics
    of a regression are in the target's own unit. Raises ValueError.
    """
    for key, value, options in (("split", split, SPLITS), ("problem", problem, PROBLEMS)):
        if value not in options:
            raise ValueError(f"data.{key}={value}: no such choice. Choose one of {', '.join(options)}.")
    frame = _breast_cancer() if path is None else read_table(path, separator)
    target = "benign" if path is None and target is None else target
    _check_columns(frame, path, target=target, split_by=split_by, categorical=categorical, leave_out=leave_out)
    goal = _parse_target(frame[target], str(target), problem)
    label_N = goal.label_N if split == "stratified" or (split == "auto" and goal.classes) else None
    if split == "stratified" and not goal.classes:
        raise ValueError(f"data.split=stratified: data.target={target} has no classes. Choose random.")
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
    """A CSV (also packed, .csv.gz) or Parquet file. Raises ValueError, in one sentence, for what is none."""
    import pandas as pd

    file = Path(path).expanduser()
    if str(path) == "" or not file.is_file():
        raise ValueError(f"data.path={path}: there is no such file. Name a CSV or Parquet file.")
    try:
        if file.suffix.lower() in PARQUET:
            frame = pd.read_parquet(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
                frame = pd.read_csv(file, sep=separator, index_col=False, low_memory=False)
    except UnicodeDecodeError as error:
        raise ValueError(f"data.path={path}: it is not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"data.path={path}: the file is empty. Name one with a header and rows.") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        said = " ".join(str(error).split()).rstrip(".")
        remedy = "Give each row as many fields as the header, or set data.separator."
        raise ValueError(f"data.path={path}: not every row fits the header ({said}). {remedy}") from error
    except (OSError, ValueError, TypeError) as error:  # pyarrow's own errors are ValueErrors
        said = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"data.path={path}: it cannot be read ({said}). Name a CSV or Parquet file.") from error
    if frame.empty:
        raise ValueError(f"data.path={path}: the file has no rows. Name one with a header and rows.")
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _breast_cancer() -> pd.DataFrame:
    from sklearn.datasets import load_breast_cancer

    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    return frame.rename(columns={"target": "benign"})


def _check_columns(frame: pd.DataFrame, path: str | Path | None, **named: Any) -> None:
    """Every column that is named is there."""
    known = ", ".join(frame.columns[:20]) + (", ..." if len(frame.columns) > 20 else "")
    if named["target"] is None:
        raise ValueError(f"data.target=null: the column to predict has no name. There are: {known}.")
    for key, value in named.items():
        if isinstance(value, str) and key in ("categorical", "leave_out"):
            raise ValueError(f"data.{key}={value}: this is no list of columns. Write [{value}].")
        for name in [] if value is None else [value] if isinstance(value, str) else value:
            if name not in frame.columns:
                raise ValueError(f"data.{key}={name}: {path} has no such column. There are: {known}.")


# --- the target -------------------------------------------------------------------------------------


class _Goal(NamedTuple):
    """classes: their names in order, () in a regression. label_N: int64 of those. value_N: float64, the numbers."""

    classes: tuple[Any, ...]
    label_N: Index
    value_N: NDArray[np.float64]


def _parse_target(column: pd.Series[Any], name: str, problem: str) -> _Goal:
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(f"data.target={name}: it is missing in {missing} of {len(column)} rows. Leave these rows out.")
    is_number = _is_number(column)
    whole = is_number and bool((column.to_numpy(np.float64) % 1 == 0).all()) and column.dtype.kind in "iu"
    if problem == "regression" or (problem == "auto" and is_number and not whole):
        if not is_number:
            raise ValueError(f"data.problem=regression: data.target={name} is not made of numbers. Choose auto.")
        value_N = column.to_numpy(np.float64)
        if not np.isfinite(value_N).all() or value_N.std() == 0:
            raise ValueError(f"data.target={name}: it is infinite, or always the same. Choose another column.")
        return _Goal((), np.zeros(0, np.int64), value_N)
    names, label_N = np.unique(column.to_numpy() if is_number else column.astype(str).to_numpy(), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"data.target={name}: all rows are of one class ({names[0]}). Choose another column.")
    if problem == "auto" and is_number and len(names) > CLASSES_UP_TO:
        raise ValueError(
            f"data.target={name}: {len(names)} different whole numbers may be classes or amounts. "
            "Choose data.problem=classification or data.problem=regression."
        )
    return _Goal(tuple(names.tolist()), label_N.astype(np.int64), np.zeros(0))


def _targets(goal: _Goal, trained: Index) -> tuple[Tensor, float]:
    """What is learnt, and the unit in which metrics are told: labels, or numbers of mean 0 and deviation 1."""
    if goal.classes:
        return torch.from_numpy(goal.label_N), 1.0
    mean, unit = float(goal.value_N[trained].mean()), float(goal.value_N[trained].std()) or 1.0
    return torch.from_numpy(((goal.value_N - mean) / unit).astype(np.float32)), unit


def _problem(goal: _Goal, trained: Index, unit: float, weights: str | Mapping[Any, float] | None) -> Problem:
    if not goal.classes:
        if weights is not None:
            raise ValueError(f"data.class_weights={weights}: a regression has no classes. Leave it out.")
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
    given = {str(name): weight for name, weight in weights.items()} if isinstance(weights, Mapping) else {}
    names = [str(name) for name in goal.classes]
    good = all(isinstance(weight, int | float) and 0 < weight < float("inf") for weight in given.values())
    if set(given) != set(names) or not good:
        raise ValueError(
            f"data.class_weights={weights}: a positive number for each class is needed. Write balanced, or "
            f"{{{', '.join(f'{name}: 1.0' for name in names[:5])}{', ...' if len(names) > 5 else ''}}}."
        )
    return np.array([given[name] for name in names], dtype=np.float32)


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
        raise ValueError(f"data.split_by={split_by}: it is missing in {int(column.isna().sum())} rows. Fill it in.")
    names = column.astype(str).to_numpy()
    if set(names) == set(PARTS):
        return split_folds({part: np.flatnonzero(names == part) for part in PARTS}, folds, seed, label_N)
    if set(names) & set(PARTS):
        raise ValueError(
            f"data.split_by={split_by}: its values are {', '.join(sorted(set(names))[:5])}. "
            "Use train, valid and test, all three, or names of groups."
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
    """Which columns are numbers and which are names."""
    import pandas as pd

    numbers, categories = [], []
    for name in features.columns:
        column = features[name]
        if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_complex_dtype(column):
            raise ValueError(f"data.leave_out: {name} is a column of {column.dtype}. Leave it out, or make it numbers.")
        if name in categorical or not _is_number(column):
            if column.nunique() == len(column) > 1:
                raise ValueError(f"data.leave_out: {name} is a name for each row alone. Leave it out.")
            categories.append(name)
        else:
            infinite = int(np.isinf(column.to_numpy(np.float64, na_value=np.nan)).sum())
            if infinite:
                raise ValueError(f"data.leave_out: {name} is infinite in {infinite} rows. Mend these, or leave it out.")
            numbers.append(name)
    if not numbers and not categories:
        raise ValueError("data.leave_out: no column is left to learn from. Leave out fewer.")
    return _Columns(numbers, categories)


def _prepare(
    features: pd.DataFrame, columns: _Columns, gaps: list[int], target_N: Tensor, parts: Parts
) -> tuple[dict[str, Pair], tuple[int, ...]]:
    """The three parts, by what the training part says; and how many codes each categorical column has, 0 among them.

    gaps: which of the numbers are missing anywhere in what is trained on in any fold; alike in all, as is the model.
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
    """float32 [N, F]: standardised, missing ones at the median; then a 0/1 column for each of `gaps`."""
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
    """int64 [N], from 1 on by the sorted names of the training part, 0 where missing or not among them; how many."""
    import pandas as pd

    names = column.astype("string")
    known = sorted(names.iloc[train].dropna().unique())
    return pd.Index(known, dtype=names.dtype).get_indexer(names).astype(np.int64) + 1, len(known) + 1


def _width(inputs: Any) -> int:
    return int((inputs if isinstance(inputs, Tensor) else inputs.numbers_BF).shape[1])
