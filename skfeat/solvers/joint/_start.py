"""Where connectors start: the ridge regression on encoded features, dense if it can be.

A start that is dense, or nearly, matters more than a sparse one that fits well: the
weights that few connections between features need are found by training all of them
and dropping those that cost the outputs least.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy import linalg, sparse

from skfeat.kernels.connector._sparsity import mostly_zeros

Rows: TypeAlias = np.ndarray | sparse.csr_array

# Share of the mean second moment that is added to the diagonal.
_RIDGE = 1e-2
# Weights that one connector starts with at most, so that an update takes milliseconds;
# and at least this many times its budget.
_MOST_WEIGHTS, _TIMES_BUDGET = 2**20, 8
# Rows that the regression sees: at least so many, and so many times its inputs.
_ROWS, _TIMES_INPUTS = 8192, 4


def most_weights(n_weights: int, budget: int) -> int:
    """Return with how many of all weights a connector of a budget starts at most."""
    return min(n_weights, max(_MOST_WEIGHTS, _TIMES_BUDGET * budget))


def start_rows(n_rows: int, n_inputs: int) -> np.ndarray:
    """Choose rows for the start, from all over the data."""
    n = min(n_rows, max(_ROWS, _TIMES_INPUTS * n_inputs))
    return np.linspace(0, n_rows - 1, n).astype(np.int64)


def compact_rows(parts: list[np.ndarray]) -> Rows:
    """Join blocks of rows: as CSR where they are mostly zeros, as codes of top-k."""
    if all(mostly_zeros(part) for part in parts):
        return sparse.vstack([sparse.csr_array(part) for part in parts], format="csr")
    return np.concatenate(parts)


def regress(
    features: Rows,
    targets: Rows,
    weights: np.ndarray,
    budget: int,
    *,
    fit_intercept: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Regress targets on features, and keep the weights that matter most.

    Parameters
    ----------
    features : ndarray or csr_array of shape (n, p)
    targets : ndarray or csr_array of shape (n, q)
    weights : ndarray of shape (n,)
        Of rows; they sum to one.
    budget : int
        Weights that will be left in the end.
    fit_intercept : bool

    Returns
    -------
    coef : ndarray of shape (q, p)
    intercept : ndarray of shape (q,)
    """
    means = [
        weights @ part if fit_intercept else np.zeros(part.shape[1])
        for part in (features, targets)
    ]
    if sparse.issparse(features):
        gram, cross = _moments_of_codes(features, targets, weights, means)
    else:
        gram, cross = _moments_of_rows(features, targets, weights, means)
    diagonal = gram.diagonal().copy()
    gram.flat[:: len(gram) + 1] += _RIDGE * diagonal.mean() or 1.0
    solution = linalg.solve(gram, cross, assume_a="pos", overwrite_a=True)
    coef = np.ascontiguousarray(solution.T)
    most = most_weights(coef.size, budget)
    if most < coef.size:
        # What a weight contributes to the variance of its output.
        saliency = (np.square(coef) * diagonal).ravel()
        dropped = np.argpartition(saliency, coef.size - most)[: coef.size - most]
        coef.ravel()[dropped] = 0.0
    return coef, means[1] - coef @ means[0]


def _moments_of_rows(
    features: np.ndarray, targets: Rows, weights: np.ndarray, means: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return second moments of features, and with targets, about their means."""
    if sparse.issparse(targets):
        targets = sparse.csr_array(targets).toarray()
    root = np.sqrt(weights)[:, None].astype(features.dtype)
    X, Y = (
        (part - mean.astype(part.dtype)) * root
        for part, mean in zip((features, targets), means, strict=True)
    )
    return (X.T @ X).astype(np.float64), (X.T @ Y).astype(np.float64)


def _moments_of_codes(
    codes: sparse.csr_array,
    targets: Rows,
    weights: np.ndarray,
    means: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same over the nonzeros of codes alone.

    Of k active features in m that is (k / m)^2 of the work.
    """
    weighted = codes.astype(np.float64).multiply(weights[:, None]).tocsr().T
    moments = []
    for part, mean in zip((codes, targets), means, strict=True):
        product = weighted @ part.astype(np.float64)
        if sparse.issparse(product):
            product = product.toarray()
        product -= np.outer(means[0], mean)
        moments.append(product)
    return moments[0], moments[1]
