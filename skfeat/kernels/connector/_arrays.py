"""The arrays that a connector's loops pass on, under names.

All are named tuples, which compiled loops take as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse


class Columns(NamedTuple):
    """A sparse matrix by columns: those of column j are ``pointer[j]`` and on.

    Attributes
    ----------
    pointer : ndarray of int64, shape (p + 1,)
    row : ndarray of int32
    value : ndarray of float64
    """

    pointer: np.ndarray
    row: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, X) -> Columns:
        """Sort the nonzeros of a CSR matrix (n, p) by column."""
        columns = sparse.csc_array(X)
        return cls(
            columns.indptr.astype(np.int64),
            columns.indices.astype(np.int32),
            columns.data.astype(np.float64),
        )

    def part(self, first: int, last: int) -> Columns:
        """Return some of the columns."""
        pointer = self.pointer[first : last + 1]
        nonzeros = slice(pointer[0], pointer[-1])
        return Columns(pointer - pointer[0], self.row[nonzeros], self.value[nonzeros])


class SparseRows(NamedTuple):
    """A sparse matrix by rows: those of row i are ``start[i]`` and on.

    Attributes
    ----------
    start : ndarray of int64, shape (n + 1,)
    indices : ndarray of int32
    values : ndarray of float64
    """

    start: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, X) -> SparseRows:
        """View a CSR matrix (n, p)."""
        return cls(X.indptr.astype(np.int64), X.indices, X.data)


class GramColumns(NamedTuple):
    """Columns that Gram rows are made from, each number times its row's weight.

    Attributes
    ----------
    pointer, row, value
        See `Columns`.
    mean : ndarray of shape (p,)
        Weighted mean of each column, or zero.
    """

    pointer: np.ndarray
    row: np.ndarray
    value: np.ndarray
    mean: np.ndarray


class LassoMoments(NamedTuple):
    """Second moments of some outputs with all inputs.

    Attributes
    ----------
    yx : ndarray of shape (q, p)
    yy : ndarray of shape (q,)
    xx : ndarray of shape (p, p)
        Empty where Gram rows are to be made from `columns` and `rows`.
    columns : GramColumns
    rows : SparseRows
    """

    yx: np.ndarray
    yy: np.ndarray
    xx: np.ndarray
    columns: GramColumns
    rows: SparseRows


class LassoSolutions(NamedTuple):
    """Solutions of some outputs for each penalty; the first weights are the start.

    Attributes
    ----------
    coef : ndarray of shape (n_alphas, q, p)
    gap : ndarray of shape (n_alphas, q)
        Duality gap.
    n_iter : ndarray of int64, shape (n_alphas, q)
        Rounds.
    """

    coef: np.ndarray
    gap: np.ndarray
    n_iter: np.ndarray


class RectifiedData(NamedTuple):
    """What a rectified connector is fitted to.

    Attributes
    ----------
    columns : Columns
        The inputs.
    rows : SparseRows
        The same.
    targets : Columns
        By outputs.
    weights : ndarray of shape (n,)
        Weights of the rows, with sum one.
    bound : ndarray of shape (p,)
        Weighted mean square of each input.
    """

    columns: Columns
    rows: SparseRows
    targets: Columns
    weights: np.ndarray
    bound: np.ndarray


class RectifiedObjective(NamedTuple):
    """What is minimised for some outputs, and how far.

    Attributes
    ----------
    alpha : ndarray of shape (q,)
    fit_intercept : bool
    convex : bool
        Minimise the convex majorant of the loss.
    restricted : bool
        Only weights that are nonzero at the start may be so.
    allowed : ndarray of shape (q,)
        Decrease that one step of every weight promises below which to stop.
    max_iter : int
        Sweeps at most.
    """

    alpha: np.ndarray
    fit_intercept: bool
    convex: bool
    restricted: bool
    allowed: np.ndarray
    max_iter: int


class RectifiedSolution(NamedTuple):
    """The start, then the solution, of some outputs.

    Attributes
    ----------
    coef, intercept : ndarrays of shapes (q, p) and (q,)
    decrease : ndarray of shape (q,)
        Promised in the end.
    n_iter : ndarray of int64, shape (q,)
        Sweeps made.
    """

    coef: np.ndarray
    intercept: np.ndarray
    decrease: np.ndarray
    n_iter: np.ndarray


class OutputRows(NamedTuple):
    """One output in all rows.

    A row enters the gradient if it is on (u > 0) or `wanted`: of the majorant, rows
    with a positive target have a gradient even where they are off.

    Attributes
    ----------
    y, wanted, weights, u : ndarray of shape (n,)
        Targets, whether a row counts while it is off (1 or 0), weights of the rows and
        pre-activations.
    """

    y: np.ndarray
    wanted: np.ndarray
    weights: np.ndarray
    u: np.ndarray


class NewtonBuffers(NamedTuple):
    """Buffers of a Newton step on a support of m weights with some nonzeros.

    Attributes
    ----------
    head : ndarray of int32, shape (n,)
        The last nonzero of each row's list, -1 everywhere before and after.
    links : ndarray of int32, shape (n_nonzeros, 2)
        Of each nonzero the one before it in its row, and the place of its input.
    held : ndarray of shape (n_nonzeros,)
        Its value.
    hessian : ndarray of shape (m + 1, m + 1)
    step : ndarray of shape (m + 1,)
    """

    head: np.ndarray
    links: np.ndarray
    held: np.ndarray
    hessian: np.ndarray
    step: np.ndarray
