"""A fitted SparseAutoencoder from the weights of another library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skfeat.autoencoder._coder import SparseCoder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder

_BLOCK_ROWS = 1024

# Largest relative difference of norms that are equal but for rounding.
_EQUAL_NORMS = 1e-5

NO_K = "it has no k, the number of active features"


@dataclass
class Weights:
    """An autoencoder as other libraries write it, and its conversion to one of skfeat.

    Rows x have the codes ``z = activation((s * x - a * b) @ encoder.T + c)`` and the
    reconstruction ``(z @ decoder + b) / s``, with b the decoder's bias, c the encoder's
    and s the `input_scale`; a is one if the library subtracts the decoder's bias from
    the rows, else zero.

    Attributes
    ----------
    encoder, decoder : ndarray of shape (m, d)
    encoder_bias : ndarray of shape (m,)
    decoder_bias : ndarray of shape (d,)
    subtracts_bias : bool
    activation : {"relu", "topk", "batch_topk", "jumprelu", "gated"}
    k : int, default=None
        Set for "topk" and, if known, for "batch_topk".
    threshold : ndarray of shape (m,), default=None
        Set for the last three activations.
    input_scale : float, default=1.0
    density : ndarray of shape (m,), default=None
        Share of rows on which each feature was active.
    metadata : dict
        Other settings in the file, plain JSON values.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    encoder_bias: np.ndarray
    decoder_bias: np.ndarray
    subtracts_bias: bool
    activation: str
    k: int | None = None
    threshold: np.ndarray | None = None
    input_scale: float = 1.0
    density: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def set_gates(self, gate_bias: np.ndarray, log_magnitude: np.ndarray) -> None:
        """Turn a gated encoder into one with thresholds.

        The encoder's bias is that of the magnitudes. The gate ``(x - a * b) @ encoder.T
        + gate_bias > 0`` is a threshold of the magnitude ``exp(log_magnitude) * (x - a
        * b) @ encoder.T + encoder_bias``.
        """
        magnitude = np.exp(log_magnitude.astype(np.float64))
        self.threshold = self.encoder_bias - magnitude * gate_bias
        self.encoder = _times(self.encoder, magnitude[:, None], self.encoder.dtype)

    def set_threshold(self, threshold: float) -> None:
        """Set the one threshold of a batch top-k autoencoder for all features."""
        if threshold < 0:
            raise ValueError(
                "its threshold is below zero, which means that it was never trained; "
                "train it beyond threshold_start_step"
            )
        self.threshold = np.full(len(self.encoder), threshold)

    def rank_by_decoder_norm(self) -> None:
        """Fold the norms of the decoder rows into the encoder, and so into codes."""
        norms = np.linalg.norm(self.decoder.astype(np.float64), axis=1)
        if not (norms > 0).all():
            raise ValueError("a row of its decoder is zero, so its norm cannot divide")
        dtype = self.encoder.dtype
        self.encoder = _times(self.encoder, norms[:, None], dtype)
        self.encoder_bias = self.encoder_bias * norms
        self.decoder = _times(self.decoder, 1 / norms[:, None], dtype)

    def autoencoder(self, *, unit_norm: bool = False) -> SparseAutoencoder:
        """Return the fitted estimator, with decoder rows of norm one if `unit_norm`.

        Raises
        ------
        ValueError
            If k is missing or not valid, or if unit norms would change the top k.
        """
        m = len(self.encoder)
        k = self._check_k(m)
        dtype = np.result_type(self.encoder, np.float32)
        encoder_bias = self.encoder_bias.astype(np.float64)
        if not self.subtracts_bias:
            encoder_bias += _product(self.encoder, self.decoder_bias)
        # (s x - b) E = (x - b / s) (s E)
        encoder_scale = np.full((m, 1), float(self.input_scale))
        decoder_scale = 1 / encoder_scale
        code_scale = np.ones(m)
        if unit_norm:
            code_scale = self._norms() / self.input_scale
            encoder_scale = encoder_scale * code_scale[:, None]
            decoder_scale = decoder_scale / code_scale[:, None]
        fitted = {
            "encoder_coef_": _times(self.encoder, encoder_scale, dtype),
            "encoder_intercept_": encoder_bias * code_scale,
            "intercept_": self.decoder_bias / self.input_scale,
        }
        if self.threshold is not None:
            # Codes are positive, so a threshold below zero acts like zero.
            fitted["threshold_"] = np.maximum(self.threshold * code_scale, 0)
        fitted["components_"] = _times(self.decoder, decoder_scale, dtype)
        for name, array in fitted.items():
            fitted[name] = array.astype(dtype, copy=False)
            if not np.isfinite(fitted[name]).all():
                raise ValueError(f"its weights are too large for {dtype}")
        params = {} if k is None else {"k": k}
        sae = SparseAutoencoder(m, activation=self.activation, **params)
        of_rows = k if self.activation == "topk" else None
        fill(sae, fitted, of_rows, density=self.density, metadata=self.metadata)
        return sae

    def _check_k(self, m: int) -> int | None:
        if self.k is None:
            if self.activation == "topk":
                raise ValueError(NO_K)
            return None
        if type(self.k) is not int or not 1 <= self.k <= m:
            raise ValueError(f"k must be a whole number from 1 to {m}, not {self.k!r}")
        return self.k

    def _norms(self) -> np.ndarray:
        norms = np.linalg.norm(self.decoder.astype(np.float64, copy=False), axis=1)
        norms[norms == 0] = 1.0
        are_unequal = norms.max() > (1 + _EQUAL_NORMS) * norms.min()
        if self.activation == "topk" and are_unequal:
            raise ValueError(
                "unit_norm=True is not possible: the rows of its decoder differ in "
                "norm, and scaling codes would change which are among the top k"
            )
        return norms


