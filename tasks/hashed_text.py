"""Text classification with sparse features: which folder or class a piece of text belongs to, by its words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .counts import check_counts
from .examples import Examples
from .problems import CLASSIFICATION
from .splits import Index, Shares, draw_parts, split_folds
from .table_files import PARQUET, read_table
from .text import read_files

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TABLES = (".csv", ".gz", *PARQUET)


class Words(NamedTuple):
    """The nonzero features of pieces of text.

    Attributes:
        feature_BK: Indices of the features, int64 [B, K].
        value_BK: Their values, float32 [B, K]. A row with fewer than K features is padded with zeros.
    """

    feature_BK: Tensor
    value_BK: Tensor


def hashed_text(
    path: str | Path | None = None,
    pattern: str = "*.py",
    *,
    lines: int | None = 8,
    classes: int = 20,
    text: str | None = None,
    target: str | None = None,
    features: int = 2**14,
    ngrams: int = 1,
    longest: int = 256,
    valid: float = 0.1,
    test: float = 0.1,
    split_seed: int = 0,
    folds: int | None = None,
) -> Examples:
    """Return pieces of text as `Words`, each with its class. The split is random and stratified by class.

    Words and n-grams are hashed by scikit-learn's HashingVectorizer, which scales each piece to length 1. Nothing is
    fitted to the data.

    In a folder, the class of a file is its top folder, or its name without the suffix if it is not in one. Neighboring
    pieces of one file may be in different parts.

    Args:
        path: A folder, or a CSV or Parquet file with one piece of text for each row. None for the source files of
            Python's standard library.
        pattern: Names of the files to read from a folder.
        lines: Nonblank lines of a piece. None if a file is one piece.
        classes: Number of classes: those with the most pieces.
        text: Of a table, the column of the text.
        target: Of a table, the column of the class.
        features: Number of features that words are hashed to.
        ngrams: Longest n-gram, in words.
        longest: Most features of a piece. The largest values remain.
        valid: Validation part, as a fraction of the pieces.
        test: Test part, as a fraction of the pieces.
        split_seed: Of the random split.
        folds: Number of folds instead of one validation part. None for no folds.

    Raises:
        ValueError: If the text cannot be read or split, or an argument cannot be used.
    """
    check_counts("data", 2, features=features, classes=classes)
    check_counts("data", 1, ngrams=ngrams, longest=longest, **({} if lines is None else {"lines": lines}))
    is_table = path is not None and Path(path).suffix.lower() in TABLES
    pieces, names = _read_columns(path, text, target) if is_table else _read_folder(path, pattern, lines, classes)
    classes_C, label_N = np.unique(names, return_inverse=True)
    if len(classes_C) < 2:
        raise ValueError(
            f"data.path={path}: fewer than two classes ({', '.join(classes_C) or 'none'}). Choose text with two or more"
        )
    words = _hash_words(pieces, features, ngrams, longest)
    label_N = label_N.astype(np.int64)
    parts = draw_parts(len(label_N), Shares(valid, test, split_seed), label_N=label_N)
    return Examples(
        [
            {part: (_select(words, index), torch.from_numpy(label_N[index])) for part, index in split.items()}
            for split in split_folds(parts, folds, split_seed, label_N)
        ],
        inputs=features,
        outputs=len(classes_C),
        problem=CLASSIFICATION,
        classes=tuple(classes_C.tolist()),
    )


def _read_folder(path: str | Path | None, pattern: str, lines: int | None, classes: int) -> tuple[list[str], list[str]]:
    pieces: list[tuple[str, str]] = []
    for name, content in read_files(path, pattern).items():
        label = Path(Path(name).parts[0]).stem
        full = [line for line in content.decode(errors="replace").splitlines() if line.strip()]
        size = lines or max(1, len(full))
        pieces += [(label, "\n".join(full[first : first + size])) for first in range(0, len(full), size)]
    counts = Counter(label for label, _ in pieces)
    largest = set(sorted(counts, key=lambda label: (-counts[label], label))[:classes])
    pieces = [(label, piece) for label, piece in pieces if label in largest]
    return [piece for _, piece in pieces], [label for label, _ in pieces]


def _read_columns(path: str | Path | None, text: str | None, target: str | None) -> tuple[list[str], list[str]]:
    frame = read_table(str(path))
    for key, name in {"text": text, "target": target}.items():
        if name not in frame.columns:
            known = ", ".join(frame.columns[:20])
            raise ValueError(f"data.{key}={name}: {path} has no such column. Choose from {known}")
        missing = int(frame[name].isna().sum())
        if missing:
            raise ValueError(f"data.{key}={name}: {missing} of {len(frame)} rows have no value. Remove these rows")
    return frame[text].astype(str).tolist(), frame[target].astype(str).tolist()


def _hash_words(pieces: list[str], features: int, ngrams: int, longest: int) -> Words:
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=features, ngram_range=(1, ngrams))
    return _pad_rows(hashing.transform(pieces), longest)


def _pad_rows(sparse: csr_matrix, longest: int) -> Words:
    """Return the rows of a sparse matrix, their largest features first."""
    count_N = np.diff(sparse.indptr)
    row = np.repeat(np.arange(len(count_N)), count_N)
    order = np.lexsort((sparse.indices, -np.abs(sparse.data), row))
    rank = np.arange(len(row)) - sparse.indptr[row]
    width = max(1, min(longest, int(count_N.max())))
    is_largest = rank < width
    feature_NK, value_NK = np.zeros((len(count_N), width), np.int64), np.zeros((len(count_N), width), np.float32)
    feature_NK[row[is_largest], rank[is_largest]] = sparse.indices[order][is_largest]
    value_NK[row[is_largest], rank[is_largest]] = sparse.data[order][is_largest]
    return Words(torch.from_numpy(feature_NK), torch.from_numpy(value_NK))


def _select(words: Words, index: Index) -> Words:
    place = torch.from_numpy(index)
    return Words(words.feature_BK[place], words.value_BK[place])
