"""Modules of compiled loops, which need numba; that stays optional."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType


@cache
def load(name: str) -> ModuleType | None:
    """Return a module of this package, or None where numba is not installed."""
    try:
        return import_module(f"skfeat.kernels.{name}")
    except ImportError:
        return None
