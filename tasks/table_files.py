"""Tables from CSV and Parquet files, as pandas data frames."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PARQUET = (".parquet", ".pq")


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


def breast_cancer() -> pd.DataFrame:
    """Return scikit-learn's breast cancer table: 569 rows of 30 numbers, with the target "benign"."""
    from sklearn.datasets import load_breast_cancer

    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    return frame.rename(columns={"target": "benign"})
