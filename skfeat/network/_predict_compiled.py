"""Prediction by compiled loops, of few rows or on tiles. Needs numba, no torch."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skfeat.activations import TopK
from skfeat.kernels._threads import Team
from skfeat.kernels.inference import _loops_sparse_layers as loops
from skfeat.kernels.inference._sparse_layers import SparseLayer, SparseStack
from skfeat.network._arrays import NetworkArrays
from skfeat.network._predict import check_moderate, finish

# Nanoseconds of a multiply-add in a matrix product, roughly.
_MULTIPLY_ADD_COST = 0.03

# Up to so many rows, tiles of rows would be mostly empty.
_FEW_ROWS = 8

# Numbers of one block of rows in the widest layer: a cache holds them, and matrix
# products still run at full speed.
_FAST_BLOCK_ELEMENTS = 2**17
_MIN_FAST_BLOCK_ROWS = 256


def predict_compiled(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the raw outputs of rows that need not be finite yet."""
    return (predict_few if len(X) <= _FEW_ROWS else predict_tiles)(network, X)


def predict_few(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the outputs of a few rows without collecting weights.

    With few rows calls take more time than numbers.
    """
    check_moderate(X)
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
        own = F.reshape(len(F) * network.activation.n_groups, -1)
        loops.keep_topk_rows(own, min(network.activation.k, own.shape[1]))
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
    # Separate arrays: numba takes a microsecond more to unpack a named tuple of them.
    loops.connect_rows(
        np.ascontiguousarray(F),
        coef.indptr,
        coef.indices,
        coef.data.astype(dtype, copy=False),
        intercept.astype(dtype, copy=False),
        rectified,
        out,
    )
    return out


def predict_tiles(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the outputs of many rows.

    What is dense goes through matrix products block by block, what is sparse through
    all its layers tile by tile.
    """
    n_rows, dtype = len(X), X.dtype
    stack = _stack(network, dtype)
    stem, head = network.front.astype(dtype), network.back.astype(dtype)
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
    # Not a power of two: columns of such a matrix share few sets of a cache.
    stride = min(size, n_rows) + 16
    outputs = np.empty((n_rows, network.n_outputs_), dtype)

    def run_blocks(first: int, stop: int) -> None:
        pre = None if stack.in_rows else np.empty((len(encoder), stride), dtype)
        last = np.empty((stack.n_outputs, stride), dtype)
        for begin in range(first * size, min(stop * size, n_rows), size):
            block = X[begin : begin + size]
            check_moderate(block)
            n = len(block)
            hidden = stem.forward(block)
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
            outputs[begin : begin + n] = head.forward(found)

    n_blocks = -(-n_rows // size)
    if n_blocks == 1:
        run_blocks(0, 1)
        return outputs
    # Threads share blocks rather than each product: they need not wait for each other.
    dense = 0 if stack.in_rows else stem.n_multiply_adds() + encoder.size
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
