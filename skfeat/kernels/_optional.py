"""Whether compiled loops can run: numba stays optional."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType


@cache
def has_numba() -> bool:
    """Tell whether numba can be imported, which takes half a second if it can."""
    try:
        import_module("numba")
    except ImportError:
        return False
    return True


@cache
def load(name: str) -> ModuleType | None:
    """Return a module of this package, or None where numba is not installed."""
    try:
        return import_module(f"skfeat.kernels.{name}")
    except ImportError:
        return None
