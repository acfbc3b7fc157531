"""Products with an encoder that are good enough to tell which codes are the largest.

What they select is computed again in full precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.kernels._memory import Workspace
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _bfloat16
from skfeat.kernels.sae._bfloat16 import Rounded

# Does something to rows `first` to `last`.
Step = Callable[[int, int], None]

# Rows that a thread multiplies as integers at a time: so many that the encoder is not
# read too often, whose codes stay in a cache until they are looked through.
_TILE = 192

# Rows that the sizes of columns are summed over at a time.
_BLOCK = 256

# Sums of 32 bits hold the products of so many columns.
_MOST_COLUMNS = 2**17


class Approximation(NamedTuple):
    """Pre-activations of a batch, still to be computed.

    Attributes
    ----------
    pre : ndarray of shape (n, width)
        Of float32, or of uint16: the bits of bfloat16. At least as wide as there are
        features.
    bias : ndarray of shape (width,)
        Is to be added; minus infinity for columns without a feature.
    multiply : callable
        Writes rows of `pre`; torch's threads are the caller's to limit.
    tile : int
        How many at a time.
    slack : float
        As a share of a bound: how far below it numbers may be that are above it.
    """

    pre: np.ndarray
    bias: np.ndarray
    multiply: Step
    tile: int
    slack: float


def by_bfloat16(centred, encoder, bias, space: Workspace, team: Team) -> Approximation:
    """Round both factors to bfloat16, and the product; torch multiplies."""
    left = Rounded.of(centred, space, "centred", team).tensor
    right = Rounded.of(encoder, space, "encoder", team).tensor.T
    out = Rounded.room(space, "pre", len(centred), len(encoder))

    def multiply(first, last):
        part = slice(first, last)
        torch.mm(left[part], right, out=out.tensor[part])

    return Approximation(out.bits, bias, multiply, _bfloat16.TILE, 2.0**-6)


def by_integers(centred, encoder, bias, space: Workspace, team: Team) -> Approximation:
    """Round both factors to integers of eight bits, with a scale for each row.

    Columns are balanced first: one that is large in the rows alone would leave the
    others little of the scale, so it is made smaller there and larger in the encoder
    (as Xiao et al., "SmoothQuant", 2023, do). How large a column is, each row says in
    parts of its own length: one row with an outlier spoils no other.
    """
    loops: Any = load("sae._loops_int8")
    (n, d), m = centred.shape, len(encoder)
    # Four numbers at a time, and panels of so many features.
    depth, n_panels = -(-d // 4), -(-m // loops.WIDTH)
    width = n_panels * loops.WIDTH
    balance = _balance(*(_shares(part, loops, team) for part in (centred, encoder)))

    rows = space.room("integers", n, 4 * depth, np.uint8)
    row_scale = space.line("row scale", n, np.float32)
    team.run(
        loops.round_rows,
        n,
        *(centred, 1 / balance, rows, row_scale),
        n_elements=4 * centred.size,
    )

    panels = space.line("panels", depth * width, np.int32)
    panels = panels.reshape(n_panels, depth, loops.WIDTH)
    start = space.line("start", width, np.int32)
    scale = space.line("scale", width, np.float32)
    team.run(
        loops.round_panels,
        n_panels,
        *(encoder, balance, panels, start, scale),
        n_elements=4 * encoder.size,
    )

    pre = space.room("pre", n, width, np.float32)
    factors = rows.view(np.int32), row_scale, panels, start, scale
    filled = space.line("filled bias", width, np.float32)
    filled[:m], filled[m:] = bias, -np.inf
    return Approximation(
        *(pre, filled),
        lambda first, last: loops.multiply(first, last, *factors, pre),
        *(_TILE, 2.0**-4),
    )


def _shares(matrix, loops, team):
    """Return which share each column has of the square of a row, on average."""
    n_blocks = -(-len(matrix) // _BLOCK)
    shares = np.empty((n_blocks, matrix.shape[1]), np.float32)
    args = matrix, _BLOCK, shares
    team.run(loops.add_shares, n_blocks, *args, n_elements=2 * matrix.size)
    return shares.sum(axis=0) / len(matrix)


def _balance(left, right):
    """Return what makes columns with these shares of squares as large as each other."""
    with np.errstate(all="ignore"):
        ratio = np.sqrt(np.sqrt(left / right))
    return np.where((ratio > 0) & np.isfinite(ratio), ratio, np.float32(1))


Approximate = Callable[..., Approximation]


def approximate_in(precision: str, n_columns: int = 1) -> Approximate | None:
    """Return how to approximate, or None where one multiplies as exactly as one adds.

    Integers are None on processors without an instruction for them, and of more
    columns than sums of 32 bits hold.
    """
    if precision == "bfloat16":
        return by_bfloat16
    if precision != "int8" or n_columns > _MOST_COLUMNS:
        return None
    loops: Any = load("simd._integers")
    return by_integers if loops is not None and loops.is_supported() else None
