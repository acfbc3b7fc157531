"""The linear connector between layers too wide for a Gram matrix.

Nothing of size inputs times inputs or outputs times inputs is held: the Gram rows of
an output's few active inputs are made from the sparse rows when they are needed, and
its products with the inputs when its turn comes. Memory is that of the nonzeros and of
one share of outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from skfeat.kernels._threads import Team
from skfeat.kernels.connector._arrays import (
    Columns,
    GramColumns,
    LassoSolutions,
    SparseRows,
)
from skfeat.kernels.connector._second_moments import (
    add_products_of,
    compress_to_float64,
)
from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector._gap import Reached, allowed_gaps, reached
from skfeat.solvers.connector._gram import solve_normal
from skfeat.solvers.connector._lasso import Moments, solve_share

# Dense numbers of a share of outputs: products with the inputs, and weights.
_SHARE = 2**23


class ColumnProblem:
    """L1 regression of many sparse outputs on many sparse inputs.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, p)
    Y : ndarray or CSR of shape (n, q)
    sample_weight : ndarray of shape (n,)
    fit_intercept : bool
    """

    def __init__(self, X, Y, sample_weight: np.ndarray, *, fit_intercept: bool):
        with Team() as team:
            X, Y = compress_to_float64(X, team), compress_to_float64(Y, team)
        weights = sample_weight / sample_weight.sum()
        share = weights if fit_intercept else np.zeros(len(weights))
        self.x_mean, self.y_mean = share @ X, share @ Y
        self.shape = (Y.shape[1], X.shape[1])
        columns, self._targets = Columns.of(X), Columns.of(Y)
        self._rows = SparseRows.of(X)
        self._weights = weights
        self._columns = sparse.csc_array(
            (columns.value, columns.row, columns.pointer), shape=X.shape
        )
        self._spread = np.sqrt(
            np.maximum(weights @ X.power(2) - np.square(self.x_mean), 0)
        )
        left = columns.value * weights[columns.row]
        self._moments = Moments(
            self._products,
            np.maximum(weights @ Y.power(2) - np.square(self.y_mean), 0),
            np.empty((0, 0)),
            GramColumns(columns.pointer, columns.row, left, self.x_mean),
            self._rows,
        )

    def _products(self, first: int, last: int) -> np.ndarray:
        """Return the products of some outputs with all inputs, (last - first, p)."""
        total = np.zeros((last - first, self.shape[1]))
        part = self._targets.part(first, last)
        with Team() as team:
            add_products_of(part, self._weights, self._rows, total, team)
        return total - np.outer(self.y_mean[first:last], self.x_mean)

    def _shares(self):
        size = max(1, _SHARE // self.shape[1])
        for start in range(0, self.shape[0], size):
            yield slice(start, min(self.shape[0], start + size))

    @property
    def alpha_max(self) -> float:
        """Smallest alpha at which all weights are zero."""
        parts = (self._products(part.start, part.stop) for part in self._shares())
        return max(float(np.abs(part).max(initial=0.0)) for part in parts)

    def intercept(self, coef: sparse.csr_array) -> np.ndarray:
        """Intercept that goes with weights."""
        return self.y_mean - coef @ self.x_mean

    def solve(
        self,
        alpha: float,
        coef: sparse.csr_array,
        *,
        tol: float,
        max_iter: int,
        hooks: EpochHooks | None = None,
    ) -> tuple[sparse.csr_array, Reached]:
        """Minimise from a start; see `GramProblem.solve`."""
        hooks = hooks or EpochHooks()
        allowed = allowed_gaps(tol, self._moments.yy)
        gap, n_iter = np.zeros(self.shape[0]), np.zeros(self.shape[0], dtype=np.int64)
        solved = []
        for part in self._shares():
            hooks.begin()
            weights = coef[part].toarray()
            with Team() as team:
                found = LassoSolutions(
                    weights[None], gap[None, part], n_iter[None, part]
                )
                solve_share(
                    team, self._moments, part, [alpha], allowed[part], max_iter, found
                )
            solved.append(sparse.csr_array(weights))
            state = self._state(solved, coef[part.stop :])
            if hooks.end(state):
                solved.append(coef[part.stop :])
                break
        coef = sparse.vstack(solved, format="csr")
        return coef, reached(n_iter, gap, self._moments.yy)

    def _state(self, solved: list, rest) -> Callable:
        def state():
            coef = sparse.vstack([*solved, rest], format="csr")
            return coef, self.intercept(coef)

        return state

    def refit(self, support: sparse.csr_array) -> sparse.csr_array:
        """Least squares on the support of weights, one small system an output."""
        coef = support.copy()
        for output in range(self.shape[0]):
            span = slice(coef.indptr[output], coef.indptr[output + 1])
            index = coef.indices[span]
            if len(index):
                inputs = self._columns[:, index]
                weighted = inputs.multiply(self._weights[:, None]).tocsc()
                xx = (weighted.T @ inputs).toarray()
                xx -= np.outer(self.x_mean[index], self.x_mean[index])
                target = np.zeros(len(self._weights))
                part = self._targets.part(output, output + 1)
                target[part.row] = part.value
                xy = weighted.T @ target - self.x_mean[index] * self.y_mean[output]
                coef.data[span] = solve_normal(xx, xy[:, None])[:, 0]
        return coef

    def trim(self, coef: sparse.csr_array, budget: int) -> sparse.csr_array:
        """Drop all but the `budget` weights with the largest share in their output."""
        if coef.nnz <= budget:
            return coef
        saliency = np.abs(coef.data) * self._spread[coef.indices]
        dropped = np.argsort(saliency, kind="stable")[: coef.nnz - budget]
        coef = coef.copy()
        coef.data[dropped] = 0.0
        coef.eliminate_zeros()
        return coef
