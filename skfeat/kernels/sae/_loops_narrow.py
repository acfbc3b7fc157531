"""Compiled loops that take a narrow top-k autoencoder through a batch in one go.

A tile of rows goes through everything, the sums of its gradients included, while it is
in the cache. This module imports numba; `_narrow_topk` beside it calls it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop, integers_below
from skfeat.kernels.sae._arrays import (
    ActiveCodes,
    Backward,
    Decoded,
    ErrorScale,
    Gradients,
    Rows,
    SortBuffers,
)
from skfeat.kernels.sae._loops_sparse import accumulate, decode, gather
from skfeat.kernels.selection._loops_rows import (
    add_bias,
    select_of_columns,
    selection_buffers,
)
from skfeat.kernels.simd._vectors import TILE


class NarrowBatch(NamedTuple):
    """A batch in chunks of equal size, each of which sums its gradients on its own.

    Attributes
    ----------
    chunk : int
        Rows of a chunk.
    rows : Rows
    factor : ndarray of shape (n,)
        Weight of each row in the derivative of the loss.
    """

    chunk: int
    rows: Rows
    factor: np.ndarray


class Dead(NamedTuple):
    """Dead features, in increasing order, and how many of them each row revives."""

    features: np.ndarray
    k: int


class CodeBuffers(NamedTuple):
    """Buffers for the active codes of a tile, for each chunk.

    Attributes
    ----------
    start, counts : ndarrays of int64, shape (n_chunks, tile)
    indices, row : ndarrays of int32, shape (n_chunks, tile * k)
    values, grad_codes, sorted_values, sorted_grads : ndarrays, (n_chunks, tile * k)
    weighted_residual : ndarray of shape (n_chunks, tile, 1, d)
    square, sign : ndarrays of shape (n_chunks, tile)
    """

    start: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    row: np.ndarray
    values: np.ndarray
    grad_codes: np.ndarray
    sorted_values: np.ndarray
    sorted_grads: np.ndarray
    weighted_residual: np.ndarray
    square: np.ndarray
    sign: np.ndarray


class NarrowBuffers(NamedTuple):
    """What a thread writes on its way, in the place of its first chunk.

    Attributes
    ----------
    centred : ndarray of shape (n_chunks, n_groups * TILE, d)
        Rows, in as many groups of `TILE` as a tile needs.
    pre : ndarray of shape (n_chunks, n_groups, (m + 1) * TILE)
    live, dead : CodeBuffers
    """

    centred: np.ndarray
    pre: np.ndarray
    live: CodeBuffers
    dead: CodeBuffers


class NarrowSums(NamedTuple):
    """What each chunk adds up to.

    Attributes
    ----------
    live, dead : Gradients
        Those of the dead features' loss are not divided by the mean square error yet.
    square : ndarray of shape (n_chunks,)
        Squared errors times `factor`.
    weighted_residual : ndarray of shape (n_chunks, d)
        The sum of the errors times `factor`.
    """

    live: Gradients
    dead: Gradients
    square: np.ndarray
    weighted_residual: np.ndarray


@compile_loop
def start_codes(buffers, q, k):
    """Give each row of a tile `k` places."""
    for t in range(buffers.start.shape[1]):
        buffers.start[q, t] = t * k
        buffers.sign[q, t] = -1


@compile_loop
def encode_columns(size, weights, x, u):
    """Subtract the bias from the rows of a tile, and encode them feature by feature.

    The pre-activations of `TILE` rows at a time go to one row of `u`.
    """
    encoder, bias = weights.encoder, weights.bias
    for begin in range(0, size, TILE):
        for i in range(begin, begin + TILE):
            for j in range(x.shape[1]):
                x[i, j] = x[i, j] - bias[j] if i < size else 0
        columns = u[begin // TILE]
        n = encoder.shape[0] * TILE
        out = columns[:n].reshape(encoder.shape[0], TILE)
        np.dot(encoder, x[begin : begin + TILE].T, out)
        add_bias(columns, weights.encoder_bias)


@compile_loop
def select(buffers, q, size, u, features, k, scratch):
    """Keep the `k` largest codes of the rows of a tile."""
    indices, values = buffers.indices[q], buffers.values[q]
    for begin in range(0, size, TILE):
        n, rows = min(TILE, size - begin), slice(begin, begin + TILE)
        part = ActiveCodes(
            buffers.start[q][rows], buffers.counts[q][rows], indices, values
        )
        select_of_columns(u[begin // TILE], features, k, n, scratch, part)


@compile_loop
def reconstruct(buffers, q, size, decoder, target, factor):
    """Decode the codes of a tile."""
    codes = ActiveCodes(
        buffers.start[q], buffers.counts[q], buffers.indices[q], buffers.values[q]
    )
    group = np.zeros(decoder.shape[0], np.int64)
    scale = ErrorScale(buffers.sign[q], factor, group)
    decoded = Decoded(
        buffers.weighted_residual[q], buffers.square[q], buffers.grad_codes[q]
    )
    decode(0, size, codes, decoder, target, scale, decoded)


@compile_loop
def add_gradients(buffers, at, size, x, sums, q, fresh):
    """Add the gradients of a tile to those of chunk `q`."""
    features = integers_below(sums.encoder_bias.shape[1])
    if fresh:
        sums.n_active[q] = 0
    codes = ActiveCodes(
        buffers.start[at, :size],
        buffers.counts[at],
        buffers.indices[at],
        buffers.values[at],
    )
    backward = Backward(
        codes,
        buffers.grad_codes[at],
        buffers.weighted_residual[at],
        np.zeros(len(features), np.int64),
        x,
    )
    by_feature = SortBuffers(
        buffers.row[at], buffers.sorted_values[at], buffers.sorted_grads[at]
    )
    own = Gradients(
        sums.decoder[q], sums.encoder[q], sums.encoder_bias[q], sums.n_active[q]
    )
    accumulate(0, len(features), size, backward, features, fresh, by_feature, own)


@compile_loop
def sum_topk_gradients(first, last, batch, weights, k, dead, buffers, sums):
    """Sum the gradients of chunks `first` to `last`.

    Parameters
    ----------
    batch : NarrowBatch
    weights : Weights
    k : int
        Codes kept in each row.
    dead : Dead
    buffers : NarrowBuffers
        Written.
    sums : NarrowSums
        Written.
    """
    if first == last:
        return  # its buffers would be another thread's
    ids, tile = batch.rows.ids, buffers.live.start.shape[1]
    features = integers_below(weights.encoder.shape[0])
    x, u = buffers.centred[first], buffers.pre[first]
    live, lost = buffers.live, buffers.dead
    error, back = live.weighted_residual[first], lost.sign[first]
    scratch = selection_buffers(len(features), k, u)
    start_codes(live, first, k)
    start_codes(lost, first, dead.k)
    total, residual = sums.square, sums.weighted_residual
    for q in range(first, last):
        total[q] = 0
        residual[q] = 0
        stop = min(len(ids), (q + 1) * batch.chunk)
        for begin in range(q * batch.chunk, stop, tile):
            size, fresh = min(tile, stop - begin), begin == q * batch.chunk
            part, own = batch.factor[begin : begin + size], ids[begin : begin + size]
            source = batch.rows
            gather(0, size, source.source, own, source.mean, source.inverse_scale, x)
            encode_columns(size, weights, x, u)
            select(live, first, size, u, features, k, scratch)
            reconstruct(live, first, size, weights.decoder, x, part)
            add_gradients(live, first, size, x, sums.live, q, fresh)
            for i in range(size):
                total[q] += part[i] * live.square[first, i]
                for j in range(x.shape[1]):
                    residual[q, j] += error[i, 0, j]
                # Dead features reconstruct the error itself, without its factor.
                back[i] = 1 / part[i] if part[i] > 0 else 0
            if len(dead.features) > 0:
                left = error.reshape(tile, x.shape[1])
                select(lost, first, size, u, dead.features, dead.k, scratch)
                reconstruct(lost, first, size, weights.decoder, left, part)
                add_gradients(lost, first, size, x, sums.dead, q, fresh)


@compile_loop
def join_chunks(sums, scale, tied, fresh, gradients):
    """Add `scale` times the gradients of all chunks; write them if `fresh`."""
    bias, decoder, encoder = (
        gradients.encoder_bias,
        gradients.decoder,
        gradients.encoder,
    )
    for f in range(bias.shape[0]):
        if fresh:
            bias[f], decoder[f], encoder[f] = 0, 0, 0
        for q in range(sums.encoder_bias.shape[0]):
            if sums.n_active[q, f] == 0:
                continue
            bias[f] += scale * sums.encoder_bias[q, f]
            for j in range(decoder.shape[1]):
                decoder[f, j] += scale * sums.decoder[q, f, j]
            for j in range(0 if tied else decoder.shape[1]):
                encoder[f, j] += scale * sums.encoder[q, f, j]
