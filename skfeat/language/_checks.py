"""Checks that the functions of this package share."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skfeat.capture import Capture
from skfeat.utils._arrays import accept_tensor


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


def check_places(sequence, position) -> np.ndarray:
    """Return the order of tokens in their sequences, in which each has its own place.

    Raises
    ------
    ValueError
        If two are in the same place.
    """
    order = np.lexsort((position, sequence))
    sequence, position = sequence[order], position[order]
    twice = np.flatnonzero((np.diff(sequence) == 0) & (np.diff(position) == 0))
    if twice.size:
        raise ValueError(
            "sequence and position must give each token a place of its own. Got "
            f"position {position[twice[0]]} of sequence {sequence[twice[0]]} twice."
        )
    return order


def check_capture(value) -> None:
    """Raise unless `value` is a capture with tokens."""
    if not isinstance(value, Capture):
        raise TypeError(
            f"capture must be a skfeat.capture.Capture. Got {value!r} instead."
        )
    if value.token_ids is None:
        raise ValueError("capture must hold token ids. Got one without them instead.")


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
