"""Products of matrices of eight-bit integers, for compiled loops.

They are made of the instruction of AVX-512 VNNI that multiplies 64 unsigned integers
by 64 signed ones and adds each four products to a sum of 32 bits. Where the processor
lacks it (`is_supported`), nothing here may be compiled. This module imports numba.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.codegen import get_host_cpu_features

from skfeat.kernels._vectors import Values, check_flat, operation, place_of

# Columns that are multiplied at once, and rows: their sums, with what they are made of,
# take all of the processor's registers.
WIDTH, HEIGHT = 64, 6

_LANES = 16
_INTEGER, _INDEX = ir.IntType(32), ir.IntType(64)
_SUMS = ir.VectorType(_INTEGER, _LANES)
_DOT = "llvm.x86.avx512.vpdpbusd.512"


def is_supported() -> bool:
    """Tell whether the processor that numba compiles for has the instruction."""
    features = getattr(config, "CPU_FEATURES", None)
    if features is None:
        features = get_host_cpu_features()
    return "+avx512vnni" in features.split(",")


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
            dot = _declare_dot(builder.module)

            def add(a, b):
                return builder.add(a, b)

            def vector(array, index):
                kind, values = array
                return Values(context, builder, kind, values, index, _LANES)

            def lanes(array, index):
                places = (add(index, _INDEX(c)) for c in range(0, WIDTH, _LANES))
                return [vector(array, place) for place in places]

            row_starts = [
                builder.mul(add(first, _INDEX(r)), depth) for r in range(n_rows)
            ]
            begin = [part.load() for part in lanes(start, column)]
            before = builder.block
            loop = builder.append_basic_block("loop")
            after = builder.append_basic_block("after")
            builder.branch(loop)

            builder.position_at_end(loop)
            t = builder.phi(_INDEX)
            sums = [[builder.phi(_SUMS) for _ in begin] for _ in row_starts]
            # A panel is as many columns times its depth.
            in_panel = add(builder.mul(column, depth), builder.mul(t, _INDEX(WIDTH)))
            columns = [part.load() for part in lanes(panel, in_panel)]
            following = add(t, _INDEX(1))
            t.add_incoming(_INDEX(0), before)
            t.add_incoming(following, loop)
            new = []
            for row_start, own in zip(row_starts, sums, strict=True):
                place = place_of(context, builder, *rows, add(row_start, t))
                four = builder.load(place, align=4)
                row = vector(rows, _INDEX(0)).spread(four)
                new.append(
                    [
                        builder.call(dot, [total, row, part])
                        for total, part in zip(own, columns, strict=True)
                    ]
                )
                for total, first_value, value in zip(own, begin, new[-1], strict=True):
                    total.add_incoming(first_value, before)
                    total.add_incoming(value, loop)
            more = builder.icmp_signed("<", following, depth)
            builder.cbranch(more, loop, after)

            builder.position_at_end(after)
            scales = [part.load() for part in lanes(of_column, column)]
            for r, own in enumerate(new):
                place = place_of(context, builder, *of_row, add(first, _INDEX(r)))
                scale = builder.load(place)
                row_at = add(at, builder.mul(width, _INDEX(r)))
                targets = lanes(out, add(row_at, column))
                for target, total, of in zip(targets, own, scales, strict=True):
                    value = builder.sitofp(total, target.vector)
                    both = builder.fmul(target.spread(scale), of)
                    target.store(builder.fmul(value, both))
            return context.get_dummy_value()

        return signature, generate

    return function


def _declare_dot(module):
    if _DOT in module.globals:
        return module.globals[_DOT]
    return ir.Function(module, ir.FunctionType(_SUMS, [_SUMS] * 3), _DOT)


multiply_rows = _make_multiply(HEIGHT)
multiply_row = _make_multiply(1)