def fill(
    coder: SparseCoder,
    arrays: dict[str, np.ndarray],
    k: int | None,
    *,
    density: np.ndarray | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Make an estimator fitted by what a file holds.

    Parameters
    ----------
    coder : SparseAutoencoder or Transcoder
    arrays : dict of str to ndarray
        Fitted arrays by attribute.
    k : int or None
        Active features of each row, of top-k alone.
    density : ndarray of shape (m,), optional
        Share of rows on which each feature was active.
    metadata : dict, optional
        Other settings in the file.
    """
    coder.n_features_in_ = arrays["encoder_coef_"].shape[1]
    coder.n_iter_, coder.n_steps_, coder.loss_curve_ = 0, 0, []
    if metadata is not None:
        coder.metadata_ = metadata
    if density is not None:
        coder.feature_density_ = density.astype(arrays["components_"].dtype)
        coder.l0_ = float(density.sum())
    code = ("jumprelu" if "threshold_" in arrays else "relu", 0)
    coder._take_over(
        arrays,
        code if k is None else ("topk", k),
        "was read from a file that holds no state of its training",
    )


def check_unit_norms(decoder: np.ndarray, tolerance: float) -> None:
    """Raise ValueError unless all decoder rows have norm one, within a tolerance."""
    norms = np.linalg.norm(decoder, axis=1)
    if not (np.abs(norms - 1) <= tolerance).all():
        raise ValueError(
            "the rows of its decoder must have norm one, but have norms from "
            f"{norms.min():.3g} to {norms.max():.3g}: its weights are damaged or "
            "transposed"
        )


def _product(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Multiply in float64 without a float64 copy of the matrix."""
    vector = vector.astype(np.float64)
    starts = range(0, len(matrix), _BLOCK_ROWS)
    return np.concatenate(
        [matrix[i : i + _BLOCK_ROWS].astype(np.float64) @ vector for i in starts]
    )


def _times(matrix: np.ndarray, scale: np.ndarray, dtype: np.dtype) -> np.ndarray:
    scaled = matrix if (scale == 1).all() else matrix * scale
    return np.ascontiguousarray(scaled, dtype=dtype)
