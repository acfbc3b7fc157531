"""Compiled loops that find the entries of rows that are to stay.

An *entry* is a (row, feature) pair whose code may be nonzero: row i has the entries
``start[i]`` to ``start[i] + count[i]``. A comparison of 64 values at a time gives the
bits of an integer, and only set bits are looked at one by one.

This module imports numba; see `skfeat.kernels._sparse` for who calls it.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels._vectors import (
    TILE,
    add,
    bits_above,
    bits_of_sum_above,
    keep_larger,
    largest,
    lowest_bit,
)


@compile_loop
def kth_largest(values, n, k):
    """Return the `k`-th largest of ``values[:n]``, which is reordered (quickselect)."""
    low, high, rank = 0, n - 1, k - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@compile_loop
def cut(values, n, k, low, high):
    """Find a number that exactly `k` of ``values[:n]`` exceed, by bisection.

    Counting is vectorised, so this beats sorting. Returns the number and True; where
    ties or outliers defeat it, a number that at least `k` exceed (`low`, if fewer do)
    and False.
    """
    real = values.dtype.type
    none, one, half, wanted = real(0), real(1), real(0.5), real(k)
    for _ in range(24):
        middle = half * (low + high)
        above = none
        for j in range(n):
            above += one if values[j] > middle else none
        if above == wanted:
            return middle, True
        if above > wanted:
            low = middle
        else:
            high = middle
    return low, False


@compile_loop
def list_above(values, n, bound, places, start):
    """Write the places of ``values[:n]`` above the bound from `start` on; count all.

    `n` is a multiple of `TILE`.
    """
    for at in range(0, n, TILE):
        bits = bits_above(values, at, bound)
        while bits != 0:
            places[start] = at + lowest_bit(bits)
            start += 1
            bits &= bits - 1
    return start


@compile_loop
def select_topk(first, last, pre, bias, k, n_groups, start, count, indices, values):
    """Keep the `k` largest positive ``pre + bias`` of each row.

    A bound that `k` of the maxima of `n_groups` groups of columns exceed bounds the
    k-th largest entry from below, so only those groups are looked into.
    """
    m = pre.shape[1]
    real = pre.dtype.type
    width, n_full = (m + TILE - 1) // TILE * TILE, m // TILE * TILE
    n_groups = min((n_groups + TILE - 1) // TILE * TILE, width)
    flat = pre.reshape(-1)
    row = np.full(width, real(-np.inf))
    group_max = row if n_groups == width else np.empty(n_groups, pre.dtype)
    work = np.empty(width, pre.dtype)
    group, candidate = np.empty(n_groups, np.int32), np.empty(width, np.int32)
    for i in range(first, last):
        for j in range(0, n_full, TILE):
            add(row, j, flat, i * m + j, bias, j)
        for j in range(n_full, m):
            row[j] = pre[i, j] + bias[j]
        if n_groups < width:
            group_max[:] = -np.inf
            for j in range(0, width, TILE):
                keep_larger(group_max, j % n_groups, row, j)
        high = real(0)
        for g in range(0, n_groups, TILE):
            high = largest(group_max, g, high)
        bound, _ = cut(group_max, n_groups, k, real(0), high)
        n = 0
        if n_groups == width:
            n = list_above(row, width, bound, candidate, 0)
        else:
            for t in range(list_above(group_max, n_groups, bound, group, 0)):
                # Written always, counted when it is one: no branch to guess wrong.
                for j in range(group[t], width, n_groups):
                    candidate[n] = j
                    n += row[j] > bound
        begin = start[i]
        if n <= k:
            for t in range(n):
                indices[begin + t] = candidate[t]
                values[begin + t] = row[candidate[t]]
            count[i] = n
            continue
        for t in range(n):
            work[t] = row[candidate[t]]
        bound, exact = cut(work, n, k, bound, high)
        ties = 0
        if not exact:
            bound = kth_largest(work, n, k)
            ties = k
            for t in range(n):
                ties -= row[candidate[t]] > bound
        kept = 0
        for t in range(n):
            u = row[candidate[t]]
            if u > bound or (u == bound and ties > 0):
                ties -= u == bound
                indices[begin + kept] = candidate[t]
                values[begin + kept] = u
                kept += 1
        count[i] = kept


@compile_loop
def count_above(first, last, pre, bias, bound, count):
    """Count each row's entries ``pre + bias > bound``; `bound` has one a column."""
    one, none = pre.dtype.type(1), pre.dtype.type(0)
    for i in range(first, last):
        n = none
        for j in range(pre.shape[1]):
            n += one if pre[i, j] + bias[j] > bound[j] else none
        count[i] = int(n)


@compile_loop
def select_above(first, last, pre, bias, bound, start, indices, values):
    """Write the entries that `count_above` counted."""
    m = pre.shape[1]
    flat, n_full = pre.reshape(-1), m // TILE * TILE
    for i in range(first, last):
        t = start[i]
        for at in range(0, n_full, TILE):
            bits = bits_of_sum_above(flat, i * m + at, bias, bound, at)
            while bits != 0:
                j = at + lowest_bit(bits)
                indices[t] = j
                values[t] = pre[i, j] + bias[j]
                t += 1
                bits &= bits - 1
        for j in range(n_full, m):
            u = pre[i, j] + bias[j]
            if u > bound[j]:
                indices[t] = j
                values[t] = u
                t += 1
