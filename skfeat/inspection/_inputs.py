"""What displays take: matrices, activations, names, features, fitted estimators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skfeat.utils._checks import (
    as_plain,
    check_matrix,
    check_sequence,
    image_sides,
    type_error,
    value_error,
)
from skfeat.utils._names import Numbered, column_names

# An ndarray or a csr_array. A type checker sees no difference, as scipy is untyped.
Matrix: TypeAlias = Any


def check_labels(name: str, names: Any, n: int) -> list[str] | None:
    """Return one string for each of `n` things; None stays None."""
    if names is None:
        return None
    several = np.iterable(names) and not isinstance(names, str)
    given = [str(item) for item in names] if several else []
    if not several or len(given) != n:
        got = given if hasattr(names, "shape") and several else names
        raise value_error(name, f"a sequence of {n} names or None", got)
    return given


def check_codes(name: str, value: Any) -> Matrix:
    """Return activations as a finite matrix; a vector becomes one row."""
    if not sparse.issparse(value):
        value = as_plain(name, value)
    return check_matrix(name, value.reshape(1, -1) if value.ndim == 1 else value)


def check_row(name: str, value: Any) -> np.ndarray:
    """Return one row as a dense finite vector of floats."""
    allowed = "one row of finite numbers, (n,) or (1, n)"
    row = value if sparse.issparse(value) else as_plain(name, value)
    if row.ndim not in (1, 2):
        raise value_error(name, allowed, value)
    matrix = check_codes(name, row)
    if matrix.shape[0] != 1:
        raise value_error(name, allowed, matrix)
    return take_rows(matrix, slice(None)).ravel().astype(float)


def check_features(
    name: str, features: Any, n_features: int, *, ndim: int = 1
) -> np.ndarray:
    """Return `features`, an int or a sequence of int, as an array of indices."""
    indices = np.atleast_1d(as_plain(name, features))
    is_index = indices.ndim == ndim and indices.size > 0 and indices.dtype.kind in "iu"
    if not is_index or indices.min() < 0 or indices.max() >= n_features:
        allowed = f"an int or a sequence of int from 0 to {n_features - 1}"
        if ndim == 2:
            allowed = f"a 2-D array of int from 0 to {n_features - 1}"
        got = features.tolist() if hasattr(features, "tolist") else features
        raise value_error(name, allowed, got)
    return indices


def check_image_shape(image_shape: Any, n_values: int) -> tuple[int, int]:
    """Return `image_shape` as two ints whose product is `n_values`."""
    sides = image_sides(image_shape, n_values)
    if sides is None:
        allowed = f"(height, width) with height * width = {n_values}"
        raise value_error("image_shape", allowed, image_shape)
    return sides


def fitted_step(name: str, estimator: Any, *attributes: str) -> Any:
    """Return a fitted estimator, or the last step of a fitted pipeline.

    Raises
    ------
    TypeError
        If it is no estimator, or has not these attributes.
    """
    allowed = "a fitted estimator"
    if not hasattr(estimator, "fit") or isinstance(estimator, type):
        raise type_error(name, allowed, estimator)
    check_is_fitted(estimator)
    step = estimator[-1] if hasattr(estimator, "named_steps") else estimator
    missing = [attribute for attribute in attributes if not hasattr(step, attribute)]
    if missing:
        raise type_error(name, f"{allowed} with {missing[0]}", step)
    return step


def fitted_steps(name: str, estimators: Any, *attributes: str) -> list[Any]:
    """Return several, as `fitted_step` does."""
    several = check_sequence(name, "fitted estimators", estimators)
    return [fitted_step(f"{name}[{i}]", e, *attributes) for i, e in enumerate(several)]


def check_methods(name: str, estimator: Any, *methods: str) -> None:
    """Raise TypeError unless an estimator, not a class, has these methods."""
    missing = [m for m in methods if not callable(getattr(estimator, m, None))]
    if missing or isinstance(estimator, type):
        listed = " and ".join(methods)
        raise type_error(name, f"a fitted estimator with {listed}", estimator)


def connector_labels(connector: Any) -> tuple[Any, Any]:
    """Return the names of a linear map's inputs and outputs, None where it has none."""
    if hasattr(connector, "_names"):  # a connector of skfeat, or a pair of layers
        return connector._names()
    return getattr(connector, "feature_names_in_", None), None


def feature_labels(transformer: Any, codes: Any, n_features: int) -> Sequence[str]:
    """Return the names of the columns that a transformer has given.

    They are those of a data frame, else what the transformer says, else the number of
    each.
    """
    names = column_names(codes)
    if names is None and hasattr(transformer, "get_feature_names_out"):
        try:
            names = list(transformer.get_feature_names_out())
        except (AttributeError, TypeError, ValueError):
            names = None  # as of a pipeline with a step that has none
    if names is None or len(names) != n_features:
        return Numbered("feature ", n_features)
    return list(map(str, names))


def take_rows(matrix: Any, rows: Any) -> np.ndarray:
    """Return rows of an array, a data frame or a sparse matrix as a dense array."""
    if sparse.issparse(matrix):
        return sparse.csr_array(matrix)[rows].toarray()
    return np.asarray(matrix)[rows]


def nonzero_values(matrix: Matrix) -> np.ndarray:
    """Return the nonzeros of an ndarray or of a CSR array as a vector."""
    return matrix.data if sparse.issparse(matrix) else matrix[matrix != 0]


def count_text(
    matrix: Matrix, threshold: float | None, *, thing: str, symbol: str
) -> str:
    """Count the values above `threshold` in magnitude, or the nonzeros, in words."""
    values, size = np.abs(nonzero_values(matrix)), matrix.shape[0] * matrix.shape[1]
    if threshold is None:
        return f"{values.size:,} of {size:,} {thing} nonzero"
    n_above = np.count_nonzero(values > threshold)
    return f"{n_above:,} of {size:,} {thing} with |{symbol}| > {threshold:g}"
