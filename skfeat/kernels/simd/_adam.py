"""Adam's update of a row, many elements at a time. This module imports numba."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from skfeat.kernels._compile import compile_inline
from skfeat.kernels.simd._rows import NARROW, WIDE
from skfeat.kernels.simd._vectors import MAY_FUSE, Values, check_flat, operation


def _make_dot(n_bytes):
    """Make the operation of :func:`dot` for vectors of `n_bytes` bytes."""

    @operation
    def function(typingctx, left, right, at):
        check_flat(left, right)
        signature = left.dtype(left, right, types.intp)

        def generate(context, builder, signature, args):
            n = max(1, n_bytes * 8 // signature.return_type.bitwidth)
            own, other = (
                Values(context, builder, signature.args[i], args[i], args[2], n)
                for i in (0, 1)
            )
            product = builder.fmul(own.load(), other.load())
            return own.reduce(product, builder.fadd)

        return signature, generate

    return function


def _make_update(n_bytes):
    """Make the operation of :func:`update_row` for vectors of `n_bytes` bytes."""

    @operation
    def function(typingctx, p, grad, mean, square, at, along, numbers):
        check_flat(p, grad, mean, square)
        signature = p.dtype(p, grad, mean, square, types.intp, p.dtype, numbers)

        def generate(context, builder, signature, args):
            bits = signature.return_type.bitwidth
            n = max(1, n_bytes * 8 // bits)
            own, gradient, first, second = (
                Values(context, builder, signature.args[i], args[i], args[4], n)
                for i in range(4)
            )
            rate, beta1, left1, beta2, left2, correction, eps = (
                own.spread(builder.extract_value(args[6], i)) for i in range(7)
            )

            def add(a, b):
                return builder.fadd(a, b, flags=MAY_FUSE)

            def times(a, b):
                return builder.fmul(a, b, flags=MAY_FUSE)

            before = own.load()
            g = builder.fsub(
                gradient.load(), times(own.spread(args[5]), before), flags=MAY_FUSE
            )
            m = add(times(beta1, first.load()), times(left1, g))
            v = add(times(beta2, second.load()), times(times(left2, g), g))
            sqrt = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(own.vector, [own.vector]),
                f"llvm.sqrt.v{n}f{bits}",
            )
            root = add(times(builder.call(sqrt, [v]), correction), eps)
            after = builder.fsub(before, builder.fdiv(times(rate, m), root))
            first.store(m)
            second.store(v)
            own.store(after)
            return own.reduce(builder.fmul(after, after), builder.fadd)

        return signature, generate

    return function


_dot_wide, _dot_narrow, _dot_one = map(_make_dot, (WIDE, NARROW, 1))
_update_wide, _update_narrow, _update_one = map(_make_update, (WIDE, NARROW, 1))


@compile_inline
def dot(left, right, at, length):
    """Return the dot product of two rows that both begin at index `at`."""
    wide, narrow = WIDE // left.itemsize, NARROW // left.itemsize
    j, end, total = at, at + length, left.dtype.type(0)
    while j + wide <= end:
        total += _dot_wide(left, right, j)
        j += wide
    while j + narrow <= end:
        total += _dot_narrow(left, right, j)
        j += narrow
    while j < end:
        total += _dot_one(left, right, j)
        j += 1
    return total


@compile_inline
def update_row(p, grad, mean, square, at, length, along, numbers):
    """Update a row by its gradient minus `along` times the row.

    Returns the sum of squares of the updated row.
    """
    wide, narrow = WIDE // p.itemsize, NARROW // p.itemsize
    j, end, total = at, at + length, p.dtype.type(0)
    while j + wide <= end:
        total += _update_wide(p, grad, mean, square, j, along, numbers)
        j += wide
    while j + narrow <= end:
        total += _update_narrow(p, grad, mean, square, j, along, numbers)
        j += narrow
    while j < end:
        total += _update_one(p, grad, mean, square, j, along, numbers)
        j += 1
    return total
