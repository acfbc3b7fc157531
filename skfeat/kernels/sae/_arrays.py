"""The arrays that the kernels of an autoencoder pass on, under names.

All are named tuples, which compiled loops take as they are. A code is *active* where it
may be nonzero; the active codes of a batch lie row after row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Weights(NamedTuple):
    """The weights of an autoencoder.

    Attributes
    ----------
    bias : ndarray of shape (d,)
        Subtracted from rows before encoding; zero for a transcoder.
    encoder : ndarray of shape (m, d)
        The decoder itself where they are tied.
    encoder_bias : ndarray of shape (m,)
    decoder : ndarray of shape (m, d)
    """

    bias: np.ndarray
    encoder: np.ndarray
    encoder_bias: np.ndarray
    decoder: np.ndarray


class Gradients(NamedTuple):
    """Gradients of weights that are summed feature by feature.

    Chunks of a batch that are summed apart have one more axis, the first.

    Attributes
    ----------
    decoder, encoder : ndarray of shape (m, d)
        One array where they are tied.
    encoder_bias : ndarray of shape (m,)
    n_active : ndarray of int64, shape (m,)
        How often each feature has a positive code.
    """

    decoder: np.ndarray
    encoder: np.ndarray
    encoder_bias: np.ndarray
    n_active: np.ndarray


class ActiveCodes(NamedTuple):
    """The active codes of a batch: row i has those from ``start[i]`` on.

    Attributes
    ----------
    start, counts : ndarray of int64, shape (n,)
    indices : ndarray of int32, shape (n_active,)
        Feature of each.
    values : ndarray of shape (n_active,)
        Its pre-activation, or its code.
    """

    start: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    values: np.ndarray


class Encoding(NamedTuple):
    """Rows on their way to pre-activations.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
    centred : ndarray of shape (n, d)
        Written: rows less the bias.
    pre : ndarray of shape (n, m)
        Written: products with the encoder, the encoder's bias not added.
    """

    rows: np.ndarray
    centred: np.ndarray
    pre: np.ndarray


class ErrorScale(NamedTuple):
    """How errors of reconstructions enter the loss.

    Attributes
    ----------
    sign : ndarray of shape (n,)
        Of the rows that are reconstructed: -1, or what undoes a weight they carry.
    factor : ndarray of shape (n,)
        Weight of each row in the derivative of the loss, over the number of prefixes.
    group : ndarray of int64, shape (m,)
        The first prefix that holds each feature.
    """

    sign: np.ndarray
    factor: np.ndarray
    group: np.ndarray


class Decoded(NamedTuple):
    """What decoding a batch writes.

    Attributes
    ----------
    weighted_residual : ndarray of shape (n, n_prefixes, d)
        Errors of each prefix's reconstruction and later ones', times their factor:
        the derivative of the loss by what a feature of that group adds to a row.
    square : ndarray of shape (n,)
        Squared error, the mean over prefixes.
    grad_codes : ndarray of shape (n_active,)
        Derivative of the loss by each active code.
    """

    weighted_residual: np.ndarray
    square: np.ndarray
    grad_codes: np.ndarray


class Backward(NamedTuple):
    """What the gradients of the weights are summed from.

    Attributes
    ----------
    codes : ActiveCodes
    grad_pre : ndarray of shape (n_active,)
        Derivative of the loss by the pre-activation of each active code.
    weighted_residual, group
        See `Decoded` and `ErrorScale`.
    rows : ndarray of shape (n, d)
        What was encoded.
    """

    codes: ActiveCodes
    grad_pre: np.ndarray
    weighted_residual: np.ndarray
    group: np.ndarray
    rows: np.ndarray


class SortBuffers(NamedTuple):
    """Buffers for active codes feature by feature: their rows, values and gradients."""

    row: np.ndarray
    values: np.ndarray
    grad_pre: np.ndarray


class Rows(NamedTuple):
    """The rows of a batch where they lie: ``(source[ids] - mean) * inverse_scale``.

    Attributes
    ----------
    source : ndarray of shape (n_source, d)
    ids : ndarray of int64, shape (n,)
    mean : ndarray of shape (d,)
    inverse_scale : float
    """

    source: np.ndarray
    ids: np.ndarray
    mean: np.ndarray
    inverse_scale: float

    @classmethod
    def of(cls, rows: np.ndarray) -> Rows:
        """Return all rows of a matrix as they are."""
        return cls(rows, np.arange(len(rows)), np.zeros(rows.shape[1]), 1.0)
