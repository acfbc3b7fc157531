"""The compiled loops that take a narrow autoencoder through a batch in one go.

A tile of rows goes through everything, the sums of its gradients included, while it is
in the cache. This module imports numba; `skfeat.kernels.sae._narrow_topk` calls it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop, integers_below
from skfeat.kernels.sae._loops_sparse import accumulate, code_relu, decode, gather
from skfeat.kernels.selection._loops_rows import (
    add_bias,
    room_for_columns,
    select_of_columns,
)
from skfeat.kernels.simd._vectors import TILE


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
def encode_columns(size, shift, encoder, bias, x, u):
    """Subtract `shift` from the rows of a tile, and encode them feature by feature.

    The pre-activations of `TILE` rows at a time go to one line of `u`.
    """
    for begin in range(0, size, TILE):
        for i in range(begin, begin + TILE):
            for j in range(x.shape[1]):
                x[i, j] = x[i, j] - shift[j] if i < size else 0
        columns = u[begin // TILE]
        n = encoder.shape[0] * TILE
        out = columns[:n].reshape(encoder.shape[0], TILE)
        np.dot(encoder, x[begin : begin + TILE].T, out)
        add_bias(columns, bias)


@compile_loop
def code(room, q, size, u, features, k, scratch, decoder, target, factor):
    """Keep the `k` largest codes of the rows of a tile, and decode them."""
    entries = room.starts[q], room.counts[q], room.indices[q], room.codes[q]
    for begin in range(0, size, TILE):
        n, rows = min(TILE, size - begin), slice(begin, begin + TILE)
        start, count, indices, codes = entries
        places = start[rows], count[rows], indices, codes
        select_of_columns(u[begin // TILE], features, k, n, scratch, *places)
    group = np.zeros(decoder.shape[0], np.int64)
    told = decoder, target, room.sign[q], factor, group
    written = room.error[q], room.square[q], room.slopes[q]
    decode(0, size, *entries, *told, *written)


@compile_loop
def add_gradients(room, at, size, x, sums, q, fresh):
    """Add the gradients of a tile to those of chunk `q`."""
    features = integers_below(sums.bias.shape[1])
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
    k,
    dead,
    dead_k,
    centred,
    pre,
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
    rows : tuple (source, ids, mean, inverse_scale)
        See `skfeat.kernels.sae._narrow.Rows`.
    factor : ndarray of shape (n,)
        Weight of each row in the derivative of the loss.
    params : tuple (shift, encoder, encoder_bias, decoder)
    k, dead_k : int
        Codes kept in each row, of all features and of dead ones.
    dead : ndarray of int64, shape (n_dead,)
        In increasing order.
    centred : ndarray of shape (n_chunks, n_lines * TILE, d)
        Written over, as are `pre` and the rooms. A thread uses those of its first
        chunk.
    pre : ndarray of shape (n_chunks, n_lines, (m + 1) * TILE)
        As many lines as a tile needs of `TILE` rows each.
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
    source, ids, mean, inverse_scale = rows
    tile, features = live_room.starts.shape[1], integers_below(encoder.shape[0])
    x, u, room, lost = centred[first], pre[first], live_room, dead_room
    error, back = room.error[first], lost.sign[first]
    scratch = room_for_columns(len(features), k, u)
    start_codes(room, first, k)
    start_codes(lost, first, dead_k)
    for q in range(first, last):
        total[q] = 0
        pull[q] = 0
        stop = min(len(ids), (q + 1) * chunk)
        for begin in range(q * chunk, stop, tile):
            size, fresh = min(tile, stop - begin), begin == q * chunk
            part, own = factor[begin : begin + size], ids[begin : begin + size]
            gather(0, size, source, own, mean, inverse_scale, x)
            encode_columns(size, shift, encoder, bias, x, u)
            code(room, first, size, u, features, k, scratch, decoder, x, part)
            add_gradients(room, first, size, x, live_sums, q, fresh)
            for i in range(size):
                total[q] += part[i] * room.square[first, i]
                for j in range(x.shape[1]):
                    pull[q, j] += error[i, 0, j]
                # What is left is the error itself, not what it pulls with.
                back[i] = 1 / part[i] if part[i] > 0 else 0
            if len(dead) > 0:
                left = error.reshape(tile, x.shape[1])
                code(lost, first, size, u, dead, dead_k, scratch, decoder, left, part)
                add_gradients(lost, first, size, x, dead_sums, q, fresh)


@compile_loop
def learn_relu(
    first, last, chunk, rows, factor, weight, params, room, sums, total, n_codes, pull
):
    """Sum the gradients of a dense ReLU autoencoder, as `learn_topk` does.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    factor, params
        See `learn_topk`.
    weight : ndarray of shape (n,)
        What the codes of a row add to the loss, each.
    room : tuple
        Ndarrays of shapes (n_chunks, tile, d) for the centred rows and the errors,
        (n_chunks, tile, m) for codes and their slopes, (n_chunks, 3, tile) and
        (n_chunks, m, d). Written over; a thread uses those of its first chunk.
    sums : Sums
        Written; of activity, how many tiles have some.
    total, n_codes : ndarrays of shape (n_chunks,)
        Written: the loss, and the number of positive codes.
    pull : ndarray of shape (n_chunks, d)
        Written: the sum of the errors times `factor`.
    """
    if first == last:
        return  # its room would be another thread's
    shift, encoder, bias, decoder = params
    x, error, codes, slopes, line, product = (
        room[0][first],
        room[1][first],
        room[2][first],
        room[3][first],
        room[4][first],
        room[5][first],
    )
    tile, real = x.shape[0], x.dtype.type
    ones, of_features = np.ones(tile, x.dtype), np.empty_like(bias)
    for q in range(first, last):
        total[q], n_codes[q], pull[q] = 0, 0, 0
        sums.decoder[q], sums.encoder[q], sums.bias[q] = 0, 0, 0
        sums.n_active[q] = 0
        stop = min(rows.shape[0], (q + 1) * chunk)
        for begin in range(q * chunk, stop, tile):
            size = min(tile, stop - begin)
            part = slice(begin, begin + size)
            square, length, count = line[0], line[1], line[2]
            code_relu(
                *(0, size, size, rows[part], shift, encoder, bias, decoder),
                *(factor[part], weight[part], x, codes, error, slopes),
                *(square, length, count),
            )
            for i in range(size):
                at = begin + i
                total[q] += factor[at] * square[i] / 2 + weight[at] * length[i]
                n_codes[q] += count[i]
                for j in range(x.shape[1]):
                    pull[q, j] += error[i, j]
            np.dot(ones[:size], slopes[:size], of_features)
            sums.bias[q] += of_features
            np.dot(ones[:size], codes[:size], of_features)
            for f in range(len(bias)):
                sums.n_active[q, f] += of_features[f] > real(0)
            np.dot(codes[:size].T, error[:size], product)
            sums.decoder[q] += product
            np.dot(slopes[:size].T, x[:size], product)
            sums.encoder[q] += product


@compile_loop
def join_chunks(sums, scale, tied, fresh, grad_decoder, grad_encoder, grad_bias):
    """Add `scale` times the gradients of all chunks; write them if `fresh`."""
    for f in range(grad_bias.shape[0]):
        if fresh:
            grad_bias[f], grad_decoder[f], grad_encoder[f] = 0, 0, 0
        for q in range(sums.bias.shape[0]):
            if sums.n_active[q, f] == 0:
                continue
            grad_bias[f] += scale * sums.bias[q, f]
            for j in range(grad_decoder.shape[1]):
                grad_decoder[f, j] += scale * sums.decoder[q, f, j]
            for j in range(0 if tied else grad_decoder.shape[1]):
                grad_encoder[f, j] += scale * sums.encoder[q, f, j]
