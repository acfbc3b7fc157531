"""Second moments of rows that are mostly zeros."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import sparse

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _loops_gram as loops
from skfeat.kernels.connector._arrays import Columns, SparseRows

# So many second moments stay in the cache whatever the order in which they are added
# to; of more, one column's at a time do.
_CACHED = 2**18

# Rows are then divided into so many parts, whatever the number of threads, and their
# sums added up: each part has sums of its own.
_N_PARTS = 2

# Rows are then multiplied so many at a time that a column has this many nonzeros: few,
# since a cache is to hold all these rows, but enough to go back to its sums for.
_N_PER_COLUMN = 256


def compress(rows, team: Team) -> sparse.csr_array:
    """Return rows as CSR with sorted indices, which may be the rows themselves."""
    if sparse.issparse(rows):
        rows = sparse.csr_array(rows)
        # Scipy's own check takes several times as long.
        if not loops.is_canonical(rows.indptr, rows.indices):
            rows = rows.copy()
            rows.sum_duplicates()
        return rows
    count = np.empty(len(rows), dtype=np.int64)
    team.run(
        lambda first, last: loops.count_nonzero(first, last, rows, count),
        len(rows),
        n_elements=rows.size,
    )
    start = np.concatenate([[0], np.cumsum(count)])
    indices = np.empty(start[-1], dtype=np.int32)
    values = np.empty(start[-1], dtype=rows.dtype)
    team.run(
        lambda first, last: loops.compress(first, last, rows, start, indices, values),
        len(rows),
        n_elements=rows.size,
    )
    return sparse.csr_array((values, indices, start), shape=rows.shape)


def compress_to_float64(rows, team: Team) -> sparse.csr_array:
    """Return the same with values of float64."""
    return compress(rows, team).astype(np.float64, copy=False)


class Sums(NamedTuple):
    """Sums over rows, weighted: ``total`` and ``squares`` (p,) of each column."""

    total: np.ndarray
    squares: np.ndarray


def add_products(X, Y, w: np.ndarray, xx: np.ndarray, yx: np.ndarray, team: Team):
    """Add the weighted ``X^T X`` to `xx` and ``Y^T X`` to `yx`, over nonzeros alone.

    Parameters
    ----------
    X : csr_array of shape (n, p)
        As `compress` returns it; so is Y.
    Y : csr_array of shape (n, q)
    w : ndarray of shape (n,)
    xx : ndarray of shape (p, p)
        Its upper triangle alone is added to.
    yx : ndarray of shape (q, p)
    team : Team

    Returns
    -------
    Sums, Sums
        Those of X and Y.
    """
    add = _add_by_row if xx.size + yx.size <= _CACHED else _add_by_column
    return add(X, Y, w, xx, yx, team)


def _add_by_row(X, Y, w, xx, yx, team):
    x, y = _by_row(X), _by_row(Y)
    p, width = X.shape[1], X.shape[1] + Y.shape[1]
    products = np.zeros((_N_PARTS, p, width))
    totals, squares = np.zeros((2, _N_PARTS, width))
    team.run(
        lambda first, last: loops.add_products_by_row(
            first, last, x, w, y, products, totals, squares
        ),
        _N_PARTS,
        n_elements=X.nnz * (X.nnz + Y.nnz) // X.shape[0],
    )
    for product in products:
        xx += product[:, :p]
        yx += product[:, p:].T
    total, square = totals.sum(axis=0), squares.sum(axis=0)
    return Sums(total[:p], square[:p]), Sums(total[p:], square[p:])


def _add_by_column(X, Y, w, xx, yx, team):
    x, y = _by_row(X), _by_row(Y)
    n = X.shape[0]
    sums = _column_sums(x, w, X.shape[1]), _column_sums(y, w, Y.shape[1])
    share = max(X.nnz / X.shape[1], Y.nnz / Y.shape[1], 1) / n
    n_rows = int(_N_PER_COLUMN / share)
    buffers = Buffers()
    for begin in range(0, n, n_rows):
        end = min(n, begin + n_rows)
        for left, total, (work, _) in ((x, xx, sums[0]), (y, yx, sums[1])):
            own = left is x
            n_nonzeros = int(left.start[end]) - int(left.start[begin])
            if own:
                # The further a column is to the right, the fewer are right of it.
                work = 1 - np.square(1 - work / max(1, work[-1]))
            part = loops.RowPart(
                begin,
                end,
                w,
                own,
                buffers.vector("values", n_nonzeros, np.float64),
                buffers.matrix("reads", n_nonzeros, 2, np.int64),
            )
            team.run(
                partial(_add_part, part, left, x, total),
                len(total),
                n_elements=n_nonzeros * X.nnz // n,
                cumulative=work,
            )
    return sums[0][1], sums[1][1]


def _add_part(part, left, right, total, first, last):
    loops.add_products_of_rows(first, last, part, left, right, total)


def _by_row(X) -> SparseRows:
    """View a CSR matrix, its index pointer as it is."""
    return SparseRows(X.indptr, X.indices, X.data)


def _column_sums(rows, w, p):
    """Return how many numbers are in the columns before each, and their sums."""
    count, total, squares = np.zeros(p, np.int64), np.zeros(p), np.zeros(p)
    loops.sum_columns(rows, w, count, total, squares)
    return np.concatenate([[0], np.cumsum(count)]), Sums(total, squares)


def add_products_of(
    left: Columns, weights, right: SparseRows, total: np.ndarray, team: Team
) -> None:
    """Add the weighted ``left^T right`` of two sparse matrices to `total` (p, q)."""
    values, pointer = left.value * weights[left.row], left.pointer
    start = np.column_stack([right.start[left.row], right.start[left.row + 1]])
    work = np.concatenate([[0], np.cumsum(start[:, 1] - start[:, 0])])
    team.run(
        lambda first, last: loops.add_products(
            first, last, pointer, values, start, right.indices, right.values, total
        ),
        len(total),
        n_elements=int(work[-1]),
        cumulative=work[pointer],
    )
