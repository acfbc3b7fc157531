"""Refit of a rectified connector on a given support, one output at a time.

On its few inputs an output is a small piecewise quadratic problem: between two changes
of the set of rows that count, least squares on those rows is exact. Newton steps with
halving therefore end after a handful of rounds, first on the convex majorant, then on
the loss itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from skfeat.losses import rectified, rectified_convex
from skfeat.utils._progress import stage, tick

if TYPE_CHECKING:
    from collections.abc import Callable

# The loss does not depend on inputs whose rows are all off: a small ridge, on inputs of
# unit mean square, selects the smallest weights that keep those rows off.
_RIDGE = 1e-9

_MAX_ROUNDS = 100
_MAX_HALVINGS = 30


def refit_rectified(
    X,
    Y: np.ndarray,
    weights: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    *,
    fit_intercept: bool,
    tol: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the squared error of each output on the support of its weights.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n, p)
    Y : ndarray of shape (n, q)
    weights : ndarray of shape (n,)
        Weights of the rows, with sum one.
    coef : ndarray of shape (q, p)
        Start; its zeros stay.
    intercept : ndarray of shape (q,)
    fit_intercept : bool
    tol : float
        Decrease that a Newton step promises, relative to the mean square of the
        output, below which the output is done.

    Returns
    -------
    coef : ndarray of shape (q, p)
    intercept : ndarray of shape (q,)
    """
    coef, intercept = coef.copy(), intercept.copy()
    columns = X.tocsc() if sparse.issparse(X) else X
    stage("refit")
    for output in range(len(coef)):
        tick("output", output, len(coef))
        support = np.flatnonzero(coef[output])
        inputs = columns[:, support]
        if sparse.issparse(inputs):
            inputs = inputs.toarray()
        theta, fixed = coef[output, support], intercept[output]
        center = np.zeros(len(support))
        if fit_intercept:
            # Centred inputs do not compete with the intercept for a common offset.
            center = weights @ inputs
            inputs = np.hstack([inputs - center, np.ones((len(Y), 1))])
            theta, fixed = np.append(theta, fixed + theta @ center), 0.0
        # In raw units an input of small scale would be taken for a singular direction.
        y, spread = Y[:, output], _rms(inputs, weights)
        spread = np.where(spread > 0, spread, np.inf)
        unit = float(_rms(y, weights) or _rms(inputs @ theta + fixed, weights)) or 1.0
        inputs, theta = inputs / spread, theta * spread / unit
        for loss in (rectified_convex, rectified):
            theta = _newton(loss, inputs, y / unit, weights, theta, fixed / unit, tol)
        theta = theta * unit / spread
        coef[output, support] = theta[: len(support)]
        if fit_intercept:
            intercept[output] = theta[-1] - theta[:-1] @ center
    return coef, intercept


def _rms(columns, weights):
    return np.sqrt(weights @ np.square(columns))


def _newton(
    loss: Callable, inputs, y, weights, theta, fixed: float, tol: float
) -> np.ndarray:
    """Minimise one output's loss, and of equal minimisers take the smallest.

    Inputs and output have unit mean square.
    """
    allowed, identity = tol * _RIDGE, np.eye(len(theta))

    def evaluate(u, theta):
        residual, value = loss(u, y)
        return residual, weights @ value + _RIDGE * (theta @ theta) / 2

    u = inputs @ theta + fixed
    residual, objective = evaluate(u, theta)
    for _ in range(_MAX_ROUNDS):
        gradient = inputs.T @ (weights * residual) + _RIDGE * theta
        # Where the residual is zero the loss is flat, or met exactly.
        counts = (residual != 0) | (u > 0)
        rows = inputs[counts]
        hessian = rows.T @ (rows * weights[counts, None]) + _RIDGE * identity
        step = -np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        promised = -gradient @ step / 2
        if promised <= allowed:
            break
        along = inputs @ step
        for halving in range(_MAX_HALVINGS):
            length = 0.5**halving
            ahead, moved = u + length * along, theta + length * step
            residual, value = evaluate(ahead, moved)
            if value <= objective - 1e-4 * length * promised:
                break
        else:
            break
        theta, u, objective = moved, ahead, value
    return theta
