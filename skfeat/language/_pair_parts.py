"""The parts of a layer pair: rows in, codes of live features, the dense map."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skfeat._fitting import one_each
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.kernels.inference._encode import encode
from skfeat.solvers.connector._gram import input_scale, solve_normal
from skfeat.solvers.connector._statistics import GramStatistics
from skfeat.utils._arrays import as_numpy
from skfeat.utils._rows import assert_finite_rows, is_plain_table, row_blocks

# Codes of so many rows are joined before they are.
_ROWS = 4096


def check_rows(X, name: str, estimator, *, ensure_2d: bool = True) -> np.ndarray:
    """Validate rows of real numbers, those of a mapped file without a copy.

    Raises
    ------
    ValueError
        If they are not finite, or are no table.
    """
    X = as_numpy(X, name)
    options: dict = {"estimator": estimator, "input_name": name}
    if not is_plain_table(X):
        options |= {"dtype": [np.float64, np.float32], "ensure_2d": ensure_2d}
        return check_array(X, **options)
    X = check_array(X, dtype=None, ensure_all_finite=False, **options)
    assert_finite_rows(X, estimator, name)
    return X


def one_autoencoder(part, seed: int, name: str, width: int) -> SparseAutoencoder:
    """Return what is to be fitted, or, if it is frozen, the fitted autoencoder.

    Raises
    ------
    ValueError
        If it holds something else, or was fitted to rows of another width.
    """
    if not isinstance(part, FrozenEstimator):
        part = default_autoencoder(width) if part is None else part
        return one_each([part], [seed], name, SparseAutoencoder)[0]
    fitted = part.estimator
    if not isinstance(fitted, SparseAutoencoder):
        raise ValueError(
            f"The {name!r} parameter must be a SparseAutoencoder, or a fitted one in a "
            f"FrozenEstimator. Got {part!r} instead."
        )
    check_is_fitted(fitted)
    if fitted.n_features_in_ != width:
        raise ValueError(
            f"The {name!r} parameter was fitted to rows of {fitted.n_features_in_} "
            f"columns, but its rows here have {width}."
        )
    return fitted


def default_autoencoder(width: int) -> SparseAutoencoder:
    """Return the autoencoder of rows of so many columns, unless one is given."""
    return SparseAutoencoder(8 * width, k=min(6, max(1, width // 2)))


def default_connector() -> FeatureConnector:
    """Return the connector of live features, unless one is given."""
    return FeatureConnector(link="identity", fit_intercept=False, candidates=6)


def floating(rows: np.ndarray) -> np.ndarray:
    """Return rows in a dtype that codes are computed in."""
    if rows.dtype in (np.float32, np.float64):
        return rows
    return rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)


def sparse_codes(autoencoder, X, features=None) -> sparse.csr_array:
    """Encode rows, in blocks, into CSR; only some of the features if they are given."""
    parts = []
    for _, rows in row_blocks(X, _ROWS):
        codes = encode(
            floating(rows),
            autoencoder.encoder_coef_,
            autoencoder.encoder_intercept_,
            autoencoder.intercept_,
            autoencoder.make_activation(),
            sparse_output=True,
        )
        parts.append(codes if features is None else codes[:, features])
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def count_events(codes: sparse.csr_array) -> np.ndarray:
    """Count the rows in which each feature fires."""
    return np.bincount(codes.indices, minlength=codes.shape[1])


def live_features(
    events: np.ndarray, min_events: int, n_rows: int, name: str
) -> np.ndarray:
    """Return the features that fire often enough.

    Raises
    ------
    ValueError
        If none does.
    """
    live = np.flatnonzero(events >= min_events)
    if not len(live):
        raise ValueError(
            f"min_events={min_events} leaves no {name} feature: the most frequent one "
            f"fires in {events.max(initial=0)} of n_samples={n_rows} rows; lower it or "
            f"give more rows."
        )
    return live


def fit_dense(codes_in, codes_out, *, fit_intercept: bool, ridge: float):
    """Fit the dense linear map between codes, from their second moments in float64.

    Parameters
    ----------
    codes_in : csr_array of shape (n, p)
    codes_out : csr_array of shape (n, q)
    fit_intercept : bool
    ridge : float
        Added to the diagonal of the moments of inputs of unit mean square.

    Returns
    -------
    LinearRegression
        Fitted, with weights (q, p) in the dtype of the inputs.
    """
    statistics = GramStatistics.zeros(codes_in.shape[1], codes_out.shape[1])
    statistics.update(codes_in, codes_out, np.ones(codes_in.shape[0]))
    problem = statistics.problem(fit_intercept)
    coef = solve_ridge(problem.xx, problem.yx.T, ridge).T
    model = LinearRegression(fit_intercept=fit_intercept)
    dtype = codes_in.dtype
    model.coef_ = coef.astype(dtype)
    model.intercept_ = problem.intercept(coef).astype(dtype)
    model.n_features_in_ = codes_in.shape[1]
    return model


def solve_ridge(xx: np.ndarray, xy: np.ndarray, ridge: float) -> np.ndarray:
    """Solve ``xx @ w = xy`` in inputs of unit mean square, with a ridge there."""
    scale = input_scale(xx)
    gram = xx / scale / scale[:, None]
    # An input that is always zero: its row says that its weight is zero.
    gram[np.diag_indices_from(gram)] = np.where(np.isfinite(scale), 1.0 + ridge, 1.0)
    try:
        factor = linalg.cho_factor(gram, check_finite=False)
    except linalg.LinAlgError:
        return solve_normal(xx, xy)
    return linalg.cho_solve(factor, xy / scale[:, None]) / scale[:, None]


def predict_codes(model, codes) -> np.ndarray:
    """Predict with any regressor: some drop the axis of a single output."""
    return np.asarray(model.predict(codes)).reshape(codes.shape[0], -1)


def whole_weights(coef, live, shape) -> sparse.csr_array:
    """Return weights between live features by the numbers of all features."""
    coef = sparse.coo_array(coef)
    places = [numbers[at] for numbers, at in zip(live, coef.coords, strict=True)]
    return sparse.csr_array((coef.data, tuple(places)), shape=shape)


def mean_row(rows: np.ndarray) -> np.ndarray:
    """Return the mean of rows, summed in float64."""
    total = np.zeros(rows.shape[1])
    for _, block in row_blocks(rows):
        total += block.sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(floating(rows[:1]).dtype)
