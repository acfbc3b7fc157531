"""Compiled passes over matrices of bfloat16, between the products of a dense batch.

A matrix of bfloat16 is one of uint16 here, which has its bits: the upper half of those
of a float32. This module imports numba.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_inline, compile_loop

_NAN = np.uint16(0x7FC0)


class Residual(NamedTuple):
    """Errors of a batch times their weight, in two precisions, and their squares.

    Attributes
    ----------
    exact : ndarray of float32, shape (n, d)
    rounded : ndarray of uint16, shape (n, d)
    square : ndarray of float32, shape (n,)
        Squared error of each row, without the weight.
    """

    exact: np.ndarray
    rounded: np.ndarray
    square: np.ndarray


@compile_inline
def rounded(value):
    """Return the bits of the nearest bfloat16, of two as near the even one."""
    bits = np.float32(value).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16((bits + half) >> np.uint32(16)) if value == value else _NAN


@compile_inline
def widened(bits):
    """Return the float32 of some bits."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@compile_loop
def round_rows(first, last, rows, bias, out):
    """Write ``rows - bias``, rounded."""
    for i in range(first, last):
        for j in range(rows.shape[1]):
            out[i, j] = rounded(rows[i, j] - bias[j])


@compile_loop
def widen_rows(first, last, bits, out):
    """Write rows as float32."""
    for i in range(first, last):
        for j in range(bits.shape[1]):
            out[i, j] = widened(bits[i, j])


@compile_loop
def subtract_and_scale(first, last, decoded, rows, bias, factor, residual):
    """Write ``(decoded - (rows - bias)) * factor`` and its square to a `Residual`."""
    exact, bits, square = residual.exact, residual.rounded, residual.square
    for i in range(first, last):
        scale, squares = factor[i], np.float32(0)
        for j in range(rows.shape[1]):
            difference = widened(decoded[i, j]) - (rows[i, j] - bias[j])
            squares += difference * difference
            exact[i, j] = difference * scale
            bits[i, j] = rounded(exact[i, j])
        square[i] = squares


@compile_loop
def mask_and_sum(first, last, grad_codes, codes, weight, sums, fired):
    """Add its row's weight to each derivative, and keep those of positive codes.

    They are summed for each feature; `fired` is nonzero where one code is positive.
    """
    none = np.float32(0)
    sums[:] = 0
    fired[:] = 0
    for i in range(first, last):
        more = weight[i]
        for j in range(grad_codes.shape[1]):
            positive = codes[i, j] != 0
            grad = widened(grad_codes[i, j]) + more if positive else none
            grad_codes[i, j] = rounded(grad)
            sums[j] += grad
            fired[j] |= codes[i, j]
