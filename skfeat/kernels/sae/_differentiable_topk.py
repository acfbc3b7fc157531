"""Top-k codes and their reconstruction over the active codes alone. Needs numba.

Only the encoder's product is dense; decoding and all gradients run over the active
codes, by the loops of `SparseKernel`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _loops_sparse as loops
from skfeat.kernels.sae._arrays import (
    ActiveCodes,
    Backward,
    Decoded,
    ErrorScale,
    Gradients,
    SortBuffers,
)
from skfeat.kernels.selection._loops_row import select_topk

# Rows that gradients are summed over at a time.
_TILE = 256


def topk_operation(k: int, team: Team) -> Callable:
    """Return the operation for `k` active codes a row; see `encode_and_decode`."""

    def operation(rows, weights, tensors, activation):
        return _TopK.apply(rows, weights, *tensors, k, team)

    return operation


class _TopK(torch.autograd.Function):
    """Codes (n, m), and the weighted mean squared error of what they decode."""

    @staticmethod
    def forward(ctx, rows, weights, encoder, encoder_bias, decoder, bias, k, team):
        # As arrays before threads are at work: in theirs, autograd is not switched off.
        pre, biases = (rows @ encoder.T).numpy(), encoder_bias.numpy()
        (n, m), d = pre.shape, rows.shape[1]
        codes = _places(n, k)
        team.run(
            lambda first, last: select_topk(first, last, pre, biases, k, codes),
            n,
            n_elements=4 * pre.size,
        )
        factor = (2 / d * weights).numpy()
        group = np.zeros(m, dtype=np.int64)
        scale = ErrorScale(np.full(n, -1, np.float32), factor, group)
        decoded = Decoded(
            np.empty((n, 1, d), np.float32),
            np.empty(n, np.float32),
            np.zeros(n * k, np.float32),
        )
        target, features = (rows - bias).numpy(), decoder.numpy()
        team.run(
            lambda first, last: loops.decode(
                first, last, codes, features, target, scale, decoded
            ),
            n,
            n_elements=2 * d * n * k,
        )
        dense = np.zeros((n, m), np.float32)
        used = np.flatnonzero(np.arange(k) < codes.counts[:, None])
        places = used // k * m + codes.indices[used]
        dense.ravel()[places] = codes.values[used]
        ctx.active = codes, decoded, group, used, places
        ctx.team, ctx.rows = team, rows.numpy()
        return torch.from_numpy(dense), torch.tensor(decoded.square @ factor / 2)

    @staticmethod
    def backward(ctx, grad_codes, grad_error):
        codes, decoded, group, used, places = ctx.active
        rows, team, m = ctx.rows, ctx.team, len(group)
        d = rows.shape[1]
        times = np.float32(grad_error)
        grad_pre = times * decoded.grad_codes
        grad_pre[used] += grad_codes.contiguous().numpy().ravel()[places]
        residual = times * decoded.weighted_residual
        backward = Backward(codes, grad_pre, residual, group, rows)
        gradients = Gradients(
            np.empty((m, d), np.float32),
            np.empty((m, d), np.float32),
            np.empty(m, np.float32),
            np.zeros(m, np.int64),
        )
        n_codes, features = len(grad_pre), np.arange(m)
        buffers = SortBuffers(
            np.empty(n_codes, np.int32),
            np.empty(n_codes, np.float32),
            np.empty(n_codes, np.float32),
        )
        team.run(
            lambda first, last: loops.accumulate(
                first, last, _TILE, backward, features, True, buffers, gradients
            ),
            m,
            n_elements=2 * d * n_codes,
        )
        grads = gradients.encoder, gradients.encoder_bias, gradients.decoder
        of_bias = residual[:, 0].sum(axis=0)
        return None, None, *map(torch.from_numpy, (*grads, of_bias)), None, None


def _places(n: int, k: int) -> ActiveCodes:
    """Return places for `k` codes of each of n rows.

    Those that stay unused are zeros of feature 0, which add nothing to any sum.
    """
    return ActiveCodes(
        np.arange(0, n * k, k),
        np.full(n, k),
        np.zeros(n * k, np.int32),
        np.zeros(n * k, np.float32),
    )
