"""What a SparseFeatureNetwork computes, with numpy and scipy alone: the reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.network._arrays import LINKS, NetworkArrays, check_finite_rows
from skfeat.utils._finite import check_finite_result, is_moderate

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
    """Compute the raw outputs.

    Raises
    ------
    NotModerateError
        If a row has NaN, infinity or something near it.
    """
    check_moderate(X)
    outputs = np.empty((len(X), network.n_outputs_), X.dtype)
    for rows in blocks(network, len(X)):
        outputs[rows] = finish(network, features(network, X[rows])[-1])
    return outputs


def predict_carefully(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the raw outputs, checking all that may leave the range of the dtype.

    Raises
    ------
    ValueError
        If a row or what is computed of it is not finite.
    """
    check_finite_rows("X", X)
    outputs = np.empty((len(X), network.n_outputs_), X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in blocks(network, len(X)):
            found = checked_features(network, X[rows])
            outputs[rows] = finish(network, found[-1])
    check_finite_result("The outputs", outputs, X)
    return outputs


def checked_features(network: NetworkArrays, X: np.ndarray) -> list[np.ndarray]:
    """Compute the features of every layer, or raise ValueError if one overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = features(network, X)
    for name, part in zip(network.layer_names_, found, strict=True):
        check_finite_result(f"Features of layer {name!r}", part, X)
    return found


def continue_checked(network: NetworkArrays, F: np.ndarray, layer: int) -> np.ndarray:
    """Compute the outputs from the features of one layer, or raise ValueError."""
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = finish(network, connect(network, F, layer)[-1])
    check_finite_result("The outputs", outputs, F, "F")
    return outputs


class NotModerateError(ValueError):
    """A row has NaN, infinity or something near it: it needs `predict_carefully`."""


def check_moderate(X: np.ndarray) -> None:
    """Raise NotModerateError for rows that fast loops cannot take."""
    if not is_moderate(X):
        raise NotModerateError
