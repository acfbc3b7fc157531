"""Compiled loops over active codes. This module imports numba."""

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

# Rows that are read in any order are prefetched so many ahead.
_AHEAD = 8


@compile_loop
def multiply(first, last, codes, rows, encoder, bias):
    """Write the pre-activations ``rows[i] . encoder[f] + bias[f]`` of active codes."""
    d, values, indices = rows.shape[1], codes.values, codes.indices
    flat, features = rows.reshape(-1), encoder.reshape(-1)
    for i in range(first, last):
        begin, end = codes.start[i], codes.start[i] + codes.counts[i]
        for t in range(begin, end):
            values[t] = bias[indices[t]]
        add_dots(values, begin, end, flat, i * d, d, indices, features, d)


@compile_loop
def decode(first, last, codes, decoder, target, scale, decoded):
    """Reconstruct rows from their active codes, and differentiate the error by these.

    With P groups of features, the reconstruction of prefix p uses the features of
    groups 0 to p. For each row i ::

        error_p              = sum_{t: group <= p} values[t] decoder[indices[t]]
                               + sign[i] target[i]
        square[i]            = sum_p |error_p|^2 / P
        weighted_residual[g] = factor[i] * sum_{p >= g} error_p
        grad_codes[t]        = weighted_residual[group of t] . decoder[indices[t]]

    Parameters
    ----------
    codes : ActiveCodes
    decoder : ndarray of shape (m, d)
    target : ndarray of shape (n, d)
    scale : ErrorScale
    decoded : Decoded
        Written.
    """
    d = decoder.shape[1]
    values, indices, group = codes.values, codes.indices, scale.group
    dots, residual = decoded.grad_codes, decoded.weighted_residual
    n_prefixes = residual.shape[1]
    errors, features = residual.reshape(-1), decoder.reshape(-1)
    targets = target.reshape(-1)
    of_group = np.empty(decoder.shape[0] if n_prefixes > 1 else 0, values.dtype)
    for i in range(first, last):
        begin, end = codes.start[i], codes.start[i] + codes.counts[i]
        at, factor = i * n_prefixes * d, scale.factor[i]
        dots[begin:end] = 0
        copy_scaled(errors, at, d, targets, i * d, scale.sign[i])
        if n_prefixes == 1:
            add_rows(errors, at, d, values, indices, begin, end, features, d, 0)
            decoded.square[i] = square_and_scale(errors, at, d, factor)
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
        decoded.square[i] = total / n_prefixes
        for p in range(n_prefixes - 1, -1, -1):
            own = at + p * d
            for j in range(own, own + d):
                later = errors[j + d] if p < n_prefixes - 1 else 0
                errors[j] = factor * errors[j] + later
        for t in range(begin, end):
            own = at + group[indices[t]] * d
            add_dots(dots, t, t + 1, errors, own, d, indices, features, d)


@compile_loop
def encode(first, last, batch, weights):
    """Write the centred rows of an `Encoding`, and their products with the encoder."""
    rows, centred, bias = batch.rows, batch.centred, weights.bias
    for i in range(first, last):
        for j in range(rows.shape[1]):
            centred[i, j] = rows[i, j] - bias[j]
    np.dot(centred[first:last], weights.encoder.T, batch.pre[first:last])


@compile_loop
def select_dead(first, last, pre, dead, bias, k, u, codes):
    """Write the columns `dead` of `pre` to `u`, and keep the `k` largest."""
    flat, m = pre.reshape(-1), pre.shape[1]
    for i in range(first, last):
        for j in range(dead.shape[0]):
            u[i, j] = number_at(flat, i * m + dead[j])
    select_topk(first, last, u, bias, k, codes)


@compile_loop
def sort_by_feature(first, last, begin, end, codes, grad_pre, buffers):
    """List the active codes of rows `begin` to `end` feature by feature.

    Those of feature f are at ``pointer[f - first]`` to ``pointer[f - first + 1]`` of
    the buffers, in the order of their rows; pointer is returned.
    """
    start, counts, indices = codes.start, codes.counts, codes.indices
    pointer = np.zeros(last - first + 2, np.int64)
    for i in range(begin, end):
        for t in range(start[i], start[i] + counts[i]):
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
    row, values, gradients = buffers.row, buffers.values, buffers.grad_pre
    for i in range(begin, end):
        for t in range(start[i], start[i] + counts[i]):
            f = indices[t]
            if f >= first and f < last:
                at = pointer[f - first + 1]
                row[at], values[at], gradients[at] = i, codes.values[t], grad_pre[t]
                pointer[f - first + 1] = at + 1
    return pointer


@compile_loop
def accumulate(first, last, tile, backward, target, fresh, buffers, gradients):
    """Sum the gradients of features `first` to `last` over their active codes.

    It computes ::

        grad_decoder[target[f]] += sum_t values[t] weighted_residual[row of t, group[f]]
        grad_encoder[target[f]] += sum_t grad_pre[t] rows[row of t]
        grad_encoder_bias[target[f]] += sum_t grad_pre[t]
        n_active[f] += number of positive values

    Parameters
    ----------
    tile : int
        Rows at a time, which a cache holds.
    backward : Backward
    target : ndarray of int64
        Which row of the gradients each feature has.
    fresh : bool
        Write the gradients instead of adding to them; each feature is its own target.
    buffers : SortBuffers
        For all active codes.
    gradients : Gradients
        Written, or added to. Decoder and encoder may be one array (tied).
    """
    rows, residual = backward.rows, backward.weighted_residual
    codes, group = backward.codes, backward.group
    d_in, n_groups, d = rows.shape[1], residual.shape[1], residual.shape[2]
    flat, errors = rows.reshape(-1), residual.reshape(-1)
    decoders, encoders = gradients.decoder.reshape(-1), gradients.encoder.reshape(-1)
    grad_bias, n_active = gradients.encoder_bias, gradients.n_active
    row, values, of_feature = buffers.row, buffers.values, buffers.grad_pre
    none = grad_bias.dtype.type(0)
    if fresh:
        decoders[first * d : last * d] = 0
        encoders[first * d_in : last * d_in] = 0
        grad_bias[first:last] = 0
    for begin in range(0, codes.start.shape[0], tile):
        end = min(codes.start.shape[0], begin + tile)
        pointer = sort_by_feature(
            first, last, begin, end, codes, backward.grad_pre, buffers
        )
        for f in range(first, last):
            here, there = pointer[f - first], pointer[f - first + 1]
            if here == there:
                continue
            total, n = none, 0
            for q in range(here, there):
                total += of_feature[q]
                n += values[q] > 0
            grad_bias[target[f]] += total
            n_active[f] += n
            at, stride, own = target[f] * d, n_groups * d, group[f] * d
            add_rows(decoders, at, d, values, row, here, there, errors, stride, own)
            at = target[f] * d_in
            add_rows(encoders, at, d_in, of_feature, row, here, there, flat, d_in, 0)


@compile_loop
def gather(first, last, X, rows, mean, inverse_scale, out):
    """Write ``(X[rows] - mean) * inverse_scale`` in the dtype of `out`."""
    d = X.shape[1]
    flat, step = X.reshape(-1), max(1, 64 // X.itemsize)
    for i in range(first, last):
        if i + _AHEAD < last:
            at = rows[i + _AHEAD] * d
            for j in range(at, at + d, step):
                prefetch(flat, j)
        source = X[rows[i]]
        for j in range(X.shape[1]):
            out[i, j] = (source[j] - mean[j]) * inverse_scale
