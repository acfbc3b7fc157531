"""Operations on many values at once, for compiled loops.

For an ordinary loop the compiler may generate scalar code, or a check at run time
whether two arrays overlap. Here all values are read before any is written.

Arrays are flat; `at` and `source_at` are indices of elements. An operation acts on
`TILE` values unless it names another number. Arrays of uint16 hold the bits of
bfloat16, which are the upper half of the bits of a float32. This module imports numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from skfeat.kernels.simd._versions import pointer_to

TILE = 64

MAY_FUSE = ("contract",)  # as in the compiled loops: one rounding instead of two


def operation(function: Any) -> Any:
    # numba supplies `typingctx`: with type Any, type checkers accept calls without it.
    return intrinsic(function)


class Values:
    """The `n` values of a flat array from an index on."""

    def __init__(self, context, builder, array_type, array, index, n=TILE):
        element = context.get_value_type(array_type.dtype)
        self.builder, self.n = builder, n
        stored = ir.VectorType(element, n)
        self.is_rounded = array_type.dtype == types.uint16
        self.vector = ir.VectorType(ir.FloatType(), n) if self.is_rounded else stored
        self.align = context.get_abi_sizeof(element)
        place = place_of(context, builder, array_type, array, index)
        self.place = builder.bitcast(place, pointer_to(stored))

    def load(self):
        values = self.builder.load(self.place, align=self.align)
        if not self.is_rounded:
            return values
        integers = ir.VectorType(ir.IntType(32), self.n)
        shift = ir.Constant(integers, [16] * self.n)
        bits = self.builder.shl(self.builder.zext(values, integers), shift)
        return self.builder.bitcast(bits, self.vector)

    def store(self, values):
        self.builder.store(values, self.place, align=self.align)

    def spread(self, value):
        """Return a vector whose elements all have one value."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.n), [0] * self.n)
        return self.builder.shuffle_vector(first, nothing, everywhere)

    def constant(self, value):
        return ir.Constant(self.vector, [value] * self.n)

    def larger(self, values, others):
        """Return the larger of each pair, that of `others` where `values` has NaN."""
        return self.builder.select(
            self.builder.fcmp_ordered(">", values, others), values, others
        )

    def bits(self, values, bounds):
        """Return an integer whose bit i is set if value i is above its bound."""
        above = self.builder.fcmp_ordered(">", values, bounds)
        return self.builder.bitcast(above, ir.IntType(self.n))

    def reduce(self, values, operation):
        """Combine the values by halving: in the same order on every machine."""
        n = self.n
        while n > 1:
            n //= 2
            low, high = (
                self.builder.shuffle_vector(
                    values,
                    values,
                    ir.Constant(ir.VectorType(ir.IntType(32), n), list(half)),
                )
                for half in (range(n), range(n, 2 * n))
            )
            values = operation(low, high)
        return self.builder.extract_element(values, ir.IntType(32)(0))


def read_item(context, builder, array_type, array, index):
    return builder.load(place_of(context, builder, array_type, array, index))


def place_of(context, builder, array_type, array, index):
    return builder.gep(make_array(array_type)(context, builder, array).data, [index])


def read_index(context, builder, array_type, array, index):
    """Read an index of any integer type."""
    value = read_item(context, builder, array_type, array, index)
    return context.cast(builder, value, array_type.dtype, types.intp)


def check_flat(*arrays):
    for array in arrays:
        if not isinstance(array, types.Array) or (array.ndim, array.layout) != (1, "C"):
            raise TypingError(f"needs a flat, contiguous array, not {array}")


@operation
def number_at(typingctx, source, at):
    """Return ``source[at]``; `at` must not be negative."""
    check_flat(source)
    is_rounded = source.dtype == types.uint16
    signature = (types.float32 if is_rounded else source.dtype)(source, types.intp)

    def generate(context, builder, signature, args):
        value = read_item(context, builder, signature.args[0], *args)
        if not is_rounded:
            return value
        integer = ir.IntType(32)
        bits = builder.shl(builder.zext(value, integer), integer(16))
        return builder.bitcast(bits, ir.FloatType())

    return signature, generate


@operation
def write_number(typingctx, out, at, value):
    """Set ``out[at] = value``; `at` must not be negative.

    For bfloat16 the value is rounded to the nearest number, ties to even.
    """
    check_flat(out)
    is_rounded = out.dtype == types.uint16
    real = types.float32 if is_rounded else out.dtype
    signature = types.void(out, types.intp, real)

    def generate(context, builder, signature, args):
        array, index, value = args
        place = place_of(context, builder, signature.args[0], array, index)
        if not is_rounded:
            builder.store(value, place)
            return context.get_dummy_value()
        integer, stored = ir.IntType(32), ir.IntType(16)
        bits = builder.bitcast(value, integer)
        odd = builder.and_(builder.lshr(bits, integer(16)), integer(1))
        nearest = builder.add(bits, builder.add(odd, integer(0x7FFF)))
        half = builder.trunc(builder.lshr(nearest, integer(16)), stored)
        is_nan = builder.fcmp_unordered("uno", value, value)
        builder.store(builder.select(is_nan, stored(0x7FC0), half), place)
        return context.get_dummy_value()

    return signature, generate


