"""What a SparseFeatureNetwork computes, with numpy and scipy alone: the reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.network._arrays import LINKS, NetworkArrays, check_finite_rows

# Prediction holds the features of one block of rows at a time.
_BLOCK_ROWS = 4096
_BLOCK_ELEMENTS = 2**24


def blocks(network: NetworkArrays, n_rows: int) -> Iterator[slice]:
    """Divide rows so that the features of each block have room."""
    widest = max(network.n_components_)
    size = min(_BLOCK_ROWS, max(1, _BLOCK_ELEMENTS // widest))
    return (slice(start, start + size) for start in range(0, n_rows, size))


def features(network: NetworkArrays, X: np.ndarray) -> list[np.ndarray]:
    """Compute the features of every layer."""
    encoder = EncoderWeights(
        coef=network.encoder_coef_,
        intercept=network.encoder_intercept_,
        bias=network.encoder_bias_,
        activation=network.activation,
    )
    return connect(network, encoder.encode(network.front.forward(X)), 0)


def connect(network: NetworkArrays, F: np.ndarray, layer: int) -> list[np.ndarray]:
    """Return the features of this layer, which are F, and of all after it."""
    found = [F]
    connectors = zip(network.coefs_, network.intercepts_, network.links, strict=True)
    for coef, intercept, link in list(connectors)[layer:]:
        pre = found[-1] @ coef.astype(F.dtype, copy=False).T
        found.append(LINKS[link](pre + intercept.astype(F.dtype, copy=False)))
    return found


def finish(network: NetworkArrays, F: np.ndarray) -> np.ndarray:
    """Compute the raw outputs from the last layer's features."""
    hidden = F @ network.decoder_coef_.astype(F.dtype, copy=False)
    hidden += network.decoder_intercept_.astype(F.dtype, copy=False)
    return network.back.forward(hidden)


def predict_plainly(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the raw outputs."""
    check_finite_rows("X", X)
    outputs = np.empty((len(X), network.n_outputs_), X.dtype)
    for rows in blocks(network, len(X)):
        outputs[rows] = finish(network, features(network, X[rows])[-1])
    return outputs
