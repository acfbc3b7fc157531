"""Compiled top-k selection for many rows at once, from values feature by feature.

The values of `TILE` rows are contiguous, one feature after the other. Each row has its
own lane of the processor's vectors, so that bisection runs for all rows in the same
steps and no branch depends on the values of a single row. If rows are selected one
after the other, most of the time goes into mispredicted branches.

This module imports numba.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.selection._loops_row import kth_largest
from skfeat.kernels.simd._bits import bits_of_above, count_column, lowest_bit
from skfeat.kernels.simd._vectors import TILE, copy_plus, keep_larger

# Offsets of each lane's numbers in the array `lanes`.
_LOW, _HIGH, _MIDDLE, _ABOVE, _N_LOW, _HIGHEST, LANES = (TILE * i for i in range(7))

# Most bisection steps: for the maxima of groups, whose bound need not be tight, and for
# the candidates, where ties or outliers may remain after them.
_ROUGH_STEPS, _STEPS = 7, 24

# Groups of columns for each of the k codes; bisection begins with their largest values.
_GROUPS = 4

# Candidates that are listed before the loop tests whether there are more.
_AT_ONCE = 4


@compile_loop
def add_bias(values, bias):
    """Add the bias of its feature to each value of `TILE` rows."""
    for j in range(bias.shape[0]):
        copy_plus(values, j * TILE, values, j * TILE, bias[j])


@compile_loop
def start_lanes(values, n, lanes):
    """Write to each lane the largest of `n` values, and how many are above zero.

    The lower bound of each lane, its first number in `lanes`, is set to zero.
    """
    lanes[:] = 0
    for j in range(n):
        keep_larger(lanes, _HIGH, values, j * TILE)
    count_column(lanes, _N_LOW, values, n, lanes, _LOW)
    lanes[_HIGHEST:LANES] = lanes[_HIGH:_MIDDLE]


@compile_loop
def n_above_low(lanes, row):
    """Return how many values of a row exceed its lower bound."""
    return lanes[_N_LOW + row]


@compile_loop
def bisect(values, n, k, lanes, n_steps):
    """Bisect between LOW and HIGH of each lane, at most `n_steps` times.

    At least `k` of `n` values exceed LOW, once it has been raised, and fewer exceed
    HIGH. The loop ends when no more than `k` values exceed LOW in any lane.
    """
    real = values.dtype.type
    half, one, none, wanted = real(0.5), real(1), real(0), real(k)
    for _ in range(n_steps):
        for t in range(TILE):
            lanes[_MIDDLE + t] = half * (lanes[_LOW + t] + lanes[_HIGH + t])
        count_column(lanes, _ABOVE, values, n, lanes, _MIDDLE)
        n_open = none
        for t in range(TILE):
            enough = lanes[_ABOVE + t] >= wanted
            middle = lanes[_MIDDLE + t]
            lanes[_LOW + t] = middle if enough else lanes[_LOW + t]
            lanes[_HIGH + t] = lanes[_HIGH + t] if enough else middle
            n_low = lanes[_ABOVE + t] if enough else lanes[_N_LOW + t]
            lanes[_N_LOW + t] = n_low
            n_open += one if n_low > wanted else none
        if n_open == none:
            break


@compile_loop
def group_largest(values, columns, n_groups, groups):
    """Write the largest value of each group of columns, for each row."""
    groups[: n_groups * TILE] = -np.inf
    g = 0
    for j in range(columns.shape[0]):
        keep_larger(groups, g * TILE, values, columns[j] * TILE)
        g = g + 1 if g + 1 < n_groups else 0


@compile_loop
def list_candidates(values, columns, lanes, places, found, counts):
    """List which values of each row exceed LOW, in the order of `columns`.

    Candidate t of row r is written to ``found[t * TILE + r]``, its column to
    ``places[t * TILE + r]``; what is no candidate is written behind all of them.
    """
    counts[:TILE] = 0
    counts[TILE] = columns.shape[0]
    for j in range(columns.shape[0]):
        at = columns[j] * TILE
        bits = bits_of_above(values, at, lanes, _LOW)
        while bits != 0:
            # Always as many, even if fewer exist: there is no branch to mispredict.
            for _ in range(_AT_ONCE):
                row = lowest_bit(bits)  # TILE if there is none
                place = counts[row] * TILE + row
                places[place] = columns[j]
                found[place] = values[at + row]
                counts[row] += row < TILE
                bits &= bits - 1


@compile_loop
def write_candidates(places, found, n, lanes, end, codes):
    """Write the candidates that exceed LOW; those of row r begin at ``end[r]``."""
    for t in range(n):
        bits = bits_of_above(found, t * TILE, lanes, _LOW)
        while bits != 0:
            row = lowest_bit(bits)
            codes.indices[end[row]] = places[t * TILE + row]
            codes.values[end[row]] = found[t * TILE + row]
            end[row] += 1
            bits &= bits - 1


@compile_loop
def write_first_of_equal(row, n, k, places, found, codes):
    """Write the `k` largest candidates of a row; of equal ones the first are kept."""
    of_row, at = np.empty(n, found.dtype), codes.start[row]
    for t in range(n):
        of_row[t] = found[t * TILE + row]
    bound, ties = kth_largest(of_row, n, k), k
    for t in range(n):
        ties -= found[t * TILE + row] > bound
    for t in range(n):
        value = found[t * TILE + row]
        if value > bound or (value == bound and ties > 0):
            ties -= value == bound
            codes.indices[at], codes.values[at] = places[t * TILE + row], value
            at += 1


@compile_loop
def select_of_columns(values, columns, k, n_rows, buffers, codes):
    """Keep the `k` largest positive values of each row among some columns.

    Parameters
    ----------
    values : ndarray of shape ((m + 1) * TILE,)
        The values of `TILE` rows, feature by feature, and padding of `TILE` values.
    columns : ndarray of int64
        Features to choose from, in increasing order.
    k : int
    n_rows : int
        Number of rows that are written; the others are padding.
    buffers : tuple
        From `selection_buffers`; overwritten.
    codes : named tuple (start, counts, indices, values)
        The codes of row i are written from ``start[i]`` on, in the order of features.
        All arrays but `start` are written.
    """
    groups, lanes, places, found, counts = buffers
    n_groups = min(columns.shape[0], _GROUPS * k)
    group_largest(values, columns, n_groups, groups)
    start_lanes(groups, n_groups, lanes)
    bisect(groups, n_groups, k, lanes, _ROUGH_STEPS)
    list_candidates(values, columns, lanes, places, found, counts)
    counts[n_rows:TILE] = 0
    n_listed = counts[:TILE].max()
    lanes[_HIGH:_MIDDLE] = lanes[_HIGHEST:LANES]
    for r in range(TILE):
        lanes[_N_LOW + r] = counts[r]
        for t in range(counts[r], n_listed):
            found[t * TILE + r] = -np.inf
    if n_listed > k:
        bisect(found, n_listed, k, lanes, _STEPS)
    for r in range(n_rows):
        if n_above_low(lanes, r) > k:
            lanes[_LOW + r] = np.inf  # and is written here
            write_first_of_equal(r, counts[r], k, places, found, codes)
        codes.counts[r] = min(counts[r], k)
        counts[r] = codes.start[r]
    write_candidates(places, found, n_listed, lanes, counts, codes)


@compile_loop
def aligned(n, like):
    """Return an array of n values that begins at a cache line."""
    memory = np.empty(n + TILE, like.dtype)
    start = (-memory.ctypes.data % 64) // like.itemsize
    return memory[start : start + n]


@compile_loop
def selection_buffers(n_columns, k, like):
    """Return the buffers of `select_of_columns`."""
    return (
        aligned(min(n_columns, _GROUPS * k) * TILE, like),
        aligned(LANES, like),
        np.empty((n_columns + 2) * TILE, np.int32),
        aligned((n_columns + 2) * TILE, like),
        np.empty(TILE + 1, np.int64),
    )
