"""The options that numba compiles loops with.

Loops run on numpy arrays, release the GIL and work on a range ``first`` to ``last`` of
rows or features, so that the caller divides work among threads; no result depends on
how it is divided. This module imports numba.
"""

from __future__ import annotations

from typing import Any

from numba import njit

# Sums may be reassociated, which vectorises them; NaN and infinity keep their meaning,
# because divergence is recognised by them.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}

compile_loop = njit(**_OPTIONS)

# For what is called once a row: handing arrays over takes as long as the work.
compile_inline = njit(forceinline=True, **_OPTIONS)
