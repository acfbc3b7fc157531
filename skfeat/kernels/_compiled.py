"""The loops that numba compiles: selection, sparse products, the optimiser's update.

They run on numpy arrays, release the GIL and work on a range ``first`` to ``last`` of
rows or features, so that the caller divides work among threads; no result depends on
how it is divided. An *entry* is a (row, feature) pair whose code may be nonzero: row i
has the entries ``start[i]`` to ``start[i] + count[i]``.

This module imports numba; see `skfeat.kernels._sparse` for who calls it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Sums may be reassociated, which vectorises them; NaN and infinity keep their meaning,
# because divergence is recognised by them.
compile_loop = njit(
    nogil=True,
    cache=True,
    boundscheck=False,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
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
def select_topk(first, last, pre, bias, k, n_groups, start, count, indices, values):
    """Keep the `k` largest positive ``pre + bias`` of each row.

    A bound that `k` of the maxima of `n_groups` groups of columns exceed bounds the
    k-th largest entry from below, so only those groups are looked into.
    """
    m = pre.shape[1]
    n_full = m // n_groups
    none = pre.dtype.type(0)
    row = np.empty(m, pre.dtype)
    group_max = np.empty(n_groups, pre.dtype)
    work = np.empty(m, pre.dtype)
    candidate = np.empty(m, np.int32)
    for i in range(first, last):
        for j in range(n_groups):
            row[j] = pre[i, j] + bias[j]
            group_max[j] = row[j]
        for t in range(1, n_full):
            offset = t * n_groups
            for j in range(n_groups):
                u = pre[i, offset + j] + bias[offset + j]
                row[offset + j] = u
                group_max[j] = max(group_max[j], u)
        for j in range(n_full * n_groups, m):
            row[j] = pre[i, j] + bias[j]
            g = j - n_full * n_groups
            group_max[g] = max(group_max[g], row[j])
        high = none
        for g in range(n_groups):
            high = max(high, group_max[g])
        bound, _ = cut(group_max, n_groups, k, none, high)
        # Written always, counted when it is a candidate: no branch to guess wrong.
        n = 0
        if n_groups == m:
            for j in range(m):
                candidate[n] = j
                work[n] = row[j]
                n += row[j] > bound
        else:
            for g in range(n_groups):
                if group_max[g] > bound:
                    for j in range(g, m, n_groups):
                        candidate[n] = j
                        work[n] = row[j]
                        n += row[j] > bound
        begin = start[i]
        if n <= k:
            for t in range(n):
                indices[begin + t] = candidate[t]
                values[begin + t] = work[t]
            count[i] = n
            continue
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
    candidate, work = np.empty(m, np.int32), np.empty(m, pre.dtype)
    for i in range(first, last):
        # Written always, counted when it is an entry: no branch to guess wrong.
        n = 0
        for j in range(m):
            u = pre[i, j] + bias[j]
            candidate[n] = j
            work[n] = u
            n += u > bound[j]
        begin = start[i]
        for t in range(n):
            indices[begin + t] = candidate[t]
            values[begin + t] = work[t]


@compile_loop
def multiply(first, last, start, count, indices, x, encoder, bias, values):
    """Write the pre-activation of each entry, ``x[i] . encoder[f] + bias[f]``."""
    d = x.shape[1]
    for i in range(first, last):
        for t in range(start[i], start[i] + count[i]):
            f = indices[t]
            dot = x[i, 0] * encoder[f, 0]
            for j in range(1, d):
                dot += x[i, j] * encoder[f, j]
            values[t] = dot + bias[f]


@compile_loop
def decode(
    first,
    last,
    start,
    count,
    indices,
    values,
    decoder,
    target,
    sign,
    factor,
    group,
    residual,
    square,
    dots,
):
    """Reconstruct rows from their entries, and pull back the error to the entries.

    With P groups of features, the reconstruction of prefix p uses the features of
    groups 0 to p. For each row i ::

        error_p      = sum_{t: group <= p} values[t] decoder[indices[t]]
                       + sign[i] target[i]
        square[i]    = sum_p |error_p|^2 / P
        residual[g]  = factor[i] * sum_{p >= g} error_p
        dots[t]      = residual[group of t] . decoder[indices[t]]
    """
    d = decoder.shape[1]
    n_prefixes = residual.shape[1]
    for i in range(first, last):
        begin, end = start[i], start[i] + count[i]
        # Four at a time: the error is read and written a quarter as often.
        fours = begin + (end - begin) // 4 * 4 if n_prefixes == 1 else begin
        total = 0.0
        for p in range(n_prefixes):
            error = residual[i, p]
            if p == 0:
                s = sign[i]
                for j in range(d):
                    error[j] = s * target[i, j]
            else:
                before = residual[i, p - 1]
                for j in range(d):
                    error[j] = before[j]
            for t in range(begin, fours, 4):
                v0, v1, v2, v3 = values[t], values[t + 1], values[t + 2], values[t + 3]
                d0, d1 = decoder[indices[t]], decoder[indices[t + 1]]
                d2, d3 = decoder[indices[t + 2]], decoder[indices[t + 3]]
                for j in range(d):
                    error[j] += v0 * d0[j] + v1 * d1[j] + v2 * d2[j] + v3 * d3[j]
            for t in range(fours, end):
                feature = indices[t]
                if group[feature] == p:
                    v0, d0 = values[t], decoder[feature]
                    for j in range(d):
                        error[j] += v0 * d0[j]
            squares = error[0] * error[0]
            for j in range(1, d):
                squares += error[j] * error[j]
            total += squares
        square[i] = total / n_prefixes
        scale = factor[i]
        last_error = residual[i, n_prefixes - 1]
        for j in range(d):
            last_error[j] *= scale
        for p in range(n_prefixes - 2, -1, -1):
            error, later = residual[i, p], residual[i, p + 1]
            for j in range(d):
                error[j] = scale * error[j] + later[j]
        error = residual[i, 0]
        for t in range(begin, fours, 4):
            d0, d1 = decoder[indices[t]], decoder[indices[t + 1]]
            d2, d3 = decoder[indices[t + 2]], decoder[indices[t + 3]]
            v0, v1 = error[0] * d0[0], error[0] * d1[0]
            v2, v3 = error[0] * d2[0], error[0] * d3[0]
            for j in range(1, d):
                v0 += error[j] * d0[j]
                v1 += error[j] * d1[j]
                v2 += error[j] * d2[j]
                v3 += error[j] * d3[j]
            dots[t], dots[t + 1], dots[t + 2], dots[t + 3] = v0, v1, v2, v3
        for t in range(fours, end):
            feature = indices[t]
            error, d0 = residual[i, group[feature]], decoder[feature]
            v0 = error[0] * d0[0]
            for j in range(1, d):
                v0 += error[j] * d0[j]
            dots[t] = v0


@compile_loop
def sort_by_feature(start, count, indices, pointer, entry, row):
    """List the entries of each feature: those at ``pointer[f]`` to ``pointer[f + 1]``.

    `pointer` has one element more than there are features; entries of a feature stay
    in the order of their rows.
    """
    n_features = pointer.shape[0] - 1
    pointer[:] = 0
    for i in range(start.shape[0]):
        for t in range(start[i], start[i] + count[i]):
            pointer[indices[t] + 1] += 1
    for f in range(n_features):
        pointer[f + 1] += pointer[f]
    for i in range(start.shape[0]):
        for t in range(start[i], start[i] + count[i]):
            position = pointer[indices[t]]
            entry[position] = t
            row[position] = i
            pointer[indices[t]] = position + 1
    for f in range(n_features, 0, -1):
        pointer[f] = pointer[f - 1]
    pointer[0] = 0


@compile_loop
def accumulate(
    first,
    last,
    pointer,
    entry,
    row,
    values,
    slopes,
    residual,
    group,
    x,
    target,
    fresh,
    grad_decoder,
    grad_encoder,
    grad_bias,
    n_active,
):
    """Sum the gradients of features `first` to `last` over their entries.

    It computes ::

        grad_decoder[target[f]] += sum_t values[t] residual[row of t, group[f]]
        grad_encoder[target[f]] += sum_t slopes[t] x[row of t]
        grad_bias[target[f]] += sum_t slopes[t]
        n_active[f] = number of positive values

    With `fresh` they are written, not added to. The two may be one array (tied).
    """
    d = x.shape[1]
    for f in range(first, last):
        decoder, encoder = grad_decoder[target[f]], grad_encoder[target[f]]
        if fresh:
            for j in range(d):
                decoder[j] = 0
                encoder[j] = 0
            grad_bias[target[f]] = 0
        g = group[f]
        begin, end = pointer[f], pointer[f + 1]
        fours = begin + (end - begin) // 4 * 4
        slope, n = 0.0, 0
        for q in range(begin, end):
            slope += slopes[entry[q]]
            n += values[entry[q]] > 0
        grad_bias[target[f]] += slope
        n_active[f] = n
        # Four at a time: the sum is read and written a quarter as often.
        for q in range(begin, fours, 4):
            v0, v1 = values[entry[q]], values[entry[q + 1]]
            v2, v3 = values[entry[q + 2]], values[entry[q + 3]]
            r0, r1 = residual[row[q], g], residual[row[q + 1], g]
            r2, r3 = residual[row[q + 2], g], residual[row[q + 3], g]
            for j in range(d):
                decoder[j] += v0 * r0[j] + v1 * r1[j] + v2 * r2[j] + v3 * r3[j]
            v0, v1 = slopes[entry[q]], slopes[entry[q + 1]]
            v2, v3 = slopes[entry[q + 2]], slopes[entry[q + 3]]
            r0, r1, r2, r3 = x[row[q]], x[row[q + 1]], x[row[q + 2]], x[row[q + 3]]
            for j in range(d):
                encoder[j] += v0 * r0[j] + v1 * r1[j] + v2 * r2[j] + v3 * r3[j]
        for q in range(fours, end):
            v0, r0 = values[entry[q]], residual[row[q], g]
            for j in range(d):
                decoder[j] += v0 * r0[j]
            v0, r0 = slopes[entry[q]], x[row[q]]
            for j in range(d):
                encoder[j] += v0 * r0[j]


@compile_loop
def rectify(first, last, pre, bias, total, count):
    """Write ``max(pre + bias, 0)`` over `pre`; sum and count it for each row."""
    one, none = pre.dtype.type(1), pre.dtype.type(0)
    for i in range(first, last):
        all_of_row, n = none, none
        for j in range(pre.shape[1]):
            u = max(pre[i, j] + bias[j], none)
            pre[i, j] = u
            all_of_row += u
            n += one if u > none else none
        total[i], count[i] = all_of_row, n


@compile_loop
def subtract_and_scale(first, last, rows, target, factor, square):
    """Write ``(rows - target) * factor`` over `rows`, and the squared difference."""
    for i in range(first, last):
        scale = factor[i]
        squares = rows.dtype.type(0)
        for j in range(rows.shape[1]):
            error = rows[i, j] - target[i, j]
            squares += error * error
            rows[i, j] = error * scale
        square[i] = squares


@compile_loop
def mask(first, last, slopes, codes, weight):
    """Add its row's weight to each slope, and keep those of positive codes."""
    none = slopes.dtype.type(0)
    for i in range(first, last):
        more = weight[i]
        for j in range(slopes.shape[1]):
            slopes[i, j] = slopes[i, j] + more if codes[i, j] > none else none


