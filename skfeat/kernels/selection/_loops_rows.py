"""Compiled top-k selection for many rows at once, from values feature by feature.

Values of `TILE` rows lie side by side, one feature after the other. Each row has a lane
of the processor's vectors to itself, so that all rows halve the distance to their k-th
largest value in the same steps, and nothing branches on what a single row holds: rows
that are looked through one by one spend most of their time on branches guessed wrong.

This module imports numba; see `skfeat.kernels.sae._narrow_topk` for who calls it.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.selection._loops_row import kth_largest
from skfeat.kernels.simd._bits import bits_of_above, count_column, lowest_bit
from skfeat.kernels.simd._vectors import TILE, copy_plus, keep_larger

# Places in the array of what each lane knows of its row.
_LOW, _HIGH, _MIDDLE, _ABOVE, _N_LOW, _HIGHEST, LANES = (TILE * i for i in range(7))

# Halvings that find a bound for groups, which need not be the best one, and those after
# which ties, or values out of all proportion, are given up on.
_ROUGH_STEPS, _STEPS = 7, 24

# Groups of columns for each place, of which the largest values are halved first.
_GROUPS = 4

# Candidates that are listed before asking whether there are more.
_AT_ONCE = 4


@compile_loop
def add_bias(values, bias):
    """Add its feature's bias to each value of `TILE` rows."""
    for j in range(bias.shape[0]):
        copy_plus(values, j * TILE, values, j * TILE, bias[j])


@compile_loop
def start_lanes(values, n, lanes):
    """Let each lane know how many of `n` values are above zero, and the largest.

    Its bound comes first among the numbers of `lanes`, and is zero as yet.
    """
    lanes[:] = 0
    for j in range(n):
        keep_larger(lanes, _HIGH, values, j * TILE)
    count_column(lanes, _N_LOW, values, n, lanes, _LOW)
    lanes[_HIGHEST:LANES] = lanes[_HIGH:_MIDDLE]


@compile_loop
def n_above_low(lanes, row):
    """Return how many values of a row exceed its bound."""
    return lanes[_N_LOW + row]


@compile_loop
def bisect(values, n, k, lanes, n_steps):
    """Raise LOW of each lane while at least `k` of `n` values exceed it.

    HIGH, which fewer exceed, comes down to meet it. It ends when no more than `k`
    values exceed LOW in any lane.
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

    The t-th of row r goes to ``found[t * TILE + r]``, its column to
    ``places[t * TILE + r]``; what is no candidate goes behind all of them.
    """
    counts[:TILE] = 0
    counts[TILE] = columns.shape[0]
    for j in range(columns.shape[0]):
        at = columns[j] * TILE
        bits = bits_of_above(values, at, lanes, _LOW)
        while bits != 0:
            # Some at once, were they there or not: no branch to guess wrong.
            for _ in range(_AT_ONCE):
                row = lowest_bit(bits)  # TILE if there is none
                place = counts[row] * TILE + row
                places[place] = columns[j]
                found[place] = values[at + row]
                counts[row] += row < TILE
                bits &= bits - 1


@compile_loop
def write_candidates(places, found, n, lanes, end, indices, codes):
    """Write the candidates that exceed LOW, those of row r from ``end[r]`` on."""
    for t in range(n):
        bits = bits_of_above(found, t * TILE, lanes, _LOW)
        while bits != 0:
            row = lowest_bit(bits)
            indices[end[row]] = places[t * TILE + row]
            codes[end[row]] = found[t * TILE + row]
            end[row] += 1
            bits &= bits - 1


@compile_loop
def write_first_of_equal(row, n, k, places, found, at, indices, codes):
    """Write the `k` largest candidates of a row, of equal ones the first."""
    line = np.empty(n, found.dtype)
    for t in range(n):
        line[t] = found[t * TILE + row]
    bound, ties = kth_largest(line, n, k), k
    for t in range(n):
        ties -= found[t * TILE + row] > bound
    for t in range(n):
        value = found[t * TILE + row]
        if value > bound or (value == bound and ties > 0):
            ties -= value == bound
            indices[at], codes[at] = places[t * TILE + row], value
            at += 1


@compile_loop
def select_of_columns(values, columns, k, n_rows, room, start, count, indices, codes):
    """Keep the `k` largest positive values of each row among some columns.

    Parameters
    ----------
    values : ndarray of shape ((m + 1) * TILE,)
        Of `TILE` rows, feature by feature, and one feature that means nothing.
    columns : ndarray of int64
        Features that are looked at, in increasing order.
    k : int
    n_rows : int
        Rows that are written; the others mean nothing.
    room : tuple
        Made by `room_for_columns`; written over.
    start, count : ndarrays of int64, shape (n_rows,)
        Where the entries of each row begin; how many there are is written.
    indices, codes : ndarrays
        Written: features and values of the entries, feature by feature.
    """
    groups, lanes, places, found, counts = room
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
            n, at = counts[r], start[r]
            write_first_of_equal(r, n, k, places, found, at, indices, codes)
        count[r] = min(counts[r], k)
        counts[r] = start[r]
    write_candidates(places, found, n_listed, lanes, counts, indices, codes)


@compile_loop
def aligned(n, like):
    """Return an array of n values, at the start of a cache line."""
    room = np.empty(n + TILE, like.dtype)
    start = (-room.ctypes.data % 64) // like.itemsize
    return room[start : start + n]


@compile_loop
def room_for_columns(n_columns, k, like):
    """Return the memory that `select_of_columns` works in."""
    return (
        aligned(min(n_columns, _GROUPS * k) * TILE, like),
        aligned(LANES, like),
        np.empty((n_columns + 2) * TILE, np.int32),
        aligned((n_columns + 2) * TILE, like),
        np.empty(TILE + 1, np.int64),
    )
