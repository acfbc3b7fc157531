"""Checks that the functions of this package share."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from scipy import sparse

from skfeat.utils._arrays import accept_tensor


def check_int(name, value, least=0, most=None) -> int:
    """Return `value` as an int, or say that it must be one."""
    is_int = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if not is_int or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an int {allowed}. Got {value!r} instead.")
    return int(value)


def check_column(name, value, n_rows=None, kind="iu") -> np.ndarray:
    """Return `value` as an array (n_rows,) of ints, or of numbers with kind "iuf"."""
    array = np.asarray(accept_tensor(value, name))
    what = "ints" if kind == "iu" else "numbers"
    if array.ndim != 1 or array.dtype.kind not in kind:
        raise ValueError(
            f"{name} must be a vector of {what}, one a row. Got an array of "
            f"{array.dtype} of shape {array.shape} instead."
        )
    if n_rows is not None and len(array) != n_rows:
        raise ValueError(
            f"{name} must have {n_rows} entries. Got {len(array)} instead."
        )
    return array


def check_codes(name, value, n_rows=None):
    """Return activations as a finite ndarray or CSC array of two dimensions."""
    value = accept_tensor(value, name)
    codes = sparse.csc_array(value) if sparse.issparse(value) else np.asarray(value)
    if codes.ndim != 2 or codes.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be an array or a sparse matrix of numbers of two dimensions. "
            f"Got {codes.dtype} of shape {codes.shape} instead."
        )
    if n_rows is not None and codes.shape[0] != n_rows:
        raise ValueError(
            f"{name} must have {n_rows} rows. Got {codes.shape[0]} instead."
        )
    if not np.isfinite(codes.data if sparse.issparse(codes) else codes).all():
        raise ValueError(f"{name} must be finite. Got NaN or infinity in it instead.")
    return codes
