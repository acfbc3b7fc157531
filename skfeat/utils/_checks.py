"""Checks of single arguments: whole numbers, flags and paths."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np


def is_int(value: Any) -> bool:
    """Tell whether `value` is a whole number, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def check_int(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """Return `value` as an int, or say that it must be one."""
    if not is_int(value) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an int {allowed}. Got {value!r} instead.")
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or say that it must be one."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be a bool. Got {value!r} instead.")
    return bool(value)


def check_path(name: str, value: Any) -> Path:
    """Return `value` as a path, or say that it must be one."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{name} must be a path, a str or such. Got {value!r} instead.")
    return Path(os.fsdecode(value))


def check_verbose(value: Any) -> int:
    """Return `verbose` as an int, or raise ValueError unless it is a level or a bool."""
    if not isinstance(value, Integral | np.bool_) or value < 0:
        raise ValueError(
            f"verbose must be a bool or an int of at least 0. Got {value!r} instead."
        )
    return int(value)
