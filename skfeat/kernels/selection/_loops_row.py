"""Compiled loops that find the active codes of one row after the other.

64 values are compared at a time. The results are the bits of an integer, and only set
bits are visited one by one.

Codes are written to a named tuple (start, counts, indices, values), such as
`skfeat.kernels.sae._arrays.ActiveCodes`: those of row i begin at ``start[i]``. This
module imports numba.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.simd._bits import (
    bits_above,
    bits_of_sum_above,
    count_bits,
    lowest_bit,
)
from skfeat.kernels.simd._vectors import TILE, add, keep_larger, largest, number_at

# Most bisection steps: for the maxima of groups, whose bound need not be tight, and for
# the values that exceed this bound.
_ROUGH_STEPS, _STEPS = 10, 24


@compile_loop
def kth_largest(values, n, k):
    """Return the `k`-th largest of ``values[:n]`` by quickselect, which reorders it."""
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
def keep_largest(items, sizes, n, k):
    """Keep the items with the `k` largest sizes among the first n, in their order.

    Returns the number of items that are left.
    """
    if n <= k:
        return n
    bound, ties = kth_largest(sizes[:n].copy(), n, k), k
    for t in range(n):
        ties -= sizes[t] > bound
    kept = 0
    for t in range(n):
        if sizes[t] > bound or (sizes[t] == bound and ties > 0):
            ties -= sizes[t] == bound
            items[kept] = items[t]
            kept += 1
    return kept


@compile_loop
def cut(values, n, k, low, high, n_steps):
    """Find a number that exactly `k` of ``values[:n]`` exceed, by bisection.

    `n` is a multiple of `TILE`. Counting bits is so cheap that bisection is faster than
    sorting. Returns the number and True. If `n_steps` are not enough, because of ties
    or outliers, returns False and a number that at least `k` values exceed, or `low` if
    fewer than `k` exceed it.
    """
    half = values.dtype.type(0.5)
    for _ in range(n_steps):
        middle = half * (low + high)
        above = 0
        for j in range(0, n, TILE):
            above += count_bits(bits_above(values, j, middle))
        if above == k:
            return middle, True
        if above > k:
            low = middle
        else:
            high = middle
    return low, False


@compile_loop
def list_above(values, n, bound, places):
    """Write the indices of the values in ``values[:n]`` above the bound; count them.

    `n` is a multiple of `TILE`.
    """
    found = 0
    for at in range(0, n, TILE):
        bits = bits_above(values, at, bound)
        while bits != 0:
            places[found] = at + lowest_bit(bits)
            found += 1
            bits &= bits - 1
    return found


@compile_loop
def select_topk(first, last, pre, bias, k, codes):
    """Keep the `k` largest positive ``pre + bias`` of each row, in column order.

    Columns are divided into about 2 `k` groups. A bound that the maxima of `k` groups
    exceed is a lower bound of the k-th largest value, and few other values exceed it.
    """
    indices, values = codes.indices, codes.values
    m, real = pre.shape[1], bias.dtype.type
    none = real(0)
    width, n_full = (m + TILE - 1) // TILE * TILE, m // TILE * TILE
    n_groups = min(width, (2 * k + TILE - 1) // TILE * TILE)
    flat = pre.reshape(-1)
    row = np.full(width, real(-np.inf))
    group_max = row if n_groups == width else np.empty(n_groups, bias.dtype)
    places, found = np.empty(width, np.int32), np.empty(width, bias.dtype)
    for i in range(first, last):
        for j in range(0, n_full, TILE):
            add(row, j, flat, i * m + j, bias, j)
        for j in range(n_full, m):
            row[j] = number_at(flat, i * m + j) + bias[j]
        if n_groups < width:
            for g in range(n_groups):
                group_max[g] = row[g]
            g = 0
            for j in range(n_groups, width, TILE):
                keep_larger(group_max, g, row, j)
                g = g + TILE if g + TILE < n_groups else 0
        high = none
        for g in range(0, n_groups, TILE):
            high = largest(group_max, g, high)
        bound, _ = cut(group_max, n_groups, k, none, high, _ROUGH_STEPS)
        n = list_above(row, width, bound, places)
        for t in range(n):
            found[t] = row[places[t]]
        ties = 0
        if n > k:
            n_padded = (n + TILE - 1) // TILE * TILE
            for t in range(n, n_padded):
                found[t] = bound
            bound, exact = cut(found, n_padded, k, bound, high, _STEPS)
            if not exact:
                bound, ties = kth_largest(found, n, k), k
                for t in range(n):
                    found[t] = row[places[t]]
                    ties -= found[t] > bound
        begin, kept = codes.start[i], 0
        for t in range(n):
            u = found[t]
            if u > bound or (u == bound and ties > 0):
                ties -= u == bound
                indices[begin + kept] = places[t]
                values[begin + kept] = u
                kept += 1
        codes.counts[i] = kept


@compile_loop
def count_above(first, last, pre, bias, bound, counts):
    """Count where ``pre + bias > bound`` in each row; each column has its own bound."""
    one, none = bias.dtype.type(1), bias.dtype.type(0)
    m, flat = pre.shape[1], pre.reshape(-1)
    for i in range(first, last):
        n = none
        for j in range(m):
            n += one if number_at(flat, i * m + j) + bias[j] > bound[j] else none
        counts[i] = int(n)


@compile_loop
def select_above(first, last, pre, bias, bound, codes):
    """Write the codes that `count_above` counted."""
    m, indices, values = pre.shape[1], codes.indices, codes.values
    flat, n_full = pre.reshape(-1), m // TILE * TILE
    for i in range(first, last):
        t = codes.start[i]
        for at in range(0, n_full, TILE):
            bits = bits_of_sum_above(flat, i * m + at, bias, bound, at)
            while bits != 0:
                j = at + lowest_bit(bits)
                indices[t] = j
                values[t] = number_at(flat, i * m + j) + bias[j]
                t += 1
                bits &= bits - 1
        for j in range(n_full, m):
            u = number_at(flat, i * m + j) + bias[j]
            if u > bound[j]:
                indices[t] = j
                values[t] = u
                t += 1
