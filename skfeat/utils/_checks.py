"""Checks of single arguments.

Each takes the name and the value of a parameter, and raises one sentence that has both
and says what is allowed: "k must be an int of at least 1. Got 0 instead."
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Set
from numbers import Integral, Real
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import numpy as np
from scipy import sparse

# Characters of a value that a message shows.
_LONGEST = 200


def value_error(name: str, allowed: str, value: Any) -> ValueError:
    """Return the error of a parameter that has another value than is allowed."""
    return ValueError(f"{name} must be {allowed}. Got {described(value)} instead.")


def type_error(name: str, allowed: str, value: Any) -> TypeError:
    """Return the error of a parameter that is of another kind than is allowed."""
    return TypeError(f"{name} must be {allowed}. Got {described(value)} instead.")


def described(value: Any) -> str:
    """Write a value down, in no more than a line."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {tuple(shape)}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def listed(words: Iterable[str], last: str = "and") -> str:
    """Join words as a sentence does: "a", "a and b", "a, b and c"."""
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end


def is_int(value: Any) -> bool:
    """Tell whether `value` is a whole number, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def check_int(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """Return `value` as an int, or say that it must be one."""
    if not is_int(value) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an int {allowed}. Got {value!r} instead.")
    return int(value)


def check_int_or_none(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is None or an int of at least 1."""
    if value is not None and (not is_int(value) or value < 1):
        raise value_error(name, "None or an int of at least 1", value)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or say that it must be one."""
    if not isinstance(value, bool | np.bool_):
        raise value_error(name, "a bool", value)
    return bool(value)


def check_path(name: str, value: Any) -> Path:
    """Return `value` as a path, or say that it must be one."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{name} must be a path, a str or such. Got {value!r} instead.")
    return Path(os.fsdecode(value))


def check_verbose(value: Any) -> int:
    """Return `verbose` as an int, or raise ValueError unless it is an int or a bool."""
    if not isinstance(value, Integral | np.bool_) or value < 0:
        raise ValueError(
            f"verbose must be a bool or an int of at least 0. Got {value!r} instead."
        )
    return int(value)


def check_option(name: str, value: Any, options: Collection[str]) -> str:
    """Return `value`, or raise ValueError unless it is one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise value_error(name, f"one of {', '.join(map(repr, options))}", value)
    return value


def check_level(
    name: str, value: Any, *, positive: bool = False, optional: bool = True
) -> float | None:
    """Return a magnitude, such as a threshold, as a float; None stays None.

    Raises
    ------
    ValueError
        Unless it is a finite number, above zero or, without `positive`, at least zero;
        or None, if it is `optional`.
    """
    if value is None and optional:
        return None
    if (
        not is_real(value)
        or not np.isfinite(value)
        or value < 0
        or (positive and not value)
    ):
        sign = "positive" if positive else "non-negative"
        allowed = f"a finite {sign} number{' or None' if optional else ''}"
        raise value_error(name, allowed, value)
    return float(value)


def is_real(value: Any) -> bool:
    """Tell whether `value` is a real number, NaN and infinity included, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def check_finite_number(name: str, value: Any) -> float:
    """Return `value` as a float, or raise ValueError unless it is a finite number."""
    if not is_real(value) or not np.isfinite(float(value)):
        raise value_error(name, "a finite number", value)
    return float(value)


def check_callable(name: str, value: Any) -> None:
    """Raise TypeError unless `value` can be called."""
    if not callable(value):
        raise type_error(name, "a function", value)


def check_sequence(name: str, things: str, value: Any) -> list[Any]:
    """Return the items of a sequence as a list, or raise TypeError if it is none."""
    if isinstance(value, str | bytes | Mapping) or not np.iterable(value):
        raise type_error(name, f"a sequence of {things}", value)
    return list(value)


def image_sides(image_shape: Any, n_values: int) -> tuple[int, int] | None:
    """Return (height, width) as two ints whose product is `n_values`, else None."""
    sides = np.ravel(image_shape).tolist()
    are_ints = all(type(side) is int and side > 0 for side in sides)
    if len(sides) != 2 or not are_ints or sides[0] * sides[1] != n_values:
        return None
    return sides[0], sides[1]


def check_nonnegative(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0."""
    if not is_real(value) or not 0 <= float(value) < np.inf:
        raise value_error(name, "a finite number of at least 0", value)


def check_names(name: str, names: Any, n: int, things: str = "inputs") -> None:
    """Raise ValueError unless `names` is None or a sequence of `n` strings."""
    if names is None:
        return
    try:
        # A set has no order that could name columns, and a string is no list of names.
        items = None if isinstance(names, str | Mapping | Set) else list(names)
    except TypeError:
        items = None
    if items is None or not all(isinstance(item, str) for item in items):
        raise ValueError(
            f"{name} must be None or a sequence of {n} strings. Got "
            f"{short_repr(names)} instead."
        )
    if len(items) != n:
        raise ValueError(
            f"{name} must name the {n} {things}. Got {len(items)} names instead."
        )


def as_plain(name: str, value: Any) -> np.ndarray:
    """Return an array of any library as numpy's, one of torch without its history.

    Raises
    ------
    TypeError
        If numpy cannot hold it, as lists of several lengths and bfloat16.
    """
    try:
        # A tensor is known by this method, as torch is not imported here.
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise TypeError(
            f"{name} must be what numpy can make an array of: {reason}."
        ) from error


def check_matrix(name: str, value: Any) -> np.ndarray | sparse.csr_array:
    """Return a finite matrix as an ndarray, or as a CSR array without stored zeros.

    Raises
    ------
    TypeError
        If numpy can make no array of it.
    ValueError
        Unless it is two-dimensional, not empty, and holds finite numbers.
    """
    allowed = "a non-empty 2-D array or sparse matrix of finite numbers"
    matrix: Any
    if sparse.issparse(value):
        matrix = sparse.csr_array(value, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        is_finite = np.isfinite(matrix.data).all()
    else:
        matrix = as_plain(name, value)
        is_finite = matrix.dtype.kind in "biuf" and np.isfinite(matrix).all()
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise value_error(name, allowed, matrix if matrix.ndim else value)
    if not is_finite:
        raise ValueError(
            f"{name} must be {allowed}. Got NaN, infinity or something that is not a "
            "number in it instead."
        )
    return matrix
