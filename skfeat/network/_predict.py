"""How a SparseFeatureNetwork computes: plainly, or on tiles of rows where that pays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from skfeat.activations import TopK
from skfeat.kernels._threads import Team
from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.kernels.inference._sparse_layers import SparseLayer, SparseStack, compiled
from skfeat.network._arrays import LINKS, NetworkArrays, check_finite_rows

# Prediction holds the features of one block of rows at a time.
_BLOCK_ROWS = 4096
_BLOCK_ELEMENTS = 2**24

# Below so many multiply-adds, collecting the weights for the compiled loops, or loading
# these, takes longer than all else.
_MIN_MULTIPLY_ADDS = 2**12

# Nanoseconds of one in a matrix product, roughly.
_MULTIPLY_ADD_COST = 0.03

# Up to so many rows, tiles of rows would be mostly empty.
_FEW_ROWS = 8

# What one block of rows is in the widest layer: it stays near the processor, and its
# matrix products still run at full speed.
_FAST_BLOCK_ELEMENTS = 2**17
_MIN_FAST_BLOCK_ROWS = 256


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


def predict(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the raw outputs of rows that need not be finite yet.

    Raises
    ------
    ValueError
        If a row has NaN or infinity.
    """
    n_weights = network.encoder_coef_.size + sum(network.n_weights_)
    if len(X) * n_weights < _MIN_MULTIPLY_ADDS or compiled() is None:
        return predict_plainly(network, X)
    return (predict_few if len(X) <= _FEW_ROWS else predict_tiles)(network, X)


def predict_plainly(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the raw outputs with numpy and scipy alone: the reference."""
    check_finite_rows("X", X)
    outputs = np.empty((len(X), network.n_outputs_), X.dtype)
    for rows in blocks(network, len(X)):
        outputs[rows] = finish(network, features(network, X[rows])[-1])
    return outputs


def predict_few(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute them of a few rows with the compiled loops, without collecting weights.

    There the time goes to calls more than to numbers.
    """
    check_finite_rows("X", X)
    encoder, intercept, bias = (
        array.astype(X.dtype, copy=False)
        for array in (
            network.encoder_coef_,
            network.encoder_intercept_,
            network.encoder_bias_,
        )
    )
    hidden = network.front.forward(X) - bias
    if isinstance(encoder, np.ndarray):
        F = hidden @ encoder.T
        F += intercept
    else:
        F = _connect_rows(hidden, encoder, intercept, False)
    if isinstance(network.activation, TopK):
        compiled().keep_topk_rows(F, min(network.activation.k, len(intercept)))
    else:
        F = network.activation.encode(F)
    for coef, b, link in zip(
        network.coefs_, network.intercepts_, network.links, strict=True
    ):
        F = _connect_rows(F, coef, b, link == "relu")
    return finish(network, F)


def _connect_rows(
    F: np.ndarray, coef: sparse.csr_array, intercept: np.ndarray, rectified: bool
) -> np.ndarray:
    dtype = F.dtype
    out = np.empty((len(F), len(intercept)), dtype)
    compiled().connect_rows(
        *(
            np.ascontiguousarray(F),
            coef.indptr,
            coef.indices,
            coef.data.astype(dtype, copy=False),
        ),
        *(intercept.astype(dtype, copy=False), rectified, out),
    )
    return out


def predict_tiles(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute them with the compiled loops, which leave out inactive features.

    What is dense goes through matrix products block by block, what is sparse through
    all its layers tile by tile.
    """
    n_rows, dtype = len(X), X.dtype
    stack = _stack(network, dtype)
    front, back = network.front.astype(dtype), network.back.astype(dtype)
    encoder, decoder, bias, intercept = (
        array.astype(dtype, copy=False)
        for array in (
            network.encoder_coef_,
            network.decoder_coef_,
            network.encoder_bias_,
            network.decoder_intercept_,
        )
    )
    biased = bias.any()
    size = _fast_block_rows(network)
    # Not a power of two: columns of such a matrix crowd into one corner of a cache.
    room = min(size, n_rows) + 16
    outputs = np.empty((n_rows, network.n_outputs_), dtype)

    def run_blocks(first: int, stop: int) -> None:
        pre = None if stack.in_rows else np.empty((len(encoder), room), dtype)
        last = np.empty((stack.n_outputs, room), dtype)
        for begin in range(first * size, min(stop * size, n_rows), size):
            block = X[begin : begin + size]
            check_finite_rows("X", block)
            n = len(block)
            hidden = front.forward(block)
            if pre is not None:
                if biased:
                    own = None if np.may_share_memory(hidden, X) else hidden
                    hidden = np.subtract(hidden, bias, out=own)
                np.matmul(encoder, hidden.T, out=pre[:, :n])
            stack.run(hidden if pre is None else pre, n, last)
            found = last[:, :n].T
            if not sparse.issparse(decoder):
                found = found @ decoder
                found += intercept
            outputs[begin : begin + n] = back.forward(found)

    n_blocks = -(-n_rows // size)
    if n_blocks == 1:
        run_blocks(0, 1)
        return outputs
    # Threads share blocks rather than each product: they need not wait for each other.
    dense = 0 if stack.in_rows else front.n_multiply_adds() + encoder.size
    cost = stack.cost + dense * _MULTIPLY_ADD_COST
    with Team() as team:
        team.run(run_blocks, n_blocks, n_elements=int(n_rows * cost))
    return outputs


def _stack(network: NetworkArrays, dtype: np.dtype) -> SparseStack:
    """Collect what is sparse of a network, in the order of computation."""
    encoder, decoder = network.encoder_coef_, network.decoder_coef_
    layers = [
        SparseLayer(
            encoder if sparse.issparse(encoder) else None,
            network.encoder_intercept_,
            network.activation,
        ),
        *map(SparseLayer, network.coefs_, network.intercepts_, network.links),
    ]
    if not isinstance(decoder, np.ndarray):
        by_output = decoder.tocsc()
        layers.append(SparseLayer(by_output, network.decoder_intercept_, "identity"))
    return SparseStack(layers, network.encoder_bias_, dtype)


def _fast_block_rows(network: NetworkArrays) -> int:
    widest = max(*network.n_components_, network.encoder_coef_.shape[1])
    return max(_MIN_FAST_BLOCK_ROWS, _FAST_BLOCK_ELEMENTS // widest)
