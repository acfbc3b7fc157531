"""Checks of captured tokens and of activations that belong to them, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from skfeat.capture._capture import Capture
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._checks import type_error


def check_vector(
    name: str, value: Any, n_rows: int | None = None, kinds: str = "iu"
) -> np.ndarray:
    """Return `value` as an array (n_rows,) of ints, or of numbers with "iuf"."""
    array = np.asarray(accept_tensor(value, name))
    if array.ndim != 1 or array.dtype.kind not in kinds:
        numbers = "ints" if kinds == "iu" else "numbers"
        raise ValueError(
            f"{name} must be a vector of {numbers}, one for each row. Got an array of "
            f"{array.dtype} of shape {array.shape} instead."
        )
    if n_rows is not None and len(array) != n_rows:
        raise ValueError(
            f"{name} must have {n_rows} entries, one for each row. Got {len(array)} "
            "instead."
        )
    return array


def order_of_tokens(sequence: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return the order that sorts tokens by sequence, then by position.

    Raises
    ------
    ValueError
        If two tokens have the same position in the same sequence.
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


def check_capture(value: Any) -> None:
    """Raise unless `value` is a capture with tokens."""
    if not isinstance(value, Capture):
        raise type_error("capture", "a skfeat.capture.Capture", value)
    if value.token_ids is None:
        raise ValueError("capture must hold token ids. Got one without them instead.")


def check_codes(
    name: str, value: Any, n_rows: int | None = None
) -> np.ndarray | sparse.csc_array:
    """Return activations as a finite ndarray or CSC array of two dimensions."""
    value = accept_tensor(value, name)
    codes = sparse.csc_array(value) if sparse.issparse(value) else np.asarray(value)
    if codes.ndim != 2 or codes.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be a 2-D array or sparse matrix of numbers. Got "
            f"{codes.dtype} of shape {codes.shape} instead."
        )
    if n_rows is not None and codes.shape[0] != n_rows:
        raise ValueError(
            f"{name} must have {n_rows} rows. Got {codes.shape[0]} instead."
        )
    if not np.isfinite(codes.data if sparse.issparse(codes) else codes).all():
        raise ValueError(f"{name} must be finite. Got NaN or infinity in it instead.")
    return codes
