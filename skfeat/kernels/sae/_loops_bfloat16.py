"""Compiled passes over matrices of bfloat16, between the products of a dense batch.

A matrix of bfloat16 is one of uint16 here, which has its bits: the upper half of those
of a float32. This module imports numba.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.simd._vectors import number_at, write_number


@compile_loop
def round_rows(first, last, rows, bias, out):
    """Write ``rows - bias``, rounded."""
    d, bits = rows.shape[1], out.reshape(-1)
    for i in range(first, last):
        for j in range(d):
            write_number(bits, i * d + j, rows[i, j] - bias[j])


@compile_loop
def widen_rows(first, last, bits, out):
    """Write rows as float32."""
    d, flat = bits.shape[1], bits.reshape(-1)
    for i in range(first, last):
        for j in range(d):
            out[i, j] = number_at(flat, i * d + j)


@compile_loop
def subtract_and_scale(first, last, decoded, rows, bias, factor, residual, square):
    """Write ``(decoded - (rows - bias)) * factor``, and the squares without the factor.

    Rounding the residual in the same function would keep the loop from being
    vectorised.
    """
    d, flat = rows.shape[1], decoded.reshape(-1)
    for i in range(first, last):
        scale, squares = factor[i], np.float32(0)
        for j in range(d):
            difference = number_at(flat, i * d + j) - (rows[i, j] - bias[j])
            squares += difference * difference
            residual[i, j] = difference * scale
        square[i] = squares


@compile_loop
def mask_and_sum(first, last, grad_codes, codes, weight, sums, fired):
    """Add its row's weight to each derivative, and keep those of positive codes.

    They are summed for each feature; `fired` is nonzero where one code is positive.
    """
    none, m, flat = np.float32(0), grad_codes.shape[1], grad_codes.reshape(-1)
    sums[:] = 0
    fired[:] = 0
    for i in range(first, last):
        more = weight[i]
        for j in range(m):
            positive = codes[i, j] != 0
            grad = number_at(flat, i * m + j) + more if positive else none
            write_number(flat, i * m + j, grad)
            sums[j] += grad
            fired[j] |= codes[i, j]
