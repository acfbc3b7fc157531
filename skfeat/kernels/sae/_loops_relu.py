"""Compiled passes between the dense products of a ReLU batch.

What is read from and written to a matrix of uint16 is bfloat16. This module imports
numba.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.sae._arrays import Encoding
from skfeat.kernels.sae._loops_sparse import encode
from skfeat.kernels.simd._vectors import number_at, write_number


class ReLUBatch(NamedTuple):
    """A batch of a dense ReLU autoencoder.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
    factor : ndarray of shape (n,)
        Weight of each row in the derivative of the loss.
    weight : ndarray of shape (n,)
        What each positive code of a row adds to that derivative.
    """

    rows: np.ndarray
    factor: np.ndarray
    weight: np.ndarray


class ReLUBuffers(NamedTuple):
    """What a batch of a dense ReLU autoencoder writes on its way.

    Attributes
    ----------
    centred, weighted_residual : ndarray of shape (n, d)
    codes, grad_pre : ndarray of shape (n, m)
    square, total, n_positive : ndarray of shape (n,)
        Of each row the squared error, the sum of the codes and how many are positive.
    """

    centred: np.ndarray
    weighted_residual: np.ndarray
    codes: np.ndarray
    grad_pre: np.ndarray
    square: np.ndarray
    total: np.ndarray
    n_positive: np.ndarray


@compile_loop
def rectify(first, last, pre, bias, total, count):
    """Write ``max(pre + bias, 0)`` over `pre`; sum and count it for each row."""
    one, none = bias.dtype.type(1), bias.dtype.type(0)
    m, flat = pre.shape[1], pre.reshape(-1)
    for i in range(first, last):
        all_of_row, n = none, none
        for j in range(m):
            u = max(number_at(flat, i * m + j) + bias[j], none)
            write_number(flat, i * m + j, u)
            all_of_row += u
            n += one if u > none else none
        total[i], count[i] = all_of_row, n


@compile_loop
def subtract_and_scale(first, last, decoded, rows, factor, square):
    """Write ``(decoded - rows) * factor`` over `decoded`, and the squared errors."""
    for i in range(first, last):
        scale = factor[i]
        squares = decoded.dtype.type(0)
        for j in range(decoded.shape[1]):
            error = decoded[i, j] - rows[i, j]
            squares += error * error
            decoded[i, j] = error * scale
        square[i] = squares


@compile_loop
def mask(first, last, grad_codes, codes, weight):
    """Add its row's weight to each derivative, and keep those of positive codes."""
    none = grad_codes.dtype.type(0)
    for i in range(first, last):
        more = weight[i]
        for j in range(grad_codes.shape[1]):
            positive = codes[i, j] > none
            grad_codes[i, j] = grad_codes[i, j] + more if positive else none


@compile_loop
def code_relu(first, last, tile, batch, weights, buffers):
    """Pass rows through a dense ReLU autoencoder and back to the pre-activations.

    Parameters
    ----------
    tile : int
        Rows of a matrix product.
    batch : ReLUBatch
    weights : Weights
    buffers : ReLUBuffers
        Written.
    """
    decoder, codes = weights.decoder, buffers.codes
    residual, grad_pre = buffers.weighted_residual, buffers.grad_pre
    centred = buffers.centred
    encoding = Encoding(batch.rows, centred, codes)
    for begin in range(first, last, tile):
        end = min(last, begin + tile)
        encode(begin, end, encoding, weights)
        bias = weights.encoder_bias
        rectify(begin, end, codes, bias, buffers.total, buffers.n_positive)
        np.dot(codes[begin:end], decoder, residual[begin:end])
        subtract_and_scale(
            begin, end, residual, buffers.centred, batch.factor, buffers.square
        )
        np.dot(residual[begin:end], decoder.T, grad_pre[begin:end])
        mask(begin, end, grad_pre, codes, batch.weight)
