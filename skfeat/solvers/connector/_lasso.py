"""The solver of the linear connector, on the active inputs of each output.

`_lasso_plain` defines what is computed; compiled loops do the same where they are worth
it. They can also make an output's Gram rows from the sparse rows, each when its input
becomes active: then nothing of size inputs times inputs is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._threads import Team
from skfeat.kernels.connector._arrays import (
    GramColumns,
    LassoMoments,
    LassoSolutions,
    SparseRows,
)
from skfeat.kernels.connector._sparsity import to_csr
from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector import _lasso_plain as plain
from skfeat.solvers.connector._choose import descends_compiled
from skfeat.solvers.connector._gap import Reached, allowed_gaps, reached
from skfeat.utils._progress import tick

# Outputs are solved in so many shares at least, and callbacks called after each.
_N_SHARES = 8

_NO_PLACES, _NO_INDICES = np.empty(0, np.int64), np.empty(0, np.int32)
_NO_NUMBERS = np.empty(0)
_NO_COLUMNS = GramColumns(_NO_PLACES, _NO_INDICES, _NO_NUMBERS, _NO_NUMBERS)
_NO_ROWS = SparseRows(_NO_PLACES, _NO_INDICES, _NO_NUMBERS)


@dataclass(frozen=True)
class Moments:
    """Second moments as the solver reads them.

    Parameters
    ----------
    yx : callable
        Maps first and last output to their products with the inputs, (last - first, p).
    yy : ndarray of shape (q,)
    xx : ndarray of shape (p, p)
        Empty where Gram rows are made from `columns` and `rows`.
    columns : GramColumns
    rows : SparseRows
    compiled : bool
        Whether compiled loops solve.
    """

    yx: Callable[[int, int], np.ndarray]
    yy: np.ndarray
    xx: np.ndarray
    columns: GramColumns = _NO_COLUMNS
    rows: SparseRows = _NO_ROWS
    compiled: bool = True

    @classmethod
    def stored(cls, xx: np.ndarray, yx: np.ndarray, yy: np.ndarray) -> Moments:
        """Moments that are held as matrices."""
        yx = np.ascontiguousarray(yx)
        return cls(
            lambda first, last: yx[first:last],
            yy,
            xx,
            compiled=descends_compiled(*yx.shape),
        )


def solve_outputs(
    moments: Moments,
    alpha: float,
    coef: np.ndarray,
    tol: float,
    max_iter: int,
    hooks: EpochHooks,
    state: Callable[[np.ndarray], tuple],
) -> tuple[np.ndarray, Reached]:
    """Minimise from a start, which is written over; see `GramProblem.solve`.

    Parameters
    ----------
    state : callable
        Maps weights to what the hooks are shown.
    """
    q = len(moments.yy)
    gap, n_iter = np.zeros(q), np.zeros(q, dtype=np.int64)
    allowed = allowed_gaps(tol, moments.yy)
    size = max(1, -(-q // _N_SHARES))
    with Team() as team:
        for start in range(0, q, size):
            part = slice(start, min(q, start + size))
            hooks.begin()
            found = LassoSolutions(
                coef[None, part], gap[None, part], n_iter[None, part]
            )
            solve_share(team, moments, part, [alpha], allowed[part], max_iter, found)
            if hooks.end(partial(state, coef)):
                break
    return coef, reached(n_iter, gap, moments.yy)


def solve_path(
    moments: Moments, alphas, tol: float, max_iter: int, *, sparse_output: bool
) -> tuple[list, list[Reached]]:
    """Minimise for decreasing alphas, each output for all of them in turn.

    Returns
    -------
    coefs : list of ndarray or csr_array of shape (q, p)
    how : list of Reached
    """
    n_alphas, q, p = len(alphas), len(moments.yy), len(moments.xx)
    allowed = allowed_gaps(tol, moments.yy)
    n_iter, gap = np.zeros((n_alphas, q), np.int64), np.zeros((n_alphas, q))
    # Ctrl-C ends a path between two shares.
    size = max(1, min(-(-q // _N_SHARES), LIMITS.path_memory // (n_alphas * p)))
    buffer = np.empty(n_alphas * size * p)
    kept: Any = _SparsePath() if sparse_output else _DensePath(n_alphas, q, p)
    with Team() as team:
        for start in range(0, q, size):
            part = slice(start, min(q, start + size))
            shape = n_alphas, part.stop - start
            weights = buffer[: shape[0] * shape[1] * p].reshape(*shape, p)
            weights[0] = 0.0
            found = LassoSolutions(weights, np.empty(shape), np.empty(shape, np.int64))
            solve_share(team, moments, part, alphas, allowed[part], max_iter, found)
            gap[:, part], n_iter[:, part] = found.gap, found.n_iter
            kept.add(part, weights)
    how = [reached(*of_alpha, moments.yy) for of_alpha in zip(n_iter, gap, strict=True)]
    return kept.matrices(), how


class _DensePath:
    def __init__(self, n_alphas, q, p):
        self._weights = np.empty((n_alphas, q, p))

    def add(self, part, weights):
        self._weights[:, part] = weights

    def matrices(self):
        return list(self._weights)


class _SparsePath:
    """Weights (n_alphas, n, p) of shares of outputs, compressed one after the other."""

    def __init__(self):
        self._shares, self._rows, self._n_rows = [], [], 0

    def add(self, part, weights):
        n_alphas, n, p = weights.shape
        rows = np.arange(self._n_rows, self._n_rows + n_alphas * n)
        self._rows.append(rows.reshape(n_alphas, n))
        self._n_rows += len(rows)
        self._shares.append(to_csr(weights.reshape(-1, p)))

    def matrices(self):
        weights = sparse.vstack(self._shares, format="csr")
        return [weights[rows] for rows in np.hstack(self._rows)]


def solve_share(
    team: Team,
    moments: Moments,
    part: slice,
    alphas,
    allowed: np.ndarray,
    max_iter: int,
    found: LassoSolutions,
) -> None:
    """Solve the outputs of a slice for each alpha in turn; `found` is written."""
    yx = moments.yx(part.start, part.stop)
    own = LassoMoments(yx, moments.yy[part], moments.xx, moments.columns, moments.rows)
    penalties = np.array(alphas, dtype=np.float64)
    if not moments.compiled:
        plain.solve_lasso(own, penalties, allowed, max_iter, found)
    else:
        from skfeat.kernels.connector import _loops_lasso as loops

        team.run(
            lambda first, last: loops.solve_lasso(
                first, last, own, penalties, allowed, max_iter, found
            ),
            len(yx),
            # Each output goes through all inputs several times.
            n_elements=100 * yx.size * len(alphas),
        )
    tick("output", part.stop, len(moments.yy))
