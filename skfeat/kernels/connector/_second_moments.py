"""Second moments of rows that are mostly zeros."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from skfeat.kernels._memory import Buffers
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team

# A product of dense matrices is faster above this share of nonzero numbers.
_MAX_DENSITY = 0.1

# Scipy is as fast for matrices of fewer numbers, and has nothing to compile.
_LARGE = 2**18

# The density of dense rows is judged by one row in so many.
_SAMPLE_EVERY = 64

# So many second moments stay in the cache whatever the order in which they are added
# to; of more, one column's at a time do.
_CACHED = 2**18

# Rows are then divided into so many parts, whatever the number of threads, and their
# sums added up: each part has sums of its own.
_N_PARTS = 2

# Rows are then multiplied so many at a time that a column has this many entries: few,
# for all these rows are to stay in a cache, but worth going back to its sums for.
_N_PER_COLUMN = 256


def compiled():
    """Return the module of compiled loops, or None where numba is not installed."""
    return load("connector._loops_gram")


class Columns(NamedTuple):
    """A sparse matrix by columns: those of column j are ``pointer[j]`` and on.

    Attributes
    ----------
    pointer : ndarray of int64, shape (p + 1,)
    row : ndarray of int32
    value : ndarray of float64
    position : ndarray of int64
        Where the entry stands in the matrix by rows.
    """

    pointer: np.ndarray
    row: np.ndarray
    value: np.ndarray
    position: np.ndarray

    @classmethod
    def of(cls, X) -> Columns:
        """Sort the entries of a CSR matrix (n, p) by column."""
        positions = sparse.csr_array(
            (np.arange(len(X.data)), X.indices, X.indptr), shape=X.shape
        ).tocsc()
        return cls(
            positions.indptr.astype(np.int64),
            positions.indices.astype(np.int32),
            X.data[positions.data].astype(np.float64),
            positions.data,
        )

    def part(self, first: int, last: int) -> Columns:
        """Return some of the columns."""
        pointer = self.pointer[first : last + 1]
        entries = slice(pointer[0], pointer[-1])
        return Columns(
            pointer - pointer[0],
            self.row[entries],
            self.value[entries],
            self.position[entries],
        )


def mostly_zeros(rows) -> bool:
    """Tell whether the sparse products are the faster ones for these rows."""
    if sparse.issparse(rows):
        return rows.nnz <= _MAX_DENSITY * rows.shape[0] * rows.shape[1]
    sample = rows[::_SAMPLE_EVERY]
    return np.count_nonzero(sample) <= _MAX_DENSITY * sample.size


def compress(rows, team: Team) -> sparse.csr_array:
    """Return rows as CSR with sorted indices, which may be the rows themselves."""
    loops = compiled()
    if sparse.issparse(rows):
        rows = sparse.csr_array(rows)
        # Scipy's own check takes several times as long.
        if not loops.is_canonical(rows.indptr, rows.indices):
            rows = rows.copy()
            rows.sum_duplicates()
        return rows
    count = np.empty(len(rows), dtype=np.int64)
    team.run(loops.count_nonzero, len(rows), rows, count, n_elements=rows.size)
    start = np.concatenate([[0], np.cumsum(count)])
    indices = np.empty(start[-1], dtype=np.int32)
    values = np.empty(start[-1], dtype=rows.dtype)
    team.run(
        loops.compress, len(rows), rows, start, indices, values, n_elements=rows.size
    )
    return sparse.csr_array((values, indices, start), shape=rows.shape)


def compress_to_float64(rows, team: Team) -> sparse.csr_array:
    """Return the same with values of float64."""
    return compress(rows, team).astype(np.float64, copy=False)


def to_csr(matrix: np.ndarray) -> sparse.csr_array:
    """Return a matrix that is mostly zeros as CSR of float64."""
    if matrix.size < _LARGE or compiled() is None:
        return sparse.csr_array(matrix, dtype=np.float64)
    with Team() as team:
        return compress_to_float64(matrix, team)


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
    x, y = ((part.indptr, part.indices, part.data) for part in (X, Y))
    p, width = X.shape[1], X.shape[1] + Y.shape[1]
    products = np.zeros((_N_PARTS, p, width))
    sums = np.zeros((2, _N_PARTS, width))
    team.run(
        compiled().add_products_by_row,
        _N_PARTS,
        *(x, w, y, products, *sums),
        n_elements=X.nnz * (X.nnz + Y.nnz) // X.shape[0],
    )
    for product in products:
        xx += product[:, :p]
        yx += product[:, p:].T
    total, squares = sums.sum(axis=1)
    return Sums(total[:p], squares[:p]), Sums(total[p:], squares[p:])


def _add_by_column(X, Y, w, xx, yx, team):
    x, y = ((part.indptr, part.indices, part.data) for part in (X, Y))
    n = X.shape[0]
    sums = _column_sums(x, w, X.shape[1]), _column_sums(y, w, Y.shape[1])
    share = max(X.nnz / X.shape[1], Y.nnz / Y.shape[1], 1) / n
    n_rows = int(_N_PER_COLUMN / share)
    space = Buffers()
    for begin in range(0, n, n_rows):
        end = min(n, begin + n_rows)
        for left, total, (work, _) in ((x, xx, sums[0]), (y, yx, sums[1])):
            own = left is x
            n_entries = int(left[0][end]) - int(left[0][begin])
            if own:
                # The further a column is to the right, the fewer are right of it.
                work = 1 - np.square(1 - work / max(1, work[-1]))
            team.run(
                compiled().add_products_of_rows,
                len(total),
                *(begin, end, w, left, x, own),
                space.vector("values", n_entries, np.float64),
                space.matrix("reads", n_entries, 2, np.int64),
                total,
                n_elements=n_entries * X.nnz // n,
                cumulative=work,
            )
    return sums[0][1], sums[1][1]


def _column_sums(rows, w, p):
    """Return how many numbers are in the columns before each, and their sums."""
    count, total, squares = np.zeros(p, np.int64), np.zeros(p), np.zeros(p)
    compiled().sum_columns(rows, w, count, total, squares)
    return np.concatenate([[0], np.cumsum(count)]), Sums(total, squares)


def add_products_of(pointer, left, start, right, total: np.ndarray, team: Team) -> None:
    """Run `skfeat.kernels.connector._loops_gram.add_products` on a team."""
    work = np.concatenate([[0], np.cumsum(start[:, 1] - start[:, 0])])
    team.run(
        compiled().add_products,
        len(total),
        *(pointer, left, start, *right, total),
        n_elements=int(work[-1]),
        cumulative=work[pointer],
    )
