"""Encoding rows into sparse codes with numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from skfeat.activations import Activation

# Pre-activations of one block of rows: large enough for the matrix product to run at
# full speed, small enough to stay near the processor.
_BLOCK_ELEMENTS = 2**22


def encode(
    X: np.ndarray,
    coef: np.ndarray | sparse.csr_array,
    intercept: np.ndarray,
    bias: np.ndarray,
    activation: Activation,
    *,
    sparse_output: bool = False,
) -> np.ndarray | sparse.csr_array:
    """Compute ``activation((X - bias) @ coef.T + intercept)`` block by block.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    coef : ndarray or csr_array of shape (m, d)
    intercept : ndarray of shape (m,)
    bias : ndarray of shape (d,)
    activation : ReLU, TopK or JumpReLU
    sparse_output : bool, default=False
        Return CSR, without ever holding all codes densely.

    Returns
    -------
    ndarray or csr_array of shape (n, m), of the dtype of X
    """
    coef, intercept, bias = (
        array.astype(X.dtype, copy=False)
        if sparse.issparse(array)
        else np.asarray(array, dtype=X.dtype)
        for array in (coef, intercept, bias)
    )
    n_rows, n_components = len(X), len(intercept)
    block = max(1, _BLOCK_ELEMENTS // n_components)
    starts = range(0, n_rows, block)

    def codes_of(start):
        pre = (X[start : start + block] - bias) @ coef.T
        pre += intercept
        return activation.encode(pre)

    if sparse_output:
        return sparse.vstack(
            [sparse.csr_array(codes_of(start)) for start in starts], format="csr"
        )
    if n_rows <= block:
        return codes_of(0)
    codes = np.empty((n_rows, n_components), dtype=X.dtype)
    for start in starts:
        codes[start : start + block] = codes_of(start)
    return codes
