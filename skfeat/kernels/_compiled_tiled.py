"""The compiled loop that takes a narrow top-k autoencoder through a batch in one go.

A tile of rows goes through everything, the sums of its gradients included, while it is
in the cache. This module imports numba; `skfeat.kernels._tiled_topk` calls it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels._compiled import accumulate, code_dead, decode, encode
from skfeat.kernels._compiled_select import select_topk


class Room(NamedTuple):
    """Memory for the codes of a tile, for each chunk; it holds anything.

    Attributes
    ----------
    starts, counts : ndarrays of int64, shape (n_chunks, tile)
    indices : ndarray of int32, shape (n_chunks, tile * k)
    codes, slopes : ndarrays of shape (n_chunks, tile * k)
    row : ndarray of int32, shape (n_chunks, tile * k)
    sorted_codes, sorted_slopes : ndarrays of shape (n_chunks, tile * k)
    error : ndarray of shape (n_chunks, tile, 1, d)
    square, sign : ndarrays of shape (n_chunks, tile)
    pre : ndarray of shape (n_chunks, tile, m)
    """

    starts: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    codes: np.ndarray
    slopes: np.ndarray
    row: np.ndarray
    sorted_codes: np.ndarray
    sorted_slopes: np.ndarray
    error: np.ndarray
    square: np.ndarray
    sign: np.ndarray
    pre: np.ndarray


class Sums(NamedTuple):
    """Gradients of the rows of each chunk, and how often their features are active.

    Attributes
    ----------
    decoder, encoder : ndarrays of shape (n_chunks, m, d)
        One and the same where they are tied.
    bias : ndarray of shape (n_chunks, m)
    n_active : ndarray of int64, shape (n_chunks, m)
    """

    decoder: np.ndarray
    encoder: np.ndarray
    bias: np.ndarray
    n_active: np.ndarray


@compile_loop
def start_codes(room, q, k):
    """Give each row of a tile `k` places."""
    for t in range(room.starts.shape[1]):
        room.starts[q, t] = t * k
        room.sign[q, t] = -1


@compile_loop
def add_gradients(room, at, size, x, sums, q, fresh):
    """Add the gradients of a tile to those of chunk `q`."""
    features = np.arange(sums.bias.shape[1])
    if fresh:
        sums.n_active[q] = 0
    accumulate(
        0,
        len(features),
        size,
        room.starts[at, :size],
        room.counts[at],
        room.indices[at],
        room.codes[at],
        room.slopes[at],
        room.error[at],
        np.zeros(len(features), np.int64),
        x,
        features,
        fresh,
        room.row[at],
        room.sorted_codes[at],
        room.sorted_slopes[at],
        sums.decoder[q],
        sums.encoder[q],
        sums.bias[q],
        sums.n_active[q],
    )


@compile_loop
def learn_topk(
    first,
    last,
    chunk,
    rows,
    factor,
    params,
    how,
    dead,
    dead_params,
    dead_how,
    centred,
    live_room,
    dead_room,
    live_sums,
    dead_sums,
    total,
    pull,
):
    """Sum the gradients of chunks `first` to `last`, of `chunk` rows each.

    Those of the dead features' loss are not divided by the mean square error yet.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    factor : ndarray of shape (n,)
        Weight of each row in the derivative of the loss.
    params : tuple (shift, encoder, encoder_bias, decoder)
    how : tuple (k, n_groups)
        See `select_topk`.
    dead : ndarray of int64, shape (n_dead,)
    dead_params : tuple (encoder_bias, decoder)
        Of the dead features.
    dead_how : tuple (k, n_groups)
    centred : ndarray of shape (n_chunks, tile, d)
        Written over, as are the rooms. A thread uses those of its first chunk.
    live_room, dead_room : Room
    live_sums, dead_sums : Sums
        Written.
    total : ndarray of shape (n_chunks,)
        Written: squared errors times `factor`.
    pull : ndarray of shape (n_chunks, d)
        Written: the sum of the errors times `factor`.
    """
    if first == last:
        return  # its room would be another thread's
    shift, encoder, bias, decoder = params
    tile, m, n_dead = centred.shape[1], encoder.shape[0], dead.shape[0]
    x, room, lost = centred[first], live_room, dead_room
    group, dead_group = np.zeros(m, np.int64), np.zeros(n_dead, np.int64)
    error, back = room.error[first], lost.sign[first]
    start_codes(room, first, how[0])
    start_codes(lost, first, dead_how[0])
    for q in range(first, last):
        total[q] = 0
        pull[q] = 0
        stop = min(rows.shape[0], (q + 1) * chunk)
        for begin in range(q * chunk, stop, tile):
            size, fresh = min(tile, stop - begin), begin == q * chunk
            part = factor[begin : begin + size]
            pre, square = room.pre[first], room.square[first]
            encode(0, size, rows[begin : begin + size], shift, encoder, x, pre)
            entries = room.starts[first], room.counts[first], room.indices[first]
            codes = room.codes[first]
            select_topk(0, size, pre, bias, how[0], how[1], *entries, codes)
            target = decoder, x, room.sign[first], part, group
            decode(0, size, *entries, codes, *target, error, square, room.slopes[first])
            add_gradients(room, first, size, x, live_sums, q, fresh)
            for i in range(size):
                total[q] += part[i] * square[i]
                for j in range(x.shape[1]):
                    pull[q, j] += error[i, 0, j]
                # What is left is the error itself, not what it pulls with.
                back[i] = 1 / part[i] if part[i] > 0 else 0
            if n_dead == 0:
                continue
            entries = lost.starts[first], lost.counts[first], lost.indices[first]
            code_dead(
                0,
                size,
                size,
                *(pre, dead, dead_params[0], dead_how[0], dead_how[1], lost.pre[first]),
                *(*entries, lost.codes[first], dead_params[1]),
                *(error.reshape(tile, x.shape[1]), back, part),
                *(dead_group, lost.error[first], lost.square[first]),
                lost.slopes[first],
            )
            add_gradients(lost, first, size, x, dead_sums, q, fresh)


@compile_loop
def join_chunks(sums, scale, features, tied, grad_decoder, grad_encoder, grad_bias):
    """Add `scale` times the gradients of all chunks to those of `features`."""
    for f in range(features.shape[0]):
        at = features[f]
        for q in range(sums.bias.shape[0]):
            grad_bias[at] += scale * sums.bias[q, f]
            for j in range(grad_decoder.shape[1]):
                grad_decoder[at, j] += scale * sums.decoder[q, f, j]
            for j in range(0 if tied else grad_decoder.shape[1]):
                grad_encoder[at, j] += scale * sums.encoder[q, f, j]
