"""The options that numba compiles loops with.

Loops run on numpy arrays, release the GIL and work on a range ``first`` to ``last`` of
rows or features, so that the caller divides work among threads; no result depends on
how it is divided. This module imports numba.
"""

from __future__ import annotations

from typing import Any

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
