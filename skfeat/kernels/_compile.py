"""The options that numba compiles loops with.

Loops run on numpy arrays, release the GIL and work on a range ``first`` to ``last`` of
rows or features, so that the caller divides work among threads; no result depends on
how it is divided. This module imports numba.
"""

from __future__ import annotations

from numba import njit

# Sums may be reassociated, which vectorises them; NaN and infinity keep their meaning,
# because divergence is recognised by them.
compile_loop = njit(
    nogil=True,
    cache=True,
    boundscheck=False,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
)
