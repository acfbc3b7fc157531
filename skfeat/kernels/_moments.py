"""Second moments of rows that are mostly zeros."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from skfeat.kernels._loops import load
from skfeat.kernels._threads import Team

# A product of dense matrices is faster above this share of nonzero numbers.
_MAX_DENSITY = 0.1

# The density of dense rows is judged by one row in so many.
_SAMPLE_EVERY = 64

# So many second moments stay in the cache whatever the order in which they are added
# to; of more, one input's at a time do.
CACHED_MOMENTS = 2**18


def compiled():
    """Return the module of compiled loops, or None where numba is not installed."""
    return load("_compiled_gram")


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
    """Return rows as CSR with sorted indices and float64 values."""
    if sparse.issparse(rows):
        rows = sparse.csr_array(rows, dtype=np.float64)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        return rows
    loops = compiled()
    count = np.empty(len(rows), dtype=np.int64)
    team.run(loops.count_nonzero, len(rows), rows, count, n_elements=rows.size)
    start = np.concatenate([[0], np.cumsum(count)])
    indices, values = np.empty(start[-1], dtype=np.int32), np.empty(start[-1])
    team.run(
        loops.compress, len(rows), rows, start, indices, values, n_elements=rows.size
    )
    return sparse.csr_array((values, indices, start), shape=rows.shape)


def to_csr(matrix: np.ndarray) -> sparse.csr_array:
    """Return a matrix that is mostly zeros as CSR of float64."""
    if compiled() is None:
        return sparse.csr_array(matrix, dtype=np.float64)
    with Team() as team:
        return compress(matrix, team)


def add_products(X, Y, w: np.ndarray, xx: np.ndarray, xy: np.ndarray, team: Team):
    """Add the weighted ``X^T X`` to `xx` and ``X^T Y`` to `xy`, over nonzeros alone.

    Parameters
    ----------
    X : csr_array of shape (n, p)
    Y : csr_array of shape (n, q)
    w : ndarray of shape (n,)
    xx : ndarray of shape (p, p)
        Its upper triangle alone is added to.
    xy : ndarray of shape (p, q)
    team : Team
    """
    if xx.size + xy.size <= CACHED_MOMENTS:
        parts = [(part.indptr, part.indices, part.data) for part in (X, Y)]
        count = np.bincount(X.indices, minlength=len(xx))
        work = np.concatenate([[0], np.cumsum(count)])
        team.run(
            compiled().add_products_by_row,
            len(xx),
            *(parts[0], w, parts[1], xx, xy),
            n_elements=int(work[-1]) * (X.nnz + Y.nnz) // max(1, len(w)),
            cumulative=work,
        )
        return
    columns = Columns.of(X)
    left = columns.value * w[columns.row]
    for right, total in ((X, xx), (Y, xy)):
        ends = right.indptr.astype(np.int64)
        begin = columns.position if right is X else ends[columns.row]
        start = np.column_stack([begin, ends[columns.row + 1]])
        entries = right.indices, right.data
        add_products_of(columns.pointer, left, start, entries, total, team)


def add_products_of(pointer, left, start, right, total: np.ndarray, team: Team) -> None:
    """Run `skfeat.kernels._compiled_gram.add_products` on a team."""
    work = np.concatenate([[0], np.cumsum(start[:, 1] - start[:, 0])])
    team.run(
        compiled().add_products,
        len(total),
        *(pointer, left, start, *right, total),
        n_elements=int(work[-1]),
        cumulative=work[pointer],
    )
