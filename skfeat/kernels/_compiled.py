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
_compile = njit(
    nogil=True,
    cache=True,
    boundscheck=False,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
)


@_compile
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


@_compile
def select_topk(first, last, pre, bias, k, n_groups, start, count, indices, values):
    """Keep the `k` largest positive ``pre + bias`` of each row.

    The k-th largest of the maxima of `n_groups` >= k groups of columns bounds the k-th
    largest entry from below, so only groups whose maximum reaches it are looked into.
    """
    m = pre.shape[1]
    n_full = m // n_groups
    tiny = np.finfo(pre.dtype).tiny
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
        for j in range(n_groups):
            work[j] = group_max[j]
        bound = max(kth_largest(work, n_groups, k), tiny)
        n = 0
        for g in range(n_groups):
            if group_max[g] >= bound:
                for j in range(g, m, n_groups):
                    if row[j] >= bound:
                        work[n] = row[j]
                        candidate[n] = j
                        n += 1
        begin = start[i]
        if n <= k:
            for t in range(n):
                indices[begin + t] = candidate[t]
                values[begin + t] = work[t]
            count[i] = n
            continue
        for t in range(n):
            work[t] = row[candidate[t]]
        bound = kth_largest(work, n, k)
        ties = k
        for t in range(n):
            if row[candidate[t]] > bound:
                ties -= 1
        kept = 0
        for t in range(n):
            u = row[candidate[t]]
            if u > bound or (u == bound and ties > 0):
                if u == bound:
                    ties -= 1
                indices[begin + kept] = candidate[t]
                values[begin + kept] = u
                kept += 1
        count[i] = kept


@_compile
def count_above(first, last, pre, bias, bound, count):
    """Count each row's entries ``pre + bias > bound``; `bound` has one a column."""
    for i in range(first, last):
        n = 0
        for j in range(pre.shape[1]):
            n += pre[i, j] + bias[j] > bound[j]
        count[i] = n


@_compile
def select_above(first, last, pre, bias, bound, start, indices, values):
    """Write the entries that `count_above` counted."""
    for i in range(first, last):
        t = start[i]
        for j in range(pre.shape[1]):
            u = pre[i, j] + bias[j]
            if u > bound[j]:
                indices[t] = j
                values[t] = u
                t += 1


@_compile
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


@_compile
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
            for t in range(begin, end):
                feature = indices[t]
                if group[feature] == p:
                    value, direction = values[t], decoder[feature]
                    for j in range(d):
                        error[j] += value * direction[j]
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
        for t in range(begin, end):
            feature = indices[t]
            error, direction = residual[i, group[feature]], decoder[feature]
            dot = error[0] * direction[0]
            for j in range(1, d):
                dot += error[j] * direction[j]
            dots[t] = dot


@_compile
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


@_compile
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
):
    """Sum the gradients of features `first` to `last` over their entries.

    It computes ::

        grad_decoder[target[f]] += sum_t values[t] residual[row of t, group[f]]
        grad_encoder[target[f]] += sum_t slopes[t] x[row of t]

    With `fresh` they are written, not added to. The two may be one array (tied).
    """
    d = x.shape[1]
    for f in range(first, last):
        decoder, encoder = grad_decoder[target[f]], grad_encoder[target[f]]
        if fresh:
            for j in range(d):
                decoder[j] = 0
                encoder[j] = 0
        g = group[f]
        for q in range(pointer[f], pointer[f + 1]):
            value, error = values[entry[q]], residual[row[q], g]
            for j in range(d):
                decoder[j] += value * error[j]
        for q in range(pointer[f], pointer[f + 1]):
            slope, rows = slopes[entry[q]], x[row[q]]
            for j in range(d):
                encoder[j] += slope * rows[j]


@_compile
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


@_compile
def gather(first, last, X, rows, mean, inverse_scale, out):
    """Write ``(X[rows] - mean) * inverse_scale`` in the dtype of `out`."""
    for i in range(first, last):
        source = X[rows[i]]
        for j in range(X.shape[1]):
            out[i, j] = (source[j] - mean[j]) * inverse_scale