@operation
def copy_plus(typingctx, out, at, source, source_at, value):
    """Set ``out[at : at + TILE] = source[source_at : source_at + TILE] + value``."""
    check_flat(out, source)
    signature = types.void(out, types.intp, source, types.intp, out.dtype)

    def generate(context, builder, signature, args):
        out_type, _, source_type, _, _ = signature.args
        own = Values(context, builder, out_type, args[0], args[1])
        other = Values(context, builder, source_type, args[2], args[3])
        own.store(builder.fadd(other.load(), own.spread(args[4])))
        return context.get_dummy_value()

    return signature, generate


@operation
def weighted_sum(
    typingctx, out, at, intercept, weight, index, first, last, source, rectified
):
    """Compute one feature of a layer for the rows of a tile.

    ``out[at : at + TILE]`` is the intercept plus the weights `first` to `last` times
    the features `index` of `source`. If `rectified`, negative sums are set to zero.
    """
    check_flat(out, weight, index, source)
    signature = types.void(
        *(out, types.intp, out.dtype, weight, index, types.intp, types.intp),
        *(source, types.boolean),
    )

    def generate(context, builder, signature, args):
        own = Values(context, builder, signature.args[0], args[0], args[1])
        # The compiler keeps the sum in registers.
        total = cgutils.alloca_once_value(builder, own.spread(args[2]))
        with cgutils.for_range_slice(
            builder, args[5], args[6], context.get_constant(types.intp, 1)
        ) as (position, _):
            feature = read_index(context, builder, signature.args[4], args[4], position)
            weight = read_item(context, builder, signature.args[3], args[3], position)
            place = builder.mul(feature, position.type(TILE))
            other = Values(context, builder, signature.args[7], args[7], place)
            product = builder.fmul(other.load(), own.spread(weight), flags=MAY_FUSE)
            new = builder.fadd(builder.load(total), product, flags=MAY_FUSE)
            builder.store(new, total)
        result = builder.load(total)
        zeros = own.constant(0.0)
        kept = builder.fcmp_unordered(">", result, zeros)
        rectified = builder.select(kept, result, zeros)
        wanted = builder.icmp_unsigned("!=", args[8], args[8].type(0))
        own.store(builder.select(wanted, rectified, result))
        return context.get_dummy_value()

    return signature, generate


@operation
def keep_above(typingctx, values, at, bounds):
    """Set values that are not above their bounds to zero; NaN stays."""
    check_flat(values, bounds)
    signature = types.void(values, types.intp, bounds)

    def generate(context, builder, signature, args):
        values_type, _, bounds_type = signature.args
        own = Values(context, builder, values_type, args[0], args[1])
        first = context.get_constant(types.intp, 0)
        bound = Values(context, builder, bounds_type, args[2], first).load()
        loaded = own.load()
        above = builder.fcmp_unordered(">", loaded, bound)
        own.store(builder.select(above, loaded, own.constant(0.0)))
        return context.get_dummy_value()

    return signature, generate


@operation
def add(typingctx, out, at, source, source_at, other, other_at):
    """Set ``out = source + other``, each from its own index on."""
    check_flat(out, source, other)
    signature = types.void(out, types.intp, source, types.intp, other, types.intp)

    def generate(context, builder, signature, args):
        own, first, second = (
            Values(context, builder, signature.args[i], args[i], args[i + 1])
            for i in (0, 2, 4)
        )
        own.store(builder.fadd(first.load(), second.load()))
        return context.get_dummy_value()

    return signature, generate


@operation
def keep_larger(typingctx, out, at, source, source_at):
    """Set ``out = max(out, source)``; NaN of `source` is ignored."""
    check_flat(out, source)
    signature = types.void(out, types.intp, source, types.intp)

    def generate(context, builder, signature, args):
        own, other = (
            Values(context, builder, signature.args[i], args[i], args[i + 1])
            for i in (0, 2)
        )
        own.store(own.larger(other.load(), own.load()))
        return context.get_dummy_value()

    return signature, generate


@operation
def largest(typingctx, source, at, least):
    """Return the largest of the values and `least`; NaN is ignored."""
    check_flat(source)
    signature = source.dtype(source, types.intp, source.dtype)

    def generate(context, builder, signature, args):
        own = Values(context, builder, signature.args[0], args[0], args[1])
        return own.reduce(own.larger(own.load(), own.spread(args[2])), own.larger)

    return signature, generate


@operation
def prefetch(typingctx, source, at):
    """Prefetch the cache line of ``source[at]``; `at` may be out of bounds."""
    check_flat(source)
    signature = types.void(source, types.intp)

    def generate(context, builder, signature, args):
        place = place_of(context, builder, signature.args[0], args[0], args[1])
        byte, number = pointer_to(ir.IntType(8)), ir.IntType(32)
        place = builder.bitcast(place, byte)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [byte],
            ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
        )
        # 0: for reading; 3: keep in all caches; 1: data, not instructions.
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return signature, generate
