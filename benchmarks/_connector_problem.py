"""The problems that connectors are timed on, and what a solution is worth."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from skfeat.datasets import make_sparse_features

# Share of features active in a row, share of weights planted, noise before the ReLU.
DENSITY, CONNECTED, NOISE = 0.03, 0.01, 0.1


def make_data(m, n_train, n_test):
    """Draw rows of m features and the m features that a few of them make up each.

    Returns
    -------
    X : CSR of shape (n_train, m), float32
    Y : ndarray of shape (n_train, m), float32
    X_test, Y_test : the same of `n_test` rows
    """
    rng = np.random.default_rng(0)
    n = n_train + n_test
    density = max(DENSITY, 1 / m)
    _, X, _ = make_sparse_features(
        n,
        1,
        m,
        n_active=density * m,
        correlation=0.5,
        group_size=8,
        random_state=0,
        dtype=np.float32,
    )
    shape = m, m
    planted = rng.uniform(0.5, 1.5, shape) * rng.choice([1, 1, 1, -1], shape)
    planted *= rng.random(shape) < max(CONNECTED, 1 / m)
    Y = np.empty((n, m), dtype=np.float32)
    for start in range(0, m, 128):
        outputs = slice(start, start + 128)
        part = X @ planted[outputs].T.astype(np.float32)
        part += NOISE * rng.standard_normal(part.shape, dtype=np.float32)
        # So that the features of the second layer fire as rarely as those of the first.
        Y[:, outputs] = np.maximum(part - np.quantile(part, 1 - density, axis=0), 0)
    train = slice(0, n_train)
    test = slice(n_train, None)
    return X[train], Y[train], X[test], Y[test]


class Moments:
    """Means of products of centred columns, in float64: skfeat's own are not used.

    Objectives and gaps are of the best intercept for the weights given.
    """

    def __init__(self, X, Y):
        X, Y = sparse.csr_array(X).astype(float), sparse.csr_array(Y).astype(float)
        x_mean, y_mean, n = X.mean(axis=0), Y.mean(axis=0), X.shape[0]
        self.xx = (X.T @ X).toarray() / n - np.outer(x_mean, x_mean)
        self.yx = (Y.T @ X).toarray() / n - np.outer(y_mean, x_mean)
        self.yy = Y.power(2).mean(axis=0) - y_mean**2

    def objective(self, coef, alpha, n_outputs=None):
        """Return Lasso's objective summed over the first outputs."""
        part, coef = slice(n_outputs), coef.astype(float)
        error = self.yy[part] - (coef * (2 * self.yx[part] - coef @ self.xx)).sum(1)
        return error.sum() / 2 + alpha * np.abs(coef).sum()

    def gap(self, coef, alpha):
        """Return the duality gap, summed over all outputs."""
        coef = coef.astype(float)
        pull = self.yx - coef @ self.xx  # X' r / n
        r_y = self.yy - (coef * self.yx).sum(1)
        r_r = r_y - (coef * pull).sum(1)
        scale = np.minimum(1, alpha / np.maximum(np.abs(pull).max(1), 1e-300))
        dual = scale * r_y - scale**2 * r_r / 2
        return self.objective(coef, alpha) - dual.sum()


def judge(coef, intercept, train, test, alpha):
    """Return objective on training rows, R2 on test rows and share of exact zeros."""
    weights, bias = (
        torch.from_numpy(part.astype(np.float32)) for part in (coef, intercept)
    )

    def error(X, Y):
        parts = zip(X.split(8192), Y.split(8192), strict=True)
        return sum(
            (torch.addmm(bias, x, weights.T).relu() - y).double().square().sum().item()
            for x, y in parts
        )

    variation = (test[1] - test[1].mean(dim=0)).double().square().sum().item()
    return {
        "objective": error(*train) / (2 * len(train[0])) + alpha * abs(coef).sum(),
        "R2": 1 - error(*test) / variation,
        "exact zeros": (coef == 0).mean(),
    }


def describe(X, Y, coef, alpha):
    """Return what a reader needs to judge a time."""
    return {
        "rows": X.shape[0],
        "inputs": X.shape[1],
        "outputs": Y.shape[1],
        "inputs active": X.nnz / np.prod(X.shape),
        "outputs active": (Y > 0).mean(),
        "alpha": alpha,
        "weights": (coef != 0).mean(),
    }
