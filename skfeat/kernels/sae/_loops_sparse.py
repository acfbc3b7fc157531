"""The loops that numba compiles: sparse products, and passes between dense ones.

An *entry* is a (row, feature) pair whose code may be nonzero: row i has the entries
``start[i]`` to ``start[i] + count[i]``.

This module imports numba; see `skfeat.kernels.sae._sparse` for who calls it.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.selection._loops_row import select_topk
from skfeat.kernels.simd._rows import (
    add_dots,
    add_rows,
    copy_scaled,
    square_and_scale,
)
from skfeat.kernels.simd._vectors import number_at, prefetch

# Rows that are read in any order are asked for so many ahead.
_AHEAD = 8


@compile_loop
def multiply(first, last, start, count, indices, x, encoder, bias, values):
    """Write the pre-activation of each entry, ``x[i] . encoder[f] + bias[f]``."""
    d = x.shape[1]
    rows, features = x.reshape(-1), encoder.reshape(-1)
    for i in range(first, last):
        begin, end = start[i], start[i] + count[i]
        for t in range(begin, end):
            values[t] = bias[indices[t]]
        add_dots(values, begin, end, rows, i * d, d, indices, features, d)


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
    errors, features = residual.reshape(-1), decoder.reshape(-1)
    targets = target.reshape(-1)
    of_group = np.empty(decoder.shape[0] if n_prefixes > 1 else 0, values.dtype)
    for i in range(first, last):
        begin, end, at = start[i], start[i] + count[i], i * n_prefixes * d
        dots[begin:end] = 0
        copy_scaled(errors, at, d, targets, i * d, sign[i])
        if n_prefixes == 1:
            add_rows(errors, at, d, values, indices, begin, end, features, d, 0)
            square[i] = square_and_scale(errors, at, d, factor[i])
            add_dots(dots, begin, end, errors, at, d, indices, features, d)
            continue
        read, total = indices[begin:end], 0.0
        for p in range(n_prefixes):
            own = at + p * d
            if p > 0:
                copy_scaled(errors, own, d, errors, own - d, values.dtype.type(1))
            for t in range(len(read)):
                of_group[t] = values[begin + t] if group[read[t]] == p else 0
            add_rows(errors, own, d, of_group, read, 0, len(read), features, d, 0)
            for j in range(own, own + d):
                total += errors[j] * errors[j]
        square[i] = total / n_prefixes
        for p in range(n_prefixes - 1, -1, -1):
            own = at + p * d
            for j in range(own, own + d):
                later = errors[j + d] if p < n_prefixes - 1 else 0
                errors[j] = factor[i] * errors[j] + later
        for t in range(begin, end):
            own = at + group[indices[t]] * d
            add_dots(dots, t, t + 1, errors, own, d, indices, features, d)


@compile_loop
def encode(first, last, rows, shift, encoder, centred, pre):
    """Write ``rows - shift`` and its product with the encoder."""
    for i in range(first, last):
        for j in range(rows.shape[1]):
            centred[i, j] = rows[i, j] - shift[j]
    np.dot(centred[first:last], encoder.T, pre[first:last])


@compile_loop
def code_topk(first, last, rows, shift, encoder, bias, k, pre, *decoding):
    """Encode rows, keep the `k` largest codes of each and decode them.

    `decoding` is what `decode` is given.
    """
    entries, target = decoding[:4], decoding[5]
    encode(first, last, rows, shift, encoder, target, pre)
    select_topk(first, last, pre, bias, k, *entries)
    decode(first, last, *decoding)


@compile_loop
def select_dead(first, last, pre, dead, bias, k, u, *entries):
    """Write the columns `dead` of `pre` to `u`, and keep the `k` largest."""
    flat, m = pre.reshape(-1), pre.shape[1]
    for i in range(first, last):
        for j in range(dead.shape[0]):
            u[i, j] = number_at(flat, i * m + dead[j])
    select_topk(first, last, u, bias, k, *entries)


@compile_loop
def sort_by_feature(
    first, last, begin, end, start, count, indices, values, slopes, row, codes, pulls
):
    """List the entries of rows `begin` to `end` feature by feature.

    Those of feature f are at ``pointer[f - first]`` to ``pointer[f - first + 1]`` of
    `row`, `codes` and `pulls`, in the order of their rows; pointer is returned.
    """
    pointer = np.zeros(last - first + 2, np.int64)
    for i in range(begin, end):
        for t in range(start[i], start[i] + count[i]):
            f = indices[t]
            if f < first:
                pointer[0] += 1
            elif f < last:
                pointer[f - first + 2] += 1
    # Places of earlier rows and of earlier features are another thread's.
    pointer[0] += start[begin]
    pointer[1] = pointer[0]
    for f in range(2, last - first + 2):
        pointer[f] += pointer[f - 1]
    for i in range(begin, end):
        for t in range(start[i], start[i] + count[i]):
            f = indices[t]
            if f >= first and f < last:
                at = pointer[f - first + 1]
                row[at], codes[at], pulls[at] = i, values[t], slopes[t]
                pointer[f - first + 1] = at + 1
    return pointer


@compile_loop
def accumulate(
    first,
    last,
    tile,
    start,
    count,
    indices,
    values,
    slopes,
    residual,
    group,
    x,
    target,
    fresh,
    row,
    codes,
    pulls,
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
        n_active[f] += number of positive values

    With `fresh`, where feature f is its own target, the gradients are written, not
    added to. Those of decoder and encoder may be one array (tied). `tile` rows at a
    time, which stay in a cache; `row`, `codes` and `pulls` have room for all entries.
    """
    d = x.shape[1]
    n_groups, rows, errors = residual.shape[1], x.reshape(-1), residual.reshape(-1)
    decoders, encoders = grad_decoder.reshape(-1), grad_encoder.reshape(-1)
    none = grad_bias.dtype.type(0)
    if fresh:
        decoders[first * d : last * d] = 0
        encoders[first * d : last * d] = 0
        grad_bias[first:last] = 0
    for begin in range(0, start.shape[0], tile):
        end = min(start.shape[0], begin + tile)
        entries = start, count, indices, values, slopes, row, codes, pulls
        pointer = sort_by_feature(first, last, begin, end, *entries)
        for f in range(first, last):
            here, there = pointer[f - first], pointer[f - first + 1]
            if here == there:
                continue
            slope, n = none, 0
            for q in range(here, there):
                slope += pulls[q]
                n += codes[q] > 0
            grad_bias[target[f]] += slope
            n_active[f] += n
            at, stride, own = target[f] * d, n_groups * d, group[f] * d
            add_rows(decoders, at, d, codes, row, here, there, errors, stride, own)
            add_rows(encoders, at, d, pulls, row, here, there, rows, d, 0)


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
def code_relu(
    first,
    last,
    tile,
    rows,
    shift,
    encoder,
    bias,
    decoder,
    factor,
    weight,
    centred,
    codes,
    error,
    slopes,
    square,
    total,
    count,
):
    """Pass rows through a dense ReLU autoencoder and back to the codes' slopes."""
    for begin in range(first, last, tile):
        end = min(last, begin + tile)
        encode(begin, end, rows, shift, encoder, centred, codes)
        rectify(begin, end, codes, bias, total, count)
        np.dot(codes[begin:end], decoder, error[begin:end])
        subtract_and_scale(begin, end, error, centred, factor, square)
        np.dot(error[begin:end], decoder.T, slopes[begin:end])
        mask(begin, end, slopes, codes, weight)


@compile_loop
def gather(first, last, X, rows, mean, inverse_scale, out):
    """Write ``(X[rows] - mean) * inverse_scale`` in the dtype of `out`."""
    d = X.shape[1]
    flat, line = X.reshape(-1), max(1, 64 // X.itemsize)
    for i in range(first, last):
        if i + _AHEAD < last:
            at = rows[i + _AHEAD] * d
            for j in range(at, at + d, line):
                prefetch(flat, j)
        source = X[rows[i]]
        for j in range(X.shape[1]):
            out[i, j] = (source[j] - mean[j]) * inverse_scale
