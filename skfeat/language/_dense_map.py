"""The least-squares map between sparse codes, from their second moments."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse
from sklearn.linear_model import LinearRegression

from skfeat.solvers.connector._gram import input_scale, solve_normal
from skfeat.solvers.connector._statistics import GramStatistics


def fit_dense(
    codes_in: sparse.csr_array,
    codes_out: sparse.csr_array,
    *,
    fit_intercept: bool,
    ridge: float,
) -> LinearRegression:
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
    coef = _solve_ridge(problem.xx, problem.yx.T, ridge).T
    model = LinearRegression(fit_intercept=fit_intercept)
    dtype = codes_in.dtype
    model.coef_ = coef.astype(dtype)
    model.intercept_ = problem.intercept(coef).astype(dtype)
    model.n_features_in_ = codes_in.shape[1]
    return model


def _solve_ridge(xx: np.ndarray, xy: np.ndarray, ridge: float) -> np.ndarray:
    """Solve ``xx @ w = xy`` with a ridge, both scaled to inputs of unit mean square."""
    scale = input_scale(xx)
    gram = xx / scale / scale[:, None]
    # An input that is always zero has an infinite scale: its row sets its weight to 0.
    gram[np.diag_indices_from(gram)] = np.where(np.isfinite(scale), 1.0 + ridge, 1.0)
    try:
        factor = linalg.cho_factor(gram, check_finite=False)
    except linalg.LinAlgError:
        return solve_normal(xx, xy)
    return linalg.cho_solve(factor, xy / scale[:, None]) / scale[:, None]
