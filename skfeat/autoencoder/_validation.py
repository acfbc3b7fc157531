"""What the autoencoder takes: rows to fit, rows to encode and codes to decode.

Each function returns the arrays in numpy, and the library that they came from.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from skfeat.utils._arrays import ArrayHome, accept_tensor, check_weights
from skfeat.utils._rows import ComputedRows, assert_finite_rows, is_plain_table
from skfeat.utils._sklearn import check_same_namespace


def rows_to_fit(
    estimator, X, sample_weight, *, reset: bool
) -> tuple[ArrayHome, np.ndarray, np.ndarray]:
    """Validate the rows of a fit and their weights.

    Parameters
    ----------
    estimator : SparseAutoencoder
        Learns the number and the names of the columns with `reset`.
    X, sample_weight : array-like
    reset : bool
    """
    X = accept_tensor(X)
    home = _home_of(X)
    X = _validated(estimator, X, home, reset=reset)
    return home, X, check_weights(sample_weight, X)


def rows_of_fitted(estimator, X, method: str) -> tuple[ArrayHome, np.ndarray]:
    """Validate the rows that a method of a fitted estimator takes."""
    X = accept_tensor(X)
    if not isinstance(X, ComputedRows):
        check_same_namespace(X, estimator, attribute="components_", method=method)
    home = _home_of(X)
    keep_dtype = method == "score"
    return home, _validated(estimator, X, home, reset=False, keep_dtype=keep_dtype)


def validated_codes(
    estimator, X
) -> tuple[ArrayHome, np.ndarray | sparse.csr_array | sparse.csr_matrix]:
    """Validate the codes that `inverse_transform` takes."""
    X = accept_tensor(X)
    check_same_namespace(
        X, estimator, attribute="components_", method="inverse_transform"
    )
    home = ArrayHome.of(X)
    codes = home.to_numpy(check_array(X, accept_sparse="csr", dtype=home.dtypes))
    n_components = estimator.components_.shape[0]
    if codes.shape[1] != n_components:
        raise ValueError(
            f"X has {codes.shape[1]} features, but this {type(estimator).__name__} has "
            f"{n_components} components: inverse_transform takes codes of shape "
            f"(n, {n_components})."
        )
    return home, codes


def _home_of(X) -> ArrayHome:
    return ArrayHome.of(X.source if isinstance(X, ComputedRows) else X)


def _validated(estimator, X, home: ArrayHome, *, reset, keep_dtype=True):
    """Validate X as scikit-learn does, a mapped file without reading it whole."""
    if isinstance(X, ComputedRows):
        # Who computes them has checked that they are finite.
        validate_data(estimator, X[:1], dtype=None, reset=reset)
        return X
    if getattr(X, "ndim", 2) == 3:
        raise ValueError(
            f"Found array with dim 3, while dim <= 2 is required by "
            f"{type(estimator).__name__}. X of shape (contexts, positions, d) becomes "
            f"rows by X.reshape(-1, X.shape[-1]), or fit(skfeat.rows.iter_rows(X)) "
            f"for any source; mind padding."
        )
    if not (keep_dtype and is_plain_table(X)):
        X = validate_data(estimator, X, dtype=home.dtypes, reset=reset)
        return home.to_numpy(X)
    X = validate_data(estimator, X, dtype=None, ensure_all_finite=False, reset=reset)
    assert_finite_rows(X, estimator)
    return X


def targets_to_fit(estimator, y, n_rows: int) -> tuple[np.ndarray, bool]:
    """Validate the targets of a fit; return them as a matrix, and whether y was 1-D.

    A mapped table is used without a copy, as rows are.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            f"None."
        )
    y = accept_tensor(y, "y")
    if is_plain_table(y):
        assert_finite_rows(y, estimator, "y")
        Y = y
    else:
        home = ArrayHome.of(y)
        Y = home.to_numpy(
            check_array(
                y,
                ensure_2d=False,
                dtype=home.dtypes,
                input_name="y",
                estimator=estimator,
            )
        )
    if len(Y) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has "
            f"{n_rows} rows and y {len(Y)}."
        )
    return Y.reshape(n_rows, -1), Y.ndim == 1
