"""Compiled loops of second moments: their sums over rows that are mostly zeros.

By the rules of `skfeat.kernels._compile`, every loop works on a range, releases the
GIL, and gives the same result however the range is divided.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.simd._vectors import prefetch

# Rows that are read in any order are prefetched so many ahead.
_AHEAD = 2


@compile_loop
def count_nonzero(first, last, rows, count):
    """Count the nonzero numbers of each row."""
    for i in range(first, last):
        n = 0
        for j in range(rows.shape[1]):
            n += rows[i, j] != 0
        count[i] = n


@compile_loop
def compress(first, last, rows, start, indices, values):
    """Write the nonzero numbers of each row, those of row i from ``start[i]`` on."""
    for i in range(first, last):
        t = start[i]
        for j in range(rows.shape[1]):
            if rows[i, j] != 0:
                indices[t] = j
                values[t] = rows[i, j]
                t += 1


@compile_loop
def is_canonical(start, indices):
    """Tell whether the columns of each row increase."""
    # Counted everywhere, then taken back where a row begins: rows are short, and each
    # end of a loop over one would be mispredicted.
    n_falls = 0
    nonzeros = indices[start[0] : start[-1]]
    for t in range(len(nonzeros) - 1):
        n_falls += nonzeros[t + 1] <= nonzeros[t]
    for i in range(1, start.shape[0] - 1):
        t = start[i]
        if start[0] < t < start[i + 1]:
            n_falls -= indices[t] <= indices[t - 1]
    return n_falls == 0


@compile_loop
def sum_columns(rows, weight, count, total, squares):
    """Count each column's nonzero numbers; add up their weighted sum and squares.

    Parameters
    ----------
    rows : SparseRows
    weight : ndarray of shape (n,)
    count, total, squares : ndarrays of shape (p,)
        Added to.
    """
    start, indices, values = rows
    for i in range(weight.shape[0]):
        for t in range(start[i], start[i + 1]):
            # Unsigned: no index counts from the end.
            j, value = np.uint64(indices[t]), np.float64(values[t])
            count[j] += 1
            total[j] += weight[i] * value
            squares[j] += weight[i] * value * value


@compile_loop
def add_products(first, last, pointer, left, start, indices, right, total):
    """Add ``left^T right`` of two sparse matrices to rows `first` to `last` of `total`.

    Parameters
    ----------
    pointer : ndarray of shape (p + 1,)
        Nonzeros of column j of the left matrix: ``pointer[j]`` to ``pointer[j + 1]``.
    left : ndarray of float64
        Value of each, times the weight of its row.
    start : ndarray of shape (n_nonzeros, 2)
        Where the nonzeros of its row begin and end in the right matrix.
    indices, right : ndarrays
        Columns and values of the right matrix, row by row.
    total : ndarray of shape (p, q)
    """
    for j in range(first, last):
        sums = total[j]
        for t in range(pointer[j], pointer[j + 1]):
            if t + _AHEAD < pointer[last]:
                for line in range(2):
                    later = start[t + _AHEAD, 0] + 16 * line
                    prefetch(indices, later)
                    prefetch(right, later)
            value = left[t]
            # Unsigned: no index counts from the end, which would be checked each time.
            for s in range(np.uint64(start[t, 0]), np.uint64(start[t, 1])):
                sums[np.uint64(indices[s])] += value * right[s]


class RowPart(NamedTuple):
    """Some of the rows of two matrices, and buffers for their products.

    Attributes
    ----------
    begin, end : int
        The rows.
    weight : ndarray of shape (n,)
        Of all rows.
    own : bool
        The right matrix is the left one, and the upper triangle of the sums is enough.
    values, reads : ndarrays of shapes (n_nonzeros,) and (n_nonzeros, 2)
        The rows' nonzeros by column: see `left` and `start` of `add_products`.
    """

    begin: int
    end: int
    weight: np.ndarray
    own: bool
    values: np.ndarray
    reads: np.ndarray


@compile_loop
def add_products_of_rows(first, last, part, left, right, total):
    """Add ``left^T W right`` of a part of the rows to rows of `total`.

    Parameters
    ----------
    part : RowPart
        Its buffers are written.
    left, right : SparseRows
        The columns of each row in order.
    total : ndarray of shape (p, q)
    """
    begin, end, weight, own = part.begin, part.end, part.weight, part.own
    values, reads = part.values, part.reads
    row_start, columns, numbers = left
    right_start, right_columns, right_numbers = right
    # In the end the nonzeros of column j are at ``pointer[j - first]`` and on.
    pointer, since = (
        np.zeros(last - first + 2, np.int64),
        np.empty(end - begin, np.int64),
    )
    for i in range(begin, end):
        t = row_start[i] + np.searchsorted(
            columns[row_start[i] : row_start[i + 1]], first
        )
        since[i - begin] = t
        pointer[0] += t - row_start[i]
        while t < row_start[i + 1] and columns[t] < last:
            pointer[columns[t] - first + 2] += 1
            t += 1
    pointer[1] = pointer[0]
    for j in range(2, last - first + 2):
        pointer[j] += pointer[j - 1]
    for i in range(begin, end):
        t = since[i - begin]
        while t < row_start[i + 1] and columns[t] < last:
            at = pointer[columns[t] - first + 1]
            pointer[columns[t] - first + 1] += 1
            values[at] = weight[i] * numbers[t]
            reads[at, 0] = t if own else right_start[i]
            reads[at, 1] = right_start[i + 1]
            t += 1
    sums = total[first:last]
    add_products(
        0, last - first, pointer, values, reads, right_columns, right_numbers, sums
    )


@compile_loop
def add_products_by_row(first, last, x, weight, y, products, totals, squares):
    """Add up the products of columns of parts `first` to `last` of the rows.

    Parameters
    ----------
    x, y : SparseRows
        X (n, p) and Y (n, q), the columns of each row in order.
    weight : ndarray of shape (n,)
    products : ndarray of shape (n_parts, p, p + q)
        Those of X with X and Y are added to those of their part; of X with X the upper
        triangle alone.
    totals, squares : ndarrays of shape (n_parts, p + q)
        Added to: the sums of each column and of its squares.
    """
    x_start, x_index, x_value = x
    y_start, y_index, y_value = y
    n_parts, p, width = products.shape
    n = weight.shape[0]
    # One row of both: loops of their own would be too short to pay.
    # Unsigned: no index counts from the end.
    index, value = np.empty(width, np.uint64), np.empty(width)
    for part in range(first, last):
        total, square = totals[part], squares[part]
        for i in range(n * part // n_parts, n * (part + 1) // n_parts):
            m = 0
            for t in range(x_start[i], x_start[i + 1]):
                index[m], value[m] = x_index[t], x_value[t]
                m += 1
            n_left = m
            for t in range(y_start[i], y_start[i + 1]):
                index[m], value[m] = p + y_index[t], y_value[t]
                m += 1
            for s in range(m):
                weighted = weight[i] * value[s]
                total[index[s]] += weighted
                square[index[s]] += weighted * value[s]
            for t in range(n_left):
                weighted = weight[i] * value[t]
                sums = products[part, index[t]]
                for s in range(t, m):
                    sums[index[s]] += weighted * value[s]
