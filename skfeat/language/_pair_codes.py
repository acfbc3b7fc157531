"""Rows of a layer pair and the sparse codes of their features."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.utils._arrays import as_numpy
from skfeat.utils._finite import check_finite_result
from skfeat.utils._frozen import unnamed
from skfeat.utils._rows import assert_finite_rows, is_plain_table, row_blocks

# Rows that are encoded at a time, before their codes are joined.
_BLOCK_ROWS = 4096


def check_rows(X: Any, name: str, estimator, *, ensure_2d: bool = True) -> np.ndarray:
    """Validate rows of real numbers; those of a mapped file are not copied.

    Raises
    ------
    ValueError
        If the rows are not finite, or not a table.
    """
    X = as_numpy(X, name)
    options: dict = {"estimator": estimator, "input_name": name}
    if not is_plain_table(X):
        options |= {"dtype": [np.float64, np.float32], "ensure_2d": ensure_2d}
        return check_array(X, **options)
    X = check_array(X, dtype=None, ensure_all_finite=False, **options)
    assert_finite_rows(X, estimator, name)
    return X


def as_float_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows in a dtype that codes are computed in."""
    if rows.dtype in (np.float32, np.float64):
        return rows
    return rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)


def sparse_codes(
    autoencoder, X: np.ndarray, features: np.ndarray | None = None
) -> sparse.csr_array:
    """Encode rows in blocks into CSR, all features or only the given ones."""
    encoder = EncoderWeights.from_autoencoder(autoencoder)
    parts = []
    for _, rows in row_blocks(X, _BLOCK_ROWS):
        rows = as_float_rows(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            codes = encoder.encode(rows, sparse_output=True)
        check_finite_result("The codes", codes, rows)
        parts.append(codes if features is None else codes[:, features])
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def count_events(codes: sparse.csr_array) -> np.ndarray:
    """Count the rows in which each feature fires."""
    return np.bincount(codes.indices, minlength=codes.shape[1])


def predict_codes(model, codes: sparse.csr_array) -> np.ndarray:
    """Predict codes of shape (n, q); some regressors drop the axis of one output."""
    predicted = np.asarray(unnamed(model).predict(codes)).reshape(codes.shape[0], -1)
    check_finite_result("The predicted features", predicted, codes, "the codes")
    return predicted


def mean_row(rows: np.ndarray) -> np.ndarray:
    """Return the mean of rows, summed in float64."""
    total = np.zeros(rows.shape[1])
    for _, block in row_blocks(rows):
        total += block.sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(as_float_rows(rows[:1]).dtype)
