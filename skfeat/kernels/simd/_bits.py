"""Comparisons of many values at once, for compiled loops: as bits and as counts.

Indices and widths are those of `skfeat.kernels.simd._vectors`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from skfeat.kernels.simd._vectors import TILE, Values, check_flat, operation


@operation
def bits_above(typingctx, source, at, bound):
    """Return an integer whose bit i is set where ``source[at + i] > bound``."""
    check_flat(source)
    signature = types.int64(source, types.intp, source.dtype)

    def generate(context, builder, signature, args):
        own = Values(context, builder, signature.args[0], args[0], args[1])
        return own.bits(own.load(), own.spread(args[2]))

    return signature, generate


@operation
def bits_of_above(typingctx, source, at, bounds, bounds_at):
    """Return the bits of ``source > bounds``, each from its own index on."""
    check_flat(source, bounds)
    signature = types.int64(source, types.intp, bounds, types.intp)

    def generate(context, builder, signature, args):
        own, bound = (
            Values(context, builder, signature.args[i], args[i], args[i + 1])
            for i in (0, 2)
        )
        return own.bits(own.load(), bound.load())

    return signature, generate


@operation
def bits_of_sum_above(typingctx, source, source_at, other, bounds, at):
    """Return the bits of ``source + other > bounds``, both of these from `at` on."""
    check_flat(source, other, bounds)
    signature = types.int64(source, types.intp, other, bounds, types.intp)

    def generate(context, builder, signature, args):
        own, second, bound = (
            Values(context, builder, signature.args[i], args[i], args[j])
            for i, j in ((0, 1), (2, 4), (3, 4))
        )
        return own.bits(builder.fadd(own.load(), second.load()), bound.load())

    return signature, generate


@operation
def lowest_bit(typingctx, bits):
    """Return the position of the lowest set bit, 64 if no bit is set."""
    signature = types.int64(types.int64)

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(0))

    return signature, generate


@operation
def count_bits(typingctx, bits):
    """Return the number of set bits."""
    signature = types.int64(types.int64)

    def generate(context, builder, signature, args):
        return builder.ctpop(args[0])

    return signature, generate


@operation
def count_column(typingctx, counts, at, source, n, bounds, bounds_at):
    """Count for each lane how many of its `n` values are above its bound."""
    check_flat(counts, source, bounds)
    signature = types.void(
        *(counts, types.intp, source, types.intp, bounds, types.intp)
    )

    def generate(context, builder, signature, args):
        own, bounds = (
            Values(context, builder, signature.args[i], args[i], args[i + 1])
            for i in (0, 4)
        )
        bound, one, none = bounds.load(), own.constant(1.0), own.constant(0.0)
        total = cgutils.alloca_once_value(builder, none)
        with cgutils.for_range(builder, args[3]) as loop:
            place = builder.mul(loop.index, loop.index.type(TILE))
            values = Values(context, builder, signature.args[2], args[2], place).load()
            above = builder.select(builder.fcmp_ordered(">", values, bound), one, none)
            builder.store(builder.fadd(builder.load(total), above), total)
        own.store(builder.load(total))
        return context.get_dummy_value()

    return signature, generate
