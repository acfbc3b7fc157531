"""The options that numba compiles loops with, and what all of them may call.

Loops run on numpy arrays, release the GIL and work on a range ``first`` to ``last`` of
rows or features, so that the caller divides work among threads; no result depends on
how it is divided.

Some libraries (nnsight is one) replace functions of the module `math`. Numba looks
those up when it compiles, and fails on the replacements: so loops call nothing that
needs `math`, such as ``abs``, ``np.arange`` and ``np.argsort``, for which there are
functions here. This module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

from skfeat.kernels.simd._library import SelfContained
from skfeat.utils._interrupts import interrupts_held

_Loop = TypeVar("_Loop", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
    # Sums may be reassociated, which vectorises them; NaN and infinity keep their
    # meaning, because divergence is recognised by them.
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


def compile_loop(function: _Loop) -> _Loop:
    """Compile a function, once for each kind of arguments; the machine code is cached.

    To a type checker it stays the function that it was: calls are checked. Ctrl-C waits
    until a loop is compiled: LLVM calls functions of numba and llvmlite, from which no
    exception comes back, so that it would be lost or leave half of the code behind.
    """
    loop: Any = njit(cache=True, pipeline_class=SelfContained, **_OPTIONS)(function)
    loop.compile = interrupts_held()(loop.compile)
    return loop


def compile_inline(function: _Loop) -> _Loop:
    """Compile a function into those that call it.

    For what is done to every row: a call would take as long.
    """
    return njit(inline="always", **_OPTIONS)(function)


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