@compile_loop
def adam(first, last, p, grad, mean, square, rate, beta1, beta2, correction, eps, unit):
    """Update rows of parameters as Adam does; rows of `unit` parameters keep norm one.

    For those only the gradient along the sphere counts. `rate` is the learning rate
    over the bias correction of the mean, `correction` that of the root mean square.
    """
    d = p.shape[1]
    one = p.dtype.type(1)
    for f in range(first, last):
        if unit:
            along = p[f, 0] * grad[f, 0]
            for j in range(1, d):
                along += p[f, j] * grad[f, j]
            for j in range(d):
                grad[f, j] -= along * p[f, j]
        for j in range(d):
            g = grad[f, j]
            mean[f, j] = beta1 * mean[f, j] + (one - beta1) * g
            square[f, j] = beta2 * square[f, j] + (one - beta2) * g * g
            p[f, j] -= rate * mean[f, j] / (np.sqrt(square[f, j]) * correction + eps)
        if unit:
            norm = p[f, 0] * p[f, 0]
            for j in range(1, d):
                norm += p[f, j] * p[f, j]
            shrink = one / max(np.sqrt(norm), p.dtype.type(1e-12))
            for j in range(d):
                p[f, j] *= shrink


@compile_loop
def gather(first, last, X, rows, mean, inverse_scale, out):
    """Write ``(X[rows] - mean) * inverse_scale`` in the dtype of `out`."""
    for i in range(first, last):
        source = X[rows[i]]
        for j in range(X.shape[1]):
            out[i, j] = (source[j] - mean[j]) * inverse_scale
