"""Whether compiled loops can run: numba stays optional."""

from __future__ import annotations

from functools import cache
from importlib import import_module


@cache
def has_numba() -> bool:
    """Tell whether numba can be imported, which takes half a second if it can."""
    try:
        import_module("numba")
    except ImportError:
        return False
    return True
