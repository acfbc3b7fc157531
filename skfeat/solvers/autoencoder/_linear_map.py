"""The linear map from rows to targets that a transcoder's skip starts from."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.utils._rows import block_reader, row_blocks

# Ridges that are compared, over the mean of the second moments' eigenvalues.
_RIDGES = 10.0 ** np.arange(-8, 3)


def fit_linear_map(
    rows: tuple[np.ndarray, Standardizer],
    targets: tuple[np.ndarray, Standardizer],
    sample_weight: np.ndarray,
) -> np.ndarray:
    """Return the map (d_out, d_in) between standardised rows, by ridge regression.

    The ridge is the one of the smallest generalised cross-validation error [1]_, which
    needs the second moments alone: few rows are not fitted to the last bit.

    References
    ----------
    .. [1] G. Golub, M. Heath and G. Wahba, "Generalized Cross-Validation as a Method
       for Choosing a Good Ridge Parameter", Technometrics, 1979.
    """
    (X, own), (Y, other) = rows, targets
    weights = sample_weight / sample_weight.sum()
    n_rows = 1 / (weights @ weights)
    xx = np.zeros((X.shape[1], X.shape[1]))
    xy = np.zeros((X.shape[1], Y.shape[1]))
    yy, read = 0.0, block_reader(Y)
    for block, part in row_blocks(X):
        x = own.apply(part.astype(np.float64, copy=False))
        y = other.apply(read(block).astype(np.float64, copy=False))
        weighted = weights[block, None] * x
        xx += weighted.T @ x
        xy += weighted.T @ y
        yy += weights[block] @ np.square(y).sum(axis=1)
    values, vectors = linalg.eigh(xx, check_finite=False)
    values = np.maximum(values, 0)
    turned = vectors.T @ xy
    energy = np.square(turned).sum(axis=1)
    best, smallest = None, np.inf
    for ridge in _RIDGES * max(values.mean(), 1e-300):
        shrunk = values / (values + ridge)
        explained = (2 - shrunk) * energy / (values + ridge)
        left = max(yy - explained.sum(), 0.0)
        # One more number is fitted: the mean.
        freedom = 1 - (shrunk.sum() + 1) / n_rows
        error = left / freedom**2 if freedom > 0 else np.inf
        if error < smallest or best is None:
            best, smallest = ridge, error
    return np.asarray((vectors / (values + best)) @ turned).T
