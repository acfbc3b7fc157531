"""Products of matrices of eight-bit integers, for compiled loops.

They use the instruction of AVX-512 VNNI that multiplies 64 unsigned integers by 64
signed ones and adds every four products to a sum of 32 bits. If the processor lacks it
(`is_supported`), no function of this module may be compiled. This module imports numba.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from skfeat.kernels.simd._vectors import Values, check_flat, operation, read_item
from skfeat.kernels.simd._versions import dot_operands, processor_features

# Columns and rows that are multiplied at once: their sums, with the operands, fill the
# processor's registers.
WIDTH, HEIGHT = 64, 6

_LANES = 16
_SUMS = ir.VectorType(ir.IntType(32), _LANES)
_DOT = "llvm.x86.avx512.vpdpbusd.512"


def is_supported() -> bool:
    """Tell whether the processor that numba compiles for has the instruction."""
    return "+avx512vnni" in processor_features()


def _make_multiply(n_rows):
    """Make the operation of :func:`multiply_rows` for `n_rows` rows."""

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
            The products of row r with the panel are written from
            ``out[at + r * width + j]`` on, each times the scales of its row and column.
        rows : flat array of int32
            Each element holds four unsigned numbers of a row; a row has `depth`
            elements.
        of_row, of_column : arrays of float32
            The scale of each row and of each column.
        panel : flat array of int32
            Each element holds four signed numbers of a column. The first four of all
            `WIDTH` columns come first, then the next four. Panels follow each other.
        start : array of int32
            The initial value of each column's sum.
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
            # The compiler keeps the sums in registers.
            sums = [
                [cgutils.alloca_once_value(builder, value) for value in begin]
                for _ in range(n_rows)
            ]
            row_numbers = [builder.add(first, first.type(r)) for r in range(n_rows)]
            # A panel has `depth` elements for each of its columns.
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
