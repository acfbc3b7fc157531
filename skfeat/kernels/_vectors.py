"""Operations on `TILE` values at once, for compiled loops.

The compiler would do them one value at a time: it cannot tell that two arrays do not
overlap. Here the code says that all values are read before any is written.

Arrays are flat; `at` and `source_at` count their elements. This module imports numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

TILE = 64

_MAY_FUSE = ("contract",)  # as the compiled loops may: one rounding instead of two


def _operation(function: Any) -> Any:
    # Who calls one gives no typing context, which type checkers cannot know.
    return intrinsic(function)


class _Values:
    """The `TILE` values of a flat array from an index on."""

    def __init__(self, context, builder, array_type, array, index):
        element = context.get_value_type(array_type.dtype)
        self.builder = builder
        self.vector = ir.VectorType(element, TILE)
        self.align = context.get_abi_sizeof(element)
        data = make_array(array_type)(context, builder, array).data
        place = builder.gep(data, [index])
        self.place = builder.bitcast(place, self.vector.as_pointer())

    def load(self):
        return self.builder.load(self.place, align=self.align)

    def store(self, values):
        self.builder.store(values, self.place, align=self.align)

    def spread(self, value):
        """Return a vector of one value."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), TILE), [0] * TILE)
        return self.builder.shuffle_vector(first, nothing, everywhere)

    def constant(self, value):
        return ir.Constant(self.vector, [value] * TILE)

    def any_nonzero(self, values):
        nonzero = self.builder.fcmp_unordered("!=", values, self.constant(0.0))
        bits = self.builder.bitcast(nonzero, ir.IntType(TILE))
        return self.builder.icmp_unsigned("!=", bits, ir.IntType(TILE)(0))


def _item(context, builder, array_type, array, index):
    data = make_array(array_type)(context, builder, array).data
    return builder.load(builder.gep(data, [index]))


def _check(*arrays):
    for array in arrays:
        if not isinstance(array, types.Array) or (array.ndim, array.layout) != (1, "C"):
            raise TypingError(f"needs a flat, contiguous array, not {array}")


@_operation
def copy_plus(typingctx, out, at, source, source_at, value):
    """``out[at : at + TILE] = source[source_at : source_at + TILE] + value``."""
    _check(out, source)
    signature = types.void(out, types.intp, source, types.intp, out.dtype)

    def generate(context, builder, signature, args):
        out_type, _, source_type, _, _ = signature.args
        own = _Values(context, builder, out_type, args[0], args[1])
        other = _Values(context, builder, source_type, args[2], args[3])
        own.store(builder.fadd(other.load(), own.spread(args[4])))
        return context.get_dummy_value()

    return signature, generate


def _make_weighted_sum(skips):
    """Make :func:`weighted_sum`, or the one that skips what is not active."""

    @_operation
    def function(
        typingctx,
        out,
        at,
        intercept,
        weight,
        index,
        first,
        last,
        source,
        rectified,
        active,
    ):
        """Compute one feature of a layer for the rows of a tile.

        ``out[at : at + TILE]`` is the intercept plus the weights `first` to `last`
        times the features `index` of `source`, negative sums set to zero if
        `rectified`. Returns whether one of the values is not zero.
        """
        _check(out, weight, index, source, active)
        signature = types.boolean(
            *(out, types.intp, out.dtype, weight, index, types.intp, types.intp),
            *(source, types.boolean, active),
        )

        def generate(context, builder, signature, args):
            own = _Values(context, builder, signature.args[0], args[0], args[1])
            # The compiler keeps it in registers all along.
            total = cgutils.alloca_once_value(builder, own.spread(args[2]))
            with cgutils.for_range_slice(
                builder, args[5], args[6], context.get_constant(types.intp, 1)
            ) as (position, _):
                feature = _item(context, builder, signature.args[4], args[4], position)
                feature = builder.sext(feature, position.type)

                def add():
                    weight = _item(
                        context, builder, signature.args[3], args[3], position
                    )
                    place = builder.mul(feature, position.type(TILE))
                    other = _Values(context, builder, signature.args[7], args[7], place)
                    product = builder.fmul(
                        other.load(), own.spread(weight), flags=_MAY_FUSE
                    )
                    new = builder.fadd(builder.load(total), product, flags=_MAY_FUSE)
                    builder.store(new, total)

                if skips:
                    flag = _item(context, builder, signature.args[9], args[9], feature)
                    with builder.if_then(
                        builder.icmp_unsigned("!=", flag, flag.type(0))
                    ):
                        add()
                else:
                    add()
            result = builder.load(total)
            zeros = own.constant(0.0)
            kept = builder.fcmp_unordered(">", result, zeros)
            rectified = builder.select(kept, result, zeros)
            wanted = builder.icmp_unsigned("!=", args[8], args[8].type(0))
            result = builder.select(wanted, rectified, result)
            own.store(result)
            return own.any_nonzero(result)

        return signature, generate

    return function


weighted_sum = _make_weighted_sum(skips=False)
weighted_sum_of_active = _make_weighted_sum(skips=True)


@_operation
def count_above(typingctx, counts, source, source_at, bounds):
    """Add one to each of the counts whose value is above its bound, or NaN."""
    _check(counts, source, bounds)
    signature = types.void(counts, source, types.intp, bounds)

    def generate(context, builder, signature, args):
        counts_type, source_type, _, bounds_type = signature.args
        at = context.get_constant(types.intp, 0)
        own = _Values(context, builder, counts_type, args[0], at)
        values = _Values(context, builder, source_type, args[1], args[2]).load()
        bound = _Values(context, builder, bounds_type, args[3], at).load()
        above = builder.fcmp_unordered(">", values, bound)
        one = builder.select(above, own.constant(1.0), own.constant(0.0))
        own.store(builder.fadd(own.load(), one))
        return context.get_dummy_value()

    return signature, generate


@_operation
def keep_above(typingctx, values, at, bounds):
    """Set to zero which of the values are not above their bounds; NaN stays."""
    _check(values, bounds)
    signature = types.void(values, types.intp, bounds)

    def generate(context, builder, signature, args):
        values_type, _, bounds_type = signature.args
        own = _Values(context, builder, values_type, args[0], args[1])
        first = context.get_constant(types.intp, 0)
        bound = _Values(context, builder, bounds_type, args[2], first).load()
        loaded = own.load()
        above = builder.fcmp_unordered(">", loaded, bound)
        own.store(builder.select(above, loaded, own.constant(0.0)))
        return context.get_dummy_value()

    return signature, generate


@_operation
def any_nonzero(typingctx, source, at):
    """Tell whether one of ``source[at : at + TILE]`` is not zero."""
    _check(source)
    signature = types.boolean(source, types.intp)

    def generate(context, builder, signature, args):
        own = _Values(context, builder, signature.args[0], args[0], args[1])
        return own.any_nonzero(own.load())

    return signature, generate
