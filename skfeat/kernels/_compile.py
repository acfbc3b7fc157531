"""The options that numba compiles loops with, and what all of them may call.

Loops run on numpy arrays, release the GIL and work on a range ``first`` to ``last`` of
rows or features, so that the caller divides work among threads; no result depends on
how it is divided.

Some libraries (nnsight is one) put functions of their own in the place of those of the
module `math`. Numba looks those up when it compiles, and does not know them: so loops
call nothing that needs `math`, such as ``abs``, ``np.arange`` and ``np.argsort``, for
which there are functions here. This module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
    # Sums may be reassociated, which vectorises them; NaN and infinity keep their
    # meaning, because divergence is recognised by them.
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}

compile_loop = njit(cache=True, **_OPTIONS)

# For what is done to every row: a call would take as long.
compile_inline = njit(inline="always", **_OPTIONS)


@compile_inline
def magnitude(value):
    """Return the absolute value."""
    return value if value >= 0 else -value


@compile_loop
def integers_below(n):
    """Return 0 to `n` - 1."""
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = i
    return out
