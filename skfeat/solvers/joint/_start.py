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
from skfeat.utils._progress import tick

Rows: TypeAlias = np.ndarray | sparse.csr_array

# Share of the mean second moment that is added to the diagonal.
_RIDGE = 1e-2
# Of the squared mean: what rounding leaves of the moments of rows that are all alike.
_ROUNDING = 1e-10
# Weights that one connector starts with at most, so that an update takes milliseconds;
# and at least this many times its budget.
_MOST_WEIGHTS, _TIMES_BUDGET = 2**20, 8
# Weights that are solved for at a time.
_WEIGHTS_AT_ONCE = 2**22
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
) -> tuple[Rows, np.ndarray]:
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
    coef : ndarray or csr_array of shape (q, p)
        CSR where weights are dropped.
    intercept : ndarray of shape (q,)
    """
    moments = _Moments(features, weights, center=fit_intercept)
    gram = moments.gram()
    diagonal = gram.diagonal().copy()
    ridge = max(_RIDGE * diagonal.mean(), _ROUNDING * (moments.mean @ moments.mean))
    gram.flat[:: len(gram) + 1] += ridge or 1.0
    # In place, as it is stored by column.
    factor = linalg.cho_factor(gram.T, overwrite_a=True, check_finite=False)
    p, q = features.shape[1], targets.shape[1]
    most, size = most_weights(p * q, budget), p * q
    whole = np.empty((q, p)) if most == size else None
    largest = LargestWeights(most)
    mean = weights @ targets if fit_intercept else np.zeros(q)
    if not isinstance(targets, np.ndarray):
        targets = targets.tocsc()
    # A matrix of all weights would take more memory than all else.
    for start in range(0, q, n := max(1, _WEIGHTS_AT_ONCE // p)):
        some = slice(start, min(start + n, q))
        cross = moments.cross(targets[:, some], mean[some])
        solution = linalg.cho_solve(
            factor, cross, overwrite_b=True, check_finite=False
        ).T
        if whole is not None:
            whole[some] = solution
        else:
            # What a weight contributes to the variance of its output.
            largest.add(solution, np.square(solution) * diagonal)
        tick("output", some.stop, q)
    coef = largest.matrix(p) if whole is None else whole
    return coef, mean - coef @ moments.mean


def dense_start(
    features: Rows, targets: Rows, weights: np.ndarray, budget: int, **options
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `regress` does, with a dense matrix of weights."""
    coef, intercept = regress(features, targets, weights, budget, **options)
    return (coef if isinstance(coef, np.ndarray) else coef.toarray()), intercept


class LargestWeights:
    """The most salient weights of a matrix that comes in blocks of rows.

    Parameters
    ----------
    most : int
        Weights that are kept.
    """

    def __init__(self, most: int):
        self.most, self.n_rows = most, 0
        self.bound = -np.inf
        self.places = np.empty(0, dtype=np.int64)
        self.values = self.saliency = np.empty(0)

    def add(self, coef: np.ndarray, saliency: np.ndarray) -> None:
        """Add rows (n, p), whose weights are as salient as `saliency` (n, p) says."""
        new = np.flatnonzero(saliency > self.bound)
        self.places = np.append(self.places, self.n_rows * coef.shape[1] + new)
        self.values = np.append(self.values, coef.ravel()[new])
        self.saliency = np.append(self.saliency, saliency.ravel()[new])
        self.n_rows += len(coef)
        n_dropped = len(self.places) - self.most
        if n_dropped > 0:
            kept = np.argpartition(self.saliency, n_dropped)[n_dropped:]
            self.places, self.values = self.places[kept], self.values[kept]
            self.saliency = self.saliency[kept]
            self.bound = self.saliency.min()

    def matrix(self, n_columns: int) -> sparse.csr_array:
        """Return the weights that are kept as a matrix of all rows so far."""
        ends = np.divmod(self.places, n_columns)
        found = sparse.csr_array((self.values, ends), shape=(self.n_rows, n_columns))
        found.eliminate_zeros()
        return found


class _Moments:
    """Second moments with features, about means.

    Parameters
    ----------
    features : ndarray or csr_array of shape (n, p)
        Of codes in CSR the nonzeros alone are multiplied: of k active features in m
        that is (k / m)^2 of the work.
    weights : ndarray of shape (n,)
    center : bool
        Otherwise the means count as zero.
    """

    def __init__(self, features: Rows, weights: np.ndarray, *, center: bool):
        self.features = features
        self.mean = weights @ features if center else np.zeros(features.shape[1])
        if isinstance(features, np.ndarray):
            self.root = np.sqrt(weights)[:, None].astype(features.dtype)
            self.factor = self._centred(features, self.mean).T
        else:
            weighted = features.astype(np.float64).multiply(weights[:, None])
            self.factor = sparse.csr_array(weighted.T)

    def _centred(self, part: np.ndarray, mean: np.ndarray) -> np.ndarray:
        return (part - mean.astype(part.dtype)) * self.root

    def gram(self) -> np.ndarray:
        """Return those of features with each other (p, p)."""
        features = self.features
        if isinstance(features, np.ndarray):
            return (self.factor @ self.factor.T).astype(np.float64)
        p = features.shape[1]
        out, columns = np.empty((p, p)), features.tocsc()
        for start in range(0, p, n := max(1, _WEIGHTS_AT_ONCE // p)):
            some = slice(start, min(start + n, p))
            out[some] = self.cross(columns[:, some], self.mean[some]).T
        return out

    def cross(self, targets: Rows, mean: np.ndarray) -> np.ndarray:
        """Return those with targets (n, q) of a mean (q,), as (p, q)."""
        if isinstance(self.features, np.ndarray):
            if not isinstance(targets, np.ndarray):
                targets = targets.toarray()
            return (self.factor @ self._centred(targets, mean)).astype(np.float64)
        found = self.factor @ targets.astype(np.float64)
        if not isinstance(found, np.ndarray):
            found = found.toarray()
        return found - np.outer(self.mean, mean)
