"""Compiled loops that round matrices to eight-bit integers and multiply them.

Row i of a matrix is ``scale[i]`` times integers from -127 to 127; four at a time are
the bytes of an int32. This module imports numba, and compiles for processors alone
that `skfeat.kernels.simd._integers` supports.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_inline, compile_loop, magnitude
from skfeat.kernels.simd._integers import HEIGHT, WIDTH, multiply_row, multiply_rows

_MOST = np.float32(127)

# A row of smaller numbers is rounded to zeros: no float32 divides by its scale.
_TINY = np.float32(1e-30)

# Makes the integers of one factor unsigned, as the instruction takes them.
_OFFSET = 128


class Panels(NamedTuple):
    """Columns as `multiply_rows` takes them; those that fill the last panel are zero.

    Attributes
    ----------
    integers : ndarray of int32, shape (n_panels, depth, WIDTH)
        Four numbers of a column each.
    start : ndarray of int32, shape (n_panels * WIDTH,)
        Takes back what the offset of the other factor adds.
    scale : ndarray of float32, shape (n_panels * WIDTH,)
    """

    integers: np.ndarray
    start: np.ndarray
    scale: np.ndarray


@compile_loop
def add_shares(first, last, matrix, n_rows, shares):
    """Write how much of its row's square each column has, by blocks of `n_rows` rows.

    Summed over the rows of each block, which have a square of one each.
    """
    squares = np.empty(matrix.shape[1], np.float32)
    for block in range(first, last):
        own = shares[block]
        own[:] = 0
        for i in range(block * n_rows, min(len(matrix), (block + 1) * n_rows)):
            total = np.float32(0)
            for j in range(len(squares)):
                squares[j] = matrix[i, j] * matrix[i, j]
                total += squares[j]
            inverse = np.float32(1) / total if total > _TINY else np.float32(0)
            for j in range(len(squares)):
                own[j] += squares[j] * inverse


@compile_inline
def round_row(row, factor, scaled, out):
    """Round ``row * factor`` to `out`; return what it is then divided by."""
    most = np.float32(0)
    for j in range(len(row)):
        scaled[j] = row[j] * factor[j]
        size = magnitude(scaled[j])
        most = size if size > most else most
    inverse = _MOST / most if most > _TINY else np.float32(0)
    for j in range(len(row)):
        out[j] = np.int8(np.rint(scaled[j] * inverse))
    return most / _MOST


@compile_loop
def round_rows(first, last, rows, factor, out, scale):
    """Round rows, times `factor`, to unsigned integers (n, 4 * depth)."""
    scaled = np.empty(rows.shape[1], np.float32)
    integers = np.zeros(out.shape[1], np.int8)
    for i in range(first, last):
        scale[i] = round_row(rows[i], factor, scaled, integers)
        for j in range(len(integers)):
            out[i, j] = np.uint8(np.int32(integers[j]) + _OFFSET)


@compile_loop
def round_panels(first, last, columns, factor, panels):
    """Round columns, times `factor`, to `Panels`.

    Parameters
    ----------
    columns : ndarray of shape (m, d)
        Column by column.
    panels : Panels
        Written.
    """
    out, start, scale = panels.integers, panels.start, panels.scale
    depth = out.shape[1]
    scaled = np.empty(columns.shape[1], np.float32)
    integers = np.zeros(4 * depth, np.int8)
    fours = integers.view(np.int32)
    for panel in range(first, last):
        for c in range(WIDTH):
            f = panel * WIDTH + c
            if f < len(columns):
                scale[f] = round_row(columns[f], factor, scaled, integers)
            else:
                scale[f], integers[:] = 0, 0
            total = 0
            for j in range(len(integers)):
                total += integers[j]
            start[f] = -_OFFSET * total
            for t in range(depth):
                out[panel, t, c] = fours[t]


@compile_loop
def multiply(first, last, rows, row_scale, panels, out):
    """Write the products of rows `first` to `last` with all columns to `out`."""
    depth, width = rows.shape[1], out.shape[1]
    flat, products = rows.reshape(-1), out.reshape(-1)
    columns, start, scale = panels.integers.reshape(-1), panels.start, panels.scale
    for j in range(0, width, WIDTH):
        i = first
        while i + HEIGHT <= last:
            multiply_rows(
                products,
                i * width,
                width,
                flat,
                i,
                depth,
                row_scale,
                columns,
                start,
                scale,
                j,
            )
            i += HEIGHT
        while i < last:
            multiply_row(
                products,
                i * width,
                width,
                flat,
                i,
                depth,
                row_scale,
                columns,
                start,
                scale,
                j,
            )
            i += 1
