"""Weighted sums and products of rows of a matrix, for compiled loops.

A sum stays in the processor's registers until all its rows have been added. This module
imports numba.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils

from skfeat.kernels._compile import compile_inline
from skfeat.kernels.simd._vectors import (
    MAY_FUSE,
    Values,
    check_flat,
    operation,
    place_of,
    read_index,
    read_item,
)

# Bytes of a sum in registers: enough independent additions to hide their latency.
WIDE, NARROW = 256, 32


def _make_add_rows(n_bytes):
    """Make the operation of :func:`add_rows` for `n_bytes` bytes of each row."""

    @operation
    def function(
        typingctx, out, at, weight, index, first, last, source, stride, offset
    ):
        check_flat(out, weight, index, source)
        signature = types.void(
            *(out, types.intp, weight, index, types.intp, types.intp),
            *(source, types.intp, types.intp),
        )

        def generate(context, builder, signature, args):
            n = max(1, n_bytes * 8 // signature.args[0].dtype.bitwidth)
            own = Values(context, builder, signature.args[0], args[0], args[1], n)
            # The compiler keeps the sum in registers.
            total = cgutils.alloca_once_value(builder, own.load())
            with cgutils.for_range_slice(
                builder, args[4], args[5], context.get_constant(types.intp, 1)
            ) as (position, _):
                row = read_index(context, builder, signature.args[3], args[3], position)
                weight = read_item(
                    context, builder, signature.args[2], args[2], position
                )
                place = builder.add(builder.mul(row, args[7]), args[8])
                other = Values(
                    context, builder, signature.args[6], args[6], place, n
                ).load()
                product = builder.fmul(other, own.spread(weight), flags=MAY_FUSE)
                new = builder.fadd(builder.load(total), product, flags=MAY_FUSE)
                builder.store(new, total)
            own.store(builder.load(total))
            return context.get_dummy_value()

        return signature, generate

    return function


def _make_add_dots(n_bytes):
    """Make the operation of :func:`add_dots` for `n_bytes` bytes of each row."""

    @operation
    def function(
        typingctx, out, first, last, row, row_at, index, source, stride, offset
    ):
        check_flat(out, row, index, source)
        signature = types.void(
            *(out, types.intp, types.intp, row, types.intp, index),
            *(source, types.intp, types.intp),
        )

        def generate(context, builder, signature, args):
            n = max(1, n_bytes * 8 // signature.args[3].dtype.bitwidth)
            own = Values(context, builder, signature.args[3], args[3], args[4], n)
            values = own.load()
            with cgutils.for_range_slice(
                builder, args[1], args[2], context.get_constant(types.intp, 1)
            ) as (position, _):
                row = read_index(context, builder, signature.args[5], args[5], position)
                place = builder.add(builder.mul(row, args[7]), args[8])
                other = Values(context, builder, signature.args[6], args[6], place, n)
                dot = own.reduce(builder.fmul(values, other.load()), builder.fadd)
                target = place_of(
                    context, builder, signature.args[0], args[0], position
                )
                builder.store(builder.fadd(builder.load(target), dot), target)
            return context.get_dummy_value()

        return signature, generate

    return function


_add_wide, _add_narrow, _add_one = map(_make_add_rows, (WIDE, NARROW, 1))
_dot_wide, _dot_narrow, _dot_one = map(_make_add_dots, (WIDE, NARROW, 1))


@compile_inline
def add_rows(out, at, length, weight, index, first, last, source, stride, offset):
    """Add ``weight[t]`` times a row of `source` for each t from `first` to `last`.

    The row starts at ``index[t] * stride + offset`` and has `length` elements. They are
    added to the `length` elements of `out` from `at` on. `out` and `source` must not
    overlap.
    """
    wide, narrow = WIDE // out.itemsize, NARROW // out.itemsize
    rest = weight, index, first, last, source, stride
    j = 0
    while j + wide <= length:
        _add_wide(out, at + j, *rest, offset + j)
        j += wide
    while j + narrow <= length:
        _add_narrow(out, at + j, *rest, offset + j)
        j += narrow
    while j < length:
        _add_one(out, at + j, *rest, offset + j)
        j += 1


@compile_inline
def add_dots(out, first, last, row, row_at, length, index, source, stride):
    """Add to ``out[t]`` the dot product of a row and row ``index[t]`` of `source`.

    This is done for each t from `first` to `last`. The row has `length` elements from
    ``row[row_at]`` on; row i of `source` starts at ``i * stride``.
    """
    wide, narrow = WIDE // row.itemsize, NARROW // row.itemsize
    j = 0
    while j + wide <= length:
        _dot_wide(out, first, last, row, row_at + j, index, source, stride, j)
        j += wide
    while j + narrow <= length:
        _dot_narrow(out, first, last, row, row_at + j, index, source, stride, j)
        j += narrow
    while j < length:
        _dot_one(out, first, last, row, row_at + j, index, source, stride, j)
        j += 1


def _make_copy_scaled(n_bytes):
    """Make the operation of :func:`copy_scaled` for vectors of `n_bytes` bytes."""

    @operation
    def function(typingctx, out, at, source, source_at, scale):
        check_flat(out, source)
        signature = types.void(out, types.intp, source, types.intp, out.dtype)

        def generate(context, builder, signature, args):
            n = max(1, n_bytes * 8 // signature.args[0].dtype.bitwidth)
            own, other = (
                Values(context, builder, signature.args[i], args[i], args[i + 1], n)
                for i in (0, 2)
            )
            own.store(builder.fmul(other.load(), own.spread(args[4])))
            return context.get_dummy_value()

        return signature, generate

    return function


def _make_square_and_scale(n_bytes):
    """Make the operation of :func:`square_and_scale` for `n_bytes` bytes."""

    @operation
    def function(typingctx, out, at, scale):
        check_flat(out)
        signature = out.dtype(out, types.intp, out.dtype)

        def generate(context, builder, signature, args):
            n = max(1, n_bytes * 8 // signature.args[0].dtype.bitwidth)
            own = Values(context, builder, signature.args[0], args[0], args[1], n)
            values = own.load()
            own.store(builder.fmul(values, own.spread(args[2])))
            return own.reduce(builder.fmul(values, values), builder.fadd)

        return signature, generate

    return function


_copy_wide, _copy_narrow, _copy_one = map(_make_copy_scaled, (WIDE, NARROW, 1))
_square_wide, _square_narrow, _square_one = map(
    _make_square_and_scale, (WIDE, NARROW, 1)
)


@compile_inline
def copy_scaled(out, at, length, source, source_at, scale):
    """Write `scale` times `length` elements of `source`; arrays must not overlap."""
    wide, narrow = WIDE // out.itemsize, NARROW // out.itemsize
    j = 0
    while j + wide <= length:
        _copy_wide(out, at + j, source, source_at + j, scale)
        j += wide
    while j + narrow <= length:
        _copy_narrow(out, at + j, source, source_at + j, scale)
        j += narrow
    while j < length:
        _copy_one(out, at + j, source, source_at + j, scale)
        j += 1


@compile_inline
def square_and_scale(out, at, length, scale):
    """Return the sum of squares of `length` elements, then multiply them by `scale`."""
    wide, narrow = WIDE // out.itemsize, NARROW // out.itemsize
    j, total = 0, out.dtype.type(0)
    while j + wide <= length:
        total += _square_wide(out, at + j, scale)
        j += wide
    while j + narrow <= length:
        total += _square_narrow(out, at + j, scale)
        j += narrow
    while j < length:
        total += _square_one(out, at + j, scale)
        j += 1
    return total
