"""Encoding rows into sparse codes with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from skfeat.activations import Activation

# Pre-activations of one block of rows: large enough for the matrix product to run at
# full speed, small enough to stay near the processor.
_BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True, eq=False)
class EncoderWeights:
    """An encoder: the codes are ``activation((X - bias) @ coef.T + intercept)``.

    Parameters
    ----------
    coef : ndarray or csr_array of shape (m, d)
    intercept : ndarray of shape (m,)
    bias : ndarray of shape (d,)
        It is subtracted from the rows.
    activation : ReLU, TopK or JumpReLU
    """

    coef: np.ndarray | sparse.csr_array
    intercept: np.ndarray
    bias: np.ndarray
    activation: Activation

    @classmethod
    def from_autoencoder(cls, autoencoder: Any) -> EncoderWeights:
        """Return the weights of a fitted autoencoder that holds NumPy arrays."""
        return cls(
            coef=autoencoder.encoder_coef_,
            intercept=autoencoder.encoder_intercept_,
            bias=autoencoder.intercept_,
            activation=autoencoder.make_activation(),
        )

    def encode(
        self, X: np.ndarray, *, sparse_output: bool = False
    ) -> np.ndarray | sparse.csr_array:
        """Compute the codes block by block.

        Parameters
        ----------
        X : ndarray of shape (n, d)
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
            for array in (self.coef, self.intercept, self.bias)
        )
        n_rows, n_components = len(X), len(intercept)
        block = max(1, _BLOCK_ELEMENTS // n_components)
        starts = range(0, n_rows, block)

        def encode_block(start: int) -> np.ndarray:
            pre = (X[start : start + block] - bias) @ coef.T
            pre += intercept
            return self.activation.encode(pre)

        if sparse_output:
            return sparse.vstack(
                [sparse.csr_array(encode_block(start)) for start in starts],
                format="csr",
            )
        if n_rows <= block:
            return encode_block(0)
        codes = np.empty((n_rows, n_components), dtype=X.dtype)
        for start in starts:
            codes[start : start + block] = encode_block(start)
        return codes
