"""The folds of a cross-validation, which users may give as lists of rows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from skfeat.utils._checks import described
from skfeat.utils._sklearn import InvalidParameterError


def are_folds(cv: Any) -> bool:
    """Tell whether `cv` lists the rows of each fold."""
    return not (cv is None or isinstance(cv, Integral) or hasattr(cv, "split"))


def check_folds(
    name: str, folds: Any, n_rows: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return folds as pairs of arrays: rows to fit, and rows to hold out.

    The parameter that they were given by has this `name` in the message.

    Raises
    ------
    InvalidParameterError
        If there is none, or one is no such pair of rows that exist.
    """
    several = [_as_fold(fold, n_rows) for fold in folds]
    checked = [fold for fold in several if fold is not None]
    if not checked or len(checked) < len(several):
        raise InvalidParameterError(
            f"{name} must give at least one pair (rows to fit, rows to hold out) of "
            f"indices below {n_rows}, the number of rows, or of masks of {n_rows} "
            f"rows. Got {described(folds)} instead."
        )
    return checked


def _as_fold(fold: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a fold as arrays of indices or masks, or None if it is no such pair."""
    try:
        train, test = (np.asarray(part) for part in fold)
    except (TypeError, ValueError):
        return None
    parts = []
    for part in (train, test):
        if part.size == 0:
            part = part.astype(np.intp)
        is_mask = part.dtype == bool and part.shape == (n_rows,)
        is_index = part.ndim == 1 and part.dtype.kind in "iu"
        low, high = (part.min(initial=0), part.max(initial=0)) if is_index else (0, 0)
        if not is_mask and not (is_index and -n_rows <= low <= high < n_rows):
            return None
        parts.append(part)
    return parts[0], parts[1]
