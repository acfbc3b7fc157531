"""Products of matrices of eight-bit integers, for compiled loops.

They are made of the instruction of AVX-512 VNNI that multiplies 64 unsigned integers
by 64 signed ones and adds each four products to a sum of 32 bits. Where the processor
lacks it (`is_supported`), nothing here may be compiled. This module imports numba.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from skfeat.kernels.simd._vectors import Values, check_flat, operation, read_item
from skfeat.kernels.simd._versions import dot_operands, processor_features

# Columns that are multiplied at once, and rows: their sums, with what they are made of,
# take all of the processor's registers.
WIDTH, HEIGHT = 64, 6

_LANES = 16
_SUMS = ir.VectorType(ir.IntType(32), _LANES)
_DOT = "llvm.x86.avx512.vpdpbusd.512"


def is_supported() -> bool:
    """Tell whether the processor that numba compiles for has the instruction."""
    return "+avx512vnni" in processor_features()


def _make_multiply(n_rows):
    """Make the operation of :func:`multiply_rows` for so many rows."""

    @operation
    def function(
        typingctx,
        out,
        at,
        width,
        rows,
        first,
        depth,
        of_row,
        panel,
        start,
        of_column,
        j,
    ):
        """Multiply rows from `first` on by a panel of `WIDTH` columns from `j` on.

        Parameters
        ----------
        out : flat array of float32
            ``out[at + r * width + j]`` and on receive the products of row r with the
            panel, each times the scale of its row and of its column.
        rows : flat array of int32
            Each holds four of a row's numbers, which are unsigned; `depth` a row.
        of_row, of_column : arrays of float32
            Scales.
        panel : flat array of int32
            Each holds four of a column's numbers, which are signed; the first four of
            all `WIDTH` columns come first. Panels follow each other.
        start : array of int32
            What the sum of each column begins with.
        """
        flat = out, rows, of_row, panel, start, of_column
        check_flat(*flat)
        index = types.intp
        signature = types.void(
            *(out, index, index, rows, index, index, of_row, panel, start, of_column),
            index,
        )

        def generate(context, builder, signature, args):
            _, at, width, _, first, depth, *_, column = args
            out, rows, of_row, panel, start, of_column = (
                (signature.args[i], args[i]) for i in (0, 3, 6, 7, 8, 9)
            )
            numbers = dot_operands(_LANES)
            kind = ir.FunctionType(_SUMS, [_SUMS, numbers, numbers])
            dot = builder.module.declare_intrinsic(_DOT, (), kind)

            def lanes(array, index):
                kind, values = array
                for c in range(0, WIDTH, _LANES):
                    place = builder.add(index, index.type(c))
                    yield Values(context, builder, kind, values, place, _LANES)

            def number(array, index):
                kind, values = array
                return read_item(context, builder, kind, values, index)

            begin = [part.load() for part in lanes(start, column)]
            # The compiler keeps them in registers all along.
            sums = [
                [cgutils.alloca_once_value(builder, value) for value in begin]
                for _ in range(n_rows)
            ]
            row_numbers = [builder.add(first, first.type(r)) for r in range(n_rows)]
            # A panel is as many columns times its depth.
            panel_at = builder.mul(column, depth)
            with cgutils.for_range(builder, depth) as loop:
                step = builder.mul(loop.index, depth.type(WIDTH))
                parts = list(lanes(panel, builder.add(panel_at, step)))
                columns = [builder.bitcast(part.load(), numbers) for part in parts]
                for row, own in zip(row_numbers, sums, strict=True):
                    place = builder.add(builder.mul(row, depth), loop.index)
                    four = parts[0].spread(number(rows, place))
                    four = builder.bitcast(four, numbers)
                    for total, part in zip(own, columns, strict=True):
                        new = builder.call(dot, [builder.load(total), four, part])
                        builder.store(new, total)
            scales = [part.load() for part in lanes(of_column, column)]
            for r, (row, own) in enumerate(zip(row_numbers, sums, strict=True)):
                row_at = builder.add(at, builder.mul(width, width.type(r)))
                scale = number(of_row, row)
                targets = lanes(out, builder.add(row_at, column))
                for target, total, other in zip(targets, own, scales, strict=True):
                    value = builder.sitofp(builder.load(total), target.vector)
                    both = builder.fmul(target.spread(scale), other)
                    target.store(builder.fmul(value, both))
            return context.get_dummy_value()

        return signature, generate

    return function


multiply_rows = _make_multiply(HEIGHT)
multiply_row = _make_multiply(1)
