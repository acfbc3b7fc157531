"""A linear connector that meets its budget by pruning, not by the penalty alone."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skfeat import FeatureConnector
from skfeat.solvers._gram import solve_normal
from skfeat.solvers._statistics import GramStatistics


class PrunedConnector(FeatureConnector):
    """A linear connector without intercept: a wide Lasso, then backward elimination.

    The Lasso finds several times as many weights as the budget. Of each output the
    weight whose removal raises the squared error least, the others refitted, is removed
    again and again (optimal brain surgeon [1]_, exact for a quadratic); the budget is
    then spent on the weights that were worth most, over all outputs.

    Parameters
    ----------
    n_nonzero_coefs : int, default=None
        Budget of nonzero weights in the whole matrix.
    n_candidates : int, default=6
        Weights that the Lasso finds, as a multiple of the budget.
    even : bool, default=False
        Count the errors of all outputs relative to their mean squares, so that weak
        outputs get weights too.
    random_state : int, RandomState instance or None, default=None
        Of the Lasso.

    References
    ----------
    .. [1] B. Hassibi and D. Stork, "Second order derivatives for network pruning:
       Optimal Brain Surgeon", NIPS 1992.
    """

    def __init__(
        self, n_nonzero_coefs=None, *, n_candidates=6, even=False, random_state=None
    ):
        super().__init__(
            link="identity",
            fit_intercept=False,
            n_nonzero_coefs=n_nonzero_coefs,
            random_state=random_state,
        )
        self.n_candidates = n_candidates
        self.even = even

    def fit(self, X, y):
        """Fit to codes of shapes (n, p) and (n, q) in CSR."""
        budget, each = self.n_nonzero_coefs, self.n_candidates
        statistics = GramStatistics.zeros(X.shape[1], y.shape[1])
        statistics.update(X, y, np.ones(X.shape[0]))
        problem = statistics.problem(False)
        scale = np.sqrt(problem.yy.clip(1e-300)) if self.even else np.ones(y.shape[1])
        wide = FeatureConnector(
            link="identity",
            fit_intercept=False,
            n_nonzero_coefs=each * budget,
            refit=False,
            random_state=self.random_state,
        ).fit(X, y @ sparse.diags_array(1 / scale).astype(y.dtype))
        own = wide.get_params()
        vars(self).update({k: v for k, v in vars(wide).items() if k not in own})
        moments = problem.yx / scale[:, None]
        paths = [
            eliminate(problem.xx, moment, row.indices)
            for moment, row in zip(moments, wide.coef_, strict=True)
        ]
        worth = np.sort(np.concatenate([path[1] for path in paths]))[::-1]
        least = worth[budget] if budget < len(worth) else -1.0
        coef = np.zeros(problem.yx.shape)
        for output, (inputs, gains) in enumerate(paths):
            kept = inputs[gains > least]
            if len(kept):
                xx, xy = problem.xx[np.ix_(kept, kept)], problem.yx[output, kept, None]
                coef[output, kept] = solve_normal(xx, xy)[:, 0]
        self.coef_ = type(wide.coef_)(coef.astype(wide.coef_.dtype))
        return self


def eliminate(xx, xy, support):
    """Remove the inputs of a least-squares problem one by one, the least useful first.

    Parameters
    ----------
    xx : ndarray of shape (p, p)
        Second moments of the inputs.
    xy : ndarray of shape (p,)
        Moments of inputs and output.
    support : ndarray of int
        The inputs to begin with.

    Returns
    -------
    inputs : ndarray of int
        In the order of their removal.
    errors : ndarray of float
        By how much the squared error rose with each removal, or with an earlier one
        if that cost more: what comes later is worth at least as much.
    """
    left = np.asarray(support, dtype=np.int64)
    block = xx[np.ix_(left, left)]
    ridge = 1e-9 * np.trace(block) / max(1, len(left))
    inverse = np.linalg.inv(block + ridge * np.eye(len(left)))
    weights = inverse @ xy[left]
    inputs, errors = [], []
    while len(left):
        costs = weights**2 / np.diag(inverse)
        i = int(costs.argmin())
        inputs.append(left[i])
        errors.append(costs[i])
        kept = np.arange(len(left)) != i
        column, pivot = inverse[kept, i], inverse[i, i]
        weights = weights[kept] - column * (weights[i] / pivot)
        inverse = inverse[np.ix_(kept, kept)] - np.outer(column, column) / pivot
        left = left[kept]
    found = np.asarray(errors, dtype=np.float64)
    return np.asarray(inputs, dtype=np.int64), np.maximum.accumulate(found)
