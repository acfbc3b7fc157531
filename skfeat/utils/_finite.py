"""Whether numbers are finite, and the error of results that are not.

A result of finite rows must be finite, or an error: infinity and NaN, of products that
have left the range of their dtype, may vanish in the next rectifier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse


def is_moderate(values: np.ndarray) -> bool:
    """Tell whether all numbers of a float array are finite, and far from infinity.

    Their squares are: those of float32 are below 1e19, so that no layer of ordinary
    weights makes them infinite. Of a few numbers it takes half a microsecond.
    """
    # The one product of numpy that overflows without a warning.
    return np.vdot(values, values) < np.inf


def all_finite(values: np.ndarray) -> bool:
    """Tell whether all numbers of a float array are finite."""
    return bool(is_moderate(values) or np.isfinite(values).all())


def cast_rows(rows: np.ndarray, dtype: np.dtype, name: str = "X") -> np.ndarray:
    """Cast finite rows to the dtype that a model computes in.

    Raises
    ------
    ValueError
        If a value is beyond its range.
    """
    with np.errstate(over="ignore"):
        cast = rows.astype(dtype, copy=False)
    if cast is not rows and not all_finite(cast):
        largest = float(np.abs(rows).max())
        raise ValueError(
            f"{name} has values up to {largest:.3g}, beyond {np.finfo(dtype).max:.2g}, "
            f"the largest number of {cast.dtype}, in which the model computes; rescale "
            f"{name}."
        )
    return cast


def check_finite_result(what: str, result: Any, X: Any, name: str = "X") -> None:
    """Refuse a result that has left the range of its dtype.

    Parameters
    ----------
    what : str
        What has been computed, for the message: "The codes".
    result : ndarray or sparse array
        Of a float dtype.
    X : ndarray or sparse array
        The finite rows that it was computed from.
    name : str, default="X"
        What these are called.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    if all_finite(result.data if sparse.issparse(result) else result):
        return
    values = X.data if sparse.issparse(X) else np.asarray(X)
    largest = float(max(values.max(initial=0), -values.min(initial=0)))
    remedy = f"rescale {name}"
    if result.dtype != np.float64:
        # Estimators compute in the dtype of X, an unwrapper in that of its model.
        remedy += ", or compute in float64"
    raise ValueError(
        f"{what} would be beyond {np.finfo(result.dtype).max:.2g}, the largest number "
        f"of {result.dtype}: {name} has values up to {largest:.3g}; {remedy}."
    )
