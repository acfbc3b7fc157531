"""Products of eight-bit integers that select the largest codes.

Compiled only for processors that have the instruction: see
`skfeat.kernels.simd._integers.is_supported`.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _loops_int8 as loops
from skfeat.kernels.sae._approximation import Approximation

# Rows that a thread multiplies as integers at a time: so many that the encoder is not
# read too often, and a cache holds their codes until these are selected from.
_INTEGER_ROWS = 192

# Rows that the sizes of columns are summed over at a time.
_BLOCK = 256

# Sums of 32 bits hold the products of so many columns.
MOST_COLUMNS = 2**17


def by_integers(centred, encoder, bias, buffers: Buffers, team: Team) -> Approximation:
    """Round both factors to integers of eight bits, with a scale for each row.

    Columns are balanced first: one that is large in the rows alone would leave the
    others little of the scale, so it is made smaller there and larger in the encoder
    (as Xiao et al., "SmoothQuant", 2023, do). How large a column is, is measured in
    parts of each row's own length: one row with an outlier spoils no other.
    """
    (n, d), m = centred.shape, len(encoder)
    # Four numbers at a time, and panels of so many features.
    depth, n_panels = -(-d // 4), -(-m // loops.WIDTH)
    width = n_panels * loops.WIDTH

    balance = _balance(_shares(centred, team), _shares(encoder, team))
    rows = buffers.matrix("integers", n, 4 * depth, np.uint8)
    row_scale, inverse = buffers.vector("row scale", n, np.float32), 1 / balance
    team.run(
        lambda first, last: loops.round_rows(
            first, last, centred, inverse, rows, row_scale
        ),
        n,
        n_elements=4 * centred.size,
    )
    panels = loops.Panels(
        buffers.vector("panels", depth * width, np.int32).reshape(
            n_panels, depth, loops.WIDTH
        ),
        buffers.vector("start", width, np.int32),
        buffers.vector("scale", width, np.float32),
    )
    team.run(
        lambda first, last: loops.round_panels(first, last, encoder, balance, panels),
        n_panels,
        n_elements=4 * encoder.size,
    )
    pre, fours = buffers.matrix("pre", n, width, np.float32), rows.view(np.int32)
    filled = buffers.vector("filled bias", width, np.float32)
    filled[:m], filled[m:] = bias, -np.inf

    def multiply(first, last):
        loops.multiply(first, last, fours, row_scale, panels, pre)

    return Approximation(pre, filled, multiply, _INTEGER_ROWS, 2.0**-4)


def _shares(matrix: np.ndarray, team: Team) -> np.ndarray:
    """Return which share each column has of the square of a row, on average."""
    n_blocks = -(-len(matrix) // _BLOCK)
    out = np.empty((n_blocks, matrix.shape[1]), np.float32)
    team.run(
        lambda first, last: loops.add_shares(first, last, matrix, _BLOCK, out),
        n_blocks,
        n_elements=2 * matrix.size,
    )
    return out.sum(axis=0) / len(matrix)


def _balance(left, right):
    """Return what makes columns with these shares of squares as large as each other."""
    with np.errstate(all="ignore"):
        ratio = np.sqrt(np.sqrt(left / right))
    return np.where((ratio > 0) & np.isfinite(ratio), ratio, np.float32(1))
